"""The log of effects tells what is known of each call, in this process and in the next one."""

import asyncio

import pytest
from langgraph.store.memory import InMemoryStore

from plan_execute.storage.adapters import async_store
from plan_execute.storage.effect_log import EffectLog, EffectRecord
from plan_execute.storage.ids import CallId, Place, WorkId
from plan_execute.storage.ledger import Ledger
from plan_execute.storage.rows import dump

ROOT = WorkId("t", "p")
AT_S = ROOT.at(Place("s", None, 1))
CALL = CallId(AT_S, "c")
DONE = {"ok": True, "output": {"id": 2**70}, "error": None}


@pytest.fixture
def ledger():
    return Ledger(async_store(InMemoryStore()), "t")


def log_of(ledger, *, is_new=False):
    return EffectLog(ledger, is_new=is_new)


async def test_a_call_is_unknown_then_begun_then_finished(ledger):
    log = log_of(ledger)
    assert await log.find(CALL) is None
    await log.begin(EffectRecord(CALL, "pay", {"amount": 5}, revision=2))
    begun = await log_of(ledger).find(CALL)
    assert (begun.tool, begun.args, begun.outcome, begun.starts, begun.revision) == (
        "pay",
        {"amount": 5},
        None,
        1,
        2,
    )
    assert begun.in_doubt
    await log.finish(CALL, DONE)
    found = await log_of(ledger).find(CALL)
    assert found.outcome == DONE
    assert found.succeeded
    assert not found.in_doubt


async def test_what_runs_in_this_process_is_not_in_doubt_and_what_a_dead_one_left_is(ledger):
    log = log_of(ledger)
    await log.begin(EffectRecord(CALL, "pay", {}))
    assert await log.doubts("p") == []
    assert [one.call for one in await log_of(ledger).doubts("p")] == [CALL]
    log.end(CALL)
    assert [one.call for one in await log.doubts("p")] == [CALL]


async def test_only_a_write_is_ever_in_doubt(ledger):
    await log_of(ledger).begin(EffectRecord(CALL, "put", {}, "idempotent"))
    assert await log_of(ledger).doubts("p") == []


async def test_a_call_that_was_not_made_is_forgotten_and_an_ordered_one_settles_the_starts_before_it(ledger):
    log = log_of(ledger)
    await log.begin(EffectRecord(CALL, "pay", {}))
    await log.retract(CALL)
    assert await log_of(ledger).find(CALL) is None
    await log.begin(EffectRecord(CALL, "pay", {}))
    log.end(CALL)
    await log.begin(EffectRecord(CALL, "pay", {}))
    await log.retract(CALL)
    log.end(CALL)
    assert await log.doubts("p") == []


async def test_a_call_that_is_finished_and_never_begun_is_a_fault(ledger):
    with pytest.raises(LookupError, match="never begun"):
        await log_of(ledger).finish(CALL, DONE)


async def test_doubts_are_found_below_the_place_that_is_asked_for(ledger):
    inner = CallId(AT_S.at(Place("deep", 3, 1)), "c", 0, "d")
    log = log_of(ledger)
    await log.begin(EffectRecord(inner, "pay", {}))
    await log.begin(EffectRecord(CallId(ROOT.at(Place("other", None, 1)), "c"), "pay", {}))
    later = log_of(ledger)
    assert len(await later.doubts("p")) == 2
    assert [one.call for one in await later.doubts("p", AT_S.path)] == [inner]
    assert await later.doubts("another plan") == []


async def test_a_new_plan_is_not_looked_up_and_the_thread_still_tells_of_earlier_ones(ledger):
    await log_of(ledger).begin(EffectRecord(CALL, "pay", {}))
    log = log_of(ledger, is_new=True)
    assert await log.doubts("fresh") == []
    assert [one.call for one in await log.doubts_of_thread()] == [CALL]
    (doubt,) = await log.doubts_of_thread()
    await log.settle(doubt)
    assert await log_of(ledger).doubts_of_thread() == []


async def test_the_same_call_under_way_is_waited_for(ledger):
    log, other = log_of(ledger), CallId(ROOT.at(Place("other", None, 1)), "c")
    await log.begin(EffectRecord(CALL, "pay", {}))
    waiting = asyncio.ensure_future(log.same_calls(other))
    await asyncio.sleep(0)
    assert not waiting.done()
    await log.finish(CALL, DONE)
    log.end(CALL)
    assert [one.outcome for one in await waiting] == [DONE]


async def test_a_row_of_an_earlier_version_is_the_step_s_own_call(ledger):
    old = {
        "tool": "pay",
        "args": {},
        "outcome": None,
        "starts": 1,
        "positions": [0],
        "answers": 0,
        "settled": 0,
    }
    await ledger._put(ledger._space("effects", "p"), dump(["s", 1, None, "s-1/c"]), old)
    assert (await log_of(ledger).find(CALL)).in_doubt


def test_idempotency_keys_are_stable_and_differ_in_every_field():
    key = CallId(WorkId("t", "p", (Place("s", None, 1),)), "c", 0)
    assert key.idempotency_key == CallId(WorkId("t", "p", (Place("s", None, 1),)), "c", 0).idempotency_key
    others = [
        CallId(WorkId("u", "p", (Place("s", None, 1),)), "c", 0),
        CallId(WorkId("t", "q", (Place("s", None, 1),)), "c", 0),
        CallId(WorkId("t", "p", (Place("r", None, 1),)), "c", 0),
        CallId(WorkId("t", "p", (Place("s", 0, 1),)), "c", 0),
        CallId(WorkId("t", "p", (Place("s", None, 2),)), "c", 0),
        CallId(WorkId("t", "p", (Place("s", None, 1, "asked"),)), "c", 0),
        CallId(WorkId("t", "p", (Place("s", None, 1), Place("s", None, 1))), "c", 0),
        CallId(WorkId("t", "p", (Place("s", None, 1),)), "d", 0),
        CallId(WorkId("t", "p", (Place("s", None, 1),)), "c", 1),
        CallId(WorkId("t", "p", (Place("s", None, 1),)), "c", None),
        CallId(WorkId("t", "p", (Place("s", None, 1),)), "c", 0, "d"),
    ]
    assert len({key.idempotency_key, *(other.idempotency_key for other in others)}) == 12
