"""Open a database on a PostgreSQL server. What that needs is imported when it is used, as it is an extra."""

from __future__ import annotations

from .persistence import DatabasePersistence

__all__ = ["postgres_persistence"]


def postgres_persistence(url: str, *, pool_size: int = 4, lease_s: float = 30.0) -> DatabasePersistence:
    """Keep checkpoints and store in the PostgreSQL database at ``url``, shared by any number of processes.

    Use the result as ``with`` or ``async with``; it yields ``Persistence(checkpointer, store)``. Tables are
    created on first use, in the first schema of the search path. A thread has one runner at a time, over all
    processes: the server holds a lock for it, and releases the lock if the process dies or hangs.

    Args:
        url: ``postgresql://user:password@host/database``, or any other conninfo string of libpq.
        pool_size: The most connections of this process; one more holds the threads that it runs.
        lease_s: Others may take over this process's threads after this many seconds without a sign of life.
            The process gives one every third of that, whatever its event loop does.

    Raises:
        ConfigurationError: If ``url`` is not an address, ``pool_size`` or ``lease_s`` is less than 1, or the
            extra ``postgres`` is not installed.
        StorageDamagedError: On entering: the database lacks a table.
        SchemaVersionError: On entering: a newer version wrote it.
        StorageError: On entering: it cannot be reached or used. Nothing was changed.
    """
    from .postgres import PostgresPersistence

    return PostgresPersistence(url, pool_size=pool_size, lease_s=lease_s)
