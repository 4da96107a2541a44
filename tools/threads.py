"""Run daemon threads: one for each call of a blocking tool, and event loops in threads of their own.

Blocking tools do not run in asyncio's default executor. On two cores it has six threads, which blocked tools
use up, and its threads are joined at exit, so one hanging tool would keep the process alive forever.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import threading
from collections.abc import Callable, Coroutine, Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

from ..errors import WorkLimitError
from ..safety.work import Work, within

T = TypeVar("T")
P = ParamSpec("P")
_log = logging.getLogger(__name__)

__all__ = [
    "ABOUT",
    "begin_in",
    "called_here",
    "goes_on",
    "is_being_cancelled",
    "loop_in_thread",
    "raising_only_exceptions",
    "run_bounded",
    "run_in_thread",
    "run_to_end",
]

ABOUT: ContextVar[Hashable] = ContextVar("about", default=None)
"""What blocking calls are made for."""
_calls: dict[threading.Thread, Hashable] = {}
"""What each blocking call that goes on was made for."""


def goes_on(about: Hashable) -> bool:
    """Tell whether a blocking call for this goes on, perhaps because its await was cancelled."""
    return any(found == about and thread.is_alive() for thread, found in list(_calls.items()))


_loops: dict[str, asyncio.AbstractEventLoop] = {}
_starting = threading.Lock()

ANSWERS_WITHIN_S = 10.0
"""A loop that begins nothing for this long is assumed to wait for the caller."""


def loop_in_thread(name: str) -> asyncio.AbstractEventLoop:
    """Start a loop once per process, because open connections belong to a loop."""
    with _starting:
        if name not in _loops:
            loop = asyncio.new_event_loop()
            threading.Thread(target=_run_on, args=(loop,), name=name, daemon=True).start()
            _loops[name] = loop
        return _loops[name]


def _run_on(loop: asyncio.AbstractEventLoop) -> None:
    """Run a loop on after a SystemExit too, which ends `run_forever`; else its callers would wait forever."""
    while True:
        try:
            return loop.run_forever()
        except (SystemExit, KeyboardInterrupt):
            _log.warning("what ran on a shared event loop tried to end the process", exc_info=True)


def _forget_loops() -> None:
    _loops.clear()  # A forked child does not have these threads.
    _starting.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_starting.acquire, after_in_parent=_starting.release, after_in_child=_forget_loops
    )


def begin_in(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], *, within_s: float = ANSWERS_WITHIN_S
) -> asyncio.Task[T] | None:
    """Start a task on the loop of another thread, in a copy of the caller's context.

    Returns:
        None, with ``work`` closed, if the loop waits for the caller: the caller runs on it, or is a
        thread for which something on it waits.
    """
    begun: Future[asyncio.Task[T]] = Future()
    context = contextvars.copy_context()

    def begin() -> None:
        if begun.set_running_or_notify_cancel():
            begun.set_result(loop.create_task(work, context=context))

    if asyncio._get_running_loop() is not loop:
        loop.call_soon_threadsafe(begin)
        try:
            return begun.result(within_s)
        except TimeoutError:
            if not begun.cancel():  # It has begun after all.
                return begun.result()
    work.close()
    return None


def called_here(work: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Let other event loops await ``work`` as if it were called here: on this loop, in this context."""
    loop, context = asyncio.get_running_loop(), contextvars.copy_context()

    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        begun = context.run(asyncio.run_coroutine_threadsafe, work(*args, **kwargs), loop)
        return await asyncio.wrap_future(begun)

    return call


def is_being_cancelled() -> bool:
    """Tell whether the current task was cancelled, and something has made an error or a result of that."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def run_in_thread(call: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    """Call a blocking function in a daemon thread of its own and await its result.

    Cancelling the await abandons the thread, because Python cannot stop it.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]
        else:
            future.set_exception(error)

    def work() -> None:
        result: T | None = None
        error: Exception | None = None
        try:
            result = context.run(call, *args, **kwargs)
        except StopIteration as stop:
            # A future cannot hold a StopIteration.
            error = RuntimeError(f"the tool raised StopIteration: {stop}")
        except Exception as raised:
            error = raised
        except BaseException as raised:  # SystemExit and the like would end the event loop.
            error = RuntimeError(f"the tool raised {type(raised).__name__}: {raised}")
        finally:
            del _calls[thread]
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, error)

    thread = threading.Thread(target=work, name="plan-execute-tool", daemon=True)
    _calls[thread] = ABOUT.get()
    try:
        thread.start()
    except RuntimeError:  # A process with too many threads cannot start one.
        del _calls[thread]
        raise
    return await future


@contextmanager
def raising_only_exceptions() -> Iterator[None]:
    """Turn what would end the event loop or pass all handlers, such as SystemExit, into a tool's error."""
    try:
        yield
    except (Exception, asyncio.CancelledError, GeneratorExit, KeyboardInterrupt):
        raise
    except BaseException as raised:
        raise RuntimeError(f"the tool raised {type(raised).__name__}: {raised}") from raised


async def run_bounded(check: Callable[..., T], /, *args: Any) -> T:
    """Make a check of bounded work: here if it takes almost no time, else again in a thread.

    Raises:
        WorkLimitError: If it takes more than a check may.
    """
    work = Work.at_once()
    with suppress(WorkLimitError):
        made = within(work, check, *args)
        if not work.is_spent:
            return made
    return await run_in_thread(check, *args)


def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine from synchronous code, whether or not this thread has a running event loop."""
    context = contextvars.copy_context()
    with ThreadPoolExecutor(1, thread_name_prefix="plan-execute-tool") as pool:
        return pool.submit(context.run, asyncio.run, work).result()
