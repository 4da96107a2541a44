"""Any saver and store works sync and async, from any event loop."""

import asyncio
import sqlite3
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TypedDict

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, StateGraph
from langgraph.store.memory import InMemoryStore
from langgraph.store.postgres import PostgresStore
from langgraph.store.sqlite import SqliteStore
from langgraph.store.sqlite.aio import AsyncSqliteStore

from plan_execute.errors import ConfigurationError
from plan_execute.safety.redaction import REDACTOR_KEY, Redactor
from plan_execute.storage.adapters import AsyncSaver, AsyncStore, async_saver, async_store

CONFIG = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}


@contextmanager
def other_loop():
    """An event loop that runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(10)

    try:
        yield run
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def sqlite_connection(tmp_path):
    with closing(
        sqlite3.connect(tmp_path / "c.db", check_same_thread=False, isolation_level=None)
    ) as connection:
        yield connection


class Numbers(TypedDict):
    n: int


def compiled(saver, store=None):
    async def node(state: Numbers) -> Numbers:
        return {"n": state["n"] + 1}

    graph = StateGraph(Numbers)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    return graph.compile(checkpointer=saver, store=store)


async def use_every_async_method(saver):
    stored = await saver.aput(CONFIG, empty_checkpoint(), {"step": 1}, {})
    await saver.aput_writes(stored, [("channel", "value")], "task", "path")
    found = await saver.aget_tuple(CONFIG)
    assert found.pending_writes == [("task", "channel", "value")]
    assert [entry.config for entry in [e async for e in saver.alist(CONFIG)]] == [found.config]
    history = await saver.aget_delta_channel_history(config=CONFIG, channels=["channel"])
    assert history == {"channel": {"writes": []}}
    await saver.adelete_thread("t")
    assert await saver.aget(CONFIG) is None


def use_every_sync_method(saver):
    stored = saver.put(CONFIG, empty_checkpoint(), {"step": 1}, {})
    saver.put_writes(stored, [("channel", "value")], "task", "path")
    found = saver.get_tuple(CONFIG)
    assert found.pending_writes == [("task", "channel", "value")]
    assert [entry.config for entry in saver.list(CONFIG, limit=5)] == [found.config]
    assert saver.get_delta_channel_history(config=CONFIG, channels=["channel"]) == {"channel": {"writes": []}}
    saver.delete_thread("t")
    assert saver.get(CONFIG) is None


@pytest.mark.parametrize("given", [list, deque])
async def test_what_a_task_writes_is_saved_without_secrets(given):
    saver = async_saver(InMemorySaver())
    place = {**CONFIG["configurable"], REDACTOR_KEY: Redactor({"TOKEN": "hunter2-hunter2"})}
    stored = await saver.aput({"configurable": place}, empty_checkpoint(), {"step": 1}, {})
    writes = given([("said", {"text": "it is hunter2-hunter2"})])  # LangGraph hands over a deque
    await saver.aput_writes({"configurable": {**stored["configurable"], **place}}, writes, "task")
    found = await saver.aget_tuple(stored)
    assert found.pending_writes == [("task", "said", {"text": "it is [redacted TOKEN]"})]


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_saver_without_a_loop_works_both_ways_and_from_two_loops(kind, sqlite_connection):
    saver = async_saver(InMemorySaver() if kind == "memory" else SqliteSaver(sqlite_connection))
    use_every_sync_method(saver)
    await use_every_async_method(saver)
    with other_loop() as run:
        await asyncio.to_thread(run, use_every_async_method(saver))
    result = await compiled(saver).ainvoke({"n": 1}, CONFIG)
    assert result == {"n": 2}
    assert len([state async for state in compiled(saver).aget_state_history(CONFIG)]) == 3


async def test_an_async_saver_is_reached_from_another_loop_and_another_thread(tmp_path):
    async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "a.db")) as original:
        saver = async_saver(original)
        await use_every_async_method(saver)
        await asyncio.to_thread(use_every_sync_method, saver)
        with other_loop() as run:
            await asyncio.to_thread(run, use_every_async_method(saver))


async def test_a_sync_call_in_the_savers_own_loop_is_refused_instead_of_hanging(tmp_path):
    async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "a.db")) as original:
        saver = async_saver(original)
        for call in (saver.check_sync, lambda: saver.get_tuple(CONFIG), lambda: use_every_sync_method(saver)):
            with pytest.raises(ConfigurationError, match="ainvoke"):
                call()


def test_an_async_saver_whose_loop_is_not_running_is_refused_instead_of_hanging(tmp_path):
    async def make():
        async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "a.db")) as original:
            return async_saver(original)

    saver = asyncio.run(make())
    with pytest.raises(ConfigurationError, match="not running"):
        saver.get_tuple(CONFIG)
    with pytest.raises(ConfigurationError, match="not running"):
        asyncio.run(saver.aget_tuple(CONFIG))


async def test_a_full_default_pool_does_not_stop_a_sync_saver_or_store(sqlite_connection):
    loop = asyncio.get_running_loop()
    pool = ThreadPoolExecutor(1)
    loop.set_default_executor(pool)
    release = threading.Event()
    blocked = loop.run_in_executor(None, release.wait)
    saver = async_saver(SqliteSaver(sqlite_connection))
    store = async_store(StoreThatUsesTheDefaultPool())
    async with asyncio.timeout(60):
        assert await saver.aget_tuple(CONFIG) is None
        await store.aput(("n",), "k", {"v": 1})
    release.set()
    await blocked


class StoreThatUsesTheDefaultPool(InMemoryStore):
    """As PostgresStore does it."""

    abatch = PostgresStore.abatch


def test_wrapping_twice_is_wrapping_once_and_none_stays_none():
    saver, store = async_saver(InMemorySaver()), async_store(InMemoryStore())
    assert async_saver(saver) is saver
    assert async_store(store) is store
    assert async_saver(None) is None
    assert async_saver(True) is True
    assert async_store(None) is None


def test_the_adapter_shows_what_the_saver_is(sqlite_connection):
    original = SqliteSaver(sqlite_connection)
    saver = async_saver(original)
    assert isinstance(saver, AsyncSaver)
    assert saver.wrapped is original
    assert saver.conn is sqlite_connection
    assert saver.serde is original.serde
    assert saver.config_specs == original.config_specs
    assert saver.get_next_version("7.0", None).startswith("0" * 31 + "8.")
    assert not hasattr(saver, "no_such_thing")


def test_a_stricter_allowlist_reaches_the_wrapped_saver():
    original = InMemorySaver(serde=JsonPlusSerializer(allowed_msgpack_modules=None))
    saver = async_saver(original)
    allowed = saver.with_allowlist([("some.module", "Thing")])
    assert allowed.wrapped is not original
    assert allowed.wrapped.serde is allowed.serde
    assert ("some.module", "Thing") in allowed.serde._allowed_msgpack_modules
    assert allowed.with_allowlist([]) is allowed


async def test_a_saver_from_before_task_paths_still_works():
    class Old(InMemorySaver):
        def put_writes(self, config, writes, task_id):
            super().put_writes(config, writes, task_id)

        async def aput_writes(self, config, writes, task_id):
            super().put_writes(config, writes, task_id)

    saver = async_saver(Old())
    use_every_sync_method(saver)
    await use_every_async_method(saver)


async def test_what_no_saver_offers_is_still_not_implemented():
    with pytest.raises(NotImplementedError):
        await async_saver(BaseCheckpointSaver()).aprune(["t"])


async def use_every_store_method(store):
    await store.aput(("a", "b"), "k", {"v": 1})
    assert (await store.aget(("a", "b"), "k")).value == {"v": 1}
    assert [item.key for item in await store.asearch(("a",))] == ["k"]
    assert await store.alist_namespaces(prefix=("a",)) == [("a", "b")]
    await store.adelete(("a", "b"), "k")
    assert await store.aget(("a", "b"), "k") is None


def use_every_sync_store_method(store):
    store.put(("a", "b"), "k", {"v": 1})
    assert store.get(("a", "b"), "k").value == {"v": 1}
    assert [item.key for item in store.search(("a",))] == ["k"]
    assert store.list_namespaces(prefix=("a",)) == [("a", "b")]
    store.delete(("a", "b"), "k")


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_store_without_a_loop_works_both_ways_and_from_two_loops(kind, sqlite_connection):
    store = async_store(InMemoryStore() if kind == "memory" else SqliteStore(sqlite_connection))
    use_every_sync_store_method(store)
    await use_every_store_method(store)
    with other_loop() as run:
        await asyncio.to_thread(run, use_every_store_method(store))


async def test_an_async_store_is_reached_from_another_loop_and_another_thread(tmp_path):
    async with AsyncSqliteStore.from_conn_string(str(tmp_path / "a.db")) as original:
        store = async_store(original)
        await use_every_store_method(store)
        await asyncio.to_thread(use_every_sync_store_method, store)
        with other_loop() as run:
            await asyncio.to_thread(run, use_every_store_method(store))
        with pytest.raises(ConfigurationError, match="ainvoke"):
            store.get(("a",), "k")


async def test_ttl_and_index_settings_pass_through(sqlite_connection):
    original = SqliteStore(sqlite_connection, ttl={"default_ttl": 5})
    store = async_store(original)
    assert isinstance(store, AsyncStore)
    assert (store.supports_ttl, store.ttl_config) == (True, {"default_ttl": 5})
    assert store.index_config is None
    await store.aput(("n",), "k", {"v": 1})
    assert sqlite_connection.execute("SELECT ttl_minutes FROM store").fetchone() == (5.0,)
