"""Encrypt data at rest: the local checkpointer and store with rows that are encrypted by AES-GCM.

The values are encrypted: checkpoints, pending writes, metadata, and every value in the store. The addresses
of rows stay readable, because the database finds rows by them: ids of threads, checkpoints, plans and steps,
channel names, versions, times. Parts of values are found by keyed digests, which only tell whether a thread
has two that are equal.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
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
from langgraph.checkpoint.serde.base import CipherProtocol, SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.sqlite.utils import search_where
from langgraph.store.base import GetOp, Item, Op, PutOp, Result, SearchOp

from ..errors import ConfigurationError, EncryptionKeyError, StorageDamagedError
from .checkpoints import ChannelBlobs, LocalSaver, LocalStore
from .sqlite import Database

__all__ = ["Cipher", "EncryptedSaver", "EncryptedStore", "read_key"]

KEY_BYTES = (16, 24, 32)
"""Sizes of AES keys."""

_NONCE_BYTES = 12
_NAME = "aesgcm"
_TYPED = "typed "
"""Stands before the cipher's name where the bytes are bound to their type too, as since file version 3."""
_KEY_CHECK = (b"plan_execute", ("key check",))
"""The text that a new database stores encrypted, and its place: another key cannot decrypt it."""
_ENCRYPTED = "sealed"
"""The only key of an encrypted value, in the store and in metadata."""
_ADDRESS = ("thread_id", "checkpoint_ns", "checkpoint_id")


def read_key(given: bytes | str) -> bytes:
    """Read a key: its bytes, or the text of their base64 in the usual or the URL-safe alphabet.

    Raises:
        ConfigurationError: If it has another form or a size that AES does not support; the key is not quoted.
    """
    key = given if isinstance(given, bytes) else _decoded(given.strip())
    if len(key) not in KEY_BYTES:
        raise ConfigurationError(
            "the encryption key must be 16, 24 or 32 bytes, or the text of their base64; "
            "make one with: python -c 'import secrets, base64; "
            "print(base64.b64encode(secrets.token_bytes(32)).decode())'"
        )
    return key


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except ValueError:  # binascii.Error is a ValueError, and so are errors from other alphabets.
        return b""


class Cipher:
    """AES-GCM with a random nonce per value, bound to the value's place.

    Args:
        key: 16, 24 or 32 bytes.
        path: The database, for messages.

    Raises:
        ConfigurationError: If the ``cryptography`` package is missing.
    """

    def __init__(self, key: bytes, path: Path) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError as error:
            raise ConfigurationError(
                "encryption needs a package that is not installed: pip install 'plan-execute[encryption]'"
            ) from error
        self._aes = AESGCM(key)
        self.digest_key = hashlib.blake2b(b"digests of parts", key=key).digest()
        """What keys the digests by which parts are found."""
        self.path = path

    def encrypt(self, plain: bytes, place: Sequence[str]) -> bytes:
        """Return nonce, ciphertext and tag."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._aes.encrypt(nonce, plain, _address(place))

    def decrypt(self, encrypted: bytes, place: Sequence[str]) -> bytes:
        """Return the plain value that was encrypted for this place.

        Raises:
            StorageDamagedError: If it was changed, or encrypted for another place or with another key.
        """
        from cryptography.exceptions import InvalidTag

        try:
            return self._aes.decrypt(encrypted[:_NONCE_BYTES], encrypted[_NONCE_BYTES:], _address(place))
        except (InvalidTag, ValueError, TypeError) as error:
            raise self.damage(
                f"was changed, or was moved there from another place ({' '.join(place)})"
            ) from error

    def mark(self, connection: sqlite3.Connection) -> None:
        """Store in a new database what its key is recognised by."""
        connection.execute("INSERT INTO encryption VALUES (?, ?)", (_NAME, self.encrypt(*_KEY_CHECK)))

    def check(self, connection: sqlite3.Connection) -> None:
        """Raise `EncryptionKeyError` if an encrypted database has another key."""
        row = connection.execute("SELECT key_check FROM encryption").fetchone()
        try:
            self.decrypt(row[0] if row else b"", _KEY_CHECK[1])
        except StorageDamagedError as error:
            what = f"{self.path} is encrypted with another key; nothing was changed"
            raise EncryptionKeyError(what) from error

    def damage(self, what: str) -> StorageDamagedError:
        """Describe the problem with a row."""
        return StorageDamagedError(
            f"{self.path} is encrypted and holds a row that {what}; nothing was changed"
        )


def _address(place: Sequence[str]) -> bytes:
    return json.dumps(list(place)).encode()


class RowCipher(CipherProtocol):
    """The cipher in the form that LangGraph's serializers take; the caller names the row.

    Rows are read and written in transactions, one at a time, so one place at a time is enough.
    """

    def __init__(self, cipher: Cipher) -> None:
        self.cipher = cipher
        self.place: tuple[str, ...] = ()

    @contextmanager
    def at(self, *place: str) -> Iterator[None]:
        """Bind encryption and decryption in the body to a place."""
        before, self.place = self.place, place
        try:
            yield
        finally:
            self.place = before

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        """Return the cipher's name and the encrypted text."""
        return _NAME, self.cipher.encrypt(plaintext, self.place)

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        """Return the plain text."""
        if ciphername != _NAME:
            raise self.cipher.damage(f"is encrypted in a way that is not known here ({ciphername[:40]})")
        return self.cipher.decrypt(ciphertext, self.place)


class RefusingSerializer(EncryptedSerializer):
    """LangGraph's encrypted serializer, but it refuses rows that are not encrypted."""

    cipher: RowCipher

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """Decrypt and deserialise a row.

        Raises:
            StorageDamagedError: If it is not encrypted, or was changed.
        """
        if "+" not in data[0]:
            raise self.cipher.cipher.damage("is not encrypted")
        return super().loads_typed(data)


class EncryptedBlobs(ChannelBlobs):
    """Encrypted channel values, each bound to its thread, namespace, channel and version.

    Their parts are bound to their thread and to a digest that tells nothing about them.
    """

    def write(self, channel: str, version: Any, value: Any) -> None:
        """Write a value, unless its version is in the table."""
        with self._rows.at("value", *self._key(channel, version)):
            super().write(channel, version, value)

    def read(self, channel: str, version: Any) -> Any:
        """Return the channel's value at this version."""
        with self._rows.at("value", *self._key(channel, version)):
            return super().read(channel, version)

    def named(self, task_id: str, channel: str, value: Any) -> Any:
        """Return the value with the names of its task and channel."""
        return [task_id, channel, value]

    def unnamed(self, task_id: str, channel: str, held: Any) -> Any:
        """Return the value; refuse another task's or channel's."""
        if not isinstance(held, list) or held[:2] != [task_id, channel]:
            raise self._rows.cipher.damage(f"belongs to another row ({task_id} {channel})")
        return held[2]

    @property
    def plain(self) -> SerializerProtocol:
        """The serializer without encryption."""
        return cast(RefusingSerializer, self.serde).serde

    @property
    def digest_key(self) -> bytes:  # type: ignore[override]
        """What keys the digests, so that they tell nothing about the parts."""
        # Of the thread's own, or they would tell which threads have equal parts.
        return hashlib.blake2b(self.thread_id.encode(), key=self._rows.cipher.digest_key).digest()

    def sealed(self, row: tuple[str, bytes]) -> tuple[str, bytes]:
        """Return a type and bytes as they are stored."""
        with self._rows.at(*self._rows.place, row[0]):
            name, encrypted = self._rows.encrypt(row[1])
        return f"{row[0]}+{_TYPED}{name}", encrypted

    def opened(self, row: tuple[str, bytes]) -> tuple[str, bytes]:
        """Return the type and the bytes that are stored.

        Raises:
            StorageDamagedError: If they are not encrypted, or were changed.
        """
        kind, is_encrypted, name = row[0].rpartition("+")
        if not is_encrypted:
            raise self._rows.cipher.damage("is not encrypted")
        bound_to = [kind] if name.startswith(_TYPED) else []
        with self._rows.at(*self._rows.place, *bound_to):
            return kind, self._rows.decrypt(name.removeprefix(_TYPED), row[1])

    def put_part(self, digest: bytes, row: tuple[str, bytes]) -> None:
        """Keep a part."""
        with self._at_part(digest):
            super().put_part(digest, row)

    def get_part(self, digest: bytes) -> tuple[str, bytes]:
        """Return a part."""
        with self._at_part(digest):
            return super().get_part(digest)

    def _at_part(self, digest: bytes) -> Any:
        return self._rows.at("part", self.thread_id, digest.hex())

    @property
    def _rows(self) -> RowCipher:
        return cast(RefusingSerializer, self.serde).cipher


class EncryptedSaver(LocalSaver):
    """The local checkpointer with encrypted rows, each bound to its place."""

    _values = EncryptedBlobs

    def __init__(self, database: Database, cipher: Cipher) -> None:
        super().__init__(database)
        self._cipher = cipher
        self._rows = RowCipher(cipher)
        self.serde = RefusingSerializer(self._rows, self.serde)

    def with_allowlist(self, extra_allowlist: Any) -> BaseCheckpointSaver[Any]:
        """Return a clone with these types allowed.

        LangGraph gives it its own encrypted serializer, which takes plain rows (langgraph-checkpoint 4.3).
        """
        clone = super().with_allowlist(extra_allowlist)
        if clone is not self:
            made = cast(RefusingSerializer, clone.serde)
            clone.serde = RefusingSerializer(made.cipher, made.serde)
        return clone

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint, its metadata encrypted too."""
        place = config["configurable"]
        address = (str(place["thread_id"]), place["checkpoint_ns"], checkpoint["id"])
        # The metadata contain the caller's config; what LangGraph would copy from it is encrypted as well.
        whole = get_checkpoint_metadata(config, metadata)
        text = json.dumps(whole, ensure_ascii=False)
        encrypted: Any = {_ENCRYPTED: _encrypted(self._cipher, text, ("metadata", *address))}
        bare: RunnableConfig = {"configurable": {key: place[key] for key in _ADDRESS if key in place}}
        with self.cursor(), self._rows.at("checkpoint", *address):
            return super().put(bare, checkpoint, encrypted, new_versions)

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store the writes of a task, with the names of their task and channel inside."""
        address = [str(config["configurable"][key]) for key in _ADDRESS]
        with self.cursor(), self._rows.at("checkpoint", *address):
            super().put_writes(config, writes, task_id, task_path)

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
        """List checkpoints, newest first; filters use the decrypted metadata."""
        where, values = search_where(config, None, before)
        with self.cursor(transaction=False) as cursor:
            columns = ", ".join(_ADDRESS)
            query = f"SELECT {columns} FROM checkpoints {where} ORDER BY checkpoint_id DESC"  # noqa: S608
            rows = cursor.execute(query, values).fetchall()
            opened = (self._opened({"configurable": dict(zip(_ADDRESS, row, strict=True))}) for row in rows)
            wanted = (found for found in opened if found and _matches(found.metadata, filter))
            return iter([*islice(wanted, limit)])

    def _opened(self, exact: RunnableConfig) -> CheckpointTuple | None:
        address = [str(exact["configurable"][key]) for key in _ADDRESS]
        with self._rows.at("checkpoint", *address):
            found = super().get_tuple(exact)
        if found is None:
            return None
        metadata = _decrypted(self._cipher, cast(Any, found.metadata), ("metadata", *address))
        return found._replace(metadata=json.loads(metadata))


class EncryptedStore(LocalStore):
    """The local store with encrypted values, each bound to its namespace and key."""

    def __init__(self, database: Database, cipher: Cipher) -> None:
        super().__init__(database)
        self._cipher = cipher

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Execute the operations in one transaction.

        Raises:
            ConfigurationError: For a search by content, which is encrypted.
            StorageDamagedError: If a row is not encrypted, or was changed.
        """
        return [self._opened(result) for result in super().batch([self._as_kept(op) for op in ops])]

    def _as_kept(self, op: Op) -> Op:
        if isinstance(op, SearchOp) and (op.filter or op.query):
            raise ConfigurationError("an encrypted store cannot be searched by content, only by namespace")
        if not isinstance(op, PutOp) or op.value is None:
            return op
        text = _encrypted(self._cipher, json.dumps(op.value, ensure_ascii=False), _place(op))
        return op._replace(value={_ENCRYPTED: text})

    def _opened(self, result: Result) -> Result:
        for item in result if isinstance(result, list) else [result]:
            if isinstance(item, Item):
                item.value = json.loads(_decrypted(self._cipher, item.value, _place(item)))
        return result


def _place(row: PutOp | GetOp | Item) -> tuple[str, ...]:
    return "store", *row.namespace, row.key


def _encrypted(cipher: Cipher, text: str, place: Sequence[str]) -> str:
    return base64.b64encode(cipher.encrypt(text.encode(), place)).decode()


def _decrypted(cipher: Cipher, held: Mapping[str, Any], place: Sequence[str]) -> str:
    if set(held) != {_ENCRYPTED}:
        raise cipher.damage(f"is not encrypted ({' '.join(place)})")
    try:
        encrypted = base64.b64decode(held[_ENCRYPTED], validate=True)
    except (ValueError, TypeError) as error:
        raise cipher.damage(f"was changed ({' '.join(place)})") from error
    return cipher.decrypt(encrypted, place).decode()


def _exact(cursor: sqlite3.Cursor, config: RunnableConfig) -> RunnableConfig | None:
    """Return the checkpoint of a config: the named one, or the thread's latest."""
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
