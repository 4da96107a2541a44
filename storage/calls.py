"""Send async calls to a storage: to a thread that shares commits, to its event loop, or to a pool.

A fault in such a call is reported to the piece of work that made it.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from enum import IntEnum
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

from ..errors import ConfigurationError, PlanExecuteError

__all__ = ["Access", "Bridge", "StorageThread", "collect_faults", "is_collected_fault", "note_fault"]

T = TypeVar("T")

# --- one thread for a database with one connection ------------------------------------


class Access(IntEnum):
    """The transaction that a call may share; several calls use what the most demanding one needs."""

    ALONE = 0
    """It is not part of a transaction, or opens its own."""
    READ = 1
    WRITE = 2
    DURABLE = 3
    """It may return only when its writes are on disk."""


class OpenTransaction(Protocol):
    """Opens a transaction for the calls of its body."""

    def __call__(self, *, write: bool, durable: bool) -> AbstractContextManager[object]:
        """Open it."""
        ...


@dataclass
class _Call:
    work: Callable[[], Any]
    access: Access
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None
    ended: bool = False
    """Whether its event loop has been told that it ended."""

    def run(self) -> None:
        """Do the work, and keep its result or exception."""
        try:
            self.result, self.error = self.work(), None
        except StopIteration as stop:  # A future cannot hold a StopIteration.
            self.error = RuntimeError(f"a call on the storage raised StopIteration: {stop}")
        except BaseException as error:
            self.error = error

    def settle(self) -> None:
        """Tell the waiting caller, in its event loop."""
        self.ended = True
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class StorageThread:
    """Runs calls one after the other; those that wait at the same moment share one transaction.

    Waiting for the disk costs the same for one write as for many, and switching threads for a result costs
    more than most results.

    Args:
        transaction: Opens one on the database.
        name: The thread's.
        most: Calls per transaction, because other processes wait for it.
        alone: Where calls run that could not share a transaction; None for this thread, which then waits
            for each of them.
    """

    def __init__(
        self, transaction: OpenTransaction, name: str, *, most: int = 64, alone: Executor | None = None
    ) -> None:
        self._transaction = transaction
        self._name = name
        self._most, self._alone = most, alone
        self._queue: SimpleQueue[_Call | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._guard = threading.Lock()
        self._closed = False
        self._process = os.getpid()

    def call(self, work: Callable[[], T], access: Access = Access.ALONE) -> asyncio.Future[T]:
        """Have the thread do the work; the future belongs to the calling event loop.

        Work that shares a transaction may run again after its changes were undone, so that another call's
        failure does not become its own.
        """
        return self._begin(work, access).future

    async def result_of(self, work: Callable[[], T], access: Access = Access.ALONE) -> T:
        """Have the thread do the work and await the result; if cancelled, wait for its end."""
        call = self._begin(work, access)
        try:
            return await call.future  # type: ignore[no-any-return]
        except asyncio.CancelledError:
            if not call.ended:
                call.future = asyncio.get_running_loop().create_future()
                await asyncio.gather(call.future, return_exceptions=True)
            raise

    def _begin(self, work: Callable[[], Any], access: Access) -> _Call:
        call = _Call(work, access, asyncio.get_running_loop().create_future())
        if not self._takes(call):
            call.run()  # The call will report that the database is closed, or belongs to another process.
            call.settle()
        return call

    def _takes(self, call: _Call) -> bool:
        if self._is_forked():
            return False
        with self._guard:
            if self._closed:
                return False
            self._start()
            self._queue.put(call)
            return True

    def _is_forked(self) -> bool:
        """Tell whether this is a forked child, without this thread and maybe with a guard held forever."""
        return os.getpid() != self._process

    def close(self) -> None:
        """Let the waiting calls end, and then the thread."""
        if self._is_forked():
            return
        with self._guard:
            self._closed = True
            thread, self._thread = self._thread, None
            if thread is not None:
                self._queue.put(None)
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _start(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            thread.start()  # A process with too many threads cannot start one: a later call tries again.
            self._thread = thread

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:
            waiting, ended = deque([first]), False
            while not ended and len(waiting) < self._most:
                try:
                    call = self._queue.get_nowait()
                except Empty:
                    break
                if call is None:
                    ended = True
                else:
                    waiting.append(call)
            for calls in _groups(waiting):
                _tell(self._run(calls))
            if ended:
                return

    def _run(self, calls: list[_Call]) -> list[_Call]:
        """Run calls, and return those that have ended."""
        # The database has nothing of those that failed together. Alone, each meets only its own fault.
        failed = calls if self._alone is None and len(calls) == 1 else self._run_together(calls)
        if self._alone is None:
            for call in failed:
                call.run()
            return calls
        for call in failed:
            try:
                self._alone.submit(_run_alone, call)
            except RuntimeError:  # No thread can be started, or the interpreter ends.
                _run_alone(call)
        return [] if failed else calls

    def _run_together(self, calls: list[_Call]) -> Sequence[_Call]:
        """Run calls in one transaction; return those that must run alone."""
        most, begun = max(call.access for call in calls), False
        try:
            with self._transaction(write=most >= Access.WRITE, durable=most == Access.DURABLE):
                begun = True
                for call in calls:
                    call.result = call.work()
        except BaseException as error:  # Catches everything, because all callers share this thread.
            if begun or self._alone is not None:
                return calls
            # All have waited as long as one may wait for another process, so they need not wait in turn.
            for call in calls:
                call.error = error if call.access >= Access.WRITE else None
            return [call for call in calls if call.error is None]
        return ()


def _groups(waiting: deque[_Call]) -> Iterator[list[_Call]]:
    """Divide calls into groups that share a transaction, in the same order."""
    while waiting:
        group = [waiting.popleft()]
        while group[0].access and waiting and waiting[0].access:
            group.append(waiting.popleft())
        yield group


def _run_alone(call: _Call) -> None:
    call.run()
    _tell([call])


def _tell(calls: list[_Call]) -> None:
    """Settle the futures in their loops, with one call into each loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Call]] = {}
    for call in calls:
        by_loop.setdefault(call.future.get_loop(), []).append(call)
    for loop, told in by_loop.items():
        with suppress(RuntimeError):  # The loop is closed, so nobody waits any more.
            loop.call_soon_threadsafe(_settle, told)


def _settle(calls: list[_Call]) -> None:
    for call in calls:
        call.settle()


# --- from any event loop --------------------------------------------------------------

# asyncio's default pool has 6 threads on 2 cores, and blocked tools fill it: storage gets its own.
_POOL_THREADS = 4


class Bridge:
    """Runs the calls of one wrapped saver or store from any thread and event loop."""

    def __init__(self, wrapped: object) -> None:
        self._name = type(wrapped).__name__
        self._home = _home_loop(wrapped)
        self._thread: StorageThread | None = getattr(wrapped, "storage_thread", None)
        self._sharing: StorageThread | None = getattr(wrapped, "sharing_thread", None)
        self._pool = ThreadPoolExecutor(_POOL_THREADS, thread_name_prefix="plan-execute-storage")
        self._under_way: set[asyncio.Future[Any]] = set()

    async def call(
        self,
        native: Callable[[], Coroutine[Any, Any, T]] | None,
        blocking: Callable[[], T],
        access: Access = Access.ALONE,
    ) -> T:
        """Await ``native`` in the wrapped object's loop, or run ``blocking`` in a thread if there is none.

        ``native`` is None if it is no coroutine of the wrapped object's own.
        """
        if self._sharing is not None and access >= Access.WRITE:
            return await self._end_of(self._sharing.call(blocking, access))
        if self._thread is None and native is not None:
            # SqliteSaver and SqliteStore 3.1.2 override the async methods only to raise this.
            with suppress(NotImplementedError):
                return await self._at_home(native)
        return await self.in_thread(blocking, access)

    async def in_thread(self, blocking: Callable[[], T], access: Access = Access.ALONE) -> T:
        """Run a blocking call in the wrapped object's thread, or in the pool; if cancelled, wait for its end.

        A cancelled caller may close the database next, and SqliteSaver 3.1.2 then crashes the process if a
        call is still active.
        """
        if self._thread is not None:
            return await self._thread.result_of(blocking, access)
        return await self._end_of(asyncio.get_running_loop().run_in_executor(self._pool, blocking))

    async def _end_of(self, running: asyncio.Future[T]) -> T:
        self._under_way.add(running)
        running.add_done_callback(self._under_way.discard)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait({running})
            raise

    async def idle(self) -> None:
        """Wait until this event loop has no active call.

        A thread runs its calls in order, so the next call need not wait for those before it.
        """
        loop = asyncio.get_running_loop()
        # A copy is made in one go, because other event loops add and remove calls meanwhile.
        while mine := {call for call in self._under_way.copy() if call.get_loop() is loop}:
            await asyncio.wait(mine)

    async def _at_home(self, native: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if self._home is None or self._home is asyncio.get_running_loop():
            return await native()
        self._require_running(self._home)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(native(), self._home))

    def check_sync(self) -> None:
        """Raise if a sync call would wait for the event loop that it blocks.

        Raises:
            ConfigurationError: This thread runs the wrapped object's loop, or that loop is not running.
        """
        if self._home is None:
            return
        if self._home is _running_loop():
            raise ConfigurationError(
                f"a sync call inside the event loop that {self._name} belongs to would wait for itself: "
                "use ainvoke or astream there, or give the agent a sync checkpointer and store"
            )
        self._require_running(self._home)

    def _require_running(self, home: asyncio.AbstractEventLoop) -> None:
        if not home.is_running():
            raise ConfigurationError(
                f"{self._name} belongs to an event loop that is not running: use it inside that loop, "
                "or give the agent a sync checkpointer and store (for example local_persistence)"
            )


def _home_loop(wrapped: object) -> asyncio.AbstractEventLoop | None:
    # AsyncSqliteSaver, AsyncPostgresSaver and their stores keep `loop`, AsyncBatchedBaseStore keeps `_loop`.
    for name in ("loop", "_loop"):
        loop = getattr(wrapped, name, None)
        if isinstance(loop, asyncio.AbstractEventLoop):
            return loop
    return None


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


# --- faults that a piece of work meets ---------------------------------------------------

# Libraries and an embedder's middleware are between the storage and the caller. They turn any exception into
# something else: a tool's failure, a model's failure, an answer.

_collected: ContextVar[tuple[tuple[object, ...], list[PlanExecuteError]] | None] = ContextVar(
    "collected", default=None
)


@contextmanager
def collect_faults(*storage: object) -> Iterator[list[PlanExecuteError]]:
    """Collect the faults of these adapters in the body and the tasks that it starts.

    Faults of other storage, such as that of an agent within a tool, do not count.
    """
    faults: list[PlanExecuteError] = []
    token = _collected.set((storage, faults))
    try:
        yield faults
    finally:
        _collected.reset(token)


def note_fault(storage: object, fault: PlanExecuteError) -> None:
    """Report this adapter's fault to the work that called it."""
    watched = _collected.get()
    if watched is not None and any(storage is each for each in watched[0]):
        watched[1].append(fault)


def is_collected_fault(error: BaseException) -> bool:
    """Tell whether an error is such a fault, which nobody may convert into something else."""
    watched = _collected.get()
    return watched is not None and any(error is fault for fault in watched[1])
