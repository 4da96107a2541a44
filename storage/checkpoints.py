"""What our checkpointers do otherwise than LangGraph's: how values are kept, read and numbered.

SqliteSaver writes all channel values with each checkpoint. Ours are beside the checkpoints that hold them.

A value is written once per version, whatever number of checkpoints has it. A channel never gets the same
version with another value in a thread, also not in a fork: see `DistinctVersions`.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from langgraph.checkpoint.base import Checkpoint
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

__all__ = [
    "BLOBS",
    "BLOBS_SCHEMA",
    "ChannelBlobs",
    "DistinctVersions",
    "delete_blobs",
    "join",
    "split",
    "strict_serializer",
]

BLOBS = "checkpoint_blobs"
"""The table of values."""

BLOBS_SCHEMA = """CREATE TABLE checkpoint_blobs (
    thread_id TEXT NOT NULL,
    checkpoint_ns TEXT NOT NULL,
    channel TEXT NOT NULL,
    version TEXT NOT NULL,
    type TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (thread_id, checkpoint_ns, channel, version)
)"""

_APART = "channels_apart"
"""Key in the stored checkpoint: the channels whose values are in the table."""

_READ = (
    "SELECT type, value FROM checkpoint_blobs"
    " WHERE thread_id = ? AND checkpoint_ns = ? AND channel = ? AND version = ?"
)
# not the value: SQLite would read all its pages
_FIND = (
    "SELECT 1 FROM checkpoint_blobs WHERE thread_id = ? AND checkpoint_ns = ? AND channel = ? AND version = ?"
)

_SHORT_TEXT = 64
"""Longest text that stays in the checkpoint, where it takes less than a row of its own."""


def strict_serializer() -> JsonPlusSerializer:
    """Make the serializer that revives only types LangGraph holds safe; others come back as plain data."""
    return JsonPlusSerializer(pickle_fallback=False, allowed_msgpack_modules=None)


class DistinctVersions:
    """Lets a checkpointer give no version of a channel twice, also not in a fork."""

    def get_next_version(self, current: str | None, channel: None) -> str:
        """Return the version after ``current``.

        LangGraph's savers tell forks apart by `random`, which repeats itself where a program seeds it
        (SqliteSaver 3.1.2, PostgresSaver 3.2.0).
        """
        number: str = super().get_next_version(current, channel).partition(".")[0]  # type: ignore[misc]
        return f"{number}.{secrets.token_hex(8)}"


def split(checkpoint: Checkpoint) -> tuple[Checkpoint, dict[str, Any]]:
    """Return the checkpoint as its row keeps it, and the values to keep apart."""
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
    """Return the checkpoint that `split` took apart; None: some of its values are not in the table."""
    rest: dict[str, Any] = {**row}
    values = {**row["channel_values"]}
    for channel in rest.pop(_APART):
        found = blobs.read(channel, row["channel_versions"][channel])
        if found is None:
            return None
        (values[channel],) = found
    return cast(Checkpoint, {**rest, "channel_values": values})


class ChannelBlobs(NamedTuple):
    """The values of one thread's namespace, within the transaction of the cursor."""

    cursor: sqlite3.Cursor
    serde: SerializerProtocol
    thread_id: str
    namespace: str

    def write(self, values: Mapping[str, Any], versions: Mapping[str, Any]) -> None:
        """Write the values whose versions are not in the table yet.

        LangGraph's ``new_versions`` is not relied on: whoever copies a checkpoint by hand leaves it empty.
        """
        new = [channel for channel in values if not self._has(channel, versions[channel])]
        self.cursor.executemany(
            "INSERT INTO checkpoint_blobs VALUES (?, ?, ?, ?, ?, ?)",
            ((*self._key(name, versions[name]), *self.serde.dumps_typed(values[name])) for name in new),
        )

    def read(self, channel: str, version: Any) -> tuple[Any] | None:
        """Return the value that the channel had at this version, alone in a tuple; None: it is not there."""
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
