"""The names of threads in a local database, read without LangGraph: a shell asks for them at each Tab."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

__all__ = ["LATEST_CHECKPOINTS", "thread_names"]

LATEST_CHECKPOINTS = (
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
        yield from (thread for thread, _ in connection.execute(LATEST_CHECKPOINTS))
