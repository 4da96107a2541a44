"""Blocking functions beside the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from plan_execute.tools.threads import run_in_thread

_var: contextvars.ContextVar[str] = contextvars.ContextVar("_var", default="unset")


async def test_a_result_and_an_exception_come_back() -> None:
    assert await run_in_thread(lambda a, *, b: a + b, 1, b=2) == 3
    with pytest.raises(ZeroDivisionError):
        await run_in_thread(lambda: 1 / 0)


async def test_a_stop_iteration_comes_back_as_something_a_future_can_hold() -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        await run_in_thread(next, iter(()))


async def test_context_variables_are_seen_in_the_thread() -> None:
    _var.set("set")
    assert await run_in_thread(_var.get) == "set"


async def test_more_calls_run_at_the_same_time_than_the_default_pool_has_threads() -> None:
    meeting = threading.Barrier(30)
    await asyncio.gather(*(run_in_thread(meeting.wait, 60) for _ in range(30)))


async def test_cancelling_abandons_the_thread_and_its_late_result_is_harmless() -> None:
    release = threading.Event()
    work = asyncio.create_task(run_in_thread(release.wait, 2))
    await asyncio.sleep(0.02)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    release.set()
    await asyncio.sleep(0.05)


async def test_threads_do_not_keep_the_process_alive() -> None:
    assert await run_in_thread(lambda: threading.current_thread().daemon)
