"""Drive the one async implementation from synchronous callers, on a private event loop.

LangGraph's own sync path runs nodes in a pool of six threads on two cores, which
starves gated steps; an event loop has no such limit.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import queue
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from functools import cache
from typing import Any, TypeVar

from ..errors import ConfigurationError

__all__ = ["iterate", "run"]

T = TypeVar("T")
_END = object()


@cache
def _private_loop() -> asyncio.AbstractEventLoop:
    """Start the loop once per process: model clients keep connections that belong to a loop."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="plan-execute-loop", daemon=True).start()
    return loop


if hasattr(os, "register_at_fork"):  # a forked child has no such thread
    os.register_at_fork(after_in_child=_private_loop.cache_clear)


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
