"""The ledger gives back exactly what was recorded, whatever the names and values are."""

import asyncio
import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langgraph.store.memory import InMemoryStore
from langgraph.store.sqlite import SqliteStore

from plan_execute.storage.adapters import async_store
from plan_execute.storage.ids import CallId, Place, WorkId
from plan_execute.storage.ledger import Ledger, Opening, ledger_of, must_last
from plan_execute.storage.persistence import local_persistence
from plan_execute.storage.rows import change, put
from plan_execute.threads.queue import Queue, QueuedThread

STRANGE = ["", ".", "a.b", "%", "%2E", "langgraph", "a/b", "ünï\x00", "\ud800", "*", "[x]", " ", "x" * 300]


@pytest.fixture(params=["memory", "sqlite", "local", "encrypted"])
def store(request, tmp_path):
    if request.param == "memory":
        yield async_store(InMemoryStore())
    elif request.param == "sqlite":
        with closing(
            sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        ) as connection:
            yield async_store(SqliteStore(connection))
    else:
        key = bytes(32) if request.param == "encrypted" else None
        with local_persistence(tmp_path / "ledger.db", encryption_key=key) as persistence:
            yield persistence.store


async def test_strange_names_never_meet(store):
    for thread in STRANGE:
        ledger = Ledger(store, thread)
        for step in STRANGE:
            await ledger.record_result("p.1", step, "f", {"of": [ascii(thread), ascii(step)]})
    for thread in STRANGE:
        found = await Ledger(store, thread).results("p.1")
        assert {step: row["result"]["of"] for step, row in found.items()} == {
            step: [ascii(thread), ascii(step)] for step in STRANGE
        }


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=json_values, step=st.text())
def test_any_json_value_under_any_name_comes_back_exactly(store, value, step):
    async def round_trip():
        ledger = Ledger(store, "t")
        await ledger.record_result("p", step, "f", {"output": value})
        return await ledger.result("p", step, "f")

    found = asyncio.run(round_trip())
    assert found == {"output": value}
    assert repr(found["output"]) == repr(value)  # 1 is not 1.0, and the order of keys is kept


async def test_what_is_not_json_is_refused_and_what_is_recorded_cannot_be_changed_from_outside(store):
    ledger = Ledger(store, "t")
    result = {"output": [1]}
    await ledger.record_result("p", "s", "f", result)
    result["output"].append(2)
    assert await ledger.result("p", "s", "f") == {"output": [1]}
    with pytest.raises(TypeError):
        await ledger.record_result("p", "s", "f", {"output": object()})
    with pytest.raises(ValueError, match="JSON compliant"):
        await ledger.record_result("p", "s", "f", {"output": float("nan")})
    assert await ledger.result("p", "s", "f") == {"output": [1]}


async def test_an_approval_is_for_one_hash_and_they_are_listed_in_order(store):
    ledger = Ledger(store, "t")
    assert await ledger.approval("p", "h1") is None
    for name in ("h2", "h1", "h3"):
        await ledger.record_approval("p", name, {"hash": name})
    assert await ledger.approval("p", "h1") == {"hash": "h1"}
    assert await ledger.approval("other", "h1") is None
    assert [approval["hash"] for approval in await ledger.approvals("p")] == ["h2", "h1", "h3"]
    await ledger.record_approval("p", "h2", {"hash": "h2", "again": True})
    assert await ledger.approvals("p") == [{"hash": "h1"}, {"hash": "h3"}, {"hash": "h2", "again": True}]


async def test_all_that_a_run_has_to_know_of_its_thread_is_read_in_one_go(store):
    ledger = Ledger(store, "t")
    assert await ledger.opening() == Opening(None, 0.0, {}, None, {})
    await ledger.record_settings({"max_steps": 5})
    await ledger.leave_unbooked_seconds(1.5)
    await ledger.record_budget_extensions({"max_tokens": 10})
    await ledger.record_calls({"model": 2}, "c1")
    who = {"0": ["ann"]}
    known = Opening({"max_steps": 5}, 1.5, {"max_tokens": 10}, {"since": "c1", "calls": {"model": 2}}, who)
    await ledger.record_requesters(who)
    assert await ledger.opening() == known
    assert await Ledger(store, "other").opening() == Opening(None, 0.0, {}, None, {})


async def test_a_result_counts_only_for_its_fingerprint_and_its_plan(store):
    ledger = Ledger(store, "t")
    await ledger.record_result("p", "s", "f1", {"status": "done"})
    await ledger.record_result("p2", "s", "f1", {"status": "other"})
    assert await ledger.result("p", "s", "f1") == {"status": "done"}
    assert await ledger.result("p", "s", "f2") is None
    assert await ledger.results("p") == {"s": {"fingerprint": "f1", "result": {"status": "done"}}}
    assert await ledger.results("unknown") == {}


async def test_all_results_come_back_of_a_plan_larger_than_a_page(store):
    ledger = Ledger(store, "t")
    await asyncio.gather(*(ledger.record_result("p", f"s{n}", "f", {"n": n}) for n in range(1203)))
    found = await ledger.results("p")
    assert {step: row["result"]["n"] for step, row in found.items()} == {f"s{n}": n for n in range(1203)}


async def test_attempts_come_back_in_order_and_are_forgotten_with_the_result(store):
    ledger = Ledger(store, "t")
    for number in (2, 10, 1):
        await ledger.record_attempt("p", "s", "f", number, {"n": number})
    await ledger.record_attempt("p", "s", "old", 3, {"n": 3})
    await ledger.record_attempt("p", "s2", "f", 1, {"n": 99})
    assert await ledger.attempts("p", "s", "f") == [{"n": 1}, {"n": 2}, {"n": 10}]
    await ledger.record_result("p", "s", "f", {})
    await ledger.record_result("p", "s2", "f", {})
    await ledger.forget_result("p", "s")
    assert await ledger.result("p", "s", "f") is None
    assert await ledger.attempts("p", "s", "f") == []
    assert await ledger.attempts("p", "s", "old") == []
    assert await ledger.attempts("p", "s2", "f") == [{"n": 99}]
    assert await ledger.result("p", "s2", "f") == {}


async def test_the_namespaces_of_a_thread_hold_all_its_records_and_no_other_threads(store):
    for thread in ("t1", "t10", "t"):
        await record_everything(Ledger(store, thread))
    found = [row.namespace for space in ledger_of("t1") for row in await store.asearch(space, limit=100)]
    assert {namespace[:3] for namespace in found} == set(ledger_of("t1"))
    assert all(namespace[2] == "t1" for namespace in found if namespace[:3] in ledger_of("t1"))
    everything = await store.asearch(("plan_execute",), limit=100)
    assert len([row for row in everything if row.namespace[2] == "t1"]) == 8


async def record_everything(ledger):
    await ledger.record_effect(CallId(WorkId("t", "p", (Place("s", None, 1),)), "c"), {"tool": "tool"})
    await ledger.record_result("p", "s", "f", {})
    await ledger.record_attempt("p", "s", "f", 1, {})
    await ledger.record_approval("p", "h", {})
    await ledger.record_item("p", "s", "f", 0, "digest", {})
    await ledger.record_answer("k", 1, {"kind": "person"})
    await ledger.record_settings({})
    await Queue(ledger.store, None).note(QueuedThread(ledger.thread_id))


async def test_what_promises_rest_on_is_in_the_namespaces_that_the_local_store_commits_durably():
    store = InMemoryStore()
    await record_everything(Ledger(store, "t"))
    await change(store, ("plan_execute", "spend", "acme"), "2026-11", lambda _: {"days": {}})
    kinds = {namespace[:2] for namespace in store.list_namespaces()}
    lasting = {kind for kind in kinds if must_last([put((*kind, "t"), "k", {})])}
    assert lasting == kinds - {("plan_execute", "threads")}
    assert not must_last([put((*kind, "t"), "k", {}, replaceable=True) for kind in kinds])


async def test_whose_an_answer_is_stands_beside_it_and_earlier_versions_had_it_inside():
    ledger = Ledger(InMemoryStore(), "t")
    ann = {"kind": "person", "id": "ann"}
    await ledger.record_answer("k", {"type": "approve", "by": "timeout"}, ann)
    given = await ledger.answer("k")
    assert (given.answer, given.by) == ({"type": "approve", "by": "timeout"}, ann)
    assert datetime.fromisoformat(given.at) <= datetime.now(UTC)
    for answer, kind in (({"type": "reject", "by": "timeout"}, "timeout"), ("approve", "person")):
        await ledger.store.abatch([put(("plan_execute", "answers", "t"), "old", {"answer": answer})])
        assert await ledger.answer("old") == (answer, {"kind": kind}, None)


async def test_a_question_waits_from_when_it_was_asked_first_until_its_answer():
    ledger = Ledger(InMemoryStore(), "t")
    assert await ledger.waits() == []
    await ledger.record_question("k", "approve_step", "a")
    [asked] = await ledger.waits()
    await ledger.record_question("k", "approve_step", "a")
    await ledger.record_answer("k", "approve", {"kind": "person", "id": "ann"})
    [waited] = await ledger.waits()
    assert (asked.name, asked.step_id, asked.answered_at) == ("approve_step", "a", None)
    assert (waited.asked_at, waited.by["id"]) == (asked.asked_at, "ann")
    assert waited.answered_at >= waited.asked_at
    await ledger.forget_answers()
    assert await ledger.waits() == [], "an older checkpoint asks anew"


async def test_a_change_of_a_row_may_leave_it_as_it_is(store):
    space, seen = ("plan_execute", "spend", "acme"), []
    for made in ({"n": 1}, None, {"n": 2}):
        seen.append(await change(store, space, "k", lambda _, made=made: made))
    assert seen == [{"n": 1}, {"n": 1}, {"n": 2}]
