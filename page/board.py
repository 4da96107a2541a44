"""The threads of one database, and those that this process runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from langchain_core.runnables import RunnableConfig
from langgraph.types import Command

from ..context import run_redactor, to_context
from ..errors import PlanExecuteError, ThreadBusyError, ThreadNotFoundError
from ..graph.control import cancel_run, edit_plan, retry_steps
from ..people.questions import OpenQuestion, is_ours
from ..report import RunRecord, aread_run
from ..state import FINAL_STATUSES
from ..storage.persistence import list_threads
from ..threads.requirements import check_can_go_on
from .live import Live, Watch

if TYPE_CHECKING:
    from langgraph.types import StateSnapshot

    from ..graph.agent import PlanExecuteAgent

__all__ = ["Board", "PlanReader", "Thread", "config_of", "questions_of"]

_log = logging.getLogger(__name__)

PlanReader = Callable[[str, Mapping[str, str], Mapping[str, Any]], tuple[dict[str, Any], dict[str, Any]]]
"""Reads the text of a plan file, with texts and exact values for its inputs.

It gives the plan and the inputs, and raises `InvalidPlanError` with the issues.
"""
_LOOKS_EVERY_S = 2.0
"""How often the storage is asked about what others run."""


@dataclass(frozen=True)
class Thread:
    """A line of the list."""

    id: str
    at: str
    """When it was last written, ISO 8601."""
    goal: str
    status: str
    """As in the state; or ``waiting``, ``running`` (here), ``stopped`` (or run elsewhere)."""
    questions: list[OpenQuestion]
    done: int
    steps: int
    cost: float | None


def config_of(thread: str) -> RunnableConfig:
    """Name a thread to LangGraph."""
    return {"configurable": {"thread_id": thread}}


@dataclass
class Board:
    """What the page shows and does.

    Attributes:
        agent: Reads threads, and ends them; it needs no tools.
        agent_for: Gives the agent that runs a thread.
        read_plan: Reads plan files.
    """

    agent: PlanExecuteAgent
    agent_for: Callable[[str], PlanExecuteAgent]
    read_plan: PlanReader
    faults: dict[str, str] = field(default_factory=dict)
    """Why a run of this process stopped before its end, by thread."""
    watches: set[Watch] = field(default_factory=set)
    """Browsers that are told when anything about any thread has changed."""

    def __post_init__(self) -> None:
        self._lives: dict[str, Live] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._agents: dict[str, PlanExecuteAgent] = {}
        self._ended: dict[tuple[str, str], Thread] = {}
        self._refusals: dict[str, Exception] = {}
        self._waiting: int | None = None

    # --- looking ----------------------------------------------------------------------------

    async def threads(self) -> list[Thread]:
        """List the threads, newest first."""
        listed = await asyncio.to_thread(lambda: list(list_threads(self.agent.checkpointer)))  # type: ignore[arg-type]
        found = [await self._thread(thread, at) for thread, at in listed]
        self._waiting = sum(len(one.questions) for one in found)
        return found

    async def waiting(self) -> int:
        """Count the open questions; what has not changed since is not counted again."""
        if self._waiting is None:
            await self.threads()
        return self._waiting or 0

    async def _thread(self, thread: str, at: str) -> Thread:
        """Describe a thread; one that has ended is read once."""
        if thread not in self._tasks and (known := self._ended.get((thread, at))):
            return known
        snapshot = await self.agent.aget_state(config_of(thread))
        found = run_redactor().value(self._described(thread, at, snapshot))
        if found["status"] in FINAL_STATUSES and not snapshot.tasks:
            self._ended[thread, at] = Thread(**found, questions=[])
        return Thread(**found, questions=questions_of(snapshot))

    def _described(self, thread: str, at: str, snapshot: StateSnapshot) -> dict[str, Any]:
        values = snapshot.values
        results, plan = values.get("results") or {}, values.get("plan") or {}
        return {
            "id": thread,
            "at": at,
            "goal": str(values.get("goal") or plan.get("goal") or ""),
            "status": self.status_of(thread, snapshot),
            "done": sum(result["status"] == "done" for result in results.values()),
            "steps": len(plan.get("steps") or ()),
            "cost": (values.get("usage") or {}).get("cost"),
        }

    def status_of(self, thread: str, snapshot: StateSnapshot) -> str:
        """Tell a thread's status, as far as this process can: a run of others looks like one that stopped."""
        if thread in self._tasks:
            return "running"
        if snapshot.interrupts:
            return "waiting"
        status = str(snapshot.values.get("status") or "planning")
        return status if status in FINAL_STATUSES and not snapshot.tasks else "stopped"

    async def snapshot(self, thread: str) -> StateSnapshot:
        """Read a thread's state.

        Raises:
            ThreadNotFoundError: If there is no such thread.
        """
        snapshot = await self.agent.aget_state(config_of(thread))
        if snapshot.created_at is None:
            raise ThreadNotFoundError(f"there is no thread {thread!r}")
        return snapshot

    async def record(self, thread: str) -> RunRecord:
        """Read all about a run, without secrets; a step that runs now is marked so."""
        record: RunRecord = run_redactor().value(await aread_run(self.agent, config_of(thread)))
        running = self._lives[thread].running if thread in self._lives else {}
        for step in record["steps"]:
            if step["id"] in running and step["status"] is None:
                record["outcomes"][step["outcome"]] -= 1
                step["outcome"] = "running"
                record["outcomes"]["running"] = record["outcomes"].get("running", 0) + 1
        record["outcomes"] = {outcome: count for outcome, count in record["outcomes"].items() if count}
        return record

    def is_running(self, thread: str) -> bool:
        """Tell whether this process runs a thread."""
        return thread in self._tasks

    def live(self, thread: str) -> Live:
        """Give what changes in a run."""
        return self._lives.setdefault(thread, Live())

    async def look_around(self) -> None:
        """Look for what others change, as long as this process lives."""
        seen: Any = None
        while True:
            await asyncio.sleep(_LOOKS_EVERY_S)
            watched = [(thread, live) for thread, live in self._lives.items() if live.watches]
            try:
                for thread, live in watched:
                    if thread not in self._tasks:
                        snapshot = await self.agent.aget_state(config_of(thread))
                        live.see(snapshot.values, questions_of(snapshot))
                self._waiting = None
                if self.watches:
                    now = [(one.id, one.at, one.status, len(one.questions)) for one in await self.threads()]
                    if seen is not None and now != seen:
                        self._changed()
                    seen = now
            except PlanExecuteError as error:
                _log.warning("the storage cannot be read now: %s", error)

    def _changed(self) -> None:
        self._waiting = None
        for watch in self.watches:
            watch.put("changed", True)

    # --- running ----------------------------------------------------------------------------

    async def start(self, given: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
        """Begin a run, and return its thread when it is on disk.

        Raises:
            PlanExecuteError: If it was refused; there is no thread then.
        """
        thread = uuid4().hex[:12]
        await self._begin(thread, given, settings)

        async def is_kept() -> bool:
            return (await self.agent.aget_state(config_of(thread))).created_at is not None

        await self._wait_for(thread, is_kept)
        self._raise_if_refused(thread)
        return thread

    async def answer(self, thread: str, question_id: str, answer: Any) -> None:
        """Answer a question and go on; return when the answer is on disk.

        Raises:
            PlanExecuteError: If it was refused; the question is still open then.
        """
        await self._begin(thread, Command(resume={question_id: answer}))

        async def is_kept() -> bool:
            snapshot = await self.agent.aget_state(config_of(thread))
            return question_id not in {one.id for one in snapshot.interrupts}

        if is_ours(question_id):
            await self._wait_for(thread, is_kept)
        self._raise_if_refused(thread)

    async def go_on(self, thread: str) -> None:
        """Go on with a run that stopped.

        Raises:
            PlanExecuteError: If it cannot go on, or somebody else runs it.
        """
        agent = self.agent_for(thread)
        check_can_go_on(agent, agent.toolbox, await self.snapshot(thread))
        await self._begin(thread, None)
        self._raise_if_refused(thread)

    async def retry(self, thread: str, step_ids: list[str] | None) -> None:
        """Run failed or chosen steps again, and what depends on them.

        Raises:
            PlanExecuteError: If there is nothing to run again, or it cannot.
        """
        agent = self.agent_for(thread)
        check_can_go_on(agent, agent.toolbox, await self.snapshot(thread), again=True)
        await retry_steps(agent, config_of(thread), step_ids)
        await self._begin(thread, None)
        self._raise_if_refused(thread)

    async def change_plan(self, thread: str, plan: Mapping[str, Any]) -> None:
        """Put an edited plan in the place of a run's, and go on with it.

        Raises:
            PlanExecuteError: If it cannot run, or the run is going on.
        """
        await edit_plan(self.agent_for(thread), config_of(thread), plan)
        await self._begin(thread, None)
        self._raise_if_refused(thread)

    async def cancel(self, thread: str) -> None:
        """End a run, here or elsewhere; what is done is kept.

        Raises:
            PlanExecuteError: If it has ended already.
        """
        await cancel_run(self._agents.get(thread, self.agent), config_of(thread))
        self.live(thread).stopped()
        self._changed()

    async def _begin(self, thread: str, given: Any, settings: Mapping[str, Any] | None = None) -> None:
        """Start to run a thread, and return when it is held here or was refused."""
        if thread in self._tasks:
            raise ThreadBusyError(f"thread {thread!r} is running here already")
        self.faults.pop(thread, None)
        self._refusals.pop(thread, None)
        agent = self.agent_for(thread)
        task = asyncio.create_task(self._run(agent, thread, given, settings))
        self._tasks[thread], self._agents[thread] = task, agent

        async def is_held() -> bool:
            return thread in {running for running, _ in set(agent.running)}

        await self._wait_for(thread, is_held)
        self._changed()

    async def _wait_for(self, thread: str, is_so: Callable[[], Awaitable[bool]]) -> None:
        """Wait until it is so, or the thread is not run here any more."""
        while thread in self._tasks and not await is_so():  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.02)

    def _raise_if_refused(self, thread: str) -> None:
        """Raise what ended a run that has just begun."""
        if thread in self._refusals:
            self.faults.pop(thread, None)
            raise self._refusals.pop(thread)

    async def _run(
        self, agent: PlanExecuteAgent, thread: str, given: Any, settings: Mapping[str, Any] | None
    ) -> None:
        live = self.live(thread)
        begun = False
        try:
            events = agent.astream(
                given, config_of(thread), context=to_context(settings or None), stream_mode="custom"
            )
            async for event in events:
                begun = True
                live.hear(event)
                if event["type"] == "question_open":
                    self._changed()
        except Exception as error:
            self._note_fault(thread, error, refused=not begun)
        finally:
            del self._tasks[thread], self._agents[thread]
            live.stopped()
            self._changed()

    def _note_fault(self, thread: str, error: Exception, *, refused: bool) -> None:
        if refused:
            self._refusals[thread] = error
        said = run_redactor().text(f"{type(error).__name__}: {error}")
        self.faults[thread] = f"{datetime.now(UTC):%H:%M:%S} UTC: {said}"
        _log.warning("thread %s stopped: %s", thread, said, exc_info=not isinstance(error, PlanExecuteError))

    async def close(self) -> None:
        """Stop what runs; each thread can go on from where it is."""
        tasks = [*self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def questions_of(snapshot: StateSnapshot) -> list[OpenQuestion]:
    """List the open questions of a thread, as they may be shown."""
    found = [OpenQuestion.of(interrupt) for interrupt in snapshot.interrupts]
    return run_redactor().value(found)
