"""A database is made whole or not at all, and what a kill leaves is never in the way of the next opening."""

import signal
import subprocess
import sys

import creation_child
import pytest
from filelock import FileLock

from plan_execute.errors import StorageError
from plan_execute.storage import sqlite as local
from plan_execute.storage.persistence import local_persistence

LINES = 320
"""More than the making of a database has."""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.db"


def is_usable(path):
    for number in range(2):
        with local_persistence(path) as (_, store):
            store.put(("plan_execute", "results", "t"), str(number), {})
    with local_persistence(path) as (_, store):
        return len(store.search(("plan_execute",))) == 2


def survives_kills_at(path, *lines):
    script = [sys.executable, creation_child.__file__, path, *map(str, lines)]
    left = subprocess.run(script, check=True, capture_output=True, text=True).stdout.split()
    for line, size in zip(range(*lines), left, strict=True):
        folder = path.parent / str(line)
        assert is_usable(folder / path.name), f"killed at line {line}, which left {size} bytes"
        assert {entry.name for entry in folder.iterdir()} == {"runs.db", "runs.db-commits", "runs.db.locks"}
    assert left[0] == "0"
    assert left[-1] == "whole"
    assert len(set(left)) > 2  # some were killed when the file was made, and before it was opened


@pytest.mark.parametrize("before", ["nothing", "an empty file"])
def test_a_kill_while_a_database_is_made_leaves_a_place_where_it_can_be_made(path, before):
    if before == "an empty file":
        path.touch()
    survives_kills_at(path, 0, LINES, 21)


@pytest.mark.slow
def test_a_kill_at_any_line_of_the_making_leaves_a_place_where_it_can_be_made(path):
    survives_kills_at(path, 0, LINES, 1)


@pytest.mark.parametrize(
    "leftover", ["runs.db.new", "runs.db.new-journal", "runs.db.new-wal", "runs.db-journal"]
)
def test_what_an_earlier_making_has_left_is_not_taken_for_a_part_of_the_file(path, leftover):
    path.with_name(leftover).write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(1016))
    assert is_usable(path)
    assert not path.with_name(leftover).exists()


def test_a_file_that_is_being_made_by_another_process_for_too_long_is_a_clear_error(path, monkeypatch):
    monkeypatch.setattr(local, "BUSY_TIMEOUT_S", 0.1)
    path.with_name("runs.db.locks").mkdir()
    lock = FileLock(path.with_name("runs.db.locks") / "creation.lock")
    with lock, pytest.raises(StorageError, match="is being made by another process"):
        local_persistence(path).__enter__()
    assert not path.exists()
    assert is_usable(path)


KILLED_AMID_A_TRANSACTION = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode=DELETE")
connection.execute("PRAGMA cache_size=2")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE store SET value = zeroblob(3000)")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_transaction_that_a_kill_cut_off_is_undone_from_its_journal(path):
    with local_persistence(path) as (_, store):
        for number in range(200):
            store.put(("n",), str(number), {"v": "x" * 500})
    killed = subprocess.run([sys.executable, "-c", KILLED_AMID_A_TRANSACTION, path])
    assert killed.returncode == -signal.SIGKILL
    assert path.with_name("runs.db-journal").stat().st_size > 512
    with local_persistence(path) as (_, store):
        assert [store.get(("n",), str(n)).value for n in range(200)] == [{"v": "x" * 500}] * 200
    assert not path.with_name("runs.db-journal").exists()
