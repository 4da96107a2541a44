"""Whether criteria of steps and of the goal can be checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ...errors import known
from ...state import (
    GOAL_CRITERIA,
    Criterion,
    Plan,
    PlanIssue,
    steps_by_id,
)
from ...tools.toolbox import Toolbox
from ..criteria import kind_of
from ..references import BadReferenceError, step_references
from ..schemas import schema_problem
from .facts import PlanFacts, Rule, issue
from .references import reference_problem

__all__ = ["RULES"]


def _criteria(plan: Plan, _: PlanFacts) -> Iterator[PlanIssue]:
    for step in plan["steps"]:
        if (schema := step.get("output_schema")) is not None and (problem := schema_problem(schema)):
            message = f"step {step['id']!r}: output_schema {problem}"
            yield issue("bad_schema", step, message, "output_schema")
        for at, criterion in enumerate(step.get("success_criteria", ())):
            if found := kind_of(criterion).problem(criterion, step):
                message = f"step {step['id']!r}, criterion {criterion['type']!r}: {found[1]}"
                yield issue(found[0], step, message, "success_criteria", at)


def _goal_criteria(plan: Plan, facts: PlanFacts) -> Iterator[PlanIssue]:
    for at, criterion in enumerate(plan.get("goal_criteria", ())):
        problems = [
            _goal_problem(criterion, facts.toolbox),
            *_goal_reference_problems(criterion, plan, facts),
        ]
        if found := next((problem for problem in problems if problem), None):
            message = f"goal_criteria, {criterion['type']!r}: {found[1]}"
            yield issue(found[0], None, message, "goal_criteria", at)


def _goal_problem(criterion: Criterion, toolbox: Toolbox) -> tuple[str, str] | None:
    """Hold a criterion of the goal against all tools, as it says something about all steps together."""
    if criterion["type"] not in GOAL_CRITERIA:
        return "bad_criterion", f"it says nothing about a goal; those that do: {known(GOAL_CRITERIA)}"
    tools = [*toolbox.names, *([tool] if (tool := criterion.get("tool")) and tool in toolbox else [])]
    return kind_of(criterion).problem(criterion, {"id": "goal", "tools": tools})


def _goal_reference_problems(
    criterion: Criterion, plan: Plan, facts: PlanFacts
) -> Iterator[tuple[str, str] | None]:
    previous: Mapping[str, Any] = facts.previous or {}
    if previous.get("goal_criteria") == plan.get("goal_criteria"):
        return  # a revision may have replaced a step that they name, and its author cannot change them
    names, inputs = {*steps_by_id(plan), "inputs"}, {*plan["inputs"], *facts.inputs}
    try:
        uses = [expression for _, expression in step_references({"success_criteria": [criterion]})]
    except BadReferenceError as error:
        yield error.code, str(error)
        return
    for expression in uses:
        yield reference_problem(expression, names, inputs)
    if "expression" in criterion:
        yield reference_problem(criterion["expression"], names, inputs, may_be_constant=True)


RULES: tuple[Rule, ...] = (_criteria, _goal_criteria)
