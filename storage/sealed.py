"""The local checkpointer and store whose rows are encrypted.

Sealed are the values: checkpoints, pending writes, metadata, and every value in the store. The addresses of
rows stay readable, since the database finds rows by them: ids of threads, checkpoints, plans and steps,
channel names, versions, times.
"""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_id,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.sqlite.utils import search_where
from langgraph.store.base import GetOp, Item, Op, PutOp, Result, SearchOp

from ..errors import ConfigurationError
from .checkpoints import ChannelBlobs
from .encryption import Cipher, RowCipher, SealedSerializer
from .sqlite import Database, LocalSaver, LocalStore

__all__ = ["SealedSaver", "SealedStore"]

_SEALED = "sealed"
_ADDRESS = ("thread_id", "checkpoint_ns", "checkpoint_id")


class SealedSaver(LocalSaver):
    """The local checkpointer with encrypted rows, each bound to its place."""

    def __init__(self, database: Database, cipher: Cipher) -> None:
        super().__init__(database)
        self._cipher = cipher
        self._rows = RowCipher(cipher)
        self.serde = SealedSerializer(self._rows, self.serde)

    def with_allowlist(self, extra_allowlist: Any) -> BaseCheckpointSaver[Any]:
        """Return a clone with these types allowed.

        LangGraph gives it its own encrypted serializer, which takes plain rows (langgraph-checkpoint 4.3).
        """
        clone = super().with_allowlist(extra_allowlist)
        if clone is not self:
            made = cast(SealedSerializer, clone.serde)
            clone.serde = SealedSerializer(made.cipher, made.serde)
        return clone

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint, its metadata sealed too."""
        place = config["configurable"]
        address = (str(place["thread_id"]), place["checkpoint_ns"], checkpoint["id"])
        # the caller's config is among the metadata: what LangGraph would copy from it is sealed as well
        whole = get_checkpoint_metadata(config, metadata)
        sealed: Any = {_SEALED: self._seal(json.dumps(whole, ensure_ascii=False), "metadata", *address)}
        bare: RunnableConfig = {"configurable": {key: place[key] for key in _ADDRESS if key in place}}
        with self.cursor(), self._rows.at("checkpoint", *address):
            return super().put(bare, checkpoint, sealed, new_versions)

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store the writes of a task, each with the names of its task and channel inside."""
        place = config["configurable"]
        address = [str(place[key]) for key in _ADDRESS]
        named = [(channel, [task_id, channel, value]) for channel, value in writes]
        with self.cursor(), self._rows.at("checkpoint", *address):
            super().put_writes(config, named, task_id, task_path)

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Fetch a checkpoint."""
        with self.cursor(transaction=False) as cursor:
            exact = _exact(cursor, config)
            return None if exact is None else self._opened(exact)

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """List checkpoints, newest first; what they are filtered by is read from the opened metadata."""
        where, values = search_where(config, None, before)
        with self.cursor(transaction=False) as cursor:
            columns = ", ".join(_ADDRESS)
            query = f"SELECT {columns} FROM checkpoints {where} ORDER BY checkpoint_id DESC"  # noqa: S608
            rows = cursor.execute(query, values).fetchall()
            opened = (self._opened({"configurable": dict(zip(_ADDRESS, row, strict=True))}) for row in rows)
            wanted = (found for found in opened if found and _matches(found.metadata, filter))
            return iter([found for _, found in zip(_numbers(limit), wanted, strict=False)])

    def _opened(self, exact: RunnableConfig) -> CheckpointTuple | None:
        address = [str(exact["configurable"][key]) for key in _ADDRESS]
        with self._rows.at("checkpoint", *address):
            found = super().get_tuple(exact)
        if found is None:
            return None
        metadata = self._open(cast(Any, found.metadata), "metadata", *address)
        writes = [self._unnamed(write) for write in found.pending_writes or ()]
        return found._replace(metadata=json.loads(metadata), pending_writes=writes)

    def _unnamed(self, write: tuple[str, str, Any]) -> tuple[str, str, Any]:
        task_id, channel, named = write
        if not isinstance(named, list) or named[:2] != [task_id, channel]:
            raise self._cipher.damage(f"is another one's ({task_id} {channel})")
        return task_id, channel, named[2]

    def _blobs(self, cursor: sqlite3.Cursor, config: RunnableConfig) -> ChannelBlobs:
        return SealedBlobs(*super()._blobs(cursor, config))

    def _seal(self, text: str, *place: str) -> str:
        return _seal(self._cipher, text, place)

    def _open(self, held: Mapping[str, Any], *place: str) -> str:
        return _open(self._cipher, held, place)


class SealedBlobs(ChannelBlobs):
    """Encrypted channel values, each bound to its thread, namespace, channel and version."""

    def write(self, values: Mapping[str, Any], versions: Mapping[str, Any]) -> None:
        """Write the values whose versions are not in the table yet."""
        for channel, value in values.items():
            with self._at(channel, versions[channel]):
                super().write({channel: value}, versions)

    def read(self, channel: str, version: Any) -> tuple[Any] | None:
        """Return the value that the channel had at this version, alone in a tuple; None: it is not there."""
        with self._at(channel, version):
            return super().read(channel, version)

    def _at(self, channel: str, version: Any) -> Any:
        return cast(SealedSerializer, self.serde).cipher.at("value", *self._key(channel, version))


class SealedStore(LocalStore):
    """The local store with encrypted values, each bound to its namespace and key."""

    def __init__(self, database: Database, cipher: Cipher) -> None:
        super().__init__(database)
        self._cipher = cipher

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Execute the operations in one transaction.

        Raises:
            ConfigurationError: For a search by content, which is sealed.
            StorageDamagedError: If a row is not encrypted, or was changed.
        """
        return [self._opened(result) for result in super().batch([self._sealed(op) for op in ops])]

    def _sealed(self, op: Op) -> Op:
        if isinstance(op, SearchOp) and (op.filter or op.query):
            raise ConfigurationError("an encrypted store cannot be searched by content, only by namespace")
        if not isinstance(op, PutOp) or op.value is None:
            return op
        text = _seal(self._cipher, json.dumps(op.value, ensure_ascii=False), _place(op))
        return op._replace(value={_SEALED: text})

    def _opened(self, result: Result) -> Result:
        for item in result if isinstance(result, list) else [result]:
            if isinstance(item, Item):
                item.value = json.loads(_open(self._cipher, item.value, _place(item)))
        return result


def _place(row: PutOp | GetOp | Item) -> tuple[str, ...]:
    return "store", *row.namespace, row.key


def _seal(cipher: Cipher, text: str, place: Sequence[str]) -> str:
    return base64.b64encode(cipher.seal(text.encode(), place)).decode()


def _open(cipher: Cipher, held: Mapping[str, Any], place: Sequence[str]) -> str:
    if set(held) != {_SEALED}:
        raise cipher.damage(f"is not encrypted ({' '.join(place)})")
    try:
        sealed = base64.b64decode(held[_SEALED], validate=True)
    except (ValueError, TypeError) as error:
        raise cipher.damage(f"was changed ({' '.join(place)})") from error
    return cipher.open(sealed, place).decode()


def _exact(cursor: sqlite3.Cursor, config: RunnableConfig) -> RunnableConfig | None:
    """Name the checkpoint that a config asks for: the one it names, or the thread's latest."""
    place = config["configurable"]
    if get_checkpoint_id(config):
        return {"configurable": {**place, "checkpoint_ns": place.get("checkpoint_ns", "")}}
    thread, namespace = str(place["thread_id"]), place.get("checkpoint_ns", "")
    row = cursor.execute(
        "SELECT MAX(checkpoint_id) FROM checkpoints WHERE thread_id = ? AND checkpoint_ns = ?",
        (thread, namespace),
    ).fetchone()
    address = dict(zip(_ADDRESS, (thread, namespace, row[0]), strict=True))
    return {"configurable": address} if row[0] is not None else None


def _matches(metadata: Mapping[str, Any], wanted: Mapping[str, Any] | None) -> bool:
    return all(metadata.get(key) == value for key, value in (wanted or {}).items())


def _numbers(limit: int | None) -> Iterator[int]:
    number = 0
    while limit is None or number < limit:
        yield number
        number += 1
