"""LangGraph's checkpointer and store on an SQLite file, with each channel value written once.

SqliteSaver writes all channel values with each checkpoint. Ours are in a table of their own.

A value is written once per version, however many checkpoints have it. In a thread, a channel never gets the
same version with another value, even in a fork: see `DistinctVersions`.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.store.base import Op, PutOp, Result
from langgraph.store.sqlite import SqliteStore

from ..errors import StorageDamagedError
from ..langgraph_private import CursorHook
from .calls import Access
from .ledger import must_last
from .rows import Change, changed
from .sqlite import Database, is_held, refusal, thread_lock

__all__ = [
    "ChannelBlobs",
    "DistinctVersions",
    "LocalSaver",
    "LocalStore",
    "strict_serializer",
]

_APART = "channels_apart"
"""Key in the stored checkpoint: the channels whose values are in the table."""

_READ = (
    "SELECT type, value FROM checkpoint_blobs"
    " WHERE thread_id = ? AND checkpoint_ns = ? AND channel = ? AND version = ?"
)
# Without the value, all of whose pages SQLite would read.
_FIND = (
    "SELECT 1 FROM checkpoint_blobs WHERE thread_id = ? AND checkpoint_ns = ? AND channel = ? AND version = ?"
)

_SHORT_TEXT = 64
"""The longest text that stays in the checkpoint, where it takes less space than a row of its own."""


def strict_serializer() -> JsonPlusSerializer:
    """Make the serializer that restores only types LangGraph considers safe; others become plain data."""
    return JsonPlusSerializer(pickle_fallback=False, allowed_msgpack_modules=None)


class DistinctVersions:
    """Lets a checkpointer never give a version of a channel twice, even in a fork."""

    def get_next_version(self, current: str | None, channel: None) -> str:
        """Return the version after ``current``.

        LangGraph's savers distinguish forks by `random`, which repeats itself if a program seeds it
        (SqliteSaver 3.1.2, PostgresSaver 3.2.0).
        """
        number: str = super().get_next_version(current, channel).partition(".")[0]  # type: ignore[misc]
        return f"{number}.{secrets.token_hex(8)}"


def split(checkpoint: Checkpoint) -> tuple[Checkpoint, dict[str, Any]]:
    """Return the checkpoint for its row, and the values that are stored separately."""
    values = checkpoint["channel_values"]
    apart = {
        channel: value
        for channel, value in values.items()
        if channel in checkpoint["channel_versions"] and not _is_small(value)
    }
    inline = {channel: value for channel, value in values.items() if channel not in apart}
    return cast(Checkpoint, {**checkpoint, "channel_values": inline, _APART: [*apart]}), apart


def _is_small(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= _SHORT_TEXT
    return value is None or isinstance(value, int | float)


def join(row: Checkpoint, blobs: ChannelBlobs) -> Checkpoint | None:
    """Return the checkpoint that `split` divided; None if some of its values are missing from the table."""
    rest: dict[str, Any] = {**row}
    values = {**row["channel_values"]}
    for channel in rest.pop(_APART):
        found = blobs.read(channel, row["channel_versions"][channel])
        if found is None:
            return None
        (values[channel],) = found
    return cast(Checkpoint, {**rest, "channel_values": values})


class ChannelBlobs(NamedTuple):
    """The values of one thread's namespace, within the cursor's transaction."""

    cursor: sqlite3.Cursor
    serde: SerializerProtocol
    thread_id: str
    namespace: str

    def write(self, values: Mapping[str, Any], versions: Mapping[str, Any]) -> None:
        """Write the values whose versions are not in the table yet.

        LangGraph's ``new_versions`` is not used, because a checkpoint copied by hand leaves it empty.
        """
        new = [channel for channel in values if not self._has(channel, versions[channel])]
        self.cursor.executemany(
            "INSERT INTO checkpoint_blobs VALUES (?, ?, ?, ?, ?, ?)",
            ((*self._key(name, versions[name]), *self.serde.dumps_typed(values[name])) for name in new),
        )

    def read(self, channel: str, version: Any) -> tuple[Any] | None:
        """Return the channel's value at this version, alone in a tuple; None if it is missing."""
        key = self._key(channel, version)
        row: tuple[str, bytes] | None = self.cursor.execute(_READ, key).fetchone()
        return None if row is None else (self.serde.loads_typed(row),)

    def _has(self, channel: str, version: Any) -> bool:
        return self.cursor.execute(_FIND, self._key(channel, version)).fetchone() is not None

    def _key(self, channel: str, version: Any) -> tuple[str, str, str, str]:
        return self.thread_id, self.namespace, channel, str(version)


def delete_blobs(cursor: sqlite3.Cursor, thread_id: str) -> None:
    """Delete the values of a thread, in all its namespaces."""
    cursor.execute("DELETE FROM checkpoint_blobs WHERE thread_id = ?", (thread_id,))


class LocalSaver(DistinctVersions, SqliteSaver):
    """LangGraph's SQLite checkpointer on a shared `Database`."""

    def __init__(self, database: Database) -> None:
        super().__init__(database.connection, serde=strict_serializer())
        database.upgrade(SqliteSaver(database.connection).setup)
        self.shared = database
        self.storage_thread = database.thread

    @property
    def database(self) -> Path:
        """The file; the locks of its threads are next to it."""
        return self.shared.path

    def thread_lock(self, thread_id: str) -> AbstractContextManager[None]:
        """Hold a thread for one runner.

        Raises:
            ThreadBusyError: On entering, at once, if another runner holds it.
        """
        return thread_lock(self.database, thread_id)

    def is_held(self, thread_id: str) -> bool:
        """Tell whether somebody runs a thread now."""
        return is_held(self.database, thread_id)

    def cursor(self, transaction: bool = True) -> AbstractContextManager[sqlite3.Cursor]:  # type: ignore[override]
        """Open a transaction for writing, or for reading (``transaction=False``)."""
        return self.shared.transaction(write=transaction)

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint, and those of its values that no earlier checkpoint has."""
        row, apart = split(checkpoint)
        with self.cursor() as cursor:
            self._blobs(cursor, config).write(apart, checkpoint["channel_versions"])
            return super().put(config, row, metadata, new_versions)

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Fetch a checkpoint."""
        with self.cursor(transaction=False) as cursor:
            found = super().get_tuple(config)
            return None if found is None else self._whole(cursor, found)

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """List checkpoints, newest first; all are read before the first is returned, so none blocks calls."""
        with self.cursor(transaction=False) as cursor:
            rows = super().list(config, filter=filter, before=before, limit=limit)
            return iter([self._whole(cursor, found) for found in rows])

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Return the values and writes from which each channel was built."""
        with self.cursor(transaction=False):
            # LangGraph's walk with get_tuple; SqliteSaver's own looks for values in the checkpoints' rows.
            return BaseCheckpointSaver.get_delta_channel_history(self, config=config, channels=channels)

    def delete_thread(self, thread_id: str) -> None:
        """Delete a thread's checkpoints, values and writes."""
        with self.cursor() as cursor:
            super().delete_thread(thread_id)
            delete_blobs(cursor, str(thread_id))

    def _whole(self, cursor: sqlite3.Cursor, found: CheckpointTuple) -> CheckpointTuple:
        whole = join(found.checkpoint, self._blobs(cursor, found.config))
        if whole is None:
            what = f"lacks values of checkpoint {found.checkpoint['id']}"
            raise refusal(StorageDamagedError, self.database, what)
        return found._replace(checkpoint=whole)

    def _blobs(self, cursor: sqlite3.Cursor, config: RunnableConfig) -> ChannelBlobs:
        place = config["configurable"]
        return ChannelBlobs(cursor, self.serde, str(place["thread_id"]), place.get("checkpoint_ns", ""))


class LocalStore(CursorHook, SqliteStore):
    """LangGraph's SQLite store on a shared `Database`."""

    def __init__(self, database: Database) -> None:
        super().__init__(database.connection)
        database.upgrade(SqliteStore(database.connection).setup)
        self.is_setup = True
        self.shared = database
        self.storage_thread = database.thread

    def open_cursor(self, *, transaction: bool = True) -> AbstractContextManager[sqlite3.Cursor]:  # type: ignore[override]
        """Open a transaction for writing or only for reading."""
        return self.shared.transaction(write=transaction)

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Execute the operations in one transaction, which is on disk at return if one is of the ledger."""
        wanted = [*ops]
        access = self.access_of(wanted)
        with self.shared.transaction(write=access >= Access.WRITE, durable=access == Access.DURABLE):
            return super().batch(wanted)

    def access_of(self, ops: Sequence[Op]) -> Access:
        """Return the transaction that the operations need."""
        if must_last(ops):
            return Access.DURABLE
        return Access.WRITE if any(isinstance(op, PutOp) for op in ops) else Access.READ

    def change(self, namespace: tuple[str, ...], key: str, make: Change) -> dict[str, Any] | None:
        """Change a row in one transaction, which is on disk at return; other processes wait for it."""
        with self.shared.transaction(durable=True):
            return changed(self, namespace, key, make)

    def atomic(self, thread_id: str) -> AbstractContextManager[Any]:  # noqa: ARG002 - PostgreSQL locks by it
        """Make the body's deletions of a thread all or nothing, including its checkpoints."""
        return self.shared.transaction(durable=True)

    def delete_below(self, namespace: tuple[str, ...], limit: int | None = None) -> int:
        """Delete rows of a namespace and of those below it without reading them, and return how many.

        Args:
            namespace: The namespace.
            limit: The most rows; None for all.
        """
        path = ".".join(namespace)
        with self.shared.transaction() as cursor:
            cursor.execute(
                # "/" is the character after ".".
                "DELETE FROM store WHERE rowid IN (SELECT rowid FROM store"
                " WHERE prefix = ? OR (prefix > ? AND prefix < ?) LIMIT ?)",
                (path, f"{path}.", f"{path}/", -1 if limit is None else limit),
            )
            return cursor.rowcount
