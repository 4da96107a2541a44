"""Make a call with an effect at most once, over any number of crashes.

The intent is committed to the ledger, then the call is made, then its outcome is
committed. On re-entry a known outcome is used; an intent without an outcome means
that nobody knows whether the write happened, and a person is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from langgraph.errors import GraphBubbleUp

from ..errors import BudgetExceededError, StepError, ToolFailedError
from ..questions import RUNNER_STOPPED, may_still_run
from ..run import StepScope, ask_person
from ..safe_markdown import code_span
from ..state import Effect, digest
from ..storage.ledger import EffectKey, EffectRecord
from ..tools.calls import abridged, preview
from .answers import AnswersInHand

__all__ = ["call_once"]

Json = Any


async def call_once(
    scope: StepScope,
    tool: str,
    args: Mapping[str, Json],
    call_id: str,
    effect: Effect,
    call: Callable[[str], Awaitable[Json]],
) -> Json:
    """Await ``call(idempotency_key)`` and return its JSON output; unless it reads, the ledger protects it.

    Raises:
        StepError: What the call raised, now or when it was made.
        langgraph.errors.GraphInterrupt: While a person is being asked about an unknown outcome.
    """
    ledger, artifacts = scope.run.ledger, scope.run.artifacts
    recorded = abridged(args, scope.run.settings.max_inline_bytes)
    # The content is part of the key: in a fork, the same step may have been edited to call something else.
    content = digest([tool, dict(args)])[:16]
    key = ledger.effect_key(
        scope.plan_id, scope.step_id, attempt=scope.attempt, item=scope.item, call=f"{call_id}/{content}"
    )
    if effect == "read":
        return await call(key.idempotency_key)
    record, answers = await ledger.effect(key), AnswersInHand()
    before = answers.taken
    if record is not None and record.outcome is not None:
        if record.answers:
            answers.skip_to(before + record.answers)
        exact = await artifacts.value(record.outcome["output"], scope.step_id)
        return _told(record.outcome | {"output": exact})
    if record is not None and record.question is not None:
        # Whoever is still waiting is not called again only to ask again.
        answers.require(record.question)
    if effect == "write":
        for _ in range(await _open_questions(scope, key, record, answers)):
            former = await ledger.lost_runner()
            if (outcome := _resolve_unknown(scope, tool, recorded, former)) is not None:
                if record is None:
                    await ledger.begin_effect(key, tool, recorded)
                await _finish(scope, key, outcome, answers.taken - before)
                return _told(outcome)
    # Whoever has a write made again has said of every earlier start that it did not happen.
    return await _log_effect(scope, key, tool, recorded, call, before, settled=effect == "write")


async def _open_questions(
    scope: StepScope, key: EffectKey, record: EffectRecord | None, answers: AnswersInHand
) -> int:
    """Count the questions about a write that may have happened, and skip answers to other ones.

    An old "run it again" says nothing about the call it led to, so every start has its own question:
    the answer to it has the position after all that were in hand at the start. A parent graph keeps a
    bare answer and hands it out again after a crash (langgraph 1.2.22); there the questions are repeated.
    """
    if record is None:
        return int(scope.doubtful)
    if scope.run.nested or not record.starts:
        return record.starts
    position = max(record.position, answers.taken)
    if position > len(answers) >= answers.taken:
        # Some went down with the process before anything kept them.
        position = len(answers)
        await scope.run.ledger.move_effect(key, position)
    if position > answers.taken:
        answers.skip_to(position)
    # Where its answer is in hand the question takes it, or the next one would get it.
    return 0 if record.starts <= record.settled and len(answers) <= position else 1


async def _log_effect(
    scope: StepScope,
    key: EffectKey,
    tool: str,
    args: dict[str, Json],
    call: Callable[[str], Awaitable[Json]],
    before: int,
    *,
    settled: bool,
) -> Json:
    """Commit the intent, make the call, commit the outcome; ``before`` answers were for other questions."""
    ledger, answers = scope.run.ledger, AnswersInHand()
    with scope.write():
        await ledger.begin_effect(key, tool, args, position=len(answers))
        try:
            output = await call(key.idempotency_key)
        except StepError as error:
            failed = {"ok": False, "output": None, "error": str(error)}
            await asyncio.shield(_finish(scope, key, failed, answers.taken - before))
            raise
        except BudgetExceededError:
            # There was no room for the call, so it was not made.
            await asyncio.shield(ledger.retract_effect(key, settled=settled))
            raise
        except GraphBubbleUp as stop:
            # The tool itself asks a person: once there is an answer it is called anew, and gets it.
            question = None if scope.run.nested else answers.question_of(stop)
            await asyncio.shield(ledger.retract_effect(key, question))
            raise
        # A cancellation here must not leave a finished write without its outcome.
        made = {"ok": True, "output": output, "error": None}
        await asyncio.shield(_finish(scope, key, made, answers.taken - before))
        return output


async def _finish(scope: StepScope, key: EffectKey, outcome: dict[str, Json], answers: int) -> None:
    """Put the outcome on record; a large output is in the store before the record refers to it."""
    kept = await scope.run.artifacts.put_away(outcome["output"])
    await scope.run.ledger.finish_effect(key, outcome | {"output": kept}, answers=answers)


def _told(outcome: Mapping[str, Json]) -> Json:
    if not outcome["ok"]:
        raise ToolFailedError(str(outcome["error"]))
    return outcome["output"]


def _resolve_unknown(
    scope: StepScope, tool: str, args: Mapping[str, Json], former: Mapping[str, Any] | None
) -> dict[str, Json] | None:
    """Ask what became of a write; None means: run it again.

    Args:
        scope: The step.
        tool: What was called.
        args: With what.
        former: Who ran the thread before and may still be alive.
    """
    proposal: dict[str, Any] = {
        "step_id": scope.step_id,
        "tool": tool,
        "tool_args": dict(args),
        "decision": "fail",
        "output": None,
    }
    item = "" if scope.item is None else f" (item {scope.item})"
    call = code_span(f"{tool}({preview(dict(args), 500)})")
    description = (
        f"The run stopped while step **{scope.step_id}**{item} was calling {call}, "
        "and nobody recorded how that ended. Look whether it happened, then decide:\n"
        "- `happened`: it did; give its output\n- `run_again`: it did not; call it again\n"
        "- `fail`: let the step fail"
    )
    told: dict[str, Any] = {}
    if former is not None:
        proposal[RUNNER_STOPPED] = False
        description += f"\n\n{may_still_run(former)}"
        told["former_runner"] = dict(former)
    answer = ask_person(
        scope.run, "resolve_unknown_outcome", proposal, description, step_id=scope.step_id, **told
    )
    if answer["decision"] == "run_again":
        return None
    if answer["decision"] == "happened":
        return {"ok": True, "output": answer["args"].get("output"), "error": None}
    reason = answer["message"] or "a person decided that it counts as failed"
    return {"ok": False, "output": None, "error": f"{tool}: outcome unknown after a crash; {reason}"}
