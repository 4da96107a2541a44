"""Tell models what a step did: how it ended, its calls and its output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import UnresolvedReferenceError
from ..models.prompts.calls import describe_calls
from ..plan.identity import input_values
from ..plan.references import expression_roots, references_in, resolve, strings_in
from ..run import Run
from ..state import State, Step, StepResult, steps_by_id, steps_of
from ..storage.artifacts import ArtifactDamagedError
from ..tools.output_forms import is_telling, seen_form
from ..tools.texts import as_text, shortened
from ..tools.threads import run_bounded

__all__ = ["account_of", "forms_seen", "replaced_accounts", "with_items", "with_this_goal"]

Json = Any
_GOALS = 5
_ROOM = 4000
"""Characters for what an earlier goal of a thread has found."""


async def account_of(step: Step, result: StepResult | None, state: State, run: Run, room: int) -> str:
    """Describe how a step ended, which calls it made, and its output.

    Args:
        step: The step.
        result: Its result; None: it was not started.
        state: Holds the items of a loop.
        run: The run.
        room: Characters for the calls, and for the output.
    """
    if result is None:
        return "not started"
    lines = [_outcome(result, room)]
    if result["evidence"]:
        # A bound step's output is the result of its call.
        agent = "call" not in step
        lines.append(describe_calls(result["evidence"], room, already=lines[0], outputs=agent))
    if result["status"] == "done" or result["output"] is not None:
        lines.append(f"Output: {await _shown(step, result, state, run, room)}")
    return "\n".join(lines)


def _outcome(result: StepResult, room: int) -> str:
    if (error := result["error"]) is not None:
        return f"{result['status']}: {shortened(error['message'], room)}"
    if result["status"] != "done":
        return result["status"]
    gaps = [one["gap"] for one in result["criteria"] if one["passed"] is None]
    return ", ".join(["done", str(result["verdict"]), *gaps])


async def _shown(step: Step, result: StepResult, state: State, run: Run, room: int) -> str:
    try:
        output = await run.artifacts.value(result["output"], step["id"])
        shown = await with_items(step, output, state, state.get("results") or {}, run)
        return shortened(shown if shown is output else _listed(shown), room)
    except ArtifactDamagedError as error:
        return f"({error})"


def _listed(pairs: Sequence[Mapping[str, Json]]) -> str:
    """Write a loop's outputs as a list, without their items, so that a planner sees what is in it."""
    lines = "\n".join(f"{as_text(pair['item'])} -> {as_text(pair['output'])}" for pair in pairs)
    return f"a list, each output behind its item:\n{lines}"


async def with_items(
    step: Step, output: Json, state: State, results: Mapping[str, StepResult], run: Run
) -> Json:
    """Return a loop's list with each output next to its item; any other output unchanged."""
    if "for_each" not in step or not isinstance(output, list):
        return output
    texts = strings_in(step["for_each"])
    roots = {
        root for text in texts for found in references_in(text) for root in expression_roots(found.expression)
    }
    try:
        values = {i: await run.artifacts.value(results[i]["output"], i) for i in roots & set(results)}
        values["inputs"] = input_values(state.get("plan") or {}, state.get("inputs"))
        items = await run_bounded(resolve, step["for_each"], values)
    except (UnresolvedReferenceError, ArtifactDamagedError):
        return output
    if not isinstance(items, list) or len(items) != len(output):
        return output
    return [{"item": item, "output": one} for item, one in zip(items, output, strict=True)]


async def replaced_accounts(state: State, run: Run, room: int) -> list[str]:
    """Describe the writes of steps that a revision removed, because they still stand."""
    steps, results = steps_by_id(state.get("plan")), state.get("results") or {}
    wrote = {
        i: result
        for i, result in results.items()
        if i not in steps and any(call["ok"] and call["effect"] != "read" for call in result["evidence"])
    }
    return [
        f"[{i}] (no longer in the plan): {await account_of({'id': i}, result, state, run, room)}"
        for i, result in wrote.items()
    ]


async def with_this_goal(state: State, run: Run) -> list[dict[str, str]]:
    """Return what the thread's goals have found, this one last."""
    plan, results = state.get("plan"), state.get("results") or {}
    if plan is None or not results:
        return list(state.get("earlier") or ())
    before = [goal for goal in state.get("earlier") or () if goal["plan_id"] != plan["id"]]
    room = max(100, _ROOM // (2 * len(results)))
    found = [
        f"[{step['id']}] {await account_of(step, results[step['id']], state, run, room)}"
        for step in plan["steps"]
        if step["id"] in results
    ]
    found += await replaced_accounts(state, run, room)
    this = {"plan_id": plan["id"], "goal": state.get("goal") or "", "found": "\n".join(found)}
    return [*before, {**this, "found": shortened(this["found"], _ROOM)}][-_GOALS:]


async def forms_seen(state: State, run: Run) -> dict[str, dict[str, Any]]:
    """Return the output form of each tool in bound steps; leave out forms that say nothing."""
    results, forms = state.get("results") or {}, dict[str, dict[str, Any]]()
    for step in steps_of(state.get("plan")):
        result = results.get(step["id"])
        if "call" not in step or result is None or result["status"] != "done":
            continue
        try:
            output = await run.artifacts.value(result["output"], step["id"])
        except ArtifactDamagedError:
            continue  # Whoever needs the output gets the error.
        found = seen_form(_an_output(step, output))
        if is_telling(found):
            forms[step["call"]["tool"]] = found
    return forms


def _an_output(step: Step, output: Json) -> Json:
    """Return the output of one call; for a loop, the first output."""
    if "for_each" not in step or not isinstance(output, list):
        return output
    return next((one for one in output if one is not None), None)
