"""References and values: what goes in comes out."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from generated import json_values
from hypothesis import given, settings
from hypothesis import strategies as st

from plan_execute.errors import UnresolvedReferenceError
from plan_execute.plan.references import (
    BadReferenceError,
    escaped,
    expression_roots,
    references_in,
    render,
    resolve,
)
from plan_execute.tools.texts import preview
from plan_execute.tools.values import to_json

few = settings(max_examples=80, deadline=None)
names = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,10}", fullmatch=True)


@few
@given(names, json_values)
def test_a_whole_reference_gives_the_exact_value_back(name: str, value: Any) -> None:
    assert resolve(f"${{{name}}}", {name: value}) == value
    assert resolve({"deep": [f"${{ {name} }}"]}, {name: value}) == {"deep": [value]}


@few
@given(names, names, json_values)
def test_a_path_gives_the_member_back(name: str, member: str, value: Any) -> None:
    assert resolve(f"${{{name}.{member}}}", {name: {member: value}}) == value


@few
@given(names, json_values, st.text(max_size=10), st.text(max_size=10))
def test_inside_text_a_value_is_rendered_and_can_be_read_again(
    name: str, value: Any, left: str, right: str
) -> None:
    left, right = left.replace("$", ""), right.replace("$", "")
    made = resolve(f"{left}|${{{name}}}|{right}", {name: value})
    assert made == f"{left}|{render(value)}|{right}"
    if not isinstance(value, str):
        assert json.loads(render(value)) == value


@few
@given(json_values.map(lambda value: json.loads(json.dumps(value).replace("$", ""))))
def test_values_without_references_are_left_as_they_are(value: Any) -> None:
    assert resolve(value, {}) == value


@few
@given(st.text(max_size=30))
def test_escaped_text_comes_out_as_it_was_written(text: str) -> None:
    written = text.replace("$", "") + "${" + text.replace("$", "")
    assert resolve(escaped(written), {}) == written


@few
@given(st.text(max_size=30), json_values)
def test_any_text_at_all_resolves_or_says_why_not(text: str, value: Any) -> None:
    with suppress(BadReferenceError, UnresolvedReferenceError):
        resolve(f"${{{text}}}", {"a": value, "inputs": {}})


@few
@given(st.text(max_size=30))
def test_finding_references_and_their_roots_never_fails_in_another_way(text: str) -> None:
    with suppress(BadReferenceError):
        for reference in references_in(text):
            expression_roots(reference.expression)


@few
@given(names, json_values)
def test_a_value_is_never_searched_for_references_itself(name: str, value: Any) -> None:
    held = {"x": "${other}", "y": value}
    assert resolve(f"${{{name}}}", {name: held}) == held


@few
@given(json_values)
def test_json_stays_as_it_is_and_survives_json(value: Any) -> None:
    assert to_json(value) == value
    assert json.loads(json.dumps(to_json(value))) == value


@few
@given(json_values, st.integers(0, 50))
def test_a_preview_is_never_longer_than_its_limit_and_a_note(value: Any, limit: int) -> None:
    assert len(preview(value, limit)) <= limit + len("… (999,999 more characters)")
