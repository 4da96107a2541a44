"""Commits of the ledger, counted in the database and beside it, so that a lost write-ahead log is noticed.

SQLite takes a log that was cut off, damaged or deleted for a shorter one, and says nothing. The file beside
the database is written after each commit and never waits for the disk, so it is never ahead of a whole
database: not after a kill, a power cut or a checkpoint. A copy of the database elsewhere has no such file.
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
    """How many commits of its ledger a database has seen.

    Attributes:
        file: A random name of the database, which only copies of it share.
        number: The commits.
    """

    file: str
    number: int


def add_count(connection: sqlite3.Connection) -> None:
    """Begin to count in a database that does not count yet."""
    connection.execute(_SCHEMA)
    connection.execute(
        "INSERT INTO ledger_commits SELECT ?, 0 WHERE NOT EXISTS (SELECT 1 FROM ledger_commits)",
        (secrets.token_hex(16),),
    )


def add_commit(cursor: sqlite3.Cursor) -> Count:
    """Count the transaction that is open."""
    cursor.execute("UPDATE ledger_commits SET number = number + 1")
    return Count(*cursor.execute("SELECT file, number FROM ledger_commits").fetchone())


def read_count(connection: sqlite3.Connection) -> Count | None:
    """Read what the database says; None: a version made it that did not count."""
    if not connection.execute(_EXISTS).fetchone():
        return None
    row = connection.execute("SELECT file, number FROM ledger_commits").fetchone()
    return None if row is None else Count(*row)


class CountFile:
    """The file beside the database that says how many commits there were."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def read(self) -> Count | None:
        """Read what was told last; None: nothing, or what a power cut made of it."""
        if not self.path.exists():
            return None
        name, _, number = self.path.read_bytes().decode("ascii", "replace").strip().partition(" ")
        return Count(name, int(number)) if number.isdecimal() else None

    def tell(self, count: Count) -> None:
        """Write down a count once its commit is done."""
        if self._file is None:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600)
        os.lseek(self._file, 0, os.SEEK_SET)
        os.write(self._file, f"{count.file} {count.number:020d}\n".encode())

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
