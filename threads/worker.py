"""Run a worker: procrastinate hands out threads, and the thread's lock decides who runs each.

The lock is held from reading the thread's row until the outcome is written there. So two workers never have
the same thread, whatever procrastinate believes, and a dead worker's threads are free when its lock is.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import RunnableConfig
from langgraph.types import Command, StateSnapshot

from ..context import Context, run_redactor, to_context
from ..errors import ConfigurationError, PlanExecuteError, StorageError, ThreadBusyError
from ..graph.door.enter import HOLD_KEY
from ..people.questions import safe_default_at
from ..tools.calls import describe_exception
from .queue import Queue, QueuedThread
from .requirements import Needs, needs_of
from .submission import queue_of

if TYPE_CHECKING:
    from ..graph.agent import PlanExecuteAgent

__all__ = ["TakenThread", "awork", "work"]

_log = logging.getLogger(__name__)
_SUBMITTER_LETS_GO_S = (0.02, 0.05, 0.1, 0.2)
"""When to retry a held thread: its submitter releases it a moment after the worker is told."""
_BUSY_RESTS_S = 1.0
"""How long to leave a thread alone that another process holds."""


@dataclass(frozen=True)
class TakenThread:
    """A thread that a worker took, and the outcome.

    Attributes:
        thread_id: The thread.
        status: How its run ended (``done``, ``partial``, ``failed``, ``rejected``); ``waiting`` for a person;
            ``put off`` to be retried; ``parked``; ``left`` to others because this worker stops.
        seconds: How long it was held.
        reason: Why it was put off or parked.
    """

    thread_id: str
    status: str
    seconds: float
    reason: str | None = None


async def awork(
    agent: PlanExecuteAgent,
    *,
    concurrency: int = 4,
    until_idle: bool = False,
    max_attempts: int = 5,
    grace_s: float = 20.0,
    poll_s: float = 1.0,
    stop: asyncio.Event | None = None,
    on_thread: Callable[[TakenThread], object] | None = None,
    on_event: Callable[[dict[str, Any]], object] | None = None,
    agent_for: Callable[[str], PlanExecuteAgent] | None = None,
) -> Counter[str]:
    """Run the threads of the queue (see ``submit``), by priority and age, with any number of workers.

    This needs a PostgreSQL database and the extra ``workers``. A worker takes only threads whose tools and
    models it has. A thread that waits for a person leaves the queue until the answer is submitted. If a run
    raises, it is retried later, after longer and longer pauses. If that happens ``max_attempts`` times, or
    its workers die so often with no step finished in between, it is parked: it stays in the queue with the
    reason until it is submitted again.

    Args:
        agent: Runs the threads; its checkpointer and store are those of ``postgres_persistence``.
        concurrency: Threads at the same time.
        until_idle: Return when the queue has nothing that this worker could do, now or later.
        max_attempts: Attempts, with nothing done in between, after which a thread is parked.
        grace_s: How long runs may finish after ``stop``; then they are interrupted, to be resumed.
        poll_s: How often a worker looks for due threads and dead workers; the database
            notifies it of new threads.
        stop: Set it to stop.
        on_thread: Called for each thread that was taken, when it is released.
        on_event: Gets the runs' events.
        agent_for: Returns the agent for a thread, if they differ (for example in the tools' workspace).

    Returns:
        How many threads were taken, by `TakenThread.status`.

    Raises:
        ConfigurationError: If a number is out of its range, or there is no queue.
        StorageDamagedError: If the database is damaged; outages are waited out.
    """
    if concurrency < 1 or max_attempts < 1 or poll_s <= 0 or grace_s < 0:
        raise ConfigurationError(
            "concurrency and max_attempts must be at least 1, poll_s more than 0, grace_s not less than 0"
        )
    worker = _Worker(agent, await queue_of(agent, run_redactor()), max_attempts)
    worker.agent_for = agent_for or worker.agent_for
    worker.on_event, worker.on_thread = on_event, on_thread
    from .dispatch import dispatch

    await dispatch(
        worker.take,
        worker.queue.tables,
        agent,
        stop or asyncio.Event(),
        concurrency=concurrency,
        until_idle=until_idle,
        grace_s=grace_s,
        poll_s=poll_s,
    )
    return worker.ended


def work(agent: PlanExecuteAgent, **options: Any) -> Counter[str]:
    """Run the threads of the queue until SIGTERM or SIGINT; see :func:`awork` for the options.

    The first signal lets runs continue for ``grace_s`` seconds, the second interrupts them at once.
    """
    return asyncio.run(_work_until_signalled(agent, options))


async def _work_until_signalled(agent: PlanExecuteAgent, options: dict[str, Any]) -> Counter[str]:
    stop = asyncio.Event()
    with _signals(stop):
        return await awork(agent, stop=stop, **options)


@contextmanager
def _signals(stop: asyncio.Event) -> Iterator[None]:
    """Set ``stop`` at the first signal, and cancel the waiting task at the second."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Only the main thread can receive signals.
        return
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def on_signal(*_: object) -> None:
        loop.call_soon_threadsafe(task.cancel if stop.is_set() else stop.set)

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Worker:
    """What one worker does with a thread."""

    on_event: Callable[[dict[str, Any]], object] | None
    on_thread: Callable[[TakenThread], object] | None

    def __init__(self, agent: PlanExecuteAgent, queue: Queue, max_attempts: int) -> None:
        self.agent = agent
        self.queue = queue
        self.ended: Counter[str] = Counter()
        self.agent_for: Callable[[str], PlanExecuteAgent] = lambda _: agent
        self._max_attempts = max_attempts

    async def take(self, thread_id: str) -> None:
        """Continue a thread, unless another process holds it; then return it for later."""
        began = time.monotonic()
        try:
            async with AsyncExitStack() as stack:
                hold = await self._hold(stack, thread_id)
                came = await self._go_on(thread_id, hold)
        except ThreadBusyError:
            await self.queue.again(thread_id, _BUSY_RESTS_S)
            return
        except asyncio.CancelledError:
            await asyncio.shield(self.queue.again(thread_id, 0.0))
            raise
        except StorageError as error:
            _log.warning("thread %s: its outcome could not be recorded: %s", thread_id, error)
            raise
        if came is not None:
            self._tell(TakenThread(thread_id, came[0], round(time.monotonic() - began, 3), came[1]))

    async def _hold(self, stack: AsyncExitStack, thread_id: str) -> Any:
        saver: Any = self.agent.checkpointer
        for pause in _SUBMITTER_LETS_GO_S:
            try:
                return await stack.enter_async_context(saver.hold_thread(thread_id))
            except ThreadBusyError:
                await asyncio.sleep(pause)
        return await stack.enter_async_context(saver.hold_thread(thread_id))

    async def _go_on(self, thread_id: str, hold: Any) -> tuple[str, str | None] | None:
        """Continue a held thread; return its status and the reason, or None if it was not taken."""
        queued = await self.queue.get(thread_id)
        if queued is None or queued.parked is not None:
            return None
        if not queued.is_due:
            await self.queue.put(queued)  # So it is handed out again when it is due.
            return None
        begun = replace(queued, attempts=queued.attempts + 1)
        try:
            agent, config = self.agent_for(thread_id), _config(thread_id)
            snapshot = await agent.aget_state(config)
            if not snapshot.tasks:
                await self.queue.remove(thread_id)  # It ended, or was deleted, outside the queue.
                return None
            needs = needs_of(snapshot, queued.context)
            if not queued.asks and (lacking := needs.missing(agent.toolbox, agent.models)):
                await self._leave_to_others(queued.needing(needs), lacking)
                return None
            begun = queued.begun(_progress(snapshot))
            if begun.attempts > self._max_attempts:
                died = f"its worker died {self._max_attempts} times with no step finished in between"
                return await self._settle(replace(queued, parked=died))
            await self.queue.note(begun)
            await self._run(agent, begun, snapshot, hold)
            return await self._conclude(await agent.aget_state(config), begun)
        except asyncio.CancelledError:
            # The next runner finds it as if this worker had not taken it.
            await asyncio.shield(self._settle(replace(queued, due=0.0)))
            self._tell(TakenThread(thread_id, "left", 0.0))
            raise
        except Exception as error:
            reason = describe_exception("the run", error, run_redactor())
            # For a foreign error, only its traceback says where it comes from.
            _log.warning("thread %s: %s", thread_id, reason, exc_info=not isinstance(error, PlanExecuteError))
            return await self._settle(begun.failed(reason, self._max_attempts))

    async def _run(
        self, agent: PlanExecuteAgent, queued: QueuedThread, snapshot: StateSnapshot, hold: Any
    ) -> None:
        config: RunnableConfig = {"configurable": {"thread_id": queued.thread_id, HOLD_KEY: hold}}
        still_open = {question.id for question in snapshot.interrupts}
        answers = {key: value for key, value in (queued.resume or {}).items() if key in still_open}
        given: Any = Command(resume=answers) if answers else None
        mode = "custom" if self.on_event is not None else "updates"
        async for event in agent.astream(given, config, context=queued.context, stream_mode=mode):
            if self.on_event is not None:
                self.on_event(event)

    async def _leave_to_others(self, queued: QueuedThread, lacking: Needs) -> None:
        _log.warning("thread %s is left to a worker with %s", queued.thread_id, lacking)
        await self.queue.put(queued)

    async def _settle(self, queued: QueuedThread) -> tuple[str, str | None]:
        await self.queue.put(queued)
        return ("parked", queued.parked) if queued.parked is not None else ("put off", queued.error)

    async def _conclude(self, snapshot: StateSnapshot, queued: QueuedThread) -> tuple[str, str | None]:
        """Remove a thread from the queue if its run has ended, or waits for a person."""
        if snapshot.tasks and not snapshot.interrupts:
            return await self._settle(queued.failed("it stopped before its end", self._max_attempts))
        if (due := safe_default_at(snapshot, _patience(snapshot))) is not None:
            await self.queue.put(
                QueuedThread(queued.thread_id, at=queued.at, due=due, asks=True, priority=queued.priority)
            )
        else:
            await self.queue.remove(queued.thread_id)
        return "waiting" if snapshot.interrupts else str(snapshot.values.get("status")), None

    def _tell(self, taken: TakenThread) -> None:
        self.ended[taken.status] += 1
        if self.on_thread is not None:
            self.on_thread(taken)


def _config(thread_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id}}


def _progress(snapshot: StateSnapshot) -> str:
    """Identify the thread's progress: its checkpoint, and the steps that have ended since."""
    checkpoint_id = snapshot.config["configurable"].get("checkpoint_id", "")
    return f"{checkpoint_id}:{len(snapshot.values.get('results') or {})}"


def _patience(snapshot: StateSnapshot) -> float | None:
    return (to_context(snapshot.values.get("settings")) or Context()).decision_timeout_s
