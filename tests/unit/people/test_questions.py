"""How an answer is read, whatever client it comes from."""

from __future__ import annotations

import json
from typing import Any

import pytest

from plan_execute.errors import InvalidAnswerError
from plan_execute.people.questions import QUESTIONS, question_name, read_answer


def _question(name: str, **args: Any) -> dict[str, Any]:
    return {"action_requests": [{"name": name, "args": args, "arguments": args, "description": ""}]}


FAILURE = _question("handle_step_failure", step_id="a", decision="retry", instructions="", output=None)
UNKNOWN = _question(
    "resolve_unknown_outcome", step_id="a", tool="t", tool_args={}, decision="fail", output=None
)
BUDGET = _question("extend_budget", budget="max_tokens", spent=8, limit=10, decision="extend", by=10)
STEP = _question("approve_step", step={"id": "a"})
PLAN = _question("approve_plan", plan={"steps": []})


def test_the_questions_offer_what_design_names() -> None:
    assert set(QUESTIONS) == {
        "approve_plan",
        "approve_step",
        "confirm_call",
        "ask_person",
        "handle_step_failure",
        "resolve_unknown_outcome",
        "extend_budget",
    }
    assert QUESTIONS["handle_step_failure"].decisions == (
        "retry",
        "skip",
        "patch",
        "replan",
        "supply",
        "abort",
    )
    assert QUESTIONS["resolve_unknown_outcome"].decisions == ("happened", "run_again", "fail")
    assert QUESTIONS["extend_budget"].decisions == ("extend", "finish", "abort")


@pytest.mark.parametrize(
    ("question", "proposed", "careful"),
    [(FAILURE, "retry", "abort"), (UNKNOWN, "fail", "fail"), (BUDGET, "extend", "finish")],
)
def test_approve_means_the_proposal_and_reject_the_safe_default_with_its_reason(
    question: Any, proposed: str, careful: str
) -> None:
    assert read_answer(question, "approve")["decision"] == proposed
    rejected = read_answer(question, {"type": "reject", "message": "why not"})
    assert (rejected["decision"], rejected["message"]) == (careful, "why not")


def test_respond_means_the_proposal_with_instructions() -> None:
    answer = read_answer(FAILURE, {"type": "respond", "message": "mind the gap"})
    assert (answer["decision"], answer["message"]) == ("retry", "mind the gap")


@pytest.mark.parametrize("decision", ["retry", "skip", "patch", "replan", "abort"])
@pytest.mark.parametrize(
    "shape",
    [
        lambda d: {"decision": d},
        lambda d: {"type": "edit", "decision": d},
        lambda d: {"type": "edit", "args": {"decision": d}},
        lambda d: {"type": "edit", "args": {"args": {"decision": d}}},
        lambda d: {"type": "edit", "edited_action": {"name": "handle_step_failure", "args": {"decision": d}}},
        lambda d: {"decisions": [{"type": "edit", "edited_action": {"args": {"decision": d}}}]},
        lambda d: [{"type": "edit", "args": {"action": "handle_step_failure", "args": {"decision": d}}}],
        lambda d: json.dumps({"decision": d}),
        lambda d: [{"type": "edit", "args": json.dumps({"decision": d})}],
    ],
    ids=range(9),
)
def test_a_decision_is_read_from_every_shape(shape: Any, decision: str) -> None:
    answer = read_answer(FAILURE, shape(decision))
    assert answer["decision"] == decision
    assert answer["args"]["step_id"] == "a", "what the edit leaves out stays as it was proposed"


def test_instructions_inside_an_edit_become_its_message() -> None:
    answer = read_answer(FAILURE, {"type": "edit", "args": {"decision": "patch", "instructions": "left"}})
    assert answer["message"] == "left"


@pytest.mark.parametrize(("question", "decision"), [(FAILURE, "supply"), (UNKNOWN, "happened")])
def test_a_decision_that_needs_an_output_is_refused_without_one_and_null_is_one(
    question: Any, decision: str
) -> None:
    with pytest.raises(InvalidAnswerError, match="output"):
        read_answer(question, {"decision": decision})
    answer = read_answer(question, {"decision": decision, "output": None})
    assert answer["args"]["output"] is None


@pytest.mark.parametrize(
    "raw",
    [
        None,
        {},
        [],
        "",
        "perhaps",
        3,
        {"type": 3},
        {"decision": "x"},
        {"type": "edit"},
        ["approve"] * 2,
        {"decisions": {}},
    ],
)
@pytest.mark.parametrize("question", [FAILURE, UNKNOWN, BUDGET, PLAN, STEP], ids=question_name)
def test_a_bad_answer_says_what_is_allowed_and_that_the_question_stays_open(question: Any, raw: Any) -> None:
    with pytest.raises(InvalidAnswerError, match=r"Allowed: approve, edit, reject.*The question stays open"):
        read_answer(question, raw)


DEEP: list[Any] = []
for _ in range(5000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "output",
    [
        float("nan"),
        float("inf"),
        {1, 2},
        object(),
        2**70,
        "\ud800",
        DEEP,
        '{"decision": "supply", "output": NaN}',
        f'{{"decision": "supply", "output": {2**70}}}',
    ],
    ids=range(9),
)
def test_an_answer_that_is_no_json_is_refused(output: Any) -> None:
    is_whole = isinstance(output, str | list)
    answer = output if is_whole else {"decision": "supply", "output": output}
    with pytest.raises(InvalidAnswerError, match="not plain JSON"):
        read_answer(FAILURE, answer)


def test_a_step_cannot_be_answered_with_words_only() -> None:
    with pytest.raises(InvalidAnswerError):
        read_answer(STEP, {"type": "respond", "message": "hm"})


@pytest.mark.parametrize("args", [{"task": "new"}, {"call": {"args": {}}}, {"step": {"task": "new"}}])
def test_an_edit_of_a_step_holds_a_call_a_task_or_the_step(args: Any) -> None:
    assert read_answer(STEP, {"type": "edit", "args": args})["args"] == args.get("step", args)
    with pytest.raises(InvalidAnswerError, match=r"args\.step, args\.call or args\.task"):
        read_answer(STEP, {"type": "edit", "args": {"colour": 1}})


@pytest.mark.parametrize("value", [None, 3, {}, {"action_requests": []}, "text"])
def test_what_is_none_of_our_questions_has_no_name(value: Any) -> None:
    assert question_name(value) == ""


def test_words_are_read_from_message_feedback_or_agent_inboxs_args() -> None:
    for shape in (
        {"type": "reject", "message": " a "},
        {"type": "reject", "feedback": "a"},
        [{"type": "response", "args": "a"}],
    ):
        assert read_answer(PLAN, shape)["message"] == "a"


@pytest.mark.parametrize("call", ["not json", {"args": "[1]"}, {"args": 3}, {}, '{"args": []}'])
def test_an_edited_call_whose_args_are_no_object_is_refused(call: Any) -> None:
    with pytest.raises(InvalidAnswerError, match="question stays open"):
        read_answer(STEP, {"type": "edit", "args": {"call": call}})


def test_an_edited_call_may_come_as_text() -> None:
    answer = read_answer(STEP, {"type": "edit", "args": {"step": '{"call": {"args": "{\\"x\\": 1}"}}'}})
    assert answer["args"] == {"call": {"args": {"x": 1}}}
