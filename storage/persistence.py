"""Open a database and return its checkpointer and store; here an SQLite file, plain or encrypted."""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.store.base import BaseStore

from ..errors import ConfigurationError
from .adapters import AsyncSaver, AsyncStore
from .checkpoints import LocalSaver, LocalStore
from .encryption import Cipher, EncryptedSaver, EncryptedStore, read_key
from .sqlite import Database, open_database

__all__ = [
    "DatabasePersistence",
    "LocalPersistence",
    "OpenDatabase",
    "Persistence",
    "local_persistence",
    "persistence_on",
]


class Persistence(NamedTuple):
    """The storage of a graph's state; both parts work sync and async, from any event loop."""

    checkpointer: AsyncSaver
    store: AsyncStore


class OpenDatabase(Protocol):
    """An open database."""

    def close(self) -> None:
        """Close it."""


class DatabasePersistence(ABC):
    """One database, open between entering and leaving, with ``with`` or ``async with``."""

    _database: OpenDatabase | None = None

    @abstractmethod
    def _open(self) -> tuple[OpenDatabase, BaseCheckpointSaver[Any], BaseStore]:
        """Open the database, and make the checkpointer and the store on it."""

    @abstractmethod
    def _open_already(self) -> str:
        """Say which database is open, and what to do instead."""

    def __enter__(self) -> Persistence:
        if self._database is not None:
            raise ConfigurationError(self._open_already())
        self._database, saver, store = self._open()
        return Persistence(AsyncSaver(saver), AsyncStore(store))

    def __exit__(self, *_: object) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    async def __aenter__(self) -> Persistence:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.__exit__)


def persistence_on(database: Database) -> Persistence:
    """Return the checkpointer and the store on an open database that is not encrypted."""
    return Persistence(AsyncSaver(LocalSaver(database)), AsyncStore(LocalStore(database)))


def local_persistence(
    path: str | os.PathLike[str], *, encryption_key: bytes | str | None = None
) -> LocalPersistence:
    """Keep checkpoints and store in the SQLite file ``path``.

    Use the result as ``with`` or ``async with``; it yields ``Persistence(checkpointer, store)``. Parent
    folders are created, and only the owner can read a new file.

    Args:
        path: The file.
        encryption_key: 16, 24 or 32 bytes, or the text of their base64: a new file's contents are
            encrypted with it (AES-GCM), and later it is needed to open the file. None for a plain file.

    Raises:
        ConfigurationError: The key has the wrong form, or the ``encryption`` extra is not installed.
        EncryptionKeyError: On entering: the key is missing or wrong, or the file is plain.
        StorageDamagedError: On entering: the file is no database, truncated, damaged, or lacks a table.
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
        try:
            if cipher is None:
                return database, LocalSaver(database), LocalStore(database)
            return database, EncryptedSaver(database, cipher), EncryptedStore(database, cipher)
        except BaseException:
            database.close()
            raise

    def _open_already(self) -> str:
        return f"{self.path} is already open here: call local_persistence again"
