"""The threads of one database, and those that this process runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4
from weakref import WeakValueDictionary

from langgraph.types import Command

from ..context import run_redactor, to_context
from ..errors import InvalidInputError, PlanExecuteError, ThreadBusyError
from ..graph.control import (
    cancel_run,
    check_edit,
    check_may_answer,
    edit_plan,
    is_answered,
    retry_steps,
)
from ..people.questions import is_ours
from ..report import RunRecord, aread_run
from ..storage.thread_names import list_threads
from ..threads.requirements import check_can_go_on, impossible_decisions
from ..threads.schedules import Schedules
from .threads import MOST_CHECKPOINTS, Threads, config_of

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.types import StateSnapshot

    from ..graph.agent import PlanExecuteAgent

__all__ = ["Board", "PlanReader"]

_log = logging.getLogger(__name__)

PlanReader = Callable[[str, Mapping[str, str], Mapping[str, Any]], tuple[dict[str, Any], dict[str, Any]]]
"""Reads the text of a plan file, with texts and exact values for its inputs.

It gives the plan and the inputs, and raises `InvalidPlanError` with the issues.
"""


class _Kept(NamedTuple):
    """An answer that came while other steps ran, and who gave it."""

    answer: Any
    person: str | None


class Board(Threads):
    """Shows the threads of a database, and runs them in the name of the person who asks for it.

    Attributes:
        agent: Reads threads, and ends them; it needs no tools.
        agent_for: Gives the agent that runs a thread.
        read_plan: Reads plan files.
    """

    def __init__(
        self, agent: PlanExecuteAgent, agent_for: Callable[[str], PlanExecuteAgent], read_plan: PlanReader
    ) -> None:
        super().__init__()
        self.agent, self.agent_for, self.read_plan = agent, agent_for, read_plan
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._agents: dict[str, PlanExecuteAgent] = {}
        self._refusals: dict[str, Exception] = {}
        self._kept: dict[str, dict[str, _Kept]] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._closing = False

    # --- looking ----------------------------------------------------------------------------

    async def listed(self) -> Sequence[tuple[str, str]]:
        """List the threads of the database."""
        return await asyncio.to_thread(lambda: list(list_threads(self.agent.checkpointer)))

    async def state(self, thread: str, checkpoint: str | None = None) -> StateSnapshot:
        """Read a thread's state."""
        return await self.agent.aget_state(config_of(thread, checkpoint))

    async def history(self, thread: str) -> Sequence[StateSnapshot]:
        """Read the newest states of a thread, newest first."""
        states = self.agent.aget_state_history(config_of(thread), limit=MOST_CHECKPOINTS)
        return [one async for one in states]

    async def read(self, thread: str) -> RunRecord:
        """Read all about a run, with what the store has of it."""
        return await aread_run(
            self.agent, config_of(thread), lambda snapshot: self.status_of(thread, snapshot)
        )

    def is_running(self, thread: str) -> bool:
        """Tell whether this process runs a thread."""
        return thread in self._tasks

    def impossible(self, values: Mapping[str, Any]) -> Collection[str]:
        """Name the decisions that could not be carried out here on a thread with this state."""
        return impossible_decisions(self.agent, values)

    def hears(self, thread: str) -> bool:
        """Tell whether this process gets a run's events: it does if it runs the thread."""
        return self.is_running(thread)

    def kept(self, thread: str) -> Collection[str]:
        """Name the questions whose answers wait until the steps that run have ended."""
        return self._kept.get(thread, {}).keys()

    async def schedules(self) -> Schedules:
        """Return the schedules of the database."""
        return await Schedules.of(self.agent)

    # --- running ----------------------------------------------------------------------------

    async def start(self, given: Mapping[str, Any], settings: Mapping[str, Any], person: str | None) -> str:
        """Begin a run, and return its thread when it is on disk.

        Args:
            given: Its input.
            settings: Its settings.
            person: Who orders it, as in all methods that change a run; None if nobody knows.

        Raises:
            PlanExecuteError: If it was refused; there is no thread then.
        """
        thread = uuid4().hex[:12]
        await self._begin(thread, given, person, settings)

        async def is_kept() -> bool:
            return (await self.state(thread)).created_at is not None

        await self._wait_for(thread, is_kept)
        self._raise_if_refused(thread)
        return thread

    async def answer(self, thread: str, question_id: str, answer: Any, person: str | None) -> None:
        """Answer a question and go on; return when the answer is on disk.

        While other steps run, the answer is kept until they have ended: the graph accepts none before that.

        Raises:
            PlanExecuteError: If it was refused; the question is still open then.
        """
        async with self._one_change(thread):
            if thread in self._tasks:
                await check_may_answer(self.agent_for(thread), config_of(thread), question_id, person=person)
            if thread in self._tasks:
                self._kept.setdefault(thread, {})[question_id] = _Kept(answer, person)
                self.live(thread).tell("stale", {"rest": True})
                self.changed()
                return
            await self._begin(thread, Command(resume={question_id: answer}), person)

            async def is_kept() -> bool:
                snapshot = await self.state(thread)
                is_open = question_id in {one.id for one in snapshot.interrupts}
                # A tool's own question stays open until the tool has ended.
                return not is_open or await is_answered(self.agent, config_of(thread), question_id)

            if is_ours(question_id):
                await self._wait_for(thread, is_kept)
            self._raise_if_refused(thread)

    async def go_on(self, thread: str, person: str | None) -> None:
        """Go on with a run that stopped.

        Raises:
            PlanExecuteError: If it cannot go on, or somebody else runs it.
        """
        async with self._one_change(thread):
            agent = self.agent_for(thread)
            check_can_go_on(agent, agent.toolbox, await self.snapshot(thread))
            await self._begin(thread, None, person)
            self._raise_if_refused(thread)

    async def fork(self, thread: str, checkpoint: str, person: str | None) -> None:
        """Go on from an earlier checkpoint, as LangGraph forks.

        Raises:
            PlanExecuteError: If it cannot go on from there, or somebody runs the thread.
        """
        async with self._one_change(thread):
            agent = self.agent_for(thread)
            check_can_go_on(agent, agent.toolbox, await self.state(thread, checkpoint))
            await self._begin(thread, None, person, checkpoint=checkpoint)
            self._raise_if_refused(thread)

    async def stop(self, thread: str) -> None:
        """Stop a run of this process as Ctrl-C does: running steps are cut off, and it can go on.

        Kept answers stay; they are given when it has gone on.

        Raises:
            InvalidInputError: If this process does not run it.
        """
        async with self._one_change(thread):
            if thread not in self._tasks:
                raise InvalidInputError(
                    f"this page does not run thread {thread!r} now, so there is nothing to stop"
                )
            await self._stop(thread)

    async def _stop(self, thread: str) -> None:
        if (task := self._tasks.get(thread)) is not None:
            task.cancel()
            await asyncio.wait({task})

    async def retry(
        self,
        thread: str,
        step_ids: list[str] | None,
        person: str | None,
        *,
        stop: bool = False,
        seen: Mapping[str, str] | None = None,
    ) -> None:
        """Run failed or chosen steps again, and what depends on them.

        With ``stop``, a run of this process is stopped for it. ``seen`` is as for `retry_steps`.

        Raises:
            PlanExecuteError: If there is nothing to run again, or it cannot.
        """
        async with self._one_change(thread):
            agent = self.agent_for(thread)
            check_can_go_on(agent, agent.toolbox, await self.snapshot(thread), again=True)
            if stop and thread in self._tasks:
                await self._stop(thread)
            await retry_steps(agent, config_of(thread), step_ids, person=person, seen=seen)
            await self._begin(thread, None, person)
            self._raise_if_refused(thread)

    async def check_plan(self, thread: str, plan: Mapping[str, Any]) -> None:
        """Refuse an edited plan that cannot take the place of a run's.

        Raises:
            PlanExecuteError: If it cannot run.
        """
        await check_edit(self.agent_for(thread), config_of(thread), plan)

    async def change_plan(
        self, thread: str, plan: Mapping[str, Any], person: str | None, *, stop: bool = False
    ) -> None:
        """Put an edited plan in the place of a run's, and go on with it.

        With ``stop``, a run of this process is stopped for it, if the plan can run.

        Raises:
            PlanExecuteError: If it cannot run, or the run is going on.
        """
        async with self._one_change(thread):
            if stop and thread in self._tasks:
                await self.check_plan(thread, plan)
                await self._stop(thread)
            await edit_plan(self.agent_for(thread), config_of(thread), plan, person=person)
            await self._begin(thread, None, person)
            self._raise_if_refused(thread)

    async def cancel(self, thread: str, person: str | None) -> None:
        """End a run, here or elsewhere; what is done is kept.

        Raises:
            PlanExecuteError: If it has ended already.
        """
        await cancel_run(self._agents.get(thread, self.agent), config_of(thread), person=person)
        self.live(thread).stopped()
        self.changed()

    def _one_change(self, thread: str) -> asyncio.Lock:
        """Return the lock of a thread's changes.

        Changes of a thread wait for each other, so that a stop cannot cut off an answer that is being
        recorded.
        """
        return self._locks.setdefault(thread, asyncio.Lock())

    async def _begin(
        self,
        thread: str,
        given: Any,
        person: str | None,
        settings: Mapping[str, Any] | None = None,
        *,
        checkpoint: str | None = None,
    ) -> None:
        """Start to run a thread, and return when it is held here or was refused."""
        if thread in self._tasks:
            raise ThreadBusyError(f"thread {thread!r} is running here already")
        self.faults.pop(thread, None)
        self._refusals.pop(thread, None)
        agent = self.agent_for(thread)
        # A person's name, given alone, changes no setting of the thread.
        told = {**(settings or {}), **({} if person is None else {"person": person})}
        task = asyncio.create_task(self._run(agent, thread, config_of(thread, checkpoint), given, told))
        self._tasks[thread], self._agents[thread] = task, agent

        async def is_held() -> bool:
            return thread in {running for running, _ in set(agent.running)}

        await self._wait_for(thread, is_held)
        self.changed()

    async def _wait_for(self, thread: str, is_so: Callable[[], Awaitable[bool]]) -> None:
        """Wait until the condition holds, or this process no longer runs the thread."""
        while thread in self._tasks and not await is_so():  # noqa: ASYNC110 - no event reports it
            await asyncio.sleep(0.02)

    def _raise_if_refused(self, thread: str) -> None:
        """Raise what ended a run that has just begun."""
        if thread in self._refusals:
            self.faults.pop(thread, None)
            raise self._refusals.pop(thread)

    async def _run(
        self,
        agent: PlanExecuteAgent,
        thread: str,
        config: RunnableConfig,
        given: Any,
        settings: Mapping[str, Any],
    ) -> None:
        live = self.live(thread)
        live.begin()
        begun = False
        try:
            told = to_context(settings or None)
            modes = ["custom", "messages"]
            async for mode, new in agent.astream(given, config, context=told, stream_mode=modes):
                begun = True
                if mode == "messages":
                    live.hear_words(*new)
                elif isinstance(new, Mapping):  # a tool may write anything
                    live.hear(new)
                    if new.get("type") == "question_open":
                        self.changed()
        except Exception as error:
            self._note_fault(thread, error, refused=not begun)
        finally:
            del self._tasks[thread], self._agents[thread]
            live.stopped()
            self.changed()
        await self._give_kept(thread)

    async def _give_kept(self, thread: str) -> None:
        """Go on with the answers that came meanwhile, one person's answers at a time."""
        if thread not in self._kept:
            return
        if thread not in self.faults:
            try:
                asked = {one.id for one in (await self.state(thread)).interrupts}
            except PlanExecuteError as error:
                self._note_fault(thread, error, refused=False)
        if thread in self._tasks or self._closing:
            return  # A run that has begun meanwhile gives them when it ends.
        if thread in self.faults:
            self.faults[thread] += " Kept answers are given when it has gone on."
            return
        kept = self._kept.pop(thread, {})
        kept = {question: one for question, one in kept.items() if question in asked}
        if not kept:
            return
        person = next(iter(kept.values())).person
        given = {question: one.answer for question, one in kept.items() if one.person == person}
        if later := {question: one for question, one in kept.items() if question not in given}:
            self._kept[thread] = later
        await self._begin(thread, Command(resume=given), person)

    def _note_fault(self, thread: str, error: Exception, *, refused: bool) -> None:
        if refused:
            self._refusals[thread] = error
        said = run_redactor().text(f"{type(error).__name__}: {error}")
        self.faults[thread] = f"{datetime.now(UTC):%H:%M:%S} UTC: {said}"
        _log.warning("thread %s stopped: %s", thread, said, exc_info=not isinstance(error, PlanExecuteError))

    async def close(self) -> None:
        """Stop what runs; each thread can go on from where it is."""
        self._closing = True
        tasks = [*self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
