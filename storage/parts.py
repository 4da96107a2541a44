"""Keep a large part of a value once per thread, however many writes and channel versions have it.

A step's result is in its task's write and in every later version of the channel ``results``; a message is in
every later version of ``messages``. Parts are entries of such dicts and lists, or a whole value of another
type, by a digest of their bytes. They are deleted with their thread.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from typing import Any

__all__ = [
    "DIVIDED",
    "DIVIDED_BYTES",
    "TOGETHER",
    "VERSIONS",
    "delete_parts",
    "divide",
    "find_part",
    "is_part",
    "part_digest",
    "put_part",
    "unite",
    "with_versions",
]

DIVIDED_BYTES = 2048
"""The size from which a value is divided."""

_PART_BYTES = 512
"""The size from which a part is kept apart; a smaller one takes less space where it stands."""

DIVIDED = "divided "
"""Stands before the type of a value that was divided."""

TOGETHER = ""
"""The channel of a row with several writes of a task: a list of channels, types and bytes."""

VERSIONS = "versions"
"""Key in the stored checkpoint: the different versions of its channels, which are numbered elsewhere in it.

Each is a text of 49 characters, and most channels have the same ones.
"""

_DIGEST_BYTES = 20

Divided = tuple[Any, list[tuple[Any, bytes]]]
"""A dict or list with None in the place of each part, and the parts' keys or indexes and digests.

Of a value of another type, None, and the whole value's digest with the key None.
"""


def divide(value: Any, keep: Callable[[Any], bytes | None]) -> Divided | None:
    """Replace the large parts of a value; None if there are none.

    Args:
        value: The value, which is not changed.
        keep: Keeps a part and returns its digest; None if the part is small.
    """
    rest: Any
    entries: Iterable[tuple[Any, Any]]
    if type(value) is dict:
        rest, entries = {**value}, value.items()
    elif type(value) is list:
        rest, entries = [*value], enumerate(value)
    else:
        digest = keep(value)
        return None if digest is None else (None, [(None, digest)])
    parts = []
    for key, entry in entries:
        if isinstance(key, str | int) and (digest := keep(entry)) is not None:
            parts.append((key, digest))
            rest[key] = None
    return (rest, parts) if parts else None


def is_part(data: bytes) -> bool:
    """Tell whether an entry of so many bytes is kept apart."""
    return len(data) >= _PART_BYTES


def unite(divided: Divided, find: Callable[[bytes], Any]) -> Any:
    """Return the value that was divided."""
    rest, parts = divided
    for key, digest in parts:
        if key is None:
            return find(digest)
        rest[key] = find(digest)
    return rest


def with_versions(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored checkpoint with its versions in their places."""
    whole = {**row}
    if VERSIONS not in whole:  # A version of this package that did not number them made it.
        return whole
    versions = whole.pop(VERSIONS)

    def placed(numbers: Mapping[str, int]) -> dict[str, Any]:
        return {channel: versions[number] for channel, number in numbers.items()}

    whole["channel_versions"] = placed(row["channel_versions"])
    whole["versions_seen"] = {node: placed(seen) for node, seen in row["versions_seen"].items()}
    return whole


def part_digest(kind: str, data: bytes, key: bytes = b"") -> bytes:
    """Return the digest of a part's type and bytes; with a key, one that tells nothing about them."""
    made = hashlib.blake2b(kind.encode(), digest_size=_DIGEST_BYTES, key=key)
    made.update(data)
    return made.digest()


def put_part(cursor: sqlite3.Cursor, thread_id: str, digest: bytes, row: tuple[str, bytes]) -> None:
    """Keep a part, if the thread does not have it."""
    cursor.execute("INSERT OR IGNORE INTO checkpoint_parts VALUES (?, ?, ?, ?)", (thread_id, digest, *row))


def find_part(cursor: sqlite3.Cursor, thread_id: str, digest: bytes) -> tuple[str, bytes] | None:
    """Return a part's type and bytes; None if it is missing."""
    query = "SELECT type, value FROM checkpoint_parts WHERE thread_id = ? AND digest = ?"
    row: tuple[str, bytes] | None = cursor.execute(query, (thread_id, digest)).fetchone()
    return row


def delete_parts(cursor: sqlite3.Cursor, thread_id: str) -> None:
    """Delete the parts of a thread."""
    cursor.execute("DELETE FROM checkpoint_parts WHERE thread_id = ?", (thread_id,))
