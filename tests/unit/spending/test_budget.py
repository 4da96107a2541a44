"""The meter reserves before it spends, and goes on where an earlier run stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import AIMessage

from plan_execute.context import Context
from plan_execute.errors import BudgetExceededError
from plan_execute.spending.budget import Meter, Tab


def _meter(spent: Any = None, clock: Callable[[], float] = lambda: 0.0, **limits: Any) -> Meter:
    return Meter(Context(**limits), spent, clock)


def _said(tokens: int) -> AIMessage:
    return AIMessage(
        "x", usage_metadata={"input_tokens": tokens, "output_tokens": 1, "total_tokens": tokens + 1}
    )


def test_reservations_count_before_the_calls_are_made() -> None:
    meter = _meter(max_model_calls=2)
    meter.reserve_model_call()
    meter.reserve_model_call()
    with pytest.raises(BudgetExceededError, match="max_model_calls=2") as spent:
        meter.reserve_model_call()
    assert (spent.value.budget, spent.value.spent, spent.value.limit) == ("max_model_calls", 2, 2)


async def test_seconds_of_a_run_that_was_killed_count_up_to_its_last_call() -> None:
    kept: list[dict[str, float]] = []

    async def write(calls: dict[str, float]) -> None:
        kept.append(dict(calls))

    now = [0.0]
    first = Meter(Context(max_seconds=8), {"seconds": 1.0}, lambda: now[0], write_calls=write)
    now[0] = 6.0
    first.reserve_tool_call()
    await first.keep()
    second = Meter(Context(max_seconds=8), {"seconds": 1.0}, lambda: 100.0, calls=kept[-1], write_calls=write)
    assert (kept[-1]["seconds"], second.seconds()) == (7.0, 7.0)
    booked = Meter(Context(max_seconds=8), {"seconds": 7.5}, lambda: 0.0, calls=kept[-1], write_calls=write)
    assert booked.seconds() == 7.5


def test_a_settled_reservation_stays_spent_also_when_the_call_failed() -> None:
    meter = _meter(max_model_calls=1)
    tab = Tab(meter)
    tab.reserve_model_call("planner")
    tab.record_model_call("planner", None, None)
    assert tab.usage["model_calls"] == 1
    assert tab.usage["total_tokens"] == 0
    with pytest.raises(BudgetExceededError):
        tab.reserve_model_call("planner")


def test_usage_is_counted_in_all_and_per_role() -> None:
    tab = Tab(_meter())
    for role, tokens in (("planner", 10), ("executor", 5), ("executor", 5)):
        tab.reserve_model_call(role)
        tab.record_model_call(role, _said(tokens), None)
    assert (tab.usage["model_calls"], tab.usage["total_tokens"]) == (3, 23)
    assert {role: spent["model_calls"] for role, spent in tab.usage["by_role"].items()} == {
        "planner": 1,
        "executor": 2,
    }


def test_tokens_stop_the_next_call() -> None:
    tab = Tab(_meter(max_tokens=10))
    tab.reserve_model_call("planner")
    tab.record_model_call("planner", _said(20), None)
    with pytest.raises(BudgetExceededError, match="max_tokens=10"):
        tab.reserve_model_call("planner")


def test_tool_calls_are_counted_before_they_are_made() -> None:
    tab = Tab(_meter(max_tool_calls=1))
    tab.tool_call()
    with pytest.raises(BudgetExceededError, match="max_tool_calls=1"):
        tab.tool_call()
    assert tab.usage["tool_calls"] == 1


def test_seconds_count_on_from_what_earlier_runs_took() -> None:
    now = 100.0
    meter = _meter({"seconds": 5.0}, lambda: now, max_seconds=10)
    assert meter.exhausted() is None
    now = 105.0
    error = meter.exhausted()
    assert error is not None
    assert error.budget == "max_seconds"


def test_laps_add_up_to_the_wall_time() -> None:
    times = iter([0.0, 1.0, 4.0])
    meter = _meter(None, lambda: next(times))
    assert [meter.lap(), meter.lap()] == [1.0, 3.0]


def test_what_was_spent_before_counts() -> None:
    with pytest.raises(BudgetExceededError):
        _meter({"tool_calls": 3}, max_tool_calls=3).reserve_tool_call()
    with pytest.raises(BudgetExceededError):
        _meter({"model_calls": 3}, max_model_calls=3).reserve_model_call()


def test_without_limits_nothing_is_refused() -> None:
    meter = _meter({"model_calls": 10**9, "tool_calls": 10**9, "total_tokens": 10**9, "seconds": 1e9})
    meter.reserve_model_call()
    meter.reserve_tool_call()
    assert meter.exhausted() is None
