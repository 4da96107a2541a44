"""Check whether the steps can be ordered: their number, their ids, their dependencies."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError
from typing import Any

from ...errors import known
from ...state import RESERVED_IDS, STEP_ID_PATTERN, Plan, PlanIssue, steps_by_id
from ..dag import topological_order
from .facts import PlanFacts, Rule, issue

__all__ = ["RULES", "is_ordered"]


def _size(plan: Plan, facts: PlanFacts) -> Iterator[PlanIssue]:
    if not plan["steps"]:
        yield issue("empty_plan", None, "the plan has no steps", "steps")
    if len(plan["steps"]) > facts.step_limit:
        yield issue(
            "too_many_steps",
            None,
            f"the plan has {len(plan['steps'])} steps; max_steps allows {facts.step_limit}",
            "steps",
        )


def _ids(plan: Plan, _: PlanFacts) -> Iterator[PlanIssue]:
    for step_id, times in Counter(step["id"] for step in plan["steps"]).items():
        if times > 1:
            yield issue("duplicate_id", {"id": step_id}, f"{times} steps have the id {step_id!r}", "id")
    for step in plan["steps"]:
        if step["id"] in RESERVED_IDS:
            message = f"{step['id']!r} is reserved; reserved words: {known(RESERVED_IDS)}"
            yield issue("bad_id", step, message, "id")
        elif not re.fullmatch(STEP_ID_PATTERN, step["id"]):
            message = f"{step['id']!r} is not a step id; it must match {STEP_ID_PATTERN}"
            yield issue("bad_id", step, message, "id")


def _dependencies(plan: Plan, _: PlanFacts) -> Iterator[PlanIssue]:
    ids = steps_by_id(plan)
    for step in plan["steps"]:
        for at, dep in enumerate(step["depends_on"]):
            if dep == step["id"]:
                yield issue("self_dependency", step, f"step {dep!r} depends on itself", "depends_on", at)
            elif dep not in ids:
                yield issue(
                    "unknown_dependency",
                    step,
                    f"step {step['id']!r} depends on {dep!r}; known steps: {known(ids, given=dep)}",
                    "depends_on",
                    at,
                )


def _branches(plan: Plan, _: PlanFacts) -> Iterator[PlanIssue]:
    """Check the steps that ``else_of`` and ``if_failed`` name."""
    ids = steps_by_id(plan)
    for step in plan["steps"]:
        other, failed = step.get("else_of"), step.get("if_failed") or []
        named = [("else_of", other, ("else_of",))] if other else []
        named += [("if_failed", one, ("if_failed", at)) for at, one in enumerate(failed)]  # type: ignore[misc]
        for field, one, place in named:
            if one == step["id"]:
                yield issue("self_dependency", step, f"step {one!r}: {field} names the step itself", *place)
            elif one not in ids:
                message = f"step {step['id']!r}: {field} names {one!r}; known steps: {known(ids, given=one)}"
                yield issue("unknown_dependency", step, message, *place)
        if other in ids and other != step["id"] and "when" not in ids[other]:
            message = (
                f"step {step['id']!r}: else_of names {other!r}, which has no when, so no condition can "
                f"skip it; steps with a when: {known(one for one in ids if 'when' in ids[one])}"
            )
            yield issue("bad_reference", step, message, "else_of")


def _cycles(plan: Plan, _: PlanFacts) -> Iterator[PlanIssue]:
    without_loops: list[Any] = [
        {**step, "depends_on": [d for d in step["depends_on"] if d != step["id"]]} for step in plan["steps"]
    ]
    try:
        topological_order(without_loops)
    except CycleError as error:
        path = list(reversed(error.args[1]))
        message = f"steps depend on each other in a circle: {' -> '.join(path)}"
        at = next(
            step["depends_on"].index(path[1])
            for step in without_loops
            if step["id"] == path[0] and path[1] in step["depends_on"]
        )
        yield issue("cycle", {"id": path[0]}, message, "depends_on", at)


def is_ordered(plan: Plan) -> bool:
    """Tell whether ids and dependencies allow an order in which steps can run."""
    facts: Any = None
    return not any(True for rule in (_ids, _dependencies, _cycles) for _ in rule(plan, facts))


RULES: tuple[Rule, ...] = (_size, _ids, _dependencies, _branches, _cycles)
