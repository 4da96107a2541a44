"""Encryption at rest: AES-GCM for what the rows of a local database hold, and whose key it is."""

from __future__ import annotations

import base64
import json
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from langgraph.checkpoint.serde.base import CipherProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from ..errors import ConfigurationError, EncryptionKeyError, StorageDamagedError

__all__ = [
    "ENCRYPTED_VERSION",
    "ENCRYPTION_TABLE",
    "Cipher",
    "RowCipher",
    "SealedSerializer",
    "check_key",
    "mark_encrypted",
    "read_key",
]

ENCRYPTED_VERSION = 2
"""SQLite's ``user_version`` of encrypted files, so that versions that cannot decrypt refuse them."""

KEY_BYTES = (16, 24, 32)
"""Sizes of AES keys."""

_NONCE_BYTES = 12
_NAME = "aesgcm"
ENCRYPTION_TABLE = "encryption"
"""Table that only encrypted databases have."""

_CHECK = (b"plan_execute", ("key check",))


def read_key(given: bytes | str) -> bytes:
    """Read a key: its bytes, or the text of their base64 in the usual or the URL-safe alphabet.

    Raises:
        ConfigurationError: If it is neither, or has no size that AES knows; the key is not quoted.
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
    except ValueError:  # binascii.Error is one, and so is what other alphabets give
        return b""


class Cipher:
    """AES-GCM with a random nonce per value, bound to the place that the value stands in.

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
        self.path = path

    def seal(self, plain: bytes, place: Sequence[str]) -> bytes:
        """Return nonce, ciphertext and tag."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._aes.encrypt(nonce, plain, _address(place))

    def open(self, sealed: bytes, place: Sequence[str]) -> bytes:
        """Return what was sealed at this place.

        Raises:
            StorageDamagedError: If it was changed, or sealed for another place or with another key.
        """
        from cryptography.exceptions import InvalidTag

        try:
            return self._aes.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _address(place))
        except (InvalidTag, ValueError, TypeError) as error:
            raise self.damage(f"was changed, or is not from there ({' '.join(place)})") from error

    def damage(self, what: str) -> StorageDamagedError:
        """Word what is wrong with a row."""
        return StorageDamagedError(
            f"{self.path} is encrypted and holds a row that {what}; nothing was changed"
        )


def _address(place: Sequence[str]) -> bytes:
    return json.dumps(list(place)).encode()


class RowCipher(CipherProtocol):
    """The cipher as LangGraph's serializers take it; who reads or writes a row says which one it is.

    Rows are read and written in transactions, one at a time, so one place at a time is enough.
    """

    def __init__(self, cipher: Cipher) -> None:
        self.cipher = cipher
        self._place: tuple[str, ...] = ()

    @contextmanager
    def at(self, *place: str) -> Iterator[None]:
        """Bind what is encrypted and decrypted in the body to a place."""
        before, self._place = self._place, place
        try:
            yield
        finally:
            self._place = before

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        """Return the cipher's name and the sealed text."""
        return _NAME, self.cipher.seal(plaintext, self._place)

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        """Return the plain text."""
        if ciphername != _NAME:
            raise self.cipher.damage(f"is encrypted in a way that is not known here ({ciphername[:40]})")
        return self.cipher.open(ciphertext, self._place)


class SealedSerializer(EncryptedSerializer):
    """LangGraph's encrypted serializer, which refuses rows that are not encrypted instead of taking them."""

    cipher: RowCipher

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """Decrypt and deserialise a row.

        Raises:
            StorageDamagedError: If it is not encrypted, or was changed.
        """
        if "+" not in data[0]:
            raise self.cipher.cipher.damage("is not encrypted")
        return super().loads_typed(data)


# --- whose key it is ---------------------------------------------------------------------


def mark_encrypted(connection: sqlite3.Connection, cipher: Cipher) -> None:
    """Put into a new database that it is encrypted, and by what its key is known."""
    connection.execute(f"CREATE TABLE {ENCRYPTION_TABLE} (cipher TEXT NOT NULL, key_check BLOB NOT NULL)")
    connection.execute(f"INSERT INTO {ENCRYPTION_TABLE} VALUES (?, ?)", (_NAME, cipher.seal(*_CHECK)))  # noqa: S608
    connection.execute(f"PRAGMA user_version={ENCRYPTED_VERSION}")


def check_key(connection: sqlite3.Connection, path: Path, cipher: Cipher | None) -> None:
    """Refuse a database and a key that do not belong together.

    Raises:
        EncryptionKeyError: If the database is encrypted and the key is missing or another one, or if
            there is a key and the database is plain.
    """
    known = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (ENCRYPTION_TABLE,)).fetchone()
    if known is None:
        if cipher is not None:
            raise EncryptionKeyError(
                f"{path} is not encrypted, and a database cannot be encrypted afterwards: "
                "leave the key away, or start a new file; nothing was changed"
            )
        return
    if cipher is None:
        raise EncryptionKeyError(
            f"{path} is encrypted: give its key (encryption_key=, or PLAN_EXECUTE_ENCRYPTION_KEY for the "
            "command line); nothing was changed"
        )
    row = connection.execute(f"SELECT key_check FROM {ENCRYPTION_TABLE}").fetchone()  # noqa: S608
    try:
        cipher.open(row[0] if row else b"", _CHECK[1])
    except StorageDamagedError as error:
        raise EncryptionKeyError(f"{path} is encrypted with another key; nothing was changed") from error
