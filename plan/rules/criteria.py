"""Whether criteria of steps and of the goal can be checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ...errors import known
from ...safety.patterns import PatternError, compile_pattern
from ...state import (
    CRITERION_PARAMETER,
    GOAL_CRITERIA,
    Criterion,
    Plan,
    PlanIssue,
    Step,
    granted_tools,
    steps_by_id,
)
from ...tools.toolbox import Toolbox
from ..references import BadReferenceError, expression_roots, looks_at_everything, step_references
from ..schemas import schema_problem
from .facts import PlanFacts, Rule, issue
from .references import holds_reference, reference_problem

__all__ = ["RULES"]


def _criteria(plan: Plan, _: PlanFacts) -> Iterator[PlanIssue]:
    for step in plan["steps"]:
        if (schema := step.get("output_schema")) is not None and (problem := schema_problem(schema)):
            message = f"step {step['id']!r}: output_schema {problem}"
            yield issue("bad_schema", step, message, "output_schema")
        for at, criterion in enumerate(step.get("success_criteria", ())):
            if found := _criterion_problem(step, criterion):
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


def _criterion_problem(step: Step, criterion: Criterion) -> tuple[str, str] | None:
    wanted = CRITERION_PARAMETER[criterion["type"]]
    given = set(criterion) - {"type"}
    if given != ({wanted} if wanted else set()):
        return "bad_criterion", f"takes {wanted or 'no parameter'}, got {known(given)}"
    value = criterion.get(wanted) if wanted else None
    if isinstance(value, str) and not value.strip():
        return "bad_criterion", f"its {wanted} is empty, so that nothing could decide it"
    if criterion["type"] == "matches" and (problem := _pattern_problem(criterion["pattern"])):
        return "bad_criterion", problem
    if criterion["type"] == "json_schema" and (problem := schema_problem(criterion["schema"])):
        return "bad_schema", problem
    if criterion["type"] == "expression" and (found := _expression_problem(criterion["expression"])):
        return found
    if criterion["type"] == "tool_succeeded" and value not in granted_tools(step):
        return (
            "bad_criterion",
            f"the step does not use the tool {value!r}; its tools: {known(granted_tools(step))}",
        )
    return None


def _goal_problem(criterion: Criterion, toolbox: Toolbox) -> tuple[str, str] | None:
    """Hold a criterion of the goal against all tools, as it says something about all steps together."""
    if criterion["type"] not in GOAL_CRITERIA:
        return "bad_criterion", f"it says nothing about a goal; those that do: {known(GOAL_CRITERIA)}"
    tools = [*toolbox.names, *([tool] if (tool := criterion.get("tool")) and tool in toolbox else [])]
    return _criterion_problem({"id": "goal", "tools": tools}, criterion)


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


def _pattern_problem(pattern: str) -> str | None:
    if holds_reference(pattern) or "${" in pattern:
        return None
    try:
        compile_pattern(pattern)
    except PatternError as error:
        return f"{pattern[:200]!r} is not a regular expression: {error}"
    return None


def _expression_problem(expression: str) -> tuple[str, str] | None:
    try:
        looks_at_output = expression_roots(expression) or looks_at_everything(expression)
    except BadReferenceError as error:
        return error.code, str(error)
    if not looks_at_output:
        return "bad_criterion", f"{expression[:80]!r} looks at nothing of the output, and so decides nothing"
    return None


RULES: tuple[Rule, ...] = (_criteria, _goal_criteria)
