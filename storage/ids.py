"""Ids: which texts can be a thread's in every storage, and when a checkpoint was made, as its id says."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from ..errors import ConfigurationError, InvalidInputError
from ..langgraph_private import sort_ids_after

__all__ = ["LONGEST_ID", "checked_thread_id", "checkpoint_time", "sort_after", "thread_id_of"]

LONGEST_ID = 512
"""Bytes in UTF-8: PostgreSQL's indexes take some 2,700, and escaping in a store's labels triples them."""


def thread_id_of(configurable: Mapping[str, Any]) -> str:
    """Return the id of the thread that a config names.

    Raises:
        ConfigurationError: If it names none.
        InvalidInputError: If no storage could keep it.
    """
    if configurable.get("thread_id") is None:
        raise ConfigurationError(
            'a graph with a checkpointer needs {"configurable": {"thread_id": …}} in its config'
        )
    return checked_thread_id(configurable["thread_id"])


def checked_thread_id(given: object) -> str:
    """Return a thread's id as text.

    Raises:
        InvalidInputError: If it is blank, too long, or holds what a storage could not keep.
    """
    thread_id = str(given)
    size = len(thread_id.encode(errors="surrogatepass"))
    if not thread_id.strip():
        problem = "is empty"
    elif "\0" in thread_id:
        problem = "holds a NUL character"
    elif any("\ud800" <= sign <= "\udfff" for sign in thread_id):
        problem = "holds a lone surrogate, which is not Unicode text"
    elif size > LONGEST_ID:
        problem = f"has {size:,} bytes in UTF-8; at most {LONGEST_ID} are allowed"
    else:
        return thread_id
    shown = repr(thread_id) if len(thread_id) <= 60 else f"{thread_id[:60]!r}…"
    raise InvalidInputError(f"the thread_id {problem}: {shown}")


_EPOCH = datetime(1582, 10, 15, tzinfo=UTC)
"""When the count in the ids of checkpoints began; LangGraph sorts checkpoints by their ids."""


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
