"""What a planner writes instead of a plan: prose, broken JSON, a question."""

from __future__ import annotations

import json
from typing import Any

import pytest
from plans import FREE, Thread, agent_with, draft, draft_step
from toolset import Toolset

from plan_execute import Context, ScriptedModel

GOOD = '1. echo("Rome")'


async def ran(*answers: str) -> tuple[Any, ScriptedModel]:
    model = ScriptedModel({"planner": list(answers), "synthesizer": ["ok"]}, strict=False)
    return await Thread(agent_with(Toolset().tools, model), FREE).send({"goal": "Pack"}), model


def told(model: ScriptedModel) -> str:
    return str(model.calls[1].messages[-1].content)


async def test_prose_is_told_in_the_words_of_the_form_that_was_asked_for() -> None:
    result, model = await ran("I would first look at the weather.", GOOD)
    assert result["status"] == "done"
    assert "no line of a plan in your answer, which begins: I would first look" in told(model)
    assert "Write one step a line, as `1. tool(value, name=value)`" in told(model)
    assert "JSON" not in told(model)


async def test_a_line_that_cannot_be_read_is_quoted_with_the_right_form() -> None:
    result, model = await ran('1. echo("Rome")\n- Then pack', GOOD)
    assert result["status"] == "done"
    assert "line 2: " in told(model)
    assert "you wrote: - Then pack" in told(model)


WHOLE = json.dumps(draft(draft_step("a", "echo", {"value": "Rome"})))


@pytest.mark.parametrize(
    "text",
    [
        WHOLE[:-2] + ",]}",
        f"```json\n{WHOLE}\n```",
        WHOLE.replace('"steps"', '// the steps\n"steps"'),
        f"\ufeff{WHOLE}",
    ],
    ids=["trailing comma", "fences", "comment", "byte order mark"],
)
async def test_json_with_a_slip_is_read_without_a_repair(text: str) -> None:
    result, model = await ran(text)
    assert (result["status"], sum(call.role == "planner" for call in model.calls)) == ("done", 1)


@pytest.mark.parametrize("cut", [1, 2, 20], ids=["a brace", "two brackets", "more"])
async def test_json_that_was_cut_off_is_never_completed(cut: int) -> None:
    _, model = await ran(WHOLE[:-cut], GOOD)
    assert "it ends before its brackets are closed" in told(model) or "not JSON" in told(model)
    assert "not permitted" not in told(model)


@pytest.mark.parametrize(
    "text",
    [
        "Which city do you mean?",
        "Question: which city do you mean?",
        "**Question:** “which city do you mean?”",
    ],
)
async def test_a_question_in_place_of_a_plan_reaches_the_person(text: str) -> None:
    result, model = await ran(text)
    assert sum(call.role == "planner" for call in model.calls) == 1
    (question,) = result["__interrupt__"]
    request = question.value["action_requests"][0]
    assert request["name"] == "ask_person"
    assert "hich city do you mean?" in request["args"]["question"]


async def test_ids_of_other_scripts_stay_apart_and_keep_their_words() -> None:
    plan = draft(
        draft_step("погода", "echo", {"value": 1}),
        draft_step("город", "echo", {"value": "${погода}"}, "погода"),
    )
    result, _ = await ran(json.dumps(plan, ensure_ascii=False))
    first, second = (step["id"] for step in result["plan"]["steps"])
    assert first != second
    assert result["results"][second]["output"] == 1


async def test_a_plan_in_the_format_of_plan_files_runs_as_it_is_written() -> None:
    written = {
        "inputs": {"city": {"type": "string", "default": "Rome"}},
        "answer": "Pack for ${a}.",
        "steps": [
            {"id": "a", "call": {"tool": "echo", "args": {"value": "${inputs.city}"}}},
            {
                "id": "b",
                "call": {"tool": "broken", "args": {"q": "x"}},
                "max_attempts": 1,
                "on_failure": "skip",
            },
        ],
    }
    result, model = await ran(json.dumps(written))
    assert sum(call.role == "planner" for call in model.calls) == 1
    assert {i: r["status"] for i, r in result["results"].items()} == {"a": "done", "b": "skipped"}
    assert result["results"]["a"]["output"] == "Rome"


async def test_a_wrong_setting_in_the_format_of_plan_files_goes_back_to_the_planner() -> None:
    written = {"steps": [{"id": "a", "call": {"tool": "echo"}, "on_failure": "explode"}]}
    result, model = await ran(json.dumps(written), GOOD)
    assert result["status"] == "done"
    assert "on_failure: 'explode' is not one of" in told(model)


async def test_a_model_cannot_order_that_a_failed_write_is_made_again() -> None:
    tools = Toolset()
    tools.failures = [RuntimeError("down")] * 10
    step = {**draft_step("w", "wr", {"text": "x"}), "on_failure": "retry", "max_attempts": 9}
    thread = Thread(agent_with(tools.tools, ScriptedModel([draft(step)])), Context(on_failure="ask"))
    await thread.send({"goal": "Write"})
    (asked,) = await thread.questions()
    assert "attempts: at most 2" in asked.value["action_requests"][0]["description"]
    await thread.answer("approve")
    (asked,) = await thread.questions()
    assert asked.value["action_requests"][0]["name"] == "handle_step_failure"
    assert len(tools.calls) == 1
