"""One exact call of one tool, and its exact output."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool, InjectedToolCallId, ToolException, tool
from langgraph.prebuilt import ToolRuntime
from langgraph.runtime import Runtime
from langgraph.types import Command
from pydantic import BaseModel

from plan_execute.errors import BadArgumentsError, ToolFailedError
from plan_execute.tools.calls import ExactTool, call_tool, describe_exception
from plan_execute.tools.texts import preview
from plan_execute.tools.toolbox import Toolbox


async def _call(made: Any, **args: Any) -> Any:
    runtime: Runtime[Any] = Runtime(context="the context", stream_writer=lambda _: None)
    return await call_tool(ExactTool(made), args, call_id="c-1", config={"configurable": {}}, runtime=runtime)


class Point(BaseModel):
    x: int


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


class Noting(BaseTool):
    name: str = "noting"
    description: str = "Notes who called it."
    caller: str = ""

    def _run(self, who: str) -> list[str]:
        before, self.caller = self.caller, who
        return [before, self.caller]


async def test_what_a_tool_notes_in_its_fields_does_not_reach_the_next_call() -> None:
    exact = ExactTool(Noting())
    runtime: Runtime[Any] = Runtime(stream_writer=lambda _: None)
    for who in ("ann", "bob"):
        given = await call_tool(
            exact, {"who": who}, call_id="c", config={"configurable": {}}, runtime=runtime
        )
        assert given == ["", who]


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


async def test_of_a_command_the_tools_message_is_taken_and_where_it_leads_is_not() -> None:
    @tool
    def steer(q: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> Any:
        """Steer."""
        said = ToolMessage(f"steered {q}", tool_call_id=tool_call_id)
        return Command(goto="elsewhere", update={"messages": [said]})

    @tool
    def jump() -> Any:
        """Jump."""
        return [Command(goto="elsewhere")]

    toolbox = Toolbox([steer, jump])
    assert await _call(toolbox.get("steer"), q="x") == "steered x"
    assert await _call(toolbox.get("jump")) == "done"


async def test_the_id_of_the_call_is_given_to_a_tool_that_asks_for_it_and_its_value_stays_exact() -> None:
    @tool
    def note(n: int, id: Annotated[str, InjectedToolCallId]) -> Any:
        """Note."""
        return {"n": n, "id": id}

    @tool(response_format="content_and_artifact")
    def both(id: Annotated[str, InjectedToolCallId]) -> Any:
        """Give both."""
        return [id, 1], object()

    toolbox = Toolbox([note, both])
    assert await _call(toolbox.get("note"), n=1, id="forged") == {"n": 1, "id": "c-1"}
    assert await _call(toolbox.get("both")) == ["c-1", 1]


async def test_a_command_with_a_message_of_failure_is_a_failed_call() -> None:
    @tool
    def fail(runtime: ToolRuntime[Any, Any]) -> Any:
        """Fail."""
        said = ToolMessage("sold out", tool_call_id=runtime.tool_call_id, status="error")
        return Command(update={"messages": [said]})

    with pytest.raises(ToolFailedError, match="sold out"):
        await _call(Toolbox([fail]).get("fail"))


@pytest.mark.parametrize(
    ("value", "limit", "text"),
    [("abc", 3, "abc"), ("abcd", 3, "abc… (1 more characters)"), ({"ü": 1}, 99, '{"ü": 1}')],
)
def test_a_preview_says_how_much_is_left_out(value: Any, limit: int, text: str) -> None:
    assert preview(value, limit) == text


def test_an_exception_is_described_in_one_line_with_its_kind() -> None:
    assert describe_exception("t", ValueError(" odd ")) == "t raised ValueError: odd"
    assert describe_exception("t", KeyError()) == "t raised KeyError: no message"
