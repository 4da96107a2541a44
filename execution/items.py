"""Run the items of a ``for_each``: each attempt at the step runs every item that has not succeeded yet.

Each item has a row in the ledger, so that a crash after 700 of 1,000 items runs the last 300.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from langgraph.errors import GraphBubbleUp, GraphInterrupt
from langgraph.types import Interrupt

from ..errors import (
    BudgetExceededError,
    ItemsFailedError,
    OutcomeUnknownError,
    RejectedError,
    StepStoppedError,
    UnresolvedReferenceError,
)
from ..plan.grants import asks_for_values, resources_of
from ..plan.identity import step_fingerprint
from ..plan.references import expression_roots, references_in, resolve
from ..state import (
    Attempt,
    CriterionResult,
    Evidence,
    FailedItem,
    Failure,
    Verdict,
    digest,
    failure_of,
    granted_tools,
    new_attempt,
    total_usage,
)
from ..storage.artifacts import ArtifactDamagedError
from ..storage.ids import Place
from ..tools.threads import run_bounded
from .gate import StepWithheldError
from .granted import confirmed_items
from .work import Item, StepWork, broken_attempt, costs_nothing

__all__ = ["ItemsWork", "failure_codes"]

MAX_EVIDENCE = 200
"""The most tool calls that a result lists; failed calls and writes come first."""

_FORGOTTEN = (
    "an earlier process may have run items of this loop, but nobody knows which, because "
    "their record was only in memory. Check what happened: `retry` runs every item, "
    "`supply` takes the list of outputs. With a store, such a loop continues where it "
    "stopped."
)

_NAMED_FAILURES = 5
"""The number of failed items that an error message names."""

_ENDS_ALL = {BudgetExceededError.code, StepStoppedError.code}
"""Failures of an item after which no other item starts."""


def failure_codes(attempt: Attempt) -> set[str]:
    """Collect why an attempt failed; for a ``for_each``, why its items did."""
    items = attempt.get("failed_items")
    return {item["error"]["code"] for item in items} if items else {failure_of(attempt)["code"]}


class ItemsWork:
    """The attempts at a step that runs once per item of a list."""

    def __init__(self, work: StepWork) -> None:
        self._work = work
        self._total = self._open = 0
        self._rows: dict[int, Attempt] | None = None
        self._ended: Attempt | None = None

    async def attempt(self, number: int, before: Attempt | None, hint: str) -> Attempt:
        """Make attempt ``number`` at every item that has not succeeded; its output is the list of outputs.

        A failed item is ``null`` in the list and appears in ``failed_items`` with its error.

        Raises:
            StepWithheldError: If the run was halted before all items had ended; it stays pending.
            langgraph.errors.GraphInterrupt: While a person is being asked.
        """
        started_at = self._work.run.timestamp()
        self._work = replace(self._work, repeats=self._work.may_repeat(before))
        try:
            items = await self._items()
        except (UnresolvedReferenceError, ArtifactDamagedError) as error:
            return broken_attempt(number, error, started_at)
        if items and number == 1 and self._may_have_been_forgotten():
            return broken_attempt(number, OutcomeUnknownError(_FORGOTTEN), started_at)
        rows = await self._recorded(items, number)
        self._total, self._open = len(items), sum(_is_open(rows.get(i), number) for i in range(len(items)))
        left = [item for item in items if _is_open(rows.get(item.index), number)]
        doubtful = await self._in_doubt()
        try:
            await self._confirm(items, number)
        except RejectedError as error:
            return broken_attempt(number, error, started_at)
        # Writes in doubt are asked about first, so that a spent budget cannot hide them.
        await self._settle_all([item for item in left if item.index in doubtful], number, hint)
        self._ended = None
        await self._settle_all([item for item in left if item.index not in doubtful], number, hint)
        try:
            return await self._combine(items, number, started_at)
        except ArtifactDamagedError as error:
            return broken_attempt(number, error, started_at)

    def _may_have_been_forgotten(self) -> bool:
        """Tell whether an earlier process may have made writes of this loop, but lost their record."""
        step, toolbox = self._work.step, self._work.toolbox
        return self._work.memory_lost and "write" in toolbox.effects(granted_tools(step))

    # --- the list ------------------------------------------------------------------------

    async def _items(self) -> list[Item]:
        reference = self._work.step["for_each"]
        values = await run_bounded(resolve, reference, await self._work.values("for_each"))
        if values is None and self._comes_from_a_skipped_step(reference):
            values = []
        if not isinstance(values, list):
            raise UnresolvedReferenceError(f"for_each: {reference} is {type(values).__name__}, not a list")
        return [Item(index, value, values) for index, value in enumerate(values)]

    def _comes_from_a_skipped_step(self, reference: str) -> bool:
        roots = {root for found in references_in(reference) for root in expression_roots(found.expression)}
        return any(
            result["status"] == "skipped" for step_id, result in self._work.needed.items() if step_id in roots
        )

    async def _recorded(self, items: Sequence[Item], number: int) -> dict[int, Attempt]:
        """Return the last attempt at each item; those of earlier runs are read from the ledger once."""
        if self._rows is None:
            rows = await self._work.run.ledger.items(*self._address)
            now = {item.index: digest(item.value) for item in items}
            self._rows = {i: row["attempt"] for i, row in rows.items() if now.get(i) == row["item"]}
            for attempt in self._rows.values():
                if attempt["number"] == number:  # Earlier ones are part of the step's recorded attempts.
                    self._work.run.meter.spend(attempt["usage"])
        return self._rows

    async def _in_doubt(self) -> set[int | None]:
        """Return the items with a write in doubt."""
        work = self._work
        if work.step["id"] not in work.epoch.gate.unsettled:
            return set()
        above = work.run.root_work(work.plan_id)
        places = [
            one.call.work.path[len(above.path)]
            for one in await work.run.effects.doubts(above.plan_id, above.path)
        ]
        return {place.item for place in places if place.step_id == work.step["id"]}

    @property
    def _address(self) -> tuple[str, str, str]:
        step = self._work.step
        return self._work.plan_id, step["id"], step_fingerprint(step)

    async def _confirm(self, items: Sequence[Item], number: int) -> None:
        """Show a person all calls of this attempt at once, if a person must see them.

        Raises:
            RejectedError: If they reject them.
            langgraph.errors.GraphInterrupt: While they are being asked.
        """
        work = self._work
        if not asks_for_values(work.step, work.run.settings.confirm, work.toolbox):
            return
        calls: dict[int, dict[str, Any]] = {}
        for item in items:
            row = self._known(item.index)
            if row is None or row["error"] is not None or row["number"] == number:
                # The item itself will report the error.
                with suppress(UnresolvedReferenceError, ArtifactDamagedError):
                    values = await work.values(item=item)
                    calls[item.index] = await run_bounded(resolve, work.step["call"]["args"], values)
        if calls:
            place = Place(work.step["id"], None, number)
            at = work.run.root_work(work.plan_id).at(place)
            confirmed = await confirmed_items(work.step, calls, work.run, at, work.toolbox)
            self._work = replace(work, confirmed=confirmed)

    # --- running -------------------------------------------------------------------------

    def _known(self, index: int) -> Attempt | None:
        assert self._rows is not None, "the rows are read before anything runs"
        return self._rows.get(index)

    async def _settle_all(self, items: Sequence[Item], number: int, hint: str) -> None:
        """Run items side by side; one that asks a person lets the others continue, other stops do not."""
        queue = iter(items)
        questions: list[Interrupt] = []
        stops: list[BaseException] = []

        async def work() -> None:
            for item in queue:
                if stops or self._ended is not None:
                    return
                try:
                    await self._settle(item, number, hint)
                except GraphInterrupt as stop:
                    questions.extend(stop.args[0])
                except Exception as stop:
                    stops.append(stop)

        workers = [asyncio.ensure_future(work()) for _ in range(min(self._at_once(), len(items)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        faults = [stop for stop in stops if not isinstance(stop, GraphBubbleUp | StepWithheldError)]
        if faults or (stops and not questions):
            raise (faults or stops)[0]
        if questions:
            raise GraphInterrupt(tuple(questions))

    def _at_once(self) -> int:
        """Return how many items may run at the same time: one if all write the same resource."""
        step, toolbox, run = self._work.step, self._work.toolbox, self._work.run
        writing = [name for name in granted_tools(step) if toolbox.effect(name) != "read"]
        shared = bool(resources_of(step, toolbox, {}, writing))
        return 1 if shared else run.settings.max_parallel

    async def _settle(self, item: Item, number: int, hint: str) -> None:
        """Attempt one item, and record how it ended."""
        work, before = self._work, self._known(item.index)
        if work.run.ahead is not None and before is None:
            await work.run.ahead.ended(work.plan_id, work.step["id"], work.run.stop.asked(), item.index)
        async with work.epoch.gate.slot(work.step):
            attempt = await work.attempt(number, before, hint, item)
        await work.run.ledger.record_item(
            *self._address,
            item.index,
            digest(item.value),
            attempt,
            replaceable=costs_nothing(work.step, attempt),
        )
        assert self._rows is not None
        self._rows[item.index] = attempt
        error = attempt["error"]
        self._open -= 1
        work.emit(
            "step_progress",
            done=self._total - self._open,
            total=self._total,
            item=item.index,
            ok=error is None,
            error=error,
        )
        if error is not None and error["code"] in _ENDS_ALL:
            self._ended = attempt

    # --- the attempt as a whole ----------------------------------------------------------

    async def _combine(self, items: Sequence[Item], number: int, started_at: str) -> Attempt:
        rows = {item.index: row for item in items if (row := self._known(item.index)) is not None}
        made = [row for row in rows.values() if row["number"] == number]
        failed: list[FailedItem] = [
            {"index": i, "error": row["error"], "attempts": row["number"]}
            for i, row in rows.items()
            if row["error"]
        ]
        ended, self._ended = self._ended, None
        error = ended["error"] if ended is not None else _error(failed, len(items))
        return {
            **new_attempt(number, started_at, self._work.run.timestamp(), error),
            "output": await self._outputs([rows.get(item.index) for item in items]),
            "verdict": "failed" if failed else _verdict(rows.values()),
            "criteria": _criteria(rows),
            "failed_items": failed,
            "evidence": _evidence(made),
            "usage": total_usage(row["usage"] for row in made),
        }

    async def _outputs(self, rows: Sequence[Attempt | None]) -> Any:
        """Return the handle for the list of exact outputs, with null for missing ones."""
        artifacts, step_id = self._work.run.artifacts, self._work.step["id"]
        exact = [
            await artifacts.value(row["output"], step_id)
            if row is not None and row["error"] is None
            else None
            for row in rows
        ]
        return await artifacts.put_away(exact)


def _is_open(row: Attempt | None, number: int) -> bool:
    """Tell whether to attempt an item now: it has neither succeeded nor failed in this attempt."""
    return row is None or (row["error"] is not None and row["number"] < number)


def _error(failed: Sequence[FailedItem], total: int) -> Failure | None:
    if not failed:
        return None
    named = "; ".join(
        f"[{item['index']}] {item['error']['code']}: {item['error']['message'][:300]}"
        for item in failed[:_NAMED_FAILURES]
    )
    more = f"; and {len(failed) - _NAMED_FAILURES} more" if len(failed) > _NAMED_FAILURES else ""
    message = f"{len(failed)} of {total} item{'s' if total > 1 else ''} failed: {named}{more}"
    return {"code": ItemsFailedError.code, "message": message}


def _verdict(rows: Iterable[Attempt]) -> Verdict:
    verdicts = {row["verdict"] for row in rows}
    if not verdicts:
        return "met_empty"
    return "unverified" if "unverified" in verdicts else "met"


def _criteria(rows: dict[int, Attempt]) -> list[CriterionResult]:
    """Combine the outcomes of each criterion: failed if any item failed it, unknown if any is unknown."""
    combined: list[CriterionResult] = []
    for index, row in rows.items():
        for place, outcome in enumerate(row["criteria"]):
            if place == len(combined):
                combined.append({"type": outcome["type"], "passed": True, "gap": ""})
            so_far = combined[place]
            worse = outcome["passed"] is False or (outcome["passed"] is None and so_far["passed"])
            if worse and so_far["passed"] is not False:
                gap = f"item {index}: {outcome['gap']}"
                combined[place] = {"type": outcome["type"], "passed": outcome["passed"], "gap": gap}
    return combined


def _evidence(made: Iterable[Attempt]) -> list[Evidence]:
    calls = [call for row in made for call in row["evidence"]]
    telling = [call for call in calls if not call["ok"] or call["effect"] == "write"]
    kept = {id(call) for call in (telling + calls)[:MAX_EVIDENCE]}
    return [call for call in calls if id(call) in kept]
