"""A plan may hold its answer: it is given without a model where it can say no more than was found."""

from __future__ import annotations

import json
from typing import Any

import pytest
from plans import FREE, Thread, agent_with, bound, codes, draft, draft_step
from toolset import Toolset

from plan_execute import ScriptedModel

LINES = '1. look("x")\n2. look($1)\nreturn "First ${1}, then ${2}: 100% of it."'
REPLAN = {"decision": "replan", "reason": "it is broken", "hint": ""}
ANSWER = "First found x, then found found x: 100% of it."


async def _given(*steps: Any, answer: Any, inputs: Any = None) -> dict[str, Any]:
    """Run a plan with an answer, and no model."""
    agent = agent_with(Toolset().tools)
    plan = {"steps": list(steps), "answer": answer}
    return await Thread(agent, FREE).send({"goal": "g", "plan": plan, "inputs": inputs or {}})


async def test_a_planned_answer_costs_no_model_call() -> None:
    model = ScriptedModel({"planner": [LINES]})
    result = await Thread(agent_with(Toolset().tools, model), FREE).send({"goal": "g"})
    assert (result["status"], result["final_answer"]) == ("done", ANSWER)
    assert result["messages"][-1].text == ANSWER
    assert (result["usage"]["model_calls"], list(result["usage"]["by_role"])) == (1, ["planner"])
    assert result["plan"]["answer"] == "First ${look_x}, then ${look}: 100% of it."


async def test_a_planner_that_answers_with_json_may_plan_the_answer_too() -> None:
    reply = draft(draft_step("1", "look", {"q": "x"})) | {"answer": "It is ${1}."}
    model = ScriptedModel({"planner": [reply]})
    result = await Thread(agent_with(Toolset().tools, model), FREE).send({"goal": "g"})
    assert result["final_answer"] == "It is found x."


async def test_values_are_put_in_as_they_are_and_whole_outputs_as_json() -> None:
    steps = [bound("a", "echo", {"value": {"n": 2.5, "who": "Ann"}}), bound("b", "echo", {"value": [1]})]
    said = "${a.who} has ${a.n} and ${b}, $${not this}, in ${inputs.place}."
    result = await _given(*steps, answer=said, inputs={"place": "Rome"})
    assert result["final_answer"] == "Ann has 2.5 and [1], ${not this}, in Rome."
    whole = await _given(*steps, answer="${a}")
    assert json.loads(whole["final_answer"]) == {"n": 2.5, "who": "Ann"}


@pytest.mark.parametrize(
    ("step", "why"),
    [
        (bound("a", "echo", {"value": "x"}, when="`false`"), "step 'a' is skipped"),
        (bound("a", "echo", {"value": ""}), "step 'a' is met_empty"),
        (bound("a", "echo", {"value": {"other": 1}}), "${a.n} "),
        (bound("a", "echo", {"value": {"n": None}}), "${a.n} is null"),
        (bound("a", "wr", {"text": "x"}), "step 'a' changes something and has no success criterion"),
    ],
)
async def test_it_is_not_given_where_it_could_say_more_than_was_found_and_the_run_says_why(
    step: Any, why: str
) -> None:
    field = "" if step["call"]["tool"] == "wr" else ".n"
    result = await _given(step, answer=f"Bought for ${{a{field}}}.")
    assert "Bought" not in result["final_answer"]
    assert f"The plan's own answer is not used: {why}" in result["final_answer"]
    (reason,) = result["audit"][-1]["evidence"]
    assert result["final_answer"].endswith(reason)


async def test_it_is_not_given_where_a_step_failed() -> None:
    result = await _given(bound("a", "broken", {"q": "x"}, on_failure="skip"), answer="Bought for ${a}.")
    assert "Bought" not in result["final_answer"]


async def test_what_the_answer_does_not_show_was_checked_or_a_model_says_it() -> None:
    tests = bound("tests", "echo", {"value": "3 failed"})
    assert "All tests pass" not in (await _given(tests, answer="All tests pass."))["final_answer"]
    later = bound("version", "echo", {"value": "1.2"}, "tests")
    assert (
        "All tests"
        not in (await _given(tests, later, answer="All tests pass in ${version}."))["final_answer"]
    )
    made_of_it = bound("line", "echo", {"value": "It says: ${tests}."})
    assert (await _given(tests, made_of_it, answer="${line}"))["final_answer"] == "It says: 3 failed."
    checked = {**tests, "success_criteria": [{"type": "matches", "pattern": r"\b3 failed"}]}
    assert (await _given(checked, answer="As ever, 3 fail."))["final_answer"] == "As ever, 3 fail."


@pytest.mark.parametrize("guess", ["Bread costs 3 euros.", "null"])
async def test_what_a_planner_guessed_is_not_given_for_what_was_looked_up(guess: str) -> None:
    reply = draft(draft_step("1", "look", {"q": "bread"}, criterion="it is a price")) | {"answer": guess}
    judged = ScriptedModel.verdict(met=True)
    model = ScriptedModel({"planner": [reply], "evaluator": [judged], "synthesizer": ["It costs 2."]})
    result = await Thread(agent_with(Toolset().tools, model), FREE).send({"goal": "g"})
    assert (result["results"]["step_1"]["verdict"], result["final_answer"]) == ("met", "It costs 2.")


async def test_it_is_not_given_where_an_item_of_a_loop_found_nothing() -> None:
    step = bound("a", "echo", {"value": "${item}"}, for_each="${inputs.list}")
    found = {"answer": "Found: ${a}.", "inputs": {"list": ["x", "y"]}}
    assert (await _given(step, **found))["final_answer"] == 'Found: ["x", "y"].'
    nothing = await _given(step, **found | {"inputs": {"list": ["x", ""]}})
    assert "Found:" not in nothing["final_answer"]


async def test_it_is_not_given_where_a_person_let_a_step_do_something_else() -> None:
    thread = Thread(agent_with(Toolset().tools), FREE)
    step = bound("a", "look", {"q": "bread"}, approve=True)
    await thread.send({"goal": "g", "plan": {"steps": [step], "answer": "The price of bread: ${a}."}})
    edited = {"type": "edit", "args": {"step": {"call": {"args": {"q": "milk"}}}}}
    result = await thread.answer(edited)
    assert (result["status"], result["results"]["a"]["output"]) == ("done", "found milk")
    assert "The price of bread" not in result["final_answer"]


async def test_that_the_output_of_a_write_has_a_form_is_no_check_of_what_it_did() -> None:
    step = bound("a", "wr", {"text": "x"}, output_schema={"type": "string"})
    assert "Saved" not in (await _given(step, answer="Saved."))["final_answer"]


async def test_a_write_that_was_checked_may_be_told() -> None:
    step = bound("a", "wr", {"text": "x"}, success_criteria=[{"type": "matches", "pattern": "x"}])
    result = await _given(step, answer="Saved.")
    assert result["final_answer"] == "Saved."


async def test_where_it_cannot_be_given_a_model_writes_the_answer_from_the_results() -> None:
    model = ScriptedModel({"planner": ['1. wr("x")\nreturn "Saved."'], "synthesizer": ["I wrote x."]})
    thread = Thread(agent_with(Toolset().tools, model))
    await thread.send({"goal": "g"})
    asked = (await thread.question())["description"]
    assert "no success criterion checks what is changed by wr_x." in asked
    result = await thread.answer("approve")
    assert result["final_answer"] == "I wrote x."
    assert "step 'wr_x' changes something" in result["audit"][-1]["evidence"][0]


@pytest.mark.parametrize(
    ("answer", "code", "named"),
    [
        ("${b.n}", "unresolved_reference", "known: a, inputs"),
        ("${inputs.x}", "unresolved_reference", "no input 'x'"),
        ("${a.", "bad_expression", "answer: "),
        ("${a.m}", "type_mismatch", "a declares no 'm'; it has: n"),
        (7, "malformed_plan", "answer: Input should be a valid string"),
    ],
)
async def test_an_answer_that_could_not_be_filled_is_an_issue(answer: Any, code: str, named: str) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    step = bound("a", "echo", {"value": {"n": 1}}, output_schema=schema)
    result = await _given(step, answer=answer)
    assert codes(result) == [code]
    assert named in result["plan_issues"][0]["message"]
    assert result["plan_issues"][0]["field"] == ["answer"]


@pytest.mark.parametrize("answer", ["${sum(}", "${a.n.m}"])
async def test_an_answer_of_a_model_that_could_not_be_filled_is_left_out_and_its_plan_runs(
    answer: str,
) -> None:
    schema = 'output={"type": "object", "properties": {"n": {"type": "integer"}}}'
    lines = f'a = "Think" {schema}\nreturn "It is {answer}."'
    model = ScriptedModel({"planner": [lines], "executor": ['{"n": 1}'], "synthesizer": ["written"]})
    result = await Thread(agent_with(Toolset().tools, model), FREE).send({"goal": "g"})
    assert (result["status"], result["final_answer"]) == ("done", "written")
    assert "answer" not in result["plan"]


async def test_a_revision_does_not_keep_an_answer_that_speaks_of_what_failed() -> None:
    model = ScriptedModel(
        {
            "planner": ['a = look("x")\nb = broken("x")\nreturn "${a} and ${b}"'],
            "evaluator": [REPLAN],
            "replanner": ["b = look($a)", "unused"],
            "synthesizer": ["written"],
        }
    )
    result = await Thread(agent_with(Toolset().tools, model), FREE).send({"goal": "g"})
    assert (result["status"], result["final_answer"]) == ("done", "written")
    assert "answer" not in result["plan"]


async def test_a_revision_may_plan_its_own_answer_and_ids_follow() -> None:
    model = ScriptedModel(
        {
            "planner": ['a = look("x")\nb = broken("x")'],
            "evaluator": [REPLAN],
            "replanner": ['b = look($a)\nreturn "In the end ${b}."'],
        }
    )
    result = await Thread(agent_with(Toolset().tools, model), FREE).send({"goal": "g"})
    assert result["final_answer"] == "In the end found found x."
    assert result["plan"]["answer"] == "In the end ${b_r2}."


async def test_the_last_round_of_a_rolling_plan_may_plan_the_answer() -> None:
    model = ScriptedModel({"planner": ['a = look("x")\nmore', 'finished\nreturn "It was ${a}."']})
    result = await Thread(agent_with(Toolset().tools, model), FREE).send({"goal": "g"})
    assert (result["status"], result["final_answer"]) == ("done", "It was found x.")


async def test_a_person_who_approves_sees_the_answer_and_may_edit_it() -> None:
    model = ScriptedModel({"planner": [LINES]})
    thread = Thread(agent_with(Toolset().tools, model), FREE.model_copy(update={"approval": "always"}))
    await thread.send({"goal": "g"})
    request = await thread.question()
    assert "**Answers:** First" in request["description"]
    plan = request["args"]["plan"] | {"answer": "Only ${look}."}
    result = await thread.answer({"type": "edit", "args": {"plan": plan}})
    assert result["final_answer"] == "Only found found x."


async def test_an_answer_that_was_changed_in_the_state_is_asked_about_like_a_changed_step() -> None:
    thread = Thread(agent_with(Toolset().tools), FREE.model_copy(update={"approval": "always"}))
    steps = [bound("a", "look", {"q": "x"})]
    await thread.send({"goal": "g", "plan": {"steps": steps, "answer": "It is ${a}."}})
    plan = (await thread.answer("approve"))["plan"]
    await thread.agent.aupdate_state(thread.config, {"plan": {**plan, "answer": "Never mind ${a}."}})
    asked = await thread.send(None)
    assert asked["final_answer"] != "Never mind found x."
    assert "**Answers:** Never mind" in (await thread.question())["description"]
    assert (await thread.answer("approve"))["final_answer"] == "Never mind found x."
