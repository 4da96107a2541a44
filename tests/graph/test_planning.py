"""A goal becomes a plan, a reasoned refusal, or one step."""

from __future__ import annotations

from typing import Any

import pytest
from plans import FREE, Thread, agent_with, codes, draft, draft_step, statuses
from toolset import Toolset

from plan_execute import Context, ScriptedModel

GOOD = draft(draft_step("a", "look", {"q": "x"}), draft_step("b", "wr", {"text": "${a}"}, "a"))


def _said(model: ScriptedModel, number: int, role: str = "planner") -> str:
    calls = [call for call in model.calls if call.role == role]
    return "\n".join(str(message.text) for message in calls[number].messages)


async def test_a_goal_becomes_a_plan_a_checked_result_and_an_answer() -> None:
    tools, model = Toolset(), ScriptedModel({"planner": [GOOD], "synthesizer": ["all written"]})
    result = await Thread(agent_with(tools.tools, model), FREE).send({"goal": "write x down"})
    model.assert_used()
    assert (result["status"], result["final_answer"]) == ("done", "all written")
    assert tools.calls == [("look", "x"), ("wr", "found x")]
    assert result["plan"]["goal"] == "write x down"
    assert result["plan"]["revision"] == 1
    assert [type(message).__name__ for message in result["messages"]] == ["HumanMessage", "AIMessage"]


async def test_the_planner_sees_the_goal_and_every_tool_with_arguments_and_effect() -> None:
    model = ScriptedModel({"planner": [GOOD], "synthesizer": ["ok"]})
    context = Context(approval="never", instructions="Be brief in all things.")
    await Thread(agent_with(Toolset().tools, model), context).send({"goal": "the very goal"})
    said = _said(model, 0)
    signatures = ("look(q: string) -> string: ", "wr(text: string) -> string [write]: ")
    words = ("the very goal", *signatures, "Be brief")
    assert all(word in said for word in words)


async def test_a_plan_of_bound_steps_costs_two_model_calls_in_all() -> None:
    steps = [draft_step(f"s{n}", "look", {"q": str(n)}) for n in range(20)]
    model = ScriptedModel({"planner": [draft(*steps)], "synthesizer": ["ok"]})
    result = await Thread(agent_with(Toolset().tools, model), FREE).send({"goal": "g"})
    assert (result["status"], result["usage"]["model_calls"], len(model.calls)) == ("done", 2, 2)


async def test_a_trivial_goal_costs_one_planning_call_and_one_step() -> None:
    single = draft(draft_step("say", task="say hello"), outcome="single_step")
    model = ScriptedModel({"planner": [single], "executor": ["hello"]})
    result = await Thread(agent_with(Toolset().tools, model), FREE).send({"goal": "hello?"})
    assert (result["status"], result["final_answer"], len(model.calls)) == ("done", "hello", 2)


async def test_a_trivial_goal_with_a_bound_step_costs_one_planning_call() -> None:
    single = draft(draft_step("find", "look", {"q": "x"}), outcome="single_step")
    model = ScriptedModel({"planner": [single]})
    result = await Thread(agent_with(Toolset().tools, model), FREE).send({"goal": "find x"})
    assert (result["status"], len(model.calls)) == ("done", 1)
    assert "found x" in result["final_answer"]


async def test_a_goal_that_cannot_be_planned_fails_with_the_reason_in_the_answer() -> None:
    model = ScriptedModel(
        {"planner": [draft(outcome="cannot_plan", rationale="there is no tool that flies")]}
    )
    result = await Thread(agent_with(Toolset().tools, model), FREE).send({"goal": "fly"})
    assert result["status"] == "failed"
    assert "there is no tool that flies" in result["final_answer"]
    assert len(model.calls) == 1


async def test_integer_and_dashed_ids_are_normalised_together_with_every_use() -> None:
    tools = Toolset()
    written = draft(
        draft_step(1, "look", {"q": "x"}),
        draft_step("step-2", "look", {"q": "${1} and ${ 1 }"}, 1),
        draft_step("3", "wr", {"text": "${step-2}"}, "step-2", 1),
    )
    model = ScriptedModel({"planner": [written], "synthesizer": ["ok"]})
    result = await Thread(agent_with(tools.tools, model), FREE).send({"goal": "g"})
    assert result["status"] == "done", result["final_answer"]
    assert statuses(result) == {"step_1": "done", "step_2": "done", "step_3": "done"}
    assert tools.calls[-1] == ("wr", "found found x and found x")
    assert result["plan"]["steps"][2]["depends_on"] == ["step_2", "step_1"]


BAD = [
    pytest.param(draft(draft_step("a", "fly")), "unknown_tool", id="unknown tool"),
    pytest.param(
        draft(draft_step("a", "look", {"q": "x"}), draft_step("a", "look", {"q": "y"})),
        "duplicate_id",
        id="dup",
    ),
    pytest.param(
        draft(draft_step("a", "look", {"q": "x"}, "b"), draft_step("b", "look", {"q": "x"}, "a")),
        "cycle",
        id="cycle",
    ),
    pytest.param(
        draft(*(draft_step(f"s{n}", "look", {"q": "x"}) for n in range(200))),
        "too_many_steps",
        id="200 steps",
    ),
    pytest.param(draft(draft_step("a", "look", {"nope": 1})), "bad_arguments", id="bad arguments"),
    pytest.param(draft(draft_step("a", "look", {"q": "${ghost}"})), "unresolved_reference", id="reference"),
]


@pytest.mark.parametrize(("bad", "code"), BAD)
async def test_an_invalid_plan_goes_back_to_the_planner_with_its_issues_and_is_mended(
    bad: Any, code: str
) -> None:
    tools, model = Toolset(), ScriptedModel({"planner": [bad, GOOD], "synthesizer": ["ok"]})
    result = await Thread(agent_with(tools.tools, model), FREE).send({"goal": "g"})
    model.assert_used()
    assert (result["status"], result["plan_issues"]) == ("done", [])
    assert code in _said(model, 1)
    assert "Your last plan cannot run" in _said(model, 1)
    assert tools.calls == [("look", "x"), ("wr", "found x")]


@pytest.mark.parametrize(("bad", "code"), BAD[:3])
@pytest.mark.parametrize("attempts", [1, 2, 3])
async def test_after_max_plan_attempts_the_run_fails_with_the_issues_in_the_answer(
    bad: Any, code: str, attempts: int
) -> None:
    tools, model = Toolset(), ScriptedModel({"planner": [bad] * attempts})
    context = Context(approval="never", max_plan_attempts=attempts)
    result = await Thread(agent_with(tools.tools, model), context).send({"goal": "g"})
    model.assert_used()
    assert (result["status"], code in codes(result), code in result["final_answer"]) == ("failed", True, True)
    assert tools.calls == []


async def test_an_empty_plan_is_sent_back_within_the_call_and_then_fails_clearly() -> None:
    model = ScriptedModel({"planner": [draft(), draft(), draft()]})
    result = await Thread(agent_with(Toolset().tools, model), FREE).send({"goal": "g"})
    assert result["status"] == "failed"
    assert "steps is empty" in result["final_answer"]


async def test_feedback_of_every_rejection_reaches_the_planner_with_the_rejected_plan() -> None:
    drafts = [draft(draft_step(f"try{n}", "wr", {"text": f"version {n}"})) for n in range(3)]
    tools, model = Toolset(), ScriptedModel({"planner": drafts, "synthesizer": ["ok"]})
    thread = Thread(agent_with(tools.tools, model))
    await thread.send({"goal": "g"})
    await thread.answer({"type": "reject", "message": "more colour"})
    result = await thread.answer({"type": "respond", "message": "less text"})
    first, second = _said(model, 1), _said(model, 2)
    assert "more colour" in first
    assert "version 0" in first
    assert all(word in second for word in ("more colour", "less text", "version 1"))
    assert "version 0" not in second
    assert "__interrupt__" in result
    result = await thread.answer("approve")
    assert (result["status"], tools.calls) == ("done", [("wr", "version 2")])
    assert result["replans"] == 0, "revisions before the first approval are no replans"


async def test_the_success_criterion_that_a_planner_writes_is_judged() -> None:
    written = draft(draft_step("a", "look", {"q": "x"}, criterion="names x"))
    model = ScriptedModel(
        {"planner": [written], "evaluator": [ScriptedModel.verdict(met=True)], "synthesizer": ["ok"]}
    )
    result = await Thread(agent_with(Toolset().tools, model), FREE).send({"goal": "g"})
    assert result["results"]["a"]["criteria"] == [{"type": "judge", "passed": True, "gap": ""}]
    assert "names x" in _said(model, 0, "evaluator")


async def test_roles_may_have_models_of_their_own() -> None:
    planner, worker = (
        ScriptedModel({"planner": [draft(draft_step("a"))]}),
        ScriptedModel({"executor": ["done"]}),
    )
    result = await Thread(agent_with((), worker, models={"planner": planner}), FREE).send({"goal": "g"})
    planner.assert_used()
    worker.assert_used()
    assert result["final_answer"] == "done"
