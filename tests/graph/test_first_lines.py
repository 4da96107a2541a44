"""Status and first line of an answer agree, whatever the model that wrote the rest of it claims."""

from __future__ import annotations

from typing import Any

import pytest
from plans import FREE, Thread, agent_with, bound, draft, draft_step, think
from toolset import Toolset

from plan_execute import Context, ScriptedModel

CLAIM = "All went well."
LOOKED = [ScriptedModel.tool_calls(("look", {"q": "tea"})), "7"]
WROTE = [ScriptedModel.tool_calls(("wr", {"text": "hello"})), "It is written."]


async def first_line(
    *steps: dict[str, Any], executor: list[Any], context: Context = FREE, **roles: list[Any]
) -> str:
    model = ScriptedModel({"executor": executor, "synthesizer": [CLAIM], **roles})
    result = await Thread(agent_with(Toolset().tools, model), context).run(*steps)
    line: str = result["final_answer"].partition("\n")[0]
    return f"{result['status']}: {line}"


@pytest.mark.parametrize(
    ("steps", "executor", "named"),
    [
        ([think("a", tools=["look"])], LOOKED, " of a"),
        ([think("a", tools=["wr"])], WROTE, " of a"),
        ([think("a"), bound("b", "wr", {"text": "${a}"})], ["7"], " of a"),
        ([think("a", tools=["look"]), think("b", "a", tools=["wr"])], [*LOOKED, *WROTE], "s of a, b"),
    ],
    ids=["looked up", "written", "thought, and written with that", "both"],
)
async def test_an_answer_that_rests_on_what_nobody_checked_says_so_first(
    steps: list[dict[str, Any]], executor: list[Any], named: str
) -> None:
    line = await first_line(*steps, executor=executor)
    assert line == f"done: Not verified: nobody checked the result{named}."


@pytest.mark.parametrize(
    ("steps", "executor"),
    [
        ([think("a", tools=["look"], success_criteria=[{"type": "matches", "pattern": "7"}])], LOOKED),
        ([bound("a", "look", {"q": "tea"}), bound("b", "wr", {"text": "${a}"})], []),
        ([bound("a", "look", {"q": "tea"}), think("b", "a")], [CLAIM]),
    ],
    ids=["checked", "bound", "only thought"],
)
async def test_an_answer_that_claims_nothing_unchecked_stands_alone(
    steps: list[dict[str, Any]], executor: list[Any]
) -> None:
    assert (await first_line(*steps, executor=executor)).removeprefix("done: ") in (CLAIM, "7")


async def test_a_check_that_nobody_could_make_is_told_first_also_of_what_was_only_thought() -> None:
    step = think("a", success_criteria=[{"type": "judge", "criterion": "it is true"}])
    line = await first_line(step, executor=["so it is"], evaluator=["no verdict"] * 3)
    assert line == "done: Not verified: nobody checked the result of a."


async def test_the_answer_of_a_run_that_did_not_finish_begins_with_that() -> None:
    context = FREE.model_copy(update={"on_failure": "abort", "max_attempts": 1})
    line = await first_line(
        bound("a", "look", {"q": "tea"}), bound("b", "broken", {"q": "x"}), executor=[], context=context
    )
    assert line.startswith("partial: The run ended before everything was done.")


async def test_what_a_sub_plan_answers_goes_on_as_it_is() -> None:
    inner = draft(draft_step("x", task="look it up", tools=["look"]))
    model = ScriptedModel({"planner": [inner], "executor": LOOKED, "synthesizer": [CLAIM]})
    result = await Thread(agent_with(Toolset().tools, model), FREE).run(
        {"id": "s", "plan": {"goal": "learn"}, "depends_on": []}, bound("b", "echo", {"value": "${s}"})
    )
    assert result["results"]["b"]["output"] == "7"
    assert result["final_answer"] == f"Not verified: nobody checked the result of s.\n\n{CLAIM}"
