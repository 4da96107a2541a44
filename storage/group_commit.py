"""One commit for all writes that wait at the same moment: a durable write costs a wait for the disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from langgraph.store.base import Op, Result

from ..errors import StorageError

__all__ = ["GroupCommit"]


@dataclass
class _Write:
    ops: list[Op]
    ended: bool = False
    results: list[Result] = field(default_factory=list)
    error: Exception | None = None


class GroupCommit:
    """Lets the threads that wait for a database write in one transaction.

    Args:
        held: Keeps other threads out while it is entered.
        commit: Executes several callers' operations in one transaction and returns the results of each.
    """

    def __init__(
        self,
        held: Callable[[], AbstractContextManager[None]],
        commit: Callable[[list[list[Op]]], list[list[Result]]],
    ) -> None:
        self._held = held
        self._commit = commit
        self._waiting: deque[_Write] = deque()

    def write(self, ops: Iterable[Op]) -> list[Result]:
        """Execute the operations, perhaps together with others', and return once they are committed."""
        mine = _Write([*ops])
        self._waiting.append(mine)
        with self._held():
            # Whoever gets in first commits for all who wait; the others find their work done.
            if not mine.ended:
                self._commit_waiting()
        if mine.error is not None:
            raise mine.error
        return mine.results

    def _commit_waiting(self) -> None:
        writes = [self._waiting.popleft() for _ in range(len(self._waiting))]
        try:
            self._execute(writes)
        except Exception as error:
            for write in writes:
                # One that cannot be written must not fail the others.
                write.error = error if len(writes) == 1 else self._error_of(write)
        except BaseException as stopped:  # Ctrl-C in the thread that commits for the others
            for write in writes:
                write.error = StorageError(f"the write was interrupted by {type(stopped).__name__}")
            raise
        finally:
            for write in writes:
                write.ended = True

    def _error_of(self, write: _Write) -> Exception | None:
        try:
            self._execute([write])
        except Exception as error:
            return error
        return None

    def _execute(self, writes: list[_Write]) -> None:
        for write, results in zip(writes, self._commit([write.ops for write in writes]), strict=True):
            write.results = results
