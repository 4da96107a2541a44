"""Databases made by earlier versions: this one opens them, shows their threads, and goes on with each."""

import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import pytest
from golden_threads import FOLDER, make_agent
from langgraph.types import Command
from savers import thread

from plan_execute import local_persistence
from plan_execute.errors import NothingToResumeError
from plan_execute.storage.ids import checkpoint_time
from plan_execute.storage.latest import latest
from plan_execute.storage.thread_names import list_threads

FILES = sorted(path.name for path in FOLDER.glob("*.db"))


@pytest.fixture(params=FILES)
def database(tmp_path, request):
    return shutil.copyfile(FOLDER / request.param, tmp_path / "runs.db")


@pytest.fixture
def calls():
    return []


@pytest.fixture
def agent(database, calls):
    with local_persistence(database) as storage:
        yield make_agent(storage, calls, broken=False)


def question(agent, name):
    [found] = agent.get_state(thread(name)).interrupts
    return found.value["action_requests"][0]


def test_there_is_one_of_the_first_format():
    assert "v1.db" in FILES


def test_its_threads_are_listed(database):
    with local_persistence(database) as storage:
        assert {name for name, _ in list_threads(storage.checkpointer)} == {"finished", "approval", "failed"}


@pytest.mark.parametrize("name", ["finished", "approval", "failed"])
def test_its_states_are_read_without_langgraph_as_with_it(agent, name):
    read, whole = latest(agent.checkpointer.shared, name), agent.get_state(thread(name))
    assert read.next == whole.next
    assert read.values == {key: value for key, value in whole.values.items() if key != "messages"}
    assert [one.id for one in read.interrupts] == [one.id for one in whole.interrupts]


def test_a_finished_thread_is_shown_and_stays_finished(agent, calls):
    values = agent.get_state(thread("finished")).values
    assert values["status"] == "done"
    assert {i: r["output"] for i, r in values["results"].items()} == {
        "look": "seen weather",
        "think": "it will rain",
        "send": "sent mail: it will rain",
    }
    assert [call["tool"] for call in values["results"]["think"]["evidence"]] == ["look"]
    assert len(list(agent.get_state_history(thread("finished")))) > 3
    with pytest.raises(NothingToResumeError):
        agent.invoke(None, thread("finished"))
    assert calls == []


def test_a_finished_thread_is_forked_without_running_anything_again(agent, calls):
    [before] = [s for s in agent.get_state_history(thread("finished")) if s.next and s.next[0] == "executor"]
    assert agent.invoke(None, before.config)["status"] == "done"
    assert calls == []


def test_an_open_approval_is_shown_and_answered(agent, calls):
    asked = question(agent, "approval")
    assert asked["name"] == "approve_plan"
    assert [step["id"] for step in asked["args"]["plan"]["steps"]] == ["greet"]
    done = agent.invoke(Command(resume="approve"), thread("approval"))
    assert done["status"] == "done"
    assert done["results"]["greet"]["output"] == "sent mail: hello"
    assert calls == [("send", "mail")]


def test_an_edit_of_an_open_approval_that_cannot_run_is_asked_about_again(agent, calls):
    answer = {"type": "edit", "args": {"plan": {"steps": []}}}
    agent.invoke(Command(resume=answer), thread("approval"))
    assert question(agent, "approval")["name"] == "approve_plan"
    assert calls == []


def test_a_failed_step_is_shown_and_retried_and_what_finished_stays(agent, calls):
    asked = question(agent, "failed")
    assert (asked["name"], asked["args"]["step_id"]) == ("handle_step_failure", "broken")
    assert "out of order" in asked["args"]["error"]["message"]
    answer = {"type": "edit", "args": {"decision": "retry"}}
    done = agent.invoke(Command(resume=answer), thread("failed"))
    assert done["status"] == "done"
    assert done["results"]["send"]["output"] == "sent mail: got parcel through: seen weather"
    assert done["results"]["broken"]["attempts"] == 2
    assert calls == [("unsteady", "parcel"), ("send", "mail")]


async def test_a_failed_step_is_supplied_by_hand_asynchronously(database, calls):
    async with local_persistence(database) as storage:
        agent = make_agent(storage, calls, broken=True)
        answer = {"type": "edit", "args": {"decision": "supply", "output": "by hand"}}
        done = await agent.ainvoke(Command(resume=answer), thread("failed"))
    assert done["results"]["send"]["output"] == "sent mail: by hand"
    assert calls == [("send", "mail")]


def test_a_golden_database_names_no_machine_and_is_not_from_the_future(database):
    with closing(sqlite3.connect(database)) as connection:
        newest = connection.execute("SELECT MAX(checkpoint_id) FROM checkpoints").fetchone()[0]
    assert checkpoint_time(newest) < datetime(2026, 2, 1, tzinfo=UTC)
    content = database.read_bytes()
    assert not any(trace in content for trace in (b"/home/", b"/root/", b"/tmp/", b"/work/", b"/Users/"))
