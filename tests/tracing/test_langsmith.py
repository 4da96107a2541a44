"""What LangSmith is sent of a run, over real HTTP: a tree with telling names and marks, and no secrets."""

import os

import pytest
from langchain_core.tracers import LangChainTracer
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langsmith import Client
from plans import agent_with, bound, draft, draft_step, plan
from trace_server import TraceServer

from plan_execute import Context, ScriptedModel

SECRET = "whisper-me-not-1234"
FREE = Context(approval="never", secret_names=("SHOP_WORD",))
"""Settings of the run alone make the word a secret."""


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("SHOP_WORD", SECRET)
    with TraceServer() as server:
        yield server


@pytest.fixture
def client(server):
    client = Client(api_url=server.url, api_key="not-a-key")
    yield client
    client.close()


def add(a: int, b: int) -> int:
    """Add."""
    return a + b


def look() -> str:
    """Say what must not be said."""
    return f"it is {os.environ['SHOP_WORD']}"


def fail() -> str:
    """Raise what must not be said."""
    raise ValueError(f"cannot use {os.environ['SHOP_WORD']}")


def model():
    return ScriptedModel(
        {
            "planner": [
                draft(
                    draft_step("sum", "add", {"a": 1, "b": 2}),
                    draft_step("say", None, None, "sum", tools=["look"], criterion="is good"),
                )
            ],
            "executor": [ScriptedModel.tool_calls(("look", {})), f"I saw {SECRET}"],
            "evaluator": [ScriptedModel.verdict(met=True)],
            "synthesizer": [f"the end of {SECRET}"],
        }
    )


async def test_every_part_of_a_run_has_a_name_tags_and_metadata_of_its_own(server, client):
    config = {"configurable": {"thread_id": "t9"}, "callbacks": [LangChainTracer(client=client)]}
    done = await agent_with([add, look], model()).ainvoke({"goal": "count"}, config, context=FREE)
    client.flush()
    say = ["plan_execute", "executor", "step say", "attempt 1"]
    for name, below in {
        "planner": ["plan_execute", "planner"],
        "add": ["plan_execute", "executor", "step sum", "attempt 1"],
        "executor say": [*say, "step_agent", "model"],
        "look": [*say, "step_agent", "tools"],
        "evaluator say": say,
        "synthesizer": ["plan_execute", "synthesizer"],
    }.items():
        # langchain 1.4 shows middleware as runs of their own
        path = [part for part in server.path_of(name) if not part.startswith("StepGuard")]
        assert path == [*below, name]
    assert server.runs["plan_execute"]["extra"]["metadata"]["thread_id"] == "t9"
    asked = server.runs["executor say"]
    assert {"plan_execute", "role:executor", "step:say"} <= set(asked["tags"])
    marks = {
        "thread_id": "t9",
        "plan_execute_role": "executor",
        "plan_execute_step": "say",
        "plan_execute_attempt": 1,
        "plan_execute_plan": done["plan"]["id"],
        "plan_execute_revision": 1,
        "plan_execute_agent": "step_agent",
    }
    assert marks.items() <= asked["extra"]["metadata"].items()
    assert server.runs["add"]["extra"]["metadata"]["plan_execute_call"] == "sum-1"
    assert server.runs["attempt 1"]["outputs"]["verdict"] == "met"


async def test_secrets_are_not_sent(server, client):
    tracer = LangChainTracer(client=client)
    config = {"configurable": {"thread_id": "1"}, "callbacks": [tracer]}
    agent = agent_with([add, look, fail], model())
    await agent.ainvoke({"goal": f"count with {SECRET}"}, config, context=FREE)
    steps = [bound("look", "look"), bound("fail", "fail", on_failure="skip")]
    await agent.ainvoke({"plan": plan(*steps)}, config, context=FREE)
    client.flush()
    sent = "\n".join(server.bodies)
    assert SECRET not in sent
    assert server.runs["look"]["outputs"] == {"output": "it is [redacted SHOP_WORD]"}
    assert "cannot use [redacted SHOP_WORD]" in server.runs["fail"]["error"]
    assert "count with [redacted SHOP_WORD]" in sent
    assert tracer.client.redactors == {}, "nothing of a run is kept"


async def test_switched_on_by_its_environment_variables_it_is_sent_no_secrets_either(server, client):
    from langsmith import tracing_context

    with tracing_context(enabled=True, client=client, project_name="mine"):
        config = {"configurable": {"thread_id": "1"}}
        await agent_with([look]).ainvoke({"plan": plan(bound("look", "look"))}, config, context=FREE)
    client.flush()
    assert server.path_of("look")[-3:] == ["step look", "attempt 1", "look"]
    assert SECRET not in "\n".join(server.bodies)


async def test_below_a_parent_graph_each_run_is_sent_once_and_the_parents_own_are_left_as_they_are(
    server, client
):
    inner = agent_with([look], checkpointer=None)

    async def call(state: MessagesState) -> dict:
        await inner.ainvoke({"plan": plan(bound("look", "look"))}, context=FREE)
        return {"messages": ["the word whisper-me-not is fine"]}

    parent = StateGraph(MessagesState).add_node("call", call).add_edge(START, "call")
    config = {"configurable": {"thread_id": "1"}, "callbacks": [LangChainTracer(client=client)]}
    compiled = parent.compile(checkpointer=InMemorySaver(), name="parent")
    await compiled.ainvoke({"messages": ["go"]}, config)
    client.flush()
    assert server.path_of("look")[:3] == ["parent", "call", "plan_execute"]
    names = [run["name"] for run in server.by_id.values()]
    assert names.count("look") == names.count("plan_execute") == 1
    assert SECRET not in "\n".join(server.bodies)
    assert "whisper-me-not is fine" in "\n".join(server.bodies)
