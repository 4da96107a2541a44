"""What of a run's questions stands in the conversation, whoever answers them and however."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import HumanMessage
from langgraph.types import Command, interrupt
from plans import FREE, Thread, agent_with, bound, draft, draft_step, think
from toolset import Toolset, make_tool

from plan_execute import Context, ScriptedModel, cancel_run
from plan_execute.errors import InvalidAnswerError

ASK = Context(approval="never", on_failure="ask", max_attempts=1)


def _told(result: Any) -> list[str]:
    """Give the conversation since the goal: the step of each question, the text of all else."""
    told = []
    for message in result["messages"][1:]:
        calls = getattr(message, "tool_calls", None)
        told.append(calls[0]["args"]["step_id"] if calls else message.text.partition("\n")[0])
    return told


async def _asked_about_two() -> Thread:
    thread = Thread(agent_with(Toolset().tools), ASK)
    result = await thread.run(bound("a", "broken", {"q": "x"}), bound("b", "broken", {"q": "x"}))
    assert _told(result) == ["a"]
    return thread


async def test_a_question_that_is_answered_by_id_out_of_turn_comes_before_the_one_that_is_open() -> None:
    thread = await _asked_about_two()
    _, second = await thread.questions()
    result = await thread.answer({second.id: {"decision": "skip"}})
    assert _told(result) == ["b", "Decided: skip.", "a"]
    result = await thread.answer({"decision": "skip"})
    assert _told(result)[:4] == ["b", "Decided: skip.", "a", "Decided: skip."]


async def test_both_answered_at_once_each_has_its_question_and_its_result() -> None:
    thread = await _asked_about_two()
    answers = {one.id: {"decision": "skip"} for one in await thread.questions()}
    assert _told(await thread.answer(answers))[:4] == ["a", "Decided: skip.", "b", "Decided: skip."]


async def test_a_question_of_a_run_that_is_cancelled_is_closed() -> None:
    thread = await _asked_about_two()
    assert await cancel_run(thread.agent, thread.config) == "cancelled"
    values = (await thread.agent.aget_state(thread.config)).values
    assert _told(values)[:2] == ["a", "The question was not answered."]


async def test_what_planner_and_judge_write_is_no_part_of_the_stream_of_messages() -> None:
    planned = draft(draft_step("a", "look", {"q": "x"}, criterion="x is found"), rationale="why it is so")
    verdict = {"met": True, "gap": "", "reason": "the judge says so"}
    model = ScriptedModel({"planner": [planned], "evaluator": [verdict], "synthesizer": ["It is found."]})
    thread = Thread(agent_with(Toolset().tools, model), FREE)
    stream = thread.agent.astream(
        {"messages": [HumanMessage("find x")]}, thread.config, context=FREE, stream_mode="messages"
    )
    said = "".join([message.text async for message, _ in stream])
    assert "why it is so" not in said
    assert "the judge says so" not in said
    assert "It is found." in said


class _Asks(AgentMiddleware):
    def before_model(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        return {"messages": [HumanMessage(str(interrupt("may I?")))]} if len(state["messages"]) < 3 else None


async def test_a_message_sent_before_the_question_of_a_middleware_stays_in_the_conversation() -> None:
    model = ScriptedModel({"executor": ["fine"], "synthesizer": ["ok"]}, strict=False)
    thread = Thread(agent_with([], model, middleware=[_Asks()]), FREE)
    await thread.run({"id": "a", "task": "t", "tools": []})
    early = {"configurable": {**thread.config["configurable"], "__request_start_time_ms__": 1.0}}
    served = {**early, "metadata": {"langgraph_api_version": "x"}}
    result = await thread.agent.ainvoke({"messages": [HumanMessage("in euros, please")]}, served)
    assert "in euros, please" in [message.text for message in result["messages"]]
    assert [one.value for one in await thread.questions()] == ["may I?"]


async def test_a_caller_of_version_2_gets_each_question_once_and_only_as_an_interrupt() -> None:
    thread = Thread(agent_with(Toolset().tools), ASK)
    plan = {"id": "p", "revision": 1, "goal": "g", "steps": [bound("a", "broken", {"q": "x"})]}
    result = await thread.agent.ainvoke({"plan": plan}, thread.config, context=ASK, version="v2")
    assert len(result.interrupts) == 1
    assert "__interrupt__" not in result.value
    assert _told(result.value | {"messages": [None, *result.value["messages"]]})[-1] == "a"


async def test_a_question_adds_nothing_to_the_keys_that_a_caller_asks_for() -> None:
    thread = Thread(agent_with(Toolset().tools), ASK)
    plan = {"id": "p", "revision": 1, "goal": "g", "steps": [bound("a", "broken", {"q": "x"})]}
    result = await thread.agent.ainvoke({"plan": plan}, thread.config, context=ASK, output_keys=["status"])
    assert {*result} == {"status", "__interrupt__"}


async def test_a_button_that_was_pressed_before_a_question_is_no_answer_to_it() -> None:
    tools = Toolset()
    thread = Thread(agent_with(tools.tools), FREE)
    await thread.run(bound("a", "wr", {"text": "x"}, approve=True))
    here = thread.config["configurable"]
    served = {"metadata": {"langgraph_api_version": "x"}}
    early = {"configurable": {**here, "__request_start_time_ms__": 1.0}, **served}
    await thread.agent.ainvoke(Command(resume="approve"), early)
    assert not tools.named("wr")
    assert len(await thread.questions()) == 1
    now = {"configurable": {**here, "__request_start_time_ms__": time.time() * 1000 + 1}, **served}
    await thread.agent.ainvoke(Command(resume="approve"), now)
    assert len(tools.named("wr")) == 1


async def test_a_doubt_is_named_where_the_run_ends_while_the_planner_asks_about_it() -> None:
    begun = asyncio.Event()

    async def write(text: str) -> str:
        """Write, for ever."""
        begun.set()
        await asyncio.sleep(3600)
        return text

    agent = agent_with([make_tool(write, effect="write")], ScriptedModel([], strict=False))
    thread = Thread(agent, FREE)
    running = asyncio.create_task(thread.run(bound("w", "write", {"text": "x"})))
    await asyncio.wait_for(begun.wait(), 60)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await thread.send({"goal": "something else", "abandon": True})
    assert (await thread.question())["name"] == "resolve_unknown_outcome"
    await cancel_run(agent, thread.config)
    values = (await agent.aget_state(thread.config)).values
    assert "write" in values["final_answer"]


@pytest.mark.parametrize(
    "step", [bound("a", "order", {}), think("a", tools=["order"])], ids=["bound", "agent"]
)
async def test_an_answer_that_a_tool_refuses_is_asked_for_again_on_a_server(step: dict[str, Any]) -> None:
    ordered: list[int] = []

    def order() -> str:
        """Order."""
        ordered.append(interrupt("How many?", response_schema=int))
        return f"ordered {ordered[-1]}"

    script = {"executor": [ScriptedModel.tool_calls(("order", {})), "done"], "synthesizer": ["The end."]}
    tools = [make_tool(order, effect="write")]
    thread = Thread(agent_with(tools, ScriptedModel(script, strict=False)), FREE)
    await thread.run(step)
    (before,) = await thread.questions()
    served = {**thread.config, "metadata": {"langgraph_api_version": "x"}}
    for refused in ({"messages": [HumanMessage("many")]}, Command(resume="many"), Command(resume={"n": 1})):
        result = await thread.agent.ainvoke(refused, served)
        (again,) = result["__interrupt__"]
        assert (again.id, ordered) == (before.id, [])
        assert again.value.endswith("How many?")
        assert ("call" not in step) or "valid integer" in again.value
    with pytest.raises(InvalidAnswerError, match="valid integer"):
        await thread.answer("many")  # a program is told with an error
    assert [question.id for question in await thread.questions()] == [before.id]
    assert (await thread.answer(3))["results"]["a"]["status"] == "done"
    assert ordered == [3]


IMAGE = {"type": "image", "source_type": "base64", "mimeType": "image/png", "data": "AAAA"}
FILE = {"type": "file", "mimeType": "application/pdf", "data": "AAAA", "metadata": {"filename": "other.pdf"}}
NO_TYPE = {"image_url": {"url": "https://example.org/x.png"}}


@pytest.mark.parametrize("attached", [IMAGE, FILE, NO_TYPE], ids=["image", "file", "no type"])
@pytest.mark.parametrize("asked", ["approve", "plan"])
async def test_a_yes_with_something_attached_approves_nothing(asked: str, attached: dict[str, Any]) -> None:
    tools = Toolset()
    thread = Thread(agent_with(tools.tools), FREE if asked == "approve" else None)
    await thread.run(bound("a", "wr", {"text": "x"}, approve=asked == "approve", on_failure="abort"))
    result = await thread.send({"messages": [HumanMessage([{"type": "text", "text": "yes"}, attached])]})
    assert (tools.calls, result["status"]) == ([], "failed" if asked == "approve" else "rejected")


@pytest.mark.parametrize("texts", [["no", "ok"], ["ok", "but not to Bob"], ["wait", "yes"]])
async def test_all_that_a_person_wrote_at_once_is_one_answer(texts: list[str]) -> None:
    tools = Toolset()
    thread = Thread(agent_with(tools.tools), FREE)
    await thread.run(bound("a", "wr", {"text": "x"}, approve=True, on_failure="abort"))
    result = await thread.send({"messages": [HumanMessage(text) for text in texts]})
    assert not tools.named("wr")
    assert "\n\n".join(texts) in [message.text for message in result["messages"]]
