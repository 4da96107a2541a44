"""A thread has one runner over all processes of a database; the server frees it when its runner dies."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time

import postgres_server
import psycopg
import pytest

from plan_execute import postgres_persistence
from plan_execute.errors import ThreadBusyError
from plan_execute.storage.postgres_locks import ThreadLocks

HOLD = (
    "import sys, time\n"
    "from plan_execute import postgres_persistence\n"
    "with postgres_persistence(sys.argv[1]) as (saver, _), saver.thread_lock('t'):\n"
    "    print('held', flush=True)\n"
    "    time.sleep(60)\n"
)


@pytest.fixture
def url():
    return postgres_server.server().new_schema()


@pytest.fixture
def saver(url):
    with postgres_persistence(url) as (saver, _):
        yield saver


def take(saver, thread="t"):
    with saver.thread_lock(thread):
        pass


def test_who_comes_second_is_told_at_once_who_has_it(url, saver):
    with postgres_persistence(url) as (other, _), saver.thread_lock("t"):
        with pytest.raises(ThreadBusyError, match=rf"'t' .* by process {os.getpid()} on .* since 20\d\d-"):
            take(other)
        take(other, "another")
    take(saver)


def test_the_same_process_is_told_too(saver):
    with saver.thread_lock("t"), pytest.raises(ThreadBusyError, match="this process"):
        take(saver)


def test_threads_of_other_schemas_have_locks_of_their_own(saver):
    url = postgres_server.server().new_schema()
    with postgres_persistence(url) as (other, _), saver.thread_lock("t"):
        take(other)


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_frees_the_threads_of_a_process_that_dies(url, saver, sign):
    process = subprocess.Popen([sys.executable, "-c", HOLD, url], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ThreadBusyError, match=f"process {process.pid}"):
            take(saver)
        process.send_signal(sign)
        process.wait(60)
        deadline = time.monotonic() + 60
        while True:
            try:
                take(saver)
                break
            except ThreadBusyError:
                assert time.monotonic() < deadline
                time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_nothing_is_left_behind_when_it_is_released(url, saver):
    with saver.thread_lock("t"):
        pass
    schema = url.rpartition("%3D")[2]
    assert postgres_server.server().execute(f"SELECT * FROM {schema}.plan_execute_runners") == []


def test_leaving_while_a_thread_is_held_frees_it(url):
    with postgres_persistence(url) as (saver, _):
        lock = saver.thread_lock("t")
        lock.__enter__()
    with postgres_persistence(url) as (saver, _):
        take(saver)


def test_of_many_takers_at_once_one_has_it(url, saver):
    inside, most, busy = [], [], []

    def try_it():
        try:
            with saver.thread_lock("t"):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.05)
                inside.pop()
        except ThreadBusyError:
            busy.append(1)

    takers = [threading.Thread(target=try_it) for _ in range(10)]
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join()
    assert set(most) == {1}
    assert len(most) + len(busy) == 10


async def test_a_taker_that_is_cancelled_holds_nothing(saver):
    async def take_async():
        async with saver.hold_thread("t"):
            await asyncio.sleep(60)

    for delay in (0.0, 0.0005, 0.002, 0.005, 0.02):
        taking = asyncio.create_task(take_async())
        await asyncio.sleep(delay)
        taking.cancel()
        await asyncio.wait({taking})
        async with saver.hold_thread("t"):
            pass


def test_who_holds_a_thread_is_told_at_once_to_stop_and_no_other(url):
    told, other = threading.Event(), threading.Event()
    # nothing but a signal could come in time: the lease is renewed after 20 minutes
    with postgres_persistence(url, lease_s=3600) as (saver, _), postgres_persistence(url) as (boss, _):
        with saver.thread_lock("t") as hold, saver.thread_lock("u") as beside:
            hold.watch(told.set)
            beside.watch(other.set)
            asyncio.run(boss.signal_stop("t"))
            assert told.wait(60)
        assert not other.is_set()
        assert hold.loss is None


def test_a_request_that_comes_before_the_run_listens_is_kept(url):
    with postgres_persistence(url) as (saver, _), postgres_persistence(url) as (boss, _):
        with saver.thread_lock("t") as hold:
            asyncio.run(boss.signal_stop("t"))
            assert hold.must_stop.wait(60)
            told = threading.Event()
            hold.watch(told.set)
            assert told.is_set()
        with saver.thread_lock("t") as again:
            assert not again.must_stop.is_set()


def test_who_loses_its_session_is_told_at_once_and_hears_again_with_the_next_one(url):
    told = threading.Event()
    with postgres_persistence(url, lease_s=3600) as (saver, _), postgres_persistence(url) as (boss, _):
        with saver.thread_lock("t") as hold:
            hold.watch(told.set)
            postgres_server.server().execute(f"SELECT pg_terminate_backend({hold.backend}, 10000)")
            assert told.wait(60)
            assert "was lost" in str(hold.loss)
        with saver.thread_lock("t") as hold:
            asyncio.run(boss.signal_stop("t"))
            assert hold.must_stop.wait(60)
            assert hold.loss is None


class EndsWhenListenedTo(psycopg.Connection):
    """A session that ends at the worst moment, once one has seen that it is open."""

    def fileno(self):
        self.close()
        return super().fileno()


def test_a_session_that_ends_just_before_it_is_listened_to_is_noticed_and_leases_go_on(url):
    kinds, told = [psycopg.Connection, EndsWhenListenedTo], threading.Event()
    with postgres_persistence(url):  # makes the tables
        locks = ThreadLocks(
            lambda: kinds.pop().connect(url, autocommit=True), lambda: None, "the database", lease_s=3600
        )
    try:
        with locks.hold("t") as hold:
            hold.watch(told.set)
            assert told.wait(60)
            assert "was lost" in str(hold.loss)
        with locks.hold("t") as hold, psycopg.connect(url, autocommit=True) as boss:
            locks.signal_stop(boss, "t")
            assert hold.must_stop.wait(60)
            assert hold.loss is None
    finally:
        locks.close()


def test_a_look_leaves_who_ran_a_thread_before_to_the_next_runner(url, saver):
    with postgres_persistence(url) as (other, _), other.thread_lock("t") as lost:
        assert asyncio.run(saver.is_held("t"))
        assert not asyncio.run(saver.is_held("another"))
        postgres_server.server().execute(f"SELECT pg_terminate_backend({lost.backend}, 10000)")
        assert not asyncio.run(saver.is_held("t"))
        with saver.thread_lock("t") as hold:
            assert hold.former["runner"].startswith(f"process {os.getpid()} on ")


def test_a_look_ends_no_runner_that_was_suspended(url, saver):
    with postgres_persistence(url, lease_s=3600) as (other, _), other.thread_lock("t") as hold:
        with saver.shared.connection() as connection:
            row = "plan_execute_runners WHERE thread_id = 't'"
            renewed = f"SELECT until > since + interval '1 hour' AS yes FROM {row}"
            while not connection.execute(renewed).fetchone()[0]:  # once, as it begins
                time.sleep(0.005)
            connection.execute("UPDATE plan_execute_runners SET until = now() - interval '1 second'")
        assert not asyncio.run(saver.is_held("t"))
        assert hold.session.execute("SELECT 1").fetchone() == (1,)
        assert hold.loss is None
