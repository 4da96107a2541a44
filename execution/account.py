"""Say of a step what it did: how it ended, its calls, its output; for models that go on from there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import UnresolvedReferenceError
from ..models.prompts.calls import describe_calls
from ..plan.identity import input_values
from ..plan.references import expression_roots, references_in, resolve, strings_in
from ..run import Run
from ..state import State, Step, StepResult, steps_by_id
from ..storage.artifacts import ArtifactDamagedError
from ..tools.calls import shortened
from ..tools.threads import run_bounded

__all__ = ["account_of", "calls_and_outputs", "with_items"]

Json = Any
_GOALS = 5
_ROOM = 4000
"""Characters of what an earlier goal of a thread has found."""


async def account_of(step: Step, result: StepResult | None, state: State, run: Run, room: int) -> str:
    """Say how a step ended, which calls it made, and what it gave.

    Args:
        step: The step.
        result: Its result; None: it was not started.
        state: For the items that a loop ran over.
        run: The run.
        room: Characters for the calls, and for the output.
    """
    if result is None:
        return "not started"
    lines = [_outcome(result, room)]
    if result["evidence"]:
        # A bound step's output is what its call gave.
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
        return shortened(await with_items(step, output, state, state.get("results") or {}, run), room)
    except ArtifactDamagedError as error:
        return f"({error})"


async def with_items(
    step: Step, output: Json, state: State, results: Mapping[str, StepResult], run: Run
) -> Json:
    """Return a loop's list with each output beside its item; any other output as it is."""
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


async def calls_and_outputs(state: State, run: Run) -> list[dict[str, str]]:
    """Return what the goals of a thread so far have found, the last of them with the state's results."""
    results, earlier = state.get("results") or {}, list(state.get("earlier") or ())
    if not results:
        return earlier
    steps = steps_by_id(state.get("plan"))
    room = _ROOM // (2 * len(results))
    found = [
        f"[{i}] {await account_of(steps.get(i) or {'id': i}, result, state, run, max(100, room))}"
        for i, result in results.items()
    ]
    plan = state.get("plan")
    goal = plan.get("goal", "") if plan else ""
    return [*earlier, {"goal": goal, "found": shortened("\n".join(found), _ROOM)}][-_GOALS:]
