"""A second message on a finished thread is a follow-up goal."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from plans import FREE, Thread, agent_with, bound, codes, draft, draft_step
from toolset import Toolset

from plan_execute import Context, ScriptedModel


def _draft(q: str) -> dict[str, Any]:
    return draft(draft_step("a", "look", {"q": q}), draft_step("b", "look", {"q": "${a}"}, "a"))


@pytest.mark.parametrize(
    "second",
    [
        {"goal": "and now y"},
        {"messages": [HumanMessage("and now y")]},
        {"messages": {"role": "user", "content": "and now y"}},
    ],
)
async def test_a_follow_up_goal_sees_the_conversation_and_starts_clean(second: Any) -> None:
    tools = Toolset()
    model = ScriptedModel({"planner": [_draft("x"), _draft("y")], "synthesizer": ["x it is", "y it is"]})
    thread = Thread(agent_with(tools.tools, model), FREE)
    first = await thread.send({"goal": "find x"})
    result = await thread.send(second)
    said = "\n".join(str(m.text) for m in [c for c in model.calls if c.role == "planner"][1].messages)
    assert all(word in said for word in ("find x", "x it is", "and now y"))
    assert (result["goal"], result["final_answer"], result["status"]) == ("and now y", "y it is", "done")
    assert result["plan"]["id"] != first["plan"]["id"]
    assert result["plan"]["revision"] == 1
    assert tools.named("look") == ["x", "found x", "y", "found y"], "the same step ids ran again"
    assert result["results"]["a"]["output"] == "found y"
    assert result["usage"]["model_calls"] == 2
    assert [m.text for m in result["messages"]] == ["find x", "x it is", "and now y", "y it is"]


async def test_the_same_goal_again_is_a_new_run() -> None:
    tools = Toolset()
    model = ScriptedModel({"planner": [_draft("x"), _draft("x")], "synthesizer": ["one", "two"]})
    thread = Thread(agent_with(tools.tools, model), FREE)
    await thread.send({"goal": "find x"})
    result = await thread.send({"goal": "find x"})
    assert tools.named("look") == ["x", "found x"] * 2
    assert [m.text for m in result["messages"]] == ["find x", "one", "find x", "two"]


async def test_the_same_given_plan_again_runs_again() -> None:
    tools = Toolset()
    thread = Thread(agent_with(tools.tools), FREE)
    for _ in range(2):
        await thread.run(bound("a", "look", {"q": "x"}))
    assert tools.named("look") == ["x", "x"]


async def test_the_same_given_plan_with_an_id_of_its_own_runs_again_too() -> None:
    tools = Toolset()
    thread = Thread(agent_with(tools.tools), FREE)
    for _ in range(2):
        result = await thread.run(bound("a", "look", {"q": "x"}), id="my-plan", revision=1)
    assert (result["status"], tools.named("look")) == ("done", ["x", "x"])


async def test_issues_results_and_replans_of_the_first_goal_are_gone() -> None:
    tools = Toolset()
    thread = Thread(agent_with(tools.tools), Context(approval="never", on_failure="abort", max_attempts=1))
    assert codes(await thread.run(bound("x", "fly"))) == ["unknown_tool"]
    await thread.run(bound("old", "broken", {"q": "x"}))
    result = await thread.run(bound("new", "look", {"q": "x"}))
    assert (codes(result), set(result["results"]), result["replans"], result["status"]) == (
        [],
        {"new"},
        0,
        "done",
    )


async def test_an_approval_of_the_first_goal_does_not_cover_the_second() -> None:
    tools = Toolset()
    thread = Thread(agent_with(tools.tools))
    await thread.run(bound("a", "wr", {"text": "x"}))
    await thread.answer("approve")
    assert "__interrupt__" in await thread.run(bound("a", "wr", {"text": "x"}))
    assert tools.named("wr") == ["x"]


async def test_an_approval_does_not_cover_a_later_goal_even_of_the_same_plan_id() -> None:
    tools = Toolset()
    thread = Thread(agent_with(tools.tools))
    await thread.run(bound("a", "wr", {"text": "x"}), id="p")
    await thread.answer("approve")
    assert "__interrupt__" in await thread.run(bound("a", "wr", {"text": "evil"}), id="p")
    assert tools.named("wr") == ["x"]


async def test_a_follow_up_after_a_rejection_works() -> None:
    tools = Toolset()
    thread = Thread(agent_with(tools.tools))
    await thread.run(bound("a", "wr", {"text": "x"}))
    assert (await thread.answer("reject"))["status"] == "rejected"
    assert (await thread.run(bound("a", "look", {"q": "x"})))["status"] == "done"


async def test_the_last_human_message_is_the_goal_when_there_is_none() -> None:
    model = ScriptedModel({"planner": [draft(draft_step("a"), outcome="single_step")], "executor": ["hello"]})
    thread = Thread(agent_with((), model), FREE)
    result = await thread.send(
        {"messages": [("user", "first"), ("assistant", "yes?"), ("user", "the real goal")]}
    )
    assert (result["goal"], result["final_answer"]) == ("the real goal", "hello")
    assert [m.text for m in result["messages"]] == ["first", "yes?", "the real goal", "hello"]
