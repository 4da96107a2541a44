"""Laws of the reducers: identity, associativity, reset."""

from __future__ import annotations

import copy
from typing import Any

from generated import json_values, usages
from hypothesis import given, settings
from hypothesis import strategies as st

from plan_execute.state import add_usage, append, merge_by_id

few = settings(max_examples=80, deadline=None)
ids = st.sampled_from(["a", "b", "c"])
present = json_values.filter(lambda value: value is not None)
merges = st.dictionaries(ids, present, max_size=3)
lists = st.lists(json_values, max_size=3)


def _pruned(usage: Any) -> Any:
    """Leave out zeros: adding nothing is the same as not saying so."""
    return {
        k: _pruned(v) if isinstance(v, dict) else v
        for k, v in usage.items()
        if v not in (0, {}) and _pruned_value(v)
    }


def _pruned_value(value: Any) -> bool:
    return not isinstance(value, dict) or bool(_pruned(value))


@few
@given(merges, merges, merges)
def test_merging_is_associative_and_has_an_identity(a: Any, b: Any, c: Any) -> None:
    assert merge_by_id(merge_by_id(a, b), c) == merge_by_id(a, merge_by_id(b, c))
    assert merge_by_id(a, {}) == merge_by_id({}, a) == merge_by_id(None, a) == a


@few
@given(merges, merges)
def test_the_later_entry_of_an_id_wins_and_disjoint_updates_commute(a: Any, b: Any) -> None:
    merged = merge_by_id(a, b)
    assert all(merged[i] == value for i, value in b.items())
    if not set(a) & set(b):
        assert merged == merge_by_id(b, a)


@few
@given(merges, ids)
def test_none_removes_one_entry_or_all(a: Any, step_id: str) -> None:
    assert step_id not in merge_by_id(a, {step_id: None})
    assert merge_by_id(a, None) == {}


@few
@given(usages, usages, usages)
def test_adding_usage_is_associative_commutative_and_has_an_identity(a: Any, b: Any, c: Any) -> None:
    assert add_usage(add_usage(a, b), c) == add_usage(a, add_usage(b, c))
    assert _pruned(add_usage(a, b)) == _pruned(add_usage(b, a))
    assert add_usage(a, {}) == add_usage({}, a) == add_usage(None, a) == a


@few
@given(usages, usages)
def test_adding_usage_changes_neither_side_and_none_resets(a: Any, b: Any) -> None:
    before = copy.deepcopy((a, b))
    add_usage(a, b)
    assert (a, b) == before
    assert add_usage(a, None) == {}


@few
@given(lists, lists, lists)
def test_appending_is_associative_and_has_an_identity(a: Any, b: Any, c: Any) -> None:
    assert append(append(a, b), c) == append(a, append(b, c))
    assert append(a, []) == append([], a) == append(None, a) == a
    assert append(a, None) == []


@few
@given(lists, lists)
def test_appending_leaves_both_sides_alone(a: Any, b: Any) -> None:
    before = copy.deepcopy((a, b))
    append(a, b)
    assert (a, b) == before
