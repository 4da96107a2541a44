"""Only what nests too deep is refused, however wide it is and however often it holds the same value."""

import pytest

from plan_execute.safety.depth import MAX_DEPTH, is_too_deep


def nested(depth, inner=1):
    for _ in range(depth):
        inner = {"a": inner} if depth % 2 else [0, inner]
    return inner


@pytest.mark.parametrize("inner", [1, "text", None, 1.5, True, (), {}, []])
def test_a_value_may_nest_to_the_limit_and_no_deeper(inner):
    assert not is_too_deep(nested(MAX_DEPTH, inner))
    assert is_too_deep(nested(MAX_DEPTH + 1, inner))
    assert is_too_deep([1, "wide", nested(MAX_DEPTH, inner)])


@pytest.mark.timeout(60)
def test_sharing_costs_no_time_and_what_holds_itself_is_too_deep():
    twice: list = []
    for _ in range(MAX_DEPTH - 1):
        twice = [twice, twice]
    assert not is_too_deep(twice)
    itself: list = []
    itself.append(itself)
    assert is_too_deep(itself)
    assert is_too_deep({"a": (itself, 1)})


class Own(dict):
    """A dict of another type."""


def test_subclasses_count_too():
    deep = Own()
    for _ in range(MAX_DEPTH + 1):
        deep = Own(a=deep)
    assert is_too_deep(deep)
    assert not is_too_deep({"a": object()})
