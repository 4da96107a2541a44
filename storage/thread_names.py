"""The names of threads in a database, read without LangGraph: a shell asks for them at each Tab."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from .ids import checkpoint_time

__all__ = ["list_threads", "thread_names"]

_LATEST = (
    "SELECT thread_id, MAX(checkpoint_id) AS latest FROM checkpoints"
    " WHERE checkpoint_ns = '' GROUP BY thread_id ORDER BY latest DESC"
)
"""Each thread with its latest checkpoint, newest first."""


def thread_names(path: Path) -> Iterator[str]:
    """Give the threads of a database, newest first; what is no such database is left as it is.

    Raises:
        sqlite3.Error: If it cannot be read.
    """
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=0.5)) as connection:
        yield from (thread for thread, _ in connection.execute(_LATEST))


def list_threads(checkpointer: Any) -> Iterator[tuple[str, str]]:
    """Yield each thread's id and the time of its latest checkpoint (ISO 8601, UTC), newest first.

    The time is read from the checkpoint's id, so nothing is deserialised; it is "" for an id without a time.

    Args:
        checkpointer: One of this package's, on its database (``shared``).
    """
    with checkpointer.shared.transaction(write=False) as cursor:
        rows = cursor.execute(_LATEST).fetchall()
    return ((thread_id, _time_of(checkpoint_id)) for thread_id, checkpoint_id in rows)


def _time_of(checkpoint_id: str) -> str:
    made = checkpoint_time(checkpoint_id)
    return "" if made is None else made.isoformat()
