"""Delete threads permanently, and return their space to the disk.

One transaction decides: after it the thread and its ledger are gone. What may be large, or is not in the
database, is deleted afterwards: artifacts, workspace, lock file. A note in the store says that this remains
to be done; if a kill interrupts it, the next deletion completes it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from ..errors import StorageError, ThreadBusyError
from ..storage.artifacts import artifacts_of
from ..storage.ledger import ledger_of
from ..storage.persistence import Persistence
from ..storage.rows import ROOT, encode, put
from ..storage.sqlite import Database, lock_file
from ..tools.workspaces import workspace_of

__all__ = ["delete_thread", "file_of", "finish_deletions", "give_space_back", "stored_bytes"]

_NOTES = (ROOT, "deletions")
_ROWS_AT_ONCE = 16
"""Artifact rows, of up to a million characters, that one transaction deletes, so that others wait briefly."""
_PAGES_AT_ONCE = 256


class _Store(Protocol):
    """What `local_persistence` and `postgres_persistence` offer, and LangGraph's own stores do not."""

    def atomic(self, thread_id: str) -> AbstractContextManager[Any]:
        """Make the body's deletions of a thread all or nothing, including its checkpoints."""

    def delete_below(self, namespace: tuple[str, ...], limit: int | None = None) -> int:
        """Delete rows of a namespace and of those below it without reading them, and return how many."""


def delete_thread(persistence: Persistence, thread_id: str, workspaces: Path | None = None) -> None:
    """Delete a thread's checkpoints, values and ledger together, or none on an error; then everything else.

    The caller holds the thread's lock (the checkpointer's `thread_lock`).

    Args:
        persistence: One of our databases.
        thread_id: The thread.
        workspaces: The folder of the threads' workspaces; None if none is deleted.
    """
    saver, store = persistence
    rows = _rows_of(persistence)
    with rows.atomic(thread_id):
        saver.delete_thread(thread_id)
        for namespace in ledger_of(thread_id):
            rows.delete_below(namespace)
        store.batch([put(_NOTES, thread_id, thread_id)])
    _clear(persistence, thread_id, workspaces)


def finish_deletions(persistence: Persistence, workspaces: Path | None = None) -> None:
    """Complete deletions that a kill interrupted."""
    saver, store = persistence
    for note in store.search(_NOTES, limit=10_000):
        thread_id: str = json.loads(note.value["json"])
        try:
            with saver.thread_lock(thread_id):
                if saver.get_tuple({"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}):
                    # The thread was begun again since, so its content belongs to the new thread.
                    store.delete(_NOTES, note.key)
                else:
                    _clear(persistence, thread_id, workspaces)
        except ThreadBusyError:
            continue  # It was begun again and is being run: the note stays until it has checkpoints.


def _clear(persistence: Persistence, thread_id: str, workspaces: Path | None) -> None:
    rows = _rows_of(persistence)
    while rows.delete_below(artifacts_of(thread_id), _ROWS_AT_ONCE) == _ROWS_AT_ONCE:
        pass
    workspace = workspace_of(workspaces, thread_id) if workspaces is not None else None
    if workspace is not None and workspace.exists():
        shutil.rmtree(workspace)
    if (file := file_of(persistence)) is not None:
        lock_file(file, thread_id).unlink(missing_ok=True)
    persistence.store.delete(_NOTES, encode(thread_id))


def give_space_back(persistence: Persistence) -> str | None:
    """Shrink the file by the space of deleted threads; return what prevented that, if anything did.

    Other processes may use the file meanwhile: pages are moved a few at a time. A file of a version that was
    not prepared for this must be rewritten, which needs free disk for a copy, and no running thread.
    """
    if file_of(persistence) is None:
        return "the server keeps the space for new threads; VACUUM FULL gives it back to the disk"
    database: Database = persistence.checkpointer.shared
    try:
        if _pragma(database, "auto_vacuum") == _INCREMENTAL:
            while _pragma(database, "freelist_count"):
                database.shrink(_PAGES_AT_ONCE)
        elif busy := _a_busy_thread(database.path):
            return f"the file can only shrink while no thread is being run, and {busy} is locked"
        else:
            database.maintain("PRAGMA auto_vacuum=INCREMENTAL")
            database.maintain("VACUUM")
        ((busy_readers, *_),) = database.maintain("PRAGMA wal_checkpoint(TRUNCATE)")
    except StorageError as error:
        return f"the space is free for new threads, but could not be given back to the disk: {error}"
    return "another process is reading; the log shrinks when it has finished" if busy_readers else None


_INCREMENTAL = 2


def file_of(persistence: Persistence) -> Path | None:
    """Return the file that contains the threads; None if a server does."""
    file: Path | None = getattr(persistence.checkpointer.wrapped, "database", None)
    return file


def stored_bytes(file: Path | None, workspaces: Path | None = None, threads: Iterable[str] = ()) -> int:
    """Return the size of a database file with its log, and of the workspaces of some threads."""
    files = [file, file.with_name(file.name + "-wal")] if file is not None else []
    if workspaces is not None:
        files += _files_below(workspace_of(workspaces, thread_id) for thread_id in threads)
    return sum(each.lstat().st_size for each in files if each.exists())


def _files_below(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        yield from (file for file in folder.rglob("*") if file.is_file() and not file.is_symlink())


def _a_busy_thread(database: Path) -> str | None:
    for file in sorted(lock_file(database, "").parent.glob("*.lock")):
        lock = FileLock(file, thread_local=False, is_singleton=False)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return file.name
        lock.release()
    return None


def _pragma(database: Database, name: str) -> int:
    ((value,),) = database.maintain(f"PRAGMA {name}")
    return int(value)


def _rows_of(persistence: Persistence) -> _Store:
    store: Any = persistence.store.wrapped
    rows: _Store = store
    return rows
