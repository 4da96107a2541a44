"""Keep secrets out of what is stored and shown: their values, and texts that have the form of a key.

A secret is replaced by a mark that says which one it was (``[redacted OPENAI_API_KEY]``). Values are
looked for as they are and as they usually are written inside other text (JSON, URLs, HTML, base64,
hexadecimal, UTF-16). Every search takes time in proportion to the text, whatever the text is.
"""

from __future__ import annotations

import base64
import copy
import dataclasses
import html
import json
import logging
import re
from bisect import bisect_right
from collections import ChainMap, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cache, lru_cache
from pathlib import PurePath
from typing import Any, NamedTuple, TypeVar, cast
from urllib.parse import quote, quote_plus

__all__ = [
    "REDACTOR_KEY",
    "SHORTEST_SECRET",
    "Redactor",
    "lost_credential",
    "marks_in",
    "redact_also",
    "redactor_of",
]

T = TypeVar("T")
Clean = Callable[[str], str]

SHORTEST_SECRET = 8
"""Shorter values are not looked for: common words would be eaten."""

REDACTOR_KEY = "__plan_execute_redactor"
"""Key of a run's redactor in ``config["configurable"]``; storage finds it there."""

_MARK = re.compile(r"\[redacted ([^\[\]\n]{1,80})\]")
_SEPARATOR = "\n\x00\n"


def marks_in(value: Any) -> list[str]:
    """Name the secrets that stood in a JSON value before it was redacted, each once."""
    found = (name for text in _unknown(value) if "[redacted " in text for name in _MARK.findall(text))
    return list(dict.fromkeys(found))


_CREDENTIAL = re.compile(
    rf"\s*(?:(?:Bearer|Basic|Token)\s+)?{_MARK.pattern}\s*|\s*[A-Za-z][\w+.-]*://[^\s\[]*{_MARK.pattern}\S*\s*"
)


def lost_credential(value: Any) -> str | None:
    """Name the secret without which a call cannot work: a text that was nothing else, or a URL's password."""
    found = (_CREDENTIAL.fullmatch(text) for text in _unknown(value) if "[redacted " in text)
    return next((match[1] or match[2] for match in found if match), None)


# --- forms of keys -----------------------------------------------------------------------


class _Form(NamedTuple):
    """What keys of one kind look like."""

    anchor: str
    """A text that every such key holds: where it is missing, the pattern is not tried."""
    written: str
    """The pattern. It starts with a literal, which makes the search fast; its group, if any, is kept."""
    mark: str
    accepts: Callable[[str], bool] | None = None
    """Tells keys from ordinary words of the same form."""

    @property
    def pattern(self) -> re.Pattern[str]:
        """The pattern, compiled when it is needed first: all of them would delay each start."""
        return _compiled(self.written)


_compiled = cache(re.compile)


def _is_random(text: str) -> bool:
    """Tell a key from words with hyphens: a long run without any, or digits among both cases."""
    if re.search(r"[A-Za-z0-9]{16}", text) and re.search(r"[0-9]", text):
        return True
    return all(re.search(kind, text) for kind in ("[a-z]", "[A-Z]", "[0-9]")) and len(text) >= 24


def _has_digit(text: str) -> bool:
    return re.search(r"[0-9]", text) is not None


def _is_password(text: str) -> bool:
    """Tell a password in a URL from what stands in for one: a reference, a variable, stars."""
    return not text.startswith(("$", "{", "*", "[", "%5Bredacted"))


def _key(
    anchor: str,
    body: str,
    accepts: Callable[[str], bool] | None = None,
    *,
    mark: str = "[redacted key]",
    joined: str = "A-Za-z0-9",
) -> _Form:
    """Describe keys that begin with ``anchor``, where no character of ``joined`` stands before it.

    An escape may: a backslash and n or u003d in JSON, %20 in a URL.
    """
    begin = re.escape(anchor)
    escapes = (r"\\[nrtbf]", r"\\u[0-9A-Fa-f]{4}", r"%[0-9A-Fa-f]{2}")
    places = [f"(?<![{joined}]{begin})", *(f"(?<={escape}{begin})" for escape in escapes)]
    return _Form(anchor, f"{begin}(?:{'|'.join(places)}){body}", mark, accepts)


def _after(before: str, body: str, accepts: Callable[[str], bool] | None = None, *, anchor: str) -> _Form:
    """Describe keys that are known by what stands before them, which is kept."""
    return _Form(anchor, f"({before})({body})", "[redacted key]", accepts)


_BASE64 = r"(?:[A-Za-z0-9+/=_-]|%(?:25)?[0-9A-Fa-f]{2})"
"""A character of base64, also as a URL writes it."""
_DISCORD_IDS = [rf"(?<=[MNO][A-Za-z0-9_-]{{{length - 1}}}\.)" for length in (23, 24, 26, 27)]
"""What stands before a Discord bot's key: its number of 17 to 20 digits in base64, which is no secret."""

_FORMS: tuple[_Form, ...] = (
    # before the others: a key or a token inside is part of it
    _Form(
        "PRIVATE KEY",
        # the body ends before the next "--", so that many openings cannot make the search quadratic
        r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
        r"(?:[A-Za-z0-9+/=\s\\:,]|-(?!-)){16,}"
        r"(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----)?",
        "[redacted private key]",
    ),
    _key(
        "eyJ",
        r"[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
        mark="[redacted token]",
        joined="A-Za-z0-9_-",
    ),
    _Form(
        "://",
        r"(://[^\s/@:\"'<>]{0,200}:)([^\s/\"'<>`]{1,300})(?=@)",
        "[redacted password]",
        _is_password,
    ),
    _key("sk-", r"[A-Za-z0-9_-]{16,}", _is_random),
    *(_key(f"gh{kind}_", r"[A-Za-z0-9]{30,}") for kind in "pousr"),
    _key("github_pat_", r"[A-Za-z0-9_]{20,}"),
    _key("glpat-", r"[A-Za-z0-9_-]{16,}"),
    _key("xox", r"[abeoprs]-[A-Za-z0-9-]{10,}"),
    _key("xapp-", r"[A-Za-z0-9-]{10,}"),
    _key("AKIA", r"[A-Z0-9]{16}(?![A-Za-z0-9])"),
    _key("ASIA", r"[A-Z0-9]{16}(?![A-Za-z0-9])", _has_digit),
    _key("AIza", r"[A-Za-z0-9_-]{30,}"),
    _key("ya29.", r"(?=[A-Za-z0-9_.-]{20})[A-Za-z0-9_-]{1,500}(?:\.[A-Za-z0-9_-]{1,500}){0,3}"),
    _key("GOCSPX-", r"[A-Za-z0-9_-]{20,}"),
    *(_key(f"do{kind}_v1_", r"[a-f0-9]{64}") for kind in "por"),
    *(_key(f"shp{kind}_", r"[A-Fa-f0-9]{32,}") for kind in ("at", "ca", "pa", "ss", "ua")),
    _key("SK", r"[a-f0-9]{32}(?![A-Za-z0-9])"),  # Twilio's API keys
    _after(r"AC(?<![A-Za-z0-9]AC)[a-f0-9]{32}(?::|%3[Aa])", r"[a-f0-9]{32}(?![A-Za-z0-9])", anchor="AC"),
    *(
        _after(rf"{name}Key(?:=|%3[Dd])", rf"{_BASE64}{{40,}}", anchor=f"{name}Key")
        for name in ("Account", "SharedAccess")  # of Azure's storage, and of its queues
    ),
    _after(
        r"sig(?<![A-Za-z0-9]sig)(?:=|%3[Dd])", rf"{_BASE64}{{43,200}}", _has_digit, anchor="sig"
    ),  # of a signed Azure URL
    *(
        _after(
            rf"{colon}AA(?<=[0-9]{{8}}{colon}AA)", r"[A-Za-z0-9_-]{33}(?![A-Za-z0-9_-])", anchor=f"{colon}AA"
        )
        for colon in (":", "%3A")  # bots of Telegram: the number before is the bot's name
    ),
    _after(
        rf"\.(?:{'|'.join(_DISCORD_IDS)})[A-Za-z0-9_-]{{6}}\.",
        r"[A-Za-z0-9_-]{27,40}(?![A-Za-z0-9_.-])",
        _has_digit,
        anchor=".",
    ),
    _after(
        r"webhooks(?:\\{0,4}/|%2[Ff])[0-9]{15,22}(?:\\{0,4}/|%2[Ff])",
        r"[A-Za-z0-9_-]{40,120}",
        anchor="webhooks",
    ),
    _key("lsv2_", r"[a-z]{2}_[A-Za-z0-9_]{20,}"),
    _key("hf_", r"[A-Za-z0-9]{30,}"),
    _key("gsk_", r"[A-Za-z0-9]{30,}"),
    _key("npm_", r"[A-Za-z0-9]{36,}"),
    _key("pypi-", r"[A-Za-z0-9_-]{50,}"),
    _key("tvly-", r"[A-Za-z0-9_-]{20,}", _is_random),
    _key("sk_live_", r"[A-Za-z0-9]{16,}"),
    _key("rk_live_", r"[A-Za-z0-9]{16,}"),
    _key("sk_test_", r"[A-Za-z0-9]{16,}"),
    _key("SG.", r"[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9_-]{16,64}"),
    _Form("earer ", r"(earer )([A-Za-z0-9._~+/=-]{16,})", "[redacted token]", _has_digit),
    _Form(
        "asic ",
        r"(asic (?i:(?<=authorization: basic )))([A-Za-z0-9+/=]{8,})",
        "[redacted password]",
    ),
)


def _rarest(anchor: str) -> str:
    return next((sign for sign in "_:-JKGSA" if sign in anchor), anchor)


_BY_RAREST = {
    sign: [form for form in _FORMS if _rarest(form.anchor) == sign]
    for sign in [_rarest(form.anchor) for form in _FORMS]
}
"""The forms by a character of their anchors: one is found ten times as fast as three."""


def _forms_in(text: str) -> tuple[_Form, ...]:
    """Return the forms of which a text holds a key, in their order."""
    to_try = [
        form for sign, forms in _BY_RAREST.items() if sign in text for form in forms if form.anchor in text
    ]
    return tuple(sorted((form for form in to_try if form.pattern.search(text)), key=_FORMS.index))


class _Finds(NamedTuple):
    """What is looked for, or the part of it that a text holds."""

    values: tuple[tuple[str, str], ...]
    """Written forms of values, with their marks."""
    encoded: tuple[tuple[str, re.Pattern[str], str], ...]
    """What base64 of a value always holds, with its surroundings and mark."""
    forms: tuple[_Form, ...]
    also: Clean | None = None
    """What the embedder takes out besides."""

    def within(self, text: str) -> _Finds | None:
        """Keep what this text may hold; None: nothing."""
        text = _SEPARATOR.join([text, *(layer.text for layer in _unescaped(text))])
        values = tuple(find for find in self.values if find[0] in text)
        encoded = tuple(find for find in self.encoded if find[0] in text)
        forms = _forms_in(text)
        return _Finds(values, encoded, forms) if values or encoded or forms else None

    def replaced(self, text: str) -> str:
        """Put the marks in."""
        for value, mark in self.values:
            text = text.replace(value, mark)
        for core, pattern, mark in self.encoded:
            if core in text:
                text = pattern.sub(mark, text)
        for form in self.forms:
            if form.anchor in text:
                text = _without(form, text)
        text = self._replaced_in_escapes(text)
        return text if self.also is None else self.also(text)

    def _replaced_in_escapes(self, text: str) -> str:
        """Put the marks over what a reader of HTML sees, and leave the escapes of everything else."""
        layers, found = _unescaped(text), []
        for depth, layer in enumerate(layers, 1):
            for start, end, mark in self._places(layer.text):
                for outer in reversed(layers[:depth]):
                    start, end = outer.written_at(start, end)
                found.append((start, end, mark))
        parts, done = [], 0
        for start, end, mark in sorted(found):
            if start >= done:
                parts += [text[done:start], mark]
            done = max(done, end)
        return "".join([*parts, text[done:]])

    def _places(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Find where something begins and ends, with its mark."""
        exact = [(re.compile(re.escape(value)), mark) for value, mark in self.values if value in text]
        inside = [(pattern, mark) for core, pattern, mark in self.encoded if core in text]
        for pattern, mark in [*exact, *inside]:
            for found in pattern.finditer(text):
                yield *found.span(), mark
        for form in self.forms:
            for found in form.pattern.finditer(text) if form.anchor in text else ():
                key = form.pattern.groups  # the last group, or all of it
                if form.accepts is None or form.accepts(found[key]):
                    yield *found.span(key), form.mark


def _without(form: _Form, text: str) -> str:
    def mark(found: re.Match[str]) -> str:
        kept, key = found.groups() if form.pattern.groups else ("", found[0])
        return found[0] if form.accepts and not form.accepts(key) else kept + form.mark

    return form.pattern.sub(mark, text)


# --- HTML --------------------------------------------------------------------------------

_REFERENCE = re.compile(
    r"&(?:(#)0*+([0-9]{1,7})|(#x)0*+([0-9A-Fa-f]{1,6})|[A-Za-z][A-Za-z0-9]{0,31});?", re.IGNORECASE
)
_LAYERS = 3
"""How often a text may have been escaped: once by whoever made it, once more by whoever quoted it."""
_LONGEST_REFERENCE = 10
"""Characters for one, as in ``&#x000061;``."""


class _Layer(NamedTuple):
    """A text without its HTML escapes, and where these stood."""

    text: str
    ends: list[int]
    """Where each escape's meaning ends in the text."""
    escapes: list[tuple[int, int, int]]
    """Where it begins there, and where the escape itself begins and ends as it is written."""

    def written_at(self, start: int, end: int) -> tuple[int, int]:
        """Return where a part of the text begins and ends as it is written; no escape is cut through."""
        return self._written(start)[0], self._written(end - 1)[1]

    def _written(self, at: int) -> tuple[int, int]:
        place = bisect_right(self.ends, at)
        if place < len(self.escapes) and self.escapes[place][0] <= at:
            return self.escapes[place][1:]
        moved = self.escapes[place - 1][2] - self.ends[place - 1] if place else 0
        return at + moved, at + moved + 1


def _unescaped(text: str) -> list[_Layer]:
    """Take the HTML escapes out of a text, as often as there are any; none where it holds none."""
    layers: list[_Layer] = []
    while "&" in text and len(layers) < _LAYERS:
        layer = _without_escapes(text)
        if not layer.escapes:
            break
        layers.append(layer)
        text = layer.text
    return layers


@lru_cache(maxsize=1024)
def _meant_by(written: str, *number: str | None) -> str:
    # Without leading zeros: Python refuses to read thousands of digits.
    digits = "".join(part for part in number if part)
    return html.unescape(f"&{digits};" if digits else written)


def _without_escapes(text: str) -> _Layer:
    parts: list[str] = []
    ends: list[int] = []
    escapes: list[tuple[int, int, int]] = []
    done = length = 0
    for found in _REFERENCE.finditer(text):
        meant = _meant_by(*found.group(0, 1, 2, 3, 4))
        if meant != found[0]:
            start, end = found.span()
            length += start - done
            escapes.append((length, start, end))
            length += len(meant)
            ends.append(length)
            parts += [text[done:start], meant]
            done = end
    return _Layer("".join([*parts, text[done:]]), ends, escapes)


class _SearchedTexts:
    """Texts that were searched and held nothing, up to a limit.

    An output passes the redactor some ten times on its way into result, ledger, events and checkpoints.
    """

    _LIMIT = 16_000_000
    _OF_EACH = 50
    """What a text takes besides its characters."""

    def __init__(self) -> None:
        self._texts: set[str] = set()
        self._characters = 0

    def without_known(self, value: Any) -> list[str]:
        """Collect the texts in a value that were not searched yet."""
        return _unknown(value, self._texts)

    def remember(self, texts: Sequence[str]) -> None:
        self._characters += sum(map(len, texts)) + self._OF_EACH * len(texts)
        if self._characters > self._LIMIT:
            self._texts, self._characters = set(), 0
            texts = [text for text in texts if len(text) < self._LIMIT]
        self._texts.update(texts)


# --- what the embedder takes out ---------------------------------------------------------

_log = logging.getLogger(__name__)
_NAME = re.compile(r"[A-Za-z_][\w.:/+-]*|\d{4}-\d\d-\d\dT[\d:.+Z-]+|(?=[\d-]*[a-f])[a-f\d-]{8,}")
"""Ids, hashes, times and single words, which a run is held together by."""


def redact_also(clean: Clean | None) -> None:
    """Let a function of yours take more out of every text that runs of this process store or show.

    Args:
        clean: Takes a text and returns it without what must not be seen, for example with a recogniser of
            personal data. It must be fast, and give the same for the same text. Ids and single words are
            not shown to it. None: nothing more is taken out.
    """
    _extra[:] = [] if clean is None else [_carefully(clean)]


_extra: list[Clean] = []


def _carefully(clean: Clean) -> Clean:
    """Call the embedder's function once for each text, never on our marks; what it fails on is not shown."""

    @lru_cache(maxsize=4096)
    def part(text: str) -> str:
        try:
            cleaned = clean(text)
        except Exception:
            _log.exception("the function given to redact_also failed")
            return _UNCHECKED
        return cleaned if isinstance(cleaned, str) else _UNCHECKED

    def whole(text: str) -> str:
        if len(text) < SHORTEST_SECRET or _NAME.fullmatch(text):
            return text
        done, parts = 0, []
        for mark in _MARK.finditer(text):
            parts += [part(text[done : mark.start()]), mark[0]]
            done = mark.end()
        return "".join([*parts, part(text[done:])])

    return whole


_UNCHECKED = "[redacted text that could not be checked]"


# --- the redactor ------------------------------------------------------------------------


class Redactor:
    """Replaces secrets in texts and JSON values; what holds none comes back as the same object.

    Args:
        secrets: Values by name, as ``context.secret_values`` reads them.
        also: Takes more out of a text.
    """

    def __init__(self, secrets: Mapping[str, str] | None = None, also: Clean | None = None) -> None:
        marks = {name: f"[redacted {_label(name)}]" for name in secrets or {}}
        longest_first = sorted((secrets or {}).items(), key=lambda item: (-len(item[1]), item[0]))
        # a value that is part of a mark would be found in every mark
        found = [
            (value, marks[name])
            for name, value in longest_first
            if len(value) >= SHORTEST_SECRET and not any(value in mark for mark in marks.values())
        ]
        self._all = _Finds(
            tuple((form, mark) for value, mark in found for form in _written_forms(value)),
            tuple((core, _around(core), mark) for value, mark in found for core in _base64_cores(value)),
            _FORMS,
        )
        self._also = also
        self._searched = _SearchedTexts()

    @classmethod
    def of(cls, secrets: Mapping[str, str]) -> Redactor:
        """Return the redactor of these values; the last ones made are kept."""
        return _redactor(frozenset(secrets.items()), next(iter(_extra), None))

    def text(self, text: str) -> str:
        """Replace the secrets in a text."""
        finds = self._all.within(text)
        text = finds.replaced(text) if finds else text
        return text if self._also is None else self._also(text)

    def begun_at(self, text: str) -> int:
        """Return where a secret with white space in it may begin that the text does not hold to its end."""
        if self._also is not None:
            return 0  # nobody knows how much of a text that function has to see
        longest = max((len(form) for form, _ in self._all.values if any(map(str.isspace, form))), default=1)
        longest *= _LONGEST_REFERENCE if "&" in text else 1
        block = text.rfind("-----BEGIN")
        is_open = block >= 0 and "-----END" not in text[block:]
        return min(block if is_open else len(text), max(0, len(text) - longest + 1))

    def value(self, value: T) -> T:
        """Replace the secrets in a value: at any depth, in keys too, and in the objects LangGraph stores.

        Those are messages, interrupts and other dataclasses, sets, and errors (which become their text).
        """
        new = self._searched.without_known(value)
        if not new:
            return value
        finds = self._all.within(_SEPARATOR.join(new))
        if finds is not None or (self._also is not None and any(self._also(text) != text for text in new)):
            return cast(T, _clean(value, (finds or _NOTHING)._replace(also=self._also)))
        self._searched.remember(new)
        return value


_NOTHING = _Finds((), (), ())


def _clean(value: Any, finds: _Finds) -> Any:
    if isinstance(value, str):
        clean_text = finds.replaced(value)
        return value if clean_text == value else clean_text
    if isinstance(value, dict | ChainMap):
        items = [(_clean(key, finds), _clean(item, finds)) for key, item in value.items()]
        same = all(a is c and b is d for (a, b), (c, d) in zip(items, value.items(), strict=True))
        return value if same else dict(items)
    if isinstance(value, _HOLDERS):
        parts = [_clean(item, finds) for item in value]
        same = all(a is b for a, b in zip(parts, value, strict=True))
        return value if same else _sequence(value, parts)
    if isinstance(value, _TEXTUAL):
        text = _text_of(value)
        clean = finds.replaced(text)
        if clean == text:
            return value
        return clean.encode("utf-8", "surrogateescape") if isinstance(value, bytes | bytearray) else clean
    return _clean_object(value, finds)


def _clean_object(value: Any, finds: _Finds) -> Any:
    held = dict(_attributes(value))
    clean = {name: _clean(item, finds) for name, item in held.items()}
    changed = {name: item for name, item in clean.items() if item is not held[name]}
    if not changed:
        return value
    made = copy.copy(value)
    for name, item in changed.items():
        # messages are pydantic models, interrupts are frozen: neither takes a plain assignment
        object.__setattr__(made, name, item)
    return made


@lru_cache(maxsize=16)
def _redactor(secrets: frozenset[tuple[str, str]], also: Clean | None) -> Redactor:
    return Redactor(dict(secrets), also)


def redactor_of(config: Mapping[str, Any] | None) -> Redactor | None:
    """Return the redactor of the run that a config belongs to."""
    found = ((config or {}).get("configurable") or {}).get(REDACTOR_KEY)
    return found if isinstance(found, Redactor) else None


# --- how a secret may be written ---------------------------------------------------------


def _label(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name)[:60]


def _written_forms(value: str) -> list[str]:
    """List the ways in which a value is written inside other text, the longest first."""
    escaped = [json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1]]
    escaped += [json.dumps(text)[1:-1] for text in escaped]
    quoted = [quote(value, safe=""), quote(value), quote_plus(value)]
    quoted += [re.sub("%[0-9A-F]{2}", lambda code: code[0].lower(), text) for text in quoted]
    raw = value.encode("utf-8", "surrogatepass")
    others = [raw.hex(), raw.hex().upper(), "\x00".join(value)]
    return sorted(dict.fromkeys([value, *escaped, *quoted, *others]), key=len, reverse=True)


def _base64_cores(value: str) -> list[str]:
    """List what the base64 of any text that holds the value holds, in UTF-8 or UTF-16, in both alphabets."""
    # without its last byte, UTF-16 of plain text is the same in both byte orders
    encodings = [value.encode("utf-8", "surrogatepass"), value.encode("utf-16-le", "surrogatepass")[:-1]]
    cores = [core for raw in encodings for shift in range(3) for core in _cores(raw, shift)]
    return list(dict.fromkeys(cores))


def _cores(raw: bytes, shift: int) -> Iterator[str]:
    """Give the characters that depend on ``raw`` only, when ``shift`` bytes stand before it in its group."""
    first = (shift * 8 + 5) // 6
    last = -1 if (shift + len(raw)) % 3 else None
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(b"\0" * shift + raw).decode().rstrip("=")[first:last]


def _around(core: str) -> re.Pattern[str]:
    """Match the core with its neighbours, which hold some bits of the secret's ends."""
    return re.compile(f"[A-Za-z0-9+/_-]{{0,2}}{re.escape(core)}[A-Za-z0-9+/_-]{{0,2}}={{0,2}}")


# --- walking through values --------------------------------------------------------------


def _unknown(value: Any, known: set[str] | frozenset[str] = frozenset()) -> list[str]:
    """Collect the texts in a value, keys included, that are not among the known ones.

    A number that is long enough to be a secret is a text too. Every event, write and checkpoint goes through
    here, so the common types are told by identity; their subclasses by the slower way at the end.
    """
    level, found = [value], []
    while level:
        below: list[Any] = []
        for item in level:
            kind: Any = type(item)  # mypy 2.4 holds that a type is not hashable
            if kind is str:
                if item not in known:
                    found.append(item)
            elif kind is dict:
                if not known.issuperset(item):
                    below += item
                below += item.values()
            elif kind is list or kind is tuple:
                below += item
            elif item is None or kind is bool or (kind is int and -_LONG_NUMBER < item < _LONG_NUMBER):
                continue
            elif kind is float:
                below.append(repr(item))
            elif (slots := _slots(kind)) is not None:  # a message, for one
                below += getattr(item, "__dict__", {}).values()
                below += [getattr(item, name, None) for name in slots]
            else:
                below += _parts(item)
        level = below
    return found


_LONG_NUMBER = 10 ** (SHORTEST_SECRET - 2)
"""Numbers below it are shorter than any secret, whatever their sign."""


def _parts(item: Any) -> Iterable[Any]:
    """Give what an object of a less common type holds, numbers and errors as text."""
    if isinstance(item, str):
        return (str.__str__(item),)  # what it holds, also where it shows something else
    if isinstance(item, dict):
        return (*item.keys(), *item.values())
    if isinstance(item, ChainMap):
        return cast(Iterable[Any], item.maps)
    if isinstance(item, _HOLDERS):
        return item
    return (_text_of(item),) if isinstance(item, _TEXTUAL) else ()


_HOLDERS = (list, tuple, set, frozenset, deque)
_TEXTUAL = (int, float, Decimal, bytes, bytearray, PurePath, BaseException)
"""What is stored as a text or may be one."""


def _text_of(value: Any) -> str:
    if isinstance(value, bytes | bytearray):
        return value.decode("utf-8", "surrogateescape")
    return str(value) if isinstance(value, Decimal | PurePath) else repr(value)


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    """Give what an object holds, if it is of a kind that LangGraph stores: a model, a dataclass, its own."""
    kind: Any = type(value)  # mypy 2.4 holds that a type is not hashable
    slots = _slots(kind)
    for name in () if slots is None else (*getattr(value, "__dict__", ()), *slots):
        if hasattr(value, name):
            yield name, getattr(value, name)


@lru_cache(maxsize=1024)
def _slots(kind: type) -> tuple[str, ...] | None:
    """Name the slots of a kind of object that LangGraph stores; None: it is not of such a kind.

    Among them are the fields that a model, such as a message, takes besides its own.
    """
    # what a run holds in memory (locks, futures, this object) is never stored, and may refer to itself
    if kind.__module__.partition(".")[0] == __name__.partition(".")[0]:
        return None
    is_stored = dataclasses.is_dataclass(kind) or hasattr(kind, "model_fields")
    if not is_stored and not kind.__module__.startswith("langgraph.types"):
        return None
    slots = dict.fromkeys(name for cls in kind.__mro__ for name in getattr(cls, "__slots__", ()))
    return tuple(name for name in slots if name[:2] != "__" or name == "__pydantic_extra__")


def _sequence(like: Any, parts: list[Any]) -> Any:
    if hasattr(like, "_fields"):
        return type(like)(*parts)  # a named tuple takes its fields one by one
    return next(kind for kind in _HOLDERS if isinstance(like, kind))(parts)
