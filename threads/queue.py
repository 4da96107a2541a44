"""Keep threads that wait for a worker: a row records the state of each, and a procrastinate job hands it out.

What a thread should do is in its checkpoint, as for any other thread. The row and the job change in one
transaction, made by the holder of the thread. So the row counts: an extra job finds nothing to do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from langgraph.store.base import Item, PutOp

from ..safety.redaction import Redactor
from ..storage.adapters import AsyncStore
from ..storage.ledger import QUEUE, queue_of_thread
from ..storage.rows import ROOT, decode, encode, load, put, search
from .requirements import Needs

if TYPE_CHECKING:
    from procrastinate.jobs import Job

    from ..storage.postgres_queue import JobTables

__all__ = ["LATER", "RUN", "Queue", "QueuedThread", "pause_before", "queued_thread"]

RUN = "plan_execute.run"
"""The name of procrastinate's task."""

LATER = "later"
"""The queue of threads that wait long for a person; any worker may give the safe default."""

_ROOT = (ROOT, QUEUE)
_KEY = "open"
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 5.0, 300.0


@dataclass(frozen=True)
class QueuedThread:
    """A thread that a worker should continue.

    Attributes:
        thread_id: The thread.
        at: When it was submitted, in seconds since the epoch.
        due: The earliest time.
        context: The submitted settings; None means those of the thread.
        resume: Answers that only the run itself can read, by question; others are in its checkpoint.
        attempts: How often a worker took it without an end or any progress.
        progress: The thread's progress when it was last taken.
        error: Why the last attempt did not end, if that is known.
        parked: Why no worker takes it any more; None if they do.
        asks: Whether it waits for a person; it is then due when the time to answer is over.
        priority: The highest goes first, then the oldest.
        tools: The tools that it needs,
        roles: and the roles for which it needs a model.
    """

    thread_id: str
    at: float = field(default_factory=time.time)
    due: float = 0.0
    context: dict[str, Any] | None = None
    resume: dict[str, Any] | None = None
    attempts: int = 0
    progress: str = ""
    error: str | None = None
    parked: str | None = None
    asks: bool = False
    priority: int = 0
    tools: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()

    @property
    def needs(self) -> Needs:
        """What it needs from a worker."""
        return Needs(tuple(self.tools), tuple(self.roles))

    @property
    def is_due(self) -> bool:
        """Whether a worker may take it now."""
        return self.parked is None and self.due <= time.time()

    def needing(self, needs: Needs) -> QueuedThread:
        """Record what it needs."""
        return replace(self, tools=needs.tools, roles=needs.roles)

    def begun(self, progress: str) -> QueuedThread:
        """Count an attempt; progress since the last one restarts the count."""
        attempts = self.attempts + 1 if progress == self.progress else 1
        # If this attempt kills its worker too, the next worker gets some time.
        due = time.time() + pause_before(attempts - 1)
        return replace(self, attempts=attempts, progress=progress, due=due, asks=False)

    def failed(self, error: str, max_attempts: int) -> QueuedThread:
        """Postpone it, or park it after too many attempts."""
        if self.attempts >= max_attempts:
            return replace(
                self, error=error, parked=f"{_times(self.attempts)} failed, most recently: {error}"
            )
        return replace(self, error=error, due=time.time() + pause_before(self.attempts))

    @property
    def what_keeps(self) -> str | None:
        """Return why no worker takes it; None if there is no reason."""
        if self.parked or self.error or self.attempts or self.asks or not self.needs:
            return self.parked or self.error
        return f"waits for a worker with {self.needs}"


def pause_before(attempts: int) -> float:
    """Return the pause after this number of attempts, in seconds."""
    return min(_FIRST_PAUSE_S * 2 ** (attempts - 1), _LONGEST_PAUSE_S) if attempts else 0.0


def _times(attempts: int) -> str:
    return "1 attempt" if attempts == 1 else f"{attempts} attempts"


class Queue:
    """The threads of one PostgreSQL database that wait for a worker.

    Args:
        store: Holds the rows.
        tables: Holds the jobs.
        redactor: Keeps secrets out of the rows.
    """

    def __init__(self, store: AsyncStore, tables: JobTables, redactor: Redactor | None = None) -> None:
        self._store = store
        self.tables = tables
        self._redactor = redactor or Redactor()

    async def get(self, thread_id: str) -> QueuedThread | None:
        """Return a thread's row; None: it is not in the queue."""
        return await queued_thread(self._store, thread_id)

    async def put(self, queued: QueuedThread) -> None:
        """Write a thread's row, and offer it to workers when it is due; the caller holds the thread."""
        await self._change(queued.thread_id, queued, None if queued.parked is not None else _job(queued))

    async def note(self, queued: QueuedThread) -> None:
        """Write the row of a thread that a worker holds; the worker has its job."""
        await self._store.abatch([self._row(queued)])

    async def remove(self, thread_id: str) -> None:
        """Remove a thread from the queue; the caller holds the thread."""
        await self._change(thread_id, None, None)

    async def again(self, thread_id: str, after_s: float) -> None:
        """Let a worker look again at a thread that somebody else may hold now."""
        if (queued := await self.get(thread_id)) is not None and queued.parked is None:
            job = _job(replace(queued, due=max(queued.due, time.time() + after_s)))
            await _in_thread(lambda: self.tables.add_unless_waiting(thread_id, job))

    async def adopt(self) -> None:
        """Make jobs for the rows of a version without procrastinate."""
        for row in await search(self._store, _ROOT, below=True):
            await self.again(decode(row.namespace[-1]), 0.0)

    async def _change(self, thread_id: str, queued: QueuedThread | None, job: Job | None) -> None:
        row = PutOp(queue_of_thread(thread_id), _KEY, None) if queued is None else self._row(queued)

        def change() -> None:
            with self.tables.transaction(thread_id) as cursor:
                self._store.wrapped.batch([row])
                self.tables.drop(cursor, _lock(thread_id))
                if job is not None:
                    self.tables.add(cursor, job)

        await _in_thread(change)

    def _row(self, queued: QueuedThread) -> Any:
        row = self._redactor.value({k: v for k, v in asdict(queued).items() if k != "thread_id"})
        return put(queue_of_thread(queued.thread_id), _KEY, row)


async def queued_thread(store: Any, thread_id: str) -> QueuedThread | None:
    """Return a thread's row from any storage: an older version wrote rows to files too."""
    row = await store.aget(queue_of_thread(thread_id), _KEY)
    return None if row is None else _read(thread_id, row)


async def _in_thread(call: Callable[[], Any]) -> None:
    # Wait until it has ended, even if the caller gives up: it must not come after the next write.
    await asyncio.shield(asyncio.to_thread(call))


def _job(queued: QueuedThread) -> Job:
    from procrastinate.jobs import Job

    from ..storage.postgres_queue import at

    return Job(
        queue=LATER if queued.asks else queued.needs.queue,
        priority=queued.priority,
        lock=None,  # The thread's own lock decides who runs it.
        queueing_lock=_lock(queued.thread_id),
        task_name=RUN,
        task_kwargs={"thread": queued.thread_id, "tools": [*queued.tools], "roles": [*queued.roles]},
        scheduled_at=at(queued.due) if queued.due > time.time() else None,
    )


def _lock(thread_id: str) -> str:
    return encode(thread_id)


def _read(thread_id: str, item: Item) -> QueuedThread:
    row: Mapping[str, Any] = load(item)
    return QueuedThread(thread_id, **row)
