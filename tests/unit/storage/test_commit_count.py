"""A write-ahead log that was cut off, damaged or deleted is noticed; what is whole never raises an alarm."""

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from plan_execute.errors import StorageDamagedError
from plan_execute.storage.effect_log import EffectLog
from plan_execute.storage.ledger import Ledger
from plan_execute.storage.persistence import local_persistence

KILLED = """
import asyncio, os, signal, sys
from plan_execute.storage.effect_log import EffectLog, EffectRecord
from plan_execute.storage.ledger import Ledger
from plan_execute.storage.persistence import local_persistence
from plan_execute.storage.ids import CallId, Place, WorkId

async def record(ledger):
    log = EffectLog(ledger, is_new=True)
    for number in range(int(sys.argv[2])):
        call = CallId(WorkId("t", "p", (Place(f"s{number}", None, 1),)), "content")
        await log.begin(EffectRecord(call, "pay", {}))

with local_persistence(sys.argv[1]) as (_, store):
    asyncio.run(record(Ledger(store, "t")))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_after(path, commits):
    child = subprocess.run([sys.executable, "-c", KILLED, path, str(commits)])
    assert child.returncode == -signal.SIGKILL


def effects(path):
    with local_persistence(path) as (_, store):
        return len(asyncio.run(EffectLog(Ledger(store, "t"), is_new=False).doubts("p")))


@pytest.fixture
def path(tmp_path):
    """A database with 5 commits of its ledger in the log, of a process that was killed."""
    path = tmp_path / "runs.db"
    kill_after(path, 5)
    return path


@pytest.fixture
def log(path):
    return path.with_name("runs.db-wal")


def refused(path, missing):
    files = {entry: entry.read_bytes() for entry in path.parent.iterdir() if entry.suffix != ".locks"}
    with pytest.raises(StorageDamagedError) as caught:
        local_persistence(path).__enter__()
    said = str(caught.value)
    assert f"{path} is older than its ledger says: the last {missing} of 5 commits are missing" in said
    assert f"delete {path}-commits" in said
    assert {name: content for name, content in files.items() if name.suffix != ".db-shm"} == {
        name: name.read_bytes() for name in files if name.suffix != ".db-shm"
    }


def test_a_log_that_was_deleted_is_noticed(path, log):
    log.unlink()
    refused(path, 5)


def test_a_log_that_was_emptied_is_noticed(path, log):
    os.truncate(log, 0)
    refused(path, 5)


def test_a_log_that_was_cut_off_is_noticed_and_what_is_missing_is_counted(path, log):
    os.truncate(log, log.stat().st_size - 100)
    refused(path, 1)


def test_a_log_that_was_damaged_in_its_middle_is_noticed(path, log):
    content = bytearray(log.read_bytes())
    content[len(content) // 2] ^= 0xFF
    log.write_bytes(content)
    with pytest.raises(StorageDamagedError, match="is older than its ledger says"):
        local_persistence(path).__enter__()


def test_an_older_copy_put_in_its_place_is_noticed(path):
    copy = path.with_name("copy.db")
    with closing(sqlite3.connect(path)) as one, closing(sqlite3.connect(copy)) as other:
        one.backup(other)
    assert effects(path) == 5
    with local_persistence(path) as (_, store):
        asyncio.run(Ledger(store, "t").record_result("p", "s0", "f", {}))
    copy.replace(path)
    with pytest.raises(StorageDamagedError, match="the last 1 of 6 commits are missing"):
        local_persistence(path).__enter__()
    path.with_name("runs.db-commits").unlink()  # as the message says
    assert effects(path) == 5


def test_a_kill_raises_no_alarm(path):
    assert effects(path) == 5


def test_a_checkpoint_by_another_program_that_deletes_the_log_raises_no_alarm(path, log):
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert not log.exists()
    assert effects(path) == 5


def test_a_backup_beside_the_original_raises_no_alarm(path):
    copy = path.with_name("copy.db")
    with closing(sqlite3.connect(path)) as one, closing(sqlite3.connect(copy)) as other:
        one.backup(other)
    assert effects(copy) == 5


def test_a_copy_with_its_log_and_its_count_raises_no_alarm(path, tmp_path):
    place = tmp_path / "elsewhere"
    place.mkdir()
    for entry in path.parent.glob("runs.db*"):
        if entry.is_file():
            shutil.copy(entry, place)
    assert effects(place / "runs.db") == 5


def test_a_commit_that_a_kill_kept_from_being_told_raises_no_alarm(path):
    count = path.with_name("runs.db-commits")
    before = count.read_bytes()
    kill_after(path, 2)
    count.write_bytes(before)
    assert effects(path) == 5


@pytest.mark.parametrize("left", [b"", bytes(54), b"\xff\xfe no number"])
def test_what_a_power_cut_made_of_the_count_raises_no_alarm(path, left):
    path.with_name("runs.db-commits").write_bytes(left)
    assert effects(path) == 5


def test_another_database_moved_to_the_place_raises_no_alarm(path, tmp_path):
    other = tmp_path / "other" / "runs.db"
    kill_after(other, 1)
    assert effects(other) == 1
    for entry in path.parent.glob("runs.db-[ws]*"):
        entry.unlink()
    other.replace(path)
    assert effects(path) == 1


def test_a_database_that_is_made_anew_in_the_place_raises_no_alarm(path):
    for end in ("", "-wal", "-shm"):
        path.with_name(f"runs.db{end}").unlink(missing_ok=True)
    assert effects(path) == 0


def test_two_processes_that_write_at_once_raise_no_alarm(path):
    children = [subprocess.Popen([sys.executable, "-c", KILLED, path, "20"]) for _ in range(2)]
    assert [child.wait(60) for child in children] == [-signal.SIGKILL] * 2
    assert effects(path) == 20
