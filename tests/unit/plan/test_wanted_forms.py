"""What other steps take from an agent's answer, as the form that it is asked for."""

from __future__ import annotations

from typing import Any

import pytest
from plans import bound, plan, think

from plan_execute.plan.wanted_forms import forms_wanted


@pytest.mark.parametrize(
    ("users", "form"),
    [
        ([bound("b", "echo", {"value": "${a}"}, "a")], None),
        (
            [bound("b", "echo", {"value": ["${a.id}", "is ${a.name.first}"]}, "a")],
            {"type": "object", "properties": {"id": {}, "name": {}}, "required": ["id", "name"]},
        ),
        ([bound("b", "echo", {"value": "${item}"}, "a", for_each="${a}")], {"type": "array"}),
        (
            [bound("b", "echo", {"value": "${item}"}, "a", for_each="${a.rows}")],
            {"type": "object", "properties": {"rows": {"type": "array"}}, "required": ["rows"]},
        ),
        (
            [bound("b", "look", {"q": "x"}, "a", when="a.ok == `true` && a.late")],
            {"type": "object", "properties": {"late": {}, "ok": {}}, "required": []},
        ),
        (
            [bound("b", "echo", {"value": ["${a.x || a.y}", "${not_null(a.z, a.id)}", "${a.id}"]}, "a")],
            {"type": "object", "properties": {"id": {}, "x": {}, "y": {}, "z": {}}, "required": ["id"]},
        ),
        ([bound("b", "echo", {"value": "${a[0].id}"}, "a")], None),
        ([bound("b", "echo", {"value": "${length(a)}"}, "a")], None),
    ],
    ids=[
        "all of it",
        "parts",
        "a list",
        "a list in it",
        "in a condition",
        "one of two",
        "by an index",
        "its length",
    ],
)
def test_the_parts_that_are_taken_are_the_form(users: list[dict[str, Any]], form: Any) -> None:
    step = think("a")
    assert forms_wanted(plan(step, *users)).get("a") == form


def test_a_declared_form_and_a_loop_are_left_as_they_are() -> None:
    user = bound("b", "echo", {"value": "${a.id}"}, "a")
    for fields in ({"output_schema": {"type": "object"}}, {"for_each": "${inputs.x}"}):
        step = think("a", **fields)
        assert forms_wanted(plan(step, user)) == {}
