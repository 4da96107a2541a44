"""A PostgreSQL database keeps threads for many processes; a wrong one is refused with a reason."""

import asyncio
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TypedDict

import postgres_server
import psycopg
import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.graph import START, StateGraph
from langgraph.store.base import PutOp

from plan_execute import Context, create_plan_execute_agent, postgres_persistence
from plan_execute.errors import (
    ConfigurationError,
    InvalidInputError,
    SchemaVersionError,
    StorageDamagedError,
    StorageError,
)
from plan_execute.storage import postgres
from plan_execute.storage.ledger import Ledger
from plan_execute.storage.persistence import Persistence
from plan_execute.storage.thread_names import list_threads
from plan_execute.threads.deletion import delete_thread

TABLES = {
    "checkpoint_blobs",
    "checkpoint_migrations",
    "checkpoint_writes",
    "checkpoints",
    "plan_execute_migrations",
    "plan_execute_runners",
    "store",
    "store_migrations",
}


@pytest.fixture
def server():
    return postgres_server.server()


@pytest.fixture
def url(server):
    return server.new_schema()


@pytest.fixture
def persistence(url):
    with postgres_persistence(url) as persistence:
        yield persistence


def execute(url, statement):
    with psycopg.connect(url, autocommit=True) as connection:
        done = connection.execute(statement)
        return done.fetchall() if done.description else []


def tables(url):
    names = execute(url, "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
    return {name for (name,) in names}


def config(thread="t"):
    return {"configurable": {"thread_id": thread}}


class State(TypedDict):
    text: str
    turn: int


def counting(saver, turns=3):
    graph = StateGraph(State)
    graph.add_node("count", lambda state: {"turn": state["turn"] + 1})
    graph.add_edge(START, "count")
    graph.add_conditional_edges("count", lambda state: "count" if state["turn"] % turns else "__end__")
    return graph.compile(checkpointer=saver)


# --- what it does ------------------------------------------------------------------------


def test_what_one_process_keeps_another_one_finds_sync_or_async(url):
    with postgres_persistence(url) as (saver, store):
        counting(saver).invoke({"text": "a", "turn": 0}, config())
        store.put(("a",), "k", {"v": 1})

    async def look():
        async with postgres_persistence(url) as (saver, store):
            state = await counting(saver).aget_state(config())
            return state.values, (await store.aget(("a",), "k")).value

    assert asyncio.run(look()) == ({"text": "a", "turn": 3}, {"v": 1})


def test_it_makes_its_tables_where_the_address_says(url, server):
    before = tables(server.url())
    with postgres_persistence(url):
        assert tables(url) == TABLES
    assert tables(server.url()) == before


def test_processes_that_open_an_empty_database_at_once_all_get_it(url):
    with ThreadPoolExecutor(6) as pool, ExitStack() as stack:
        opened = list(pool.map(lambda _: stack.enter_context(postgres_persistence(url)), range(6)))
        assert len(opened) == 6
        assert tables(url) == TABLES


async def test_langgraphs_conformance_suite_passes(server):
    @checkpointer_test(name="PooledSaver", skip_capabilities={"delete_for_runs", "copy_thread"})
    async def fresh():
        async with postgres_persistence(server.new_schema()) as (saver, _):
            yield saver

    report = await validate(fresh)
    failures = {name: result.failures for name, result in report.results.items() if result.failures}
    assert failures == {}
    assert report.passed_all_base()


@pytest.mark.parametrize("text", ["a NUL \0 amid", "Grüße 你好 🎉", ""])
def test_any_text_comes_back_as_it_was(persistence, text):
    graph = counting(persistence.checkpointer)
    graph.invoke({"text": text, "turn": 0}, config())
    graph.invoke({"turn": 3}, config())
    assert graph.get_state(config()).values == {"text": text, "turn": 6}
    assert {state.values["text"] for state in graph.get_state_history(config()) if state.values} == {text}


def test_a_goal_with_a_nul_is_run(persistence):
    agent = create_plan_execute_agent(None, **persistence._asdict())
    step = {"id": "a", "task": "wait", "call": {"tool": "none", "args": {}}}
    values = agent.invoke({"plan": {"goal": "a\0b", "steps": [step]}}, config(), context=Context())
    assert values["goal"] == "a\0b"
    assert agent.get_state(config()).values["goal"] == "a\0b"


def test_a_text_with_a_lone_surrogate_is_kept_as_locally(persistence):
    place = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    checkpoint = empty_checkpoint() | {"channel_values": {"a": "x\ud800"}, "channel_versions": {"a": "1"}}
    stored = persistence.checkpointer.put(place, checkpoint, {}, {"a": "1"})
    found = persistence.checkpointer.get_tuple(stored)
    assert found.checkpoint["channel_values"] == {"a": "x?"}


def test_forks_of_a_program_that_seeds_its_dice_do_not_share_values(persistence):
    graph = counting(persistence.checkpointer)
    graph.invoke({"text": "a", "turn": 0}, config())
    start = list(graph.get_state_history(config()))[-1].config
    forks = []
    for text in ("left", "right"):
        random.seed(7)
        forks.append(graph.update_state(start, {"text": text * 100, "turn": 0}, as_node="count"))
    assert [graph.get_state(fork).values["text"][:4] for fork in forks] == ["left", "righ"]


def test_a_history_may_be_read_while_other_calls_are_made_on_one_connection(url):
    with postgres_persistence(url, pool_size=1) as (saver, _):
        graph = counting(saver)
        graph.invoke({"text": "a", "turn": 0}, config())
        turns = [
            graph.get_state(state.config).values.get("turn") for state in graph.get_state_history(config())
        ]
        assert turns == [3, 2, 1, 0, None]


def test_threads_are_listed_newest_first_and_deleted_with_their_ledger(persistence, url):
    saver, store = persistence
    for thread in ("t1", "t10"):
        counting(saver).invoke({"text": "a", "turn": 0}, config(thread))
        asyncio.run(Ledger(store, thread).record_settings({"approval": "never"}))
    assert [thread for thread, _ in list_threads(saver)] == ["t10", "t1"]
    delete_thread(Persistence(saver, store), "t1")
    assert [thread for thread, _ in list_threads(saver)] == ["t10"]
    assert asyncio.run(Ledger(store, "t1").opening()).settings is None
    assert asyncio.run(Ledger(store, "t10").opening()).settings == {"approval": "never"}
    for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes"):
        assert execute(url, f"SELECT count(*) FROM {table} WHERE thread_id = 't1'") == [(0,)]


def test_a_batch_is_written_whole_or_not_at_all(persistence):
    puts = [PutOp(("a",), "good", {"v": 1}), PutOp(("a",), "bad", {"v": "\0"})]
    with pytest.raises(psycopg.DataError):
        persistence.store.batch(puts)
    assert persistence.store.search(("a",)) == []


@pytest.mark.parametrize("kind", ["effects", "results", "artifacts"])
def test_the_ledger_is_on_the_disk_even_where_commits_do_not_wait_for_it(url, kind):
    """What a transaction has set is seen from inside it, by a trigger."""
    with postgres_persistence(url.replace("?options=", "?options=-csynchronous_commit%3Doff%20")) as (
        _,
        store,
    ):
        execute(
            url,
            "CREATE TABLE seen (setting text); CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
            " $$BEGIN INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NEW; END$$;"
            " CREATE TRIGGER note BEFORE INSERT ON store FOR EACH ROW EXECUTE FUNCTION note()",
        )
        store.put(("plan_execute", kind, "t", "p"), "k", {})
    assert execute(url, "SELECT setting FROM seen") == [("off" if kind == "artifacts" else "on",)]


def test_a_pool_of_one_serves_parallel_steps(url):
    with postgres_persistence(url, pool_size=1) as persistence, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: persistence.store.put(("a",), str(n), {"n": n}), range(50)))
        assert len(persistence.store.search(("a",), limit=100)) == 50


# --- what it refuses ---------------------------------------------------------------------


def refused(address, kind, match):
    with pytest.raises(kind, match=match) as caught:
        postgres_persistence(address).__enter__()
    assert type(caught.value) is kind
    return str(caught.value)


@pytest.mark.parametrize("address", ["threads.db", "", "http://h/db", "postgresql://u:sec%ret@h/db"])
def test_what_is_no_address_is_refused_without_repeating_it(address):
    if address:
        assert "sec%ret" not in refused(
            address, ConfigurationError, "not the address of a PostgreSQL database"
        )


def test_a_pool_needs_a_connection(url):
    with pytest.raises(ConfigurationError, match="pool_size"):
        postgres_persistence(url, pool_size=0)


def test_a_server_that_cannot_be_reached_is_named_without_the_password():
    address = f"postgresql://user:secret@127.0.0.1:{postgres_server.free_port()}/db"
    message = refused(address, StorageError, r"user@127.0.0.1:\d+/db cannot be reached .*nothing was changed")
    assert "secret" not in message


def test_a_wrong_password_or_database_says_so(server):
    wrong = server.url(password="not it")
    assert "not it" not in refused(wrong, StorageError, "password authentication failed")
    refused(server.url(database="nowhere"), StorageError, 'database "nowhere" does not exist')


@pytest.mark.parametrize("table", ["checkpoints", "store", "plan_execute_runners"])
def test_a_table_of_something_else_is_left_alone(url, table):
    execute(url, f"CREATE TABLE {table} (mine text)")
    refused(url, StorageError, f"has a table of another program .{table}.; nothing was changed")
    assert tables(url) == {table}


def test_a_table_of_migrations_of_something_else_is_left_alone(url):
    execute(url, "CREATE TABLE store_migrations (name text)")
    refused(url, StorageError, "has a table of another program .store_migrations.; nothing was changed")
    assert tables(url) == {"store_migrations"}


@pytest.mark.parametrize("counter", ["checkpoint_migrations", "store_migrations", "plan_execute_migrations"])
def test_a_newer_format_is_refused(url, counter):
    with postgres_persistence(url):
        pass
    execute(url, f"INSERT INTO {counter} VALUES (99)")
    refused(
        url, SchemaVersionError, f"has version 99 .*{counter}.* knows versions up to .*nothing was changed"
    )


@pytest.mark.parametrize("table", ["checkpoint_blobs", "store", "plan_execute_runners"])
def test_a_missing_table_is_refused_and_not_made_anew(url, table):
    with postgres_persistence(url):
        pass
    execute(url, f"DROP TABLE {table}")
    refused(url, StorageDamagedError, f"lacks the table {table}; nothing was changed")
    assert tables(url) == TABLES - {table}


def test_a_table_that_vanishes_amid_a_run_is_named_as_damage(persistence, url):
    execute(url, "DROP TABLE store")
    with pytest.raises(StorageDamagedError, match=r'lacks a table .*"store"'):
        persistence.store.get(("a",), "k")


def test_an_older_format_of_langgraphs_tables_is_brought_up_to_date(url):
    with postgres_persistence(url):
        pass
    execute(url, "DELETE FROM checkpoint_migrations WHERE v = 9")
    execute(url, "ALTER TABLE checkpoint_writes DROP COLUMN task_path")
    with postgres_persistence(url) as (saver, _):
        assert counting(saver).invoke({"text": "a", "turn": 0}, config())["turn"] == 3


def test_the_tables_of_an_embedder_who_used_langgraphs_own_saver_are_taken_over(url):
    with postgres.PostgresSaver.from_conn_string(url) as plain:
        plain.setup()
        counting(plain).invoke({"text": "a", "turn": 0}, config())
    with postgres_persistence(url) as (saver, _):
        assert counting(saver).get_state(config()).values["turn"] == 3


def test_a_read_only_database_a_standby_for_example_is_refused(url):
    address = url.replace("?options=", "?options=-cdefault_transaction_read_only%3Don%20")
    refused(address, StorageError, "is read-only")
    assert tables(url) == set()


def test_a_search_path_without_a_schema_is_refused(server):
    refused(server.url("not_there"), StorageError, "no schema to keep tables in .*not_there")


def test_a_user_who_may_not_make_tables_is_told(server, url):
    schema = url.rsplit("%3D", 1)[1]
    server.execute(f"CREATE ROLE visitor_{schema} LOGIN PASSWORD 'visit'")
    server.execute(f"GRANT USAGE ON SCHEMA {schema} TO visitor_{schema}")
    address = server.url(schema, user=f"visitor_{schema}", password="visit")
    refused(address, StorageError, "does not allow this user what is needed .*permission denied")


def test_a_user_who_may_only_use_the_tables_needs_no_more(server, url):
    with postgres_persistence(url):
        pass
    schema = url.rsplit("%3D", 1)[1]
    server.execute(f"CREATE ROLE worker_{schema} LOGIN PASSWORD 'work'")
    server.execute(f"GRANT USAGE ON SCHEMA {schema} TO worker_{schema}")
    server.execute(
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO worker_{schema}"
    )
    address = server.url(schema, user=f"worker_{schema}", password="work")
    with postgres_persistence(address) as (saver, _), saver.thread_lock("t"):
        assert counting(saver).invoke({"text": "a", "turn": 0}, config())["turn"] == 3


def test_an_encoding_that_cannot_hold_every_text_is_refused(server):
    server.execute("CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII'")
    refused(server.url(database="ascii"), StorageError, "SQL_ASCII; UTF8 is needed")


def test_a_server_that_is_too_old_is_refused(url, monkeypatch):
    monkeypatch.setattr(postgres, "OLDEST_SERVER", 99)
    refused(url, StorageError, r"is PostgreSQL \d+; 99 or newer is needed")
    assert tables(url) == set()


def test_use_after_the_end_and_a_second_opening_are_refused(url):
    persistence = postgres_persistence(url)
    with persistence as (saver, store), pytest.raises(ConfigurationError, match="already open"):
        persistence.__enter__()
    with pytest.raises(StorageError, match="is closed: use it inside its `with` block"):
        store.get(("a",), "k")
    with pytest.raises(StorageError, match="is closed: use it inside its `with` block"):
        saver.get_tuple(config())
    with (
        pytest.raises(StorageError, match="is closed: use it inside its `with` block"),
        saver.thread_lock("t"),
    ):
        pass


@pytest.mark.parametrize("thread", ["a\0b", "\ud800"])
def test_a_thread_id_that_postgresql_cannot_keep_is_refused(persistence, thread):
    with (
        pytest.raises(InvalidInputError, match="the thread_id holds"),
        persistence.checkpointer.thread_lock(thread),
    ):
        pass


def test_without_the_extra_the_error_names_it():
    code = "import sys; sys.modules['psycopg'] = None; import plan_execute as p; p.postgres_persistence('')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "ConfigurationError: PostgreSQL needs an extra" in done.stderr
    assert "pip install 'plan-execute[postgres]'" in done.stderr


def test_many_writes_are_stored_in_order_and_a_second_time_change_nothing(url):
    with postgres_persistence(url) as (saver, _):
        place = saver.put(
            {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}, empty_checkpoint(), {"step": 1}, {}
        )
        writes = [(f"c{n}", n) for n in range(50)]
        saver.put_writes(place, writes, "task")
        saver.put_writes(place, [("c0", "other"), *writes[1:], ("more", 50)], "task")
        found = saver.get_tuple(place).pending_writes
    assert found == [("task", *write) for write in [*writes, ("more", 50)]]
