"""Find steps that use unchecked output, so that a person sees it before a write does."""

from __future__ import annotations

from collections.abc import Mapping

from ..state import Plan, Step, steps_by_id
from .references import expression_roots, step_references

__all__ = ["outputs_used", "unverified_sources"]


def unverified_sources(plan: Plan) -> Mapping[str, list[str]]:
    """Return, for each step, the unchecked steps whose output it uses directly or indirectly."""
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
    """List the steps whose outputs a step gets; an agent sees all its dependencies."""
    named = {root for _, expression in step_references(step) for root in expression_roots(expression)}
    return named.union(step["depends_on"]) if "tools" in step or "agent" in step else named


def _is_unchecked(step: Step) -> bool:
    by_a_model = "tools" in step or "agent" in step or "plan" in step
    return by_a_model and not (step.get("success_criteria") or "output_schema" in step)
