"""Which steps use what nobody checks: a person sees it before a write does."""

from __future__ import annotations

from collections.abc import Mapping

from ..state import Plan, Step, steps_by_id
from .references import expression_roots, step_references

__all__ = ["outputs_used", "unverified_sources"]


def unverified_sources(plan: Plan) -> Mapping[str, list[str]]:
    """Return the steps whose output each step uses, itself or through others, and that nothing checks."""
    steps = steps_by_id(plan)
    found: dict[str, list[str]] = {}
    for step_id, step in steps.items():
        reached, ahead = set[str](), outputs_used(step) & steps.keys()
        while ahead:
            reached |= ahead
            ahead = set[str]().union(*(outputs_used(steps[name]) for name in ahead)) & steps.keys() - reached
        found[step_id] = sorted(name for name in reached if _is_unchecked(steps[name]))
    return found


def outputs_used(step: Step) -> set[str]:
    """Name the steps whose outputs a step is given; an agent sees all that it depends on."""
    named = {root for _, expression in step_references(step) for root in expression_roots(expression)}
    return named.union(step["depends_on"]) if "tools" in step or "agent" in step else named


def _is_unchecked(step: Step) -> bool:
    by_a_model = "tools" in step or "agent" in step or "plan" in step
    return by_a_model and not (step.get("success_criteria") or "output_schema" in step)
