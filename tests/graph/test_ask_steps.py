"""Questions to the person: steps of kind ``ask``, and a planner that asks before it plans."""

from __future__ import annotations

from typing import Any

import pytest
from plans import Thread, agent_with, bound, codes, draft, plan
from toolset import Toolset

from plan_execute import Context, ScriptedModel
from plan_execute.errors import InvalidAnswerError

FREE = Context(approval="never", on_failure="abort")


def ask(step_id: str, question: str, *choices: str, **fields: Any) -> dict[str, Any]:
    """Write a step that asks the person."""
    asked: dict[str, Any] = {"question": question}
    return {"id": step_id, "ask": asked | ({"choices": list(choices)} if choices else {}), **fields}


async def _asking(*choices: str, **fields: Any) -> tuple[Thread, Toolset]:
    tools = Toolset()
    thread = Thread(agent_with(tools.tools), FREE)
    await thread.run(ask("who", "Which client?", *choices, **fields), bound("b", "look", {"q": "${who}"}))
    assert tools.calls == []
    return thread, tools


@pytest.mark.parametrize(
    "answer",
    [
        "ACME",
        {"type": "respond", "message": "ACME"},
        {"type": "response", "args": "ACME"},
        [{"type": "response", "args": "ACME"}],
        {"type": "edit", "args": {"answer": "ACME"}},
        {"type": "edit", "edited_action": {"name": "ask_person", "args": {"answer": "ACME"}}},
        {"answer": "ACME"},
    ],
    ids=str,
)
async def test_the_answer_is_the_output(answer: Any) -> None:
    thread, tools = await _asking()
    asked = await thread.question()
    assert (asked["name"], asked["args"]) == (
        "ask_person",
        {"question": "Which client?", "choices": [], "answer": ""},
    )
    result = await thread.answer(answer)
    step = result["results"]["who"]
    assert (result["status"], step["output"], step["verdict"]) == ("done", "ACME", "met")
    assert tools.calls == [("look", "ACME")]


@pytest.mark.parametrize(
    "bad", ["approve", "Acme Ltd", {"type": "respond", "message": " "}, {"answer": None}]
)
async def test_of_choices_one_has_to_be_chosen_and_the_question_stays_open(bad: Any) -> None:
    thread, tools = await _asking("ACME", "Initech")
    with pytest.raises(InvalidAnswerError):
        await thread.answer(bad)
    assert (await thread.question())["args"]["choices"] == ["ACME", "Initech"]
    await thread.answer("initech")
    assert tools.calls == [("look", "Initech")], "the choice counts as the plan writes it"


async def test_an_answer_may_be_any_json_where_there_are_no_choices() -> None:
    thread, _ = await _asking()
    assert (await thread.answer({"answer": 3}))["results"]["who"]["output"] == 3
    thread, _ = await _asking()
    assert (await thread.answer(3))["results"]["who"]["output"] == 3


async def test_a_question_that_is_declined_fails_its_step_and_is_not_asked_again() -> None:
    thread, tools = await _asking()
    result = await thread.answer({"type": "reject", "message": "none of your business"})
    assert (result["status"], result["results"]["who"]["error"]["code"]) == ("failed", "unanswered")
    assert "none of your business" in result["results"]["who"]["error"]["message"]
    assert (result["results"]["who"]["attempts"], tools.calls) == (1, [])


async def test_a_question_that_nobody_answers_in_time_fails_its_step() -> None:
    thread = Thread(agent_with(Toolset().tools), FREE.model_copy(update={"decision_timeout_s": 1e-9}))
    await thread.run(ask("who", "Which client?"))
    result = await thread.send(None)
    assert result["results"]["who"]["error"]["code"] == "unanswered"
    assert "nobody answered within" in result["results"]["who"]["error"]["message"]


async def test_references_in_a_question_are_filled_and_imply_the_dependency() -> None:
    thread = Thread(agent_with(Toolset().tools), FREE)
    await thread.run(bound("a", "look", {"q": "x"}), ask("who", "Is it ${a}?", "${a}", "no"))
    asked = (await thread.question())["args"]
    assert (asked["question"], asked["choices"]) == ("Is it found x?", ["found x", "no"])


async def test_a_loop_of_questions_asks_each_by_its_own_id() -> None:
    thread = Thread(agent_with(Toolset().tools), FREE)
    await thread.run(bound("a", "echo", {"value": ["x", "y"]}), ask("who", "${item}?", for_each="${a}"))
    open_now = {q.value["action_requests"][0]["args"]["question"]: q.id for q in await thread.questions()}
    result = await thread.answer({open_now["x?"]: "1", open_now["y?"]: "2"})
    assert result["results"]["who"]["output"] == ["1", "2"]


@pytest.mark.parametrize(
    "step",
    [
        {"id": "a", "ask": {"question": " "}},
        {"id": "a", "ask": {"question": "q", "options": []}},
        {"id": "a", "ask": {"question": "q"}, "tools": []},
        {"id": "a", "ask": {}},
        {"id": "a", "tools": [], "task": "t", "confirm": True},
    ],
    ids=str,
)
async def test_a_step_that_asks_has_to_be_well_formed(step: dict[str, Any]) -> None:
    result = await Thread(agent_with((), ScriptedModel({})), FREE).run(step)
    assert set(codes(result)) == {"malformed_plan"}


async def test_a_planner_may_ask_before_it_plans() -> None:
    tools = Toolset()
    model = ScriptedModel(
        {"planner": ['1. ask("Which client?", choices=["ACME", "Initech"])', "2. look($which_client)"]},
        strict=False,
    )
    thread = Thread(agent_with(tools.tools, model), FREE)
    await thread.send({"goal": "Look up the client"})
    assert (await thread.question())["args"]["question"] == "Which client?"
    result = await thread.answer("ACME")
    assert tools.calls == [("look", "ACME")], [result["plan"], result["plan_issues"]]
    assert (result["status"], result["replans"]) == ("done", 0)
    assert "ACME" in str(model.calls[1].messages[-1].text), "the planner is told the answer"


async def test_a_planner_may_ask_in_json_too() -> None:
    asking = {"id": "who", "task": "", "ask": "Which client?", "choices": [], "tools": []}
    model = ScriptedModel({"planner": [draft(asking)]}, strict=False)
    thread = Thread(agent_with(Toolset().tools, model), FREE)
    await thread.send({"goal": "Look up the client"})
    assert (await thread.question())["args"]["question"] == "Which client?"


async def test_a_tool_named_ask_is_a_tool() -> None:
    def ask(question: str) -> str:
        """Ask the oracle."""
        return f"oracle: {question}"

    from toolset import make_tool

    model = ScriptedModel({"planner": ['1. ask("why?")']}, strict=False)
    result = await Thread(agent_with([make_tool(ask)], model), FREE).send({"goal": "g"})
    assert result["plan"]["steps"][0]["call"] == {"tool": "ask", "args": {"question": "why?"}}


async def test_the_plans_approval_shows_what_will_be_asked() -> None:
    thread = Thread(agent_with(Toolset().tools), Context(approval="always"))
    await thread.send({"plan": plan(ask("who", "Which *client*?", "ACME"))})
    assert "asks you: Which \\*client\\*?; one of: ACME" in (await thread.question())["description"]


@pytest.mark.parametrize(
    ("schema", "answer", "output", "wrong"),
    [
        ({"type": "integer"}, "5", 5, "five"),
        ({"type": "boolean"}, "yes", True, "perhaps"),
        ({"type": "array", "items": {"type": "string"}}, ["x", "y"], ["x", "y"], [1]),
        ({"type": "array", "items": {"type": "string"}}, '["x", "y"]', ["x", "y"], {"answer": 3}),
        ({"type": "object", "properties": {"n": {"type": "integer"}}}, {"n": "3"}, {"n": 3}, {"n": "x"}),
    ],
    ids=str,
)
async def test_an_answer_gets_the_form_that_the_step_declares(
    schema: dict[str, Any], answer: Any, output: Any, wrong: Any
) -> None:
    thread = Thread(agent_with(Toolset().tools), FREE)
    await thread.run(ask("n", "How many?", output_schema=schema))
    with pytest.raises(InvalidAnswerError, match="not of type"):
        await thread.answer(wrong)
    assert (await thread.question())["name"] == "ask_person", "it stays open"
    result = await thread.answer(answer)
    assert (result["results"]["n"]["output"], result["results"]["n"]["attempts"]) == (output, 1)


@pytest.mark.parametrize("text", ['"Oslo" is nice', "[1] the first", "{name}"])
async def test_text_that_only_begins_like_json_is_an_answer(text: str) -> None:
    thread, _ = await _asking()
    assert (await thread.answer(text))["results"]["who"]["output"] == text


OBJECTS = {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}}
POINT = {"type": "Point", "coordinates": [1, 2]}


@pytest.mark.parametrize(
    ("schema", "answer", "output"),
    [
        (OBJECTS, [{"name": "x"}], [{"name": "x"}]),
        (OBJECTS, '[{"name": "x"}]', [{"name": "x"}]),
        ({"type": "object"}, {"a": 1}, {"a": 1}),
        ({"type": "object"}, '{"a": 1}', {"a": 1}),
        ({"type": "object"}, {"type": "respond", "message": '{"a": 1}'}, {"a": 1}),
        ({"type": "object"}, POINT, POINT),
        ({"type": "string"}, '{"a": 1}', '{"a": 1}'),
        ({"type": "string"}, '{"type": "respond", "message": "x"}', "x"),
        (None, '{"a": 1}', '{"a": 1}'),
        (None, {"a": 1}, {"a": 1}),
        (None, [{"a": 1}], [{"a": 1}]),
        (None, {"answer": []}, []),
        (None, '[{"type": "respond", "message": "x"}]', "x"),
        ({"type": "integer", "description": "not a $ref"}, "3", 3),
    ],
    ids=str,
)
async def test_an_object_or_a_list_is_an_answer_unless_it_is_a_decision(
    schema: dict[str, Any] | None, answer: Any, output: Any
) -> None:
    thread = Thread(agent_with(Toolset().tools), FREE)
    await thread.run(ask("who", "Which client?", **({"output_schema": schema} if schema else {})))
    assert (await thread.answer(answer))["results"]["who"]["output"] == output


async def test_a_decision_without_a_type_is_told_what_was_expected() -> None:
    thread, _ = await _asking()
    with pytest.raises(InvalidAnswerError, match=r'no decision such as \{"type": "respond"\}. Allowed: edit'):
        await thread.answer({"decision": "approve"})


@pytest.mark.parametrize("empty", [{}, [], None, " "], ids=str)
async def test_an_empty_answer_by_id_is_refused(empty: Any) -> None:
    thread, _ = await _asking()
    (question,) = await thread.questions()
    with pytest.raises(InvalidAnswerError, match=r"empty|no answer"):
        await thread.answer({question.id: empty})


@pytest.mark.parametrize(
    ("schema", "choices", "output"),
    [({"type": "integer"}, ("1", "2"), 2), ({"type": "boolean"}, ("yes", "no"), False)],
)
async def test_a_choice_gets_the_type_that_the_step_declares(
    schema: dict[str, Any], choices: tuple[str, str], output: Any
) -> None:
    thread = Thread(agent_with(Toolset().tools), FREE)
    await thread.run(ask("who", "Which client?", *choices, output_schema=schema))
    step = (await thread.answer(choices[1]))["results"]["who"]
    assert (step["status"], step["output"], step["attempts"]) == ("done", output, 1)


@pytest.mark.parametrize("answer", [["b"], '["B"]', {"answer": ["b"]}], ids=str)
async def test_a_choice_may_be_the_only_text_of_a_list(answer: Any) -> None:
    thread, _ = await _asking("a", "b")
    with pytest.raises(InvalidAnswerError, match="not one of the choices"):
        await thread.answer(["a", "b"])
    assert (await thread.answer(answer))["results"]["who"]["output"] == "b"
