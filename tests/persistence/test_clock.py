"""A clock that went back: checkpoints are sorted by the times in their ids."""

import time
from uuid import UUID

import pytest
from langgraph.checkpoint.base import id as ids
from langgraph.types import Command
from logged_tools import Log, bound, make_tools, plan
from savers import opened, thread

from plan_execute import create_plan_execute_agent
from plan_execute.errors import StorageError
from plan_execute.graph.control import cancel_run, edit_plan, retry_steps
from plan_execute.storage.ids import checkpoint_time, sort_after

WRITING = plan(bound("a", "send"))
KINDS = ["local", "sqlite", "memory"]


def ticks(ahead_s):
    """The counter of LangGraph's ids, as it stands at a time from now."""
    return (time.time_ns() + int(ahead_s * 1e9)) // 100 + 0x01B21DD213814000


@pytest.fixture
def clock(monkeypatch):
    """Set how far ahead this process dates its checkpoints."""

    def ahead(seconds):
        monkeypatch.setattr(ids, "_last_v6_timestamp", ticks(seconds))

    return ahead


@pytest.fixture(params=KINDS)
def agent(tmp_path, request):
    with opened(request.param, tmp_path) as storage:
        yield create_plan_execute_agent(None, tools=make_tools(Log(tmp_path / "log")), **storage)


def count(agent):
    return len(list(agent.get_state_history(thread())))


def test_a_thread_from_the_future_is_refused_with_both_times_and_is_left_as_it_is(agent, clock):
    clock(3600)
    agent.invoke(WRITING, thread())
    clock(0)
    before = count(agent)
    newest = checkpoint_time(agent.get_state(thread()).config["configurable"]["checkpoint_id"])
    for given in (Command(resume="approve"), None, WRITING):
        with pytest.raises(StorageError, match="Set the clock") as refused:
            agent.invoke(given, thread())
        assert f"{newest:%Y-%m-%d %H:%M}" in str(refused.value)
        assert time.strftime("%Y-%m-%d", time.gmtime()) in str(refused.value)
        assert "'t'" in str(refused.value)
    assert count(agent) == before
    clock(3600)
    assert len(agent.get_state(thread()).interrupts) == 1


def test_a_fork_is_refused_where_the_newest_checkpoint_is_from_the_future(agent, clock):
    agent.invoke(WRITING, thread())
    older = agent.get_state(thread()).config
    clock(3600)
    agent.update_state(thread(), {"messages": []}, as_node="planner")
    clock(0)
    with pytest.raises(StorageError, match="clock"):
        agent.invoke(None, older)


async def test_nothing_is_changed_from_outside_either(tmp_path, clock):
    with opened("local", tmp_path) as storage:
        agent = create_plan_execute_agent(None, tools=make_tools(Log(tmp_path / "log")), **storage)
        clock(3600)
        await agent.ainvoke(WRITING, thread())
        clock(0)
        for change in (retry_steps(agent, thread()), cancel_run(agent, thread())):
            with pytest.raises(StorageError, match="clock"):
                await change
        with pytest.raises(StorageError, match="clock"):
            await edit_plan(agent, thread(), WRITING["plan"])


def test_a_clock_that_went_back_a_little_loses_nothing(agent, clock):
    clock(240)
    agent.invoke(WRITING, thread())
    clock(0)
    assert agent.invoke(Command(resume="approve"), thread())["status"] == "done"
    assert agent.get_state(thread()).values["status"] == "done"
    assert agent.get_state(thread()).next == ()


def test_new_ids_sort_after_the_one_given_and_never_before_those_made_already(clock):
    clock(100)
    ahead = str(ids.uuid6(clock_seq=1))
    clock(0)
    sort_after(ahead)
    after = str(ids.uuid6(clock_seq=-2))
    assert after > ahead
    sort_after("not an id")
    sort_after(str(UUID(int=0, version=4)))
    clock(200)
    sort_after(ahead)
    assert checkpoint_time(str(ids.uuid6())) > checkpoint_time(after)
