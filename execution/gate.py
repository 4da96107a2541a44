"""Decide when a step may start: the gate, the slots, and what stops the rest.

All pending steps of an epoch run as tasks of one superstep. Each waits at the gate for its own dependencies
and then takes a slot, so a step starts as soon as its dependencies have ended. If slots are scarce, the step
with the longest remaining path goes first.
"""

from __future__ import annotations

import asyncio
import heapq
import statistics
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from itertools import count

from langgraph.errors import GraphInterrupt

from ..plan.dag import remaining_path
from ..run import StopSignal
from ..state import Plan, Step, StepResult, is_satisfied

__all__ = ["Gate", "Slots", "StepWithheldError"]


class StepWithheldError(Exception):
    """The step did not run and stays pending: the run was halted, or a dependency was withheld."""


class Slots:
    """A semaphore that serves the highest priority first."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = count()

    def take(self, priority: float, admit: Callable[[], None] = lambda: None) -> _Slot:
        """Hold one slot in the body; among those who wait, the highest ``priority`` gets the next one.

        Args:
            priority: How urgent it is.
            admit: Called when the turn has come; if it raises, the slot goes to the next.
        """
        return _Slot(self, priority, admit)

    async def acquire(self, priority: float) -> None:
        """Wait for a slot, which :meth:`release` gives back."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        heapq.heappush(self._waiting, (-priority, next(self._order), turn))
        # Not at once: among the steps that are ready now, the longest goes first.
        loop.call_soon(self._serve)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()
            raise

    def release(self) -> None:
        """Give a slot to the next."""
        self._free += 1
        self._serve()

    def _serve(self) -> None:
        while self._free > 0 and self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                self._free -= 1
                turn.set_result(None)


class _Slot:
    """One slot, held in the body of ``async with``."""

    def __init__(self, slots: Slots, priority: float, admit: Callable[[], None]) -> None:
        self._slots, self._priority, self._admit = slots, priority, admit

    async def __aenter__(self) -> None:
        await self._slots.acquire(self._priority)
        try:
            self._admit()
        except BaseException:
            self._slots.release()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._slots.release()


def _with_average(plan: Plan, seconds: Mapping[str, float]) -> dict[str, float]:
    average = statistics.fmean(seconds.values()) if seconds else 1.0
    return {step["id"]: seconds.get(step["id"], average) for step in plan["steps"]}


class Gate:
    """Where the steps of one epoch wait for each other.

    Args:
        plan: The plan whose steps run.
        finished: Existing results of earlier epochs, and of siblings that had
            finished before the run was interrupted (LangGraph does not run those again).
        slots: How many steps may run at the same time, or the slots that they share with early reads.
        stop: Once set, nothing new starts.
        seconds: How long steps are expected to take; a step that is not named takes as long as the others.
        pause: Returns why a person must be asked before anything new starts; None if it may start.

    Attributes:
        unsettled: Steps with a write in doubt; they run even then.
    """

    def __init__(
        self,
        plan: Plan,
        finished: Mapping[str, StepResult],
        slots: int | Slots,
        stop: StopSignal | None = None,
        pause: Callable[[], str | None] = lambda: None,
        seconds: Mapping[str, float] | None = None,
    ) -> None:
        self.finished = dict(finished)
        self.halted: str | None = None
        self.unsettled: frozenset[str] = frozenset()
        self._stop = stop or StopSignal()
        self._pause = pause
        ended = [step_id for step_id, result in finished.items() if is_satisfied(result)]
        expected = _with_average(plan, seconds or {}) | dict.fromkeys(ended, 0.0)
        self._priority = remaining_path(plan["steps"], expected)
        self._slots = slots if isinstance(slots, Slots) else Slots(slots)
        self._outcome: dict[str, asyncio.Future[StepResult | BaseException]] = {}

    def _outcome_of(self, step_id: str) -> asyncio.Future[StepResult | BaseException]:
        if step_id not in self._outcome:
            self._outcome[step_id] = asyncio.get_running_loop().create_future()
            if step_id in self.finished:
                self._outcome[step_id].set_result(self.finished[step_id])
        return self._outcome[step_id]

    async def dependencies(self, step: Step) -> dict[str, StepResult]:
        """Wait until everything the step depends on has ended, and return those results.

        Raises:
            GraphInterrupt: If one of them waits for a person. It carries no question: only
                the real ones stay pending, and the superstep can end.
            StepWithheldError: If one of them will not run now.
        """
        results: dict[str, StepResult] = {}
        for step_id in step.get("depends_on", ()):
            future = self._outcome_of(step_id)
            outcome = future.result() if future.done() else await asyncio.shield(future)
            if isinstance(outcome, GraphInterrupt):
                raise GraphInterrupt(())
            if isinstance(outcome, BaseException):
                raise StepWithheldError(f"{step_id} was withheld")
            results[step_id] = outcome
        return results

    def slot(self, step: Step, *, begun: bool = False) -> AbstractAsyncContextManager[None]:
        """Hold a slot for a step that is ready.

        Args:
            step: The step.
            begun: Whether it was attempted before; such a step finishes even in a halted run.

        Raises:
            StepWithheldError: If the run was halted before its turn came.
        """
        return self._slots.take(self._priority.get(step["id"], 0.0), partial(self.admit, step, begun=begun))

    def admit(self, step: Step, *, begun: bool = False) -> None:
        """Raise StepWithheldError if nothing new may start and the step was not ``begun`` before."""
        if begun or step["id"] in self.unsettled:
            return
        if reason := self.closed or self._pause():
            raise StepWithheldError(reason)

    @property
    def closed(self) -> str | None:
        """Why nothing new may start; None if it may."""
        return self.halted or ("the run was told to stop" if self._stop.is_set() else None)

    def publish(self, step_id: str, outcome: StepResult | BaseException) -> None:
        """Release a step's dependents with its result, or with the reason why there is none."""
        if not isinstance(outcome, BaseException):
            self.finished[step_id] = outcome
        future = self._outcome_of(step_id)
        if not future.done():
            future.set_result(outcome)

    def halt(self, reason: str) -> None:
        """Start nothing new; running steps may finish."""
        self.halted = self.halted or reason
