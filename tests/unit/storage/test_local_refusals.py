"""A file that is not as it should be is refused with its name and the reason, and stays as it was."""

import re
import shutil
import sqlite3
from contextlib import closing

import pytest
from langgraph.checkpoint.sqlite import SqliteSaver

from plan_execute.errors import SchemaVersionError, StorageDamagedError, StorageError
from plan_execute.storage import sqlite as local
from plan_execute.storage.persistence import local_persistence


@pytest.fixture
def path(tmp_path):
    """A database with some rows in it."""
    path = tmp_path / "runs.db"
    with local_persistence(path) as (_, store):
        for number in range(200):
            store.put(("n",), str(number), {"v": "x" * 500})
    return path


def changed(path, *statements):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def refused(path, kind, says):
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(kind, match=re.escape(str(path))) as caught:
        local_persistence(path).__enter__()
    assert type(caught.value) is kind
    assert says in str(caught.value)
    assert str(caught.value).endswith("nothing was changed")
    assert (path.read_bytes() if path.is_file() else None) == before


def test_a_text_file_is_not_a_database(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("These are my notes, which nobody may overwrite.\n" * 100)
    refused(path, StorageDamagedError, "is not an SQLite database")


@pytest.mark.parametrize("size", [1, 15])
def test_a_few_bytes_are_not_a_database(path, size):
    path.write_bytes(path.read_bytes()[:size])
    refused(path, StorageDamagedError, "is not an SQLite database")


@pytest.mark.parametrize("part", [0.01, 0.5, 0.99])
def test_a_truncated_file_is_damaged(path, part):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    refused(path, StorageDamagedError, "is damaged")


@pytest.mark.parametrize("size", [16, 60, 100, 600])
def test_a_file_cut_off_in_its_header_is_refused(path, size):
    path.write_bytes(path.read_bytes()[:size])
    refused(path, StorageDamagedError, str(path))


def test_a_damaged_page_is_found(path):
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // local.PAGE_BYTES * local.PAGE_BYTES
    content[middle : middle + 200] = b"\xff" * 200
    path.write_bytes(content)
    refused(path, StorageDamagedError, "is damaged")


def test_a_damaged_schema_is_found_in_a_file_too_large_for_the_quick_check(path, monkeypatch):
    monkeypatch.setattr(local, "QUICK_CHECK_BYTES", 1000)
    with local_persistence(path):
        pass
    content = bytearray(path.read_bytes())
    content[100:300] = b"\xff" * 200
    path.write_bytes(content)
    refused(path, StorageDamagedError, "is damaged")


@pytest.mark.parametrize("exists", [True, False])
def test_an_empty_or_missing_file_beside_its_log_is_refused_and_the_log_stays(tmp_path, path, exists):
    copy = tmp_path / "copy.db"
    with local_persistence(path) as (_, store):
        store.put(("n",), "k", {"v": 1})
        shutil.copy(f"{path}-wal", f"{copy}-wal")
    if exists:
        copy.touch()
    log = tmp_path / "copy.db-wal"
    before = log.read_bytes()
    refused(copy, StorageDamagedError, "its log copy.db-wal exists")
    assert log.read_bytes() == before
    assert copy.exists() == exists


@pytest.mark.parametrize("table", sorted(local._TABLES | {local._PARTS}))
def test_a_missing_table_is_named(path, table):
    changed(path, f"DROP TABLE {table}")
    refused(path, StorageDamagedError, f"lacks the table {table}")


def test_a_file_that_says_wrongly_which_form_its_tables_have_is_damaged(path):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM store_migrations")
    with pytest.raises(StorageDamagedError, match="wrongly which form"), local_persistence(path):
        pass


def test_a_file_of_ours_without_any_table_does_not_start_over(path):
    changed(path, *(f"DROP TABLE {table}" for table in sorted(local._TABLES | {local._PARTS})))
    refused(
        path,
        StorageDamagedError,
        "lacks the table checkpoint_blobs, checkpoint_parts, checkpoints, store, store_migrations, writes",
    )


def test_a_database_of_something_else_is_refused(tmp_path):
    path = tmp_path / "browser.db"
    changed(path, "CREATE TABLE bookmarks (url)", "CREATE TABLE cookies (name)")
    refused(path, StorageError, "is a database of another program (its tables: bookmarks, cookies)")


def test_a_plain_langgraph_database_is_something_else_too(tmp_path):
    path = tmp_path / "langgraph.db"
    with SqliteSaver.from_conn_string(str(path)) as saver:
        saver.setup()
    refused(path, StorageError, "is a database of another program")


def test_a_newer_version_is_refused(path):
    changed(path, f"PRAGMA user_version={local.DATABASE_VERSION + 1}")
    refused(path, SchemaVersionError, "has version 4; this plan_execute knows versions up to 3")


def test_a_folder_is_refused(tmp_path):
    refused(tmp_path, StorageError, "is a folder")


def test_a_read_only_file_is_refused(path):
    path.chmod(0o444)
    refused(path, StorageError, "is read-only")


def test_a_path_through_a_file_is_refused(path):
    refused(path / "inner.db", StorageError, "cannot be opened")


def test_a_file_locked_while_it_is_opened_is_refused(path, monkeypatch):
    monkeypatch.setattr(local, "BUSY_TIMEOUT_S", 0.1)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        refused(path, StorageError, "locked by another process")


def test_an_empty_file_and_an_empty_database_are_fine(tmp_path):
    empty, database = tmp_path / "empty.db", tmp_path / "database.db"
    empty.touch(0o644)
    changed(database, "PRAGMA journal_mode=WAL")
    for path in (empty, database):
        with local_persistence(path) as (_, store):
            store.put(("n",), "k", {"v": 1})
    assert empty.stat().st_mode & 0o777 == 0o600


def test_what_a_killed_writer_left_in_the_log_is_read(tmp_path, path):
    copy = tmp_path / "copy.db"
    with local_persistence(path) as (_, store):
        store.put(("n",), "last", {"v": 1})
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
    with local_persistence(copy) as (_, store):
        assert store.get(("n",), "last").value == {"v": 1}
        assert store.get(("n",), "199") is not None
