"""A new goal on a thread whose run is open: refused, unless it says that it gives that run up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langgraph.types import Command
from plans import Thread, agent_with, bound, plan
from toolset import Toolset, make_tool

from plan_execute import Context, ScriptedModel
from plan_execute.errors import (
    ConfigurationError,
    InvalidInputError,
    MissingModelError,
    QuestionOpenError,
    ThreadBusyError,
)

NEW = plan(bound("b", "look", {"q": "new"}))


async def _waiting() -> Thread:
    thread = Thread(agent_with(Toolset().tools))
    await thread.run(bound("a", "look", {"q": "x"}, approve=True))
    assert await thread.questions()
    return thread


async def test_a_new_goal_that_abandons_the_open_run_ends_it_and_starts() -> None:
    thread = await _waiting()
    with pytest.raises(QuestionOpenError, match="abandon"):
        await thread.send({"plan": NEW})
    result = await thread.send({"plan": NEW, "abandon": True})
    assert result["status"] == "done"
    assert list(result["results"]) == ["b"]
    assert "cancelled" in [event["event"] for event in result["audit"]]


async def test_abandon_false_abandons_nothing_and_another_value_is_refused() -> None:
    thread = await _waiting()
    with pytest.raises(QuestionOpenError):
        await thread.send({"plan": NEW, "abandon": False})
    with pytest.raises(InvalidInputError, match="abandon"):
        await thread.send({"plan": NEW, "abandon": "yes"})
    with pytest.raises(InvalidInputError):
        await thread.send({"gaol": "new", "abandon": True})
    assert await thread.questions()


async def test_abandon_on_a_thread_with_nothing_open_changes_nothing() -> None:
    thread = Thread(agent_with(Toolset().tools))
    assert (await thread.send({"plan": NEW, "abandon": True}))["status"] == "done"


async def test_a_message_that_says_it_abandons_nothing_is_an_answer() -> None:
    thread = await _waiting()
    result = await thread.send({"messages": ["yes"], "abandon": False})
    assert result["status"] == "done"


class _Held:
    """A tool that begins, and goes on when it is let."""

    def __init__(self) -> None:
        self.begun, self.let = asyncio.Event(), asyncio.Event()

    async def look(self, q: str) -> str:
        """Look something up."""
        self.begun.set()
        await self.let.wait()
        return q


async def _under_way(held: _Held, model: Any = None) -> tuple[Thread, asyncio.Task[Any]]:
    thread = Thread(agent_with([make_tool(held.look, effect="read")], model))
    running = asyncio.create_task(thread.run(bound("a", "look", {"q": "x"})))
    await asyncio.wait_for(held.begun.wait(), 60)
    return thread, running


async def test_a_message_to_a_thread_that_runs_is_refused_and_stops_nothing() -> None:
    held = _Held()
    thread, running = await _under_way(held, ScriptedModel([]))
    with pytest.raises(ThreadBusyError):
        await thread.send({"messages": ["and then?"]})
    held.let.set()
    assert (await asyncio.wait_for(running, 60))["status"] == "done"


async def test_a_stopped_run_stays_open_where_the_message_after_it_cannot_run() -> None:
    thread, running = await _under_way(_Held())
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    with pytest.raises(ConfigurationError):
        await thread.agent.ainvoke({"messages": ["go on"]}, thread.config, context={"no_such_setting": 1})  # type: ignore[arg-type]
    with pytest.raises(MissingModelError):
        await thread.send({"messages": ["go on"]})
    assert (await thread.agent.aget_state(thread.config)).tasks


async def test_the_end_of_a_run_from_an_earlier_checkpoint_runs_nothing_again() -> None:
    tools = Toolset()
    thread = Thread(agent_with(tools.tools), Context(approval="never"))
    await thread.run(bound("a", "wr", {"text": "x"}))
    first = [one async for one in thread.agent.aget_state_history(thread.config)][-1]
    await thread.agent.ainvoke(Command(goto="__end__"), first.config)
    assert len(tools.named("wr")) == 1
