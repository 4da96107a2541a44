"""A thread whose runs must end: one that hangs fails its own test."""

from __future__ import annotations

import asyncio
from typing import Any

from plans import Thread

from plan_execute import Context

__all__ = ["BoundedThread"]


class BoundedThread(Thread):
    """A thread whose every run must end, or ask, within ``limit_s`` seconds."""

    limit_s = 60.0

    async def send(self, given: Any, context: Context | None = None) -> dict[str, Any]:
        """Run with an input, a command or None."""
        return await asyncio.wait_for(super().send(given, context), self.limit_s)
