"""A run that goes on after a question knows what was decided before it stopped."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from bounded import BoundedThread
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from plans import FREE, agent_with, bound, statuses
from toolset import Toolset, make_tool
from typing_extensions import TypedDict

from plan_execute import Context


@pytest.mark.parametrize("dependent", [False, True])
async def test_a_step_that_is_approved_after_another_aborted_the_run_does_not_start(dependent: bool) -> None:
    tools = Toolset()
    settings = Context(approval="never", max_attempts=1, max_parallel=1)
    thread = BoundedThread(agent_with(tools.tools), settings)
    after_both = [bound("after", "look", {"q": "after"}, "asking", "withheld")] if dependent else []
    await thread.run(
        bound("asking", "wr", {"text": "x"}, approve=True),
        bound("aborting", "broken", {"q": "x"}, on_failure="abort"),
        bound("later", "look", {"q": "later"}, "aborting"),
        bound("last", "look", {"q": "last"}, "later"),  # the longest path: aborting gets the one slot first
        bound("withheld", "look", {"q": "withheld"}),
        *after_both,
    )
    assert (await thread.question())["name"] == "approve_step"
    result = await thread.answer("approve")
    assert result["status"] == "failed"
    assert tools.calls == [("broken", "x")]
    assert not await thread.questions()


async def test_an_abort_answered_before_another_question_holds_when_that_one_is_answered() -> None:
    tools = Toolset()
    settings = Context(approval="never", max_attempts=1, on_failure="ask")
    thread = BoundedThread(agent_with(tools.tools), settings)
    await thread.run(
        bound("a", "broken", {"q": "a"}),
        bound("b", "broken", {"q": "b"}),
        bound("c", "wr", {"text": "c"}, "a"),
    )
    ids = await thread.ids()
    await thread.send(Command(resume={ids["b"]: {"decision": "abort"}}))
    assert list(await thread.ids()) == ["a"]
    result = await thread.send(Command(resume={ids["a"]: {"decision": "supply", "output": "x"}}))
    assert tools.named("wr") == [], "nothing new starts after an abort"
    assert statuses(result)["b"] == "failed"
    assert not await thread.questions()


# --- tools that ask ----------------------------------------------------------------------


class Said(TypedDict):
    """What people have said, in the order of the nodes that asked."""

    said: Annotated[list[str], operator.add]


class Booking:
    """A tool that asks a person for a city, and has no room there."""

    def __init__(self) -> None:
        self.told: list[Any] = []

        def book(room: str) -> str:
            """Ask for a city, then fail."""
            self.told.append(interrupt({"question": "which city?"}))
            raise ValueError(f"no {room} in {self.told[-1]}")

        self.tool = make_tool(book)


async def test_an_answer_to_a_question_of_a_tool_is_not_taken_for_an_answer_to_its_failure() -> None:
    booking = Booking()
    settings = Context(approval="never", max_attempts=1, on_failure="ask")
    thread = BoundedThread(agent_with([booking.tool]), settings)
    await thread.run(bound("a", "book", {"room": "double"}))
    (question,) = await thread.questions()
    assert question.value == {"question": "which city?"}
    await thread.answer("Oslo")
    assert (await thread.question())["name"] == "handle_step_failure"
    result = await thread.answer({"decision": "skip"})
    assert statuses(result) == {"a": "skipped"}
    assert result["results"]["a"]["error"]["message"].endswith("no double in Oslo")
    assert booking.told == ["Oslo"]


async def test_a_second_attempt_of_a_tool_that_asks_asks_again_and_gets_its_own_answer() -> None:
    booking = Booking()
    settings = Context(approval="never", max_attempts=2, on_failure="skip")
    thread = BoundedThread(agent_with([booking.tool]), settings)
    await thread.run(bound("a", "book", {"room": "double"}))
    await thread.answer("Oslo")
    (question,) = await thread.questions()
    assert question.value == {"question": "which city?"}
    result = await thread.answer("Rome")
    assert booking.told == ["Oslo", "Rome"]
    assert (statuses(result), result["results"]["a"]["attempts"]) == ({"a": "skipped"}, 2)


@pytest.mark.parametrize("at_once", [True, False])
async def test_several_questions_of_a_graph_within_a_tool_that_asks_are_open_at_once(at_once: bool) -> None:
    def asking(name: str) -> Callable[[Any], dict[str, list[str]]]:
        return lambda _: {"said": [f"{name}: {interrupt({'about': name})}"]}

    builder = StateGraph(Said)
    for name in ("date", "place"):
        builder.add_node(name, asking(name))
        builder.add_edge(START, name)
    both = builder.compile()

    async def arrange(what: str) -> list[str]:
        """Ask who comes, then when and where at once."""
        who = interrupt({"about": "who"})
        return [f"who: {who}", *(await both.ainvoke({"said": []}))["said"]]

    thread = BoundedThread(agent_with([make_tool(arrange)]), FREE)
    await thread.run(bound("a", "arrange", {"what": "tea"}))
    await thread.answer("Ann")
    asked = {question.value["about"]: question.id for question in await thread.questions()}
    assert asked.keys() == {"date", "place"}
    answers = {asked["date"]: "Monday", asked["place"]: "Rome"}
    for given in [answers] if at_once else [{key: value} for key, value in answers.items()]:
        result = await thread.agent.ainvoke(Command(resume=given), thread.config)
    assert result["results"]["a"]["output"] == ["who: Ann", "date: Monday", "place: Rome"]
