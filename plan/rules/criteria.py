"""Check whether the criteria of steps can be checked."""

from __future__ import annotations

from collections.abc import Iterator

from ...state import Plan, PlanIssue
from ..criteria import kind_of
from ..schemas import schema_problem
from .facts import PlanFacts, Rule, issue

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


RULES: tuple[Rule, ...] = (_criteria,)
