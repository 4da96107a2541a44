"""Budgets count what a run spent before a question, and before it was changed from outside."""

from __future__ import annotations

import asyncio

import pytest
from bounded import BoundedThread
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.memory import InMemoryStore
from plans import agent_with, bound, statuses, think
from toolset import Toolset, make_tool
from virtual_clock import virtually

from plan_execute import Context, ScriptedModel
from plan_execute.graph.control import cancel_run, retry_steps
from plan_execute.storage.ledger import Ledger


async def test_calls_made_before_each_question_of_an_agent_step_count_against_the_budgets() -> None:
    tools = Toolset()
    writes = [ScriptedModel.tool_calls(("wr", {"text": str(n)})) for n in range(6)]
    model = ScriptedModel({"executor": [*writes, "done"], "synthesizer": ["ok"]})
    asking = HumanInTheLoopMiddleware(interrupt_on={"wr": True})
    settings = Context(
        approval="never", max_attempts=1, max_model_calls=2, max_tool_calls=2, on_failure="abort"
    )
    thread = BoundedThread(agent_with(tools.tools, model, middleware=[asking]), settings)
    result = await thread.run(think("a", tools=["wr"]))
    for _ in range(6):
        if await thread.questions():
            result = await thread.answer({"decisions": [{"type": "approve"}]})
    assert not await thread.questions()
    assert tools.named("wr") == ["0", "1"]
    assert len(model.calls) == 2
    assert (result["usage"]["model_calls"], result["usage"]["tool_calls"]) == (2, 2)
    assert statuses(result) == {"a": "failed"}


@virtually
async def test_seconds_spent_before_a_question_count_against_max_seconds() -> None:
    begun: list[str] = []

    async def crawl(q: str) -> str:
        """Take a while, then fail."""
        begun.append(q)
        await asyncio.sleep(0.4)
        raise ValueError("no")

    settings = Context(approval="never", max_attempts=1, max_seconds=0.6, on_failure="ask")
    thread = BoundedThread(agent_with([make_tool(crawl)]), settings)
    result = await thread.run(bound("a", "crawl", {"q": "x"}))
    for _ in range(4):
        if await thread.questions():
            result = await thread.answer({"decision": "retry"})
    assert not await thread.questions()
    assert len(begun) == 2
    assert result["status"] == "failed"
    assert result["usage"]["seconds"] >= 0.6


@virtually
async def test_seconds_that_pass_while_nobody_answers_are_not_counted() -> None:
    tools = Toolset()
    tools.failures = [ValueError("odd")]
    settings = Context(approval="never", max_attempts=1, max_seconds=1.0, on_failure="ask")
    thread = BoundedThread(agent_with(tools.tools), settings)
    await thread.run(bound("a", "flaky", {"q": "x"}))
    await asyncio.sleep(3600)
    result = await thread.answer({"decision": "retry"})
    assert result["status"] == "done"
    assert result["usage"]["seconds"] == 0


async def test_what_finished_steps_spent_stays_counted_when_a_question_is_cut_short_by_a_retry() -> None:
    tools = Toolset()
    tools.failures = [ValueError("odd")]
    settings = Context(approval="never", max_attempts=1, on_failure="ask")
    thread = BoundedThread(agent_with(tools.tools), settings)
    await thread.run(
        bound("l", "look", {"q": "x"}), bound("l2", "look", {"q": "y"}), bound("w", "flaky", {"q": "x"})
    )
    assert (await thread.question())["name"] == "handle_step_failure"
    assert await asyncio.wait_for(retry_steps(thread.agent, thread.config, ["w"]), 60) == ["w"]
    state = await thread.agent.aget_state(thread.config)
    assert state.values["usage"]["tool_calls"] >= 2
    result = await thread.send(None)
    assert result["status"] == "done"
    assert result["usage"]["tool_calls"] >= 3


async def test_a_run_cancelled_at_a_question_reports_and_counts_the_call_that_was_asked_about() -> None:
    tools = Toolset()
    tools.failures = [ValueError("half done")]
    settings = Context(approval="never", max_attempts=1, on_failure="ask")
    thread = BoundedThread(agent_with(tools.tools), settings)
    await thread.run(bound("l", "look", {"q": "x"}), bound("w", "wr", {"text": "x"}))
    assert (await thread.question())["name"] == "handle_step_failure"
    assert await asyncio.wait_for(cancel_run(thread.agent, thread.config), 60) == "cancelled"
    values = (await thread.agent.aget_state(thread.config)).values
    assert values["usage"]["tool_calls"] == len(tools.calls) == 2
    assert statuses(values) == {"l": "done", "w": "failed"}
    assert "w: failed: wr raised ValueError: half done" in values["final_answer"]


@virtually
async def test_what_a_run_takes_after_its_answer_counts_where_seconds_have_a_budget() -> None:
    left = []
    for limit in (1.0, None):
        store = InMemoryStore()
        agent = agent_with(Toolset().tools, store=store, checkpointer=InMemorySaver())
        thread = BoundedThread(agent, Context(approval="never", max_seconds=limit))
        given = {"plan": {"goal": "g", "steps": [bound("a", "look", {"q": "x"})]}}
        async for told in agent.astream(given, thread.config, context=thread.context, stream_mode="values"):
            if told.get("final_answer"):
                await asyncio.sleep(0.05)
        left.append((await Ledger(store, thread.config["configurable"]["thread_id"]).opening()).unbooked_s)
    assert left == [pytest.approx(0.05), 0.0]
