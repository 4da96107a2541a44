"""Writes of threads that wait for PostgreSQL together share a transaction, and none answers for another."""

import asyncio
import threading

import postgres_server
import psycopg
import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.store.base import GetOp, PutOp
from waiting_calls import at_once

from plan_execute import postgres_persistence
from plan_execute.errors import StorageError, ThreadBusyError
from plan_execute.storage.calls import Access


@pytest.fixture
def url():
    return postgres_server.server().new_schema()


@pytest.fixture
def storage(url):
    with postgres_persistence(url) as opened:
        yield opened


def results(thread):
    return ("plan_execute", "results", thread, "p")


def put(storage, thread, value=None):
    return storage.store.abatch([PutOp(results(thread), "k", {"v": thread} if value is None else value)])


def written(url):
    """Return the threads with a row, each with the transaction that wrote it."""
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT split_part(prefix, '.', 3), xmin::text FROM store").fetchall()
    return dict(rows)


async def together(storage, *calls):
    """Let the calls wait for the thread that shares, then let them in; return what each got."""
    return await at_once(storage.store.shared.sharing, *calls)


def in_the_middle(storage, work):
    """Make a call of work that is done once, however often the call runs; it shares a transaction."""
    done = threading.Event()

    def once():
        if not done.is_set():
            done.set()
            work()

    async def call():
        await storage.store.shared.sharing.call(once, Access.WRITE)

    return call()


async def test_writes_that_wait_together_are_committed_together(storage, url):
    config = {"configurable": {"thread_id": "t0", "checkpoint_ns": ""}}
    saved = storage.checkpointer.aput(config, empty_checkpoint(), {}, {})
    *done, kept = await together(storage, *(put(storage, f"t{n}") for n in range(5)), saved)
    assert done == [[None]] * 5
    found = written(url)
    assert sorted(found) == [f"t{n}" for n in range(5)]
    assert len({*found.values()}) == 1
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT checkpoint_id, xmin::text FROM checkpoints").fetchall()
    assert rows == [(kept["configurable"]["checkpoint_id"], found["t0"])]


async def test_a_write_that_fails_fails_alone(storage, url):
    writes = [put(storage, f"t{n}", {"v": object()} if n == 2 else None) for n in range(5)]
    got = await together(storage, *writes)
    assert [isinstance(each, Exception) for each in got] == [n == 2 for n in range(5)]
    assert sorted(written(url)) == ["t0", "t1", "t3", "t4"]


async def test_who_lost_its_thread_writes_nothing_and_the_others_do(storage, url):
    with psycopg.connect(url, autocommit=True) as connection:
        async with (
            storage.checkpointer.hold_thread("t1"),
            storage.checkpointer.hold_thread("t2"),
            storage.checkpointer.hold_thread("t3"),
        ):
            connection.execute("DELETE FROM plan_execute_runners WHERE thread_id = 't2'")
            got = await together(storage, *(put(storage, f"t{n}") for n in (1, 2, 3)))
    assert [type(each) for each in got] == [list, ThreadBusyError, list]
    assert sorted(written(url)) == ["t1", "t3"]


async def test_the_loss_of_the_session_that_holds_fails_only_writes_of_its_threads(storage, url):
    async with storage.checkpointer.hold_thread("t1"):
        session = storage.store.shared.locks._session
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(%s, 10000)", [session.info.backend_pid])
        got = await together(storage, put(storage, "t1"), put(storage, "t2"))
    assert [type(each) for each in got] == [StorageError, list]
    assert sorted(written(url)) == ["t2"]


async def test_who_waits_for_a_lock_holds_up_nobody_else(storage, url):
    await put(storage, "t1")
    with psycopg.connect(url) as other:
        other.execute("SELECT 1 FROM store FOR UPDATE")
        waits = asyncio.ensure_future(put(storage, "t1", {"v": "new"}))
        others = [put(storage, f"o{n}") for n in range(20)]
        assert await asyncio.wait_for(asyncio.gather(*others), 20) == [[None]] * 20
        assert not waits.done()
    assert await waits == [None]
    assert (await storage.store.aget(results("t1"), "k")).value == {"v": "new"}


async def test_processes_that_write_the_same_rows_in_another_order_both_end(storage, url):
    meet = threading.Barrier(2)
    with postgres_persistence(url) as other:
        got = await asyncio.gather(
            *(
                together(who, put(who, first), in_the_middle(who, lambda: meet.wait(10)), put(who, second))
                for who, first, second in ((storage, "t1", "t2"), (other, "t2", "t1"))
            )
        )
    assert got == [[[None], None, [None]]] * 2
    assert sorted(written(url)) == ["t1", "t2"]


async def test_a_connection_that_is_lost_between_writes_loses_none_of_them(storage, url):
    def lose():
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
                " WHERE application_name = 'plan_execute' AND query LIKE 'INSERT INTO store%'"
            )

    got = await together(storage, put(storage, "t1"), in_the_middle(storage, lose), put(storage, "t2"))
    assert got == [[None], None, [None]]
    assert sorted(written(url)) == ["t1", "t2"]


async def test_all_wait_for_the_disk_if_one_must():
    url = postgres_server.server().new_schema() + "%20-csynchronous_commit%3Doff"
    with postgres_persistence(url) as storage:
        shared = storage.store.shared

        def setting():
            with shared.transaction() as cursor:
                return cursor.execute("SELECT current_setting('synchronous_commit')").fetchone()[0]

        async def look(access):
            return await shared.sharing.call(setting, access)

        assert await together(storage, look(Access.WRITE)) == ["off"]
        assert await together(storage, look(Access.WRITE), look(Access.DURABLE)) == ["on", "on"]


async def test_what_was_written_is_there_when_the_call_returns(storage):
    async def write_and_read(n):
        await put(storage, f"t{n}")
        return (await storage.store.aget(results(f"t{n}"), "k")).value

    assert await asyncio.gather(*map(write_and_read, range(60))) == [{"v": f"t{n}"} for n in range(60)]


@pytest.mark.parametrize("fault", [None, object()])
async def test_who_gives_up_waits_for_the_end_of_its_write_and_so_does_idle(storage, url, fault):
    taken, free = threading.Event(), threading.Event()
    slow = storage.store.shared.sharing.call(lambda: [taken.set(), free.wait(10)], Access.WRITE)
    assert await asyncio.to_thread(taken.wait, 10)
    gone = asyncio.ensure_future(put(storage, "gone"))
    beside = asyncio.ensure_future(put(storage, "beside", fault and {"v": fault}))
    await asyncio.sleep(0)
    gone.cancel()
    idle = asyncio.ensure_future(storage.store._bridge.idle())
    await asyncio.sleep(0.05)
    assert not gone.done()
    assert not idle.done()
    free.set()
    await idle
    assert "gone" in written(url)
    with pytest.raises(asyncio.CancelledError):
        await gone
    await asyncio.gather(slow, beside, return_exceptions=True)


async def test_closing_waits_for_writes_under_way_and_refuses_later_ones(url):
    async with postgres_persistence(url) as storage:
        writing = [asyncio.ensure_future(put(storage, f"t{n}")) for n in range(20)]
        await asyncio.sleep(0)
    assert await asyncio.gather(*writing) == [[None]] * 20
    with pytest.raises(StorageError, match="is closed"):
        await put(storage, "late")
    assert len(written(url)) == 20


def test_event_loops_of_several_threads_share_it(storage, url):
    async def write(name):
        for n in range(20):
            await put(storage, f"{name}{n}")

    threads = [threading.Thread(target=lambda name=name: asyncio.run(write(name))) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(written(url)) == 60


def test_only_writes_of_a_threads_records_share(storage):
    access_of = storage.store.wrapped.access_of
    ours, read = PutOp(results("t"), "k", {}), GetOp(results("t"), "k")
    settings = PutOp(("plan_execute", "threads", "t"), "k", {})
    assert access_of([ours, settings]) is Access.DURABLE
    assert access_of([settings]) is Access.WRITE
    for namespace in (("plan_execute", "history"), ("plan_execute", "artifacts", "t"), ("a", "tool's")):
        assert access_of([ours, PutOp(namespace, "k", {})]) is Access.ALONE
    assert access_of([ours, read]) is Access.ALONE
