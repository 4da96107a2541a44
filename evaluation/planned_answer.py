"""Use the answer that a plan contains, if it claims no more than was found and checked."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..errors import UnresolvedReferenceError
from ..plan.criteria import is_empty
from ..plan.identity import input_values
from ..plan.references import (
    BadReferenceError,
    Reference,
    fill,
    is_single_reference,
    render,
    roots_in,
)
from ..plan.trust import outputs_used
from ..run import Run
from ..safety.expressions import clock_at
from ..state import Plan, State, accepted_at, steps_by_id
from ..tools.threads import run_bounded

__all__ = ["handed_in", "planned_answer"]

Json = Any

_LONGEST_ANSWER = 100_000
"""Characters. A longer output stays in the results, and a model describes it."""


class PlannedAnswer(NamedTuple):
    """The filled-in answer, or why it is not used; neither if the plan contains none."""

    text: str | None = None
    why_not: str = ""


async def planned_answer(state: State, run: Run) -> PlannedAnswer:
    """Fill in the plan's own answer, unless it could claim more than was found and checked."""
    plan, results = state.get("plan"), state.get("results") or {}
    answer = plan.get("answer") if plan else None
    if plan is None or not isinstance(answer, str) or not answer:
        return PlannedAnswer()
    try:
        if why_not := await _why_not_used(plan, answer, state, run):
            return PlannedAnswer(None, why_not)
        scope = {
            i: await run.artifacts.value(results[i]["output"], i) for i in roots_in(answer) & set(results)
        }
        values = {**scope, "inputs": input_values(plan, state.get("inputs"))}
        with clock_at(accepted_at(state)):
            filled = await run_bounded(fill, answer, values, _in_words)
    except (BadReferenceError, UnresolvedReferenceError) as error:
        return PlannedAnswer(None, str(error))
    if len(filled) > _LONGEST_ANSWER:
        return PlannedAnswer(None, f"it has {len(filled):,} characters, and {_LONGEST_ANSWER:,} is the limit")
    return PlannedAnswer(filled)


def _was_changed_by_hand(state: State) -> bool:
    """Tell whether a person changed a step, so that the planned answer may be wrong about it."""
    plan = state.get("plan")
    return any(
        plan and event.get("plan_id") == plan["id"] and event.get("trigger") == "approve_step: edit"
        for event in state.get("audit") or ()
    )


async def _why_not_used(plan: Plan, answer: str, state: State, run: Run) -> str:
    """Say why the answer could claim more than was found or checked; "" if it could not.

    The answer was written before anything was known. It may say that something was changed, or say anything
    without showing an output ("all tests pass"), only if that was checked. A model that does not use
    references may have guessed. So a model's answer that shows no output is not used for what was looked up.
    """
    if _was_changed_by_hand(state):
        return "a person changed a step before it ran"
    steps, results = plan["steps"], state.get("results") or {}
    # A single reference adds no words of its own.
    alone, shown = is_single_reference(answer), _shown_by(plan, roots_in(answer))
    guessed = not shown and handed_in(state) is None
    for step in steps:
        result, name = results.get(step["id"]), f"step {step['id']!r}"
        if result is None or (result["status"], result["verdict"]) != ("done", "met"):
            how = "did not run" if result is None else f"is {result['verdict'] or result['status']}"
            return f"{name} {how}"
        changes = [call for call in result["evidence"] if call["effect"] != "read"]
        if changes and not step.get("success_criteria"):
            # A fitting output form does not prove that anything was done.
            return f"{name} changes something and has no success criterion"
        if not all(call["ok"] for call in changes):
            return f"{name} made a call that failed and may have changed something"
        untold = step["id"] not in shown and not alone
        if untold and not result["criteria"]:
            return f"{name} has no success criterion, and the answer does not show its output"
        if untold and guessed and not changes:
            return f"a planner wrote it, and it does not show what {name} found"
        if "for_each" in step and any(map(is_empty, await run.artifacts.value(result["output"], step["id"]))):
            # The loop's verdict covers all items together.
            return f"an item of {name} found nothing"
    return ""


def _shown_by(plan: Plan, named: set[str]) -> set[str]:
    """Collect the steps whose outputs an answer shows: those it names, and those that they use."""
    steps, shown, found = steps_by_id(plan), set[str](), named
    while found := (found & set(steps)) - shown:
        shown |= found
        found = set[str]().union(*(outputs_used(steps[step_id]) for step_id in found))
    return shown


def _in_words(reference: Reference, value: Json) -> str:
    if value is None:
        raise UnresolvedReferenceError(f"${{{reference.expression}}} is null, which is not an answer")
    return render(value)


def handed_in(state: State) -> Plan | None:
    """Return the plan if a person or the caller wrote its current revision."""
    plan = state.get("plan")
    written_by = {
        event.get("trigger")
        for event in state.get("audit") or []
        if plan
        and event["event"] == "plan_accepted"
        and (event.get("plan_id"), event.get("revision")) == (plan.get("id"), plan.get("revision"))
    }
    return plan if written_by & {"given", "person"} else None
