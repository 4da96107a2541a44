"""Secrets are found however they are written; ordinary text stays as it is; no text makes the search slow."""

import base64
import html
import json
import string
from collections import ChainMap, deque
from decimal import Decimal
from pathlib import PurePath
from urllib.parse import quote, quote_plus
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.types import Command, Interrupt, Send

from plan_execute.context import Context, run_redactor, secret_values
from plan_execute.safety.redaction import (
    _FORMS,
    Redactor,
    _forms_in,
    _SearchedTexts,
    lost_credential,
    marks_in,
    redact_also,
)

SECRET = "pl4nted/Secret+Value=7"
AWKWARD = 'a "quoted"\\back\nline é&<tag>'


def whole(text: str) -> str:
    """Put a text together that no check of the sources shall take for a key."""
    return text.replace("~", "")


KEYS = {
    "openai": "s~k-proj-abcDEF0123456789abcdefXYZ",
    "openai, old": "s~k-" + "a1B2c3D4" * 6,
    "anthropic": "s~k-ant-api03-AbCdEf_0123456789-abcdef",
    "github": "g~hp_" + "a1B2" * 9,
    "github, fine": "github_pat_11ABCDEFG0abcdefghij_klmnop",
    "gitlab": "glpat-abcdefghij0123456789",
    "slack": "xoxb-123456789012-abcdefABCDEF",
    "aws": "AK~IAIOSFODNN7EXAMPLE",
    "google": "AIzaSyA1234567890abcdefghijklmnopqrstuv",
    "langsmith": "lsv~2_pt_0123456789abcdef0123456789abcdef_0123456789",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "stripe": "sk_live_0123456789abcdefABCDEF",
    "hugging face": "hf_" + "aB3d" * 9,
    "google, access": "ya~29.a0AfB_byC0123456789-abcdefghijklmn.0163",
    "google, client": "GOCS~PX-abcdEFGH0123456789_abcd",
    "digitalocean": "dop~_v1_" + "0123456789abcdef" * 4,
    "shopify": "shp~at_" + "0123456789abcdef" * 2,
    "twilio": "S~K" + "0123456789abcdef" * 2,
}

KEPT = {
    "azure, storage": (
        "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=",
        "aB3/" * 21 + "aB==",
        ";x",
    ),
    "azure, in a URL": ("?AccountKey%3D", "aB3%2F" * 21 + "aB%3D%3D", "&x"),
    "azure, queue": ("Endpoint=sb://a/;SharedAccessKey=", "aB3+" * 10 + "aBc=", ";x"),
    "azure, signed": (
        "https://a.blob.core.windows.net/c?sv=2024-08-04&se=2027&sig=",
        "aB3%2B" * 10 + "abc%3D",
        "&sp=r",
    ),
    "azure, signed, in HTML": ("?sv=2024-08-04&amp;sig=", "aB3%2B" * 10 + "abc%3D", "&amp;sp=r"),
    "telegram": ("https://api.telegram.org/bot123456789:AA", "Hb3d-" * 6 + "abc", "/getMe"),
    "telegram, in a URL": ("?token=1234567890%3AAA", "Hb3d-" * 6 + "abc", "&x"),
    "discord, bot": ("Bot MTIzNDU2Nzg5MDEyMzQ1Njc4.", "G1a2b3.", "aB3d_" * 5 + "abc", " x"),
    "discord, webhook": ("https://discord.com/api/webhooks/123456789012345678/", "aB3d-" * 13 + "abc", "?x"),
    "discord, webhook in JSON": (
        r"https:\/\/discord.com\/api\/webhooks\/123456789012345678\/",
        "aB3d-" * 13,
        '"',
    ),
    "twilio, account": ("AC" + "0123456789abcdef" * 2 + ":", "fedcba9876543210" * 2, "@api"),
}
"""Keys that are known by what stands before them, which is kept."""

ORDINARY = [
    "550e8400-e29b-41d4-a716-446655440000",
    "f9a1c2d3e4b5968778695a4b3c2d1e0f01234567",
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "task-9f86d081884c7d659a2feaa0c55ad015a3bf4f1b",
    "risk-9f86d081884c7d659a2feaa0c55ad015, disk-0123456789abcdef0123",
    "the s~k-learn-tutorial-2024-edition and s~k-estimators-in-production",
    "https://example.com:8080/a@b?q=1 and http://localhost:2024/x, ftp://host/user@",
    "https://${inputs.user}:${inputs.password}@example.com/",
    "postgres://user:***@db/x and https://user@example.com/",
    "call_abcdefghijklmnopqrstuvwx",
    "run-01987654-3210-7abc-8def-0123456789ab",
    "Bearer authentication-is-required-here",
    "Basic understanding of authentication",
    "2026-11-21T15:13:23.123456+00:00",
    "eyJ is how base64 of JSON begins; eyJhbGciOiJIUzI1NiJ9 alone is a header",
    "AKIA is a prefix, ASIAN MARKETS GROW TOO",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    "12345678901234567890",
    "g~hp_short and gho_",
    "design=abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvw1",
    "sig=short, and sig=abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvw",
    "12:30:AA and 12345678:AA, the flight 123456789:AArrives",
    "ya29.short and ya29",
    "https://example.com/webhooks/12345/settings, webhooks/123456789012345678/logs",
    "AccountKey=from-the-portal; SK-1234 and SKU0123456789abcdef",
    "langgraph_checkpoint_sqlite.serde.jsonplus_serializer_module",
    "Module_of_a_test_suite.events.handler_of_all_events_there_are",
]


def redactor(**secrets: str) -> Redactor:
    return Redactor(secrets)


# --- values ------------------------------------------------------------------------------


def written(value: str) -> dict[str, str]:
    """Write a value in every way that is promised to be found."""
    raw = value.encode()
    ways = {f"base64 after {n} bytes": base64.b64encode(b"x" * n + raw + b"yz").decode() for n in range(4)}
    return ways | {
        "plain": value,
        "amid text": f"the key is {value}, keep it",
        "json": json.dumps({"key": value}),
        "json, not ascii": json.dumps({"key": value}, ensure_ascii=False),
        "json in json": json.dumps(json.dumps({"key": value})),
        "url": f"https://x/?k={quote(value, safe='')}&a=1",
        "url, lower case": f"https://x/?k={quote(value, safe='').lower()}" if value.islower() else value,
        "form": f"k={quote_plus(value)}",
        "url-safe base64": base64.urlsafe_b64encode(b"user:" + raw).decode(),
        "basic auth": "Authorization: Basic " + base64.b64encode(b"user:" + raw).decode(),
        "hex": raw.hex(),
        "HEX": raw.hex().upper(),
        "repr": repr(ValueError(value)),
        "utf-16 read as text": value.encode("utf-16-le").decode("utf-8", "ignore")
        if value.isascii()
        else value,
        "html": f"<p>{html.escape(value)}</p>",
        "html, without quotes": f"<p>{html.escape(value, quote=False)}</p>",
        "html, all by number": "".join(f"&#{ord(sign)};" for sign in value),
        "html, all by hexadecimal": "".join(f"&#X{ord(sign):05X};" for sign in value),
        "html, zeros in front": "".join(f"&#{'0' * 5000}{ord(sign)};" for sign in value),
        "html, one sign by number": f"{value[:3]}&#x{ord(value[3]):x};{value[4:]}",
        "html, no semicolons": "".join(f"&#{ord(sign)}" for sign in value),
        "html in html": html.escape(html.escape("&".join(["x", value]))),
        "json in html": html.escape(json.dumps({"key": value})),
        "url in html": html.escape(f"https://x/?a=1&k={quote(value, safe='')}"),
        "base64 in html": base64.b64encode(b"user:" + raw)
        .decode()
        .replace("=", "&#61;")
        .replace("+", "&plus;"),
        "base64 of utf-16 le": base64.b64encode(("user:" + value).encode("utf-16-le")).decode(),
        "base64 of utf-16 be": base64.b64encode(("user:" + value).encode("utf-16-be")).decode(),
    }


@pytest.mark.parametrize("value", [SECRET, AWKWARD], ids=["usual", "awkward"])
def test_a_value_is_found_in_every_usual_way_of_writing_it(value):
    for way, text in written(value).items():
        clean = redactor(MY_TOKEN=value).text(text)
        assert "[redacted MY_TOKEN]" in clean, way
        assert value not in clean, way


def test_only_the_escapes_of_a_secret_give_way_to_its_mark():
    text = f"<b>a &lt; b</b> {html.escape(AWKWARD)}&nbsp;&amp;&notanescape; &#x1F600;&#{'9' * 9000};"
    clean = f"<b>a &lt; b</b> [redacted S]&nbsp;&amp;&notanescape; &#x1F600;&#{'9' * 9000};"
    assert redactor(S=AWKWARD).text(text) == clean
    assert redactor(S=AWKWARD).value({"page": [text]}) == {"page": [clean]}


@pytest.mark.parametrize("name", KEYS)
def test_keys_are_found_in_html_too(name):
    key = whole(KEYS[name])
    for text in (f"{key[:2]}&#{ord(key[2])};{key[3:]}", "".join(f"&#x{ord(sign):x};" for sign in key)):
        assert "[redacted" in redactor().text(f"<p>{text}</p>"), text


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=8, max_size=40),
    st.binary(max_size=7),
    st.binary(max_size=7),
)
def test_any_value_is_found_in_text_json_and_base64(value, before, after):
    value = value.strip()
    clean = redactor(S=value)
    if len(value) < 8 or value in "[redacted S]":
        return
    encoded = base64.b64encode(before + value.encode() + after).decode()
    for text in (f"a{value}b", json.dumps([value]), encoded):
        assert clean.text(text) != text


def test_the_mark_names_the_secret_and_the_longest_one_wins():
    clean = redactor(A_TOKEN="12345678", B_TOKEN="1234567890abc")
    assert clean.text("x 1234567890abc y 12345678") == "x [redacted B_TOKEN] y [redacted A_TOKEN]"


def test_redacting_twice_changes_nothing_more():
    clean = redactor(MY_TOKEN=SECRET, REDACTED="redacted", OTHER="MY_TOKEN")
    for text in [*map(whole, KEYS.values()), *written(SECRET).values(), "postgres://u:secret9@db"]:
        once = clean.text(text)
        assert clean.text(once) == once


def test_short_values_are_left_alone():
    assert redactor(PIN_TOKEN="1234567").text("call 1234567") == "call 1234567"


# --- forms -------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [whole(key) for key in KEYS.values()], ids=KEYS)
def test_a_key_is_known_by_its_form_wherever_it_stands(key):
    for text in (
        key,
        f"key={key}",
        f'{{"k": "{key}"}}',
        f"a\\n{key}",
        f"?k=%20{key}&x",
        f"({key})",
        f"x:{key},y",
    ):
        clean = Redactor().text(text)
        assert key not in clean, text
        assert "[redacted " in clean
        assert clean[: text.index(key)] == text[: text.index(key)]


@pytest.mark.parametrize("parts", KEPT.values(), ids=KEPT)
def test_a_key_is_known_by_what_stands_before_it_and_that_is_kept(parts):
    *before, key, after = parts
    clean = Redactor().text("".join(parts))
    assert clean == "".join([*before, "[redacted key]", after])
    assert Redactor().text(json.dumps({"k": "".join(parts)})).count("[redacted key]") == 1
    assert key not in clean


def test_private_keys_bearer_tokens_and_passwords_in_urls_are_known():
    body = "\n".join(["MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSj"] * 4)
    kind = "RSA PRIVATE KEY"
    pem = f"-----BEGIN {kind}-----\n{body}\n-----END {kind}-----"
    assert Redactor().text(f"a {pem} b") == "a [redacted private key] b"
    assert "MIIE" not in Redactor().text(json.dumps({"key": pem}))
    assert "MIIE" not in Redactor().text(pem[:100])
    assert Redactor().text("Bearer abc123def456ghi789") == "Bearer [redacted token]"
    assert (
        Redactor().text("postgresql://app:p4ss@w0rd@db.local:5432/x")
        == "postgresql://app:[redacted password]@db.local:5432/x"
    )
    assert Redactor().text("redis://:hunter22@h") == "redis://:[redacted password]@h"
    assert "dXNl" not in Redactor().text("Authorization: Basic dXNlcjpwYXNzd29yZA==")


@pytest.mark.parametrize("text", [whole(text) for text in ORDINARY])
def test_ordinary_text_stays_as_it_is(text):
    assert Redactor().text(text) == text
    assert redactor(A_TOKEN=SECRET).text(text) == text


@given(st.uuids(), st.binary(min_size=20, max_size=32))
def test_ids_and_digests_stay_as_they_are(uuid, raw):
    for text in (str(uuid), uuid.hex, raw.hex(), f"thread {uuid} step-{raw.hex()}", f"sha-{raw.hex()}"):
        assert Redactor().text(text) == text


PIECES = [
    *map(whole, KEYS.values()),
    *[form.anchor for form in _FORMS],
    *"_:-JKGSA. ",
    "word",
    "\n",
    "aB3/" * 21,
]


@given(st.lists(st.sampled_from(PIECES), max_size=8))
def test_no_form_is_passed_over_whatever_else_stands_beside_a_key(pieces):
    text = "".join(pieces)
    assert _forms_in(text) == tuple(form for form in _FORMS if form.pattern.search(text))


HOSTILE = [
    "eyJ",
    "eyJ-",
    "eyJaaaaaaaaa.",
    "://",
    "://a:b",
    "://a:",
    "sk-",
    whole("-----BEGIN PRI~VATE KEY-----"),
    "SG.",
]


@pytest.mark.timeout(60)  # quadratic work would take hours
@pytest.mark.parametrize(
    "part", [*HOSTILE, "AIza", "a", "Bearer ", "[redacted ", "gh", "-", "&lt;", "&#0", "&amp;amp;"]
)
def test_a_megabyte_of_anything_takes_no_more_than_a_moment(part):
    text = part * (1_000_000 // len(part))
    clean = redactor(**{f"S{n}_TOKEN": uuid4().hex for n in range(10)})
    clean.text(text)


# --- values ------------------------------------------------------------------------------


def test_json_is_redacted_at_any_depth_and_in_its_keys():
    deep: object = {SECRET: [SECRET, {"n": 87654321, "other": 1}]}
    for _ in range(150):
        deep = {"a": [deep]}
    clean = redactor(S=SECRET, PIN="87654321").value(deep)
    text = json.dumps(clean)
    assert SECRET not in text
    assert "87654321" not in text
    assert text.count("[redacted S]") == 2


def test_what_holds_no_secret_comes_back_as_the_same_object():
    value = {"a": ["https://u@x/", {"b": ("c", 1.5, None, True)}], "m": AIMessage("sk-no", more="of it")}
    value |= {"s": {"a", 2}, "q": deque(["a", frozenset()]), "p": PurePath("a"), "d": Decimal(1)}
    assert redactor(S=SECRET).value(value) is value


def test_the_objects_that_langgraph_stores_are_redacted_and_the_originals_kept():
    call = {"name": "t", "args": {"k": SECRET}, "id": "1", "type": "tool_call"}
    spoken = AIMessage(f"it is {SECRET}", tool_calls=[call], additional_kwargs={"r": SECRET})
    stored = [
        spoken,
        ToolMessage([{"type": "text", "text": SECRET}], tool_call_id="1", artifact={"raw": SECRET}),
        Interrupt({"args": SECRET}, id="i"),
        Send("n", {"x": SECRET}),
        Command(resume={"type": "reject", "message": SECRET}, update={"goal": SECRET}),
        ValueError(SECRET),
        SECRET.encode(),
        (HumanMessage(SECRET), "x"),
        HumanMessage("hello", told_by=SECRET),
        {SECRET},
        frozenset([(SECRET, 1)]),
        deque([[SECRET]]),
        ChainMap({"a": "b"}, {"c": SECRET}),
        PurePath("keys", SECRET),
        bytearray(SECRET.encode()),
    ]
    clean = redactor(S=SECRET).value(stored)
    assert SECRET not in repr(clean)
    assert [type(item) for item in clean[:5]] == [type(item) for item in stored[:5]]
    assert clean[0].tool_calls[0]["args"] == {"k": "[redacted S]"}
    told_by, *held = clean[8:12]
    assert told_by.model_dump()["told_by"] == "[redacted S]"
    assert held == [{"[redacted S]"}, frozenset([("[redacted S]", 1)]), deque([["[redacted S]"]])]
    assert stored[8].model_dump()["told_by"] == SECRET
    assert SECRET in repr(spoken)


CHANGES = {
    "a text": lambda value: value.update(note=f"the key is {SECRET}"),
    "a key": lambda value: value["deep"][0].update({SECRET: 1}),
    "a part of a list": lambda value: value["deep"].append(SECRET),
    "a number": lambda value: value.update(pin=87654321),
    "what a message holds": lambda value: value["message"].additional_kwargs.update(k=SECRET),
    "a message": lambda value: setattr(value["message"], "content", SECRET),
}


@pytest.mark.parametrize("how", CHANGES)
def test_a_value_that_held_nothing_is_searched_again_when_it_was_changed_in_place(how):
    clean = redactor(S=SECRET, PIN="87654321")
    value = {"note": "nothing in it", "deep": [{"a": "nothing here"}], "message": AIMessage("nothing said")}
    assert clean.value(value) is value
    CHANGES[how](value)
    shown = repr(clean.value(value))
    assert SECRET not in shown
    assert "87654321" not in shown


def test_nothing_is_taken_for_what_stood_at_its_place_in_memory():
    clean = redactor(S=SECRET)
    for _ in range(100):
        value = {"note": ["nothing in it"]}
        assert clean.value(value) is value
        del value
        assert SECRET not in repr(clean.value({"note": [f"{SECRET}"]}))


def test_what_held_nothing_for_one_run_is_searched_in_a_run_with_other_secrets():
    value = {"output": ["it is 4 letters and some more"]}
    assert redactor(S=SECRET).value(value) is value
    assert redactor(S="letters and some").value(value) == {"output": ["it is 4 [redacted S] more"]}


class Loud(str):
    """A text of another type."""


@pytest.mark.parametrize("kind", [str, Loud])
def test_keys_and_short_texts_are_no_way_around_the_search(kind):
    clean = redactor(S=SECRET, PIN="87654321")
    clean.value({"name": "a", "a": "name", "87": "name of it"})
    for held in [
        {kind(SECRET): "a"},
        {"name": kind(SECRET)},
        {"name": "a", 87654321: "a"},
        {kind(KEYS["jwt"]): 1},
    ]:
        text = repr(clean.value(held))
        assert all(secret not in text for secret in (SECRET, "87654321", KEYS["jwt"]))


def test_the_memory_of_searched_texts_has_a_bound_however_short_they_are(monkeypatch):
    monkeypatch.setattr(_SearchedTexts, "_LIMIT", 10_000)
    clean = redactor(S=SECRET)
    for n in range(1000):
        clean.value([f"{n}", f"text number {n}"])
    assert len(clean._searched._texts) < 200
    clean.value("long " * 10_000)
    assert not clean._searched._texts


# --- marks -------------------------------------------------------------------------------


def test_marks_tell_which_secret_a_value_was():
    value = redactor(S_TOKEN=SECRET).value({"a": f"x {SECRET}", "b": [whole(KEYS["aws"])]})
    assert marks_in(value) == ["key", "S_TOKEN"] or marks_in(value) == ["S_TOKEN", "key"]


@pytest.mark.parametrize(
    ("value", "secret"),
    [
        ("[redacted A]", "A"),
        (" Bearer [redacted A] ", "A"),
        ({"url": "postgres://u:[redacted password]@db/x"}, "password"),
        ("the log says [redacted A] was refused", None),
        ("nothing", None),
    ],
)
def test_a_call_is_told_apart_that_cannot_work_without_the_secret(value, secret):
    assert lost_credential(value) == secret


# --- names -------------------------------------------------------------------------------


def test_secrets_are_read_by_names_and_globs_in_upper_and_lower_case():
    env = {
        "OPENAI_API_KEY": "12345678",
        "gh_token": "abcdefgh",
        "DB_PASSWORD": " spaced-out \n",
        "SHORT_TOKEN": "1234567",
        "PASSWORD_STORE_DIR": "~/.store",
        "HOME": "elsewhere",
        "MINE": "my own secret",
    }
    assert secret_values(Context().secret_names, env) == {
        "OPENAI_API_KEY": "12345678",
        "gh_token": "abcdefgh",
        "DB_PASSWORD": "spaced-out",
    }
    assert secret_values(["MINE"], env) == {"MINE": "my own secret"}


def test_the_redactor_of_a_run_knows_the_environment_as_it_is_now(monkeypatch):
    monkeypatch.setenv("LATE_TOKEN", SECRET)
    assert run_redactor().text(SECRET) == "[redacted LATE_TOKEN]"
    monkeypatch.delenv("LATE_TOKEN")
    assert run_redactor().text(SECRET) == SECRET


def test_the_names_of_marks_are_plain(monkeypatch):
    assert set(redactor(**{"A]B": SECRET}).text(SECRET)) <= set(string.ascii_letters + "[] _")


# --- a function of the embedder's --------------------------------------------------------


@pytest.fixture
def hook():
    yield redact_also
    redact_also(None)


def test_a_function_of_the_embedders_takes_more_out_of_every_text_and_of_no_name(hook, monkeypatch):
    monkeypatch.setenv("HOOKED_TOKEN", SECRET)
    hook(lambda text: text.replace("4111 1111 1111 1111", "[card]").replace("done", "[word]"))
    redactor = run_redactor()
    value = {
        "status": "done",
        "done": [f"pay 4111 1111 1111 1111 with {SECRET}", AIMessage("it is done", id="run-done-1")],
        "at": "2026-11-21T15:13:23.123456+00:00",
    }
    clean = redactor.value(value)
    assert clean["status"] == "done"
    assert list(clean) == ["status", "done", "at"]
    assert clean["done"][0] == "pay [card] with [redacted HOOKED_TOKEN]"
    assert (clean["done"][1].content, clean["done"][1].id) == ("it is [word]", "run-done-1")
    assert redactor.text("it is done") == "it is [word]"
    untouched = {"a": ["nothing here", 1, None]}
    assert redactor.value(untouched) is untouched
    hook(None)
    assert run_redactor().text("it is done") == "it is done"


@pytest.mark.parametrize("broken", [lambda text: 1 / 0, lambda text: None])
def test_a_text_that_the_function_fails_on_is_shown_to_nobody(hook, broken):
    hook(broken)
    assert run_redactor().text("a text of a person") == "[redacted text that could not be checked]"


def test_a_message_is_streamed_whole_while_the_function_is_set(hook):
    from langchain_core.messages import AIMessageChunk

    from plan_execute.safety.stream import RedactedStream

    hook(lambda text: text.replace("Ada of London", "[person]"))
    stream = RedactedStream(run_redactor())
    words = ("I met Ada ", "of ", "London today and ", "yesterday")
    pieces = [AIMessageChunk(word, id="1") for word in words]
    said = [stream.clean((piece, {}))[0].content for piece in pieces]
    said += [message.content for message, _ in stream.rest()]
    assert "".join(said) == "I met [person] today and yesterday"
