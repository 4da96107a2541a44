"""Steps that are goals of their own: planned and run by the same graph, within the parent's limits."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.types import Command
from plans import FREE, Thread, agent_with, bound, codes, draft, draft_step, plan
from toolset import Toolset

from plan_execute import Context, ScriptedModel


def sub(goal: str, step_id: str = "s", *after: str, **fields: Any) -> dict[str, Any]:
    return {"id": step_id, "plan": {"goal": goal}, "depends_on": list(after), **fields}


def look(q: str = "deep", step_id: str = "x") -> dict[str, Any]:
    return draft(draft_step(step_id, "look", {"q": q}))


async def test_a_sub_plan_is_planned_and_run_and_its_answer_is_the_output() -> None:
    tools = Toolset()
    model = ScriptedModel({"planner": [look()], "synthesizer": ["inner", "outer"]})
    result = await Thread(agent_with(tools.tools, model), FREE).run(
        bound("a", "echo", {"value": "Rome"}),
        sub("learn about ${a}"),
        bound("b", "echo", {"value": "so: ${s}"}),
    )
    assert result["results"]["b"]["output"] == "so: inner"
    assert (result["status"], result["final_answer"]) == ("done", "outer")
    assert "learn about Rome" in str(model.calls[0].messages)
    assert tools.named("look") == ["deep"]
    assert [call["tool"] for call in result["results"]["s"]["evidence"]] == ["look"]
    assert [step["id"] for step in result["plan"]["steps"]] == ["a", "s", "b"], "the parent's plan stays"


async def test_a_declared_output_is_read_as_json_and_checked() -> None:
    model = ScriptedModel({"planner": [look()], "synthesizer": ['{"n": 3}', "outer"]})
    result = await Thread(agent_with(Toolset().tools, model), FREE).run(
        sub("count", output_schema={"type": "object", "required": ["n"]}),
        bound("b", "echo", {"value": "${s.n}"}),
    )
    assert (result["results"]["b"]["output"], result["results"]["s"]["verdict"]) == (3, "met")


async def test_what_a_sub_plan_would_change_is_asked_about_before_it_does() -> None:
    tools = Toolset()
    model = ScriptedModel(
        {"planner": [draft(draft_step("w", "wr", {"text": "hello"}))], "synthesizer": ["inner", "outer"]}
    )
    thread = Thread(agent_with(tools.tools, model))
    await thread.run(sub("write hello"))
    question = await thread.question()
    assert (question["name"], tools.calls) == ("approve_plan", [])
    assert "wr" in question["description"]
    result = await thread.answer("approve")
    assert (result["status"], tools.named("wr")) == ("done", ["hello"])


async def test_a_sub_plan_rejected_by_a_person_fails_its_step() -> None:
    tools = Toolset()
    model = ScriptedModel(
        {"planner": [draft(draft_step("w", "wr", {"text": "x"}))], "synthesizer": ["outer"]}
    )
    thread = Thread(agent_with(tools.tools, model), Context(on_failure="abort"))
    await thread.run(sub("write"))
    result = await thread.answer({"type": "reject"})
    assert (result["results"]["s"]["error"]["code"], tools.calls) == ("sub_plan_failed", [])
    assert result["status"] == "failed"


async def test_the_budget_of_a_sub_plan_is_part_of_its_parents_and_counted_once() -> None:
    model = ScriptedModel({"planner": [look()], "synthesizer": ["inner", "outer"]})
    result = await Thread(agent_with(Toolset().tools, model), FREE).run(
        bound("a", "look", {"q": "1"}), sub("go")
    )
    assert (result["usage"]["model_calls"], result["usage"]["tool_calls"]) == (3, 2)
    model = ScriptedModel({"planner": [look()], "synthesizer": ["outer"]})
    settings = Context(approval="never", max_tool_calls=1)
    tools = Toolset()
    result = await Thread(agent_with(tools.tools, model), settings).run(
        bound("a", "look", {"q": "1"}), sub("go", "s", "a", on_failure="abort")
    )
    assert result["results"]["s"]["status"] == "failed"
    assert tools.named("look") == ["1"]


async def test_a_sub_plan_that_does_not_end_done_is_a_failed_step_with_its_reason() -> None:
    model = ScriptedModel(
        {"planner": [draft(outcome="cannot_plan", rationale="no such city")], "synthesizer": ["o"]}
    )
    result = await Thread(agent_with(Toolset().tools, model), FREE).run(sub("go", on_failure="abort"))
    error = result["results"]["s"]["error"]
    assert error["code"] == "sub_plan_failed"
    assert "no such city" in error["message"]


async def test_deeper_than_max_depth_is_an_issue_for_whoever_planned_it() -> None:
    result = await Thread(agent_with((), ScriptedModel({})), Context(max_depth=0)).run(sub("go"))
    assert codes(result) == ["depth_exceeded"]
    nested = {**draft_step("n"), "goal": "deeper"}
    model = ScriptedModel({"planner": [draft(nested), look()], "synthesizer": ["inner", "outer"]})
    result = await Thread(agent_with(Toolset().tools, model), Context(approval="never", max_depth=1)).run(
        sub("go")
    )
    assert result["status"] == "done"
    assert "depth_exceeded" in str(model.calls[1].messages), "the planner is told and writes again"


async def test_sub_plans_nest_to_the_limit() -> None:
    tools = Toolset()
    nested = {**draft_step("n"), "goal": "deeper"}
    model = ScriptedModel({"planner": [draft(nested), look()], "synthesizer": ["inner", "outer"]})
    result = await Thread(agent_with(tools.tools, model), FREE).run(sub("go"))
    assert (result["status"], tools.named("look"), result["results"]["s"]["output"]) == (
        "done",
        ["deep"],
        "inner",
    )


async def test_a_sub_plan_needs_a_planner_and_a_goal() -> None:
    assert codes(await Thread(agent_with(), FREE).run(sub("go"))) == ["missing_model"]
    assert codes(await Thread(agent_with((), ScriptedModel({})), FREE).run(sub("  "))) == ["malformed_plan"]


async def test_each_item_of_a_loop_can_be_a_sub_plan() -> None:
    tools = Toolset()
    model = ScriptedModel({"planner": [look("1"), look("2")], "synthesizer": ["one", "two", "outer"]})
    given = plan(sub("learn ${item}", for_each="${inputs.all}"), inputs={"all": {"default": ["x", "y"]}})
    agent, settings = agent_with(tools.tools, model), Context(approval="never", max_parallel=1)
    result = await Thread(agent, settings).send({"plan": given})
    assert (result["results"]["s"]["output"], tools.named("look")) == (["one", "two"], ["1", "2"])


@pytest.mark.parametrize("wrong", ["banana", {"type": "edit"}])
async def test_a_bad_answer_to_a_sub_plans_question_is_refused_and_it_stays_open(wrong: Any) -> None:
    tools = Toolset()
    model = ScriptedModel(
        {"planner": [draft(draft_step("w", "wr", {"text": "x"}))], "synthesizer": ["inner", "outer"]}
    )
    thread = Thread(agent_with(tools.tools, model))
    await thread.run(sub("write"))
    with pytest.raises(Exception, match=r"(?i)answer|approve|edit"):
        await thread.send(Command(resume=wrong))
    assert (await thread.question())["name"] == "approve_plan"
    assert (await thread.answer("approve"))["status"] == "done"


@pytest.mark.parametrize(
    ("inner", "reference", "handed_on"),
    [
        ([draft_step("x", "echo", {"value": {"n": 3}})], "${s}", {"n": 3}),
        ([draft_step("x", "echo", {"value": {"n": 3}})], "${s.n}", 3),
        (
            [draft_step("x", "echo", {"value": 1}), draft_step("y", "echo", {"value": 2})],
            "${s}",
            {"x": 1, "y": 2},
        ),
        ([draft_step("x", "echo", {"value": {"n": 3}})], "so: ${s}", "so: a summary"),
    ],
    ids=["whole", "in parts", "several", "within a text"],
)
async def test_a_sub_plan_hands_on_its_final_outputs_where_they_are_taken_as_values(
    inner: list[Any], reference: str, handed_on: Any
) -> None:
    model = ScriptedModel({"planner": [draft(*inner)], "synthesizer": ["a summary", "outer"]})
    result = await Thread(agent_with(Toolset().tools, model), FREE).run(
        sub("count"), bound("b", "echo", {"value": reference})
    )
    assert result["results"]["b"]["output"] == handed_on


@pytest.mark.parametrize(
    ("inner", "verdict"),
    [(draft_step("x", "look", {"q": "deep"}), "met"), (draft_step("x", task="think"), "unverified")],
    ids=["bound", "thought"],
)
async def test_a_sub_plan_is_as_verified_as_its_steps(inner: dict[str, Any], verdict: str) -> None:
    model = ScriptedModel({"planner": [draft(inner)], "executor": ["hm"], "synthesizer": ["inner", "outer"]})
    result = await Thread(agent_with(Toolset().tools, model), FREE).run(sub("learn"))
    assert result["results"]["s"]["verdict"] == verdict
