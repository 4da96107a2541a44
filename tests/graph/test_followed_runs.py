"""LangGraph's v3 stream of a run has its plan, its steps and its questions, sync and async."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.stream import StreamChannel
from langgraph.types import Command
from plans import FREE, Thread, agent_with, bound, draft, draft_step, plan, think
from toolset import Toolset

from plan_execute import Context, ScriptedModel
from plan_execute.errors import InvalidInputError
from plan_execute.graph.streams import PlanTransformer

# langgraph 1.2 says of each v3 stream that it may change
pytestmark = pytest.mark.filterwarnings("ignore:The v3 streaming protocol")

ASK = Context(approval="always")


async def _followed(thread: Thread, given: Any, context: Context | None = None) -> dict[str, list[Any]]:
    """Run to the end or to a question, and return what came on each channel."""
    run = await thread.agent.astream_events(given, thread.config, context=context, version="v3")

    async def all_of(channel: StreamChannel[Any]) -> list[Any]:
        return [item async for item in channel]

    async with run:
        plans, steps, questions = await asyncio.gather(*map(all_of, (run.plan, run.steps, run.questions)))
    return {"plan": plans, "steps": steps, "questions": questions}


def _course(steps: list[Any]) -> list[tuple[Any, ...]]:
    return [(step["step_id"], step["status"], step["attempt"]) for step in steps]


async def test_the_plan_comes_first_and_each_step_as_it_goes() -> None:
    thread = Thread(agent_with(Toolset().tools))
    given = {"plan": plan(bound("a", "look", {"q": "x"}), bound("b", "broken", {"q": "x"}, "a"))}
    found = await _followed(thread, given, Context(approval="never", on_failure="abort", max_attempts=1))
    (shown,) = found["plan"]
    assert [step["id"] for step in shown["steps"]] == ["a", "b"]
    assert _course(found["steps"]) == [
        *(("a", "running", 0), ("a", "running", 1), ("a", "done", 1)),
        *(("b", "running", 0), ("b", "running", 1), ("b", "failed", 1)),
    ]
    done, failed = found["steps"][2], found["steps"][5]
    assert (done["verdict"], done["error"], done["usage"]) == ("met", None, {"tool_calls": 1})
    assert (failed["verdict"], failed["error"]["code"]) == ("failed", "tool_failed")


async def test_a_question_comes_with_all_that_was_asked_and_a_resumed_run_shows_its_plan_again() -> None:
    thread = Thread(agent_with(Toolset().tools))
    asked = await _followed(thread, {"plan": plan(bound("a", "wr", {"text": "x"}))}, ASK)
    (question,) = asked["questions"]
    (still_open,) = await thread.questions()
    assert (question["id"], question["name"]) == (still_open.id, "approve_plan")
    assert question["value"] == still_open.value
    assert "**a**" in question["description"]
    assert asked["steps"] == []
    went_on = await _followed(thread, Command(resume={question["id"]: "approve"}))
    assert went_on["plan"] == asked["plan"]
    assert went_on["questions"] == []
    assert _course(went_on["steps"])[-1] == ("a", "done", 1)


async def test_a_new_goal_on_a_thread_does_not_show_the_plan_of_the_goal_before() -> None:
    thread = Thread(agent_with(Toolset().tools))
    await _followed(thread, {"plan": plan(bound("a", "look", {"q": "x"}))}, FREE)
    found = await _followed(thread, {"plan": plan(bound("b", "look", {"q": "x"}))}, FREE)
    assert [[step["id"] for step in one["steps"]] for one in found["plan"]] == [["b"]]


async def test_every_revision_is_shown_once() -> None:
    second = draft(draft_step("c", "look", {"q": "y"}))
    model = ScriptedModel({"replanner": [second], "synthesizer": ["ok"]})
    thread = Thread(agent_with(Toolset().tools, model))
    given = {"plan": plan(bound("b", "broken", {"q": "x"}, on_failure="replan", max_attempts=1))}
    found = await _followed(thread, given, FREE)
    assert [one["revision"] for one in found["plan"]] == [1, 2]


async def test_a_loop_tells_how_many_items_have_ended() -> None:
    thread = Thread(agent_with(Toolset().tools))
    given = {
        "plan": plan(bound("a", "look", {"q": "${item}"}, for_each="${inputs.of}")),
        "inputs": {"of": ["x", "y"]},
    }
    found = await _followed(thread, given, FREE)
    items = [step["items"] for step in found["steps"]]
    assert items[-3:] == [{"done": 1, "total": 2}, {"done": 2, "total": 2}, {"done": 2, "total": 2}]


async def test_steps_of_a_sub_plan_say_what_they_are_within() -> None:
    model = ScriptedModel(
        {"planner": [draft(draft_step("inner", "look", {"q": "x"}))], "synthesizer": ["ok"] * 2}
    )
    thread = Thread(agent_with(Toolset().tools, model))
    found = await _followed(thread, {"plan": plan({"id": "outer", "plan": {"goal": "g"}})}, FREE)
    ended = {step["step_id"]: step["within"] for step in found["steps"] if step["status"] == "done"}
    assert ended == {"inner": ["outer"], "outer": []}
    assert [[step["id"] for step in one["steps"]] for one in found["plan"]] == [["outer"]]


async def test_what_agents_and_tools_write_into_the_stream_changes_nothing() -> None:
    tools, model = (
        Toolset(),
        ScriptedModel({"executor": [ScriptedModel.tool_calls(("look", {"q": "x"})), "done"]}),
    )
    thread = Thread(agent_with(tools.tools, model))
    found = await _followed(thread, {"plan": plan(think("a", tools=["look"]), answer="${a}")}, FREE)
    assert _course(found["steps"]) == [("a", "running", 0), ("a", "running", 1), ("a", "done", 1)]


def test_the_sync_stream_has_the_same() -> None:
    agent = agent_with(Toolset().tools)
    given: Any = {"plan": plan(bound("a", "look", {"q": "x"}))}
    config: Any = {"configurable": {"thread_id": "t"}}
    run = agent.stream_events(given, config, context=FREE, version="v3")
    assert [step["status"] for step in run.steps] == ["running", "running", "done"]
    assert run.output is not None
    assert run.output["status"] == "done"


async def test_the_door_stands_before_this_stream_too() -> None:
    thread = Thread(agent_with(Toolset().tools))
    with pytest.raises(InvalidInputError):
        await _followed(thread, {"nonsense": 1}, FREE)


async def test_as_a_node_of_another_graph_the_run_is_followed_on_its_subgraph() -> None:
    agent = agent_with(Toolset().tools, checkpointer=None, store=None)

    async def work(state: MessagesState) -> Any:
        await agent.ainvoke({"plan": plan(bound("a", "look", {"q": "x"}))}, context=FREE)
        return {}

    outer = StateGraph(MessagesState).add_node("work", work).add_edge(START, "work").compile()
    run = await outer.astream_events({"messages": []}, version="v3", transformers=[PlanTransformer])
    shown: list[Any] = []
    async with run:
        async for inner in run.subgraphs:
            shown += [step["status"] async for step in inner.steps]
    assert shown[-1:] == ["done"]
