"""The loop of a worker: take the oldest thread that nobody runs, go on with it, and so on.

The thread's lock is the claim: it is held from the look into the queue until what became of the thread is
written there, so two workers never have one thread, and a dead one's are free when its lock is.
"""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import RunnableConfig
from langgraph.types import Command, StateSnapshot

from ..context import Context, run_redactor, to_context
from ..errors import (
    ConfigurationError,
    PlanExecuteError,
    SchemaVersionError,
    StorageDamagedError,
    StorageError,
    ThreadBusyError,
)
from ..graph.door.enter import HOLD_KEY
from ..people.answers import safe_default_at
from ..state import FINAL_STATUSES
from ..tools.calls import describe_exception
from .queue import Queue, QueuedThread
from .requirements import check_can_begin, check_can_go_on
from .submission import queue_of

if TYPE_CHECKING:
    from ..graph.agent import PlanExecuteAgent

__all__ = ["TakenThread", "awork", "work"]

_log = logging.getLogger(__name__)
_LIST_HOLDS_S = 1.0
"""How long a list of the queue is worked through before it is read again."""
_BUSY_RESTS_S, _LACKING_RESTS_S = 0.5, 30.0
"""How long a worker leaves a thread alone that another has, or for which it lacks something."""
_LONGEST_OUTAGE_PAUSE_S = 30.0


@dataclass(frozen=True)
class TakenThread:
    """A thread that a worker took, and what came of it.

    Attributes:
        thread_id: The thread.
        status: How its run ended (``done``, ``partial``, ``failed``, ``rejected``); ``waiting`` for a person;
            ``put off`` to be tried again; ``parked``: given up; ``left`` to others: this worker stops.
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
    """Run the threads of the queue (see ``submit``), the oldest first, together with any number of workers.

    A thread that waits for a person leaves the queue until somebody submits the answer. One whose run raises
    is put off, longer each time; one that does so ``max_attempts`` times, or whose workers die so often with
    no step finished meanwhile, is parked: it stays in the queue with the reason until it is submitted again.

    Args:
        agent: Runs the threads; its checkpointer and store are those of ``postgres_persistence`` or
            ``local_persistence``.
        concurrency: Threads at the same time.
        until_idle: Return when the queue holds nothing that this worker could do, now or later.
        max_attempts: Attempts, with nothing done in between, after which a thread is parked.
        grace_s: How long runs may go on to their end after ``stop``; then they are cut off, to be resumed.
        poll_s: How often an idle worker looks, in seconds; each time is chosen at random, up to a half off.
        stop: Set it to stop.
        on_thread: Is told of each thread that was taken, when it is let go.
        on_event: Gets the runs' events.
        agent_for: Gives the agent for a thread, where they differ (in the workspace of tools, say).

    Returns:
        How many threads were taken, by `TakenThread.status`.

    Raises:
        ConfigurationError: If a number is out of its range, or the storage cannot be shared.
        StorageDamagedError: If the database is damaged; outages are waited out.
    """
    if concurrency < 1 or max_attempts < 1 or poll_s <= 0 or grace_s < 0:
        raise ConfigurationError(
            "concurrency and max_attempts must be at least 1, poll_s more than 0, grace_s not less than 0"
        )
    worker = _Worker(agent, queue_of(agent, run_redactor()), concurrency, max_attempts)
    worker.agent_for = agent_for or worker.agent_for
    worker.on_event, worker.on_thread = on_event, on_thread
    await worker.run(stop or asyncio.Event(), until_idle, grace_s, poll_s)
    return worker.ended


def work(agent: PlanExecuteAgent, **options: Any) -> Counter[str]:
    """Run the threads of the queue until SIGTERM or SIGINT; see :func:`awork` for the options.

    The first signal lets runs go on for ``grace_s`` seconds, the second cuts them off at once.
    """
    return asyncio.run(_work_until_signalled(agent, options))


async def _work_until_signalled(agent: PlanExecuteAgent, options: dict[str, Any]) -> Counter[str]:
    stop = asyncio.Event()
    with _signals(stop):
        return await awork(agent, stop=stop, **options)


@contextmanager
def _signals(stop: asyncio.Event) -> Iterator[None]:
    """Let the first signal set ``stop``, and the second cancel the task that waits for it."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can be told of signals
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
    """One worker: its slots, and the threads in them."""

    on_event: Callable[[dict[str, Any]], object] | None
    on_thread: Callable[[TakenThread], object] | None

    def __init__(self, agent: PlanExecuteAgent, queue: Queue, concurrency: int, max_attempts: int) -> None:
        self.agent = agent
        self.queue = queue
        self.ended: Counter[str] = Counter()
        self.agent_for: Callable[[str], PlanExecuteAgent] = lambda _: agent
        self._concurrency, self._max_attempts = concurrency, max_attempts
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._not_for_me: set[str] = set()
        self._rests: dict[str, float] = {}
        self._fault: BaseException | None = None

    async def run(self, stop: asyncio.Event, until_idle: bool, grace_s: float, poll_s: float) -> None:
        """Take threads until it is told to stop, or there is nothing left to do."""
        stopping = asyncio.create_task(stop.wait())
        pause = poll_s
        try:
            while not stop.is_set():
                if self._fault is not None:
                    raise self._fault
                try:
                    left = await self._fill(stopping)
                    pause = poll_s
                except StorageError as error:
                    if isinstance(error, StorageDamagedError | SchemaVersionError):
                        raise
                    _log.warning("the queue cannot be read now: %s", error)
                    left, pause = True, min(pause * 2, _LONGEST_OUTAGE_PAUSE_S)
                if until_idle and not left and not self._under_way:
                    return
                # Many workers that were started together must not look together.
                await self._wait(stopping, pause * random.uniform(0.5, 1.5))  # noqa: S311
            if self._under_way:
                await asyncio.wait(self._under_way.values(), timeout=grace_s)
        finally:
            stopping.cancel()
            for task in [*self._under_way.values()]:
                task.cancel()
            await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    async def _fill(self, stopping: asyncio.Task[Any]) -> bool:
        """Fill the free slots from the queue; tell whether it holds anything still to be done."""
        found, listed = await self.queue.all(), time.monotonic()
        open_ones = [one for one in found if one.parked is None and not one.asks]
        for one in found:
            if not one.is_due or one.thread_id in self._under_way or self._rests_now(one.thread_id, listed):
                continue
            while len(self._under_way) >= self._concurrency and not stopping.done():
                await asyncio.wait({stopping, *self._under_way.values()}, return_when=asyncio.FIRST_COMPLETED)
            if stopping.done() or time.monotonic() - listed > _LIST_HOLDS_S:
                return True
            task = asyncio.create_task(self._take(one.thread_id))
            self._under_way[one.thread_id] = task
            task.add_done_callback(partial(self._let_go, one.thread_id))
        return any(one.thread_id not in self._not_for_me for one in open_ones)

    def _let_go(self, thread_id: str, task: asyncio.Task[None]) -> None:
        del self._under_way[thread_id]
        if not task.cancelled():
            self._fault = self._fault or task.exception()

    def _rests_now(self, thread_id: str, now: float) -> bool:
        """Tell whether it is too early to try a thread again that somebody else has, or must have."""
        if self._rests.get(thread_id, 0.0) > now:
            return True
        self._rests.pop(thread_id, None)
        self._not_for_me.discard(thread_id)
        return False

    async def _wait(self, stopping: asyncio.Task[Any], seconds: float) -> None:
        """Wait for a thread that ends, for the end of it all, or for so long."""
        await asyncio.wait(
            {stopping, *self._under_way.values()}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
        )

    async def _take(self, thread_id: str) -> None:
        began = time.monotonic()
        saver: Any = self.agent.checkpointer
        try:
            async with saver.hold_thread(thread_id) as hold:
                came = await self._go_on(thread_id, hold)
        except ThreadBusyError:
            # Another worker has it.
            self._rests[thread_id] = time.monotonic() + _BUSY_RESTS_S
            return
        except StorageError as error:
            self._rests[thread_id] = time.monotonic() + _BUSY_RESTS_S
            _log.warning("thread %s: what became of it could not be written: %s", thread_id, error)
            return
        if came is not None:
            self._tell(TakenThread(thread_id, came[0], round(time.monotonic() - began, 3), came[1]))

    async def _go_on(self, thread_id: str, hold: Any) -> tuple[str, str | None] | None:
        """Go on with a thread that is held here; give its status and the reason, None: it was not taken."""
        # Again, as nobody else can change it now.
        queued = await self.queue.get(thread_id)
        if queued is None or not queued.is_due:
            return None
        begun = replace(queued, attempts=queued.attempts + 1)
        try:
            agent, config = self.agent_for(thread_id), _config(thread_id)
            snapshot = await agent.aget_state(config)
            if not snapshot.tasks:
                await self.queue.remove(thread_id)  # ended, or deleted, past the queue
                return None
            if (reason := _lacks(agent, snapshot, queued)) is not None:
                await self._leave_to_others(queued, reason)
                return None
            begun = queued.begun(_progress(snapshot))
            if begun.attempts > self._max_attempts:
                died = f"its worker died {self._max_attempts} times with no step finished in between"
                return await self._settle(replace(queued, parked=died))
            await self.queue.put(begun)
            await self._run(agent, begun, snapshot, hold)
            return await self._conclude(await agent.aget_state(config), begun)
        except asyncio.CancelledError:
            # Whoever goes on finds it as if this worker had not taken it.
            await asyncio.shield(self._settle(replace(queued, due=0.0)))
            self._tell(TakenThread(thread_id, "left", 0.0))
            raise
        except Exception as error:
            reason = describe_exception("the run", error, run_redactor())
            # Where the error is none of ours, only its traceback says where it comes from.
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

    async def _leave_to_others(self, queued: QueuedThread, reason: str) -> None:
        self._not_for_me.add(queued.thread_id)
        self._rests[queued.thread_id] = time.monotonic() + _LACKING_RESTS_S
        if queued.error != reason:
            _log.warning("thread %s is left to other workers: %s", queued.thread_id, reason)
            await self.queue.put(replace(queued, error=reason))

    async def _settle(self, queued: QueuedThread) -> tuple[str, str | None]:
        await self.queue.put(queued)
        return ("parked", queued.parked) if queued.parked is not None else ("put off", queued.error)

    async def _conclude(self, snapshot: StateSnapshot, queued: QueuedThread) -> tuple[str, str | None]:
        """Take a thread out of the queue whose run has ended, or waits for a person."""
        if snapshot.tasks and not snapshot.interrupts:
            return await self._settle(queued.failed("it stopped before its end", self._max_attempts))
        if (due := safe_default_at(snapshot, _patience(snapshot))) is not None:
            await self.queue.put(QueuedThread(queued.thread_id, at=queued.at, due=due, asks=True))
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
    """Name what the thread has got done: its checkpoint, and the steps that have ended since."""
    checkpoint_id = snapshot.config["configurable"].get("checkpoint_id", "")
    return f"{checkpoint_id}:{len(snapshot.values.get('results') or {})}"


def _lacks(agent: PlanExecuteAgent, snapshot: StateSnapshot, queued: QueuedThread) -> str | None:
    """Say what this worker was not given and the thread needs: it would fail here, and may not elsewhere."""
    values: Mapping[str, Any] = snapshot.values
    begins = values.get("status") is None or values["status"] in FINAL_STATUSES
    try:
        if begins:
            check_can_begin(agent, snapshot, to_context(queued.context) or Context())
        elif not queued.asks:
            check_can_go_on(agent, agent.toolbox, snapshot)
    except ConfigurationError as error:
        return str(error)
    return None


def _patience(snapshot: StateSnapshot) -> float | None:
    return (to_context(snapshot.values.get("settings")) or Context()).decision_timeout_s
