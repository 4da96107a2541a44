"""One SQLite file and the locks next to it; refused with a reason if it is not as expected."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import (
    EncryptionKeyError,
    SchemaVersionError,
    StorageDamagedError,
    StorageError,
    ThreadBusyError,
)
from .commit_count import CountFile, add_commit, add_count, read_count

if TYPE_CHECKING:
    from .calls import StorageThread

__all__ = [
    "is_held",
    "lock_file",
    "thread_lock",
]

BUSY_TIMEOUT_S = 5.0
"""How long a transaction waits for another process's transaction before it fails."""

QUICK_CHECK_BYTES = 64 * 1024 * 1024
"""Larger files are checked only by header and schema, because quick_check reads every page."""

APPLICATION_ID = 0x504C4558
"""SQLite's ``application_id`` of our files ("PLEX")."""

DATABASE_VERSION = 3
"""SQLite's ``user_version`` of our files; opening a file of an earlier version makes it one of this.

Plain files of version 1 and encrypted ones of version 2 have no table for the parts of values, and a row for
each of a task's writes.
"""

PAGE_BYTES = 16384
"""Page size of new files: for a typical result of 3 KB, 4096 or 8192 bytes would waste a quarter."""

LOG_BYTES = 4 * 1024 * 1024
"""Size of the write-ahead log at which SQLite restarts it, if no reader needs it."""

_BLOBS_SCHEMA = """CREATE TABLE checkpoint_blobs (
    thread_id TEXT NOT NULL,
    checkpoint_ns TEXT NOT NULL,
    channel TEXT NOT NULL,
    version TEXT NOT NULL,
    type TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (thread_id, checkpoint_ns, channel, version)
)"""

_PARTS = "checkpoint_parts"
_PARTS_SCHEMA = f"""CREATE TABLE IF NOT EXISTS {_PARTS} (
    thread_id TEXT NOT NULL,
    digest BLOB NOT NULL,
    type TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (thread_id, digest)
)"""
_TABLES = frozenset({"checkpoints", "writes", "checkpoint_blobs", "store", "store_migrations"})
_ENCRYPTION = "encryption"
"""The table that only encrypted files have."""
_SMALLEST_PAGE = 512
_LOOK_ENDS_S = (0.001, 0.002, 0.004, 0.008)
"""When to ask again for a thread's lock: somebody may only have looked whether it is held."""
_opening = threading.Lock()


class Database:
    """One connection, whose transactions checkpointer and store share.

    SqliteSaver and SqliteStore 3.1.2 on connections of their own gave "database is locked", because the store
    upgrades a deferred transaction. Both also commit incomplete work after an error.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connection = _connect(path.as_uri())
        self.count = _count_file(path)
        self._lock = threading.RLock()
        self._opener: int | None = None
        """The Python thread that has an open transaction."""
        self._durable: bool | None = None
        """Whether commits wait for the disk now; None means SQLite's default."""
        self._closed = False
        self._process = os.getpid()

    @cached_property
    def thread(self) -> StorageThread:
        """Where async calls run; sync calls run in the caller's thread."""
        from .calls import StorageThread

        return StorageThread(self.transaction, "plan-execute-storage")

    @contextmanager
    def transaction(self, *, write: bool = True, durable: bool = False) -> Iterator[sqlite3.Cursor]:
        """Run the body in a transaction, or as part of this thread's open one.

        Args:
            write: Take the write lock at once, so that the transaction cannot fail halfway.
            durable: Return only when it is on disk, else when the operating system has it.
        """
        if self._opener == threading.get_ident():
            # LangGraph opens several in one call; the outer one's guard covers them.
            with closing(self.connection.cursor()) as cursor:
                yield cursor
            return
        with self._held(), closing(self.connection.cursor()) as cursor:
            # SQLite allows a change of synchronous only between transactions.
            if self._durable is not durable:
                self.connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
                self._durable = durable
            self.connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            self._opener = threading.get_ident()
            try:
                count = add_commit(cursor) if durable else None
                yield cursor
                self.connection.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise
            finally:
                self._opener = None
            if count is not None:
                with _explained_os(self.count.path):
                    self.count.tell(count)

    def upgrade(self, setup: Callable[[], None]) -> None:
        """Bring the file to an installed library's own schema, if that is newer."""
        with self._held():
            try:
                setup()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
                    raise  # It is about the file.
                what = f"says wrongly which form its tables have ({error})"
                raise refusal(StorageDamagedError, self.path, what) from error

    def maintain(self, statement: str) -> list[Any]:
        """Execute a statement that cannot be part of a transaction, and return its rows."""
        with self._held(), closing(self.connection.execute(statement)) as cursor:
            return cursor.fetchall()

    def shrink(self, pages: int) -> None:
        """Return at most so many unused pages to the disk, in a transaction."""
        with self._held():
            # Its rows have no columns: `execute` would stop after the first one, which is one page.
            self.connection.executescript(f"PRAGMA incremental_vacuum({pages})")

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Keep other threads out, and refuse to use the connection after a fork or close."""
        # Before taking the lock, which another thread may have held when the process forked.
        if self._is_forked():
            raise StorageError(
                f"{self.path} was opened before this process was forked, and SQLite's connections cannot be "
                "shared: open it here, with local_persistence"
            )
        with self._lock, _explained(self.path):
            if self._closed:
                raise StorageError(f"{self.path} is closed: use it inside its `with` block")
            yield

    def _is_forked(self) -> bool:
        return os.getpid() != self._process

    def _roll_back(self) -> None:
        # SQLite itself rolls back after some errors, such as a full disk.
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close the file after the active calls have ended; later use raises `StorageError`."""
        if self._is_forked():  # The parent process closes it.
            return
        if "thread" in vars(self):
            self.thread.close()
        with self._lock:
            self._closed = True
            self.connection.close()
            self.count.close()


# Opening.


class Key(Protocol):
    """The key of an encrypted database."""

    def mark(self, connection: sqlite3.Connection) -> None:
        """Stores in a new database what its key is recognised by."""

    def check(self, connection: sqlite3.Connection) -> None:
        """Raise `EncryptionKeyError` if an encrypted database has another key."""


def open_database(path: Path, key: Key | None = None) -> Database:
    """Check the file, create it if it does not exist, and open it."""
    # One process at a time, and never a file handle of our own on an existing database: closing any handle of
    # a file drops all POSIX locks of the process on it, including SQLite's.
    with _opening:
        with _explained_os(path):
            _check_place(path)
            made = _is_fresh(path) and _make(path, key)
        if not made:
            _check_content(path, key)
        return _open(path, key)


def _make(path: Path, key: Key | None) -> bool:
    """Create the file next to its place, and move it there when it is complete and on disk.

    A kill leaves a complete file or none. Returns whether this process created it; another may have been
    first.
    """
    draft = path.with_name(path.name + ".new")
    with _alone(path):
        if not _is_fresh(path):
            return False
        _remove(draft)  # A kill left this.
        try:
            _make_private_file(draft)
            _open(draft, key).close()
            _sync(draft)
            # SQLite would take leftovers of an earlier file of this name for the new file's.
            path.with_name(path.name + "-journal").unlink(missing_ok=True)
            _count_file(path).path.unlink(missing_ok=True)
            draft.replace(path)
            _sync(path.parent)
        finally:
            _remove(draft)
    return True


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let one process at a time create the file."""
    from filelock import FileLock, Timeout

    lock = FileLock(_lock_folder(path) / "creation.lock", mode=0o600, is_singleton=False)
    try:
        lock.acquire(timeout=BUSY_TIMEOUT_S)
    except Timeout:
        what = f"is being made by another process for more than {BUSY_TIMEOUT_S:g} s"
        raise refusal(StorageError, path, what) from None
    try:
        yield
    finally:
        lock.release()


def _remove(draft: Path) -> None:
    for end in ("", "-journal", "-wal", "-shm"):
        draft.with_name(draft.name + end).unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk."""
    is_folder = path.is_dir()
    if is_folder and os.name == "nt":
        return  # Windows cannot open folders.
    handle = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _open(path: Path, key: Key | None) -> Database:
    database = Database(path)
    try:
        _prepare(database, key)
    except BaseException:
        database.close()
        raise
    return database


def _check_place(path: Path) -> None:
    if path.is_dir():
        raise refusal(StorageError, path, "is a folder, not a database file")
    if path.exists() and not path.is_file():
        raise refusal(StorageError, path, "is not a regular file")
    # Check the mode as well, because root can write every file.
    if path.exists() and (not os.access(path, os.W_OK) or not path.stat().st_mode & 0o222):
        raise refusal(StorageError, path, "is read-only")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not os.access(path.parent, os.W_OK):
        raise refusal(StorageError, path, "is in a read-only folder")


def _is_fresh(path: Path) -> bool:
    if path.exists() and path.stat().st_size:
        return False
    wal = path.with_name(path.name + "-wal")
    if wal.exists() and (path.exists() or wal.stat().st_size):
        # SQLite would delete the log, and with it the only copy of its content.
        raise refusal(StorageDamagedError, path, f"is missing or empty, but its log {wal.name} exists")
    return True


def _make_private_file(path: Path) -> None:
    # SQLite gives -wal and -shm the database's mode.
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)


def _check_content(path: Path, key: Key | None) -> None:
    """Check the file through a read-only connection, which leaves file and log unchanged.

    SQLite first undoes only what a kill during a transaction left in a rollback journal.
    """
    # SQLite 3.40 takes a file of one byte for an empty one.
    if path.stat().st_size < _SMALLEST_PAGE:
        raise refusal(StorageDamagedError, path, "is not an SQLite database, or is cut off")
    mode = "rw" if path.with_name(path.name + "-journal").exists() else "ro"
    with _explained(path), closing(_connect(f"{path.as_uri()}?mode={mode}")) as connection:
        _check_identity(connection, path, key)
        _check_count(connection, path)
        if path.stat().st_size <= QUICK_CHECK_BYTES:
            _check_pages(connection, path)


def _connect(address: str) -> sqlite3.Connection:
    return sqlite3.connect(
        address, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )


def _check_identity(connection: sqlite3.Connection, path: Path, key: Key | None) -> None:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    owner, version = _pragma(connection, "application_id"), _pragma(connection, "user_version")
    if not tables and not owner:
        return
    if owner != APPLICATION_ID:
        found = ", ".join(sorted(tables)[:5])
        raise refusal(StorageError, path, f"is a database of another program (its tables: {found})")
    if version > DATABASE_VERSION:
        raise refusal(
            SchemaVersionError,
            path,
            f"has version {version}; this plan_execute knows versions up to {DATABASE_VERSION}",
        )
    if missing := (_TABLES | {_PARTS} if version == DATABASE_VERSION else _TABLES) - tables:
        raise refusal(StorageDamagedError, path, f"lacks the table {', '.join(sorted(missing))}")
    _check_key(connection, path, key)


def _check_key(connection: sqlite3.Connection, path: Path, key: Key | None) -> None:
    """Refuse a key that does not fit the database."""
    known = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (_ENCRYPTION,)).fetchone()
    if known and key is None:
        raise EncryptionKeyError(
            f"{path} is encrypted: give its key (encryption_key=, or PLAN_EXECUTE_ENCRYPTION_KEY for the "
            "command line); nothing was changed"
        )
    if not known and key is not None:
        raise EncryptionKeyError(
            f"{path} is not encrypted, and a database cannot be encrypted afterwards: leave out the "
            "key, or start a new file; nothing was changed"
        )
    if key is not None:
        key.check(connection)


def _check_count(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a database that has seen fewer commits than were recorded."""
    beside = _count_file(path)
    with _explained_os(beside.path):
        told = beside.read()  # Read the file before the database, to which others may be writing.
    count = read_count(connection)
    if told is None or count is None or told.file != count.file or told.number <= count.number:
        return
    raise refusal(
        StorageDamagedError,
        path,
        f"is older than its ledger says: the last {told.number - count.number} of {told.number} "
        f"commits are missing. Its log {path.name}-wal was cut off, damaged or deleted, or an "
        "older copy was put in its place; work that was done since then would be repeated. To "
        f"use it anyway, delete {beside.path}",
    )


def _check_pages(connection: sqlite3.Connection, path: Path) -> None:
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise refusal(StorageDamagedError, path, f"is damaged ({' '.join(found.split())})")


def _pragma(connection: sqlite3.Connection, name: str) -> Any:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def _prepare(database: Database, key: Key | None) -> None:
    with _explained(database.path):
        _write_ahead(database)
    with database.transaction():
        if not _pragma(database.connection, "application_id"):
            _create_tables(database.connection, key)
        else:  # Another process may have created or upgraded it since the check.
            _check_identity(database.connection, database.path, key)
        _upgrade(database.connection)
        add_count(database.connection)


def _write_ahead(database: Database) -> None:
    # The default counts pages, whatever their size.
    database.connection.execute(f"PRAGMA wal_autocheckpoint={LOG_BYTES // PAGE_BYTES}")
    if _pragma(database.connection, "journal_mode") == "wal":
        return
    database.connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
    # So the space of deleted threads can be returned piece by piece while others write.
    database.connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
    # The switch writes one page; a kill during it would leave a journal that read-only checks cannot undo.
    _pragma(database.connection, "journal_mode=MEMORY")
    if (mode := _pragma(database.connection, "journal_mode=WAL")) != "wal":
        raise refusal(
            StorageError,
            database.path,
            f"is in a place where SQLite cannot use a write-ahead log (mode {mode})",
        )


def _create_tables(connection: sqlite3.Connection, key: Key | None) -> None:
    # In one transaction, unlike the libraries' own setup: a kill leaves all tables or none.
    for statement in (*_library_schema(), _BLOBS_SCHEMA):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    if key is not None:
        connection.execute(f"CREATE TABLE {_ENCRYPTION} (cipher TEXT NOT NULL, key_check BLOB NOT NULL)")
        key.mark(connection)


def _upgrade(connection: sqlite3.Connection) -> None:
    if _pragma(connection, "user_version") == DATABASE_VERSION:
        return
    connection.execute(_PARTS_SCHEMA)
    # The primary key finds by a prefix as well, and each index costs a page per transaction.
    connection.execute("DROP INDEX IF EXISTS store_prefix_idx")
    connection.execute(f"PRAGMA user_version={DATABASE_VERSION}")


def _library_schema() -> list[str]:
    from langgraph.checkpoint.sqlite import SqliteSaver
    from langgraph.store.sqlite import SqliteStore

    with closing(sqlite3.connect(":memory:", isolation_level=None)) as scratch:
        SqliteSaver(scratch).setup()
        SqliteStore(scratch).setup()
        return [sql for sql in scratch.iterdump() if sql not in ("BEGIN TRANSACTION;", "COMMIT;")]


# Errors.

_REASONS: dict[int, tuple[type[StorageError], str]] = {
    sqlite3.SQLITE_BUSY: (StorageError, f"was locked by another process for more than {BUSY_TIMEOUT_S:g} s"),
    sqlite3.SQLITE_LOCKED: (StorageError, "is locked by another connection of this process"),
    sqlite3.SQLITE_READONLY: (StorageError, "is read-only"),
    sqlite3.SQLITE_FULL: (StorageError, "cannot grow: the disk is full"),
    sqlite3.SQLITE_IOERR: (StorageError, "cannot be read or written: the disk reports an error"),
    sqlite3.SQLITE_CANTOPEN: (StorageError, "cannot be opened"),
    sqlite3.SQLITE_CORRUPT: (StorageDamagedError, "is damaged or cut off"),
    sqlite3.SQLITE_NOTADB: (StorageDamagedError, "is not an SQLite database"),
}


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors about the file into ours; the program's errors pass."""
    try:
        yield
    except sqlite3.Error as error:
        # The low byte is the primary code; the rest adds detail.
        reason = _REASONS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
        if str(error).startswith("Could not decode to UTF-8"):  # Python's, for a changed text.
            reason = StorageDamagedError, "holds a row that cannot be read"
        if reason is None:
            raise
        raise refusal(reason[0], path, f"{reason[1]} ({error})") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise refusal(StorageDamagedError, path, f"holds a row that cannot be read ({error})") from error


@contextmanager
def _explained_os(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise refusal(StorageError, path, f"cannot be opened ({error.strerror})") from error


def refusal(kind: type[StorageError], path: Path, what: str) -> StorageError:
    """Describe an error: the file, what is wrong, and that nothing was changed."""
    return kind(f"{path} {what}; nothing was changed")


# Threads.


@contextmanager
def thread_lock(database: Path, thread_id: str) -> Iterator[None]:
    """Hold a thread of this database for one runner; the kernel releases it if the process dies.

    The lock also excludes other runners in this process, and another Python thread may release it.

    Raises:
        ThreadBusyError: After a few milliseconds, if another runner holds it.
    """
    from filelock import FileLock, Timeout

    path = Path(database).resolve()
    file = lock_file(path, thread_id)
    _lock_folder(path)
    lock = FileLock(file, mode=0o600, thread_local=False, is_singleton=False)
    for pause in (*_LOOK_ENDS_S, None):
        try:
            lock.acquire(blocking=False)
            break
        except Timeout:
            if pause is None:
                busy = f"thread {thread_id!r} of {path} is being run by someone else"
                raise ThreadBusyError(busy) from None
            time.sleep(pause)
    try:
        yield
    finally:
        lock.release()


def is_held(database: Path, thread_id: str) -> bool:
    """Tell whether somebody runs a thread of this database now.

    Only taking the lock for a moment tells it; `thread_lock` asks again, so that this refuses no runner.
    """
    if not lock_file(Path(database).resolve(), thread_id).exists():
        return False
    try:
        with thread_lock(database, thread_id):
            return False
    except ThreadBusyError:
        return True


def lock_file(database: Path, thread_id: str) -> Path:
    """Return the file that a thread's runner has locked."""
    name = hashlib.sha256(thread_id.encode(errors="surrogatepass")).hexdigest()[:32]
    return database.with_name(database.name + ".locks") / f"{name}.lock"


def _lock_folder(database: Path) -> Path:
    """Return the folder of the database's lock files; create it if needed."""
    folder = lock_file(database, "").parent
    with _explained_os(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _count_file(database: Path) -> CountFile:
    return CountFile(database.with_name(database.name + "-commits"))
