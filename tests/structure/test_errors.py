"""Errors are part of the interface: their codes are unique and stable, and the tree that is drawn is true."""

import re

import pytest

from plan_execute import errors
from plan_execute.errors import PlanExecuteError


def all_errors(base=PlanExecuteError):
    return [
        base,
        *(
            found
            for sub in base.__subclasses__()
            if sub.__module__ == errors.__name__
            for found in all_errors(sub)
        ),
    ]


def drawn_tree():
    """Read (class, parent) pairs off the picture in the docstring."""
    path, pairs = [], {}
    for line in errors.__doc__.splitlines():
        if found := re.match(r"^    (?P<branch>[│├└─ ]*)(?P<name>[A-Z]\w+Error)\b", line):
            depth = len(found["branch"]) // 4
            path = [*path[:depth], found["name"]]
            pairs[found["name"]] = path[-2] if depth else None
    return pairs


def test_every_error_has_a_code_of_its_own():
    codes = {}
    for error in all_errors():
        assert "code" in vars(error), f"{error.__name__} inherits its code"
        codes.setdefault(error.code, []).append(error.__name__)
    shared = {code: names for code, names in codes.items() if len(names) > 1}
    assert not shared


def test_codes_are_words_that_can_be_stored_and_matched():
    assert [e.code for e in all_errors() if not re.fullmatch(r"[a-z]+(_[a-z]+)*", e.code)] == []


def test_the_drawn_tree_is_the_tree():
    real = {e.__name__: e.__mro__[1].__name__ if e is not PlanExecuteError else None for e in all_errors()}
    assert drawn_tree() == real


@pytest.mark.parametrize("error", all_errors(), ids=lambda error: error.__name__)
def test_every_error_is_public_and_says_what_it_means(error):
    assert error.__name__ in errors.__all__
    assert error.__doc__
