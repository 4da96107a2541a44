"""Real tools that record what they were called with and when, made anew for each test."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool

__all__ = ["Toolset", "make_tool"]


def make_tool(func: Callable[..., Any], *, effect: str = "read", **metadata: Any) -> BaseTool:
    """Turn a function, sync or async, into a tool with an effect."""
    way = "coroutine" if asyncio.iscoroutinefunction(func) else "func"
    like = _like.get(func.__code__)
    if like is None or (func.__annotations__, func.__defaults__, func.__name__) != like[0]:
        description = func.__doc__ or f"Tool {func.__name__}."
        tool = StructuredTool.from_function(**{way: func}, name=func.__name__, description=description)
        like = (dict(func.__annotations__), func.__defaults__, func.__name__), tool
        _like[func.__code__] = like
    return like[1].model_copy(update={way: func, "metadata": {"effect": effect, **metadata}})


_like: dict[Any, tuple[Any, BaseTool]] = {}
"""A tool of each function's code, whose form the tools of the next tests share: making it takes 1 ms."""


class Toolset:
    """The tools of one test: ``look`` and ``echo`` read, ``wr`` writes, the rest misbehaves on order.

    Attributes:
        calls: ``(tool, first argument)`` of every call, in the order in which they started.
        spans: ``name -> (start, end)`` of every ``slow`` and ``wait``, on the monotonic clock.
        failures: How often ``flaky`` and ``wr`` still raise, and what.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.spans: dict[str, tuple[float, float]] = {}
        self.failures: list[Exception] = []
        self.cancelled: list[str] = []

    def named(self, name: str) -> list[Any]:
        """The first arguments of all calls of one tool."""
        return [value for tool, value in self.calls if tool == name]

    @property
    def tools(self) -> list[BaseTool]:
        """All of them."""
        reading = [self._look, self._echo, self._slow, self._wait, self._flaky, self._broken]
        changing = [(self._wr, "write"), (self._put, "idempotent")]
        made = [make_tool(make(), effect=effect) for make, effect in changing]
        return [*(make_tool(make()) for make in reading), *made]

    def _look(self) -> Callable[..., Any]:
        def look(q: str) -> str:
            """Look something up."""
            self.calls.append(("look", q))
            return f"found {q}"

        return look

    def _echo(self) -> Callable[..., Any]:
        def echo(value: Any) -> Any:
            """Give back the value."""
            self.calls.append(("echo", value))
            return value

        return echo

    def _slow(self) -> Callable[..., Any]:
        def slow(name: str, seconds: float = 0.1) -> str:
            """Block a thread for a while."""
            self.calls.append(("slow", name))
            start = time.monotonic()
            time.sleep(seconds)
            self.spans[name] = (start, time.monotonic())
            return name

        return slow

    def _wait(self) -> Callable[..., Any]:
        async def wait(name: str, seconds: float = 0.1) -> str:
            """Wait without blocking; records its cancellation."""
            self.calls.append(("wait", name))
            clock = asyncio.get_running_loop().time
            start = clock()
            try:
                await asyncio.sleep(seconds)
            except asyncio.CancelledError:
                self.cancelled.append(name)
                raise
            self.spans[name] = (start, clock())
            return name

        return wait

    def _flaky(self) -> Callable[..., Any]:
        def flaky(q: str) -> str:
            """Raise what ``failures`` holds, then answer."""
            self.calls.append(("flaky", q))
            return self._answer(f"got {q}")

        return flaky

    def _broken(self) -> Callable[..., Any]:
        def broken(q: str) -> str:
            """Never work."""
            self.calls.append(("broken", q))
            raise ValueError(f"no {q} today")

        return broken

    def _wr(self) -> Callable[..., Any]:
        def wr(text: str) -> str:
            """Write a text."""
            self.calls.append(("wr", text))
            return self._answer(f"wrote {text}")

        return wr

    def _put(self) -> Callable[..., Any]:
        def put(text: str) -> str:
            """Put a text, as often as you like."""
            self.calls.append(("put", text))
            return self._answer(f"put {text}")

        return put

    def _answer(self, text: str) -> str:
        if self.failures:
            raise self.failures.pop(0)
        return text
