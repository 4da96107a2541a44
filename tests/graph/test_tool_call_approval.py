"""LangChain's own human-in-the-loop middleware inside agent steps: single tool calls are asked about."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents.middleware import AgentMiddleware, HumanInTheLoopMiddleware, hook_config
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool
from plans import FREE, Thread, agent_with, bound, think

from plan_execute import ScriptedModel
from plan_execute.errors import InvalidAnswerError

calls = ScriptedModel.tool_calls


class Desk:
    """Two tools that note what was really called."""

    def __init__(self) -> None:
        self.made: list[tuple[str, str]] = []

        @tool
        def send(text: str) -> str:
            """Send something."""
            self.made.append(("send", text))
            return f"sent {text}"

        @tool
        def look(text: str) -> str:
            """Look something up."""
            self.made.append(("look", text))
            return f"seen {text}"

        look.metadata = {"effect": "read"}
        self.tools = [send, look]


async def _two_steps_waiting(desk: Desk) -> tuple[Thread, dict[str, str]]:
    """Run until one step waits with one call and the other with two."""
    model = ScriptedModel(
        {
            "executor:a": [
                calls(("look", {"text": "1"})),
                calls(("send", {"text": "A"}), ("send", {"text": "B"})),
                "a!",
            ],
            "executor:b": [calls(("send", {"text": "C"})), "b!"],
            "synthesizer": ["all sent"],
        }
    )
    guard = HumanInTheLoopMiddleware(interrupt_on={"send": True})
    thread = Thread(agent_with(desk.tools, model, middleware=[guard]), FREE)
    await thread.run(
        think("a", tools=["send", "look"]),
        think("b", tools=["send"]),
        bound("c", "look", {"text": "${a} ${b}"}),
    )
    by_count = {len(q.value["action_requests"]): q.id for q in await thread.questions()}
    return thread, {"one": by_count[1], "two": by_count[2]}


async def test_a_call_runs_only_after_a_person_has_said_so_and_siblings_wait_on_their_own() -> None:
    desk = Desk()
    thread, ids = await _two_steps_waiting(desk)
    assert desk.made == [("look", "1")]
    await thread.answer({ids["one"]: [{"type": "accept"}]})
    assert desk.made == [("look", "1"), ("send", "C")]
    result = await thread.answer(
        {
            "decisions": [
                {"type": "edit", "edited_action": {"name": "send", "args": {"text": "EDITED"}}},
                {"type": "reject", "message": "not that one"},
            ]
        }
    )
    assert result["status"] == "done"
    assert desk.made == [("look", "1"), ("send", "C"), ("send", "EDITED"), ("look", "a! b!")]


@pytest.mark.parametrize(
    "answer",
    [
        {"decisions": [{"type": "approve"}]},
        [{"type": "approve"}, {"type": "explode"}],
        "approve",
        {"decisions": []},
        [{"type": "edit", "args": "not an object"}, {"type": "approve"}],
    ],
    ids=["too few", "unknown type", "one word for two calls", "none", "edit without args"],
)
async def test_an_answer_that_fits_not_every_call_is_refused_and_the_question_stays(answer: Any) -> None:
    desk = Desk()
    thread, ids = await _two_steps_waiting(desk)
    with pytest.raises(InvalidAnswerError, match="question stays open"):
        await thread.answer({ids["two"]: answer})
    assert {q.id for q in await thread.questions()} == set(ids.values())
    assert desk.made == [("look", "1")]


async def test_an_edit_cannot_turn_a_call_into_a_tool_the_plan_does_not_grant() -> None:
    desk = Desk()
    model = ScriptedModel({"executor": [calls(("send", {"text": "A"})), "gave up"], "synthesizer": ["no"]})
    guard = HumanInTheLoopMiddleware(interrupt_on={"send": True})
    thread = Thread(agent_with(desk.tools, model, middleware=[guard]), FREE)
    await thread.run(think("a", tools=["send"]), bound("b", "look", {"text": "${a}"}))
    result = await thread.answer(
        {"decisions": [{"type": "edit", "edited_action": {"name": "look", "args": {"text": "secret"}}}]}
    )
    assert ("look", "secret") not in desk.made
    assert result["results"]["a"]["evidence"][0]["ok"] is False


class Hasty(AgentMiddleware[Any, Any]):
    """Sends every call of the model to the tools, whatever was said about it."""

    @hook_config(can_jump_to=["tools"])
    def after_model(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        spoken = next(message for message in reversed(state["messages"]) if isinstance(message, AIMessage))
        return {"jump_to": "tools"} if spoken.tool_calls else None


@pytest.mark.parametrize(
    ("decision", "told"),
    [
        ({"type": "reject", "message": "not that one"}, "User rejected the tool call for `send`"),
        ({"type": "respond", "message": "I sent it myself"}, "I sent it myself"),
    ],
    ids=["rejected", "answered"],
)
async def test_a_call_that_a_person_has_answered_is_not_made_though_other_middleware_lets_it_through(
    decision: dict[str, Any], told: str
) -> None:
    desk, seen = Desk(), []

    def conclude(messages: Any) -> str:
        seen.extend(message for message in messages if isinstance(message, ToolMessage))
        return "done"

    both = calls(("send", {"text": "A"}), ("send", {"text": "B"}))
    model = ScriptedModel({"executor": [both, conclude], "synthesizer": ["ok"]})
    guard = HumanInTheLoopMiddleware(interrupt_on={"send": True})
    thread = Thread(agent_with(desk.tools, model, middleware=[Hasty(), guard]), FREE)
    await thread.run(think("a", tools=["send"]))
    await thread.answer({"decisions": [{"type": "approve"}, decision]})
    assert desk.made == [("send", "A")]
    assert [told in str(message.content) for message in seen] == [True, False], "each call has one answer"


async def test_a_call_is_made_though_an_earlier_one_with_the_same_id_was_rejected() -> None:
    desk = Desk()
    first, second = calls(("send", {"text": "A"})), calls(("send", {"text": "B"}))
    for turn in (first, second):
        turn.tool_calls[0]["id"] = "0"  # some servers number calls from zero in every answer
    model = ScriptedModel({"executor": [first, second, "done"], "synthesizer": ["ok"]})
    guard = HumanInTheLoopMiddleware(interrupt_on={"send": True})
    thread = Thread(agent_with(desk.tools, model, middleware=[guard]), FREE)
    await thread.run(think("a", tools=["send"]))
    await thread.answer({"type": "reject", "message": "no"})
    await thread.answer("approve")
    assert desk.made == [("send", "B")]


async def test_evidence_says_what_was_really_called_after_an_edit() -> None:
    desk = Desk()
    model = ScriptedModel({"executor": [calls(("send", {"text": "A"})), "done"], "synthesizer": ["sent"]})
    guard = HumanInTheLoopMiddleware(interrupt_on={"send": True})
    thread = Thread(agent_with(desk.tools, model, middleware=[guard]), FREE)
    await thread.run(think("a", tools=["send"]))
    edited = {"type": "edit", "edited_action": {"name": "send", "args": {"text": "B"}}}
    result = await thread.answer({"decisions": [edited]})
    assert desk.made == [("send", "B")]
    assert [call["args"] for call in result["results"]["a"]["evidence"]] == [{"text": "B"}]


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"type": "frobnicate"}, "'frobnicate'.*'approve', 'edit', 'reject'"),
        ({"type": "edit"}, r"edit\.edited_action: Field required"),
        ("yes", "answer: "),
    ],
)
async def test_a_wrong_answer_to_a_question_per_call_is_our_error_and_the_question_stays_open(
    wrong: Any, problem: str
) -> None:
    desk = Desk()
    model = ScriptedModel({"executor": [calls(("send", {"text": "A"})), "a!"], "synthesizer": ["all sent"]})
    guard = HumanInTheLoopMiddleware({"send": True}, interrupt_mode="per_call")
    thread = Thread(agent_with(desk.tools, model, middleware=[guard]), FREE)
    await thread.run(think("a", tools=["send"]))
    with pytest.raises(InvalidAnswerError, match=f"{problem}.*The question stays open"):
        await thread.answer(wrong)
    assert desk.made == []
    result = await thread.answer({"type": "approve"})
    assert (result["status"], desk.made) == ("done", [("send", "A")])
