"""Plan files are read exactly, refused with the line, and written so that they read back the same."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plan_execute.errors import ConfigurationError, InvalidPlanError
from plan_execute.plan.files import yaml_places as marked_yaml
from plan_execute.plan.files.plan_files import dump_plan, issue_place, load_plan_file, save_plan_file

YAML = """\
# a comment
goal: Pack for the weather
steps:
  - id: weather
    task: Look it up
    call: {tool: get_weather,
      args: {city: Paris}}

  - id: pack
    depends_on: [weather]
    task: |
      First line
      Second line
"""

JSON = """\
{
\t"goal": "g", "inputs": {"a.b": {"default": "\\ud83d\\ude00 {[\\"]}"}},
\t"steps": [
\t\t{"id": "one", "n": -1.5e3, "big": 1234567890123456789,
\t\t "list": [1, true,
\t\t   null]},
\t\t{"id":"two"}
\t]
}
"""


def written(tmp_path, text, name="plan.yaml"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(path):
    with pytest.raises(InvalidPlanError) as caught:
        load_plan_file(path)
    for one in caught.value.issues:
        assert (one["code"], one["step_id"]) == ("malformed_plan", None)
        assert one["message"] in str(caught.value)
    first = caught.value.issues[0]
    place = f":{first['line']}:{first['column']}" if first["line"] else ""
    assert str(caught.value).startswith(f"{path}{place}: {first['message']}")
    return first["message"], first["line"], caught.value.issues


def test_yaml_gives_the_plan_and_the_place_of_everything(tmp_path):
    found = load_plan_file(written(tmp_path, YAML))
    assert found.plan["steps"][1] == {
        "id": "pack",
        "depends_on": ["weather"],
        "task": "First line\nSecond line\n",
    }
    assert found.places[()] == (2, 1)
    assert found.places["goal",] == (2, 1)
    assert found.places["steps", 0] == (4, 5)
    assert found.places["steps", 0, "call"] == (6, 5)
    assert found.places["steps", 0, "call", "args", "city"] == (7, 14)
    assert found.places["steps", 1, "depends_on", 0] == (10, 18)
    assert found.places["steps", 1, "task"] == (11, 5)


def test_json_gives_the_plan_and_the_place_of_everything_also_with_tabs(tmp_path):
    found = load_plan_file(written(tmp_path, JSON, "plan.json"))
    assert found.plan == json.loads(JSON)
    assert found.places[()] == (1, 1)
    assert found.places["inputs", "a.b", "default"] == (2, 34)
    assert found.places["steps", 0, "n"] == (4, 17)
    assert found.places["steps", 0, "list", 2] == (6, 6)
    assert found.places["steps", 1, "id"] == (7, 4)


def issue(step_id, *field, code="x"):
    return {"code": code, "step_id": step_id, "message": "m", "field": list(field)}


def test_an_issue_is_found_at_its_field_or_at_what_the_field_should_stand_in(tmp_path):
    found = load_plan_file(written(tmp_path, YAML + "  - {id: 7}\n"))
    assert issue_place(found, {"code": "x", "step_id": "pack", "message": "m"}) == (9, 5)
    assert issue_place(found, issue("pack", "depends_on", 0)) == (10, 18)
    assert issue_place(found, issue("weather", "call", "args", "city")) == (7, 14)
    assert issue_place(found, issue("weather", "call", "args", "country")) == (7, 7)
    assert issue_place(found, issue("7", "task")) == (14, 5)
    assert issue_place(found, issue(None, "goal")) == (2, 1)
    assert issue_place(found, issue(None, "inputs", "city")) == (2, 1)
    assert issue_place(found, issue("nowhere", "task")) is None
    assert issue_place(load_plan_file(written(tmp_path, "steps: 5")), issue("x")) is None


def test_a_duplicate_id_is_found_at_the_second_step(tmp_path):
    found = load_plan_file(written(tmp_path, "steps:\n- {id: a}\n- {id: a}\n"))
    assert issue_place(found, issue("a", "id", code="duplicate_id")) == (3, 4)


def test_an_issue_in_what_an_alias_stands_for_is_found_at_the_alias(tmp_path):
    found = load_plan_file(written(tmp_path, "a: &x {id: a, call: {tool: t}}\nsteps:\n- *x\n"))
    assert issue_place(found, issue("a", "call", "tool")) == (3, 3)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2024-01-31", "2024-01-31"),
        ("2024-01-31 10:00:00", "2024-01-31 10:00:00"),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("12:30:45", "12:30:45"),
        ("1_000", "1_000"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("017", 17),
        ("0x1F", 31),
        ("0o17", 15),
        ("+12", 12),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("'5'", "5"),
        ('"\\u00e9"', "é"),
        ("!!str 5", "5"),
        ("${weather.temp}", "${weather.temp}"),
        ("NaN", "NaN"),
        ("<<", "<<"),
        ("é", "é"),
        ("-9223372036854775808", -(2**63)),
    ],
)
def test_yaml_values_mean_what_yaml_1_2_says(tmp_path, text, value):
    found = load_plan_file(written(tmp_path, f"v: {text}\n")).plan["v"]
    assert (found, type(found)) == (value, type(value))


def test_aliases_are_copies(tmp_path):
    plan = load_plan_file(written(tmp_path, "a: &x {k: [1]}\nb: *x\n")).plan
    assert plan == {"a": {"k": [1]}, "b": {"k": [1]}}
    assert plan["a"] is not plan["b"]


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("goal: x\nsteps: []\ngoal: y\n", 3, "'goal' appears twice here (first in line 1)"),
        ("goal: x\ninputs: {a: 1, a: 2}\n", 2, "'a' appears twice here"),
        ("goal: x\n---\ngoal: y\n", 2, "more than one document"),
        ("- a\n- b\n", 1, "a plan must be a mapping, but this is a list"),
        ("just text\n", 1, "this is text"),
        ("", None, "is empty"),
        ("# nothing\n", None, "is empty"),
        ("a: 1\nb: .nan\n", 2, "not a valid JSON number"),
        ("a: 1\nb: -.INF\n", 2, "not a valid JSON number"),
        ("a: 1e999\n", 1, "not a valid JSON number"),
        (f"a: {'9' * 5000}\n", 1, "(5000 digits) does not fit 64 bits"),
        ("a: 1\nb: !!python/object/apply:os.system ['true']\n", 2, "tag"),
        ("a: !!binary aGk=\n", 1, "tag"),
        ("a: &x [*x]\n", 1, "*x must refer to an anchor"),
        ("a: *y\n", 1, "*y must refer to an anchor"),
        ("a: 1\n? [x]\n: 2\n", 2, "a key must be text"),
        ("a: [1\nb: 2\n", 2, "is not YAML"),
        ("a: 1\n\tb: 2\n", 2, "is not YAML"),
        (BOMB, 5, "aliases expand to more than"),
        (f"a: &a {'x' * 2_000_000}\nb: [{'*a,' * 1000}]\n", 2, "aliases expand to more than"),
        (f"a: &a {{{'x' * 1000}: 1}}\nb: [{'*a,' * 20_000}]\n", 2, "aliases expand to more than"),
        (b"a: 1\nb: \xff\n", 2, "not UTF-8"),
        ("a: 1\nb: \x00\n", 2, "the character U+0000 may not stand in it"),
    ],
)
def test_bad_yaml_is_refused_with_its_line(tmp_path, text, line, says):
    path = written(tmp_path, text)
    message, found, _ = refused(path)
    assert says in message
    assert found == line


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ('{"a": 1,\n"a": 2}', 2, "'a' appears twice here (first in line 1)"),
        ('{"a": 1,\n"b": NaN}', 2, "NaN is not a valid JSON number"),
        ('{"a":\n-Infinity}', 2, "not a valid JSON number"),
        ('{"a": 1e999}', 1, "not a valid JSON number"),
        ('{"a":\n}', 2, "is not JSON"),
        ("[1]", 1, "this is a list"),
        ("", 1, "is not JSON"),
        ('{"a": 1}\n{"b": 2}', 2, "Extra data"),
        ('{"a": ' + "9" * 5000 + "}", 1, "(5000 digits) does not fit 64 bits"),
    ],
)
def test_bad_json_is_refused_with_its_line(tmp_path, text, line, says):
    path = written(tmp_path, text, "plan.json")
    message, found, _ = refused(path)
    assert says in message
    assert found == line


DEEP_YAML = {
    "list in brackets": (lambda n: "é: " + "[" * n + "]" * n, 1, 68),
    "list left open": (lambda n: "é: " + "[" * n, 1, 68),
    "mapping in braces": (lambda n: "é: " + "{b: " * n + "}" * n, 1, 260),
    "list in a block": (lambda n: "- " * n + "x", 1, 131),
    "mapping in a block": (lambda n: "\n".join(" " * level + "k:" for level in range(n)), 66, 66),
    "keys": (lambda n: "? " * n + "x", 1, 131),
}
DEEP_JSON = {
    "list": (lambda n: '{"é": ' + "[" * n + "]" * n + "}", 1, 71),
    "object": (lambda n: '{"é":\n' * n + "1" + "}" * n, 66, 1),
}


def refused_as_too_deep(path, line, column):
    message, _, (issue,) = refused(path)
    assert message == "is nested more than 64 levels deep"
    assert (issue["line"], issue["column"]) == (line, column)


# PyYAML 6.0.4 refuses 1,000 levels itself, and Python's own readers refuse about as many.
@pytest.mark.parametrize("levels", [66, 900, 1100])
@pytest.mark.parametrize("form", DEEP_YAML)
@pytest.mark.parametrize("loader", ["CSafeLoader", "SafeLoader"])
def test_deep_yaml_is_refused_in_the_same_words_by_every_loader(tmp_path, monkeypatch, loader, form, levels):
    monkeypatch.setattr(marked_yaml, "_Loader", getattr(marked_yaml.yaml, loader))
    text, line, column = DEEP_YAML[form]
    refused_as_too_deep(written(tmp_path, text(levels)), line, column)


@pytest.mark.parametrize("levels", [66, 900, 1100, 100_000])
@pytest.mark.parametrize("form", DEEP_JSON)
def test_deep_json_is_refused_in_the_same_words(tmp_path, form, levels):
    text, line, column = DEEP_JSON[form]
    refused_as_too_deep(written(tmp_path, text(levels), "plan.json"), line, column)


def test_very_deep_yaml_is_refused_in_the_same_words(tmp_path):
    refused_as_too_deep(written(tmp_path, "a: " + "[" * 100_000), 1, 68)


def test_aliases_of_aliases_are_refused_where_what_they_stand_for_is_too_deep(tmp_path):
    lists = [f"a{n}: &a{n} {'[' * 30}{f'*a{n - 1}' if n else 'x'}{']' * 30}\n" for n in range(50)]
    assert load_plan_file(written(tmp_path, "".join(lists[:2]))).plan.keys() == {"a0", "a1"}
    refused_as_too_deep(written(tmp_path, "".join(lists)), 3, 39)


def test_what_is_deep_but_allowed_is_read(tmp_path):
    text = "[" * 64 + "]" * 64
    for name in ("plan.yaml", "plan.json"):
        assert json.dumps(load_plan_file(written(tmp_path, f'{{"a": {text}}}', name)).plan["a"]) == text


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("a: {b: ${x.y}}\n", 'a reference needs quotes: "${…}"'),
        ("a: [${x}, 1]\n", 'a reference needs quotes: "${…}"'),
        ("a:\n\tb: 1\n", "YAML is indented with spaces, never with tabs"),
        ("a: Do this: now\n", 'put a text that holds ": " in quotes'),
        ("a: *.md\n", "put a text that begins with * in quotes"),
        ("@home\n", "put a text that begins with this character in quotes"),
        ("a: @home\n", "put a text that begins with this character in quotes"),
        ("a: `x`\n", "put a text that begins with this character in quotes"),
        ("- a: 1\n   b: 2\n", "in quotes"),
        ("a: {b: 1\nc: 2\n", "that begins in line 1"),
        ('a: "b\nc: 2\n', "that begins in line 1"),
        ("a: 1\nb: \x00\n", "if this is UTF-16, save it as UTF-8"),
    ],
)
def test_a_mistake_of_syntax_says_what_to_do(tmp_path, text, hint):
    assert hint in refused(written(tmp_path, text))[0]


def test_everything_that_cannot_stay_is_listed_at_once(tmp_path):
    text = "a: 1\na: 2\nb: !!python/name:os.system x\nc: .nan\nd: {e: 1, e: 2}\nf: 99999999999999999999\n"
    _, _, issues = refused(written(tmp_path, text))
    assert [(issue["line"], issue["column"]) for issue in issues] == [(2, 1), (3, 4), (4, 4), (5, 11), (6, 4)]
    text = '{"a": 1, "a": NaN,\n"b": "\\ud800", "c": 1e999}'
    _, _, issues = refused(written(tmp_path, text, "plan.json"))
    assert [(issue["line"], issue["column"]) for issue in issues] == [(1, 10), (1, 15), (2, 6), (2, 21)]


MERGED = """\
base: &base {on_failure: skip, timeout_s: 5}
other: &other {timeout_s: 7, approve: true}
one: {<<: *base, timeout_s: 9}
two:
  <<: [*base, *other]
  id: x
"<<": literal
"""


def test_merge_keys_give_what_is_not_there_itself(tmp_path):
    found = load_plan_file(written(tmp_path, MERGED))
    assert found.plan["one"] == {"on_failure": "skip", "timeout_s": 9}
    assert found.plan["two"] == {"on_failure": "skip", "timeout_s": 5, "approve": True, "id": "x"}
    assert found.plan["<<"] == "literal"
    assert found.places["one", "on_failure"] == (3, 7)
    assert found.places["one", "timeout_s"] == (3, 18)
    assert "merges a mapping" in refused(written(tmp_path, "a:\n  <<: text\n"))[0]


def test_schema_and_comment_are_for_editors_and_readers_and_no_part_of_the_plan(tmp_path):
    text = '{"$schema": "plan.schema.json", "$comment": ["x"], "goal": "g"}'
    for name in ("plan.json", "plan.yaml"):
        assert load_plan_file(written(tmp_path, text, name)).plan == {"goal": "g"}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["plan.yaml", "plan.json"])
def test_a_mark_at_the_beginning_names_the_encoding(tmp_path, encoding, name):
    path = written(tmp_path, '{"goal": "Größe"}\r\n'.encode(encoding), name)
    assert load_plan_file(path).plan == {"goal": "Größe"}


def test_windows_line_ends_move_no_place(tmp_path):
    text = YAML.replace("\n", "\r\n")
    windows, unix = load_plan_file(written(tmp_path, text)), load_plan_file(written(tmp_path, YAML))
    assert (windows.plan, windows.places) == (unix.plan, unix.places)


def test_a_file_that_cannot_be_read_or_is_too_large_is_refused(tmp_path):
    assert "No such file" in refused(tmp_path / "none.yaml")[0]
    assert "cannot be read" in refused(tmp_path)[0]
    assert "larger than 5 MB" in refused(written(tmp_path, "a: " + "x" * (5 * 1024 * 1024)))[0]


def test_a_byte_order_mark_is_no_part_of_the_plan(tmp_path):
    assert load_plan_file(written(tmp_path, b"\xef\xbb\xbfgoal: x\n")).plan == {"goal": "x"}


def test_without_libyaml_the_same_is_read_and_refused(tmp_path, monkeypatch):
    fast = load_plan_file(written(tmp_path, YAML))
    monkeypatch.setattr(marked_yaml, "_Loader", marked_yaml.yaml.SafeLoader)
    assert load_plan_file(written(tmp_path, YAML)) == fast
    assert "aliases expand to more than" in refused(written(tmp_path, BOMB))[0]
    assert refused(written(tmp_path, "a: [1\nb: 2\n"))[1] == 2


def test_written_yaml_is_pleasant_to_read():
    plan = {
        "goal": "Größe messen",
        "steps": [{"id": "a", "task": "one\ntwo\n", "depends_on": []}, {"id": "b", "n": 1.5, "t": "1e3"}],
        "complete": True,
    }
    assert dump_plan(plan, format="yaml") == (
        "goal: Größe messen\n"
        "steps:\n"
        "- id: a\n"
        "  task: |\n"
        "    one\n"
        "    two\n"
        "  depends_on: []\n"
        "- id: b\n"
        "  n: 1.5\n"
        "  t: '1e3'\n"
        "complete: true\n"
    )


LOOKS_LIKE_SOMETHING_ELSE = ["no", "1e3", "0o7", "~", "", "a: b", "# x", "- x", "<<", "=", "2024-01-01", "|"]
HARD_TO_LAY_OUT = [" a\n b", "\n", "a\n\n", " \n", "a \nb", "\t", "a\tb\n", "x" * 300, "word " * 60]
STRANGE_CHARACTERS = ["\x85", "\u2028", "a\r\nb", "😀", "\x00", "\ufeff"]
texts = st.text() | st.sampled_from(LOOKS_LIKE_SOMETHING_ELSE + HARD_TO_LAY_OUT + STRANGE_CHARACTERS)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)

FOR_EDITORS = ("$schema", "$comment")
"""Keys at the top of a file that are no part of the plan."""


@pytest.mark.parametrize("name", ["plan.yaml", "plan.json"])
@settings(max_examples=150, deadline=None)
@given(plan=st.dictionaries(texts.filter(lambda key: key not in FOR_EDITORS), values, max_size=5))
def test_what_is_saved_reads_back_exactly(tmp_path_factory, name, plan):
    path = tmp_path_factory.getbasetemp() / name
    save_plan_file(plan, path)
    found = load_plan_file(path).plan
    assert repr(found) == repr(plan)


@pytest.mark.parametrize("format", ["yaml", "json"])
def test_what_is_not_json_is_not_written(format):
    with pytest.raises(TypeError):
        dump_plan({"a": {1, 2}}, format=format)
    with pytest.raises(ValueError, match="JSON compliant"):
        dump_plan({"a": float("nan")}, format=format)


HEADER = ["Goal: two\nlines \x1b[31m", "Run it: now"]


def test_a_header_is_a_comment_in_yaml_and_in_json_a_key_of_its_own(tmp_path):
    save_plan_file({"goal": "g"}, tmp_path / "plan.yaml", header=HEADER)
    lines = (tmp_path / "plan.yaml").read_text(encoding="utf-8").splitlines()
    assert lines == ["# Goal: two lines \ufffd[31m", "# Run it: now", "goal: g"]
    save_plan_file({"goal": "g"}, tmp_path / "plan.json", header=HEADER)
    document = json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))
    assert document["$comment"][1] == "Run it: now"
    for name in ("plan.yaml", "plan.json"):
        assert load_plan_file(tmp_path / name).plan == {"goal": "g"}


def test_a_file_names_the_schema_that_is_published_near_it(tmp_path):
    project = tmp_path / "project"
    (project / "docs").mkdir(parents=True)
    (project / ".git").mkdir()
    (project / "plans").mkdir()
    (tmp_path / "plan.schema.json").write_text("{}")
    where = project / "plans" / "plan.yaml"
    save_plan_file({"goal": "g"}, where, header=["x"])
    assert "$schema" not in where.read_text(), "what is above the repository is not its own"
    (project / "docs/plan.schema.json").write_text("{}")
    save_plan_file({"goal": "g"}, where, header=["x"])
    assert where.read_text().startswith("# yaml-language-server: $schema=../docs/plan.schema.json\n")
    save_plan_file({"goal": "g"}, where.with_suffix(".json"), header=["x"])
    assert json.loads(where.with_suffix(".json").read_text())["$schema"] == "../docs/plan.schema.json"


def test_a_file_that_is_there_stays_unless_it_may_be_overwritten(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text("mine")
    with pytest.raises(ConfigurationError, match="--force"):
        save_plan_file({"goal": "g"}, path, overwrite=False)
    assert path.read_text() == "mine"
    assert [entry.name for entry in tmp_path.iterdir()] == ["plan.yaml"]


def test_saving_keeps_links_and_permissions_and_gives_new_files_the_usual_ones(tmp_path):
    path, link = tmp_path / "plan.yaml", tmp_path / "link.yaml"
    save_plan_file({"goal": "g"}, path)
    (tmp_path / "usual").touch()
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode
    path.chmod(0o600)
    link.symlink_to(path)
    save_plan_file({"goal": "h"}, link)
    assert link.is_symlink()
    assert (path.stat().st_mode & 0o777, load_plan_file(path).plan) == (0o600, {"goal": "h"})


def test_saving_is_whole_or_not_at_all(tmp_path):
    path = tmp_path / "plan.yml"
    save_plan_file({"goal": "old"}, path)
    with pytest.raises(UnicodeEncodeError):
        save_plan_file({"goal": "\ud800"}, path.with_suffix(".json"))
    with pytest.raises(TypeError):
        save_plan_file({"goal": object()}, path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["plan.yml"]
    assert load_plan_file(path).plan == {"goal": "old"}
    with pytest.raises(ConfigurationError, match=r"\.yaml, \.yml or \.json"):
        save_plan_file({}, Path("plan.toml"))
