"""References: where they are found, what they use, and what they stand for."""

from __future__ import annotations

from typing import Any

import pytest

from plan_execute.errors import UnresolvedReferenceError
from plan_execute.plan.references import (
    BadReferenceError,
    escaped,
    expression_roots,
    is_rooted,
    is_single_reference,
    map_strings,
    plain_path,
    references_in,
    render,
    resolve,
    search,
    step_references,
)

SCOPE = {
    "a": {"n": 3, "list": [1, {"x": "y"}], "none": None, "text": "t"},
    "b": "text",
    "skipped": None,
    "inputs": {"c": 1},
}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("plain", []),
        ("${a}", ["a"]),
        ("x ${a.n} y ${b}", ["a.n", "b"]),
        ("$${a}", []),
        ("${ a }", ["a"]),
        ("${a.list[?x=='}']}", ["a.list[?x=='}']"]),
        ("${{k: a.n}}", ["{k: a.n}"]),
        ("$a {a} $ {a}", []),
        ("${a}${b}", ["a", "b"]),
    ],
)
def test_references_are_found_past_quotes_braces_and_escapes(text: str, found: list[str]) -> None:
    assert [reference.expression for reference in references_in(text)] == found


@pytest.mark.parametrize("text", ["${", "${a", "x ${}", "${ }", "${a.'}"])
def test_an_open_or_empty_reference_is_refused(text: str) -> None:
    with pytest.raises(BadReferenceError):
        references_in(text)


@pytest.mark.parametrize(
    ("value", "single"), [("${a}", True), (" ${a}", False), ("${a}${b}", False), ("a", False), (7, False)]
)
def test_a_single_reference_is_the_whole_text(value: Any, single: bool) -> None:
    assert is_single_reference(value) is single


@pytest.mark.parametrize(
    ("expression", "roots"),
    [
        ("a", {"a"}),
        ("a.b.c", {"a"}),
        ("a[0]", {"a"}),
        ("a[?x > `1`].y", {"a"}),
        ("length(a.b)", {"a"}),
        ("a && b || c", {"a", "b", "c"}),
        ("{x: a.n, y: b}", {"a", "b"}),
        ("[a, b.c]", {"a", "b"}),
        ("sort_by(a, &x)", {"a"}),
        ("`1`", set()),
        ("a | [0].b", {"a"}),
        ("a.n > `3` && !b", {"a", "b"}),
        ("a.*.x", {"a"}),
        ("a[].b", {"a"}),
        ("a[1:2]", {"a"}),
        ("@", set()),
    ],
)
def test_the_roots_of_an_expression_are_what_it_looks_up_at_the_top(expression: str, roots: set[str]) -> None:
    assert expression_roots(expression) == roots


def test_an_expression_that_is_not_jmespath_is_refused_with_the_reason() -> None:
    with pytest.raises(BadReferenceError, match=r"not a JMESPath expression: a\.\.b"):
        expression_roots("a..b")


@pytest.mark.parametrize(
    ("expression", "path"),
    [("a", ["a"]), ("a.b.c", ["a", "b", "c"]), ("a[0]", None), ("length(a)", None), ("a.b[0].c", None)],
)
def test_only_a_dotted_path_is_plain(expression: str, path: Any) -> None:
    assert plain_path(expression) == path


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("${a}", SCOPE["a"]),
        ("${a.n}", 3),
        ("${a.list[1].x}", "y"),
        ("n=${a.n}", "n=3"),
        ("${a.list}!", '[1, {"x": "y"}]!'),
        ("${b}${b}", "texttext"),
        ("$${a}", "${a}"),
        ("${a.none}", None),
        ("<${a.none}>", "<null>"),
        ("${skipped}", None),
        ("${skipped.deep.path}", None),
        ("${inputs.c}", 1),
        ({"k": ["${a.n}", {"${a}": "${b}"}]}, {"k": [3, {"${a}": "text"}]}),
        (7, 7),
        (None, None),
        ("${length(a.list)}", 2),
        ("${a.list[9:]}", []),
        ("${a.list[?x == 'z'].x}", []),
        ("${not_null(a.list[9], 'none')}", "none"),
        ("${a.m || 'other'}", "other"),
        ("${skipped[0].x}", None),
        ("${a.none[0]}", None),
        ("{$${}{a.n}} $$${}a", "{{a.n}} $a"),
        ("$${$${}}", "${}"),
    ],
)
def test_references_resolve_to_exact_values(value: Any, expected: Any) -> None:
    assert resolve(value, SCOPE) == expected


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("${a.m}", "it has: list, n, none, text"),
        ("${ghost}", "'ghost'"),
        ("${b.x}", "str"),
        ("${a.list[9]}", r"a\.list has no \[9\]; its length is 2"),
        ("${a.list[-3].x}", r"a\.list has no \[-3\]"),
        ("${a.list[1].y}", r"a\.list\[1\] has no 'y'; it has: x"),
        ("${a.list[1].y.z}", r"a\.list\[1\] has no 'y'"),
        ("${a.m[*].x}", "a has no 'm'"),
        ("${a.text[*].x}", "not a list"),
        ("${a.list[?x == 'z'] | [0].x}", r"has no \[0\]; its length is 0"),
        ("${to_string(a.list[9])}", r"has no \[9\]"),
        ("${{to: a.m}}", "a has no 'm'"),
        ("${a.m || a.o}", "'m'.*'o'"),
        ("${length(a.n)}", "length"),
    ],
)
def test_a_reference_without_a_value_is_an_error_that_names_what_there_is(text: str, word: str) -> None:
    with pytest.raises(UnresolvedReferenceError, match=word):
        resolve(text, SCOPE)


def test_resolved_text_is_not_resolved_again() -> None:
    assert resolve("${x}", {"x": "${y}"}) == "${y}"


def test_search_says_what_failed() -> None:
    assert search("a.n > `2`", SCOPE) is True
    with pytest.raises(UnresolvedReferenceError):
        search("sum(b)", SCOPE)


@pytest.mark.parametrize(
    ("value", "text"), [("x", "x"), (1, "1"), (None, "null"), (True, "true"), ({"ü": [1]}, '{"ü": [1]}')]
)
def test_values_are_rendered_as_they_are_or_as_json(value: Any, text: str) -> None:
    assert render(value) == text


def test_strings_are_mapped_at_any_depth_and_keys_are_left_alone() -> None:
    assert map_strings({"a": ["b", ("c",), 1]}, str.upper) == {"a": ["B", ["C"], 1]}


def test_the_references_of_a_step_come_with_where_they_stand() -> None:
    step = {
        "id": "s",
        "task": "do ${a}",
        "call": {"tool": "t", "args": {"x": ["${b.c}"]}},
        "for_each": "${d}",
        "when": "e > `1`",
        "success_criteria": [{"type": "matches", "pattern": "${f}"}],
        "plan": {"goal": "${g}"},
    }
    assert step_references(step) == [
        ("call.args", "b.c"),
        ("task", "a"),
        ("for_each", "d"),
        ("success_criteria", "f"),
        ("plan.goal", "g"),
        ("when", "e > `1`"),
    ]


@pytest.mark.parametrize(
    "expression", ["a", "a.b[0]", "length(a.l)", "a[?@ > `2`]", "a | @", "join(', ', a.l)", "b || 'x'", "!a"]
)
def test_a_rooted_expression_begins_with_a_name(expression: str) -> None:
    assert is_rooted(expression)


@pytest.mark.parametrize(
    "expression",
    ["'text'", "`5`", "@", "*", "[0]", "[*].x", "[?x]", "keys(@)", "@.a", "type('x')", "{x: a, y: @}", "*.a"],
)
def test_a_literal_and_all_there_is_are_no_roots(expression: str) -> None:
    assert not is_rooted(expression)


@pytest.mark.parametrize("text", ["${a}", "${}", "a $${b} ${", "plain", "$${${}"])
def test_an_escaped_text_stands_for_itself(text: str) -> None:
    assert resolve(escaped(text), {}) == text
