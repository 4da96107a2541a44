"""What a tenant spends in a day and a month is counted in one row, and no race gets past a limit."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import postgres_server
import pytest
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore

from plan_execute import local_persistence, postgres_persistence
from plan_execute.context import SpendLimit
from plan_execute.errors import BudgetExceededError
from plan_execute.spending.periods import Periods

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
CALL = {"max_cost": 0.01, "max_tokens": 100, "max_model_calls": 1}


def periods(store: BaseStore, *limits: dict[str, Any], tenant: str = "acme", at: datetime = NOON) -> Periods:
    return Periods(store, tenant, [SpendLimit(**limit) for limit in limits], lambda: at)


async def made(spending: Periods, used: dict[str, float] | None = None) -> bool:
    """Make a call, if there is room for it."""
    try:
        reserved = await spending.reserve(CALL, 60)
    except BudgetExceededError:
        return False
    await asyncio.sleep(0)
    await spending.settle(reserved, used or CALL)
    return True


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BaseStore]:
    """A store of each kind."""
    if request.param == "memory":
        yield InMemoryStore()
        return
    kept: AbstractContextManager[Any] = (
        local_persistence(tmp_path / "a.db")
        if request.param == "sqlite"
        else postgres_persistence(postgres_server.server().new_schema())
    )
    with kept as persistence:
        yield persistence.store


async def test_a_limit_stops_the_next_call_of_any_thread(opened: BaseStore) -> None:
    first, second = (
        periods(opened, {"per": "day", "max_cost": 0.02}),
        periods(opened, {"per": "day", "max_cost": 0.02}),
    )
    assert [await made(first), await made(second), await made(first), await made(second)] == [
        True,
        True,
        False,
        False,
    ]
    with pytest.raises(BudgetExceededError, match=r"max_cost per day=0\.02") as stopped:
        await second.reserve(CALL, 60)
    assert stopped.value.budget == "max_cost per day"


async def test_twenty_racing_for_the_last_cent_make_one_call(opened: BaseStore) -> None:
    limit = {"per": "day", "max_cost": 0.10}
    assert all([await made(periods(opened, limit)) for _ in range(9)])
    racing = await asyncio.gather(*(made(periods(opened, limit)) for _ in range(20)))
    assert sum(racing) == 1


async def test_calls_that_use_less_than_their_worst_leave_the_rest_to_others(opened: BaseStore) -> None:
    limit = {"per": "month", "max_tokens": 200}  # two at their worst
    cheap = {"max_tokens": 20.0, "max_model_calls": 1.0}
    racing = await asyncio.gather(*(made(periods(opened, limit), cheap) for _ in range(20)))
    assert sum(racing) == 10, "ten times 20 tokens, whatever the order"


async def test_a_call_that_may_use_more_than_is_left_is_made_alone(opened: BaseStore) -> None:
    limit = {"per": "day", "max_tokens": 50}
    under_way, most = 0, 0

    async def call() -> bool:
        nonlocal under_way, most
        try:
            reserved = await periods(opened, limit).reserve(CALL, 60)
        except BudgetExceededError:
            return False
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        await periods(opened, limit).settle(reserved, {"max_tokens": 30})
        return True

    assert sum(await asyncio.gather(*(call() for _ in range(6)))) == 2
    assert most == 1


async def test_what_a_killed_process_had_reserved_stays_counted(opened: BaseStore) -> None:
    limit = {"per": "day", "max_tokens": 150}
    await periods(opened, limit).reserve(CALL, 60)  # and nobody settles it
    later = NOON.replace(hour=13)
    after = periods(opened, limit, at=later)
    assert await made(after, {"max_tokens": 50})
    assert not await made(periods(opened, limit, at=later))


async def test_days_months_and_tenants_are_counted_apart(opened: BaseStore) -> None:
    day, month = {"per": "day", "max_model_calls": 1}, {"per": "month", "max_model_calls": 2}
    assert await made(periods(opened, day, month))
    assert not await made(periods(opened, day, month))
    assert await made(periods(opened, day, month, tenant="other"))
    assert await made(periods(opened, day, month, at=NOON.replace(day=30)))
    assert not await made(periods(opened, day, month, at=NOON.replace(day=28))), "the month is full"
    assert await made(periods(opened, day, month, at=NOON.replace(month=12)))


async def test_an_extension_holds_for_all_runs_and_this_period_only(opened: BaseStore) -> None:
    limit = {"per": "day", "max_model_calls": 1}
    first = periods(opened, limit)
    assert [await made(first), await made(first)] == [True, False]
    await first.extend("max_model_calls per day", 1)
    assert [await made(periods(opened, limit)), await made(first)] == [True, False]
    tomorrow = periods(opened, limit, at=NOON.replace(day=30))
    assert [await made(tomorrow), await made(tomorrow)] == [True, False]


async def test_the_soft_share_is_told_and_starts_again_after_an_extension(opened: BaseStore) -> None:
    spending = periods(opened, {"per": "day", "max_model_calls": 4})
    await spending.refresh()
    assert spending.soft_limit(0.5) is None
    await made(spending)
    await made(spending)
    soft = spending.soft_limit(0.5)
    assert soft is not None
    assert (soft.budget, soft.used, soft.limit) == ("max_model_calls per day", 2, 4)
    await spending.extend("max_model_calls per day", 4)
    assert spending.soft_limit(0.5) is None
    assert list(spending.in_words()) == ["model_calls in 2026-11-29 by acme: 2 of 8"]


CHILD = """
import asyncio, sys
from datetime import UTC, datetime
from plan_execute import local_persistence, postgres_persistence
from plan_execute.context import SpendLimit
from plan_execute.errors import BudgetExceededError
from plan_execute.spending.periods import Periods

async def main(place):
    open_ = postgres_persistence if "://" in place else local_persistence
    with open_(place) as kept:
        print("ready", flush=True)
        sys.stdin.readline()
        made = 0
        for _ in range(8):
            spending = Periods(kept.store, "acme", [SpendLimit(per="day", max_cost=0.10)])
            try:
                held = await spending.reserve({"max_cost": 0.01}, 60)
            except BudgetExceededError:
                break
            await spending.settle(held, {"max_cost": 0.01})
            made += 1
        print(made)

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_processes_that_race_spend_what_there_is_and_no_more(kind: str, tmp_path: Path) -> None:
    place = str(tmp_path / "a.db") if kind == "sqlite" else postgres_server.server().new_schema()
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, place], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    said = []
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        out, _ = child.communicate(timeout=60)
        said.append(int(out))
    assert sum(said) == 10, said


def test_threads_with_event_loops_of_their_own_share_a_store_in_memory() -> None:
    store, results = InMemoryStore(), list[bool]()
    limit = {"per": "day", "max_cost": 0.05}

    def run(what: Callable[[], Any]) -> None:
        results.append(asyncio.run(what()))

    threads = [threading.Thread(target=run, args=(lambda: made(periods(store, limit)),)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(results) == 5
