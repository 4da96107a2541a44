"""Questions that nobody answers get their safe default when the run is next resumed."""

from __future__ import annotations

import asyncio
import time

from langchain_core.tools import tool
from langgraph.types import Command
from plans import Thread, agent_with, bound

from plan_execute import Context


@tool
def write(text: str) -> str:
    """Write something."""
    if text.startswith("bad"):
        raise ValueError("disk on fire")
    return f"wrote {text}"


LONG, OVER = Context(decision_timeout_s=3600), Context(decision_timeout_s=1e-6)


async def test_an_unanswered_plan_is_not_approved_and_the_audit_says_so() -> None:
    thread = Thread(agent_with([write]), LONG)
    await thread.run(bound("a", "write", {"text": "x"}))
    await thread.send(None)
    assert (await thread.question())["name"] == "approve_plan"
    result = await thread.send(None, OVER)
    assert result["status"] == "rejected"
    assert "nobody answered" in result["final_answer"]
    rejected = [event["by"] for event in result["audit"] if event["event"] == "plan_rejected"]
    assert rejected == [{"kind": "timeout"}]


async def test_looking_at_a_waiting_run_again_does_not_give_it_more_time() -> None:
    thread = Thread(agent_with([write]), LONG.model_copy(update={"approval": "never"}))
    await thread.run(bound("a", "write", {"text": "bad"}))
    asked = time.time()
    for _ in range(2):
        await asyncio.sleep(0.25)
        await thread.send(None)
        assert (await thread.question())["name"] == "handle_step_failure"
    waited = Context(decision_timeout_s=time.time() - asked)
    assert (await thread.send(None, waited))["status"] == "failed"


async def test_a_late_answer_to_an_overdue_question_does_not_count() -> None:
    thread = Thread(agent_with([write]), LONG.model_copy(update={"approval": "never"}))
    await thread.run(bound("ok", "write", {"text": "x"}), bound("a", "write", {"text": "bad"}))
    late = Command(resume={"decision": "supply", "output": "by hand"})
    result = await thread.send(late, OVER)
    assert result["status"] == "partial"
    assert result["results"]["a"]["status"] == "failed"


async def test_without_a_timeout_a_question_waits_for_ever() -> None:
    thread = Thread(agent_with([write]))
    await thread.run(bound("a", "write", {"text": "x"}))
    await thread.send(None)
    assert (await thread.answer("approve"))["status"] == "done"
