"""Questions stand in the conversation as front ends and providers take them; words are read as answers."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.graph.message import add_messages
from langgraph.types import Interrupt

from plan_execute.errors import InvalidAnswerError
from plan_execute.people.assent import WORDS_OF_APPROVAL, is_approval
from plan_execute.people.chat import (
    answer_in_words,
    answer_messages,
    closing_messages,
    current_question,
    question_message,
    retold,
)
from plan_execute.people.questions import QUESTIONS, question_value, read_answer

ARGS: dict[str, Any] = {
    "approve_plan": {"plan": {"steps": []}},
    "approve_step": {"step": {"task": "x"}},
    "confirm_call": {"step_id": "a", "tool": "t", "tool_args": {}},
    "ask_person": {"question": "Which?", "choices": [], "answer": None},
    "handle_step_failure": {"step_id": "a", "decision": "retry", "instructions": None, "output": None},
    "resolve_unknown_outcome": {"step_id": "a", "tool": "t", "decision": "fail", "output": None},
    "extend_budget": {"budget": "max_tokens", "spent": 1, "limit": 2, "decision": "extend", "by": 2},
}


def _question(name: str, number: int = 1) -> Interrupt:
    return Interrupt(value=question_value(name, ARGS[name], f"About {name}"), id=f"{number:032x}")


def test_every_kind_of_question_is_tried_here() -> None:
    assert set(ARGS) == set(QUESTIONS)


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_has_a_call_of_its_name_without_null_and_each_call_has_its_result(name: str) -> None:
    question = _question(name)
    message = question_message(question)
    (call,) = message.tool_calls
    assert (message.text, call["name"]) == (f"About {name}", name)
    assert None not in call["args"].values()
    answer = {"type": "respond", "message": "this"} if name == "ask_person" else {"type": "reject"}
    (result,) = answer_messages(question, answer)
    assert (result.type, getattr(result, "tool_call_id", "")) == ("tool", call["id"])


@pytest.mark.parametrize("word", [word for words in WORDS_OF_APPROVAL.values() for word in words])
def test_a_word_of_the_list_approves_in_any_case_and_with_an_end(word: str) -> None:
    assert is_approval(word)
    assert is_approval(f" {word.upper()}! ")


@pytest.mark.parametrize(
    "text", ["no", "nein", "yes, but", "not ok", "", "approve nothing", "yesterday", "oui?"]
)
def test_nothing_else_approves(text: str) -> None:
    assert not is_approval(text)


@pytest.mark.parametrize(
    ("name", "text", "kind", "decision"),
    [
        ("approve_plan", "Yes.", "approve", None),
        ("approve_plan", "use Oslo", "reject", None),
        ("approve_step", "ok", "approve", None),
        ("confirm_call", "no", "reject", None),
        ("ask_person", "no", "edit", None),
        ("handle_step_failure", "yes", "approve", "retry"),
        ("handle_step_failure", "Skip", "edit", "skip"),
        ("handle_step_failure", "leave it", "reject", "abort"),
        ("resolve_unknown_outcome", "run_again", "edit", "run_again"),
        ("extend_budget", "go ahead", "approve", "extend"),
        ("extend_budget", "stop", "reject", "finish"),
    ],
)
def test_words_are_read_as_an_answer(name: str, text: str, kind: str, decision: str | None) -> None:
    value = _question(name).value
    answer = read_answer(value, answer_in_words(value, text))
    assert (answer["type"], answer.get("decision")) == (kind, decision)


@pytest.mark.parametrize("text", ["yes", "it happened", "who knows", "no"])
def test_what_became_of_a_write_is_said_by_the_name_of_a_decision_only(text: str) -> None:
    value = _question("resolve_unknown_outcome").value
    with pytest.raises(InvalidAnswerError, match="run_again"):
        read_answer(value, answer_in_words(value, text))


@pytest.mark.parametrize("text", ["ok...", "tak", "vale", "ok?", "yes, but not to Bob"])
def test_what_may_mean_something_else_approves_nothing(text: str) -> None:
    assert not is_approval(text)


def test_words_decide_on_every_call_that_a_middleware_asks_about() -> None:
    value = {"action_requests": [{"name": "a", "args": {}}, {"name": "b", "args": {}}], "review_configs": []}
    assert answer_in_words(value, "yes") == {"decisions": [{"type": "approve"}] * 2}
    assert [call["name"] for call in question_message(Interrupt(value=value, id="1")).tool_calls] == [
        "a",
        "b",
    ]


def test_a_question_of_a_tool_is_answered_by_the_text_itself() -> None:
    assert answer_in_words("What colour?", "yes") == "yes"


def test_the_question_in_the_conversation_is_the_current_one() -> None:
    first, second = _question("approve_step", 1), _question("confirm_call", 2)
    assert current_question([first, second], []) is first
    assert current_question([first, second], [question_message(second)]) is second
    answered = [question_message(second), *answer_messages(second, "approve")]
    assert current_question([first, second], answered) is first
    assert current_question([], []) is None


def test_a_question_is_told_once_again_when_it_changes_and_anew_when_it_was_answered() -> None:
    question = _question("approve_plan")
    said: Any = [HumanMessage("Goal", id="g")]
    for update in retold(question, said):
        said = add_messages(said, update)  # type: ignore[arg-type]
    assert retold(question, said) == []
    said = add_messages(said, [*answer_messages(question, "approve"), AIMessage("Done", id="d")])
    for update in retold(question, said):
        said = add_messages(said, update)  # type: ignore[arg-type]
    assert [message.id for message in said] == ["g", "d", f"question-{question.id}"]


def test_what_nobody_will_answer_is_closed() -> None:
    question = _question("approve_plan")
    said = [question_message(question)]
    (closing,) = closing_messages(said)
    assert isinstance(closing, ToolMessage)
    assert closing_messages([*said, closing]) == []
