"""Ledger writes that wait at the same moment share one wait for the disk, and none answers for another."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from langgraph.store.base import PutOp

from plan_execute import local_persistence
from plan_execute.storage.local import Persistence

RESULTS = ("plan_execute", "results", "t", "p")


@pytest.fixture
def storage(tmp_path):
    with local_persistence(tmp_path / "x.db") as opened:
        yield opened


def commits_of(storage: Persistence) -> list[str]:
    """Note every COMMIT from now on."""
    seen: list[str] = []
    storage.store.shared.connection.set_trace_callback(
        lambda sql: seen.append(sql) if sql == "COMMIT" else None
    )
    return seen


def write_while_the_database_is_taken(storage, ops):
    """Let one thread per write wait for the database, then let them in; return what each got."""
    store = storage.store.wrapped

    def write(op):
        try:
            return store.batch([op])
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(ops)) as pool:
        with store.shared.held():
            waiting = [pool.submit(write, op) for op in ops]
            while len(store._group._waiting) < len(ops):
                threading.Event().wait(0.001)
        return [each.result(timeout=10) for each in waiting]


def test_writes_that_wait_together_are_committed_together(storage):
    commits = commits_of(storage)
    ops = [PutOp(RESULTS, f"k{n}", {"n": n}) for n in range(8)]
    assert write_while_the_database_is_taken(storage, ops) == [[None]] * 8
    assert len(commits) == 1
    assert {item.key for item in storage.store.search(RESULTS, limit=99)} == {f"k{n}" for n in range(8)}


def test_a_write_that_fails_fails_alone(storage):
    ops = [PutOp(RESULTS, f"k{n}", {"n": n} if n != 3 else {"n": object()}) for n in range(6)]
    got = write_while_the_database_is_taken(storage, ops)
    assert [isinstance(each, Exception) for each in got] == [n == 3 for n in range(6)]
    assert {item.key for item in storage.store.search(RESULTS, limit=99)} == {"k0", "k1", "k2", "k4", "k5"}


def test_what_was_written_is_there_when_the_call_returns(storage):
    store = storage.store

    def write_and_read(n):
        store.put(RESULTS, f"k{n}", {"n": n})
        return store.get(RESULTS, f"k{n}").value

    with ThreadPoolExecutor(8) as pool:
        assert [*pool.map(write_and_read, range(200))] == [{"n": n} for n in range(200)]


def test_a_write_within_a_transaction_of_its_own_thread_belongs_to_that_one(storage):
    def fail():
        with storage.store.shared.transaction():
            storage.store.put(RESULTS, "k", {})
            raise RuntimeError("back")

    with pytest.raises(RuntimeError):
        fail()
    assert storage.store.get(RESULTS, "k") is None


def test_nobody_is_told_that_an_interrupted_write_succeeded(storage, monkeypatch):
    store = storage.store.wrapped
    monkeypatch.setattr(store._group, "_commit", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        store.put(RESULTS, "k", {})
    monkeypatch.undo()
    assert store.get(RESULTS, "k") is None
    store.put(RESULTS, "k", {})
