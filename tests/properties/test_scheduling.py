"""Laws of the schedule: what holds for any plan, with the whole agent under a virtual clock."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.tools import StructuredTool
from virtual_clock import run_virtually

from plan_execute import Context, create_plan_execute_agent

ROUNDING = 1e-6
SECONDS = st.one_of(st.integers(1, 5), st.integers(100, 1000))


@st.composite
def dags(draw: st.DrawFn) -> dict[str, tuple[float, list[str]]]:
    """Draw the seconds and the dependencies of up to twelve steps; some take far longer than others."""
    drawn: dict[str, tuple[float, list[str]]] = {}
    for number in range(draw(st.integers(1, 12))):
        needs = draw(st.lists(st.sampled_from(sorted(drawn)), max_size=3, unique=True)) if drawn else []
        drawn[f"s{number}"] = (draw(SECONDS), needs)
    return drawn


async def makespan(steps: dict[str, tuple[float, list[str]]], slots: int) -> float:
    """Run a plan with the agent and return the virtual seconds that passed."""

    async def work(seconds: float) -> float:
        """Take some time."""
        await asyncio.sleep(seconds)
        return seconds

    tool = StructuredTool.from_function(coroutine=work, metadata={"effect": "read"})
    plan: Any = {
        "goal": "work",
        "steps": [
            {"id": i, "depends_on": needs, "call": {"tool": "work", "args": {"seconds": seconds}}}
            for i, (seconds, needs) in steps.items()
        ],
    }
    clock = asyncio.get_running_loop().time
    started = clock()
    context = Context(approval="never", max_parallel=slots, step_timeout_s=3600)
    result = await create_plan_execute_agent(None, [tool]).ainvoke({"plan": plan}, context=context)
    assert result["status"] == "done", result["final_answer"]
    return clock() - started


def critical_path(steps: dict[str, tuple[float, list[str]]]) -> float:
    ends: dict[str, float] = {}
    for step_id, (seconds, needs) in steps.items():
        ends[step_id] = seconds + max((ends[need] for need in needs), default=0.0)
    return max(ends.values())


@settings(max_examples=15, deadline=None, derandomize=True)
@given(dags(), st.integers(1, 5))
def test_no_plan_takes_longer_than_grahams_bound(
    steps: dict[str, tuple[float, list[str]]], slots: int
) -> None:
    work, path = sum(seconds for seconds, _ in steps.values()), critical_path(steps)
    took = run_virtually(makespan(steps, slots))
    assert took <= work / slots + (1 - 1 / slots) * path + ROUNDING
    assert took >= max(path, work / slots) - ROUNDING


@settings(max_examples=6, deadline=None, derandomize=True)
@given(dags())
def test_with_a_slot_for_every_step_a_plan_takes_its_critical_path(
    steps: dict[str, tuple[float, list[str]]],
) -> None:
    assert run_virtually(makespan(steps, len(steps))) == pytest.approx(critical_path(steps), abs=ROUNDING)


def test_the_virtual_clock_waits_for_threads_and_for_nothing_else() -> None:
    seen: list[tuple[str, float]] = []

    async def sleeper() -> None:
        await asyncio.sleep(3600)
        seen.append(("slept", asyncio.get_running_loop().time()))

    async def run() -> None:
        sleeping = asyncio.create_task(sleeper())
        await asyncio.to_thread(time.sleep, 0.05)
        seen.append(("thread", asyncio.get_running_loop().time()))
        await sleeping

    run_virtually(run())
    assert seen == [("thread", 0.0), ("slept", 3600.0)]
