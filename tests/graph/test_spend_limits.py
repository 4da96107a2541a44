"""What a tenant may spend in a day or a month ends runs as their own budgets do, over all its threads."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import SummarizationMiddleware
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore
from langgraph.store.sqlite.aio import AsyncSqliteStore
from plans import Thread, agent_with, think

from plan_execute import Context, ScriptedModel, local_persistence
from plan_execute.context import SpendLimit
from plan_execute.errors import ConfigurationError
from plan_execute.graph.agent import PlanExecuteAgent
from plan_execute.graph.door.visit import _warn_of_kind
from plan_execute.spending.periods import Periods
from plan_execute.storage.ledger import Ledger

PRICES = {"scripted": {"input": 0.0, "output": 10_000.0}}


def spending(*limits: dict[str, Any], **settings: Any) -> Context:
    given = {"approval": "never", "max_attempts": 1, "spend_limits": limits, **settings}
    return Context(**given)


def agent(store: BaseStore, **options: Any) -> tuple[PlanExecuteAgent, ScriptedModel]:
    model = ScriptedModel({"executor": ["x"] * 99, "synthesizer": ["ok"] * 99}, latency_s=0.01)
    return agent_with((), model, store=store, checkpointer=InMemorySaver(), **options), model


CALLS = {"per": "day", "max_model_calls": 3}


async def test_threads_share_what_there_is_and_the_next_one_ends_at_once() -> None:
    built, model = agent(InMemoryStore())
    first = await Thread(built, spending(CALLS)).run(think("a"))
    assert (first["status"], len(model.calls)) == ("done", 1)
    second = await Thread(built, spending(CALLS)).run(think("a"), think("b", "a"), think("c", "b"))
    assert (second["status"], len(model.calls)) == ("partial", 3)
    assert "max_model_calls per day=3" in second["final_answer"]


async def test_runs_at_the_same_time_never_go_over() -> None:
    built, model = agent(InMemoryStore())
    limit = {"per": "month", "max_model_calls": 7}
    await asyncio.gather(*(Thread(built, spending(limit)).run(think("a"), think("b")) for _ in range(6)))
    assert len(model.calls) == 7


async def test_tenants_are_apart_and_a_later_run_cannot_leave_its_tenant() -> None:
    built, model = agent(InMemoryStore())
    thread = Thread(built, spending(CALLS, tenant="a"))
    await thread.run(think("a"), think("b"), think("c"))
    assert len(model.calls) == 3
    await thread.send({"goal": "g", "plan": {"goal": "g", "steps": [think("z")]}}, spending(tenant="b"))
    assert len(model.calls) == 3, "the thread's tenant and limits stay"
    await Thread(built, spending(CALLS, tenant="b")).run(think("a"))
    assert len(model.calls) == 4


async def test_a_servers_user_is_the_tenant_whatever_the_context_says() -> None:
    built, model = agent(InMemoryStore())
    for tenant in ("x", "y"):
        thread = Thread(built, spending({"per": "day", "max_model_calls": 2}, tenant=tenant))
        thread.config["configurable"]["langgraph_auth_user_id"] = "ann"
        await thread.run(think("a"))
    assert len(model.calls) == 2


async def test_the_agents_policy_limits_runs_that_ask_for_no_limit() -> None:
    built, model = agent(InMemoryStore(), policy=Context(spend_limits=[CALLS], tenant="all"))
    for _ in range(3):
        await Thread(built, Context(approval="never")).run(think("a"))
    assert len(model.calls) == 3


async def test_at_the_soft_share_the_same_question_is_asked_and_its_answer_holds_for_all_threads() -> None:
    built, model = agent(InMemoryStore())
    settings = spending({"per": "day", "max_model_calls": 2}, soft_share=0.5, max_parallel=1)
    thread = Thread(built, settings)
    await thread.run(think("a"), think("b", "a"), think("c", "b"))
    asked = await thread.question()
    assert (asked["name"], asked["args"]["budget"]) == ("extend_budget", "max_model_calls per day")
    result = await thread.answer({"decision": "extend", "by": 50})
    assert (result["status"], len(model.calls)) == ("done", 4)
    assert (await Thread(built, settings).run(think("a")))["status"] == "done"


async def test_a_limit_of_cost_needs_prices() -> None:
    limit = {"per": "day", "max_cost": 1}
    built, _ = agent(InMemoryStore())
    with pytest.raises(ConfigurationError, match="1 per day cannot be held"):
        await Thread(built, spending(limit)).run(think("a"))
    priced, model = agent(InMemoryStore(), prices=PRICES)
    await Thread(priced, spending(limit)).run(think("a"))
    assert model.calls


async def test_limits_over_runs_need_a_store() -> None:
    for saver in (None, InMemorySaver()):
        built = agent_with((), ScriptedModel({"executor": ["x"]}), store=None, checkpointer=saver)
        with pytest.raises(ConfigurationError, match="store="):
            await Thread(built, spending(CALLS)).run(think("a"))


@pytest.mark.parametrize("limit", [{"per": "day"}, {"per": "year", "max_cost": 1}, {"max_cost": 1}], ids=str)
def test_a_limit_that_limits_nothing_is_refused(limit: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"spend_limits\.0(\.per)?: "):
        Context(spend_limits=[limit])


async def test_a_call_of_a_named_agent_is_on_record_before_it_is_made_and_settled_when_it_is_cut_off() -> (
    None
):
    store, begun = InMemoryStore(), asyncio.Event()

    class Hanging(ScriptedModel):
        async def _agenerate(self, *_: Any, **__: Any) -> Any:
            begun.set()
            await asyncio.sleep(3600)

    coder = create_agent(Hanging(["x"]), ())
    built = agent_with((), agents={"coder": coder}, store=store, checkpointer=InMemorySaver())
    thread = Thread(built, spending(CALLS, tenant="t", max_model_calls=5))
    working = asyncio.create_task(thread.run({"id": "a", "task": "do it", "agent": "coder"}))
    await asyncio.wait_for(begun.wait(), 60)
    ledger = Ledger(store, thread.config["configurable"]["thread_id"])
    known = (await ledger.opening()).calls
    assert known is not None
    assert known["calls"]["model_calls"] == 1
    spent = Periods(store, "t", [SpendLimit(**CALLS)])
    await spent.refresh()
    assert len(spent._row["open"]) == 1
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    await spent.refresh()
    assert spent._row["open"] == {}
    assert next(spent.in_words()).endswith("by t: 1 of 3")


async def test_a_call_of_a_middleware_that_is_cut_off_leaves_nothing_reserved() -> None:
    store, begun = InMemoryStore(), asyncio.Event()

    class Hanging(ScriptedModel):
        async def _agenerate(self, *_: Any, **__: Any) -> Any:
            begun.set()
            await asyncio.sleep(3600)

    summary = SummarizationMiddleware(Hanging(["x"]), trigger=("messages", 1), keep=("messages", 1))
    built, _ = agent(store, middleware=[summary])
    thread = Thread(built, spending(CALLS, tenant="t"))
    working = asyncio.create_task(thread.run(think("a")))
    await asyncio.wait_for(begun.wait(), 60)
    spent = Periods(store, "t", [SpendLimit(**CALLS)])
    await spent.refresh()
    assert len(spent._row["open"]) == 1
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    await spent.refresh()
    assert spent._row["open"] == {}


async def test_a_store_that_other_processes_may_use_and_that_cannot_hold_limits_is_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _warn_of_kind.cache_clear()
    with local_persistence(tmp_path / "own.db") as own:
        for store in (own.store, InMemoryStore()):
            built, _ = agent(store)
            await Thread(built, spending(CALLS)).run(think("a"))
    assert "spend_limits" not in caplog.text
    async with AsyncSqliteStore.from_conn_string(str(tmp_path / "store.db")) as store:
        await store.setup()
        built, _ = agent(store)
        await Thread(built, Context(approval="never")).run(think("a"))
        assert "spend_limits" not in caplog.text, "nothing is limited"
        for _ in range(2):
            await Thread(built, spending(CALLS)).run(think("a"))
    assert caplog.text.count("spend_limits hold in this process only: AsyncSqliteStore") == 1
