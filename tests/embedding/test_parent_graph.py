"""The agent as a part of other programs: a node, a call inside a node, a tool; its questions surface."""

import asyncio
import operator
from typing import Annotated, Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AnyMessage
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, interrupt
from logged_tools import Log, bound, break_tool, make_tools, mend_tool, plan
from savers import ASKING_SYNC, aopened, opened, thread
from typing_extensions import TypedDict

from plan_execute import Context, ScriptedModel, create_plan_execute_agent
from plan_execute.errors import InvalidAnswerError
from plan_execute.state import StepResult, merge_by_id

# A graph that runs async cannot use SqliteSaver, which refuses async calls.
ASKING_ASYNC = ("memory", "local", "aiosqlite", "local-async", "postgres-async", "plain-postgres-async")


class Parent(TypedDict, total=False):
    goal: str | None
    messages: Annotated[list[AnyMessage], add_messages]
    plan: dict[str, Any] | None
    results: Annotated[dict[str, StepResult], merge_by_id]
    status: str
    final_answer: str
    visited: Annotated[list[str], operator.add]


SAFE = plan(bound("a", "look"), bound("b", "nap", "a"))
WRITING = plan(bound("a", "look"), bound("b", "send", "a"))
FAILING = plan(
    bound("a", "look"),
    bound("b", "unsteady", "a"),
    bound("c", "unsteady", "a"),
    bound("d", "send", "b", "c"),
)
ASK = Context(approval="never", on_failure="ask", max_attempts=1)


@pytest.fixture
def log(tmp_path):
    return Log(tmp_path / "log")


def agent_of(log, **options):
    return create_plan_execute_agent(None, tools=make_tools(log), **options)


def parent_of(node, storage):
    builder = StateGraph(Parent, Context)
    builder.add_node("before", lambda _: {"visited": ["before"]})
    builder.add_node("work", node)
    builder.add_node("after", lambda _: {"visited": ["after"]})
    builder.add_edge(START, "before")
    builder.add_edge("before", "work")
    builder.add_edge("work", "after")
    builder.add_edge("after", END)
    return builder.compile(checkpointer=storage.get("checkpointer"), store=storage.get("store"))


def names(values):
    return [question.value["action_requests"][0]["name"] for question in values.get("__interrupt__", ())]


def ids(values):
    return {question.value["step_id"]: question.id for question in values["__interrupt__"]}


def is_whole(values, *steps):
    assert values["visited"] == ["before", "after"]
    assert values["status"] == "done"
    assert values["final_answer"]
    assert {i: r["status"] for i, r in values["results"].items()} == dict.fromkeys(steps, "done")
    return True


# --- as a node ----------------------------------------------------------------------------


def test_a_parent_without_a_checkpointer_gets_the_results(log):
    values = parent_of(agent_of(log), {}).invoke(SAFE)
    assert is_whole(values, "a", "b")


async def test_an_async_parent_without_a_checkpointer_gets_the_results(log):
    values = await parent_of(agent_of(log), {}).ainvoke(SAFE)
    assert is_whole(values, "a", "b")


@pytest.mark.parametrize("kind", ASKING_SYNC)
def test_a_plan_is_approved_through_a_sync_parent(tmp_path, log, kind):
    with opened(kind, tmp_path) as storage:
        parent = parent_of(agent_of(log), storage)
        values = parent.invoke(WRITING, thread())
        assert names(values) == ["approve_plan"]
        for bad in ("perhaps", {"type": "edit"}, {}):
            with pytest.raises(Exception, match=r"approve_plan|answer"):
                parent.invoke(Command(resume=bad), thread())
            assert [i.value["action_requests"][0]["name"] for i in parent.get_state(thread()).interrupts] == [
                "approve_plan"
            ], bad
        assert not log.calls()
        assert is_whole(parent.invoke(Command(resume="approve"), thread()), "a", "b")
    assert log.calls() == {"a": 1, "b": 1}


@pytest.mark.parametrize("kind", ASKING_ASYNC)
async def test_a_plan_is_approved_through_an_async_parent(tmp_path, log, kind):
    async with aopened(kind, tmp_path) as storage:
        parent = parent_of(agent_of(log), storage)
        values = await parent.ainvoke(WRITING, thread())
        assert names(values) == ["approve_plan"]
        with pytest.raises(Exception, match="approve_plan"):
            await parent.ainvoke(Command(resume="perhaps"), thread())
        assert len((await parent.aget_state(thread())).interrupts) == 1
        assert is_whole(await parent.ainvoke(Command(resume="approve"), thread()), "a", "b")
    assert log.calls() == {"a": 1, "b": 1}


@pytest.mark.parametrize("kind", ASKING_SYNC)
def test_two_failures_are_asked_at_once_through_a_sync_parent(tmp_path, log, kind):
    break_tool(log, "b")
    break_tool(log, "c")
    with opened(kind, tmp_path) as storage:
        parent = parent_of(agent_of(log), storage)
        values = parent.invoke(FAILING, thread(), context=ASK)
        assert names(values) == ["handle_step_failure"] * 2
        mend_tool(log, "b")
        open_now = ids(values)
        values = parent.invoke(Command(resume={open_now["b"]: {"type": "approve"}}), thread(), context=ASK)
        assert set(ids(values)) == {"c"}
        supply = {"type": "edit", "args": {"decision": "supply", "output": "by hand"}}
        values = parent.invoke(Command(resume=supply), thread(), context=ASK)
        assert is_whole(values, "a", "b", "c", "d")
        assert values["results"]["d"]["output"] == "send d: unsteady b: look a:  by hand"
    assert log.calls() == {"a": 1, "b": 2, "c": 1, "d": 1}


@pytest.mark.parametrize("kind", ASKING_ASYNC)
async def test_two_failures_are_answered_at_once_through_an_async_parent(tmp_path, log, kind):
    break_tool(log, "b")
    break_tool(log, "c")
    async with aopened(kind, tmp_path) as storage:
        parent = parent_of(agent_of(log), storage)
        values = await parent.ainvoke(FAILING, thread(), context=ASK)
        assert names(values) == ["handle_step_failure"] * 2
        mend_tool(log, "b")
        mend_tool(log, "c")
        answers = {key: {"type": "approve"} for key in ids(values).values()}
        values = await parent.ainvoke(Command(resume=answers), thread(), context=ASK)
        assert is_whole(values, "a", "b", "c", "d")
    assert log.calls() == {"a": 1, "b": 2, "c": 2, "d": 1}


@pytest.mark.parametrize("kind", ["memory", "sqlite", "local"])
def test_a_parent_in_a_new_agent_object_goes_on_where_the_old_one_stopped(tmp_path, log, kind):
    break_tool(log, "b")
    break_tool(log, "c")
    with opened(kind, tmp_path) as storage:
        values = parent_of(agent_of(log), storage).invoke(FAILING, thread(), context=ASK)
        mend_tool(log, "b")
        mend_tool(log, "c")
        again = parent_of(agent_of(log), storage)
        answers = {key: {"type": "approve"} for key in ids(values).values()}
        assert is_whole(again.invoke(Command(resume=answers), thread(), context=ASK), "a", "b", "c", "d")
    assert log.calls() == {"a": 1, "b": 2, "c": 2, "d": 1}


def test_a_parent_resumed_without_context_keeps_the_settings_of_the_start(tmp_path, log):
    break_tool(log, "b")
    with opened("local", tmp_path) as storage:
        parent = parent_of(agent_of(log), storage)
        values = parent.invoke(FAILING, thread(), context=ASK)
        assert names(values) == ["handle_step_failure"]
        values = parent.invoke(Command(resume={"type": "approve"}), thread())
        assert names(values) == ["handle_step_failure"], "on_failure=ask still holds"


# --- called inside a node, or as a tool -----------------------------------------------------


def caller_of(agent):
    def work(state, config):
        found = agent.invoke({"plan": state["plan"]}, config)
        return {key: found[key] for key in ("results", "status", "final_answer")}

    return work


def async_caller_of(agent):
    async def work(state, config):
        found = await agent.ainvoke({"plan": state["plan"]}, config)
        return {key: found[key] for key in ("results", "status", "final_answer")}

    return work


@pytest.mark.parametrize("kind", ASKING_SYNC)
def test_a_call_inside_a_sync_node_asks_through_the_parent(tmp_path, log, kind):
    with opened(kind, tmp_path) as storage:
        parent = parent_of(caller_of(agent_of(log)), storage)
        assert names(parent.invoke(WRITING, thread())) == ["approve_plan"]
        assert is_whole(parent.invoke(Command(resume="approve"), thread()), "a", "b")
    assert log.calls() == {"a": 1, "b": 1}


@pytest.mark.parametrize("kind", ASKING_ASYNC)
async def test_a_call_inside_an_async_node_asks_through_the_parent(tmp_path, log, kind):
    async with aopened(kind, tmp_path) as storage:
        parent = parent_of(async_caller_of(agent_of(log)), storage)
        assert names(await parent.ainvoke(WRITING, thread())) == ["approve_plan"]
        assert is_whole(await parent.ainvoke(Command(resume="approve"), thread()), "a", "b")
    assert log.calls() == {"a": 1, "b": 1}


def as_tool(agent):
    @tool
    def work(text: str) -> str:
        """Do the work."""
        return agent.invoke({"plan": {**SAFE["plan"], "goal": text}})["final_answer"]

    return work


def test_the_agent_works_inside_a_langchain_tool(log):
    assert as_tool(agent_of(log)).invoke({"text": "do it"}).startswith("All steps are done.")


async def test_the_agent_works_inside_a_tool_that_runs_in_an_event_loop(log):
    calls = [as_tool(agent_of(log)).ainvoke({"text": "do it"}) for _ in range(3)]
    assert all(answer.startswith("All steps") for answer in await asyncio.gather(*calls))


def test_the_agent_works_as_a_tool_of_another_agent_of_its_kind(log):
    inner = as_tool(agent_of(log))
    outer = create_plan_execute_agent(None, tools=[inner])
    step = {"id": "one", "task": "", "call": {"tool": "work", "args": {"text": "do it"}}}
    values = outer.invoke(plan(step), context=Context(approval="never"))
    assert values["status"] == "done", values["final_answer"]
    assert log.calls() == {"a": 1, "b": 1}


def test_a_bad_answer_raises_our_error_in_the_agents_own_graph(tmp_path, log):
    with opened("memory", tmp_path) as storage:
        agent = agent_of(log, **storage)
        agent.invoke(WRITING, thread())
        with pytest.raises(InvalidAnswerError, match="stays open"):
            agent.invoke(Command(resume="perhaps"), thread())
        assert agent.invoke(Command(resume="approve"), thread())["status"] == "done"


# --- questions from within a tool -----------------------------------------------------------


@tool
def confirmed_send(text: str) -> str:
    """Send a message after a person has said how."""
    said = interrupt({"ask": f"how shall {text} be sent?"})
    return f"sent {text} by {said}"


@pytest.mark.parametrize("kind", ASKING_SYNC)
def test_a_tool_of_a_bound_step_may_ask_by_itself_and_is_answered_once(tmp_path, kind):
    step = {"id": "one", "task": "", "call": {"tool": "confirmed_send", "args": {"text": "it"}}}
    with opened(kind, tmp_path) as storage:
        agent = create_plan_execute_agent(None, tools=[confirmed_send], **storage)
        values = agent.invoke(plan(step), thread(), context=Context(approval="never"))
        assert [i.value for i in values["__interrupt__"]] == [{"ask": "how shall it be sent?"}]
        if kind == "local":
            agent = create_plan_execute_agent(None, tools=[confirmed_send], **storage)
        values = agent.invoke(Command(resume="pigeon"), thread())
        assert "__interrupt__" not in values
        assert values["results"]["one"]["output"] == "sent it by pigeon"


@pytest.mark.parametrize("kind", ASKING_SYNC)
def test_a_tool_of_an_agent_step_may_ask_by_itself_and_is_answered_once(tmp_path, kind):
    def turn(messages):
        if messages[-1].type == "tool":
            return f"done: {messages[-1].text}"
        return ScriptedModel.tool_calls(("confirmed_send", {"text": "it"}))

    model = ScriptedModel({"executor": [turn]}, strict=False)
    step = {"id": "one", "task": "send it", "tools": ["confirmed_send"]}
    with opened(kind, tmp_path) as storage:
        agent = create_plan_execute_agent(model, tools=[confirmed_send], **storage)
        values = agent.invoke(plan(step), thread(), context=Context(approval="never"))
        assert [i.value for i in values["__interrupt__"]] == [{"ask": "how shall it be sent?"}]
        values = agent.invoke(Command(resume="pigeon"), thread())
        assert "__interrupt__" not in values
        assert values["results"]["one"]["output"] == "done: sent it by pigeon"


@pytest.mark.parametrize("kind", ASKING_SYNC)
def test_an_agent_inside_a_tool_asks_through_the_conversation_around_it(tmp_path, log, kind):
    inner = agent_of(log)

    @tool
    def work(text: str) -> str:
        """Do the work."""
        return inner.invoke({"plan": {**WRITING["plan"], "goal": text}})["final_answer"]

    said = [ScriptedModel.tool_calls(("work", {"text": "do it"})), "It is done."]
    with opened(kind, tmp_path) as storage:
        chat = create_agent(ScriptedModel(said), [work], checkpointer=storage["checkpointer"])
        values = chat.invoke({"messages": "do it"}, thread())
        assert names(values) == ["approve_plan"]
        assert not log.calls()
        values = chat.invoke(Command(resume="approve"), thread())
        assert values["messages"][-1].text == "It is done."
    assert log.calls() == {"a": 1, "b": 1}


@pytest.mark.parametrize("kind", ASKING_SYNC)
def test_an_agent_inside_a_tool_asks_through_the_agent_around_it(tmp_path, log, kind):
    inner = agent_of(log)

    @tool
    def work(text: str) -> str:
        """Do the work."""
        given = {"plan": {**WRITING["plan"], "goal": text}}
        return inner.invoke(given, context={"approval": "always"})["final_answer"]

    step = {"id": "one", "task": "", "call": {"tool": "work", "args": {"text": "do it"}}}
    with opened(kind, tmp_path) as storage:
        outer = create_plan_execute_agent(None, tools=[work], **storage)
        values = outer.invoke(plan(step), thread(), context=Context(approval="never"))
        assert names(values) == ["approve_plan"]
        values = outer.invoke(Command(resume="approve"), thread())
        assert values["status"] == "done", values
        assert values["results"]["one"]["output"].startswith("All steps are done.")
    assert log.calls() == {"a": 1, "b": 1}
