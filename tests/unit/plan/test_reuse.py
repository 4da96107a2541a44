"""A plan is kept for its goal only if it did all of it as it was written."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.store.memory import InMemoryStore
from plans import FREE, bound, plan

from plan_execute.plan.identity import plan_hash
from plan_execute.run import Run
from plan_execute.spending.budget import Meter
from plan_execute.storage.effect_log import EffectLog
from plan_execute.storage.ledger import Ledger
from plan_execute.storage.plan_cache import CachedPlans, PlanCache

FAILED_ITEM = {"index": 1, "error": {"code": "tool_failed", "message": "no"}, "attempts": 1}


@pytest.mark.parametrize(
    ("result", "is_kept"),
    [
        ({"status": "done", "error": None}, True),
        ({"status": "skipped", "error": None}, True),
        ({"status": "done", "error": None, "failed_items": [FAILED_ITEM]}, False),
    ],
    ids=["done", "skipped by its condition", "done but for an item"],
)
async def test_a_plan_with_a_loop_whose_items_failed_is_not_kept(
    result: dict[str, Any], is_kept: bool
) -> None:
    store = InMemoryStore()
    run = Run(
        settings=FREE,
        ledger=Ledger(store, "t"),
        meter=Meter(FREE),
        can_ask=False,
        effects=EffectLog(Ledger(store, "t"), is_new=True),
        plan_cache=PlanCache(),
        cached_plans=CachedPlans(store, "default"),
    )
    made: Any = plan(bound("each", "look", {"q": "${item}"}, for_each="${inputs.list}"), id="p", revision=1)
    await run.reuse.note_origin("p", "key", "planner")
    hashed = plan_hash(made, None)
    await run.ledger.record_approval("p", hashed, {"plan_hash": hashed, "steps": {}})
    state: Any = {"plan": made, "goal": "g", "results": {"each": result}}
    assert [event["event"] for event in await run.reuse.settle(state, "done")] == ["plan_cached"] * is_kept
