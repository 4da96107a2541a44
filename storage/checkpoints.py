"""LangGraph's checkpointer and store on an SQLite file, with each channel value written once.

SqliteSaver writes all channel values with each checkpoint, and a row for each of a task's writes. Ours puts
values in a table of their own, their large parts in another (see ``parts.py``), and a task's writes in a row.

A value is written once per version, however many checkpoints have it. In a thread, a channel never gets the
same version with another value, even in a fork: see `DistinctVersions`.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.store.base import GetOp, ListNamespacesOp, Op, PutOp, Result, SearchOp
from langgraph.store.sqlite import SqliteStore

from ..errors import StorageDamagedError, StorageError
from ..langgraph_private import CursorHook
from .calls import Access
from .ledger import must_last
from .parts import (
    DIVIDED,
    DIVIDED_BYTES,
    TOGETHER,
    VERSIONS,
    delete_parts,
    divide,
    find_part,
    is_part,
    part_digest,
    put_part,
    unite,
    with_versions,
)
from .rows import Change, changed
from .sqlite import Database, is_held, refusal, thread_lock

__all__ = [
    "ChannelBlobs",
    "DistinctVersions",
    "LocalSaver",
    "LocalStore",
    "StrictSerializer",
]

_APART = "channels_apart"
"""Key in the stored checkpoint: the channels whose values are in the table."""

_ADDRESS = ("thread_id", "checkpoint_ns", "checkpoint_id")
_READ = (
    "SELECT type, value FROM checkpoint_blobs"
    " WHERE thread_id = ? AND checkpoint_ns = ? AND channel = ? AND version = ?"
)
_WRITE = "INSERT OR IGNORE INTO checkpoint_blobs VALUES (?, ?, ?, ?, ?, ?)"
_PUT = (
    "INSERT OR REPLACE INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type,"
    " checkpoint, metadata) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_PUT_WRITES = (
    "INSERT OR {} INTO writes (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel,"
    " type, value) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_PUT_NEW, _REPLACE = _PUT_WRITES.format("IGNORE"), _PUT_WRITES.format("REPLACE")
_EARLIER = (
    "SELECT idx, channel, type, value FROM writes WHERE thread_id = ? AND checkpoint_ns = ?"
    " AND checkpoint_id = ? AND task_id = ? AND idx >= 0"
)

_SHORT_TEXT = 64
"""The longest text that stays in the checkpoint, where it takes less space than a row of its own."""


class StrictSerializer(JsonPlusSerializer):
    """Restores only types LangGraph considers safe; others become plain data.

    Args:
        damage: Makes the error for a value that cannot be read, from what is wrong.
    """

    def __init__(self, damage: Callable[[str], StorageError]) -> None:
        super().__init__(pickle_fallback=False, allowed_msgpack_modules=None)
        self._damage = damage

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """Restore a value.

        Raises:
            StorageDamagedError: If it was cut off or changed so that it cannot be read.
        """
        try:
            return super().loads_typed(data)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise self._damage(f"holds a value that cannot be read ({reason})") from error


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
    numbers: dict[Any, int] = {}

    def numbered(versions: Mapping[str, Any]) -> dict[str, int]:
        return {channel: numbers.setdefault(version, len(numbers)) for channel, version in versions.items()}

    row = {
        **checkpoint,
        "channel_values": {channel: value for channel, value in values.items() if channel not in apart},
        "channel_versions": numbered(checkpoint["channel_versions"]),
        "versions_seen": {node: numbered(seen) for node, seen in checkpoint["versions_seen"].items()},
        _APART: [*apart],
    }
    return cast(Checkpoint, {**row, VERSIONS: [*numbers]}), apart


def _is_small(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= _SHORT_TEXT
    return value is None or isinstance(value, int | float)


def join(row: Checkpoint, blobs: ChannelBlobs) -> Checkpoint:
    """Return the checkpoint that `split` divided.

    Raises:
        LostValueError: Some of its values are missing from the tables.
    """
    rest = with_versions(row)
    values, versions = {**row["channel_values"]}, rest["channel_versions"]
    for channel in rest.pop(_APART):
        values[channel] = blobs.read(channel, versions[channel])
    return cast(Checkpoint, {**rest, "channel_values": values})


class ChannelBlobs:
    """The values of one thread's namespace, within the cursor's transaction."""

    def __init__(
        self, cursor: sqlite3.Cursor, serde: SerializerProtocol, thread_id: str, namespace: str
    ) -> None:
        self.cursor = cursor
        self.serde = serde
        self.thread_id = thread_id
        self.namespace = namespace

    def write(self, channel: str, version: Any, value: Any) -> None:
        """Write a value, unless its version is in the table."""
        self.cursor.execute(_WRITE, (*self._key(channel, version), *self.sealed(self.dump(value))))

    def read(self, channel: str, version: Any) -> Any:
        """Return the channel's value at this version.

        Raises:
            LostValueError: If it is missing.
        """
        row = self.cursor.execute(_READ, self._key(channel, version)).fetchone()
        if row is None:
            raise LostValueError(channel)
        return self.load(*self.opened(row))

    def dump(self, value: Any) -> tuple[str, bytes]:
        """Return a value's type and bytes, after keeping its large parts."""
        kind, data = self.plain.dumps_typed(value)
        divided = divide(value, self._keep) if len(data) >= DIVIDED_BYTES else None
        if divided is None:
            return kind, data
        kind, data = self.plain.dumps_typed(divided)
        return DIVIDED + kind, data

    def load(self, kind: str, data: bytes) -> Any:
        """Return the value of this type and these bytes."""
        value = self.plain.loads_typed((kind.removeprefix(DIVIDED), data))
        return unite(value, self._find) if kind.startswith(DIVIDED) else value

    def dump_writes(self, task_id: str, writes: Sequence[tuple[str, Any]]) -> tuple[str, bytes]:
        """Return the type and the bytes of the row for some of a task's writes."""
        held = [(channel, *self.dump(value)) for channel, value in writes]
        return self.serde.dumps_typed(self.named(task_id, TOGETHER, held))

    def writes_in(self, task_id: str, channel: str, held: Any) -> list[tuple[str, Any]]:
        """Return the writes of a task that a row holds."""
        value = self.unnamed(task_id, channel, held)
        if channel != TOGETHER:
            return [(channel, value)]
        if not value:  # Such a row always holds some.
            raise LostValueError(task_id)
        return [(name, self.load(kind, data)) for name, kind, data in value]

    def count_writes(self, address: tuple[str, ...]) -> int:
        """Return the number after those of a task's stored writes; LangGraph's own channels do not count."""
        after = 0
        for number, channel, *row in self.cursor.execute(_EARLIER, address).fetchall():
            held = self.unnamed(address[-1], channel, self.serde.loads_typed((row[0], row[1])))
            after = max(after, number + (len(held) if channel == TOGETHER else 1))
        return after

    # What encryption changes.

    digest_key = b""

    @property
    def plain(self) -> SerializerProtocol:
        """The serializer without encryption."""
        return self.serde

    def sealed(self, row: tuple[str, bytes]) -> tuple[str, bytes]:
        """Return a type and bytes as they are stored."""
        return row

    def opened(self, row: tuple[str, bytes]) -> tuple[str, bytes]:
        """Return the type and the bytes that are stored."""
        return row

    def put_part(self, digest: bytes, row: tuple[str, bytes]) -> None:
        """Keep a part."""
        put_part(self.cursor, self.thread_id, digest, self.sealed(row))

    def get_part(self, digest: bytes) -> tuple[str, bytes]:
        """Return a part.

        Raises:
            LostValueError: If it is missing, or was changed.
        """
        found = find_part(self.cursor, self.thread_id, digest)
        row = None if found is None else self.opened(found)
        if row is None or part_digest(*row, self.digest_key) != digest:
            raise LostValueError(digest.hex())
        return row

    def named(self, task_id: str, channel: str, value: Any) -> Any:  # noqa: ARG002 - encrypted rows need both
        """Return what a row of ``writes`` holds for a value."""
        return value

    def unnamed(self, task_id: str, channel: str, held: Any) -> Any:  # noqa: ARG002
        """Return the value that a row of ``writes`` holds."""
        return held

    def _keep(self, part: Any) -> bytes | None:
        row = self.plain.dumps_typed(part)
        if not is_part(row[1]):
            return None
        digest = part_digest(*row, self.digest_key)
        self.put_part(digest, row)
        return digest

    def _find(self, digest: bytes) -> Any:
        return self.plain.loads_typed(self.get_part(digest))

    def _key(self, channel: str, version: Any) -> tuple[str, str, str, str]:
        return self.thread_id, self.namespace, channel, str(version)


class LostValueError(LookupError):
    """A checkpoint's value, or a part of one, is missing or was changed."""


def delete_blobs(cursor: sqlite3.Cursor, thread_id: str) -> None:
    """Delete the values of a thread, in all its namespaces."""
    cursor.execute("DELETE FROM checkpoint_blobs WHERE thread_id = ?", (thread_id,))
    delete_parts(cursor, thread_id)


class LocalSaver(DistinctVersions, SqliteSaver):
    """LangGraph's SQLite checkpointer on a shared `Database`."""

    _values = ChannelBlobs

    def __init__(self, database: Database) -> None:
        damage = partial(refusal, StorageDamagedError, database.path)
        super().__init__(database.connection, serde=StrictSerializer(damage))
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
        """Store a checkpoint, and those of its values that no earlier checkpoint has.

        A checkpoint copied by hand names no new versions, and brings all its values.
        """
        row, apart = split(checkpoint)
        place, versions = config["configurable"], checkpoint["channel_versions"]
        thread_id = place["thread_id"]
        address = (str(thread_id), place["checkpoint_ns"], checkpoint["id"])
        described = json.dumps(get_checkpoint_metadata(config, metadata), ensure_ascii=False)
        with self.cursor() as cursor:
            blobs = self._blobs(cursor, config)
            for channel in (new_versions or apart) if apart else ():
                if channel in apart:
                    blobs.write(channel, versions[channel], apart[channel])
            kept = self.serde.dumps_typed(row)
            parent = place.get("checkpoint_id")
            cursor.execute(_PUT, (*address, parent, *kept, described.encode("utf-8", "ignore")))
        return {"configurable": dict(zip(_ADDRESS, (thread_id, *address[1:]), strict=True))}

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store the writes of a task.

        Of writes to LangGraph's own channels, each has a row, which later ones replace. The others, unless
        they are stored already, have one row, numbered like the first of them.
        """
        place = config["configurable"]
        address = (*(str(place[key]) for key in _ADDRESS), task_id)
        ordinary = [write for write in writes if write[0] not in WRITES_IDX_MAP]
        with self.cursor() as cursor:
            blobs = self._blobs(cursor, config)
            for channel, value in writes:
                if channel in WRITES_IDX_MAP:
                    held = self.serde.dumps_typed(blobs.named(task_id, channel, value))
                    row = (*address, task_path, WRITES_IDX_MAP[channel], channel, *held)
                    cursor.execute(_PUT_NEW if ordinary else _REPLACE, row)

            def put_from(first: int) -> bool:
                held = blobs.dump_writes(task_id, ordinary[first:])
                return cursor.execute(_PUT_NEW, (*address, task_path, first, TOGETHER, *held)).rowcount > 0

            if ordinary and not put_from(0) and (stored := blobs.count_writes(address)) < len(ordinary):
                put_from(stored)

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Fetch a checkpoint."""
        with self.cursor(transaction=False) as cursor:
            _ = config["configurable"]["thread_id"]  # Without it, no row is to blame.
            with self._telling_damage():
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
            with nullcontext() if filter else self._telling_damage():
                rows = [*super().list(config, filter=filter, before=before, limit=limit)]
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
        blobs = self._blobs(cursor, found.config)
        with self._telling_damage(found):
            if found.checkpoint["id"] != found.config["configurable"]["checkpoint_id"]:
                raise ValueError("a checkpoint under the id of another")
            writes = [
                (task_id, *write)
                for task_id, channel, held in found.pending_writes or ()
                for write in blobs.writes_in(task_id, channel, held)
            ]
            return found._replace(checkpoint=join(found.checkpoint, blobs), pending_writes=writes)

    @contextmanager
    def _telling_damage(self, found: CheckpointTuple | None = None) -> Iterator[None]:
        """Turn what rows that were changed lead to into an error of ours."""
        try:
            yield
        except LostValueError as error:
            where = f" of checkpoint {found.config['configurable']['checkpoint_id']}" if found else ""
            raise refusal(StorageDamagedError, self.database, f"lacks values{where}") from error
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"
            what = f"holds a row that is no checkpoint or write of ours ({reason})"
            raise refusal(StorageDamagedError, self.database, what) from error

    def _blobs(self, cursor: sqlite3.Cursor, config: RunnableConfig) -> ChannelBlobs:
        place = config["configurable"]
        address = str(place["thread_id"]), place.get("checkpoint_ns", "")
        return self._values(cursor, self.serde, *address)


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
            try:
                return super().batch(wanted)
            except (ValueError, TypeError) as error:
                if not all(map(_only_looks, wanted)):
                    raise
                what = f"holds a row that cannot be read ({type(error).__name__}: {error})"
                raise refusal(StorageDamagedError, self.shared.path, what) from error

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


def _only_looks(op: Op) -> bool:
    """Tell whether an operation cannot fail because of what the caller gave."""
    return isinstance(op, GetOp | ListNamespacesOp) or (isinstance(op, SearchOp) and not op.filter)
