"""One exact call of one tool, and its exact output."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tools import ToolException, tool
from langgraph.prebuilt import ToolRuntime
from langgraph.runtime import Runtime
from langgraph.types import Command
from pydantic import BaseModel

from plan_execute.errors import BadArgumentsError, ToolFailedError
from plan_execute.tools.calls import call_tool, describe_exception, preview, to_json


async def _call(made: Any, **args: Any) -> Any:
    runtime: Runtime[Any] = Runtime(context="the context", stream_writer=lambda _: None)
    return await call_tool(made, args, call_id="c-1", config={"configurable": {}}, runtime=runtime)


class Point(BaseModel):
    x: int


@dataclasses.dataclass
class Pair:
    left: int
    right: Path


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "json"),
    [
        (Point(x=1), {"x": 1}),
        (Pair(1, Path("p")), {"left": 1, "right": "p"}),
        (Colour.RED, "red"),
        ((1, 2), [1, 2]),
        ({1}, [1]),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Decimal("1.50"), "1.50"),
        (b"text", "text"),
        (float("inf"), "inf"),
        ({"a": [float("nan")]}, {"a": ["nan"]}),
        ({1: {None: 2}}, {"1": {"None": 2}}),
        (True, True),
        (0, 0),
        (1.0, 1.0),
        (None, None),
    ],
)
def test_any_value_becomes_plain_json(value: Any, json: Any) -> None:
    made = to_json(value)
    assert made == json
    assert type(made) is type(json)


async def test_a_tool_is_called_with_exact_arguments_and_gives_its_exact_output() -> None:
    @tool
    def echo(value: dict[str, Any], times: int = 2) -> Any:
        """Echo."""
        return [value] * times

    assert await _call(echo, value={"n": [1, None]}) == [{"n": [1, None]}] * 2


async def test_what_a_tool_asks_of_the_runtime_is_given_to_it_and_not_by_the_plan() -> None:
    @tool
    def who(q: str, runtime: ToolRuntime[Any, Any]) -> Any:
        """Tell."""
        return [q, runtime.context, runtime.tool_call_id]

    assert await _call(who, q="x") == ["x", "the context", "c-1"]
    assert await _call(who, q="x", runtime="forged") == ["x", "the context", "c-1"]


async def test_arguments_that_do_not_fit_are_told_apart_from_a_failing_tool() -> None:
    @tool
    def double(n: int) -> int:
        """Double."""
        if n < 0:
            Point.model_validate({"x": "not a number"})
        return 2 * n

    with pytest.raises(BadArgumentsError, match="double: n:"):
        await _call(double, n="many")
    with pytest.raises(ToolFailedError, match="double raised ValidationError"):
        await _call(double, n=-1)


async def test_a_tool_that_turns_its_errors_into_text_still_fails() -> None:
    @tool
    def sulk() -> str:
        """Sulk."""
        raise ToolException("no")

    sulk.handle_tool_error = True
    with pytest.raises(ToolFailedError, match="sulk raised ToolException: no"):
        await _call(sulk)
    assert sulk.handle_tool_error is True, "the caller's own tool is left alone"


async def test_a_bound_tool_may_not_steer_the_graph() -> None:
    @tool
    def steer() -> Any:
        """Steer."""
        return Command(goto="elsewhere")

    with pytest.raises(ToolFailedError, match="Command"):
        await _call(steer)


@pytest.mark.parametrize(
    ("value", "limit", "text"),
    [("abc", 3, "abc"), ("abcd", 3, "abc… (1 more characters)"), ({"ü": 1}, 99, '{"ü": 1}')],
)
def test_a_preview_says_how_much_is_left_out(value: Any, limit: int, text: str) -> None:
    assert preview(value, limit) == text


def test_an_exception_is_described_in_one_line_with_its_kind() -> None:
    assert describe_exception("t", ValueError(" odd ")) == "t raised ValueError: odd"
    assert describe_exception("t", KeyError()) == "t raised KeyError: no message"
