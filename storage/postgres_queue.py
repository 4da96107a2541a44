"""Keep procrastinate's jobs in the threads' database, in a schema of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from ..errors import ConfigurationError, SchemaVersionError, StorageError
from .postgres import Database, alone, explained

try:
    from procrastinate import PsycopgConnector, SyncPsycopgConnector
    from procrastinate.exceptions import AlreadyEnqueued, ConnectorException
    from procrastinate.jobs import Job
    from procrastinate.manager import JobManager
    from procrastinate.schema import SchemaManager
except ImportError as error:
    raise ConfigurationError(
        f"workers need an extra that is not installed: pip install 'plan-execute[workers]' ({error})"
    ) from error

__all__ = ["JobTables", "as_storage_error"]

_MADE = "plan_execute_made"
"""The table with the names of procrastinate's completed migrations."""

_INDEXES = """
CREATE INDEX IF NOT EXISTS plan_execute_first_of_queue
    ON procrastinate_jobs (queue_name, scheduled_at NULLS FIRST) WHERE status = 'todo';
CREATE INDEX IF NOT EXISTS plan_execute_next_of_queue
    ON procrastinate_jobs (queue_name, priority DESC, id) WHERE status = 'todo';
"""
"""Indexes that find the first and the next job of each queue without reading the others."""

_LACKS_INDEXES = """
SELECT pg_has_role(jobs.relowner, 'USAGE') AND has_schema_privilege(jobs.relnamespace, 'CREATE') AND (
    SELECT count(*) FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE indrelid = jobs.oid AND relname IN ('plan_execute_first_of_queue', 'plan_execute_next_of_queue')
) < 2 FROM pg_class jobs WHERE jobs.oid = to_regclass(%s)
"""
"""Tells whether to create indexes: earlier versions created none, and some users may not."""

_PLANNER = ("enable_sort", "enable_incremental_sort", "enable_seqscan", "enable_bitmapscan")
"""What the planner must not do for workers: a queue that grew since it was analyzed would be sorted whole
for its next job, which an index gives (20,000 just queued: 16 ms instead of 4, benchmarks/queues.py)."""

_DROP = "DELETE FROM procrastinate_jobs WHERE queueing_lock = %s AND status = 'todo'"


class JobTables:
    """procrastinate's tables in one database, created when they are first needed.

    Args:
        database: The database of the threads.

    Raises:
        SchemaVersionError: If a newer procrastinate created them.
        StorageError: If they cannot be created.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self._manager = JobManager(SyncPsycopgConnector())
        with explained(database.place, "; nothing was changed"), database.connect() as connection:
            (main,) = connection.execute("SELECT current_schema()").fetchone() or ("",)
            self.schema = f"{main}_queue"
            self._path = sql.SQL(", ").join([sql.Identifier(self.schema), sql.Identifier(main)]).as_string()
            self.made_now = not _is_current(connection, self.schema) and self._set_up(connection)

    def _set_up(self, connection: psycopg.Connection[Any]) -> bool:
        """Create or change the tables; tell whether there were none."""
        with alone(connection, self.database.place):
            if _is_current(connection, self.schema):  # Another process has created them meanwhile.
                return False
            with connection.transaction():
                return _make(connection, self.schema, self.database.place)

    @contextmanager
    def transaction(self, thread_id: str) -> Iterator[psycopg.Cursor[Any]]:
        """Run the body in a transaction that finds both procrastinate's tables and ours."""
        with self.database.transaction(durable=True, threads=[thread_id]) as cursor:
            cursor.execute("SELECT set_config('search_path', %s, true)", (self._path,))
            yield cursor

    def add(self, cursor: psycopg.Cursor[Any], job: Job) -> None:
        """Add a job.

        Raises:
            AlreadyEnqueued: If one with the same queueing lock waits.
        """
        self._manager.defer_job(job, connection=cursor.connection)

    def drop(self, cursor: psycopg.Cursor[Any], queueing_lock: str) -> None:
        """Delete the waiting job with this queueing lock."""
        cursor.execute(_DROP, (queueing_lock,))

    def add_unless_waiting(self, thread_id: str, job: Job) -> bool:
        """Add a job unless one with the same queueing lock waits; tell whether it was added."""
        try:
            with self.transaction(thread_id) as cursor:
                self.add(cursor, job)
        except AlreadyEnqueued:
            return False
        return True

    def connector(self) -> PsycopgConnector:
        """Return procrastinate's connector to the tables, to be opened in the worker's event loop."""

        async def configure(connection: psycopg.AsyncConnection[Any]) -> None:
            await connection.set_autocommit(True)
            await connection.execute("SELECT set_config('search_path', %s, false)", (self._path,))
            for name in _PLANNER:
                await connection.execute(sql.SQL("SET {} = off").format(sql.Identifier(name)))

        return PsycopgConnector(
            conninfo=make_conninfo(**self.database.parameters),
            min_size=1,
            max_size=2,
            configure=configure,
        )

    def explained(self, error: Exception) -> StorageError | None:
        """Turn an error of procrastinate's connection into ours; None for another error."""
        return as_storage_error(error, self.database.place)


def as_storage_error(error: Exception, place: str) -> StorageError | None:
    """Turn an error of procrastinate's connection into ours; None for another error."""
    cause = error.__cause__ if isinstance(error, ConnectorException) else error
    if not isinstance(cause, psycopg.Error):
        return error if isinstance(error, StorageError) else None
    try:
        with explained(place):
            raise cause
    except StorageError as found:
        return found
    except psycopg.Error as found:
        return StorageError(f"{place} refused what was asked ({' '.join(str(found).split())})")


def at(seconds: float) -> datetime:
    """Return a time in procrastinate's form."""
    return datetime.fromtimestamp(seconds, UTC)


# Creating the tables.


def _migrations() -> list[Path]:
    return sorted(Path(SchemaManager.get_migrations_path()).glob("*.sql"))


def _made(connection: psycopg.Connection[Any], schema: str) -> set[str] | None:
    """Return the names of completed migrations; None if there is no table yet."""
    table = sql.Identifier(schema, _MADE)
    found = connection.execute("SELECT to_regclass(%s)", (table.as_string(),)).fetchone()
    if found is None or found[0] is None:
        return None
    return {row[0] for row in connection.execute(sql.SQL("SELECT name FROM {}").format(table)).fetchall()}


def _is_current(connection: psycopg.Connection[Any], schema: str) -> bool:
    if _made(connection, schema) != {path.name for path in _migrations()}:
        return False
    jobs = sql.Identifier(schema, "procrastinate_jobs").as_string()
    (lacks_indexes,) = connection.execute(_LACKS_INDEXES, (jobs,)).fetchone() or (False,)
    return not lacks_indexes


def _make(connection: psycopg.Connection[Any], schema: str, place: str) -> bool:
    made, known = _made(connection, schema), {path.name for path in _migrations()}
    if newer := sorted((made or set()) - known):
        raise SchemaVersionError(
            f"{place} has a queue that a newer procrastinate made ({newer[-1]}); nothing was changed"
        )
    if not connection.execute("SELECT to_regnamespace(quote_ident(%s))::oid", (schema,)).fetchone()[0]:  # type: ignore[index]
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    connection.execute("SELECT set_config('search_path', quote_ident(%s), true)", (schema,))
    if made is None:
        connection.execute(SchemaManager.get_schema())
        connection.execute(f"CREATE TABLE {_MADE} (name text PRIMARY KEY)")
    for path in _migrations():
        if made is not None and path.name not in made:
            connection.execute(path.read_bytes())
        if made is None or path.name not in made:
            connection.execute(
                sql.SQL("INSERT INTO {} VALUES (%s)").format(sql.Identifier(_MADE)), (path.name,)
            )
    connection.execute(_INDEXES)
    return made is None
