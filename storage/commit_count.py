"""Count the ledger's commits in the database and next to it, to notice a lost write-ahead log.

If the log was truncated, damaged or deleted, SQLite takes it for a shorter log and reports nothing. The file
next to the database is written after each commit and never waits for the disk. So it is never ahead of a
complete database: not after a kill, a power failure or a checkpoint. A copy of the database in another place
has no such file.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from pathlib import Path
from typing import NamedTuple

__all__ = ["Count", "CountFile", "add_commit", "add_count", "read_count"]

_SCHEMA = "CREATE TABLE IF NOT EXISTS ledger_commits (file TEXT NOT NULL, number INTEGER NOT NULL)"
_EXISTS = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'ledger_commits'"


class Count(NamedTuple):
    """The number of ledger commits that a database has seen.

    Attributes:
        file: A random name of the database, which only its copies share.
        number: The commits.
    """

    file: str
    number: int


def add_count(connection: sqlite3.Connection) -> None:
    """Start counting in a database without a count."""
    connection.execute(_SCHEMA)
    connection.execute(
        "INSERT INTO ledger_commits SELECT ?, 0 WHERE NOT EXISTS (SELECT 1 FROM ledger_commits)",
        (secrets.token_hex(16),),
    )


def add_commit(cursor: sqlite3.Cursor) -> Count:
    """Count the open transaction."""
    cursor.execute("UPDATE ledger_commits SET number = number + 1")
    return Count(*cursor.execute("SELECT file, number FROM ledger_commits").fetchone())


def read_count(connection: sqlite3.Connection) -> Count | None:
    """Read the database's count; None if a version without a count made it."""
    if not connection.execute(_EXISTS).fetchone():
        return None
    row = connection.execute("SELECT file, number FROM ledger_commits").fetchone()
    return None if row is None else Count(*row)


class CountFile:
    """The file next to the database with the number of commits."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def read(self) -> Count | None:
        """Read the last recorded count; None if there is none, or a power failure damaged it."""
        if not self.path.exists():
            return None
        name, _, number = self.path.read_bytes().decode("ascii", "replace").strip().partition(" ")
        return Count(name, int(number)) if number.isdecimal() else None

    def tell(self, count: Count) -> None:
        """Record a count after its commit."""
        if self._file is None:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600)
        os.lseek(self._file, 0, os.SEEK_SET)
        os.write(self._file, f"{count.file} {count.number:020d}\n".encode())

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
