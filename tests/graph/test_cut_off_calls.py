"""Calls that are cut off, cancelled or numbered alike are neither forgotten, nor confused, nor made twice."""

from __future__ import annotations

import asyncio
import threading

from bounded import BoundedThread
from langchain_core.messages import AIMessage
from plans import FREE, agent_with, bound, draft, draft_step, statuses, think
from toolset import Toolset, make_tool

from plan_execute import Context, ScriptedModel


async def test_a_write_that_timed_out_is_asked_about_and_never_patched_away() -> None:
    paid: list[str] = []
    go, done = threading.Event(), threading.Event()

    def pay(text: str) -> str:
        """Pay, in a thread that no time limit stops."""
        go.wait()
        paid.append(text)
        done.set()
        return text

    model = ScriptedModel(
        {
            "evaluator": [{"decision": "patch", "reason": "slow", "hint": ""}],
            "replanner": [draft(draft_step("w2", "pay", {"text": "100"}))],
            "synthesizer": ["ok"],
        }
    )
    settings = Context(approval="writes", max_attempts=1)
    thread = BoundedThread(agent_with([make_tool(pay, effect="write")], model), settings)
    await thread.run(bound("w", "pay", {"text": "100"}, timeout_s=0.1))
    await thread.answer("approve")
    (question,) = await thread.questions()
    assert question.value["action_requests"][0]["name"] == "handle_step_failure"
    assert question.value["action_requests"][0]["args"]["error"]["code"] == "timeout"
    assert "may still have happened" in question.value["action_requests"][0]["description"]
    go.set()
    assert await asyncio.to_thread(done.wait, 60)
    result = await thread.answer({"decision": "supply", "output": "it was paid"})
    assert statuses(result) == {"w": "done"}
    assert paid == ["100"]


async def test_a_tool_that_cancels_its_own_work_fails_its_step_only() -> None:
    async def drop(q: str) -> str:
        """Wait for a request that the client library has cancelled."""
        request = asyncio.create_task(asyncio.sleep(1))
        request.cancel()
        await request
        return q

    tools = Toolset()
    settings = Context(approval="never", max_attempts=1, on_failure="skip")
    thread = BoundedThread(agent_with([make_tool(drop), *tools.tools]), settings)
    result = await thread.run(
        bound("a", "drop", {"q": "x"}), bound("s", "wait", {"name": "s", "seconds": 0.2})
    )
    assert statuses(result) == {"a": "skipped", "s": "done"}
    assert "cancelled" in result["results"]["a"]["error"]["message"]
    assert tools.cancelled == []


async def test_calls_with_equal_ids_in_different_turns_are_different_calls() -> None:
    def same_call() -> AIMessage:
        return AIMessage("", tool_calls=[{"name": "wr", "args": {"text": "line"}, "id": "call_0"}])

    tools = Toolset()
    model = ScriptedModel({"executor": [same_call(), same_call(), "twice"], "synthesizer": ["ok"]})
    result = await BoundedThread(agent_with(tools.tools, model), FREE).run(think("a", tools=["wr"]))
    assert tools.named("wr") == ["line", "line"]
    evidence = result["results"]["a"]["evidence"]
    assert [(seen["call_id"], seen["ok"]) for seen in evidence] == [("call_0", True)] * 2


async def test_an_agent_step_that_ran_out_of_turns_still_shows_the_calls_it_made() -> None:
    tools = Toolset()
    turns = [ScriptedModel.tool_calls(("wr", {"text": str(n)})) for n in range(3)]
    model = ScriptedModel({"executor": turns, "synthesizer": ["ok"]})
    settings = Context(approval="never", max_attempts=1, max_iterations=2, on_failure="abort")
    result = await BoundedThread(agent_with(tools.tools, model), settings).run(think("a", tools=["wr"]))
    step = result["results"]["a"]
    assert step["error"]["code"] == "max_iterations"
    assert [(seen["tool"], seen["args"], seen["ok"]) for seen in step["evidence"]] == [
        ("wr", {"text": text}, True) for text in tools.named("wr")
    ]
    assert len(step["evidence"]) == 2
