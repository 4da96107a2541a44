"""Calls that wait for the database together share one wait for the disk, and none answers for another."""

import asyncio
import os
import signal
import sqlite3
import sys
import threading

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.store.base import GetOp, PutOp
from waiting_calls import at_once

from plan_execute import local_persistence
from plan_execute.errors import StorageError
from plan_execute.storage.calls import Access, StorageThread
from plan_execute.storage.persistence import Persistence

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


async def while_the_database_is_taken(storage, *calls):
    """Let the calls wait for the database, then let them in; return what each got."""
    return await at_once(storage.store.shared.thread, *calls)


def put(storage, key, value):
    return storage.store.abatch([PutOp(RESULTS, key, value)])


async def keys(storage):
    return {item.key for item in await storage.store.asearch(RESULTS, limit=99)}


async def test_calls_that_wait_together_are_committed_together(storage):
    config = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    saved = storage.checkpointer.aput(config, empty_checkpoint(), {}, {})
    writes = [put(storage, f"k{n}", {"n": n}) for n in range(8)]
    read = storage.store.abatch([GetOp(RESULTS, "k0")])
    commits = commits_of(storage)
    *written, kept, (found,) = await while_the_database_is_taken(storage, *writes, saved, read)
    assert written == [[None]] * 8
    assert kept["configurable"]["checkpoint_id"]
    assert found.value == {"n": 0}
    assert len(commits) == 1
    assert await keys(storage) == {f"k{n}" for n in range(8)}


async def test_a_write_that_fails_fails_alone(storage):
    writes = [put(storage, f"k{n}", {"n": n} if n != 3 else {"n": object()}) for n in range(6)]
    got = await while_the_database_is_taken(storage, *writes)
    assert [isinstance(each, Exception) for each in got] == [n == 3 for n in range(6)]
    assert await keys(storage) == {"k0", "k1", "k2", "k4", "k5"}


async def test_what_was_written_is_there_when_the_call_returns(storage):
    async def write_and_read(n):
        await storage.store.aput(RESULTS, f"k{n}", {"n": n})
        return storage.store.get(RESULTS, f"k{n}").value

    assert await asyncio.gather(*map(write_and_read, range(200))) == [{"n": n} for n in range(200)]


async def test_calls_that_wait_together_are_made_in_their_order(storage):
    ops = [[PutOp(RESULTS, "k", {"n": n})] if n % 2 == 0 else [GetOp(RESULTS, "k")] for n in range(20)]
    got = await while_the_database_is_taken(storage, *map(storage.store.abatch, ops))
    assert [found.value["n"] for (found,) in got[1::2]] == list(range(0, 20, 2))


def test_a_write_within_a_transaction_of_its_own_thread_belongs_to_that_one(storage):
    def fail():
        with storage.store.shared.transaction():
            storage.store.put(RESULTS, "k", {})
            raise RuntimeError("back")

    with pytest.raises(RuntimeError):
        fail()
    assert storage.store.get(RESULTS, "k") is None


async def test_one_caller_that_gives_up_leaves_the_others_what_they_asked_for(storage):
    release = threading.Event()
    slow = storage.store.shared.thread.call(lambda: release.wait(10))
    gone, kept = asyncio.ensure_future(put(storage, "gone", {})), asyncio.ensure_future(put(storage, "k", {}))
    await asyncio.sleep(0)
    gone.cancel()
    release.set()
    assert await slow
    assert await kept == [None]
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert "k" in await keys(storage)


async def test_closing_waits_for_calls_under_way_and_refuses_later_ones(tmp_path):
    async with local_persistence(tmp_path / "x.db") as storage:
        writing = [asyncio.ensure_future(put(storage, f"k{n}", {"n": n})) for n in range(20)]
        await asyncio.sleep(0)
    assert await asyncio.gather(*writing) == [[None]] * 20
    with pytest.raises(StorageError, match="is closed"):
        await put(storage, "late", {})
    with local_persistence(tmp_path / "x.db") as again:
        assert len(again.store.search(RESULTS, limit=99)) == 20


def test_event_loops_of_several_threads_share_it(storage):
    async def write(name):
        for n in range(50):
            await put(storage, f"{name}{n}", {})

    threads = [threading.Thread(target=lambda name=name: asyncio.run(write(name))) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(storage.store.search(RESULTS, limit=999)) == 150


async def test_an_event_loop_that_closed_meanwhile_stops_nobody_else(storage):
    release = threading.Event()

    async def leave():
        storage.store.shared.thread.call(lambda: release.wait(10))

    await asyncio.to_thread(lambda: asyncio.run(leave()))
    waiting = asyncio.ensure_future(put(storage, "k", {}))
    await asyncio.sleep(0)
    release.set()
    assert await asyncio.wait_for(waiting, 60) == [None]


async def test_an_error_that_no_future_can_hold_is_still_told(storage):
    with pytest.raises(RuntimeError, match="StopIteration"):
        await storage.store.shared.thread.call(lambda: next(iter(())))


async def test_calls_that_are_to_be_alone_are_no_part_of_a_transaction(storage):
    shared = storage.store.shared
    alone = StorageThread(shared.transaction, "test")
    seen = [
        alone.call(lambda: shared.connection.in_transaction, access) for access in (Access.ALONE, Access.READ)
    ]
    assert await asyncio.gather(*seen) == [False, False]
    alone.close()


def test_waiting_for_the_calls_of_one_event_loop_is_not_disturbed_by_those_of_others(storage):
    stop = threading.Event()

    async def come_and_go():
        while not stop.is_set():
            await asyncio.gather(*(storage.store.aget(RESULTS, "k") for _ in range(20)))

    async def look():
        for _ in range(500):
            await storage.checkpointer.idle()
            await storage.store._bridge.idle()

    others = [threading.Thread(target=lambda: asyncio.run(come_and_go())) for _ in range(2)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for other in others:
            other.start()
        asyncio.run(look())
    finally:
        stop.set()
        sys.setswitchinterval(interval)
        for other in others:
            other.join(30)


async def test_a_process_that_could_start_no_thread_is_told_so_and_may_try_again(storage, monkeypatch):
    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as crowded:
        crowded.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            await put(storage, "k", {})
    assert await put(storage, "k", {}) == [None]


class _PanicError(BaseException):
    """Like what a library written in Rust raises: no Exception."""


async def test_a_call_that_raises_no_exception_but_worse_stops_nobody_else(storage):
    def panic():
        raise _PanicError

    thread = storage.store.shared.thread
    got = await while_the_database_is_taken(
        storage, *(thread.call(work, Access.WRITE) for work in (lambda: 1, panic, lambda: 2))
    )
    assert [type(each) for each in got] == [int, _PanicError, int]
    assert await put(storage, "k", {}) == [None]


async def test_writes_that_waited_together_for_another_process_give_up_together(storage):
    connection = storage.store.shared.connection
    connection.execute("PRAGMA busy_timeout=0")
    tried: list[str] = []
    connection.set_trace_callback(lambda sql: tried.append(sql) if sql == "BEGIN IMMEDIATE" else None)
    other = sqlite3.connect(storage.checkpointer.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writes = [put(storage, f"k{n}", {}) for n in range(5)]
    *refused, (found,) = await while_the_database_is_taken(
        storage, *writes, storage.store.abatch([GetOp(RESULTS, "k0")])
    )
    other.close()
    assert [type(each) for each in refused] == [StorageError] * 5
    assert "locked by another process" in str(refused[0])
    assert len(tried) == 1
    assert found is None  # who only reads need not wait
    assert await put(storage, "k", {}) == [None]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_is_told_to_open_the_database_itself(storage):
    asyncio.run(storage.store.aput(RESULTS, "k", {"n": 1}))
    child = os.fork()
    if child == 0:
        os._exit(_refusals_in_a_fork(storage))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    assert storage.store.get(RESULTS, "k").value == {"n": 1}


def _refusals_in_a_fork(storage) -> int:
    """Count the clear refusals, of a sync call and an async one; an alarm ends a child that hangs."""
    signal.alarm(10)
    refused = 0
    for call in (storage.store.get, lambda *key: asyncio.run(storage.store.aget(*key))):
        try:
            call(RESULTS, "k")
        except StorageError as error:
            refused += "open it here" in str(error)
    storage.store.shared.close()
    return refused


async def test_who_gives_up_twice_while_waiting_for_a_thread_does_not_hold_it_for_ever(storage):
    release = threading.Event()
    slow = storage.store.shared.thread.call(lambda: release.wait(10))

    async def hold():
        async with storage.checkpointer.hold_thread("t"):
            pass

    holding = asyncio.ensure_future(hold())
    while not holding.done():
        await asyncio.sleep(0)
        holding.cancel()
    release.set()
    assert await slow
    await hold()
