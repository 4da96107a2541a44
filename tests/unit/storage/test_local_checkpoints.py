"""A channel's value is in the file once per version, and every checkpoint of a thread comes back whole."""

import random
import sqlite3
from contextlib import closing
from itertools import chain
from typing import Annotated, TypedDict

import pytest
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, StateGraph

from plan_execute.errors import StorageDamagedError
from plan_execute.storage import sqlite as local
from plan_execute.storage.persistence import Persistence, local_persistence
from plan_execute.storage.thread_names import list_threads
from plan_execute.threads.deletion import delete_thread

BIG = "x" * 100_000


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.db"


@pytest.fixture(params=[None, bytes(range(32))], ids=["plain", "encrypted"])
def key(request):
    return request.param


@pytest.fixture
def persistence(path, key):
    with local_persistence(path, encryption_key=key) as persistence:
        yield persistence


@pytest.fixture
def saver(persistence):
    return persistence.checkpointer


def config(thread_id="t", namespace=""):
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": namespace}}


def put(saver, values, versions, place=None, new_versions=None):
    checkpoint = empty_checkpoint() | {"channel_values": values, "channel_versions": versions}
    return saver.put(
        place or config(), checkpoint, {"step": 1}, versions if new_versions is None else new_versions
    )


def values(saver, place):
    return saver.get_tuple(place).checkpoint["channel_values"]


def count(saver, table="checkpoint_blobs"):
    return saver.shared.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def joined(left, right):
    return [*left, *right]


class State(TypedDict):
    big: list[str]
    notes: Annotated[list[str], joined]
    turn: int


def counting(saver, turns=3):
    """Count up to ``turns``, with a big channel that never changes and one that grows."""
    graph = StateGraph(State)
    graph.add_node("count", lambda state: {"notes": [f"note {state['turn']}"], "turn": state["turn"] + 1})
    graph.add_edge(START, "count")
    graph.add_conditional_edges("count", lambda state: "count" if state["turn"] % turns else "__end__")
    return graph.compile(checkpointer=saver)


def history(graph, place):
    """Give what every checkpoint holds, newest first, without ids and times, which differ between savers."""
    return [
        (state.values, state.next, state.metadata["source"], state.metadata["step"], len(state.tasks))
        for state in graph.get_state_history(place)
    ]


async def test_langgraphs_conformance_suite_passes(tmp_path, key):
    numbers = iter(range(100))

    @checkpointer_test(name="LocalSaver", skip_capabilities={"delete_for_runs", "copy_thread", "prune"})
    async def fresh():
        async with local_persistence(tmp_path / f"{next(numbers)}.db", encryption_key=key) as (saver, _):
            yield saver

    report = await validate(fresh)
    failures = {name: result.failures for name, result in report.results.items() if result.failures}
    assert failures == {}
    assert report.passed_all_base()


def test_a_value_is_stored_once_whatever_number_of_checkpoints_has_it(path, saver):
    counting(saver, 50).invoke({"big": [BIG], "notes": [], "turn": 0}, config())
    assert count(saver, "checkpoints") > 50
    (copies,) = saver.shared.connection.execute(
        "SELECT count(*) FROM checkpoint_blobs WHERE channel = 'big'"
    ).fetchone()
    assert copies == 1
    (longest,) = saver.shared.connection.execute("SELECT max(length(checkpoint)) FROM checkpoints").fetchone()
    assert longest < 3000


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_the_history_with_a_fork_and_an_edit_is_that_of_langgraphs_own_saver(saver, durability):
    found = []
    for checkpointer in (saver, InMemorySaver()):
        graph = counting(checkpointer)
        graph.invoke({"big": [BIG], "notes": [], "turn": 0}, config(), durability=durability)
        oldest = [*graph.get_state_history(config())][-1]
        graph.invoke(None, oldest.config, durability=durability)
        graph.update_state(config(), {"big": ["edited"], "notes": ["by hand"]})
        forked = graph.update_state(oldest.config, {"big": ["forked"], "turn": 1}, as_node="count")
        graph.invoke(None, forked, durability=durability)
        graph.update_state(config(), None, as_node="__copy__")
        found.append(history(graph, config()))
    assert found[0] == found[1]
    assert {state[0]["big"][0] for state in found[0] if "big" in state[0]} >= {BIG, "edited", "forked"}


def test_forks_of_a_program_that_seeds_random_do_not_mix_their_values(saver):
    graph = counting(saver)
    begin = graph.update_state(config(), {"big": ["none"], "notes": [], "turn": 1}, as_node="count")
    forks = []
    for content in ("left", "right"):
        random.seed(7)
        forks.append(graph.update_state(begin, {"big": [content]}, as_node="count"))
    assert [graph.get_state(fork).values["big"] for fork in forks] == [["left"], ["right"]]


def test_versions_grow_from_nothing_from_langgraphs_own_and_from_numbers(saver):
    versions = [None]
    for _ in range(12):
        versions.append(saver.get_next_version(versions[-1], None))
    assert versions[1:] == sorted(versions[1:])
    earlier = InMemorySaver().get_next_version(versions[-1], None)
    assert saver.get_next_version(earlier, None) > earlier > versions[-1]
    assert saver.get_next_version(3, None).startswith(f"{4:032}.")


def test_a_subgraphs_values_are_its_own(saver):
    inner = StateGraph(State)
    inner.add_node("work", lambda state: {"big": ["inner"], "notes": ["inner"]})
    inner.add_edge(START, "work")
    outer = StateGraph(State)
    outer.add_node("inner", inner.compile(checkpointer=True))
    outer.add_edge(START, "inner")
    graph = outer.compile(checkpointer=saver)
    for _ in range(2):
        graph.invoke({"big": ["outer"], "notes": ["outer"], "turn": 0}, config())
    found = {
        entry.config["configurable"]["checkpoint_ns"]
        for entry in saver.list({"configurable": {"thread_id": "t"}})
    }
    assert found == {"", "inner"}
    assert values(saver, config(namespace="inner"))["notes"][-1] == "inner"
    first = [*graph.get_state_history(config())][-2]
    assert first.values["big"] == ["outer"]


def test_a_listing_has_the_values_and_obeys_filter_before_and_limit(saver):
    graph = counting(saver, 4)
    graph.invoke({"big": [BIG], "notes": [], "turn": 0}, config())
    everything = [*saver.list(config())]
    assert [entry.checkpoint for entry in everything] == [
        saver.get_tuple(entry.config).checkpoint for entry in everything
    ]
    assert [entry.checkpoint["channel_values"].get("turn") for entry in everything] == [4, 3, 2, 1, 0, None]
    (third,) = saver.list(config(), filter={"step": 2})
    assert third.checkpoint["channel_values"]["notes"] == ["note 0", "note 1"]
    assert [*saver.list(config(), before=third.config, limit=1)] == [everything[everything.index(third) + 1]]


def test_what_one_reader_changes_no_other_sees(saver):
    stored = put(saver, {"a": [1]}, {"a": "1"})
    put(saver, {"a": [1]}, {"a": "1"}, place=stored)
    for entry in saver.list(config()):
        entry.checkpoint["channel_values"]["a"].append(2)
    assert [values(saver, entry.config) for entry in saver.list(config())] == [{"a": [1]}] * 2


VALUES = [None, True, 0, 2**63, -1.5, "", "short", "é\0", BIG, b"", b"\0", [], {}, [None], {"a": {1: [2]}}]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_any_value_comes_back_with_and_without_a_version(saver, value):
    stored = put(saver, {"a": value, "no version": value}, {"a": "1", "empty": "1"})
    assert repr(values(saver, stored)["a"]) == repr(value)
    assert values(saver, stored) == {"a": value, "no version": value}


def test_a_checkpoint_copied_by_hand_to_another_thread_is_whole_and_outlives_the_first(persistence):
    saver = persistence.checkpointer
    found = saver.get_tuple(put(saver, {"a": [BIG]}, {"a": "1"}))
    copied = saver.put(config("copy"), found.checkpoint, found.metadata, {})
    delete_thread(persistence, "t")
    assert values(saver, copied) == {"a": [BIG]}


def test_a_deleted_threads_values_are_gone_in_every_namespace_and_no_others(persistence):
    saver = persistence.checkpointer
    for thread_id in ("t1", "t10"):
        for namespace in ("", "inner:1"):
            put(saver, {"a": [BIG]}, {"a": "1"}, config(thread_id, namespace))
    delete_thread(persistence, "t1")
    assert [thread_id for thread_id, _ in list_threads(saver)] == ["t10"]
    assert count(saver) == 2
    assert values(saver, config("t10", "inner:1")) == {"a": [BIG]}


def test_a_checkpoint_is_stored_with_all_its_values_or_not_at_all(saver):
    with pytest.raises(TypeError):
        put(saver, {"a": [1], "b": [object()], "c": [1]}, {"a": "1", "b": "1", "c": "1"})
    assert (count(saver), count(saver, "checkpoints")) == (0, 0)
    saver.shared.connection.execute(
        "CREATE TRIGGER refuse BEFORE INSERT ON checkpoints BEGIN SELECT RAISE(ABORT, 'refused'); END"
    )
    with pytest.raises(sqlite3.IntegrityError, match="refused"):
        put(saver, {"a": [1]}, {"a": "1"})
    assert (count(saver), count(saver, "checkpoints")) == (0, 0)


RESULTS = {"first": {"output": "y" * 3000}, "second": {"output": "z" * 3000}, "third": {"output": "short"}}


def test_a_large_part_is_stored_once_however_many_writes_and_versions_have_it(saver):
    place = put(saver, {}, {})
    for number, (step, result) in enumerate(RESULTS.items()):
        saver.put_writes(place, [("results", {step: result}), ("last", step)], f"task {number}")
    versions = [{"results": {"first": RESULTS["first"]}}, {"results": RESULTS}, {"list": [*RESULTS.values()]}]
    stored = [put(saver, value, dict.fromkeys(value, "1" * n)) for n, value in enumerate(versions, 1)]
    assert count(saver, "checkpoint_parts") == 2
    assert [values(saver, one) for one in stored] == versions
    assert saver.get_tuple(place).pending_writes == [
        (f"task {number}", *write)
        for number, (step, result) in enumerate(RESULTS.items())
        for write in (("results", {step: result}), ("last", step))
    ]
    assert [*values(saver, stored[1])["results"]] == [*RESULTS]


def test_threads_share_no_parts(persistence):
    saver = persistence.checkpointer
    for thread_id in ("t1", "t10"):
        put(saver, {"results": RESULTS}, {"results": "1"}, config(thread_id))
    assert count(saver, "checkpoint_parts") == 4
    delete_thread(persistence, "t1")
    assert count(saver, "checkpoint_parts") == 2
    assert values(saver, config("t10")) == {"results": RESULTS}


@pytest.mark.parametrize(
    "value",
    [["a" * 600] * 9, {"a": {"b": ["c" * 5000]}, 7: "d" * 600, "e": None}, "f" * 5000, b"g" * 5000, {}],
)
def test_a_value_of_large_parts_comes_back_as_it_was(saver, value):
    stored = put(saver, {"a": value}, {"a": "1"})
    saver.put_writes(stored, [("a", value), ("b", None)], "task")
    assert repr(values(saver, stored)["a"]) == repr(value)
    assert repr(saver.get_tuple(stored).pending_writes) == repr([("task", "a", value), ("task", "b", None)])


@pytest.mark.parametrize(
    "damage",
    ["DELETE FROM checkpoint_parts"]
    + [f"UPDATE checkpoint_parts SET {what}" for what in ("type = 'null'", "value = substr(value, 1, 99)")]
    + ["UPDATE checkpoint_parts SET value = (SELECT value FROM checkpoint_parts ORDER BY rowid LIMIT 1)"],
)
def test_a_lost_or_changed_part_is_damage(saver, damage):
    stored = put(saver, {"results": RESULTS}, {"results": "1"})
    saver.put_writes(stored, [("results", RESULTS)], "task")
    saver.shared.connection.execute(damage)
    saver.put_writes(stored, [("results", {}), ("more", 1)], "task")
    with pytest.raises(StorageDamagedError, match=r"lacks values of checkpoint|holds a row that"):
        saver.get_tuple(stored)


@pytest.mark.parametrize("how", ["substr({0}, 1, length({0}) - 1)", "substr({0}, 1, 1)", "x'ff'"])
@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("checkpoints", "checkpoint"),
        ("checkpoints", "metadata"),
        ("checkpoint_blobs", "value"),
        ("writes", "value"),
    ],
)
def test_a_value_that_was_cut_off_is_damage(saver, table, column, how):
    stored = put(saver, {"a": ["one", 2], "results": RESULTS}, {"a": "1", "results": "1"})
    saver.put_writes(stored, [("a", ["one", 3])], "task")
    changed = how.format(column)
    saver.shared.connection.execute(f"UPDATE {table} SET {column} = CAST({changed} AS BLOB)")
    for read in (saver.get_tuple, lambda place: [*saver.list(place)]):
        with pytest.raises(StorageDamagedError, match=r"runs\.db .*(holds|lacks)"):
            read(stored)


@pytest.mark.parametrize(
    "change",
    [
        "checkpoints SET metadata = 7",
        "checkpoints SET checkpoint_id = replace(checkpoint_id, '-', '~')",
        "checkpoints SET thread_id = CAST(x'74ff' AS TEXT)",
    ],
)
def test_a_changed_row_of_a_checkpoint_is_damage(saver, change):
    put(saver, {"a": ["one", 2]}, {"a": "1"})
    saver.shared.connection.execute(f"UPDATE {change}")
    with pytest.raises(StorageDamagedError, match=r"runs\.db .*holds a row that"):
        [*saver.list(None)]


def test_what_a_caller_gives_wrongly_is_no_damage(path):
    with local_persistence(path) as (saver, store):
        with pytest.raises(KeyError):
            saver.get_tuple({"configurable": {}})
        with pytest.raises(TypeError):
            store.put(("a",), "key", {"one": object()})


@pytest.mark.parametrize(
    "change",
    ["value = substr(value, 1, length(value) - 1)", "created_at = '2026-1'", "key = CAST(x'ff' AS TEXT)"],
)
def test_a_row_of_the_store_that_was_cut_off_is_damage(path, change):
    with local_persistence(path) as (_, store):
        store.put(("a",), "key", {"one": 1})
        store.shared.connection.execute(f"UPDATE store SET {change}")
        reads = (lambda: store.search(("a",)), lambda: store.get(("a",), "key"))
        for read in reads[: 1 if change.startswith("key") else 2]:
            with pytest.raises(StorageDamagedError, match=r"runs\.db holds a row that cannot be read"):
                read()


def test_a_tasks_stored_writes_stay_and_further_ones_are_added(saver):
    place = put(saver, {}, {})
    for writes in (
        [("a", 1)],
        [("a", 2), ("__interrupt__", "x"), ("b", 3)],
        [("a", 4), ("b", 5), ("c", 6), ("d", 7)],
    ):
        saver.put_writes(place, writes, "task")
    saver.put_writes(place, [("__interrupt__", "y")], "task")
    found = {channel: value for _, channel, value in saver.get_tuple(place).pending_writes}
    assert found == {"__interrupt__": "y", "a": 1, "b": 3, "c": 6, "d": 7}
    assert len(saver.get_tuple(place).pending_writes) == 5


def test_rows_of_one_write_each_are_read_and_stay_beside_later_ones(path):
    with local_persistence(path) as (saver, _):
        place = put(saver, {}, {})
        SqliteSaver.put_writes(saver.wrapped, place, [("a", 1), ("b", [2])], "task", "path")
        saver.put_writes(place, [("a", 3), ("b", 4), ("c", 5)], "task", "path")
        assert saver.get_tuple(place).pending_writes == [
            ("task", "a", 1),
            ("task", "b", [2]),
            ("task", "c", 5),
        ]


def test_a_lost_value_is_damage_never_an_empty_channel(path, saver):
    put(saver, {"a": [1], "b": [2]}, {"a": "1", "b": "1"})
    saver.shared.connection.execute("DELETE FROM checkpoint_blobs WHERE channel = 'b'")
    for read in (saver.get_tuple, lambda place: [*saver.list(place)]):
        with pytest.raises(StorageDamagedError, match=r"runs\.db lacks values of checkpoint"):
            read(config())


def all_joined(items, writes):
    return [*(items or []), *chain.from_iterable(writes)]


class Growing(TypedDict):
    items: Annotated[list[str], DeltaChannel(all_joined, snapshot_frequency=4)]
    turn: int


def test_a_delta_channel_is_rebuilt_at_every_checkpoint_as_by_langgraphs_own_savers(saver):
    found = []
    for checkpointer in (saver, InMemorySaver()):
        graph = StateGraph(Growing)
        graph.add_node("grow", lambda state: {"items": [str(state["turn"])], "turn": state["turn"] + 1})
        graph.add_edge(START, "grow")
        graph.add_conditional_edges("grow", lambda state: "grow" if state["turn"] < 11 else "__end__")
        compiled = graph.compile(checkpointer=checkpointer)
        compiled.invoke({"items": ["first"], "turn": 0}, config())
        fifth = [*compiled.get_state_history(config())][6]
        compiled.invoke(None, compiled.update_state(fifth.config, {"items": ["forked"]}))
        found.append(history(compiled, config()))
        seeds = checkpointer.get_delta_channel_history(config=config(), channels=["items"])["items"]
        assert seeds["seed"].value
        assert 0 < len(seeds["writes"]) <= 4
    assert found[0] == found[1]
    assert found[0][0][0]["items"][:2] == ["first", "0"]


def test_a_channel_that_became_a_delta_channel_starts_from_its_last_value(saver):
    assert saver.get_delta_channel_history(config=config(), channels=["a"]) == {"a": {"writes": []}}
    first = put(saver, {"a": ["old"]}, {"a": "1"})
    saver.put_writes(first, [("a", ["new"]), ("b", 1)], "task")
    second = put(saver, {}, {"a": "2"}, place=first)
    expected = {"a": {"writes": [("task", "a", ["new"])], "seed": ["old"]}}
    assert saver.get_delta_channel_history(config=second, channels=["a"]) == expected
    assert BaseCheckpointSaver.get_delta_channel_history(saver, config=second, channels=["a"]) == expected


async def test_an_async_reader_gets_the_same(persistence):
    saver = persistence.checkpointer
    await counting(saver).ainvoke({"big": [BIG], "notes": [], "turn": 0}, config())
    assert [entry async for entry in saver.alist(config())] == [*saver.list(config())]
    assert (await saver.aget_tuple(config())).checkpoint["channel_values"]["big"] == [BIG]


def test_a_new_file_has_large_pages_and_a_log_that_stays_small(path):
    with local_persistence(path) as (saver, _):
        assert saver.shared.connection.execute("PRAGMA page_size").fetchone() == (local.PAGE_BYTES,)
        for number in range(200):
            put(saver, {"a": [BIG]}, {"a": str(number)})
        assert path.with_name("runs.db-wal").stat().st_size < local.LOG_BYTES * 1.5
    assert path.read_bytes()[16:18] == local.PAGE_BYTES.to_bytes(2)


def test_an_empty_database_of_small_pages_is_used_as_it_is(path):
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode=WAL")
    with local_persistence(path) as persistence:
        assert isinstance(persistence, Persistence)
        stored = put(persistence.checkpointer, {"a": [BIG]}, {"a": "1"})
    with local_persistence(path) as (saver, _):
        assert values(saver, stored) == {"a": [BIG]}
