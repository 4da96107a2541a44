"""A new goal on a thread whose run is open: refused, unless it says that it gives that run up."""

from __future__ import annotations

import pytest
from plans import Thread, agent_with, bound, plan
from toolset import Toolset

from plan_execute.errors import InvalidInputError, QuestionOpenError

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
