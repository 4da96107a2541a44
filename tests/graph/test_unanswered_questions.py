"""Questions that nobody answers get their careful end when the run is next resumed."""

from __future__ import annotations

import asyncio

from langchain_core.tools import tool
from plans import Thread, agent_with, bound

from plan_execute import Context


@tool
def write(text: str) -> str:
    """Write something."""
    if text.startswith("bad"):
        raise ValueError("disk on fire")
    return f"wrote {text}"


PATIENCE = 0.3


async def test_an_unanswered_plan_is_not_approved_and_the_audit_says_so() -> None:
    thread = Thread(agent_with([write]), Context(decision_timeout_s=PATIENCE))
    await thread.run(bound("a", "write", {"text": "x"}))
    await thread.send(None)
    assert (await thread.question())["name"] == "approve_plan"
    await asyncio.sleep(PATIENCE * 1.5)
    result = await thread.send(None)
    assert result["status"] == "rejected"
    assert "nobody answered" in result["final_answer"]
    assert [event["by"] for event in result["audit"] if event["event"] == "plan_rejected"] == ["timeout"]


async def test_looking_at_a_waiting_run_again_does_not_give_it_more_time() -> None:
    thread = Thread(agent_with([write]), Context(decision_timeout_s=1.0, approval="never"))
    await thread.run(bound("a", "write", {"text": "bad"}))
    for _ in range(2):
        await asyncio.sleep(0.25)
        await thread.send(None)
        assert (await thread.question())["name"] == "handle_step_failure"
    await asyncio.sleep(0.7)
    assert (await thread.send(None))["status"] == "failed"


async def test_a_late_answer_to_an_overdue_question_does_not_count() -> None:
    thread = Thread(agent_with([write]), Context(decision_timeout_s=PATIENCE, approval="never"))
    await thread.run(bound("ok", "write", {"text": "x"}), bound("a", "write", {"text": "bad"}))
    await asyncio.sleep(PATIENCE * 1.5)
    result = await thread.answer({"decision": "supply", "output": "by hand"})
    assert result["status"] == "partial"
    assert result["results"]["a"]["status"] == "failed"


async def test_without_a_timeout_a_question_waits_for_ever() -> None:
    thread = Thread(agent_with([write]))
    await thread.run(bound("a", "write", {"text": "x"}))
    await asyncio.sleep(PATIENCE)
    await thread.send(None)
    assert (await thread.answer("approve"))["status"] == "done"
