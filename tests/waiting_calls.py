"""Let calls on a storage wait for its thread at the same moment."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from typing import Any

from plan_execute.storage.calls import Access, StorageThread

__all__ = ["at_once"]


async def at_once(thread: StorageThread, *calls: Awaitable[Any]) -> list[Any]:
    """Let the calls wait for a storage's thread, then let them in; return what each got."""
    taken, free = threading.Event(), threading.Event()

    def take() -> None:
        taken.set()
        assert free.wait(10)

    first = thread.call(take, Access.WRITE)
    assert await asyncio.to_thread(taken.wait, 10)
    waiting = [asyncio.ensure_future(call) for call in calls]
    await asyncio.sleep(0)  # all of them stand in the queue
    free.set()
    await first
    return await asyncio.gather(*waiting, return_exceptions=True)
