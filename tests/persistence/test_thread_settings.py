"""What a thread was started with holds when it goes on; its format is checked first."""

import pytest
from langgraph.types import Command
from logged_tools import Log, bound, break_tool, make_tools, mend_tool, plan
from savers import ASKING_SYNC, opened, thread

from plan_execute import Context, create_plan_execute_agent
from plan_execute.errors import SchemaVersionError
from plan_execute.graph.control import cancel_run, retry_steps

WRITING = plan(bound("a", "look"), bound("b", "send", "a"))
TWICE = plan(bound("a", "unsteady"), bound("b", "unsteady", "a"))
READING = plan(bound("a", "look"), bound("b", "nap", "a", delay=20))


@pytest.fixture
def log(tmp_path):
    return Log(tmp_path / "log")


def agent_of(log, storage):
    return create_plan_execute_agent(None, tools=make_tools(log), **storage)


def asked(values):
    return [i.value["action_requests"][0]["name"] for i in values.get("__interrupt__", ())]


@pytest.mark.parametrize("absent", [None, {}])
@pytest.mark.parametrize("kind", ASKING_SYNC)
def test_a_resume_without_context_uses_the_settings_of_the_start(tmp_path, log, kind, absent):
    break_tool(log, "a")
    break_tool(log, "b")
    with opened(kind, tmp_path) as storage:
        start = Context(approval="never", on_failure="ask", max_attempts=1, instructions="be kind")
        assert asked(agent_of(log, storage).invoke(TWICE, thread(), context=start)) == ["handle_step_failure"]
        mend_tool(log, "a")
        again = agent_of(log, storage).invoke(Command(resume={"type": "approve"}), thread(), context=absent)
        assert asked(again) == ["handle_step_failure"], "approval=never and on_failure=ask still hold"
    assert log.calls() == {"a": 2, "b": 1}


@pytest.mark.parametrize("kind", ASKING_SYNC)
def test_a_resume_cannot_loosen_the_approval(tmp_path, log, kind):
    with opened(kind, tmp_path) as storage:
        assert asked(agent_of(log, storage).invoke(WRITING, thread())) == ["approve_plan"]
        agent = agent_of(log, storage)
        changed = agent.get_state(thread()).values["plan"]
        changed["steps"][1]["call"]["args"]["text"] = "something else"
        forged = {"plan": changed, "approval": {"decision": "approved"}}
        agent.update_state(thread(), forged, as_node="approval")
        values = agent.invoke(None, thread(), context=Context(approval="never"))
        assert asked(values) == ["approve_plan"]
    assert not log.calls()


@pytest.mark.parametrize("kind", ASKING_SYNC)
def test_a_later_goal_on_the_thread_cannot_loosen_the_approval(tmp_path, log, kind):
    with opened(kind, tmp_path) as storage:
        agent = agent_of(log, storage)
        agent.invoke(WRITING, thread())
        agent.invoke(Command(resume="approve"), thread())
        assert asked(agent.invoke(WRITING, thread(), context={"approval": "never"})) == ["approve_plan"]
    assert log.calls() == {"a": 1, "b": 1}


@pytest.mark.parametrize("kind", ASKING_SYNC)
def test_a_resume_can_tighten_the_approval(tmp_path, log, kind):
    steps = plan(bound("a", "look"), bound("b", "nap", "a", delay=20))
    with opened(kind, tmp_path) as storage:
        agent = agent_of(log, storage)
        stream = agent.stream(steps, thread(), context=Context(approval="never"), stream_mode="custom")
        for event in stream:
            if event["type"] == "tool_call" and event["tool"] == "nap":
                break
        stream.close()
        values = agent_of(log, storage).invoke(None, thread(), context={"approval": "always"})
        assert asked(values) == ["approve_plan"]
        values = agent_of(log, storage).invoke(Command(resume={"type": "reject"}), thread())
        assert values["results"]["a"]["status"] == "done"
    assert log.calls() == {"a": 1}


@pytest.mark.parametrize("kind", ASKING_SYNC)
async def test_a_newer_state_is_refused_and_left_as_it_is(tmp_path, log, kind):
    with opened(kind, tmp_path) as storage:
        agent = agent_of(log, storage)
        await agent.ainvoke(WRITING, thread())
        await agent.aupdate_state(thread(), {"schema_version": 99}, as_node="validator")
        before = await agent.aget_state(thread())
        for given in (None, Command(resume="approve"), WRITING):
            with pytest.raises(SchemaVersionError, match="99"):
                await agent.ainvoke(given, thread())
        for change in (cancel_run, retry_steps):
            with pytest.raises(SchemaVersionError, match="99"):
                await change(agent, thread())
        assert (await agent.aget_state(thread())).config == before.config
    assert not log.calls()
