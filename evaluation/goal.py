"""Whether the goal itself is reached: a plan's own criteria over what its steps have produced so far."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from ..errors import UnresolvedReferenceError
from ..plan.identity import input_values
from ..plan.references import expression_roots, step_references
from ..state import Criterion, Evidence, Plan, StepResult, steps_by_id
from ..storage.artifacts import ArtifactDamagedError
from ..tools.threads import run_bounded
from .criteria import Json, Judge, check_criteria, resolved_criteria

__all__ = ["GoalCheck", "check_goal", "done_results"]


class GoalCheck(NamedTuple):
    """Whether a plan's criteria for the goal are all met, and which, or what is missing."""

    met: bool
    reason: str


async def check_goal(
    plan: Plan,
    results: Mapping[str, StepResult],
    inputs: Mapping[str, Json] | None,
    make_judge: Callable[[Json, Sequence[Evidence]], Judge],
    mark: str,
    load: Callable[[Json, str], Awaitable[Json]],
) -> GoalCheck:
    """Check a plan's ``goal_criteria``; nothing is met before a step is done.

    Args:
        plan: The plan.
        results: Results so far.
        inputs: Values given for the plan's inputs.
        make_judge: Builds the judge of the outputs by step id; it is asked only when all else is met.
        mark: What quotes outputs in a judge's criterion.
        load: Returns the exact output that stands in a result, given that and the step's id.
    """
    done = done_results(plan, results)
    if not done:
        return GoalCheck(False, "no step is done")
    named = _named_by(plan.get("goal_criteria", []))
    try:
        outputs = {
            step_id: await load(result["output"], step_id)
            if named is None or step_id in named
            else result["output"]
            for step_id, result in done.items()
        }
        scope = {**outputs, "inputs": input_values(plan, inputs)}
        stated = plan.get("goal_criteria", [])
        criteria: list[Criterion] = await run_bounded(resolved_criteria, stated, scope, mark)
    except (UnresolvedReferenceError, ArtifactDamagedError) as error:
        return GoalCheck(False, str(error))
    evidence = [call for result in done.values() for call in result["evidence"]]
    outcomes = await check_criteria(criteria, scope, evidence, make_judge(outputs, evidence))
    missing = [outcome["gap"] for outcome in outcomes if outcome["passed"] is not True]
    return GoalCheck(not missing, "; ".join(missing or map(_named, criteria)))


def done_results(plan: Plan, results: Mapping[str, StepResult]) -> dict[str, StepResult]:
    """Pick the results of the plan's steps that are done."""
    ended = {step_id: results[step_id] for step_id in steps_by_id(plan) if step_id in results}
    return {step_id: result for step_id, result in ended.items() if result["status"] == "done"}


def _named_by(criteria: Sequence[Criterion]) -> set[str] | None:
    """Collect the steps whose outputs the criteria look at; None: all of them."""
    if any(criterion["type"] not in _SELECTIVE or "@" in str(criterion) for criterion in criteria):
        return None
    expressions = [criterion["expression"] for criterion in criteria if criterion["type"] == "expression"]
    expressions += [expression for _, expression in step_references({"success_criteria": criteria})]
    return {root for expression in expressions for root in expression_roots(expression)}


_SELECTIVE = {"expression", "tool_succeeded", "file_exists"}
"""Criteria that look at no more than what they name."""


def _named(criterion: Mapping[str, Json]) -> str:
    return " ".join(map(str, criterion.values()))
