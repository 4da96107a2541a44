"""Results, attempts and decisions have one form each: they are made in ``state.py`` and nowhere else."""

import ast

import pytest
from pydantic import TypeAdapter
from structure.test_imports import product_files

from plan_execute.state import Attempt, Evaluation, StepResult, new_attempt, new_evaluation, new_result

TELLING_KEYS = {
    "a result": {"step_id", "verdict", "attempts"},
    "an attempt": {"number", "verdict"},
    "a decision": {"decision", "reason"},
}
ELSEWHERE = {"report", "examples"}
"""What is shown of a record, and what a scripted model answers, looks alike and is none."""


def literals():
    for path in product_files():
        if path.name == "state.py" or ELSEWHERE & {*path.parts}:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Dict):
                keys = {key.value for key in node.keys if isinstance(key, ast.Constant)}
                yield from (
                    f"{path}:{node.lineno}: {what}" for what, own in TELLING_KEYS.items() if own <= keys
                )


def test_no_record_is_written_out_by_hand():
    assert list(literals()) == []


@pytest.mark.parametrize(
    ("made", "form"),
    [
        (new_result("a", "skipped", None), StepResult),
        (new_attempt(1, None, None, None), Attempt),
        (new_evaluation("retry", "x"), Evaluation),
    ],
)
def test_a_new_record_has_every_field_that_its_type_requires(made, form):
    assert TypeAdapter(form).validate_python(made) == made


def test_a_result_counts_what_all_attempts_did_and_judges_by_the_last():
    first = {**new_attempt(1, "t1", "t2", {"code": "c", "message": "m"}), "evidence": [{"tool": "x"}]}
    second = {**new_attempt(2, "t3", "t4", None), "evidence": [{"tool": "y"}], "criteria": [{"type": "z"}]}
    first["usage"], second["usage"] = {"tool_calls": 1}, {"tool_calls": 2}
    result = new_result("a", "done", "t5", made=[first, second], output=1, verdict="met")
    assert [call["tool"] for call in result["evidence"]] == ["x", "y"]
    assert (result["attempts"], result["criteria"]) == (2, [{"type": "z"}])
    assert (result["started_at"], result["finished_at"]) == ("t1", "t5")
    assert result["usage"] == {"tool_calls": 3}
