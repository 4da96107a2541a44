"""Check what keeps a plan from running: small pure rules, one module per subject.

A plan is first checked against its format, then normalised (dependencies from references are added), and then
checked by every rule. A message names the step, the offending value and what would have been accepted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...safety.work import Work, current_work, within
from ...state import Plan, PlanIssue
from . import conflicts, criteria, inputs, order, references, revisions, secrets, tools_and_models
from .facts import PlanFacts, Rule
from .form import form_issues, normalised
from .implied import with_implied_dependencies
from .order import is_ordered
from .types import type_issues

__all__ = ["PlanFacts", "validate_plan"]


_WORK_A_STEP, _MOST_COUNTED = 100, 10_000
"""Estimated work per step without schemas and patterns: long plans are not checked on an event loop."""


def validate_plan(raw: Any, facts: PlanFacts) -> tuple[Plan | None, list[PlanIssue]]:
    """Check a plan from any source and normalise it.

    This may take some time: on an event loop, call it through ``run_bounded``.

    Returns:
        The normalised plan (None if it does not even have the right form), and its issues;
        the plan can run when there are none.
    """
    return within(Work.of_a_plan(), _validated, raw, facts)


def _validated(raw: Any, facts: PlanFacts) -> tuple[Plan | None, list[PlanIssue]]:
    if issues := list(form_issues(raw)):
        return None, issues
    current_work().spend(_WORK_A_STEP * min(len(raw["steps"]), _MOST_COUNTED))
    plan = normalised(raw, facts)
    issues = [issue for rule in _RULES for issue in rule(plan, facts)]
    if not issues or is_ordered(plan):
        plan, implied = with_implied_dependencies(plan)
        issues += implied
    if not issues:
        issues = [issue for rule in _RULES_ON_ORDER for issue in rule(plan, facts)]
    return plan, issues


def _types(plan: Plan, facts: PlanFacts) -> Iterator[PlanIssue]:
    yield from type_issues(plan, facts.toolbox)


_RULES: tuple[Rule, ...] = (
    *order.RULES,
    *tools_and_models.RULES,
    *criteria.RULES,
    *references.RULES,
    *inputs.RULES,
    *secrets.RULES,
)
"""Rules on any plan."""

_RULES_ON_ORDER: tuple[Rule, ...] = (*revisions.RULES, _types, *conflicts.RULES)
"""Rules for plans whose order is known, and which have no other issue."""
