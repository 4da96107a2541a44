"""The functions that expressions have beside JMESPath's own."""

from __future__ import annotations

from typing import Any

import pytest

from plan_execute.safety.expressions import ExpressionError, clock_at, evaluate

VALUES = {"n": 2.5, "whole": 7, "text": " Rye ", "day": "2026-01-31", "time": "2026-01-31T10:00:00+00:00"}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("add(n, whole, `1`)", 10.5),
        ("subtract(whole, `10`)", -3),
        ("multiply(whole, `3`)", 21),
        ("divide(`6`, `3`)", 2),
        ("divide(whole, `2`)", 3.5),
        ("round(n)", 3),
        ("round(`-2.5`)", -3),
        ("round(`2.345`, `2`)", 2.35),
        ("round(`1234`, `-2`)", 1200),
        ("upper(trim(text))", "RYE"),
        ("lower(text)", " rye "),
        ("replace(text, 'y', 'i')", " Rie "),
        ("split('a,b', ',')", ["a", "b"]),
        ("zip([n, whole], ['a', 'b'])", [[2.5, "a"], [7, "b"]]),
        ("add_days(day, `1`)", "2026-02-01"),
        ("add_days(time, `-1`)", "2026-01-30T10:00:00+00:00"),
    ],
)
def test_a_function_gives_what_people_expect(expression: str, value: Any) -> None:
    found = evaluate(expression, VALUES)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("add(text, `1`)", "add() takes a number, not str ' Rye '; write to_number"),
        ("add(`true`, `1`)", "add() takes a number, not bool"),
        ("divide(whole, `0`)", "divide() by zero"),
        ("zip(`[1]`, `[1, 2]`)", "zip() takes lists of one length, not of 1, 2"),
        ("round(n, `1`, `2`)", "round() takes at most 2"),
        ("round(n, `99`)", "places"),
        ("add_days('soon', `1`)", "takes a date like 2026-01-31, not 'soon'"),
        ("add_days(day, `99999999`)", "add_days()"),
        ("multiply(`1e29`, `1e29`)", "too large"),
        ("now()", "only a running plan has a clock"),
        ("upper(n)", "upper() takes a string, not float"),
    ],
)
def test_what_a_function_cannot_do_is_said(expression: str, words: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        evaluate(expression, VALUES)
    assert words in str(caught.value)


def test_now_is_the_runs_time() -> None:
    with clock_at("2026-01-31T10:00:00.000+00:00"):
        assert evaluate("now()", {}) == "2026-01-31T10:00:00.000+00:00"
