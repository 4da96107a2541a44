"""What a store's owner lets expire is not the record of what was done."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from bounded import BoundedThread
from langgraph.store.sqlite import SqliteStore
from plans import FREE, agent_with, bound
from toolset import make_tool


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    """A real store that forgets everything after a twentieth of a second."""
    connection = sqlite3.connect(tmp_path / "store.db", check_same_thread=False, isolation_level=None)
    store = SqliteStore(connection, ttl={"default_ttl": 0.05 / 60})
    store.setup()
    yield store
    connection.close()


async def test_the_ledger_outlives_the_default_time_to_live_of_its_store(store: SqliteStore) -> None:
    written: list[str] = []
    begun = asyncio.Event()

    async def write(text: str) -> str:
        """Write; the first time, hang."""
        written.append(text)
        if len(written) == 1:
            begun.set()
            await asyncio.sleep(3600)
        return text

    thread = BoundedThread(agent_with([make_tool(write, effect="write")], store=store), FREE)
    running = asyncio.create_task(thread.run(bound("w", "write", {"text": "x"})))
    await asyncio.wait_for(begun.wait(), 60)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 60)
    recorded = len(store.search((), limit=1000))
    store.put(("mine",), "note", {"of": "the owner"})
    await asyncio.sleep(1.2)
    assert store.sweep_ttl() == 1, "only what the owner put expires"
    assert len(store.search((), limit=1000)) == recorded > 0
    await thread.send(None)
    assert (await thread.question())["name"] == "resolve_unknown_outcome"
    assert written == ["x"]
