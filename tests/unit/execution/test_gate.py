"""The gate and the slots: who may start, when, and who is told that nothing will come."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langgraph.errors import GraphInterrupt
from plans import bound

from plan_execute.execution.gate import Gate, Slots, StepWithheldError
from plan_execute.run import StopSignal

A, B = bound("a", "t"), bound("b", "t", {}, "a")
PLAN: Any = {"steps": [A, B]}


def _result(step_id: str, status: str = "done") -> Any:
    return {"step_id": step_id, "status": status}


async def test_a_step_waits_until_what_it_depends_on_is_published() -> None:
    gate = Gate(PLAN, {}, 2)
    waiting = asyncio.create_task(gate.dependencies(B))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    assert not waiting.done()
    gate.publish("a", _result("a"))
    assert await waiting == {"a": _result("a")}


async def test_what_had_finished_before_does_not_hold_anyone() -> None:
    gate = Gate(PLAN, {"a": _result("a")}, 2)
    assert await gate.dependencies(B) == {"a": _result("a")}  # type: ignore[arg-type]


async def test_failed_dependencies_are_handed_on_as_they_are() -> None:
    gate = Gate(PLAN, {}, 2)
    gate.publish("a", _result("a", "failed"))
    assert (await gate.dependencies(B))["a"]["status"] == "failed"  # type: ignore[arg-type]


async def test_dependents_of_a_step_that_asks_are_released_without_a_question_of_their_own() -> None:
    gate = Gate(PLAN, {}, 2)
    gate.publish("a", GraphInterrupt(("the question",)))  # type: ignore[arg-type]
    with pytest.raises(GraphInterrupt) as released:
        await gate.dependencies(B)  # type: ignore[arg-type]
    assert released.value.args[0] == ()


@pytest.mark.parametrize("cause", [StepWithheldError("halted"), asyncio.CancelledError(), ValueError("bug")])
async def test_dependents_of_a_step_that_will_not_run_are_withheld(cause: BaseException) -> None:
    gate = Gate(PLAN, {}, 2)
    gate.publish("a", cause)
    with pytest.raises(StepWithheldError):
        await gate.dependencies(B)  # type: ignore[arg-type]


async def test_the_first_outcome_of_a_step_counts() -> None:
    gate = Gate(PLAN, {}, 2)
    gate.publish("a", _result("a"))
    gate.publish("a", StepWithheldError("late"))
    assert (await gate.dependencies(B))["a"]["status"] == "done"  # type: ignore[arg-type]


async def test_cancelling_one_dependent_leaves_the_others_waiting() -> None:
    gate = Gate(PLAN, {}, 2)
    first, second = (asyncio.create_task(gate.dependencies(B)) for _ in range(2))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    gate.publish("a", _result("a"))
    assert await second == {"a": _result("a")}


async def test_after_a_halt_nothing_new_starts_and_what_runs_goes_on() -> None:
    gate = Gate(PLAN, {}, 2)
    async with gate.slot(A):  # type: ignore[arg-type]
        gate.halt("because")
        gate.halt("another reason")
        with pytest.raises(StepWithheldError, match="because"):
            async with gate.slot(B):  # type: ignore[arg-type]
                raise AssertionError("it started")


async def test_a_stop_keeps_waiting_steps_from_starting() -> None:
    stop = StopSignal()
    gate = Gate(PLAN, {}, 1, stop=stop)
    stop.set()
    with pytest.raises(StepWithheldError, match="told to stop"):
        async with gate.slot(A):  # type: ignore[arg-type]
            raise AssertionError("it started")


async def test_slots_serve_the_highest_priority_first_and_equals_in_order() -> None:
    slots, served = Slots(1), []

    async def take(name: str, priority: float) -> None:
        async with slots.take(priority):
            served.append(name)
            await asyncio.sleep(0)

    async with slots.take(0):
        tasks = [
            asyncio.create_task(take(n, p)) for n, p in (("low", 1), ("high", 3), ("mid1", 2), ("mid2", 2))
        ]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert served == ["high", "mid1", "mid2", "low"]


async def test_a_cancelled_waiter_never_takes_a_slot_with_it() -> None:
    slots = Slots(1)

    async def take() -> str:
        async with slots.take(1):
            return "served"

    async with slots.take(0):
        tasks = [asyncio.create_task(take()) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
    tasks[1].cancel()  # it was given the slot, and is cancelled before it could run
    assert await asyncio.wait_for(tasks[2], 60) == "served"
    async with asyncio.timeout(60), slots.take(0):
        pass


async def test_an_exception_inside_a_slot_frees_it() -> None:
    slots = Slots(1)
    with pytest.raises(ValueError, match="x"):
        async with slots.take(0):
            raise ValueError("x")
    async with asyncio.timeout(60), slots.take(0):
        pass
