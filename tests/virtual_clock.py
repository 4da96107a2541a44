"""An event loop whose clock jumps to the next timer: hours of sleeping take as long as the work between.

The loop's time is virtual; what reads another clock (``time.monotonic``, ``datetime.now``) sees real time.
It jumps only when nothing else can go on: no callback is ready, no descriptor is, and nothing runs in a
thread that was started through ``run_in_executor`` (so do ``asyncio.to_thread``, langgraph's sync nodes and
the storage adapters). A thread that was started otherwise is not seen: tools in such a run are async.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import genai_prices.data  # noqa: F401  A run would import it in a thread that the clock does not see.

T = TypeVar("T")


class _JumpingSelector(selectors.DefaultSelector):  # type: ignore[misc,valid-type]
    """Lets a wait pass at once by moving the clock, where nothing but time would end it."""

    clock: VirtualClockLoop

    def select(self, timeout: float | None = None) -> Any:
        """Return what is ready; where that is nothing, jump, or wait for the threads."""
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is None or self.clock.threads_at_work:
            return super().select(None)  # the end of a thread's work wakes the loop through its own socket
        self.clock.jump()
        return []


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """An event loop with a virtual clock that starts at 0."""

    def __init__(self) -> None:
        selector = _JumpingSelector()
        selector.clock = self
        self._now = 0.0
        self.threads_at_work = 0
        super().__init__(selector)

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._now

    def jump(self) -> None:
        """Go to the next timer, to the last bit of its time."""
        self._now = max(self._now, self._scheduled[0].when())  # type: ignore[attr-defined]

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Run a call in a thread; until the loop has heard of its end, the clock stands still."""
        self.threads_at_work += 1
        running = super().run_in_executor(executor, func, *args)
        running.add_done_callback(self._end_of_thread)
        return running

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        """Wait for its threads in real time (a thread that nobody counts joins them)."""
        self.threads_at_work += 1
        try:
            await super().shutdown_default_executor(*args, **kwargs)
        finally:
            self.threads_at_work -= 1

    def _end_of_thread(self, _running: asyncio.Future[Any]) -> None:
        self.threads_at_work -= 1


def virtually(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make an async test run under a virtual clock: what it says of seconds holds on any machine."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        run_virtually(test(*args, **kwargs))

    return run


def run_virtually(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine, as ``asyncio.run`` does, under a virtual clock."""
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        return runner.run(work)
