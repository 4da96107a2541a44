"""Blocking functions beside the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from plan_execute.tools import threads as tool_threads
from plan_execute.tools.threads import ABOUT, begin_in, goes_on, loop_in_thread, run_in_thread

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


# --- event loops in threads of their own -------------------------------------------------


def test_a_loop_is_made_once_also_when_eight_threads_ask_first() -> None:
    for round_ in range(20):
        together = threading.Barrier(8)

        def ask(name: str, together: threading.Barrier = together) -> asyncio.AbstractEventLoop:
            together.wait()
            return loop_in_thread(name)

        with ThreadPoolExecutor(8) as pool:
            loops = set(pool.map(ask, [f"test-loop-{round_}"] * 8))
        for loop in loops:
            loop.call_soon_threadsafe(loop.stop)
        assert len(loops) == 1


async def _thread() -> int:
    return threading.get_ident()


def test_work_begins_on_the_loop_of_another_thread_in_the_callers_context() -> None:
    async def look() -> tuple[str, int]:
        return _var.get(), await _thread()

    _var.set("the caller's")
    loop = loop_in_thread("test-loop")
    itself = asyncio.run_coroutine_threadsafe(_thread(), loop).result(30)
    task = begin_in(loop, look())
    assert task is not None
    ended = asyncio.run_coroutine_threadsafe(asyncio.wait_for(task, 30), task.get_loop())
    assert itself != threading.get_ident()
    assert ended.result(30) == ("the caller's", itself)


def test_nothing_begins_on_a_loop_that_waits_for_the_caller() -> None:
    loop = loop_in_thread("test-loop")

    async def ask_directly() -> object:
        return begin_in(loop, _thread())

    async def ask_through_a_thread() -> object:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(begin_in, loop, _thread(), within_s=0.01).result()

    for ask in (ask_directly, ask_through_a_thread):
        assert asyncio.run_coroutine_threadsafe(ask(), loop).result(30) is None


async def test_a_blocking_call_goes_on_until_its_end_even_if_its_await_was_cancelled() -> None:
    go, ended = threading.Event(), threading.Event()

    def block() -> None:
        go.wait(60)
        ended.set()

    async def call() -> None:
        ABOUT.set("the call")
        await run_in_thread(block)

    task = asyncio.create_task(call())
    while not goes_on("the call"):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert goes_on("the call")
    assert not goes_on("another")
    go.set()
    assert ended.wait(60)
    while goes_on("the call"):
        await asyncio.sleep(0.005)


async def test_a_call_whose_thread_cannot_start_does_not_count_as_going_on(monkeypatch) -> None:
    def refuses(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuses)
    before = dict(tool_threads._calls)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        await run_in_thread(len, "x")
    assert tool_threads._calls == before
