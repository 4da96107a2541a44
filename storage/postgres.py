"""Checkpointer and store in a PostgreSQL database, refused with a reason where it is not as it should be."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata, CheckpointTuple
from langgraph.store.base import GetOp, Op, PutOp, Result, SearchOp

from ..errors import (
    ConfigurationError,
    SchemaVersionError,
    StorageDamagedError,
    StorageError,
)
from ..langgraph_private import BlobHook, CursorHook
from .checkpoints import DistinctVersions, strict_serializer
from .ledger import must_last, thread_of
from .persistence import DatabasePersistence
from .rows import Change, changed

try:
    import psycopg
    from langgraph.checkpoint.postgres import PostgresSaver
    from langgraph.store.postgres import PostgresStore
    from psycopg import sql
    from psycopg.conninfo import conninfo_to_dict, make_conninfo
    from psycopg.rows import dict_row
    from psycopg_pool import ConnectionPool, PoolClosed
except ImportError as error:
    raise ConfigurationError(
        f"PostgreSQL needs an extra that is not installed: pip install 'plan-execute[postgres]' ({error})"
    ) from error

from .postgres_locks import LEASE_S, RUNNERS, Hold, ThreadLocks

__all__ = ["PostgresPersistence", "postgres_persistence"]

OLDEST_SERVER = 12
"""The oldest major version of the server that is accepted."""

POOL_SIZE = 4
"""Connections of one process at most, besides the one that holds its threads."""

WAIT_S = 10.0
"""How long a call waits for a connection of the pool."""

SET_UP_WAIT_S = 60.0
"""How long opening waits for another process that is making the tables."""

_LONGEST_LEASE_S = 3600.0

_IDLE_IN_TRANSACTION_S = 10
"""How long a transaction may wait for its process before the server gives it up."""

_CHECK_AFTER_S = 1.0
"""How long a connection may lie idle before it is tried, as the server may have restarted since."""

_DEFAULTS = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
    "application_name": "plan_execute",
}
"""libpq's settings where the address has none: a server that is gone is noticed within seconds."""

_DURABLE = (
    "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'"
)

Row = Any  # LangGraph's cursors give dicts, ours tuples
Connection = psycopg.Connection[Row]


def postgres_persistence(
    url: str, *, pool_size: int = POOL_SIZE, lease_s: float = LEASE_S
) -> PostgresPersistence:
    """Keep checkpoints and store in the PostgreSQL database at ``url``, shared by any number of processes.

    Use the result as ``with`` or ``async with``; it yields ``Persistence(checkpointer, store)``. Tables are
    made on first use, in the first schema of the search path. A thread has one runner at a time, over all
    processes: the server holds a lock for it, and frees that when the process dies, or hangs.

    Args:
        url: ``postgresql://user:password@host/database``, or any other conninfo string of libpq.
        pool_size: Connections of this process at most; one more holds the threads it runs.
        lease_s: After how many seconds without a sign of life from this process others may take its
            threads over. It gives one every third of that, whatever its event loop does.

    Raises:
        ConfigurationError: If ``url`` is no address, ``pool_size`` is less than 1, or ``lease_s`` than 1.
        StorageDamagedError: On entering: the database lacks a table.
        SchemaVersionError: On entering: a newer version wrote it.
        StorageError: On entering: it cannot be reached or used. Nothing was changed.
    """
    return PostgresPersistence(url, pool_size=pool_size, lease_s=lease_s)


class PostgresPersistence(DatabasePersistence):
    """One database, with a pool of connections between entering and leaving."""

    def __init__(self, url: str, *, pool_size: int = POOL_SIZE, lease_s: float = LEASE_S) -> None:
        if pool_size < 1:
            raise ConfigurationError(f"pool_size must be at least 1, not {pool_size}")
        if not 1 <= lease_s <= _LONGEST_LEASE_S:
            raise ConfigurationError(f"lease_s must be from 1 to {_LONGEST_LEASE_S:g}, not {lease_s:g}")
        self._parameters = parameters(url)
        self._pool_size, self._lease_s = pool_size, lease_s

    def _open(self) -> tuple[Database, PooledSaver, PooledStore]:
        database = open_database(self._parameters, self._pool_size, self._lease_s)
        return database, PooledSaver(database), PooledStore(database)

    def _open_already(self) -> str:
        return f"{_place(self._parameters)} is already open here: call postgres_persistence again"


class _PooledConnection(psycopg.Connection[Row]):
    used_at = 0.0
    """When a call last ended well, by the monotonic clock."""


class Database:
    """A pool of connections, and the threads that this process holds."""

    def __init__(self, parameters: Mapping[str, Any], pool_size: int, lease_s: float) -> None:
        self.place = _place(parameters)
        self.parameters = parameters
        self.queue: Any = None
        """The tables of the queue, once somebody needed them."""
        self.pool: ConnectionPool[_PooledConnection] = ConnectionPool(
            make_conninfo(**parameters),
            connection_class=_PooledConnection,
            kwargs={"autocommit": True, "prepare_threshold": 0},
            min_size=1,
            max_size=pool_size,
            timeout=WAIT_S,
            check=_check_if_idle,
            configure=_limit_idling,
            open=False,
        )
        self.locks = ThreadLocks(lambda: _connect(parameters), self.pool.check, self.place, lease_s)
        # The connection on which a thread of Python has a transaction open.
        self._open = threading.local()

    def close(self) -> None:
        """Close all connections; later use raises `StorageError`."""
        self.locks.close()
        self.pool.close()

    def connect(self) -> Connection:
        """Open a connection beside the pool."""
        return _connect(self.parameters)

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Use the connection of the transaction that this thread has open, else one of the pool."""
        current: Connection | None = getattr(self._open, "connection", None)
        if current is not None:
            yield current
            return
        with explained(self.place), self.pool.connection() as connection:
            yield connection
            connection.used_at = time.monotonic()

    @contextmanager
    def transaction(
        self, *, write: bool = True, durable: bool = False, threads: Collection[str] = ()
    ) -> Iterator[psycopg.Cursor[Any]]:
        """Run the body in a transaction, or as part of the one this thread has open.

        Args:
            write: Whether the body writes; what only reads sees one state of the database.
            durable: Return only when the disk has it, also where ``synchronous_commit`` is off for the rest.
            threads: The threads of which the body writes; those that this process runs must still be held.
        """
        self.refuse_lost(threads)
        with self.connection() as connection:
            if getattr(self._open, "connection", None) is connection:
                with connection.cursor() as cursor:
                    self._confirm(cursor, threads)
                    yield cursor
                return
            # One round trip to begin, one for all that the body writes and the commit.
            with connection.pipeline(), connection.transaction(), connection.cursor() as cursor:
                if durable:
                    cursor.execute(_DURABLE)
                if not write:
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                self._confirm(cursor, threads)
                self._open.connection = connection
                try:
                    yield cursor
                finally:
                    self._open.connection = None

    def refuse_lost(self, threads: Collection[str]) -> None:
        """Raise if one of the threads is known to be lost, without asking the server."""
        for thread_id in threads:
            if (hold := self.locks.held.get(thread_id)) is not None:
                hold.refuse_if_lost()

    def _confirm(self, cursor: psycopg.Cursor[Any], threads: Collection[str]) -> None:
        for thread_id in threads:
            if (hold := self.locks.held.get(thread_id)) is not None:
                hold.confirm(cursor)


def _check_if_idle(connection: _PooledConnection) -> None:
    if time.monotonic() - connection.used_at > _CHECK_AFTER_S:
        ConnectionPool.check_connection(connection)


def _limit_idling(connection: _PooledConnection) -> None:
    # A process that hangs amid a transaction would keep what it has locked for ever.
    connection.execute(f"SET idle_in_transaction_session_timeout = '{_IDLE_IN_TRANSACTION_S}s'")


class _PooledCursors(CursorHook):
    """Opens cursors on connections of the pool."""

    shared: Database

    @contextmanager
    def open_cursor(self, *, pipeline: bool = False) -> Iterator[psycopg.Cursor[Any]]:  # type: ignore[override]
        """Open a cursor on a connection of the pool."""
        # without PostgresSaver's lock, by which all calls of a process would wait for each other
        del pipeline
        with (
            self.shared.connection() as connection,
            connection.cursor(binary=True, row_factory=dict_row) as cursor,
        ):
            yield cursor


class PooledSaver(_PooledCursors, DistinctVersions, BlobHook, PostgresSaver):
    """LangGraph's PostgreSQL checkpointer on a shared `Database`."""

    def __init__(self, database: Database) -> None:
        super().__init__(cast(Any, database.pool), serde=strict_serializer())
        self.shared = database

    def thread_lock(self, thread_id: str) -> AbstractContextManager[Hold]:
        """Hold a thread for one runner, over all processes that use the database.

        Raises:
            ThreadBusyError: On entering, at once, if another runner holds it.
        """
        return self._thread_lock(thread_id)

    def signal_stop(self, thread_id: str) -> None:
        """Tell whoever holds a thread, in whatever process, to stop."""
        with self.shared.connection() as connection:
            self.shared.locks.signal_stop(connection, thread_id)

    @contextmanager
    def _thread_lock(self, thread_id: str) -> Iterator[Hold]:
        with explained(self.shared.place):
            lock = self.shared.locks.hold(thread_id)
            hold = lock.__enter__()
        try:
            yield hold
        finally:
            lock.__exit__(None, None, None)

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint, if the thread is still held."""
        values = {name: _storable(value) for name, value in checkpoint["channel_values"].items()}
        with self.shared.transaction(threads=_threads(config)):
            return super().put(config, {**checkpoint, "channel_values": values}, metadata, new_versions)

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store the writes of one task, if the thread is still held."""
        with self.shared.transaction(threads=_threads(config)):
            super().put_writes(config, writes, task_id, task_path)

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """List checkpoints, newest first; read before the first is given, so none keeps a connection."""
        return iter([*super().list(config, filter=filter, before=before, limit=limit)])

    def delete_thread(self, thread_id: str) -> None:
        """Delete a thread's checkpoints and writes."""
        with self.shared.transaction(threads=[str(thread_id)]):
            super().delete_thread(thread_id)

    def writable(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values as they can be written."""
        return {name: value.text if isinstance(value, _Apart) else value for name, value in values.items()}


class _Apart:
    """A text that PostgresSaver would put into a jsonb value, which cannot hold it."""

    def __init__(self, text: str) -> None:
        self.text = text


def _storable(value: Any) -> Any:
    return _Apart(value) if isinstance(value, str) and "\0" in value else value


def _threads(config: RunnableConfig) -> list[str]:
    return [str(config["configurable"]["thread_id"])]


class PooledStore(_PooledCursors, PostgresStore):
    """LangGraph's PostgreSQL store on a shared `Database`."""

    def __init__(self, database: Database) -> None:
        super().__init__(cast(Any, database.pool))
        self.shared = database

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Execute the operations: in one transaction if any writes, while its threads are still held."""
        wanted = [*ops]
        self.shared.refuse_lost(_threads_of(wanted))
        puts = [op for op in wanted if isinstance(op, PutOp)]
        if not puts:
            return super().batch(wanted)
        with self.shared.transaction(threads=_threads_of(puts), durable=must_last(puts)):
            return super().batch(wanted)

    def change(self, namespace: tuple[str, ...], key: str, make: Change) -> dict[str, Any] | None:
        """Change a row in one transaction, on the disk at return; other processes wait for it."""
        with self.shared.transaction(durable=True) as cursor:
            # Not the row's own lock: it may not be there yet.
            cursor.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (".".join((*namespace, key)),)
            )
            return changed(self, namespace, key, make)

    def atomic(self, thread_id: str) -> AbstractContextManager[Any]:
        """Let what the body deletes of a thread be all or nothing, also of its checkpoints."""
        return self.shared.transaction(durable=True, threads=[thread_id])

    def delete_below(self, namespace: tuple[str, ...], limit: int | None = None) -> int:
        """Delete rows of a namespace and of those below it, unread, and return how many.

        Args:
            namespace: The namespace.
            limit: At most so many; None: all.
        """
        path, thread_id = ".".join(namespace), thread_of(namespace)
        below = re.sub(r"([\\%_])", r"\\\1", path) + ".%"
        with self.shared.transaction(threads=[] if thread_id is None else [thread_id]) as cursor:
            cursor.execute(_DELETE_BELOW, (path, below, limit))
            row = cursor.fetchone()
        return int(row[0]) if row is not None else 0


_DELETE_BELOW = (
    "WITH gone AS (DELETE FROM store WHERE ctid IN (SELECT ctid FROM store"
    " WHERE prefix = %s OR prefix LIKE %s LIMIT %s) RETURNING 1) SELECT count(*) FROM gone"
)


def _threads_of(ops: Sequence[Op]) -> list[str]:
    """Name the threads whose ledger the operations read or write, in the order in which rows are locked."""
    spaces = [op.namespace for op in ops if isinstance(op, GetOp | PutOp)]
    spaces += [op.namespace_prefix for op in ops if isinstance(op, SearchOp)]
    return sorted({thread for space in spaces if (thread := thread_of(space)) is not None})


# opening

MIGRATIONS = (
    "CREATE TABLE IF NOT EXISTS plan_execute_migrations (v integer PRIMARY KEY)",
    f"CREATE TABLE IF NOT EXISTS {RUNNERS} (thread_id text PRIMARY KEY, token uuid NOT NULL,"
    " runner text NOT NULL, since timestamptz NOT NULL DEFAULT now())",
    f"ALTER TABLE {RUNNERS} ADD COLUMN IF NOT EXISTS until timestamptz",
)
"""Our own tables; the place of a migration is its number, as in LangGraph's lists."""

_SCHEMAS: dict[str, tuple[Sequence[str], tuple[str, ...]]] = {
    "checkpoint_migrations": (
        PostgresSaver.MIGRATIONS,
        ("checkpoints", "checkpoint_blobs", "checkpoint_writes"),
    ),
    "store_migrations": (PostgresStore.MIGRATIONS, ("store",)),
    "plan_execute_migrations": (MIGRATIONS, (RUNNERS,)),
}
"""What each table of migrations counts, and the tables that are there when all have been made."""

_SETTING_UP = 0x504C4558
"""Advisory lock ("PLEX") of the process that makes or changes tables."""


def open_database(parameters: Mapping[str, Any], pool_size: int, lease_s: float = LEASE_S) -> Database:
    """Check the database, make the tables that it lacks, and open a pool."""
    database = Database(parameters, pool_size, lease_s)
    with explained(database.place, "; nothing was changed"), _connect(parameters) as connection:
        _check_server(connection, database.place)
        if not _is_current(connection, database.place):
            with alone(connection, database.place):
                _set_up(connection, database.place)
    try:
        with explained(database.place, "; nothing was changed"):
            database.pool.open(wait=True, timeout=WAIT_S)
    except BaseException:
        database.close()
        raise
    return database


def parameters(url: str) -> dict[str, Any]:
    """Read an address, and fill in what it does not say."""
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        # not libpq's message, which may repeat a part of the password
        raise ConfigurationError(
            "that is no address of a PostgreSQL database; postgresql://user:password@host/database is one"
        ) from None
    return {**_DEFAULTS, **given}


def _place(parameters: Mapping[str, Any]) -> str:
    """Name the database, without its password."""
    user = f"{parameters['user']}@" if parameters.get("user") else ""
    port = f":{parameters['port']}" if parameters.get("port") else ""
    return f"postgresql://{user}{parameters.get('host') or ''}{port}/{parameters.get('dbname') or ''}"


def _connect(parameters: Mapping[str, Any]) -> Connection:
    return psycopg.connect(make_conninfo(**parameters), autocommit=True)


def _check_server(connection: Connection, place: str) -> None:
    if (version := connection.info.server_version) < OLDEST_SERVER * 10_000:
        raise _refusal(
            StorageError, place, f"is PostgreSQL {version // 10_000}; {OLDEST_SERVER} or newer is needed"
        )
    if (encoding := connection.info.parameter_status("server_encoding")) != "UTF8":
        raise _refusal(StorageError, place, f"has the encoding {encoding}; UTF8 is needed")
    if _setting(connection, "transaction_read_only") == "on":
        raise _refusal(StorageError, place, "is read-only (a standby?)")
    if _scalar(connection, "SELECT current_schema()") is None:
        path = _setting(connection, "search_path")
        raise _refusal(StorageError, place, f"has no schema to keep tables in (its search path: {path})")


def _is_current(connection: Connection, place: str) -> bool:
    """Tell whether all tables are there, in the format that this version knows."""
    return all(
        _exists(connection, counter)
        and _version(connection, place, counter) == len(migrations) - 1
        and all(_exists(connection, table) for table in tables)
        for counter, (migrations, tables) in _SCHEMAS.items()
    )


@contextmanager
def alone(connection: Connection, place: str) -> Iterator[None]:
    """Wait until no other process makes tables: LangGraph's own migrations trip over each other."""
    deadline = time.monotonic() + SET_UP_WAIT_S
    # Not pg_advisory_lock: CREATE INDEX CONCURRENTLY would wait for those who wait for it.
    while not _scalar(connection, "SELECT pg_try_advisory_lock(%s)", _SETTING_UP):
        if time.monotonic() > deadline:
            what = f"is being set up by another process for more than {SET_UP_WAIT_S:g} s"
            raise _refusal(StorageError, place, what)
        time.sleep(0.05)
    # the end of the session frees it, whatever happens
    yield


def _set_up(connection: Connection, place: str) -> None:
    """Make the tables that are missing, once those that are there have been found to be right."""
    made = {counter: _migrations_made(connection, place, counter) for counter in _SCHEMAS}
    if made["checkpoint_migrations"] < len(PostgresSaver.MIGRATIONS):
        PostgresSaver(connection).setup()
    if made["store_migrations"] < len(PostgresStore.MIGRATIONS):
        PostgresStore(connection).setup()
    with connection.transaction():
        for number in range(made["plan_execute_migrations"], len(MIGRATIONS)):
            connection.execute(MIGRATIONS[number])
            connection.execute("INSERT INTO plan_execute_migrations (v) VALUES (%s)", (number,))


def _migrations_made(connection: Connection, place: str, counter: str) -> int:
    """Count the migrations that were made, and refuse tables that do not fit their number."""
    migrations, tables = _SCHEMAS[counter]
    there = {name for name in tables if _exists(connection, name)}
    if not _exists(connection, counter):
        if there:
            raise _refusal(StorageError, place, f"has a table of something else ({', '.join(sorted(there))})")
        return 0
    made, newest = _version(connection, place, counter), len(migrations) - 1
    if made > newest:
        raise _refusal(
            SchemaVersionError,
            place,
            f"has version {made} of the tables that {counter} counts; this plan_execute, with the libraries "
            f"installed here, knows versions up to {newest}",
        )
    if made == newest and (missing := sorted({*tables} - there)):
        raise _refusal(StorageDamagedError, place, f"lacks the table {', '.join(missing)}")
    return made + 1


def _version(connection: Connection, place: str, counter: str) -> int:
    try:
        made = _scalar(connection, sql.SQL("SELECT max(v) FROM {}").format(sql.Identifier(counter)))
    except psycopg.errors.UndefinedColumn:
        raise _refusal(StorageError, place, f"has a table of something else ({counter})") from None
    return -1 if made is None else int(made)


def _exists(connection: Connection, table: str) -> bool:
    return _scalar(connection, "SELECT to_regclass(%s)", table) is not None


def _setting(connection: Connection, name: str) -> str:
    return str(_scalar(connection, "SELECT current_setting(%s)", name))


def _scalar(connection: Connection, statement: str | sql.Composed, *parameters: Any) -> Any:
    row = connection.execute(statement, parameters).fetchone()
    return None if row is None else row[0]


# errors

_REASONS: dict[str, tuple[type[StorageError], str]] = {
    "08": (StorageError, "cannot be reached"),
    "25006": (StorageError, "is read-only"),
    "28": (StorageError, "refuses this user"),
    "3D000": (StorageError, "does not exist"),
    "42501": (StorageError, "does not allow this user what is needed"),
    "42P01": (StorageDamagedError, "lacks a table"),
    "42703": (StorageDamagedError, "lacks a column"),
    "53": (StorageError, "has no room left"),
    "54": (StorageError, "is at a limit of the server"),
    "55P03": (StorageError, "was locked for too long"),
    "57014": (StorageError, "took too long"),
    "57": (StorageError, "ended the connection"),
    "58": (StorageError, "cannot be read or written"),
    "XX": (StorageDamagedError, "is damaged"),
}
"""What a class of SQLSTATE, or one of its codes, means."""


@contextmanager
def explained(place: str, end: str = "") -> Iterator[None]:
    """Turn PostgreSQL's errors about the database into ours; errors of the program pass."""
    try:
        yield
    except psycopg.Error as error:
        if (reason := _reason(error)) is None:
            raise
        said = " ".join(str(error).split())
        raise reason[0](f"{place} {reason[1]} ({said}){end}") from error


def _reason(error: psycopg.Error) -> tuple[type[StorageError], str] | None:
    code = error.sqlstate or ""
    if found := _REASONS.get(code) or _REASONS.get(code[:2]):
        return found
    if isinstance(error, PoolClosed):
        return StorageError, "is closed: use it inside its `with` block"
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return StorageError, "cannot be reached"
    return None


def _refusal(kind: type[StorageError], place: str, what: str) -> StorageError:
    """Word an error: the database, what is wrong with it, and that it is as it was."""
    return kind(f"{place} {what}; nothing was changed")
