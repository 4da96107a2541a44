"""Entries of the plan cache in every kind of store: kept, found, listed, dropped."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import postgres_server
import pytest
from langgraph.store.memory import InMemoryStore
from langgraph.store.sqlite import SqliteStore

from plan_execute import local_persistence, postgres_persistence
from plan_execute.errors import ConfigurationError
from plan_execute.storage.adapters import async_store
from plan_execute.storage.ledger import Ledger, ledger_of, thread_of
from plan_execute.storage.plan_cache import (
    CachedPlan,
    CachedPlans,
    list_cached_plans,
    read_duration,
    say_duration,
)

STEPS: Any = {"steps": [{"id": "a", "task": "t", "tools": []}]}


def entry(goal: str = "g", at: float = 1000.0, **fields: Any) -> CachedPlan:
    given = {"plan": STEPS, "model": "m", "thread_id": "t", "stored_at": at, "expires_at": at + 100}
    return CachedPlan(**{"goal": goal, **given, **fields})


@pytest.fixture(params=["memory", "sqlite", "local", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    if request.param == "memory":
        yield InMemoryStore()
    elif request.param == "sqlite":
        with SqliteStore.from_conn_string(str(tmp_path / "plain.db")) as plain:
            plain.setup()
            yield async_store(plain)
    elif request.param == "postgres":
        with postgres_persistence(postgres_server.server().new_schema()) as (_, shared):
            yield shared
    else:
        async with local_persistence(tmp_path / "local.db") as (_, local):
            yield local


@pytest.mark.parametrize("namespace", ["default", "a.b/c", "日本", "%", " "])
async def test_what_is_kept_is_found_by_its_key_and_namespace_only(store: Any, namespace: str) -> None:
    plans = CachedPlans(store, namespace)
    await plans.keep("k", entry("日本\x00 goal"), max_entries=10)
    assert await plans.find("k", now=1001, ttl_s=50) == entry("日本\x00 goal")
    assert await plans.find("other", now=1001, ttl_s=50) is None
    assert await CachedPlans(store, namespace + "x").find("k", now=1001, ttl_s=50) is None
    (listed,) = await list_cached_plans(store)
    assert (listed.namespace, listed.key, listed.hits) == (namespace, "k", 0)


async def test_the_last_to_keep_a_key_wins(store: Any) -> None:
    plans = CachedPlans(store, "default")
    await plans.keep("k", entry(at=1000), max_entries=10)
    await plans.keep("k", entry(at=1001, thread_id="later"), max_entries=10)
    found = await plans.find("k", now=1002, ttl_s=50)
    assert found is not None
    assert found.thread_id == "later"


async def test_only_the_entry_that_was_meant_is_dropped_with_its_count(store: Any) -> None:
    plans = CachedPlans(store, "default")
    await plans.keep("k", entry(at=1000), max_entries=10)
    await plans.count_hit("k")
    assert not await plans.drop("k", stored_at=999)
    assert [listed.hits for listed in await list_cached_plans(store)] == [1]
    assert await plans.drop("k", stored_at=1000)
    assert not await plans.drop("k")
    await plans.keep("k", entry(at=1000), max_entries=10)
    assert [listed.hits for listed in await list_cached_plans(store)] == [0]


async def test_counting_a_hit_never_brings_an_entry_back(store: Any) -> None:
    await CachedPlans(store, "default").count_hit("k")
    assert await list_cached_plans(store) == []


async def test_entries_belong_to_no_thread(store: Any) -> None:
    plans = CachedPlans(store, "t1")
    await plans.keep("k", entry(), max_entries=10)
    await Ledger(store, "t1").record_origin("p", {"key": "k"})
    spaces = {item.namespace for item in store.search(("plan_execute",))}
    assert {thread_of(space) for space in spaces} == {"t1", None}
    of_the_thread = {space for space in spaces if space[:3] in ledger_of("t1")}
    assert {space[1] for space in of_the_thread} == {"threads"}, "what is deleted with the thread"


# --- how long a plan is kept --------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("1.5h", 5400), ("7d", 604800), (" 2 m ", 120), ("0.5s", 0.5)]
)
def test_a_length_of_time_is_read(text: str, seconds: float) -> None:
    assert read_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "7", "d", "7w", "-1d", "0s", "1e3s", "7d7h", "٧d", "nan s", "9" * 400 + "d"]
)
def test_what_is_none_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a length of time"):
        read_duration(text)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-5, "0 seconds"),
        (0.9, "0 seconds"),
        (1, "1 second"),
        (59.9, "59 seconds"),
        (60, "1 minute"),
        (7199, "1 hour"),
        (7200, "2 hours"),
        (86400 * 9, "9 days"),
    ],
)
def test_a_length_of_time_is_said_in_its_largest_unit(seconds: float, said: str) -> None:
    assert say_duration(seconds) == said
