"""The kinds of storage an agent may be embedded with, opened for a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.store.postgres import PostgresStore
from langgraph.store.postgres.aio import AsyncPostgresStore
from postgres_server import schema_of

from plan_execute import local_persistence, postgres_persistence

SYNC = ("none", "memory", "sqlite", "local", "postgres", "plain-postgres")
ASYNC = (*SYNC, "aiosqlite", "local-async", "postgres-async", "plain-postgres-async")
ASKING_SYNC = ("memory", "sqlite", "local", "postgres", "plain-postgres")
ASKING_ASYNC = (*ASKING_SYNC, "aiosqlite", "local-async", "postgres-async", "plain-postgres-async")
"""A plain one is LangGraph's own saver, and on PostgreSQL its own store, as an embedder may hand them in."""

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
    elif kind == "postgres":
        with postgres_persistence(schema_of(folder)) as (checkpointer, store):
            yield {"checkpointer": checkpointer, "store": store}
    elif kind == "plain-postgres":
        url = schema_of(folder)
        with PostgresSaver.from_conn_string(url) as saver, PostgresStore.from_conn_string(url) as own_store:
            saver.setup()
            own_store.setup()
            yield {"checkpointer": saver, "store": own_store}
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
    elif kind == "postgres-async":
        async with postgres_persistence(schema_of(folder)) as (checkpointer, store):
            yield {"checkpointer": checkpointer, "store": store}
    elif kind == "plain-postgres-async":
        url = schema_of(folder)
        async with (
            AsyncPostgresSaver.from_conn_string(url) as own_saver,
            AsyncPostgresStore.from_conn_string(url) as own_store,
        ):
            await own_saver.setup()
            await own_store.setup()
            yield {"checkpointer": own_saver, "store": own_store}
    else:
        with opened(kind, folder) as storage:
            yield storage
        await asyncio.sleep(0)


def thread(name: str = "t") -> dict[str, Any]:
    """Name a thread in a config."""
    return {"configurable": {"thread_id": name}}
