"""Checkpointer and store in a PostgreSQL database, refused with a reason if it is not as expected."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
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
from .calls import Access, StorageThread
from .checkpoints import DistinctVersions, StrictSerializer
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

from .postgres_locks import RUNNERS, Hold, ThreadLocks

__all__ = ["PostgresPersistence"]

OLDEST_SERVER = 12
"""The oldest accepted major version of the server."""

WAIT_S = 10.0
"""How long a call waits for a connection of the pool."""

SET_UP_WAIT_S = 60.0
"""How long opening waits for another process that creates the tables."""

_LONGEST_LEASE_S = 3600.0

_IDLE_IN_TRANSACTION_S = 10
"""How long the server lets a transaction wait for its process."""

_CHECK_AFTER_S = 1.0
"""Idle time after which a connection is tested, because the server may have restarted."""

_DEFAULTS = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
    "application_name": "plan_execute",
}
"""libpq's settings if the address has none: a lost server is noticed within seconds."""

_DURABLE = (
    "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'"
)

_SHARED_WAIT_MS = 200
"""How long a shared transaction waits for a lock: shorter than the server takes to look for a deadlock."""

_MOST_TOGETHER = 8
"""Calls per shared transaction, which holds the locks of all of them: the server's time for idle transactions
does not run within a pipeline, so a process that hangs in one keeps them."""

_ALONE_AT_ONCE = 4
"""How many calls that could not share a transaction run at the same time."""

_IMPATIENT = f"SELECT set_config('lock_timeout', '{_SHARED_WAIT_MS}', true)"

_BEGIN = "BEGIN"
_BEGIN_TO_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_IDLE = psycopg.pq.TransactionStatus.IDLE

Row = Any  # LangGraph's cursors return dicts, ours tuples.
Connection = psycopg.Connection[Row]


class PostgresPersistence(DatabasePersistence):
    """One database, with a pool of connections between entering and leaving."""

    def __init__(self, url: str, *, pool_size: int, lease_s: float) -> None:
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


class _RowsTogether(psycopg.Cursor[Row]):
    """A cursor that inserts several rows with a statement: each statement costs more than its row."""

    def executemany(self, query: Any, params_seq: Iterable[Any], *, returning: bool = False) -> None:
        """Execute the statement with each of the rows."""
        # Where it updates instead, two rows of one key in one statement are an error.
        found = _INSERT.fullmatch(query) if isinstance(query, str) else None
        if found is None:
            super().executemany(query, params_seq, returning=returning)
            return
        rows, (before, values, after) = [*params_seq], found.groups()
        most = _MOST_VALUES // values.count("%s")
        for start in range(0, len(rows), most):
            some = rows[start : start + most]
            statement = before + ", ".join([values] * len(some)) + after
            self.execute(statement, [value for row in some for value in row])


_INSERT = re.compile(r"(\s*INSERT .*VALUES )(\((?:%s, )*%s\))(\s.*DO NOTHING\s*)", re.DOTALL)
_MOST_VALUES = 50
"""Of a statement: psycopg 3.3 parses one with more of them anew each time."""


class _PooledConnection(psycopg.Connection[Row]):
    used_at = 0.0
    """When a call last succeeded, by the monotonic clock."""


class Database:
    """A pool of connections, and the threads that this process holds."""

    def __init__(self, parameters: Mapping[str, Any], pool_size: int, lease_s: float) -> None:
        self.place = _place(parameters)
        self.parameters = parameters
        self.queue: Any = None
        """The queue's tables, after they were first needed."""
        self.pool: ConnectionPool[_PooledConnection] = ConnectionPool(
            make_conninfo(**parameters),
            connection_class=_PooledConnection,
            kwargs={"autocommit": True, "prepare_threshold": 0, "cursor_factory": _RowsTogether},
            min_size=1,
            max_size=pool_size,
            timeout=WAIT_S,
            check=_check_if_idle,
            configure=_limit_idling,
            open=False,
        )
        self.locks = ThreadLocks(lambda: _connect(parameters), self.pool.check, self.place, lease_s)
        # The connection on which a Python thread has an open transaction.
        self._open = threading.local()
        self.sharing = StorageThread(
            self._shared_transaction,
            "plan-execute-storage",
            most=_MOST_TOGETHER,
            alone=ThreadPoolExecutor(_ALONE_AT_ONCE, thread_name_prefix="plan-execute-storage"),
        )
        """Where async writes of threads share transactions."""

    def close(self) -> None:
        """Close all connections; later use raises `StorageError`."""
        self.sharing.close()
        self.locks.close()
        self.pool.close()

    def connect(self) -> Connection:
        """Open a connection outside the pool."""
        return _connect(self.parameters)

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Use the connection of this thread's open transaction, else one of the pool."""
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
        """Run the body in a transaction, or as part of this thread's open one.

        Args:
            write: Whether the body writes; a body that only reads sees one state of the database.
            durable: Return only when it is on disk, even if ``synchronous_commit`` is off otherwise.
            threads: The threads of the body's writes; those that this process runs must still be held.
        """
        self.refuse_lost(threads)
        with self.connection() as connection:
            if getattr(self._open, "connection", None) is connection:
                with connection.cursor() as cursor:
                    self._confirm(cursor, threads)
                    yield cursor
                return
            try:
                # One round trip for everything: if something fails, the server skips what follows it.
                with connection.pipeline(), connection.cursor() as cursor:
                    cursor.execute(_BEGIN if write else _BEGIN_TO_READ)
                    if durable:
                        cursor.execute(_DURABLE)
                    self._confirm(cursor, threads)
                    self._open.connection = connection
                    try:
                        yield cursor
                    finally:
                        self._open.connection = None
                    cursor.execute("COMMIT")
            except psycopg.Error as error:
                if (loss := self.locks.loss_in(error)) is not None:
                    raise loss from error
                raise
            finally:
                if not connection.closed and connection.info.transaction_status != _IDLE:
                    connection.rollback()

    @contextmanager
    def _shared_transaction(self, *, write: bool, durable: bool) -> Iterator[None]:
        """Run calls of several threads in a transaction that waits for no lock for long."""
        with self.transaction(write=write, durable=durable) as cursor:
            cursor.execute(_IMPATIENT)
            yield

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
    # A process that hangs during a transaction would keep its locks forever.
    connection.execute(f"SET idle_in_transaction_session_timeout = '{_IDLE_IN_TRANSACTION_S}s'")


class _PooledCursors(CursorHook):
    """Opens cursors on connections of the pool."""

    shared: Database

    @contextmanager
    def open_cursor(self, *, pipeline: bool = False) -> Iterator[psycopg.Cursor[Any]]:  # type: ignore[override]
        """Open a cursor on a connection of the pool."""
        # This avoids PostgresSaver's lock, by which all calls of a process would wait for each other.
        del pipeline
        with (
            self.shared.connection() as connection,
            connection.cursor(binary=True, row_factory=dict_row) as cursor,
        ):
            yield cursor


class PooledSaver(_PooledCursors, DistinctVersions, BlobHook, PostgresSaver):
    """LangGraph's PostgreSQL checkpointer on a shared `Database`."""

    def __init__(self, database: Database) -> None:
        damage = partial(_refusal, StorageDamagedError, database.place)
        super().__init__(cast(Any, database.pool), serde=StrictSerializer(damage))
        self.shared = database
        self.sharing_thread = database.sharing

    def thread_lock(self, thread_id: str) -> AbstractContextManager[Hold]:
        """Hold a thread for one runner, over all processes that use the database.

        Raises:
            ThreadBusyError: On entering, at once, if another runner holds it.
        """
        return self._thread_lock(thread_id)

    def is_held(self, thread_id: str) -> bool:
        """Tell whether somebody runs a thread now, in whatever process."""
        with self.shared.connection() as connection:
            return self.shared.locks.is_held(connection, thread_id)

    def signal_stop(self, thread_id: str) -> None:
        """Tell a thread's holder, in whatever process, to stop."""
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
        """List checkpoints, newest first; all are read before the first is returned, to free the pool."""
        return iter([*super().list(config, filter=filter, before=before, limit=limit)])

    def delete_thread(self, thread_id: str) -> None:
        """Delete a thread's checkpoints and writes."""
        with self.shared.transaction(threads=[str(thread_id)]):
            super().delete_thread(thread_id)

    def writable(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values in a form that can be written."""
        return {name: value.text if isinstance(value, _Apart) else value for name, value in values.items()}


class _Apart:
    """Matches a text that PostgresSaver would put into a jsonb value, which cannot hold it."""

    def __init__(self, text: str) -> None:
        self.text = text


def _storable(value: Any) -> Any:
    return _Apart(value) if isinstance(value, str) and _NOT_IN_JSONB.search(value) else value


_NOT_IN_JSONB = re.compile("[\0\ud800-\udfff]")


def _threads(config: RunnableConfig) -> list[str]:
    return [str(config["configurable"]["thread_id"])]


class PooledStore(_PooledCursors, PostgresStore):
    """LangGraph's PostgreSQL store on a shared `Database`."""

    def __init__(self, database: Database) -> None:
        super().__init__(cast(Any, database.pool))
        self.shared = database
        self.sharing_thread = database.sharing

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Execute the operations, in one transaction if any writes, while the threads are still held."""
        wanted = [*ops]
        self.shared.refuse_lost(_threads_of(wanted))
        puts = [op for op in wanted if isinstance(op, PutOp)]
        if not puts:
            return super().batch(wanted)
        with self.shared.transaction(threads=_threads_of(puts), durable=must_last(puts)):
            return super().batch(wanted)

    def access_of(self, ops: Sequence[Op]) -> Access:
        """Let writes of a thread's records share a transaction, if nothing is to be read for them."""
        if not all(isinstance(op, PutOp) and _may_share(op.namespace) for op in ops):
            return Access.ALONE
        return Access.DURABLE if must_last(ops) else Access.WRITE

    def change(self, namespace: tuple[str, ...], key: str, make: Change) -> dict[str, Any] | None:
        """Change a row in one transaction, which is on disk at return; other processes wait for it."""
        with self.shared.transaction(durable=True) as cursor:
            # Not the row's own lock, because the row may not exist yet.
            cursor.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (".".join((*namespace, key)),)
            )
            return changed(self, namespace, key, make)

    def atomic(self, thread_id: str) -> AbstractContextManager[Any]:
        """Make the body's deletions of a thread all or nothing, including its checkpoints."""
        return self.shared.transaction(durable=True, threads=[thread_id])

    def delete_below(self, namespace: tuple[str, ...], limit: int | None = None) -> int:
        """Delete rows of a namespace and of those below it without reading them, and return how many.

        Args:
            namespace: The namespace.
            limit: The most rows; None for all.
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
    """List the threads whose ledger the operations read or write, in the order of locking."""
    spaces = [op.namespace for op in ops if isinstance(op, GetOp | PutOp)]
    spaces += [op.namespace_prefix for op in ops if isinstance(op, SearchOp)]
    return sorted({thread for space in spaces if (thread := thread_of(space)) is not None})


def _may_share(namespace: tuple[str, ...]) -> bool:
    # Rows that many processes write would be locked for longer, and artifacts would hold up all others.
    return thread_of(namespace) is not None and namespace[1] != "artifacts"


# Opening.

MIGRATIONS = (
    "CREATE TABLE IF NOT EXISTS plan_execute_migrations (v integer PRIMARY KEY)",
    f"CREATE TABLE IF NOT EXISTS {RUNNERS} (thread_id text PRIMARY KEY, token uuid NOT NULL,"
    " runner text NOT NULL, since timestamptz NOT NULL DEFAULT now())",
    f"ALTER TABLE {RUNNERS} ADD COLUMN IF NOT EXISTS until timestamptz",
)
"""Our own tables; a migration's position is its number, as in LangGraph's lists."""

_SCHEMAS: dict[str, tuple[Sequence[str], tuple[str, ...]]] = {
    "checkpoint_migrations": (
        PostgresSaver.MIGRATIONS,
        ("checkpoints", "checkpoint_blobs", "checkpoint_writes"),
    ),
    "store_migrations": (PostgresStore.MIGRATIONS, ("store",)),
    "plan_execute_migrations": (MIGRATIONS, (RUNNERS,)),
}
"""What each table of migrations counts, and the tables that exist after all of them."""

_SETTING_UP = 0x504C4558
"""Advisory lock ("PLEX") of the process that creates or changes tables."""


def open_database(parameters: Mapping[str, Any], pool_size: int, lease_s: float) -> Database:
    """Check the database, create missing tables, and open a pool."""
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
    """Read an address, and add defaults."""
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        # Without libpq's message, which may repeat a part of the password.
        raise ConfigurationError(
            "this is not the address of a PostgreSQL database; an address looks like "
            "postgresql://user:password@host/database"
        ) from None
    return {**_DEFAULTS, **given}


def _place(parameters: Mapping[str, Any]) -> str:
    """Return the database's address without its password."""
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
    """Tell whether all tables exist in this version's format."""
    return all(
        _exists(connection, counter)
        and _version(connection, place, counter) == len(migrations) - 1
        and all(_exists(connection, table) for table in tables)
        for counter, (migrations, tables) in _SCHEMAS.items()
    )


@contextmanager
def alone(connection: Connection, place: str) -> Iterator[None]:
    """Wait until no other process creates tables, because LangGraph's migrations conflict with each other."""
    deadline = time.monotonic() + SET_UP_WAIT_S
    # Not pg_advisory_lock: CREATE INDEX CONCURRENTLY would wait for its waiters.
    while not _scalar(connection, "SELECT pg_try_advisory_lock(%s)", _SETTING_UP):
        if time.monotonic() > deadline:
            what = f"is being set up by another process for more than {SET_UP_WAIT_S:g} s"
            raise _refusal(StorageError, place, what)
        time.sleep(0.05)
    # The end of the session releases it, whatever happens.
    yield


def _set_up(connection: Connection, place: str) -> None:
    """Create missing tables, after the existing ones have been checked."""
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
    """Count the completed migrations, and refuse tables that do not match their number."""
    migrations, tables = _SCHEMAS[counter]
    there = {name for name in tables if _exists(connection, name)}
    if not _exists(connection, counter):
        if there:
            raise _refusal(
                StorageError, place, f"has a table of another program ({', '.join(sorted(there))})"
            )
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
        raise _refusal(StorageError, place, f"has a table of another program ({counter})") from None
    return -1 if made is None else int(made)


def _exists(connection: Connection, table: str) -> bool:
    return _scalar(connection, "SELECT to_regclass(%s)", table) is not None


def _setting(connection: Connection, name: str) -> str:
    return str(_scalar(connection, "SELECT current_setting(%s)", name))


def _scalar(connection: Connection, statement: str | sql.Composed, *parameters: Any) -> Any:
    row = connection.execute(statement, parameters).fetchone()
    return None if row is None else row[0]


# Errors.

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
"""The meaning of an SQLSTATE class or code."""


@contextmanager
def explained(place: str, end: str = "") -> Iterator[None]:
    """Turn PostgreSQL's errors about the database into ours; the program's errors pass."""
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
    """Describe an error: the database, what is wrong, and that nothing was changed."""
    return kind(f"{place} {what}; nothing was changed")
