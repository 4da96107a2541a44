"""Threads that wait for a worker: one small row for each in the store, deleted when nothing is left to do.

What a thread is to do stands in its checkpoint, as in any other thread's; the row only says that a worker
should go on with it, and what became of that so far. Whoever changes a row holds its thread.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from langgraph.store.base import BaseStore

from ..safety.redaction import Redactor
from ..storage.rows import ROOT, decode, encode, load, put, search

__all__ = ["Queue", "QueuedThread", "pause_before"]

_ROOT = (ROOT, "queue")
_KEY = "open"
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 5.0, 300.0


@dataclass(frozen=True)
class QueuedThread:
    """A thread that a worker should go on with.

    Attributes:
        thread_id: The thread.
        at: When it was submitted, in seconds since the epoch; the oldest goes first.
        due: Not before this time.
        context: Settings it was submitted with; None: those of the thread.
        resume: Answers that only the run itself can read, by question; the others are in its checkpoint.
        attempts: How often a worker took it and did not come to an end, with nothing done meanwhile.
        progress: What the thread had done when it was taken last.
        error: Why the last attempt did not come to an end, if it could say so.
        parked: Why no worker takes it any more; None: they do.
        asks: Whether it waits for a person, and is due when their time is over.
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

    @property
    def is_due(self) -> bool:
        """Whether a worker may take it now."""
        return self.parked is None and self.due <= time.time()

    def begun(self, progress: str) -> QueuedThread:
        """Count an attempt; what the thread has got done since the last one starts the count anew."""
        attempts = self.attempts + 1 if progress == self.progress else 1
        # If this attempt kills its worker too, the next worker is given some time.
        due = time.time() + pause_before(attempts - 1)
        return replace(self, attempts=attempts, progress=progress, due=due, asks=False)

    def failed(self, error: str, max_attempts: int) -> QueuedThread:
        """Put it off for a while, or for good after so many attempts."""
        if self.attempts >= max_attempts:
            return replace(self, error=error, parked=f"{_times(self.attempts)} failed, at last: {error}")
        return replace(self, error=error, due=time.time() + pause_before(self.attempts))


def pause_before(attempts: int) -> float:
    """Return how long a thread rests after so many attempts, in seconds."""
    return min(_FIRST_PAUSE_S * 2 ** (attempts - 1), _LONGEST_PAUSE_S) if attempts else 0.0


def _times(attempts: int) -> str:
    return "1 attempt" if attempts == 1 else f"{attempts} attempts"


class Queue:
    """The threads of one store that wait for a worker.

    Args:
        store: Where the rows are.
        redactor: Keeps secrets out of them.
    """

    def __init__(self, store: BaseStore, redactor: Redactor | None = None) -> None:
        self._store = store
        self._redactor = redactor or Redactor()

    async def all(self) -> list[QueuedThread]:
        """List what is in the queue, the oldest first."""
        rows = await search(self._store, _ROOT, below=True)
        found = [_read(decode(row.namespace[-1]), load(row)) for row in rows]
        return sorted(found, key=lambda one: (one.at, one.thread_id))

    async def get(self, thread_id: str) -> QueuedThread | None:
        """Return a thread's row; None: it is not in the queue."""
        row = await self._store.aget(_space(thread_id), _KEY)
        return None if row is None else _read(thread_id, load(row))

    async def put(self, queued: QueuedThread) -> None:
        """Write a thread's row."""
        row = self._redactor.value({k: v for k, v in asdict(queued).items() if k != "thread_id"})
        await self._store.abatch([put(_space(queued.thread_id), _KEY, row)])

    async def remove(self, thread_id: str) -> None:
        """Take a thread out of the queue."""
        await self._store.adelete(_space(thread_id), _KEY)


def _read(thread_id: str, row: Mapping[str, Any]) -> QueuedThread:
    return QueuedThread(thread_id, **row)


def _space(thread_id: str) -> tuple[str, ...]:
    return (*_ROOT, encode(thread_id))
