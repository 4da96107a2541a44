"""Pruning deletes what has ended and nothing else, whole, also when it is killed; and the file shrinks."""

import json
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from crash_child import Workplace, serving
from langgraph.graph import END, START, StateGraph
from plans import FREE, bound, plan
from postgres_server import schema_of
from savers import thread
from toolset import Toolset

from plan_execute import (
    Context,
    create_plan_execute_agent,
    local_persistence,
    postgres_persistence,
    prune_threads,
)
from plan_execute.errors import InvalidInputError, StorageError, ThreadNotFoundError
from plan_execute.state import State
from plan_execute.storage.persistence import LocalPersistence
from plan_execute.storage.sqlite import lock_file, thread_lock
from plan_execute.tools.workspaces import workspace_of, workspaces_of

CHILD = Path(__file__).parent / "prune_child.py"
LARGE = "x" * 3_000_000
ODD = "a thread / with ünusual % id."


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.db"


@pytest.fixture(scope="module")
def pruners(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("answers"), CHILD) as started:
        yield started


def prune_elsewhere(pruners, path, last, *threads):
    """Prune in another process, which dies at its ``last`` statement; None: it died."""
    workplace = Workplace(path.parent, "local")
    workplace.db = str(path)
    child = pruners.start(workplace, last=last, threads=threads)
    return child.answer() if child.ends_with_answer() else None


def run(path, thread_id, *steps, context=FREE):
    with local_persistence(path) as (checkpointer, store):
        agent = create_plan_execute_agent(None, Toolset().tools, checkpointer=checkpointer, store=store)
        result = agent.invoke({"plan": plan(*steps)}, thread(thread_id), context=context)
    workspace = workspace_of(workspaces_of(path), thread_id)
    (workspace / "deep").mkdir(parents=True, exist_ok=True)
    (workspace / "file.txt").write_text("kept")
    (workspace / "deep" / "other.txt").write_text("kept")
    return result.get("status")


def finish(path, thread_id, value=LARGE):
    """Let a thread end ``done``, with a large output."""
    large = bound("a", "echo", {"value": value})
    assert run(path, thread_id, large, bound("b", "put", {"text": "small"})) == "done"


def end_failed(path, thread_id):
    context = Context(approval="never", on_failure="abort", max_attempts=1)
    assert run(path, thread_id, bound("a", "broken", {"q": "x"}), context=context) == "failed"


def leave_waiting(path, thread_id):
    run(path, thread_id, bound("a", "look", {"q": "x"}, approve=True))


OF_THE_STORE = ("history", "output_forms")
"""What runs took, without a word of what they were about: it is no thread's."""


def content(path):
    """Count the rows of each table by thread."""
    with closing(sqlite3.connect(path)) as connection:
        found = {}
        for table in ("checkpoints", "writes", "checkpoint_blobs", "checkpoint_parts"):
            for name, count in connection.execute(f"SELECT thread_id, count(*) FROM {table} GROUP BY 1"):
                found[table, name] = count
        for prefix, count in connection.execute("SELECT prefix, count(*) FROM store GROUP BY 1"):
            if prefix.partition(".")[2] not in OF_THE_STORE:
                found["store", prefix] = count
        return found


def traces(path, *threads):
    """Find what still stands of threads, in the database or beside it."""
    labels = {thread_id.replace(" ", "%20").replace("/", "%2F") for thread_id in threads}
    rows = [
        key
        for key in content(path)
        if key[1] in threads or (key[0] == "store" and labels & set(key[1].split(".")))
    ]
    files = [workspace_of(workspaces_of(path), thread_id) for thread_id in threads]
    files += [lock_file(path, thread_id) for thread_id in threads]
    return [*rows, *(str(file) for file in files if file.exists())]


def names(entries):
    return {entry.thread for entry in entries}


# --- what goes ---------------------------------------------------------------------------


def test_what_has_ended_goes_whole_and_the_rest_stays_as_it_was(path):
    for thread_id in ("t1", "t10", ODD):
        finish(path, thread_id, LARGE[:100_000])
    end_failed(path, "f")
    leave_waiting(path, "w")
    before = {key: count for key, count in content(path).items() if "w" in key[1].split(".") or key[1] == "w"}
    report = prune_threads(path)
    assert names(report.deleted) == {"t1", "t10", ODD, "f"}
    assert {entry.status for entry in report.deleted} == {"done", "failed"}
    assert report.kept == []
    assert traces(path, "t1", "t10", ODD, "f") == []
    assert content(path) == before
    assert (workspace_of(workspaces_of(path), "w") / "file.txt").exists()


def test_only_the_named_thread_goes_not_those_whose_names_begin_alike(path):
    for thread_id in ("t1", "t10", "t1.a"):
        finish(path, thread_id, LARGE[:50_000])
    assert names(prune_threads(path, ["t1"]).deleted) == {"t1"}
    assert traces(path, "t1") == []
    with local_persistence(path) as (checkpointer, store):
        agent = create_plan_execute_agent(None, checkpointer=checkpointer, store=store)
        for thread_id in ("t10", "t1.a"):
            assert agent.get_output(thread(thread_id), "a") == LARGE[:50_000]


@pytest.mark.parametrize(
    ("options", "gone"),
    [
        ({}, {"d", "f"}),
        ({"statuses": {"failed"}}, {"f"}),
        ({"older_than": timedelta(days=1)}, set()),
        ({"older_than": timedelta(0)}, {"d", "f"}),
        ({"threads": ["d", "w"]}, {"d"}),
        ({"threads": ["w"], "force": True}, {"w"}),
        ({"dry_run": True}, {"d", "f"}),
    ],
)
def test_what_is_asked_for_is_what_goes(path, options, gone):
    finish(path, "d", "small")
    end_failed(path, "f")
    leave_waiting(path, "w")
    before = content(path)
    report = prune_threads(path, options.pop("threads", ()), **options)
    assert names(report.deleted) == gone
    left = {name for table, name in content(path) if table == "checkpoints"}
    assert left == ({"d", "f", "w"} if report.dry_run else {"d", "f", "w"} - gone)
    if report.dry_run:
        assert content(path) == before


def test_a_named_thread_that_has_not_ended_is_kept_and_it_is_said(path):
    leave_waiting(path, "w")
    (kept,) = prune_threads(path, ["w"]).kept
    assert (kept.status, kept.kept) == ("waiting", "its run has not ended (force deletes it)")


def test_a_thread_that_is_being_run_is_kept_even_by_force(path):
    finish(path, "t", "small")
    with thread_lock(path, "t"):
        for force in (False, True):
            (kept,) = prune_threads(path, ["t"], force=force).kept
            assert "running it" in kept.kept
    assert names(prune_threads(path).deleted) == {"t"}


def test_an_unknown_thread_or_status_is_refused_and_nothing_is_deleted(path):
    finish(path, "t", "small")
    before = content(path)
    with pytest.raises(ThreadNotFoundError, match="'nobody'"):
        prune_threads(path, ["t", "nobody"])
    with pytest.raises(InvalidInputError, match=r"'ready'.*done, failed, partial, rejected"):
        prune_threads(path, statuses={"ready"})
    with pytest.raises(InvalidInputError, match="name them"):
        prune_threads(path, force=True)
    assert content(path) == before


def test_where_there_is_no_database_none_is_made(path):
    assert prune_threads(path).deleted == []
    assert not path.exists()


def test_a_graph_of_somebody_elses_is_kept_though_it_says_done(path):
    with local_persistence(path) as (checkpointer, store):
        builder = StateGraph(State)
        builder.add_node("work", lambda _: {"status": "done"})
        builder.add_edge(START, "work")
        builder.add_edge("work", END)
        builder.compile(checkpointer=checkpointer, store=store).invoke({"goal": "x"}, thread("theirs"))
    assert prune_threads(path).deleted == []
    assert prune_threads(path, ["theirs"]).kept
    assert names(prune_threads(path, ["theirs"], force=True).deleted) == {"theirs"}


def test_a_thread_of_a_newer_version_is_kept_and_it_is_said(path):
    finish(path, "t", "small")
    with local_persistence(path) as (checkpointer, store):
        agent = create_plan_execute_agent(None, checkpointer=checkpointer, store=store)
        agent.update_state(thread(), {"schema_version": 99}, as_node="synthesizer")
    (kept,) = prune_threads(path).kept
    assert "version 99" in kept.kept


def test_a_deleted_threads_id_can_be_used_anew_and_remembers_nothing(path):
    finish(path, "t")
    prune_threads(path)
    finish(path, "t", "other")
    with local_persistence(path) as (checkpointer, store):
        agent = create_plan_execute_agent(None, checkpointer=checkpointer, store=store)
        assert agent.get_output(thread(), "a") == "other"
        assert len(agent.get_state(thread()).values["audit"]) < 10


# --- the space ---------------------------------------------------------------------------


def test_the_file_gives_back_what_the_threads_took(path):
    finish(path, "small", "small")
    empty = path.stat().st_size
    for n in range(5):
        finish(path, f"t{n}", LARGE[:-1] + str(n))
    assert path.stat().st_size > 5 * len(LARGE)
    report = prune_threads(path, [f"t{n}" for n in range(5)])
    assert report.note is None
    assert path.stat().st_size < empty + 200_000
    assert report.bytes_before - report.bytes_after > 5 * len(LARGE)
    assert report.bytes_after == path.stat().st_size


def test_the_file_shrinks_while_another_process_has_it_open_which_goes_on(path, pruners):
    finish(path, "t")
    with local_persistence(path) as (checkpointer, store):
        agent = create_plan_execute_agent(None, Toolset().tools, checkpointer=checkpointer, store=store)
        agent.invoke({"plan": plan(bound("a", "look", {"q": "1"}))}, thread("other"), context=FREE)
        assert prune_elsewhere(pruners, path, 0, "t")["deleted"]
        result = agent.invoke({"plan": plan(bound("a", "look", {"q": "2"}))}, thread("other"), context=FREE)
        assert result["results"]["a"]["output"] == "found 2"
    assert path.stat().st_size < 1_000_000
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def make_old(path):
    """Make the file as the version before artifacts did: it can only shrink when it is written anew."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA auto_vacuum=NONE")
        connection.execute("VACUUM")
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (0,)


def test_a_file_of_an_earlier_version_shrinks_too_and_then_in_pieces(path):
    finish(path, "t")
    make_old(path)
    finish(path, "busy", "small")
    with thread_lock(path, "busy"):
        report = prune_threads(path)
        assert "while no thread is being run" in report.note
        assert path.stat().st_size > len(LARGE)
    assert prune_threads(path).note is None
    assert path.stat().st_size < 500_000
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)


def test_where_the_disk_has_no_room_the_threads_are_gone_all_the_same(path):
    class Full(LocalPersistence):
        def __enter__(self):
            opened = super().__enter__()
            database = opened.checkpointer.shared

            def full(_):
                raise StorageError(f"{path} cannot grow: the disk is full; nothing was changed")

            database.shrink = full
            return opened

    finish(path, "t")
    report = prune_threads(Full(path))
    assert names(report.deleted) == {"t"}
    assert "could not be given back" in report.note
    assert "disk is full" in report.note
    assert traces(path, "t") == []


# --- kills -------------------------------------------------------------------------------


EVERY = [
    pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
]


@pytest.mark.parametrize("every", EVERY)
def test_a_killed_prune_leaves_each_thread_whole_or_gone_and_the_next_one_finishes(
    path, tmp_path, pruners, every
):
    for thread_id in ("t1", "t2"):
        finish(path, thread_id, LARGE + thread_id)
    leave_waiting(path, "w")
    original = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    whole = content(path)
    report = prune_elsewhere(pruners, path, 0, "t1", "t2")
    assert len(report["deleted"]) == 2
    assert report["statements"] > 25
    for number in range(1, report["statements"] + 1, every):
        restore(tmp_path, original)
        assert prune_elsewhere(pruners, path, number, "t1", "t2") is None
        hold_whole_or_gone(path, whole)
        report = prune_threads(path)
        assert report.note is None
        assert traces(path, "t1", "t2") == [], number
        assert path.stat().st_size < 1_000_000
        assert (workspace_of(workspaces_of(path), "w") / "file.txt").exists()


def restore(folder, original):
    for file in folder.glob("x.db*"):
        if file.is_file():
            file.unlink()
    for file, data in original.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)


def hold_whole_or_gone(path, whole):
    with local_persistence(path) as (checkpointer, store):
        agent = create_plan_execute_agent(None, checkpointer=checkpointer, store=store)
        for thread_id in ("t1", "t2"):
            mine = {key: count for key, count in whole.items() if thread_id in key[1].split(".")}
            left = {key: count for key, count in content(path).items() if thread_id in key[1].split(".")}
            if agent.get_state(thread(thread_id)).created_at is None:
                assert not [key for key in left if ".artifacts." not in key[1]]
            else:
                assert left == mine
                assert agent.get_output(thread(thread_id), "a") == LARGE + thread_id
                assert (workspace_of(workspaces_of(path), thread_id) / "file.txt").exists()


def test_what_a_killed_prune_left_is_not_taken_from_a_thread_that_began_anew(path, pruners):
    finish(path, "t")
    numbers = iter(range(1, 60))
    while any(key == ("checkpoints", "t") for key in content(path)):
        prune_elsewhere(pruners, path, next(numbers), "t")
    assert [key for key in content(path) if ".artifacts." in key[1]], (
        "killed between the thread and its artifacts"
    )
    finish(path, "t", LARGE + "new")
    assert prune_threads(path, older_than=timedelta(days=1)).deleted == []
    with local_persistence(path) as (checkpointer, store):
        agent = create_plan_execute_agent(None, checkpointer=checkpointer, store=store)
        assert agent.get_output(thread(), "a") == LARGE + "new"
    assert (workspace_of(workspaces_of(path), "t") / "file.txt").exists()
    prune_threads(path)
    assert traces(path, "t") == []
    assert json.dumps([*map(str, content(path))]) == "[]"


# --- PostgreSQL --------------------------------------------------------------------------


def test_threads_on_a_server_are_deleted_whole_and_their_neighbours_stay(tmp_path):
    url = schema_of(tmp_path)
    folder = tmp_path / "spaces"
    with postgres_persistence(url) as (checkpointer, store):
        agent = create_plan_execute_agent(None, Toolset().tools, checkpointer=checkpointer, store=store)
        for thread_id in ("t1", "t10", "t_0", "t%"):
            steps = plan(bound("a", "echo", {"value": LARGE + thread_id}), bound("b", "put", {"text": "x"}))
            agent.invoke({"plan": steps}, thread(thread_id), context=FREE)
            workspace_of(folder, thread_id).mkdir(parents=True)
    for doomed in ("t1", "t_0"):
        report = prune_threads(postgres_persistence(url), [doomed], workspaces=folder)
        assert names(report.deleted) == {doomed}
        assert "VACUUM FULL" in report.note
        assert not workspace_of(folder, doomed).exists()
    with postgres_persistence(url) as (checkpointer, store):
        agent = create_plan_execute_agent(None, checkpointer=checkpointer, store=store)
        rows = store.search(("plan_execute",), limit=1000)
        left = [row for row in rows if row.namespace[1] not in OF_THE_STORE]
        assert {row.namespace[2] for row in left} == {"t10", "t%25"}
        for thread_id in ("t10", "t%"):
            assert agent.get_output(thread(thread_id), "a") == LARGE + thread_id
            with checkpointer.thread_lock(thread_id):
                (kept,) = prune_threads(postgres_persistence(url), [thread_id]).kept
                assert "running it" in kept.kept
