"""The order of checks, and the verdict they add up to."""

from __future__ import annotations

from typing import Any

import pytest

from plan_execute.evaluation.criteria import check_output
from plan_execute.plan.criteria import is_empty

BOUND: Any = {"id": "a", "call": {"tool": "t", "args": {}}}
AGENT: Any = {"id": "a", "tools": []}
NOT_EMPTY: Any = {"type": "not_empty"}


def _judge(passed: bool | None, asked: list[str] | None = None) -> Any:
    async def judge(criterion: str) -> Any:
        if asked is not None:
            asked.append(criterion)
        return {"type": "judge", "passed": passed, "gap": "" if passed else "gap"}

    return judge


async def _verdict(
    step: Any, criteria: Any, output: Any, evidence: Any = (), passed: bool | None = True
) -> str:
    return (await check_output(step, criteria, output, evidence, _judge(passed))).verdict


@pytest.mark.parametrize(
    ("step", "criteria", "output", "verdict"),
    [
        (BOUND, [], "x", "met"),
        (BOUND, [], "", "met_empty"),
        (BOUND, [], None, "met_empty"),
        (BOUND, [], 0, "met"),
        (AGENT, [], "x", "unverified"),
        (AGENT, [NOT_EMPTY], "x", "met"),
        (AGENT, [NOT_EMPTY], " ", "failed"),
        ({**AGENT, "output_schema": {}}, [], {}, "met_empty"),
        ({**AGENT, "output_schema": {"type": "object"}}, [], "x", "failed"),
    ],
)
async def test_the_verdict_follows_from_kind_criteria_and_output(
    step: Any, criteria: Any, output: Any, verdict: str
) -> None:
    assert await _verdict(step, criteria, output) == verdict


@pytest.mark.parametrize(("passed", "verdict"), [(True, "met"), (None, "unverified"), (False, "failed")])
async def test_a_judge_that_cannot_tell_gives_unverified(passed: bool | None, verdict: str) -> None:
    assert await _verdict(AGENT, [{"type": "judge", "criterion": "c"}], "x", passed=passed) == verdict


async def test_checks_run_cheapest_first_whatever_order_they_are_written_in() -> None:
    criteria: Any = [
        {"type": "judge", "criterion": "c"},
        {"type": "file_exists", "path": "/"},
        {"type": "expression", "expression": "@"},
        {"type": "matches", "pattern": "x"},
        NOT_EMPTY,
    ]
    step = {**BOUND, "output_schema": {"type": "string"}}
    check = await check_output(step, criteria, "x", [], _judge(True))
    assert [c["type"] for c in check.criteria] == [
        "not_empty",
        "matches",
        "json_schema",
        "expression",
        "file_exists",
        "judge",
    ]


async def test_every_cheap_gap_is_named_and_no_judge_is_asked_then() -> None:
    asked: list[str] = []
    criteria: Any = [{"type": "judge", "criterion": "c"}, {"type": "matches", "pattern": "x"}, NOT_EMPTY]
    check = await check_output(BOUND, criteria, "", [], _judge(True, asked))
    assert (check.verdict, len(check.gaps), asked) == ("failed", 2, [])


async def test_the_last_call_of_a_tool_decides_whether_it_succeeded() -> None:
    def call(ok: bool) -> Any:
        return {"tool": "t", "ok": ok, "output_preview": "p"}

    criterion: Any = [{"type": "tool_succeeded", "tool": "t"}]
    assert await _verdict(AGENT, criterion, "x", [call(False), call(True)]) == "met"
    assert await _verdict(AGENT, criterion, "x", [call(True), call(False)]) == "failed"


@pytest.mark.parametrize(
    ("output", "verdict"),
    [
        ("abc", "met"),
        ("abcd", "failed"),
        ([1, 2, 3], "met"),
        ([1, 2, 3, 4], "failed"),
        ("", "met_empty"),
        (7, "failed"),
        ({"a": 1}, "failed"),
        (None, "failed"),
    ],
)
async def test_a_length_is_that_of_a_text_or_a_list(output: Any, verdict: str) -> None:
    assert await _verdict(BOUND, [{"type": "max_length", "max": 3}], output) == verdict


@pytest.mark.parametrize("path", ["\x00", "x" * 5000])
async def test_a_path_that_cannot_be_looked_at_is_a_gap_and_no_exception(path: str) -> None:
    assert await _verdict(BOUND, [{"type": "file_exists", "path": path}], "x") == "failed"


@pytest.mark.parametrize("value", [None, "", [], {}])
def test_valid_but_empty(value: Any) -> None:
    assert is_empty(value)


@pytest.mark.parametrize("value", [0, False, " ", [None], {"a": None}])
def test_not_empty(value: Any) -> None:
    assert not is_empty(value)


@pytest.mark.parametrize(
    "criterion",
    [
        {"type": "matches", "pattern": "("},
        {"type": "matches", "pattern": {"resolved": "to a dict"}},
        {"type": "json_schema", "schema": {"type": 1}},
        {"type": "json_schema", "schema": {"$ref": "#/nowhere"}},
        {"type": "expression", "expression": "a ||"},
    ],
)
async def test_a_criterion_that_turns_out_broken_at_run_time_is_a_gap_and_no_exception(
    criterion: Any,
) -> None:
    assert await _verdict(BOUND, [criterion], "x") == "failed"
