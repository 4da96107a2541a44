"""What the page knows of threads, wherever they are kept."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_core.runnables import RunnableConfig

from ..context import run_redactor
from ..errors import ConfigurationError, InvalidInputError, PlanExecuteError, ThreadNotFoundError
from ..people.questions import OpenQuestion
from ..report import RunRecord
from ..state import FINAL_STATUSES, begun_at, status_now
from .history import AFTER, Moment, as_of, checkpoint_of, moments_of
from .live import Live, Watch

if TYPE_CHECKING:
    from langgraph.types import StateSnapshot

    from ..threads.schedules import Schedules

__all__ = ["MOST_CHECKPOINTS", "Past", "Thread", "Threads", "config_of", "questions_of", "waiting_in"]

_log = logging.getLogger(__name__)

MOST_CHECKPOINTS = 300
"""How far back the history of a run goes; steps that run together need one."""
_MOST_HISTORIES = 20
_LOOKS_EVERY_S = 2.0
"""How often the storage is asked about what others run."""


@dataclass(frozen=True)
class Thread:
    """A line of the list."""

    id: str
    at: str
    """When it was last written, ISO 8601."""
    started: str
    """When its first decision was made, ISO 8601."""
    goal: str
    status: str
    """See `state.status_now`; only what is known to run here is not ``stopped``."""
    busy: bool
    """Whether it is known to run now."""
    questions: list[OpenQuestion]
    impossible: Collection[str]
    """Decisions that could not be carried out."""
    done: int
    steps: int
    cost: float | None


class Past(NamedTuple):
    """A run as it was: its state, all moments, and which of them it is."""

    snapshot: StateSnapshot
    moments: list[Moment]
    number: int


def config_of(thread: str, checkpoint: str | None = None) -> RunnableConfig:
    """Name a thread to LangGraph, or a checkpoint of it."""
    named = {} if checkpoint is None else {"checkpoint_id": checkpoint}
    return {"configurable": {"thread_id": thread, **named}}


class Threads(ABC):
    """The threads that a page shows.

    Attributes:
        faults: Why a run of this process stopped before its end, by thread.
        watches: Browsers that are told when anything about any thread has changed.
        lives: What is known of each run that somebody looks at.
        version: Grows with each change that browsers are told of.
    """

    def __init__(self) -> None:
        self.faults: dict[str, str] = {}
        self.watches: set[Watch] = set()
        self.lives: dict[str, Live] = {}
        self.version = 0
        self._ended: dict[tuple[str, str], Thread] = {}
        self._waiting: int | None = None
        self._moments: dict[str, tuple[tuple[str, int], list[Moment]]] = {}

    @abstractmethod
    async def listed(self) -> Sequence[tuple[str, str]]:
        """List the ids of threads and when each was last written (ISO 8601), newest first."""

    @abstractmethod
    async def state(self, thread: str, checkpoint: str | None = None) -> StateSnapshot:
        """Read a thread's state, now or at a checkpoint; one that is not there was never created."""

    @abstractmethod
    async def history(self, thread: str) -> Sequence[StateSnapshot]:
        """Read the newest `MOST_CHECKPOINTS` states of a thread, newest first."""

    @abstractmethod
    async def read(self, thread: str) -> RunRecord:
        """Read all about a run."""

    @abstractmethod
    def is_running(self, thread: str) -> bool:
        """Tell whether a thread is known to be run now."""

    def impossible(self, values: Mapping[str, Any]) -> Collection[str]:  # noqa: ARG002 - who runs it knows
        """Name decisions that could not be carried out on a thread with this state, as far as is known."""
        return ()

    def kept(self, thread: str) -> Collection[str]:  # noqa: ARG002 - unless it takes answers
        """Name the open questions whose answers have come and wait."""
        return ()

    def hears(self, thread: str) -> bool:  # noqa: ARG002 - unless it runs threads itself
        """Tell whether this process gets a run's events, which say more than the stored state."""
        return False

    async def schedules(self) -> Schedules:
        """Return the schedules that are kept beside the threads.

        Raises:
            ConfigurationError: If there can be none; the message says what they need.
        """
        raise ConfigurationError("here schedules are cron jobs of the LangGraph server: see its API")

    # --- looking ----------------------------------------------------------------------------

    async def threads(self) -> list[Thread]:
        """List the threads, newest first."""
        version = self.version
        each = [await self._thread(thread, at) for thread, at in await self.listed()]
        found = [one for one in each if one is not None]
        if self.version == version:  # else some of it is out of date
            self._waiting = waiting_in(found)
        return found

    async def waiting(self) -> int:
        """Count the open questions, again only if something has changed."""
        if self._waiting is None:
            return waiting_in(await self.threads())
        return self._waiting

    async def _thread(self, thread: str, at: str) -> Thread | None:
        """Describe a thread; one that has ended is read once. None: nothing has run on it."""
        if not self.is_running(thread) and (known := self._ended.get((thread, at))):
            return known
        snapshot = await self.state(thread)
        if snapshot.created_at is None:
            return None
        found = run_redactor().value(self._described(thread, at, snapshot))
        if found["status"] in FINAL_STATUSES:
            self._ended[thread, at] = Thread(**found, questions=[], impossible=())
        questions = [one for one in questions_of(snapshot) if one.id not in self.kept(thread)]
        return Thread(**found, questions=questions, impossible=self.impossible(snapshot.values))

    def _described(self, thread: str, at: str, snapshot: StateSnapshot) -> dict[str, Any]:
        values = snapshot.values
        results, plan = values.get("results") or {}, values.get("plan") or {}
        return {
            "id": thread,
            "at": at,
            "started": begun_at(values) or at,
            "goal": str(values.get("goal") or plan.get("goal") or ""),
            "status": self.status_of(thread, snapshot),
            "busy": self.is_running(thread),
            "done": sum(result["status"] == "done" for result in results.values()),
            "steps": len(plan.get("steps") or ()),
            "cost": (values.get("usage") or {}).get("cost"),
        }

    def status_of(self, thread: str, snapshot: StateSnapshot) -> str:
        """Tell a thread's status. A run of another process looks like one that stopped."""
        return status_now(
            snapshot.values,
            asks=any(one.id not in self.kept(thread) for one in snapshot.interrupts),
            pending=bool(snapshot.tasks) or self.is_running(thread),
            is_run=lambda: self.is_running(thread),
        )

    async def snapshot(self, thread: str) -> StateSnapshot:
        """Read a thread's state.

        Raises:
            ThreadNotFoundError: If there is no such thread.
        """
        snapshot = await self.state(thread)
        if snapshot.created_at is None:
            raise ThreadNotFoundError(f"there is no thread {thread!r}")
        return snapshot

    async def moments(self, thread: str) -> list[Moment]:
        """List what happened in a run, oldest first; it is read again when there is more of it.

        Raises:
            ThreadNotFoundError: If there is no such thread.
        """
        now = await self.snapshot(thread)
        here = checkpoint_of(now)
        version = here, len(now.values.get("results") or ())
        known = self._moments.pop(thread, None)
        if known is None or known[0] != version:
            before = [one for one in await self.history(thread) if checkpoint_of(one) < here]
            known = version, run_redactor().value(moments_of([now, *before]))
        self._moments[thread] = known
        if len(self._moments) > _MOST_HISTORIES:
            del self._moments[next(iter(self._moments))]
        return known[1]

    async def past(self, thread: str, at: str) -> Past:
        """Read a run as it was.

        Raises:
            ThreadNotFoundError: If there is no such thread.
            InvalidInputError: If nothing is known of this moment.
        """
        moments = await self.moments(thread)
        number = next((number for number, one in enumerate(moments) if one.at == at), None)
        if number is None:
            raise InvalidInputError(f"thread {thread!r} has no moment {at!r}, or it is no longer kept")
        checkpoint, now = at.partition(AFTER)[0], await self.snapshot(thread)
        then = now if checkpoint_of(now) == checkpoint else await self.state(thread, checkpoint)
        return Past(as_of(then, at), moments, number)

    async def record(self, thread: str) -> RunRecord:
        """Read all about a run, without secrets; a step that runs now is marked so."""
        record: RunRecord = run_redactor().value(await self.read(thread))
        running = self.lives[thread].running if thread in self.lives else {}
        for step in record["steps"]:
            if step["id"] in running and step["status"] is None:
                record["outcomes"][step["outcome"]] -= 1
                step["outcome"] = "running"
                record["outcomes"]["running"] = record["outcomes"].get("running", 0) + 1
        record["outcomes"] = {outcome: count for outcome, count in record["outcomes"].items() if count}
        return record

    def live(self, thread: str) -> Live:
        """Give what changes in a run."""
        return self.lives.setdefault(thread, Live())

    async def look_around(self) -> None:
        """Look for changes by other processes, as long as this process lives."""
        seen: Any = None
        while True:
            await asyncio.sleep(_LOOKS_EVERY_S)
            watched = [(thread, live) for thread, live in self.lives.items() if live.watches]
            try:
                for thread, live in watched:
                    if self.hears(thread):
                        continue
                    snapshot = await self.state(thread)
                    if not self.hears(thread):  # it may have begun meanwhile
                        live.see(snapshot.values, questions_of(snapshot))
                self._waiting = None
                if self.watches:
                    now = [(one.id, one.at, one.status, len(one.questions)) for one in await self.threads()]
                    if seen is not None and now != seen:
                        self.changed()
                    seen = now
            except PlanExecuteError as error:
                _log.warning("the storage cannot be read now: %s", error)

    def changed(self) -> None:
        """Tell every browser that something has changed."""
        self._waiting = None
        self.version += 1
        for watch in self.watches:
            watch.put("changed", True)


def waiting_in(threads: Sequence[Thread]) -> int:
    """Count the open questions of threads."""
    return sum(len(one.questions) for one in threads)


def questions_of(snapshot: StateSnapshot) -> list[OpenQuestion]:
    """List the open questions of a thread, as they may be shown."""
    found = [OpenQuestion.of(interrupt) for interrupt in snapshot.interrupts]
    return run_redactor().value(found)
