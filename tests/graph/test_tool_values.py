"""What tools return and ask for, the same in a bound step and in an agent step."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
import pytest
from langchain_core.messages import ToolMessage
from langchain_core.tools import InjectedToolCallId, Tool, tool
from langgraph.prebuilt import InjectedState, ToolRuntime
from langgraph.types import Command
from plans import FREE, Thread, agent_with, bound, think
from toolset import make_tool

from plan_execute import ScriptedModel

CALL = ScriptedModel.tool_calls


def series() -> Any:
    """Give a series."""
    return np.arange(2000)


def flag() -> Any:
    """Tell whether there is any."""
    return np.array([0, 0]).any()


def threads() -> Iterator[str]:
    """Tell which thread does the work."""
    yield "the main thread" if threading.current_thread() is threading.main_thread() else "another thread"


def names() -> list[str]:
    """List names."""
    return ["caf\udce9"]


@tool
def note(text: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> str:
    """Note."""
    return f"noted {text}" if tool_call_id else "no id"


@tool
def buy(text: str, runtime: ToolRuntime[Any, Any]) -> Any:
    """Buy."""
    said = ToolMessage(f"bought {text}", tool_call_id=runtime.tool_call_id)
    return Command(goto="elsewhere", update={"messages": [said], "cart": [text]})


@tool
def count(messages: Annotated[list[Any], InjectedState("messages")]) -> bool:
    """Tell whether the messages are a list."""
    return isinstance(messages, list)


CLASSIC = Tool(name="search", func=lambda query: f"hits for {query}", description="Search.")


@pytest.mark.parametrize(
    ("made", "args", "output", "told"),
    [
        (make_tool(series), {}, list(range(2000)), "1998, 1999]"),
        (make_tool(flag), {}, False, "false"),
        (make_tool(threads), {}, ["another thread"], "another thread"),
        (make_tool(names), {}, ["caf\ufffd"], "caf\ufffd"),
        (note, {"text": "x"}, "noted x", "noted x"),
        (buy, {"text": "x"}, "bought x", "bought x"),
        (count, {}, True, "true"),
        (CLASSIC, {"tool_input": "tea"}, "hits for tea", "hits for tea"),
    ],
)
async def test_a_tool_gives_the_same_to_a_bound_step_and_to_an_agent(
    made: Any, args: dict[str, Any], output: Any, told: str
) -> None:
    model = ScriptedModel({"executor": [CALL((made.name, args)), "seen"], "synthesizer": ["ok"]})
    agent = agent_with([made], model)
    result = await Thread(agent, FREE).run(
        bound("a", made.name, args), think("b", tools=[made.name]), goal="the goal"
    )
    assert result["results"]["a"]["output"] == output
    last = model.calls[1].messages[-1]
    assert isinstance(last, ToolMessage)
    assert (last.status, told in last.text) == ("success", True), last
    assert [call["ok"] for call in result["results"]["b"]["evidence"]] == [True]


async def test_a_classic_tool_takes_the_name_that_langchain_offers_to_models() -> None:
    model = ScriptedModel({"executor": [CALL(("search", {"__arg1": "tea"})), "seen"], "synthesizer": ["ok"]})
    await Thread(agent_with([CLASSIC], model), FREE).run(think("b", tools=["search"]))
    assert "hits for tea" in model.calls[1].messages[-1].text


@pytest.mark.parametrize("field", ["user", "optional"])
async def test_a_bound_tool_that_asks_for_state_that_is_not_there_is_refused_before_anything_runs(
    field: str,
) -> None:
    ran: list[str] = []

    def first() -> str:
        """Go first."""
        ran.append("first")
        return "done"

    @tool
    def greet(user: Annotated[str, InjectedState("user")]) -> str:
        """Greet."""
        return f"hello {user}"

    @tool
    def optional(user: Annotated[str | None, InjectedState("user")] = None) -> str:
        """Greet somebody or nobody."""
        return f"hello {user}"

    made = {"user": greet, "optional": optional}[field]
    thread = Thread(agent_with([make_tool(first), made], None), FREE)
    result = await thread.run(bound("a", "first", {}), bound("b", made.name, {}, "a"))
    if field == "optional":
        assert result["results"]["b"]["output"] == "hello None"
        return
    assert (result["status"], ran) == ("failed", [])
    assert "it needs 'user' of an agent's state" in result["plan_issues"][0]["message"]
