"""Tell whether a call repeats what other work has done: nobody ordered that, so a person is asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..run import StepScope
from ..storage.effect_log import EffectRecord
from ..storage.ids import CallId, Place, WorkId

__all__ = ["doubts_about_step", "repeated_calls"]


async def repeated_calls(
    others: Iterable[EffectRecord], this: CallId, scope: StepScope
) -> list[EffectRecord]:
    """Select the calls that ``this`` one would repeat; all have the same tool and arguments.

    If one piece of work has made the call in several attempts, only its last success is among them.
    """
    found: dict[object, EffectRecord] = {}
    for other in sorted(others, key=lambda record: record.started_at or 0.0):
        if await _is_repetition(other, this, scope):
            work = [(place.step_id, place.item) for place in other.call.work.path]
            key = (other.call.work.plan_id, *work, other.call.order) if other.succeeded else other.call
            found[key] = other
    return list(found.values())


async def _is_repetition(other: EffectRecord, this: CallId, scope: StepScope) -> bool:
    """Tell whether ``this`` call would repeat the ``other``, which has the same tool and arguments.

    It does not if somebody approved both: in two steps of one revision, in the items of a loop, or in an
    attempt that was ordered again. It also does not within one conversation, because the agent knows what has
    happened.
    """
    if not other.may_have_happened:
        return False
    theirs, mine = other.call.work.path, this.work.path
    if other.call.work.plan_id != this.work.plan_id:
        return True  # A fork abandoned that plan.
    if theirs == mine:
        return not other.succeeded
    depth = next((i for i, (a, b) in enumerate(zip(theirs, mine, strict=False)) if a != b), None)
    if depth is None:
        return True
    at_end = depth == len(theirs) - 1 == len(mine) - 1
    if theirs[depth].step_id != mine[depth].step_id:
        return not (at_end and await _plan_says_both(other, scope))
    if theirs[depth].item != mine[depth].item:
        return not await _list_says_both(theirs[depth], depth, this, scope)
    # The same step again: its own call may have been ordered again with it, but an agent's calls were not.
    direct = at_end and other.call.order is None and this.order is None
    if not direct or other.in_doubt:
        return True
    return scope.repeats == "none" or (other.counts_as_failed and scope.repeats != "all")


async def _plan_says_both(other: EffectRecord, scope: StepScope) -> bool:
    """Tell whether the plan already contained this step when the other one made the call."""
    if not scope.still_stands(other.step_id) or other.revision is None:
        return False
    if other.revision == scope.revision:
        return True
    approved = await scope.run.ledger.approvals(scope.plan_id)
    return any(
        scope.step_id in record.get("steps", {})
        for record in approved
        if record.get("revision", other.revision + 1) <= other.revision
    )


async def _list_says_both(other: Place, depth: int, this: CallId, scope: StepScope) -> bool:
    """Tell whether the loop's list, which may have changed, still asks for the other item's call."""
    looping: StepScope | None = scope
    while looping is not None and len(looping.work.path) > depth + 1:
        looping = looping.outer
    return looping is not None and await looping.item_stands(other, this.content)


def doubts_about_step(
    doubts: Iterable[EffectRecord], work: WorkId, but: str | None
) -> Iterator[EffectRecord]:
    """Select a step's or item's doubts that its attempt will not meet again by itself.

    Args:
        doubts: The writes in doubt of the step's plan.
        work: The identity of the attempt.
        but: The content of the call that it is about to make; None for an agent or a sub-plan.
    """
    mine, depth = work.path[-1], len(work.path) - 1
    for record in doubts:
        theirs = record.call.work.path[depth]
        if (theirs.step_id, theirs.item) != (mine.step_id, mine.item):
            continue
        if theirs != mine if but is None else record.call.content != but:
            yield record
