"""Add the dependencies that references imply."""

from __future__ import annotations

from collections.abc import Mapping

from ...state import Plan, PlanIssue, Step, steps_by_id
from ..references import BadReferenceError, expression_roots, step_references
from .facts import issue

__all__ = ["with_implied_dependencies"]


def with_implied_dependencies(plan: Plan) -> tuple[Plan, list[PlanIssue]]:
    """Make each step depend on the steps that it refers to, and report circles."""
    ids = steps_by_id(plan)
    issues: list[PlanIssue] = []
    for step_id in list(ids):
        for used in _used_steps(ids[step_id], ids):
            if used in ids[step_id]["depends_on"]:
                continue
            if _needs(ids, used, step_id):
                message = f"step {step_id!r} refers to {used!r}, which itself needs the output of {step_id!r}"
                issues.append(issue("reference_not_a_dependency", ids[step_id], message))
                continue
            ids[step_id] = {**ids[step_id], "depends_on": [*ids[step_id]["depends_on"], used]}
    return {**plan, "steps": list(ids.values())}, issues


def _needs(ids: Mapping[str, Step], step_id: str, other: str) -> bool:
    """Tell whether a step is ``other``, or depends on it directly or not."""
    seen, reached = set(), [step_id]
    while reached:
        current = reached.pop()
        if current == other:
            return True
        if current not in seen:
            seen.add(current)
            reached += ids[current]["depends_on"]
    return False


def _used_steps(step: Step, ids: Mapping[str, Step]) -> list[str]:
    try:
        roots = [
            root for _, expression in step_references(step) for root in sorted(expression_roots(expression))
        ]
    except BadReferenceError:
        return []
    named = [*roots, *(step.get("if_failed") or ()), *filter(None, [step.get("else_of")])]
    return [root for root in dict.fromkeys(named) if root in ids]
