"""Planners are asked for lines, and whatever they answer instead is understood or mended."""

from __future__ import annotations

import itertools
import json
from typing import Any

from langchain_core.messages import AIMessage
from openai_stub import OpenAIStub, Reply
from plans import FREE, Thread, agent_with, bound, draft, draft_step
from toolset import Toolset

from plan_execute import Context, ScriptedModel

LINES = '1. look("x")\n2. look($1)\n3. "Write about ${1}" after=[2] check="names x"'
_names = itertools.count()


async def _run(
    *planner: Any, context: Context = FREE, **roles: Any
) -> tuple[dict[str, Any], Toolset, ScriptedModel]:
    tools, model = Toolset(), ScriptedModel({"planner": list(planner), "synthesizer": ["ok"], **roles})
    result = await Thread(agent_with(tools.tools, model), context).send({"goal": "the goal"})
    return result, tools, model


async def test_a_plan_in_lines_is_run_as_the_same_plan_in_json() -> None:
    roles = {"executor": ["about x"], "evaluator": [ScriptedModel.verdict(met=True)]}
    result, tools, _ = await _run(LINES, **roles)
    assert (result["status"], tools.calls) == ("done", [("look", "x"), ("look", "found x")])
    first, second, third = result["plan"]["steps"]
    assert [step["id"] for step in result["plan"]["steps"]] == ["look_x", "look", "write_about_1"]
    assert first["call"] == {"tool": "look", "args": {"q": "x"}}
    assert (second["call"]["args"], second["depends_on"]) == ({"q": "${look_x}"}, ["look_x"])
    assert (third["task"], sorted(third["depends_on"])) == ("Write about ${look_x}", ["look", "look_x"])
    assert third["success_criteria"] == [{"type": "judge", "criterion": "names x"}]
    assert result["usage"]["by_role"]["planner"]["model_calls"] == 1


async def test_lines_that_cannot_be_read_go_back_and_are_mended_as_lines() -> None:
    result, tools, model = await _run("1. look(x)\n2. look($1)", '1. look("x")\n2. look($1)')
    assert (result["status"], len(tools.calls), len(model.calls)) == ("done", 2, 3)
    assert "line 1: x is not a value" in str(model.calls[1].messages[-1].text)
    assert model.calls[1].messages[0] == model.calls[0].messages[0]


async def test_a_model_that_writes_no_lines_is_asked_for_json_of_the_schema() -> None:
    prose = Reply("I would look.")
    replies = [prose, prose, Reply.json(draft(draft_step("a", "look", {"q": "x"}))), Reply("ok")]
    with OpenAIStub(replies) as stub:
        agent = agent_with(Toolset().tools, f"lines-{next(_names)}", base_url=stub.base_url)
        result = await Thread(agent, FREE).send({"goal": "g"})
    assert result["status"] == "done"
    assert ["response_format" in request.body for request in stub.requests] == [False, False, True, False]
    said = [json.dumps(request.body["messages"]) for request in stub.requests]
    assert ["one step a line" in text for text in said] == [True, True, True, False]
    assert "`arguments` a JSON object as text" in said[2]


async def test_a_model_that_fails_twice_at_the_lines_is_asked_for_json() -> None:
    good = Reply.json(draft(draft_step("a", "look", {"q": "x"})))
    with OpenAIStub([Reply("1. look(x)"), Reply("1. look(y)"), good, Reply("ok")]) as stub:
        agent = agent_with(Toolset().tools, f"lines-{next(_names)}", base_url=stub.base_url)
        assert (await Thread(agent, FREE).send({"goal": "g"}))["status"] == "done"
    assert ["response_format" in request.body for request in stub.requests] == [False, False, True, False]


async def test_lines_that_were_cut_off_are_no_plan_however_whole_they_look() -> None:
    cut = AIMessage('1. look("x")\n', response_metadata={"finish_reason": "length"})
    result, tools, _ = await _run(cut, '1. look("x")\n2. look("y")')
    assert (result["status"], [call[1] for call in tools.calls]) == ("done", ["x", "y"])


async def test_a_rolling_plan_goes_on_in_lines_that_refer_to_what_ran() -> None:
    result, tools, model = await _run('1. look("x")\nmore', "2. look($look_x)\n3. look($2)\nmore", "finished")
    assert (result["status"], len(tools.calls)) == ("done", 3)
    assert [step["id"] for step in result["plan"]["steps"]] == ["look_x", "look", "look_2"]
    assert "`name = tool(…)`" in str(model.calls[1].messages[-1].text)


async def test_a_number_in_a_later_round_is_a_new_step_even_where_it_repeats_one() -> None:
    result, tools, _ = await _run('1. look("x")\nmore', '1. look("x")')
    assert (result["status"], tools.calls) == ("done", [("look", "x"), ("look", "x")])
    assert [step["id"] for step in result["plan"]["steps"]] == ["look_x", "look_x_2"]


async def test_a_revision_is_written_in_lines_too() -> None:
    tools = Toolset()
    model = ScriptedModel({"replanner": ["again = look($z)"], "synthesizer": ["ok"]})
    context = Context(approval="never", on_failure="replan", max_attempts=1)
    result = await Thread(agent_with(tools.tools, model), context).run(
        bound("z", "look", {"q": "zed"}), bound("a", "broken", {"q": "x"}, "z")
    )
    assert (result["status"], result["results"]["again"]["output"]) == ("done", "found found zed")
    assert "`name = tool(…)`" in str(model.calls[0].messages[0].text)


async def test_a_goal_that_is_impossible_says_why() -> None:
    result, *_ = await _run("impossible: there is no oven")
    assert (result["status"], "there is no oven" in result["final_answer"]) == ("failed", True)


async def test_the_planners_prompt_begins_alike_in_every_run() -> None:
    begun = []
    for goal in ("one", "two"):
        model = ScriptedModel({"planner": ['1. look("x")'], "synthesizer": ["ok"]})
        thread = Thread(agent_with(Toolset().tools, model), FREE)
        await thread.send({"goal": goal, "inputs": {"mail": "text from outside"}})
        begun.append(model.calls[0].messages[0].text)
    assert begun[0] == begun[1]
    assert "<data " in begun[0]
