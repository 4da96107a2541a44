"""One file holds checkpoints and store, private, and is used from everywhere at once without a lock error."""

import asyncio
import logging
import os
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypedDict

import pytest
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Interrupt, Send, interrupt

from plan_execute.errors import ConfigurationError, StorageError
from plan_execute.storage import sqlite as local
from plan_execute.storage.effect_log import EffectLog
from plan_execute.storage.ids import CallId, Place, WorkId
from plan_execute.storage.ledger import Ledger
from plan_execute.storage.persistence import Persistence, local_persistence
from plan_execute.storage.thread_names import list_threads
from plan_execute.threads.deletion import delete_thread


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.db"


def config(thread_id, namespace=""):
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": namespace}}


def keep(saver, thread_id, values=None, namespace=""):
    checkpoint = empty_checkpoint() | {"channel_values": values or {}}
    return saver.put(config(thread_id, namespace), checkpoint, {"step": 1}, {})


class State(TypedDict):
    answer: str


def asking_graph(persistence):
    graph = StateGraph(State)
    graph.add_node("ask", lambda _: {"answer": interrupt("why?")})
    graph.add_edge(START, "ask")
    return graph.compile(checkpointer=persistence.checkpointer, store=persistence.store)


def test_a_graph_asks_in_one_opening_and_is_answered_in_another_sync_then_async(path):
    with local_persistence(path) as persistence:
        assert isinstance(persistence, Persistence)
        asking_graph(persistence).invoke({"answer": ""}, config("t"))

    async def answer():
        async with local_persistence(path) as (checkpointer, store):
            graph = asking_graph(Persistence(checkpointer, store))
            assert (await graph.aget_state(config("t"))).interrupts[0].value == "why?"
            return await graph.ainvoke(Command(resume="because"), config("t"))

    assert asyncio.run(answer()) == {"answer": "because"}


def test_one_opening_serves_two_event_loops_one_after_the_other(path):
    with local_persistence(path) as (checkpointer, store):
        for number in range(2):
            asyncio.run(Ledger(store, "t").record_result("p", f"s{number}", "f", {}))
            assert asyncio.run(checkpointer.aget_tuple(config("t"))) is None
        assert len(asyncio.run(Ledger(store, "t").results("p"))) == 2


async def test_a_thousand_writes_from_two_connections_and_many_tasks_meet_no_lock(path):
    async with local_persistence(path) as one, local_persistence(path) as two:

        async def work(persistence, name):
            ledger = Ledger(persistence.store, name)
            for number in range(25):
                await persistence.checkpointer.aput(
                    config(name), empty_checkpoint() | {"channel_values": {"x": "y" * 2000}}, {}, {}
                )
                await ledger.record_result("p", f"s{number}", "f", {"output": "y" * 2000})
                work = WorkId(name, "p", (Place(f"s{number}", None, 1),))
                await ledger.record_effect(CallId(work, "c"), {"tool": "tool"})
                assert await ledger.result("p", f"s{number}", "f")

        await asyncio.gather(*(work((one, two)[n % 2], f"t{n}") for n in range(14)))
        assert len(list(list_threads(one.checkpointer))) == 14
        for n in range(14):
            assert len(await Ledger(two.store, f"t{n}").results("p")) == 25


def test_files_and_folders_are_private_although_the_umask_is_open(tmp_path):
    before = os.umask(0)
    try:
        path = tmp_path / "new" / "folder" / "runs.db"
        with local_persistence(path) as persistence:
            keep(persistence.checkpointer, "t")
            persistence.store.put(("plan_execute", "results", "t"), "k", {})
            with local.thread_lock(path, "t"):
                modes = {entry.name: entry.stat().st_mode & 0o777 for entry in path.parent.iterdir()}
                assert modes.pop("runs.db.locks") == 0o700
                assert modes == dict.fromkeys(
                    ["runs.db", "runs.db-wal", "runs.db-shm", "runs.db-commits"], 0o600
                )
                locks = [*path.with_name("runs.db.locks").iterdir()]
                assert [lock.stat().st_mode & 0o777 for lock in locks] == [0o600, 0o600]
        left = {entry.name for entry in path.parent.iterdir()}
        assert left == {"runs.db", "runs.db-commits", "runs.db.locks"}
    finally:
        os.umask(before)


def test_a_name_with_url_characters_is_a_plain_file_name(tmp_path):
    path = tmp_path / "a?mode=ro&b#c %41 é.db"
    for _ in range(2):
        with local_persistence(path) as persistence:
            keep(persistence.checkpointer, "t")
    assert path.exists()


def test_the_file_is_written_ahead_and_belongs_to_us(path):
    with local_persistence(path) as persistence, closing(sqlite3.connect(path)) as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert other.execute("PRAGMA application_id").fetchone() == (local.APPLICATION_ID,)
        assert other.execute("PRAGMA user_version").fetchone() == (local.DATABASE_VERSION,)
        assert persistence.checkpointer.database == path


LEVELS = {
    "approvals": 2,
    "results": 2,
    "attempts": 2,
    "items": 2,
    "answers": 2,
    "effects": 2,
    "threads": 1,
    "artifacts": 1,
}


@pytest.mark.parametrize(("namespace", "level"), LEVELS.items())
def test_the_rows_that_promises_rest_on_wait_for_the_disk_and_checkpoints_do_not(path, namespace, level):
    with local_persistence(path) as (checkpointer, store):
        connection = checkpointer.shared.connection
        store.put(("plan_execute", namespace, "t", "p"), "k", {"v": 1})
        assert connection.execute("PRAGMA synchronous").fetchone() == (level,)
        keep(checkpointer, "t")
        assert connection.execute("PRAGMA synchronous").fetchone() == (1,)


MESSAGES = [
    HumanMessage("hi", id="1"),
    SystemMessage("be brief"),
    AIMessage("", tool_calls=[{"name": "f", "args": {"x": 1}, "id": "c"}], usage_metadata=None),
    ToolMessage("out", tool_call_id="c", artifact={"a": 1}),
    RemoveMessage(id="1"),
]


def test_messages_and_langgraphs_own_types_come_back_without_a_warning(path, caplog, recwarn):
    values = {
        "messages": MESSAGES,
        "send": Send("node", {"x": [1]}),
        "interrupt": Interrupt(value={"q": 1}, id="i"),
        "command": Command(resume={"i": 1}, goto="n", update={"a": None}),
        "plain": {"n": 2**60, "f": 1.5, "t": "é", "none": None, "time": datetime(2026, 1, 1, tzinfo=UTC)},
    }
    with caplog.at_level(logging.DEBUG), local_persistence(path) as persistence:
        keep(persistence.checkpointer, "t", values)
        found = persistence.checkpointer.get_tuple(config("t")).checkpoint["channel_values"]
    assert found == values
    assert [type(message) for message in found["messages"]] == [type(message) for message in MESSAGES]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert recwarn.list == []


@dataclass
class Unknown:
    value: int


def test_an_unknown_class_is_not_revived(path):
    with local_persistence(path) as persistence:
        keep(persistence.checkpointer, "t", {"x": Unknown(1)})
        found = persistence.checkpointer.get_tuple(config("t")).checkpoint["channel_values"]["x"]
    assert not isinstance(found, Unknown)
    with local_persistence(path) as persistence, pytest.raises(TypeError):
        keep(persistence.checkpointer, "t", {"x": lambda: 1})


def test_an_error_in_a_batch_leaves_nothing_of_it_and_the_next_one_works(path):
    with local_persistence(path) as (checkpointer, store):
        with pytest.raises(TypeError):
            checkpointer.put_writes(
                config("t") | {"configurable": config("t")["configurable"] | {"checkpoint_id": "c"}},
                [("a", 1), ("b", lambda: 1)],
                "task",
            )
        with pytest.raises(TypeError):
            store.put(("n",), "k", {"v": object()})
        connection = checkpointer.shared.connection
        assert not connection.in_transaction
        assert connection.execute("SELECT count(*) FROM writes").fetchone() == (0,)
        store.put(("n",), "k", {"v": 1})
        assert store.get(("n",), "k").value == {"v": 1}


def test_a_file_locked_by_another_process_is_a_clear_error_and_then_works(path, monkeypatch):
    monkeypatch.setattr(local, "BUSY_TIMEOUT_S", 0.2)
    with local_persistence(path) as (_, store), closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(
            StorageError, match=r"runs\.db was locked by another process.*nothing was changed"
        ):
            store.put(("n",), "k", {"v": 1})
        assert store.get(("n",), "k") is None
        other.execute("ROLLBACK")
        store.put(("n",), "k", {"v": 1})


def test_a_full_disk_is_a_clear_error_and_keeps_what_was_there(path):
    with local_persistence(path) as (checkpointer, store):
        store.put(("n",), "k", {"v": 1})
        connection = checkpointer.shared.connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count={pages + 2}")
        with pytest.raises(StorageError, match="the disk is full"):
            store.put(("n",), "k", {"v": "x" * 100_000})
        assert store.get(("n",), "k").value == {"v": 1}


def test_use_after_closing_is_a_clear_error_and_double_use_too(path):
    persistence = local_persistence(path)
    with persistence as (checkpointer, store):
        with pytest.raises(ConfigurationError, match="already open"):
            persistence.__enter__()
        keep(checkpointer, "t")
    for call in (lambda: checkpointer.get_tuple(config("t")), lambda: store.get(("n",), "k")):
        with pytest.raises(StorageError, match="is closed"):
            call()
    with persistence as (checkpointer, _):
        assert checkpointer.get_tuple(config("t"))


def test_checkpoints_can_be_read_while_they_are_listed(path):
    with local_persistence(path) as (checkpointer, _):
        for _ in range(3):
            keep(checkpointer, "t")
        read = [checkpointer.get_tuple(entry.config) for entry in checkpointer.list(config("t"))]
        assert len(read) == 3


def test_threads_are_listed_newest_first_with_the_time_of_their_last_checkpoint(path):
    with local_persistence(path) as (checkpointer, _):
        assert list(list_threads(checkpointer)) == []
        for thread_id in ("a", "b", "c", "a"):
            keep(checkpointer, thread_id)
            keep(checkpointer, thread_id, namespace="inner:1")
        found = dict(list_threads(checkpointer))
        assert list(found) == ["a", "c", "b"]
        for thread_id, time in found.items():
            written = datetime.fromisoformat(checkpointer.get(config(thread_id))["ts"])
            assert abs(datetime.fromisoformat(time) - written) < timedelta(milliseconds=5)
        checkpoint = empty_checkpoint() | {"id": "by hand"}
        checkpointer.put(config("d"), checkpoint, {}, {})
        assert dict(list_threads(checkpointer))["d"] == ""


def test_deleting_a_thread_leaves_nothing_of_it_and_all_of_the_others(path):
    with local_persistence(path) as persistence:
        for thread_id in ("t1", "t10"):
            stored = keep(persistence.checkpointer, thread_id)
            persistence.checkpointer.put_writes(stored, [("a", 1)], "task")
            asyncio.run(Ledger(persistence.store, thread_id).record_result("p", "s", "f", {}))
        delete_thread(persistence, "t1")
        assert [thread_id for thread_id, _ in list_threads(persistence.checkpointer)] == ["t10"]
        assert asyncio.run(Ledger(persistence.store, "t1").results("p")) == {}
        assert len(asyncio.run(Ledger(persistence.store, "t10").results("p"))) == 1
        (writes,) = persistence.checkpointer.shared.connection.execute("SELECT count(*) FROM writes")
        assert writes == (1,)


def test_a_thread_is_deleted_whole_or_not_at_all(path):
    with local_persistence(path) as persistence:
        keep(persistence.checkpointer, "t")
        asyncio.run(Ledger(persistence.store, "t").record_result("p", "s", "f", {}))
        persistence.checkpointer.shared.connection.execute(
            "CREATE TRIGGER keep BEFORE DELETE ON store BEGIN SELECT RAISE(ABORT, 'kept'); END"
        )
        with pytest.raises(sqlite3.IntegrityError, match="kept"):
            delete_thread(persistence, "t")
        assert persistence.checkpointer.get_tuple(config("t"))


def test_two_event_loops_at_once_share_one_opening(path):
    async def work(persistence, name):
        ledger = Ledger(persistence.store, name)
        for number in range(50):
            await persistence.checkpointer.aput(config(name), empty_checkpoint(), {}, {})
            await ledger.record_result("p", f"s{number}", "f", {})
        return len(await ledger.results("p"))

    async def several(persistence, loop):
        return await asyncio.gather(*(work(persistence, f"{loop}-{n}") for n in range(3)))

    with local_persistence(path) as persistence, ThreadPoolExecutor(2) as loops:
        counts = list(loops.map(lambda loop: asyncio.run(several(persistence, loop)), ["a", "b"]))
        assert counts == [[50] * 3] * 2
        assert len(list(list_threads(persistence.checkpointer))) == 6


def test_two_processes_and_eight_threads_make_the_same_new_file(path):
    script = (
        "import sys\n"
        "from plan_execute.storage.persistence import local_persistence\n"
        "with local_persistence(sys.argv[1]) as (_, store):\n"
        "    for n in range(20): store.put(('n', sys.argv[2]), str(n), {'v': n})\n"
    )
    children = [subprocess.Popen([sys.executable, "-c", script, path, str(n)]) for n in range(2)]
    errors = []

    def open_it():
        try:
            with local_persistence(path):
                pass
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [child.wait(20) for child in children] == [0, 0]
    assert errors == []
    with local_persistence(path) as (_, store):
        assert len(store.search(("n",), limit=100)) == 40


def test_what_was_committed_survives_a_kill(path):
    script = (
        "import asyncio, os, signal, sys\n"
        "from plan_execute.storage.effect_log import EffectLog, EffectRecord\n"
        "from plan_execute.storage.ledger import Ledger\n"
        "from plan_execute.storage.persistence import local_persistence\n"
        "from plan_execute.storage.ids import CallId, Place, WorkId\n"
        "with local_persistence(sys.argv[1]) as (_, store):\n"
        "    call = CallId(WorkId('t', 'p', (Place('s', None, 1),)), 'c')\n"
        "    log = EffectLog(Ledger(store, 't'), is_new=True)\n"
        "    asyncio.run(log.begin(EffectRecord(call, 'pay', {})))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, path]).returncode == -9
    with local_persistence(path) as (_, store):
        (found,) = asyncio.run(EffectLog(Ledger(store, "t"), is_new=False).doubts("p"))
    assert (found.tool, found.step_id, found.outcome) == ("pay", "s", None)


def test_a_second_opening_in_this_process_does_not_drop_the_locks_of_the_first(path):
    # POSIX drops a process's locks on a file when it closes any descriptor of it
    script = (
        "import sqlite3, sys\n"
        "other = sqlite3.connect(sys.argv[1])\n"
        "other.execute(\"INSERT INTO store (prefix, key, value) VALUES ('n', 'k', '{}')\")\n"
        "other.commit()\n"
        "other.close()\n"
    )
    with local_persistence(path) as (_, store):
        with local_persistence(path):
            pass
        subprocess.run([sys.executable, "-c", script, path], check=True)
        assert path.with_name("runs.db-wal").exists()
        store.put(("n",), "k2", {})
        assert len(store.search(("n",))) == 2
