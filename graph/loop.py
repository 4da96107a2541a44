"""Run the one async implementation for synchronous callers, on a private event loop.

LangGraph's own sync path runs nodes in a pool of six threads on two cores, which is too few for waiting
steps; an event loop has no such limit. All runs share one loop, because the connections of chat models belong
to the loop that opened them.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

from ..errors import ConfigurationError
from ..tools.threads import begin_in, loop_in_thread, run_to_end

__all__ = ["iterate", "run"]

T = TypeVar("T")
_END = object()


def _begin(work: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
    return begin_in(loop_in_thread("plan-execute-loop"), work)


def iterate(chunks: AsyncIterator[T]) -> Iterator[T]:
    """Yield the values of an async iterator. Closing the generator cancels the work and waits for its end.

    Raises:
        ConfigurationError: If the loop waits for the caller, so that the work could never begin.
    """
    out: queue.SimpleQueue[Any] = queue.SimpleQueue()

    async def pump() -> None:
        try:
            async for chunk in chunks:
                out.put((chunk, None))
        except BaseException as error:
            out.put((_END, error))
            if isinstance(error, asyncio.CancelledError):
                raise
        else:
            out.put((_END, None))

    task = _begin(pump())
    if task is None:
        raise ConfigurationError(
            "this call would block the event loop that runs agents for sync callers, and that loop "
            "would wait for it forever: use ainvoke or astream in an async tool, or make the tool "
            "a plain function"
        )
    ended = False
    try:
        while True:
            chunk, error = out.get()
            if chunk is _END:
                ended = True
                if error is not None:
                    raise error
                return
            yield chunk
    finally:
        if not ended:
            task.get_loop().call_soon_threadsafe(task.cancel)
            while out.get()[0] is not _END:
                pass


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that may call a model, and return its result.

    If the private loop waits for the caller, it runs on a loop of its own. Code that calls no model uses
    `run_to_end` and does that at once.
    """
    ended: Future[T] = Future()

    async def settle() -> None:
        try:
            ended.set_result(await work)
        except BaseException as error:
            ended.set_exception(error)
            if isinstance(error, asyncio.CancelledError):
                raise

    return run_to_end(work) if _begin(settle()) is None else ended.result()
