"""Drive the one async implementation from synchronous callers, on a private event loop.

LangGraph's own sync path runs nodes in a pool of six threads on two cores, which
starves gated steps; an event loop has no such limit.
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, TypeVar

from ..errors import ConfigurationError
from ..tools.threads import loop_in_thread

__all__ = ["iterate", "run"]

T = TypeVar("T")
_END = object()


def _private_loop() -> asyncio.AbstractEventLoop:
    return loop_in_thread("plan-execute-loop")


def _submit(work: Coroutine[Any, Any, None]) -> asyncio.Future[asyncio.Task[None]] | Any:
    """Start a task on the private loop in a copy of the caller's context, and return a handle on it."""
    loop, context = _private_loop(), contextvars.copy_context()
    if asyncio._get_running_loop() is loop:
        work.close()
        raise ConfigurationError(
            "a sync call inside an agent's own event loop would wait for itself: use ainvoke"
        )
    started: queue.SimpleQueue[asyncio.Task[None]] = queue.SimpleQueue()
    loop.call_soon_threadsafe(lambda: started.put(loop.create_task(work, context=context)))
    return started.get()


def iterate(chunks: AsyncIterator[T]) -> Iterator[T]:
    """Yield what an async iterator yields. Closing the generator cancels the work and waits for its end."""
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

    task, ended = None, False
    try:
        task = _submit(pump())
        while True:
            chunk, error = out.get()
            if chunk is _END:
                ended = True
                if error is not None:
                    raise error
                return
            yield chunk
    finally:
        if not ended and task is not None:
            _private_loop().call_soon_threadsafe(task.cancel)
            while out.get()[0] is not _END:
                pass


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the private loop and return its result."""
    return asyncio.run_coroutine_threadsafe(work, _private_loop()).result()
