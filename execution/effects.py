"""Make a call with an effect at most once, over any number of crashes.

The intent is committed to the ledger, then the call is made, then its outcome is committed. On re-entry a
known outcome is used. If an intent has no outcome, nobody knows whether the write happened, and a person is
asked. A person is also asked before other work repeats a write that has happened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from langgraph.errors import GraphBubbleUp, GraphInterrupt, is_invalid_resume
from pydantic import ValidationError

from ..errors import BudgetExceededError, RepeatedCallError, StepError, ToolFailedError
from ..people.asking import ask_person, note_uses
from ..people.deciders import use_of_call
from ..people.plan_text import call_in_words
from ..people.questions import RUNNER_STOPPED, may_still_run
from ..run import CALL_UNDER_WAY, CallUnderWay, Run, StepScope
from ..safety.markdown import code_span, plain_line
from ..state import By, Effect, digest
from ..storage.effect_log import EffectRecord
from ..storage.ids import CallId
from ..tools.caller import CALLER
from ..tools.calls import abridged
from ..tools.texts import preview, shortened
from ..tools.threads import ABOUT, goes_on, is_being_cancelled
from .asking_calls import CallerOfTool
from .repeats import doubts_about_step, repeated_calls

__all__ = ["call_once", "content_of", "describe_doubt", "settle_doubts", "settle_doubts_of_step"]

Json = Any
Outcome = dict[str, Json]
"""``{"ok", "output", "error"}``; ``"unknown": True`` if it counts as failed but may have happened."""


def content_of(tool: str, args: Mapping[str, Json]) -> str:
    """Return the fingerprint of a tool and its arguments."""
    return digest([tool, dict(args)])[:16]


async def call_once(
    scope: StepScope,
    tool: str,
    args: Mapping[str, Json],
    effect: Effect,
    call: Callable[[CallId], Awaitable[Json]],
    *,
    tell: Callable[[], None],
    order: int | None = None,
    instead_of: str = "",
    call_id: str = "",
) -> Json:
    """Await ``call`` and return its JSON output; the ledger protects every call that is not a read.

    Args:
        scope: The attempt that makes the call.
        tool: The tool's name.
        args: Its arguments.
        effect: What it does to the world.
        call: Makes the call; it gets the call's identity.
        tell: Sends the event of the call; called when nothing has to be asked about it any more.
        order: Number of this call among the agent's calls with the same content; None: the step's own.
        instead_of: Fingerprint of the agent's own request, if somebody changed it.
        call_id: The call's id in events.

    Raises:
        StepError: If the call raised, now or in an earlier run.
        langgraph.errors.GraphInterrupt: While a person is being asked about an unknown outcome.
    """
    # The content is part of the identity, because a fork may have edited the step to make another call.
    this = CallId(scope.work, content_of(tool, args), order, instead_of)
    under_way = CALL_UNDER_WAY.set(CallUnderWay(scope, this))
    caller = CALLER.set(CallerOfTool(scope, tool, this, call_id))
    about = ABOUT.set(this)
    try:
        if effect != "read":
            return await _protected(scope, this, tool, args, effect, call, tell)
        tell()
        return await call(this)
    except GraphInterrupt as stop:
        await note_uses(scope.run, stop, use_of_call(tool, args, scope.run.graph.toolbox))
        raise
    finally:
        ABOUT.reset(about)
        CALLER.reset(caller)
        CALL_UNDER_WAY.reset(under_way)


async def _protected(
    scope: StepScope,
    this: CallId,
    tool: str,
    args: Mapping[str, Json],
    effect: Effect,
    call: Callable[[CallId], Awaitable[Json]],
    tell: Callable[[], None],
) -> Json:
    log = scope.run.effects
    record = await log.find(this)
    if record is not None and record.outcome is not None:
        return await _told(scope, record.outcome)
    shown = abridged(args, scope.run.settings.max_inline_bytes)
    first = EffectRecord(this, tool, shown, effect, revision=scope.revision)
    if effect == "write":
        if this.order is None:
            await settle_doubts_of_step(scope, but=this.content)
        outcome = await _known_outcome(scope, first, record)
        if outcome is not None:
            if record is None:
                await log.begin(first)
            try:
                await _finish(scope, this, outcome)
            finally:
                log.end(this)  # Not earlier: another waiter would find it in doubt.
            return await _told(scope, outcome)
    tell()
    return await _log_effect(scope, first, call)


async def _known_outcome(
    scope: StepScope, first: EffectRecord, record: EffectRecord | None
) -> Outcome | None:
    """Ask about this call if it may have happened, here or in other work; None: make the call."""
    if record is not None and record.in_doubt:
        return await _ask_about(scope.run, record, scope)
    if record is None and scope.doubtful:
        # It must not be the question that follows if this start is interrupted.
        return await _ask_about(scope.run, replace(first, starts=0), scope)
    for other in await repeated_calls(await scope.run.effects.same_calls(first.call), first.call, scope):
        outcome = await _ask_about(scope.run, other, scope, _asker(other, first.call))
        if not other.succeeded:
            await _put_down(scope.run, other, outcome)
        if outcome is not None:
            return outcome | {"unknown": False}  # This one was never started.
    return None


async def _log_effect(
    scope: StepScope, first: EffectRecord, call: Callable[[CallId], Awaitable[Json]]
) -> Json:
    """Commit the intent, make the call, commit the outcome."""
    log, this = scope.run.effects, first.call
    with scope.write():
        await log.begin(first)
        try:
            output = await call(this)
        except StepError as error:
            # An error that is made of a cancellation says nothing about what was done before it.
            unknown = is_being_cancelled() or (isinstance(error, ToolFailedError) and not error.is_answer)
            await asyncio.shield(_finish(scope, this, _failed(error, unknown=unknown)))
            raise
        except (BudgetExceededError, GraphBubbleUp, ValidationError) as error:
            if isinstance(error, BudgetExceededError) and error.midway:
                await asyncio.shield(_finish(scope, this, _failed(error, unknown=True)))
            # Else there was no room for the call, or its tool asks a person and is called again.
            elif not isinstance(error, ValidationError) or is_invalid_resume(error):
                await asyncio.shield(log.retract(this))
            raise
        else:
            # A cancellation here must not leave a finished write without its outcome.
            await asyncio.shield(_finish(scope, this, {"ok": True, "output": output, "error": None}))
            return output
        finally:
            log.end(this)


def _failed(error: Exception, *, unknown: bool) -> Outcome:
    return {"ok": False, "output": None, "error": str(error), "unknown": unknown}


async def _finish(scope: StepScope, this: CallId, outcome: Outcome) -> None:
    """Record the outcome; a large output is stored before the record refers to it."""
    kept = await scope.run.artifacts.put_away(outcome["output"])
    await scope.run.effects.finish(this, outcome | {"output": kept})


async def _told(scope: StepScope, outcome: Outcome) -> Json:
    if not outcome["ok"]:
        raise ToolFailedError(str(outcome["error"]))
    return await scope.run.artifacts.value(outcome["output"], scope.step_id)


# --- writes in doubt ---------------------------------------------------------------------


async def settle_doubts_of_step(scope: StepScope, *, but: str | None = None) -> None:
    """Ask about this step's writes in doubt from another attempt or with other arguments.

    Args:
        scope: The attempt that is about to begin.
        but: The content of the call that asks about itself.
    """
    doubts = await scope.run.effects.doubts(scope.work.plan_id, scope.work.path[:-1])
    for record in doubts_about_step(doubts, scope.work, but):
        outcome = await _ask_about(scope.run, record, scope)
        await _put_down(scope.run, record, outcome)


async def settle_doubts(run: Run, doubts: Sequence[EffectRecord]) -> tuple[list[str], By]:
    """Ask a person about all of these writes at once, and record the answers.

    Returns:
        A line about each, and who answered last.

    Raises:
        langgraph.errors.GraphInterrupt: While an answer is missing; nothing is recorded then.
    """
    questions, outcomes = [], []
    for record in doubts:
        try:
            outcomes.append((record, *await _answer_about(run, record, None)))
        except GraphInterrupt as stop:
            questions += stop.args[0]
    if questions:
        raise GraphInterrupt(tuple(questions))
    lines, decider = [], run.person
    for record, outcome, by in outcomes:
        await _put_down(run, record, outcome)
        word = "did not happen" if outcome is None else "happened" if outcome["ok"] else "counts as failed"
        lines.append(f"{describe_doubt(record)}: {word}")
        decider = by
    return lines, decider


def describe_doubt(record: EffectRecord) -> str:
    """Describe a write for a list of writes that may have happened."""
    steps = " in ".join(place.step_id for place in reversed(record.call.work.path))
    return f"{record.tool}({preview(record.args, 300)}) in step {steps}"


async def _put_down(run: Run, record: EffectRecord, outcome: Outcome | None) -> None:
    if outcome is None:
        await run.effects.settle(record)
    else:
        await run.effects.finish(record.call, outcome)


async def _ask_about(
    run: Run, record: EffectRecord, scope: StepScope | None, asker: str = ""
) -> Outcome | None:
    """Ask whether a write happened; None means: make the write, or leave it unmade."""
    outcome, _ = await _answer_about(run, record, scope, asker)
    return outcome


async def _answer_about(
    run: Run, record: EffectRecord, scope: StepScope | None, asker: str = ""
) -> tuple[Outcome | None, By]:
    """Ask whether a write happened, and return who answered; None means: make it, or leave it unmade.

    Args:
        run: The run that asks.
        record: The write.
        scope: The attempt that is about to make it; None if the run ends and nothing will make it.
        asker: The work that asks, if several may ask about the same write.

    Raises:
        RepeatedCallError: If nobody can be asked.
    """
    if not run.can_ask:
        raise RepeatedCallError(
            f"{record.tool} was called with the same arguments by step {record.step_id} before, "
            "and nobody can be asked whether to call it again"
        )
    happened = record.succeeded
    step_id = record.step_id if scope is None else scope.step_id
    proposal: dict[str, Any] = {
        "step_id": step_id,
        "tool": record.tool,
        "tool_args": record.args,
        "decision": "happened" if happened else "fail",
        "output": record.outcome["output"] if record.outcome is not None else None,
    }
    description, told = _description(record, scope), {}
    if record.in_doubt and (former := await run.ledger.lost_runner()) is not None:
        proposal[RUNNER_STOPPED] = False
        description += f"\n\n{may_still_run(former)}"
        told["former_runner"] = dict(former)
    if record.in_doubt and goes_on(record.call):
        description += f"\n\n{_GOES_ON}"
    answer = await ask_person(
        run,
        [record.call.work.plan_id, record.call.row_key, record.starts, asker],
        "resolve_unknown_outcome",
        proposal,
        description,
        step_id=step_id,
        uses=[{"tool": record.tool, "effect": record.effect, "resources": [], "open": True}],
        **told,
    )
    if answer["decision"] == "run_again":
        return None, answer["by"]
    if answer["decision"] == "happened":
        return {"ok": True, "output": answer["args"].get("output"), "error": None}, answer["by"]
    reason = answer["message"] or "a person decided that it counts as failed"
    state = "it was made before" if happened else "outcome unknown after a crash"
    error = f"{record.tool}: {state}; {reason}"
    return {"ok": False, "output": None, "error": error, "unknown": not happened}, answer["by"]


_GOES_ON = "The call still goes on, because nothing can cut it off: wait for its end before you decide."


def _asker(other: EffectRecord, this: CallId) -> str:
    """Return who asks about another call: several pieces of work may be about to repeat a known one."""
    if other.call.work == this.work:
        return f"{this.work.digest}/{this.order}"
    return "" if other.in_doubt else this.work.digest


def _description(record: EffectRecord, scope: StepScope | None) -> str:
    place = record.call.work.path[-1]
    item = "" if place.item is None else f" (item {place.item})"
    step = f"step **{record.step_id}**{item}"
    call = call_in_words(record.tool, record.args, record.effect)
    is_other = scope is not None and scope.work.plan_id != record.call.work.plan_id
    branch = " of a plan that a fork of this thread replaced" if is_other else ""
    if record.succeeded and scope is not None:
        assert record.outcome is not None
        return (
            f"Step **{scope.step_id}** is about to call {call}. "
            f"The same call has succeeded before, in {step}{branch}; "
            f"its output was {code_span(preview(record.outcome['output'], 500))}. Decide:\n"
            "- `happened`: do not call it again; use that output\n- `run_again`: call it again\n"
            "- `fail`: let the step fail"
        )
    if record.outcome is not None and scope is not None:
        return (
            f"Step **{scope.step_id}** is about to call {call}. The same call was made before, in "
            f"{step}{branch}. It counts as failed, but may have happened: "
            f"{plain_line(shortened(record.outcome['error'], 500))}\n\n"
            "Check whether it did, then decide:\n"
            "- `happened`: it did; do not call it again, and give its output\n"
            "- `run_again`: it did not; call it\n- `fail`: let the step fail"
        )
    again = "call it again" if scope is not None else "nothing will call it again"
    fail = "let the step fail" if scope is not None else "count it as failed"
    return (
        f"The run stopped while {step} was calling {call}, and nobody recorded how the call ended. "
        "Check whether it happened, then decide:\n"
        f"- `happened`: it did; give its output\n- `run_again`: it did not; {again}\n- `fail`: {fail}"
    )
