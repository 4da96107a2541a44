"""What a plan's approval allows, and whether a revision adds to it."""

from __future__ import annotations

from typing import Any

import pytest
from plans import bound, plan, think
from toolset import make_tool

from plan_execute.plan.grants import filled, is_within, plan_grants, resources_of
from plan_execute.tools.toolbox import Toolbox


def look(q: str) -> str:
    """Look something up."""
    return q


def save(path: str, text: str = "") -> str:
    """Save."""
    return path


TOOLS = Toolbox([make_tool(look), make_tool(save, effect="write", resource="file:{path}")])
VALUES = {"inputs": {"f": "in.txt", "all": ["1", "2"]}, "done": {"path": "out.txt"}}


def _grants(*steps: Any) -> Any:
    return plan_grants(plan(*steps), TOOLS, VALUES)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "known", "later"),
    [
        ("f", ["file:f"], []),
        ("${inputs.f}", ["file:in.txt"], []),
        ("a/${inputs.f}", ["file:a/in.txt"], []),
        ("${done.path}", ["file:out.txt"], []),
        ("$${evil}", ["file:${evil}"], []),
        ("${to_come}", [], ["file:{path}, path = ${to_come}"]),
        ("${inputs.f}/${to_come.x}", [], ["file:{path}, path = ${inputs.f}/${to_come.x}"]),
        ("${done.nothing}", [], ["file:{path}, path = ${done.nothing}"]),
    ],
)
def test_a_resource_is_resolved_as_far_as_it_is_known(path: str, known: list[str], later: list[str]) -> None:
    granted = _grants(bound("s", "save", {"path": path, "text": "${to_come}"}))
    assert (granted["resources"], granted["at_run_time"]) == (known, later)


def test_the_items_of_a_known_list_are_resources_of_their_own() -> None:
    each = bound("s", "save", {"path": "${item}.txt"}, for_each="${inputs.all}")
    assert _grants(each)["resources"] == ["file:1.txt", "file:2.txt"]
    later = bound("s", "save", {"path": "${item}.txt"}, for_each="${to_come}")
    assert _grants(later)["at_run_time"] == ["file:{path}, path = ${item}.txt, for each of ${to_come}"]


def test_an_agents_tool_is_granted_for_whatever_it_touches() -> None:
    granted = _grants(think("a", tools=["look", "save"]))
    assert (granted["tools"], granted["effects"]) == (["look", "save"], ["read", "write"])
    assert (granted["resources"], granted["at_run_time"]) == ([], ["file:{path}"])


@pytest.mark.parametrize(
    ("path", "adds"),
    [
        ("in.txt", False),
        ("${inputs.f}", False),
        ("${to_come}", False),
        ("evil.txt", True),
        ("$${evil}", True),
        ("${other}", True),
        ("${done.path}", True),
        ("${item}", True),
    ],
)
def test_a_revision_adds_what_was_not_approved_by_its_value_or_as_this_reference(
    path: str, adds: bool
) -> None:
    approved = _grants(
        bound("s", "save", {"path": "${inputs.f}"}), bound("t", "save", {"path": "${to_come}"})
    )
    assert is_within(_grants(bound("r", "save", {"path": path})), approved) is not adds


def test_a_loop_over_another_list_is_another_resource() -> None:
    approved = _grants(bound("s", "save", {"path": "${item}"}, for_each="${one}"))
    assert not is_within(_grants(bound("s", "save", {"path": "${item}"}, for_each="${two}")), approved)


def test_values_are_filled_in_as_far_as_they_are_known() -> None:
    assert filled({"a": ["${inputs.f}", "${to_come}"], "b": 1}, VALUES) == {
        "a": ["in.txt", "${to_come}"],
        "b": 1,
    }


def test_only_the_named_tools_count() -> None:
    step: Any = think("a", tools=["look", "save"])
    assert resources_of(step, TOOLS, VALUES, ["look"]) == set()
