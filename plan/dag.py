"""Order a plan's steps: what waits for what, what can still run, how far the plan is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from graphlib import TopologicalSorter
from typing import Any

from ..state import Plan, RunStatus, Step, StepResult, is_satisfied, steps_of

__all__ = [
    "descendants",
    "is_called_for",
    "is_failure_handled",
    "is_released",
    "is_rolling",
    "next_round_is_due",
    "pending_steps",
    "remaining_path",
    "run_status",
    "topological_order",
]


def topological_order(steps: Sequence[Step]) -> list[Step]:
    """Order steps so that each follows its dependencies, otherwise as written.

    Steps that share an id stand together, after the dependencies of all of them.

    Raises:
        graphlib.CycleError: If there is no such order.
    """
    by_id: dict[str, list[Step]] = {}
    for step in steps:
        by_id.setdefault(step["id"], []).append(step)
    waits, after = dict.fromkeys(by_id, 0), dict[str, list[str]]()
    for step in steps:
        for dep in step.get("depends_on", ()):
            if dep in by_id:
                waits[step["id"]] += 1
                after.setdefault(dep, []).append(step["id"])
    order = [step_id for step_id in by_id if not waits[step_id]]
    for step_id in order:  # It grows.
        for later in after.get(step_id, ()):
            waits[later] -= 1
            if not waits[later]:
                order.append(later)
    if len(order) < len(by_id):
        TopologicalSorter(_needed(by_id)).prepare()  # It names the circle.
    return [step for step_id in order for step in by_id[step_id]]


def _needed(by_id: Mapping[str, Sequence[Step]]) -> dict[str, list[str]]:
    return {
        step_id: [dep for step in same for dep in step.get("depends_on", ()) if dep in by_id]
        for step_id, same in by_id.items()
    }


def descendants(steps: Sequence[Step], roots: Iterable[str]) -> set[str]:
    """Collect the ids of everything that depends on ``roots``, directly or not (without the roots)."""
    found: set[str] = set()
    reached = set(roots)
    for step in topological_order(steps):
        if reached.intersection(step.get("depends_on", ())):
            found.add(step["id"])
            reached.add(step["id"])
    return found


def pending_steps(plan: Plan, results: Mapping[str, StepResult]) -> list[Step]:
    """List the steps that can still run, in topological order.

    These are the steps without a result, and blocked steps whose dependencies have since succeeded.
    """
    ended = {step_id for step_id, result in results.items() if result["status"] != "blocked"}
    if ended >= {step["id"] for step in plan["steps"]}:
        return []
    pending: dict[str, Step] = {}
    for step in topological_order(plan["steps"]):
        result = results.get(step["id"])
        mended = (
            result is not None
            and result["status"] == "blocked"
            and all(dep in pending or is_released(step, dep, results.get(dep)) for dep in step["depends_on"])
        )
        if result is None or mended:
            pending[step["id"]] = step
    return list(pending.values())


def is_released(step: Step, dep: str, result: StepResult | None) -> bool:
    """Tell whether one of its dependencies lets a step run."""
    return result is not None if dep in step.get("if_failed", ()) else is_satisfied(result)


def is_called_for(step: Step, steps: Mapping[str, Step], results: Mapping[str, StepResult]) -> bool:
    """Tell whether ``else_of`` and ``if_failed`` let a step run, once the steps that they name have ended."""
    other, failed = step.get("else_of"), step.get("if_failed")
    if other and not _skipped_by_when(steps[other], steps, results):
        return False
    return not failed or any(_has_failed(results.get(one)) for one in failed)


def _skipped_by_when(step: Step, steps: Mapping[str, Step], results: Mapping[str, StepResult]) -> bool:
    """Tell whether a step was skipped by its own ``when``, and not by its ``else_of``."""
    result = results.get(step["id"])
    return result is not None and _skipped_by_condition(result) and is_called_for(step, steps, results)


def _has_failed(result: StepResult | None) -> bool:
    """Tell whether a step failed, was skipped because it failed, or could not run after a failure."""
    return result is not None and result["status"] != "done" and result["error"] is not None


def is_failure_handled(plan: Plan, step_id: str) -> bool:
    """Tell whether another step runs if this one fails."""
    return any(step_id in step.get("if_failed", ()) for step in plan["steps"])


def remaining_path(steps: Sequence[Step], seconds: Mapping[str, float]) -> dict[str, float]:
    """Compute, for each step, the longest path from its start to the end of the plan.

    Args:
        steps: The steps of an acyclic plan.
        seconds: Expected duration per step id; 1 for other steps.
    """
    length = {step["id"]: 0.0 for step in steps}
    for step in reversed(topological_order(steps)):
        length[step["id"]] += seconds.get(step["id"], 1.0)
        for dep in step.get("depends_on", ()):
            if dep in length:
                length[dep] = max(length[dep], length[step["id"]])
    return length


def is_rolling(plan: Mapping[str, Any] | None) -> bool:
    """Tell whether more steps will be planned when these are done (``complete: false``)."""
    return plan is not None and plan.get("complete", True) is False


def next_round_is_due(plan: Plan | None, results: Mapping[str, StepResult]) -> bool:
    """Tell whether to ask the planner for the next steps, because all steps so far have ended."""
    return plan is not None and is_rolling(plan) and not pending_steps(plan, results)


def run_status(plan: Plan | None, results: Mapping[str, StepResult], *, strict: bool = False) -> RunStatus:
    """Tell how a run ended: done, partial, or failed when no step is done.

    A step that was skipped by its ``when`` (no error) counts as done; one that was skipped because it failed
    does not. A plan that is not complete is never done. With ``strict``, a step whose result nobody could
    verify is not done.
    """
    ended = [step["id"] for step in steps_of(plan)]
    done = {i for i, r in results.items() if r["status"] == "done"}
    if strict:
        done = {i for i in done if results[i]["verdict"] != "unverified"}
    skipped = {i for i, r in results.items() if _skipped_by_condition(r)}
    fulfilled = done | skipped >= set(ended)
    if ended and fulfilled and not is_rolling(plan):
        return "done"
    return "partial" if done else "failed"


def _skipped_by_condition(result: StepResult) -> bool:
    return result["status"] == "skipped" and result["error"] is None
