"""Keep the calls with an effect that a thread has made: their intents and their outcomes.

A thread has one runner at a time, so the log keeps in memory what it has read or written: a call costs two
writes and no read.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..state import Effect
from .ids import CallId, Place, WorkId
from .ledger import Ledger

__all__ = ["EffectLog", "EffectRecord"]

Json = Any


@dataclass(frozen=True)
class EffectRecord:
    """The record of one call.

    Attributes:
        call: Its identity.
        tool: The tool's name.
        args: Its arguments; large ones are abridged.
        effect: The tool's effect; only for a ``write`` does it matter whether it happened.
        outcome: ``{"ok", "output", "error"}``, and ``"unknown": True`` if it counts as failed and may have
            happened; None if it was started and its end is unknown.
        starts: How often it was started: more than once if a person ordered it again.
        settled: How many of the starts did not happen, according to a person.
        revision: The revision of the plan that made it; None if not recorded.
        started_at: When it was last started, in seconds since the epoch; None if not recorded.
        goal: How many goals of the conversation had ended before its own; None if not recorded.
    """

    call: CallId
    tool: str
    args: dict[str, Json]
    effect: Effect = "write"
    outcome: dict[str, Json] | None = None
    starts: int = 1
    settled: int = 0
    revision: int | None = None
    started_at: float | None = None
    goal: int | None = None

    @property
    def in_doubt(self) -> bool:
        """Whether it may have happened and nobody knows."""
        return self.effect == "write" and self.outcome is None and self.starts > self.settled

    @property
    def counts_as_failed(self) -> bool:
        """Whether it counts as failed but may have happened."""
        unknown = self.outcome is not None and bool(self.outcome.get("unknown"))
        return self.effect == "write" and unknown and self.starts > self.settled

    @property
    def succeeded(self) -> bool:
        """Whether it is known to have happened."""
        return self.outcome is not None and bool(self.outcome["ok"])

    @property
    def may_have_happened(self) -> bool:
        """Whether it happened, or may have happened."""
        return self.succeeded or self.in_doubt or self.counts_as_failed

    @property
    def step_id(self) -> str:
        """The step that made it, at the innermost level."""
        return self.call.work.path[-1].step_id

    def as_row(self) -> dict[str, Json]:
        """Return the stored value, without the key."""
        return {key: value for key, value in asdict(self).items() if key != "call"}

    @classmethod
    def of_row(cls, thread_id: str, plan_id: str, key: str, row: Mapping[str, Json]) -> EffectRecord:
        """Read a row; in an earlier version's row, the fields name the step, attempt, item and call."""
        read = json.loads(key)
        if isinstance(read[0], str):
            step_id, attempt, item, name = read
            read = [[[step_id, item, attempt, ""]], str(name).rpartition("/")[2], None]
        path = tuple(Place(*place) for place in read[0])
        known = {name: row[name] for name in cls.__dataclass_fields__ if name in row}
        return cls(CallId(WorkId(thread_id, plan_id, path), *read[1:]), **known)


class EffectLog:
    """A thread's calls with an effect.

    Args:
        ledger: The thread's record.
        is_new: Whether this run's plans are new to the thread, so that there are no records of them.
        is_first: Whether the thread is new, so that there are no records at all.
    """

    def __init__(self, ledger: Ledger, *, is_new: bool, is_first: bool = False) -> None:
        self._ledger = ledger
        self._is_new = is_new
        self._has_all = is_first
        self._plans: dict[str, dict[str, EffectRecord]] = {}
        self._under_way: dict[CallId, asyncio.Event] = {}
        self._goal: int | None = None
        self._line: frozenset[str] = frozenset()

    def stand_in(self, line: Iterable[str], goal: int) -> None:
        """Set the run's place in the conversation; before that, abandoned plans of forks are unknown.

        Args:
            line: The plans of the present goal and of those before it.
            goal: How many goals have ended before this one.
        """
        self._line, self._goal = frozenset(line), goal

    async def find(self, call: CallId) -> EffectRecord | None:
        """Return the record of a call; None if it was never started."""
        return (await self._plan(call.work.plan_id)).get(call.row_key)

    async def same_calls(self, call: CallId) -> list[EffectRecord]:
        """List the other calls with the same content, after active ones have ended.

        They belong to the root plan, and to plans that a fork abandoned. A call that contains this one is
        left out, because it would wait for itself.
        """
        records = [*(await self._plan(call.work.plan_id)).values(), *await self.left_behind()]
        same = [one.call for one in records if one.call.content == call.content]
        others = [one for one in same if one != call and not one.encloses(call)]
        for other in others:
            if (ending := self._under_way.get(other)) is not None:
                await ending.wait()
        found = [await self.find(other) for other in others]
        return [record for record in found if record is not None]

    async def left_behind(self) -> list[EffectRecord]:
        """List the calls of plans that a fork abandoned, if they may have happened.

        Plans of earlier goals are left out, because another message is a new request.
        """
        if self._goal is None:
            return []
        plans = await self._all()
        records = [record for plan_id in plans.keys() - self._line for record in plans[plan_id].values()]
        return [
            record
            for record in records
            if record.may_have_happened and (record.goal is None or record.goal >= self._goal)
        ]

    async def doubts(self, plan_id: str, path: Sequence[Place] = ()) -> list[EffectRecord]:
        """List a root plan's calls in doubt, or only those below a path; active calls are not in doubt."""
        records, depth = await self._plan(plan_id), len(path)
        return [
            record
            for record in records.values()
            if record.in_doubt
            and record.call not in self._under_way
            and record.call.work.path[:depth] == tuple(path)
        ]

    async def of_step(self, work: WorkId, step_id: str) -> list[EffectRecord]:
        """List the calls of a step, and of what it contains; ``work`` is that of its plan."""
        depth = len(work.path)
        return [
            record
            for record in (await self._plan(work.plan_id)).values()
            if record.call.work.path[:depth] == work.path and record.call.work.path[depth].step_id == step_id
        ]

    async def doubts_of_thread(self) -> list[EffectRecord]:
        """List the calls in doubt of all the thread's root plans."""
        return [record for plan_id in list(await self._all()) for record in await self.doubts(plan_id)]

    async def begin(self, record: EffectRecord) -> None:
        """Record that a call is about to start. Return when the record is durable.

        Args:
            record: The call at its first start.
        """
        before = await self.find(record.call)
        record = replace(record, started_at=time.time(), goal=self._goal)
        if before is not None:
            record = replace(record, starts=before.starts + 1, settled=before.settled)
        await self._put(record)
        self._under_way[record.call] = asyncio.Event()

    async def retract(self, call: CallId) -> None:
        """Take back the last start of a call that was not made.

        None of its earlier starts happened: the person who ordered it again has said so.
        """
        record = await self._known(call)
        if record.starts == 1:
            await self._ledger.forget_effect(call)
            del self._plans[call.work.plan_id][call.row_key]
        else:
            earlier = record.starts - 1
            await self._put(replace(record, starts=earlier, settled=earlier))

    async def finish(self, call: CallId, outcome: dict[str, Json]) -> None:
        """Record how a call ended: ``{"ok": bool, "output": json, "error": ...}``.

        Raises:
            LookupError: The call was never begun.
        """
        await self._put(replace(await self._known(call), outcome=outcome))

    async def settle(self, record: EffectRecord) -> None:
        """Record that none of the starts of a call happened."""
        await self._put(replace(record, settled=record.starts))

    def end(self, call: CallId) -> None:
        """Note that a call has ended, in whatever way."""
        if (ending := self._under_way.pop(call, None)) is not None:
            ending.set()

    async def _known(self, call: CallId) -> EffectRecord:
        record = await self.find(call)
        if record is None:
            raise LookupError(f"the call {call} was finished but never begun")
        return record

    async def _all(self) -> dict[str, dict[str, EffectRecord]]:
        if not self._has_all:
            rows: dict[str, list[tuple[str, dict[str, Json]]]] = {}
            for plan_id, key, row in await self._ledger.effects_of_thread():
                rows.setdefault(plan_id, []).append((key, row))
            for plan_id, found in rows.items():
                self._keep(plan_id, found)
            self._has_all = True
        return self._plans

    async def _plan(self, plan_id: str) -> dict[str, EffectRecord]:
        if plan_id not in self._plans:
            found = {} if self._is_new else await self._ledger.effects(plan_id)
            self._keep(plan_id, found.items())
        return self._plans[plan_id]

    def _keep(self, plan_id: str, rows: Iterable[tuple[str, dict[str, Json]]]) -> None:
        if plan_id not in self._plans:
            read = [EffectRecord.of_row(self._ledger.thread_id, plan_id, key, row) for key, row in rows]
            self._plans[plan_id] = {record.call.row_key: record for record in read}

    async def _put(self, record: EffectRecord) -> None:
        records = await self._plan(record.call.work.plan_id)
        await self._ledger.record_effect(record.call, record.as_row())
        records[record.call.row_key] = record
