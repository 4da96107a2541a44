"""One runner per thread of a database: in one process, in two, and again after a kill."""

import subprocess
import sys
import threading
import time

import pytest

from plan_execute.errors import StorageError, ThreadBusyError
from plan_execute.storage.sqlite import is_held, lock_file, thread_lock

HOLDER = (
    "import sys, time\n"
    "from plan_execute.storage.sqlite import thread_lock\n"
    "with thread_lock(sys.argv[1], sys.argv[2]):\n"
    "    print('held', flush=True)\n"
    "    time.sleep(60)\n"
)


@pytest.fixture
def database(tmp_path):
    return tmp_path / "runs.db"


def hold_elsewhere(database, thread_id):
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, database, thread_id], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "held\n"
    return child


def test_a_second_process_is_told_at_once_and_a_kill_releases(database):
    child = hold_elsewhere(database, "t")
    try:
        with pytest.raises(ThreadBusyError, match="'t'") as caught, thread_lock(database, "t"):
            pass
        assert str(database) in str(caught.value)
        with thread_lock(database, "another"):
            pass
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    with thread_lock(database, "t"):
        pass


def test_a_second_runner_in_this_process_is_refused_in_this_thread_and_in_another(database):
    seen = []

    def attempt():
        try:
            with thread_lock(database, "t"):
                seen.append("ran")
        except ThreadBusyError:
            seen.append("busy")

    def attempt_elsewhere():
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()

    with thread_lock(database, "t"):
        attempt()
        attempt_elsewhere()
    attempt_elsewhere()
    attempt()
    assert seen == ["busy", "busy", "ran", "ran"]


def test_a_lock_may_be_released_by_another_thread_and_taken_again(database):
    lock = thread_lock(database, "t")
    lock.__enter__()
    thread = threading.Thread(target=lock.__exit__, args=(None, None, None))
    thread.start()
    thread.join()
    with thread_lock(database, "t"):
        pass


def test_who_looks_at_a_thread_disturbs_nobody_who_starts_to_run_it(database, monkeypatch):
    look = thread_lock(database, "t")
    look.__enter__()
    monkeypatch.setattr(time, "sleep", lambda _: look.__exit__(None, None, None))
    with thread_lock(database, "t"):
        pass


def test_a_look_tells_whether_a_thread_is_run_and_writes_nothing(database):
    assert not is_held(database, "t")
    assert not lock_file(database, "t").parent.exists()
    with thread_lock(database, "t"):
        assert is_held(database, "t")
        assert not is_held(database, "another")
    assert not is_held(database, "t")


def test_of_many_at_once_one_runs(database):
    together = threading.Barrier(8)
    done = threading.Event()
    seen = []

    def attempt():
        together.wait()
        try:
            with thread_lock(database, "t"):
                seen.append("ran")
                done.wait(60)
        except ThreadBusyError:
            seen.append("busy")

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    while len(seen) < 8:
        time.sleep(0.001)
    done.set()
    for thread in threads:
        thread.join()
    assert sorted(seen) == ["busy"] * 7 + ["ran"]


def test_two_ways_to_spell_the_database_are_one_lock(database, tmp_path):
    database.touch()
    link = tmp_path / "link.db"
    link.symlink_to(database)
    with thread_lock(database, "t"), pytest.raises(ThreadBusyError), thread_lock(link, "t"):
        pass


def test_an_error_inside_releases_and_passes(database):
    with pytest.raises(ValueError, match="inside"), thread_lock(database, "t"):
        raise ValueError("inside")
    with thread_lock(database, "t"):
        pass


@pytest.mark.parametrize("thread_id", ["", "../../x", "a/b", "\x00", "ü" * 500, "\ud800"])
def test_any_thread_id_can_be_locked(database, thread_id):
    with thread_lock(database, thread_id), pytest.raises(ThreadBusyError), thread_lock(database, thread_id):
        pass
    assert {entry.name for entry in database.parent.iterdir()} == {"runs.db.locks"}


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(StorageError, match="cannot be opened"),
        thread_lock(tmp_path / "file" / "runs.db", "t"),
    ):
        pass
