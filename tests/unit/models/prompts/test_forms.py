"""The planner's prompt mentions a form of step only where the inventory makes it useful."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from toolset import make_tool

from plan_execute.models.prompts.inventory import describe_form
from plan_execute.tools.toolbox import Toolbox

Form = Literal["lines", "fields"]
BOTH: tuple[Form, ...] = ("lines", "fields")


def look(q: str) -> str:
    """Look something up."""
    return q


def count(number: int) -> int:
    """Count."""
    return number


def _described(form: Form, *tools: Any, sub_plans: bool = False, **options: Any) -> str:
    return describe_form(form, Toolbox(map(make_tool, tools), **options), sub_plans=sub_plans)


@pytest.mark.parametrize("form", BOTH)
def test_branches_are_told_where_there_are_two_tools_to_choose_from(form: Form) -> None:
    assert "else_of" not in _described(form)
    assert "if_failed" not in _described(form, look)
    described = _described(form, look, count)
    assert "else_of" in described
    assert "if_failed" in described


@pytest.mark.parametrize("form", BOTH)
def test_functions_are_told_where_a_tool_takes_numbers_or_dates(form: Form) -> None:
    assert "add_days" not in _described(form, look)
    assert "add_days" in _described(form, count)


@pytest.mark.parametrize("form", BOTH)
def test_agents_and_sub_plans_are_told_where_there_are_some(form: Form) -> None:
    goals = {"lines": "`goal ", "fields": "`goal`"}[form]
    assert goals not in _described(form, look)
    assert goals in _described(form, look, sub_plans=True)
    assert "coder" not in _described(form, look)
    assert "coder [" in _described(form, look, agents={"coder": lambda _: "x"})


@pytest.mark.parametrize("form", BOTH)
def test_the_classes_of_models_that_there_are_are_told_and_no_others(form: Form) -> None:
    described = describe_form(form, Toolbox([make_tool(look)]), model_classes=["fast"], sub_plans=False)
    assert "`fast` is quick" in described
    assert "strong" not in described
    assert "`fast`" not in _described(form, look)
