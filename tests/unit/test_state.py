"""Questions about steps and plans."""

from __future__ import annotations

from graphlib import CycleError
from typing import Any

import pytest
from plans import bound, think

from plan_execute.plan.dag import descendants, pending_steps, remaining_path, run_status, topological_order
from plan_execute.plan.identity import (
    input_values,
    plan_difference,
    plan_hash,
    step_fingerprint,
    unused_id,
    used_ids,
)
from plan_execute.state import (
    add_usage,
    append,
    decider_in_words,
    granted_tools,
    is_satisfied,
    kind_of,
    merge_by_id,
    status_now,
    step_kind,
)

A, B, C, D = (bound("a", "t"), bound("b", "t", {}, "a"), bound("c", "t", {}, "b"), bound("d", "t"))
PLAN: Any = {"steps": [C, B, A, D]}


def _result(status: str, error: Any = None) -> Any:
    return {"status": status, "error": error}


def _ids(steps: Any) -> list[str]:
    return [step["id"] for step in steps]


def test_topological_order_puts_each_step_after_what_it_depends_on_and_ignores_unknown_ids() -> None:
    order = _ids(topological_order([C, B, A, D]))
    assert order.index("a") < order.index("b") < order.index("c")
    assert _ids(topological_order([B])) == ["b"]


def test_a_cycle_has_no_order() -> None:
    with pytest.raises(CycleError):
        topological_order([bound("a", "t", {}, "b"), bound("b", "t", {}, "a")])  # type: ignore[list-item]


def test_descendants_are_everything_below_and_not_the_roots() -> None:
    assert descendants([C, B, A, D], ["a"]) == {"b", "c"}
    assert descendants([C, B, A, D], ["d"]) == set()


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (A, "call"),
        (think("x"), "tools"),
        ({"id": "x"}, None),
        ({**A, "tools": []}, None),
        ({"agent": "x"}, "agent"),
    ],
)
def test_a_step_has_exactly_one_kind_or_none(step: Any, kind: Any) -> None:
    assert step_kind(step) == kind


def test_granted_tools_are_those_of_the_call_or_the_list() -> None:
    assert granted_tools(A) == ["t"]
    assert granted_tools(think("x", tools=["u", "v"])) == ["u", "v"]
    assert granted_tools({"id": "x", "agent": "y"}) == ["agent:y"], "a named agent counts as a tool"


@pytest.mark.parametrize(
    ("status", "satisfied"), [("done", True), ("skipped", True), ("failed", False), ("blocked", False)]
)
def test_only_done_and_skipped_steps_satisfy_a_dependency(status: str, satisfied: bool) -> None:
    assert is_satisfied(_result(status)) is satisfied
    assert not is_satisfied(None)


def test_pending_steps_are_those_without_a_result_in_order() -> None:
    assert _ids(pending_steps(PLAN, {"a": _result("done")})) in (["b", "c", "d"], ["d", "b", "c"])
    assert pending_steps(PLAN, {i: _result("done") for i in "abcd"}) == []


def test_a_blocked_step_is_pending_again_once_its_dependencies_are_mended() -> None:
    blocked = {"a": _result("failed"), "b": _result("blocked"), "c": _result("blocked"), "d": _result("done")}
    assert pending_steps(PLAN, blocked) == []
    assert _ids(pending_steps(PLAN, {**blocked, "a": _result("done")})) == ["b", "c"]


def test_the_remaining_path_is_the_longest_one_to_the_end() -> None:
    assert remaining_path([A, B, C, D], {}) == {"a": 3, "b": 2, "c": 1, "d": 1}
    assert remaining_path([A, B, C, D], {"d": 9, "c": 0.5}) == {"a": 2.5, "b": 1.5, "c": 0.5, "d": 9}


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (["done", "done"], "done"),
        (["done", "failed"], "partial"),
        (["done", None], "partial"),
        (["failed", "blocked"], "failed"),
        ([None, None], "failed"),
        (["skipped", "skipped"], "done"),
    ],
)
def test_a_run_is_done_partial_or_failed_by_its_steps(statuses: list[str], expected: str) -> None:
    results = {i: _result(s) for i, s in zip("ad", statuses, strict=True) if s}
    assert run_status({"steps": [A, D]}, results) == expected  # type: ignore[typeddict-item]


def test_a_step_that_was_skipped_because_it_failed_is_not_done() -> None:
    failed = _result("skipped", {"code": "x", "message": "y"})
    assert run_status({"steps": [A]}, {"a": failed}) == "failed"  # type: ignore[typeddict-item]


def test_a_plan_without_steps_or_no_plan_is_failed() -> None:
    assert run_status(None, {}) == run_status({"steps": []}, {}) == "failed"


def test_given_input_values_win_over_defaults() -> None:
    declared = {"inputs": {"a": {"default": 1}, "b": {"default": 2}, "c": {}}}
    assert input_values(declared, {"b": 3, "d": 4}) == {"a": 1, "b": 3, "d": 4}


def test_the_hash_covers_steps_and_input_values_and_nothing_else() -> None:
    first = plan_hash({**PLAN, "rationale": "x", "revision": 1}, {"n": 1})
    assert first == plan_hash({**PLAN, "rationale": "y", "revision": 2, "id": "z"}, {"n": 1})
    assert first != plan_hash(PLAN, {"n": 2})
    assert first != plan_hash({"steps": [C, B, A]}, {"n": 1})
    assert len(first) == 64


def test_a_default_and_the_same_given_value_hash_alike() -> None:
    declared: Any = {**PLAN, "inputs": {"n": {"default": 1}}}
    assert plan_hash(declared, None) == plan_hash(declared, {"n": 1})


def test_a_steps_fingerprint_follows_its_content() -> None:
    assert step_fingerprint(A) == step_fingerprint(dict(reversed(A.items())))  # type: ignore[arg-type]
    assert step_fingerprint(A) != step_fingerprint({**A, "task": "other"})  # type: ignore[typeddict-item]


def test_the_difference_of_two_revisions_names_steps() -> None:
    new = {"steps": [A, {**B, "task": "new"}, bound("e", "t")]}
    assert plan_difference(PLAN, new) == {"added": ["e"], "removed": ["c", "d"], "changed": ["b"]}
    assert plan_difference(None, new)["added"] == ["a", "b", "e"]


def test_an_id_that_any_revision_used_is_never_given_again() -> None:
    audit: Any = [
        {"at": "", "event": "e", "plan_id": "p", "difference": {"added": ["old"], "removed": ["older"]}},
        {"at": "", "event": "e", "plan_id": "q", "difference": {"added": ["foreign"]}},
    ]
    assert used_ids({"id": "p", **PLAN}, audit) == {"a", "b", "c", "d", "old", "older"}


def test_a_new_id_says_its_revision_and_stays_within_64_characters() -> None:
    assert unused_id("pack", 2, set()) == "pack"
    assert unused_id("pack", 2, {"pack"}) == "pack_r2"
    assert unused_id("pack", 2, {"pack", "pack_r2"}) == "pack_r2_2"
    long = unused_id("x" * 64, 12, {"x" * 64})
    assert (len(long), long.endswith("_r12")) == (64, True)


def test_reducers_start_from_nothing_and_are_reset_by_none() -> None:
    assert merge_by_id(None, {"a": 1}) == {"a": 1}
    assert merge_by_id({"a": 1, "b": 2}, {"a": None}) == {"b": 2}
    assert merge_by_id({"a": 1}, None) == {}
    assert append(None, [1]) == [1]
    assert append([1], None) == []
    assert add_usage(None, {"model_calls": 1}) == {"model_calls": 1}
    assert add_usage({"model_calls": 1}, None) == {}


def test_reducers_leave_what_they_are_given_alone() -> None:
    usage: Any = {"model_calls": 1, "by_role": {"planner": {"model_calls": 1}}}
    total = add_usage(usage, usage)
    assert total["by_role"]["planner"]["model_calls"] == 2
    assert usage["by_role"]["planner"]["model_calls"] == 1


def test_who_decided_is_read_from_records_of_any_version() -> None:
    assert decider_in_words({"kind": "person", "id": "ann"}) == "person ann"
    assert [decider_in_words(by) for by in ({"kind": "model"}, "timeout", None)] == ["model", "timeout", ""]
    assert [kind_of(by) for by in ({"kind": "model"}, "timeout", None)] == ["model", "timeout", ""]


@pytest.mark.parametrize(
    ("status", "asks", "pending", "is_run", "named"),
    [
        ("running", True, True, True, "waiting"),
        ("running", False, True, True, "running"),
        ("running", False, True, False, "stopped"),
        ("running", False, True, None, "running"),
        (None, False, True, False, "stopped"),
        (None, False, True, True, "planning"),
        ("done", False, False, False, "done"),
        ("done", False, True, False, "stopped"),
        ("done", False, True, True, "running"),
    ],
)
def test_a_status_tells_what_waits_what_runs_and_what_nobody_runs(
    status: str | None, asks: bool, pending: bool, is_run: bool | None, named: str
) -> None:
    values = {} if status is None else {"status": status}
    assert status_now(values, asks=asks, pending=pending, is_run=lambda: is_run) == named
