"""The kinds of storage an agent may be embedded with, opened for a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from plan_execute import local_persistence

SYNC = ("none", "memory", "sqlite", "local")
ASYNC = (*SYNC, "aiosqlite", "local-async")
ASKING_SYNC = ("memory", "sqlite", "local")
ASKING_ASYNC = (*ASKING_SYNC, "aiosqlite", "local-async")

Storage = dict[str, Any]
"""``checkpointer`` and ``store`` for ``create_plan_execute_agent``."""


@contextmanager
def opened(kind: str, folder: Path) -> Iterator[Storage]:
    """Open storage that works from sync code."""
    if kind == "none":
        yield {}
    elif kind == "memory":
        yield {"checkpointer": InMemorySaver()}
    elif kind == "sqlite":
        with SqliteSaver.from_conn_string(str(folder / "plain.db")) as saver:
            yield {"checkpointer": saver}
    else:
        with local_persistence(folder / "local.db") as (checkpointer, store):
            yield {"checkpointer": checkpointer, "store": store}


@asynccontextmanager
async def aopened(kind: str, folder: Path) -> AsyncIterator[Storage]:
    """Open storage from async code."""
    if kind == "aiosqlite":
        async with AsyncSqliteSaver.from_conn_string(str(folder / "plain.db")) as saver:
            yield {"checkpointer": saver}
    elif kind == "local-async":
        async with local_persistence(folder / "local.db") as (checkpointer, store):
            yield {"checkpointer": checkpointer, "store": store}
    else:
        with opened(kind, folder) as storage:
            yield storage
        await asyncio.sleep(0)


def thread(name: str = "t") -> dict[str, Any]:
    """Name a thread in a config."""
    return {"configurable": {"thread_id": name}}
