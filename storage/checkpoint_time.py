"""When a checkpoint was made, as its id says: LangGraph sorts checkpoints by their ids."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from ..langgraph_private import sort_ids_after

__all__ = ["checkpoint_time", "sort_after"]

_EPOCH = datetime(1582, 10, 15, tzinfo=UTC)


def checkpoint_time(checkpoint_id: str) -> datetime | None:
    """Return the time in a checkpoint's id; None for an id without one."""
    ticks = _ticks(checkpoint_id)
    return None if ticks is None else _EPOCH + timedelta(microseconds=ticks // 10)


def sort_after(checkpoint_id: str) -> None:
    """Let the checkpoints that this process makes from now on sort after this one.

    Where the clock went back, new ones would be taken for older ones, and the thread would stand still.
    """
    ticks = _ticks(checkpoint_id)
    if ticks is not None:
        sort_ids_after(ticks)


def _ticks(checkpoint_id: str) -> int | None:
    try:
        number = UUID(checkpoint_id)
    except ValueError:
        return None
    if number.version != 6:
        return None
    # RFC 9562 §5.6: 48 high bits, the version, 12 low bits, counting 100 ns since 1582-10-15
    return (number.int >> 80) << 12 | (number.int >> 64) & 0xFFF
