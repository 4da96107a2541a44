"""Checkpointer and store in one SQLite file, plain or encrypted, and the threads in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from .adapters import AsyncSaver, DatabasePersistence
from .checkpoints import LocalSaver, LocalStore
from .encryption import Cipher, EncryptedSaver, EncryptedStore, read_key
from .ids import checkpoint_time
from .sqlite import Database, open_database

__all__ = [
    "LocalPersistence",
    "list_threads",
    "local_persistence",
]


def local_persistence(
    path: str | os.PathLike[str], *, encryption_key: bytes | str | None = None
) -> LocalPersistence:
    """Keep checkpoints and store in the SQLite file ``path``.

    Use the result as ``with`` or ``async with``; it yields ``Persistence(checkpointer, store)``. Parent
    folders are made, and a new file is readable by its owner only.

    Args:
        path: The file.
        encryption_key: 16, 24 or 32 bytes, or the text of their base64: a new file's contents are
            encrypted with it (AES-GCM), and later it is needed to open the file. None: it is plain.

    Raises:
        ConfigurationError: The key has not the right form, or the ``encryption`` extra is not installed.
        EncryptionKeyError: On entering: the key is missing, another one, or the file is plain.
        StorageDamagedError: On entering: the file is no database, cut off, damaged or lacks a table.
        SchemaVersionError: On entering: a newer version wrote the file.
        StorageError: On entering: anything else that keeps the file from being used. Nothing was changed.
    """
    return LocalPersistence(path, encryption_key)


class LocalPersistence(DatabasePersistence):
    """One SQLite file, open between entering and leaving."""

    def __init__(self, path: str | os.PathLike[str], encryption_key: bytes | str | None = None) -> None:
        self.path = Path(path).expanduser().resolve()
        self._cipher = None if encryption_key is None else Cipher(read_key(encryption_key), self.path)

    def _open(self) -> tuple[Database, LocalSaver, LocalStore]:
        database, cipher = open_database(self.path, self._cipher), self._cipher
        if cipher is None:
            return database, LocalSaver(database), LocalStore(database)
        return database, EncryptedSaver(database, cipher), EncryptedStore(database, cipher)

    def _open_already(self) -> str:
        return f"{self.path} is already open here: call local_persistence again"


def list_threads(checkpointer: AsyncSaver) -> Iterator[tuple[str, str]]:
    """Give each thread's id and the time of its latest checkpoint (ISO 8601, UTC), newest first.

    The time is read from the checkpoint's id, so nothing is deserialised; it is "" for an id without one.
    """
    with _shared(checkpointer).transaction(write=False) as cursor:
        rows = cursor.execute(
            "SELECT thread_id, MAX(checkpoint_id) AS latest FROM checkpoints"
            " WHERE checkpoint_ns = '' GROUP BY thread_id ORDER BY latest DESC"
        ).fetchall()
    return ((thread_id, _time_of(checkpoint_id)) for thread_id, checkpoint_id in rows)


def _shared(checkpointer: AsyncSaver) -> Database:
    database: Database = checkpointer.shared
    return database


def _time_of(checkpoint_id: str) -> str:
    made = checkpoint_time(checkpoint_id)
    return "" if made is None else made.isoformat()
