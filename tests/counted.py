"""Storage and tools that count what they do, and kill their process at the point they are told."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.store.base import Op, PutOp, Result
from langgraph.store.sqlite import SqliteStore
from langgraph.store.sqlite.aio import AsyncSqliteStore

from plan_execute.storage import postgres
from plan_execute.storage.adapters import AsyncSaver, AsyncStore, async_saver, async_store
from plan_execute.storage.checkpoints import LocalSaver, LocalStore
from plan_execute.storage.postgres import PooledSaver, PooledStore
from plan_execute.storage.sqlite import open_database

KINDS = ("checkpoint", "pending", "ledger", "effect")
MOMENTS = ("before", "after")
MODES = (
    "local",
    "local-async",
    "slow",
    "slow-async",
    "two",
    "two-async",
    "postgres",
    "postgres-async",
)
"""``local``: saver and store of `local_persistence`, driven by ``stream`` or (``-async``) by ``astream``;
``slow``: the same on a disk that is slow with checkpoints, so that effects and the ledger may overtake
them; ``two``: LangGraph's own SQLite saver and store, on two connections to one file; ``postgres``: those
of `postgres_persistence`."""


class Point(NamedTuple):
    """Where a process kills itself: before or after the number-th (from 1) of a kind."""

    kind: str
    moment: str
    number: int


class Countdown:
    """Counts what a process does, and kills it at the point it is given."""

    def __init__(self, point: Iterable[Any] | None) -> None:
        self.counts: Counter[str] = Counter()
        self._point = Point(*point) if point else None
        self._lock = threading.Lock()

    @contextmanager
    def around(self, kind: str) -> Iterator[None]:
        """Count one of a kind."""
        with self._lock:
            self.counts[kind] += 1
            number = self.counts[kind]
        self._reach(Point(kind, "before", number))
        yield
        self._reach(Point(kind, "after", number))

    def _reach(self, point: Point) -> None:
        if point == self._point:
            os.kill(os.getpid(), signal.SIGKILL)


class _Counted:
    countdown: Countdown
    delay_s = 0.0


class _CountedSaver(_Counted):
    def put(self, *args: Any) -> Any:
        with self.countdown.around("checkpoint"):
            return super().put(*args)  # type: ignore[misc]

    # LangGraph looks for the name `task_path` in the signature.
    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        with self.countdown.around("pending"):
            super().put_writes(config, writes, task_id, task_path)  # type: ignore[misc]


class _CountedStore(_Counted):
    def batch(self, ops: Iterable[Op]) -> list[Result]:
        wanted = [*ops]
        if not _writes(wanted):
            return super().batch(wanted)  # type: ignore[misc]
        with self.countdown.around("ledger"):
            return super().batch(wanted)  # type: ignore[misc]


class _AsyncCountedSaver(_Counted):
    async def aput(self, *args: Any) -> Any:
        await asyncio.sleep(self.delay_s)
        with self.countdown.around("checkpoint"):
            return await super().aput(*args)  # type: ignore[misc]

    async def aput_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        await asyncio.sleep(self.delay_s)
        with self.countdown.around("pending"):
            await super().aput_writes(config, writes, task_id, task_path)  # type: ignore[misc]


class _AsyncCountedStore(_Counted):
    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        wanted = [*ops]
        if not _writes(wanted):
            return await super().abatch(wanted)  # type: ignore[misc]
        with self.countdown.around("ledger"):
            return await super().abatch(wanted)  # type: ignore[misc]


def _writes(ops: list[Op]) -> bool:
    return any(isinstance(op, PutOp) for op in ops)


# Counted where their results arrive: what waits together is committed after the last call's own work.
class _LocalSaver(_AsyncCountedSaver, AsyncSaver):
    pass


class _LocalStore(_AsyncCountedStore, AsyncStore):
    pass


class _ServerSaver(_CountedSaver, PooledSaver):
    pass


class _ServerStore(_CountedStore, PooledStore):
    pass


class _PlainSaver(_CountedSaver, SqliteSaver):
    pass


class _PlainStore(_CountedStore, SqliteStore):
    pass


class _AsyncPlainSaver(_AsyncCountedSaver, AsyncSqliteSaver):
    pass


class _AsyncPlainStore(_AsyncCountedStore, AsyncSqliteStore):
    pass


@contextmanager
def opened(mode: str, path: str, countdown: Countdown) -> Iterator[tuple[Any, Any]]:
    """Open the storage of a mode that sync code can open, as (checkpointer, store)."""
    if mode.startswith("two"):
        with _PlainSaver.from_conn_string(path) as saver, _PlainStore.from_conn_string(path) as store:
            store.setup()
            saver.countdown = store.countdown = countdown  # type: ignore[attr-defined]
            yield saver, store
        return
    database: Any
    saver: Any
    store: Any
    if mode.startswith("postgres"):
        database = postgres.open_database(postgres.parameters(path), 4, 30.0)
        saver, store = _ServerSaver(database), _ServerStore(database)
    else:
        database = open_database(Path(path))
        saver, store = _LocalSaver(LocalSaver(database)), _LocalStore(LocalStore(database))
    try:
        saver.countdown = store.countdown = countdown
        saver.delay_s = 0.01 if mode.startswith("slow") else 0.0
        yield async_saver(saver), async_store(store)
    finally:
        database.close()


@asynccontextmanager
async def aopened(mode: str, path: str, countdown: Countdown) -> AsyncIterator[tuple[Any, Any]]:
    """Open the storage of any mode, as (checkpointer, store)."""
    if mode != "two-async":
        with opened(mode, path, countdown) as storage:
            yield storage
        return
    async with (
        _AsyncPlainSaver.from_conn_string(path) as saver,
        _AsyncPlainStore.from_conn_string(path) as store,
    ):
        await saver.setup()
        await store.setup()
        saver.countdown = store.countdown = countdown  # type: ignore[attr-defined]
        yield saver, store
