"""``when``: a step that runs only if a condition over earlier outputs and the inputs holds."""

from __future__ import annotations

from typing import Any

import pytest
from plans import FREE, Thread, agent_with, bound, codes, plan, statuses
from toolset import Toolset

from plan_execute import Context


def source(value: Any) -> dict[str, Any]:
    return bound("a", "echo", {"value": value})


@pytest.mark.parametrize(
    ("value", "condition", "runs"),
    [
        ({"n": 3}, "a.n > `2`", True),
        ({"n": 1}, "a.n > `2`", False),
        ({}, "a.n", False),
        ([], "a", False),
        (0, "a", True),
        (False, "a", False),
        ("", "a", False),
        ("no", "a == 'yes'", False),
        ([1, 2], "length(a) == `2` && inputs.on", True),
    ],
)
async def test_a_step_runs_only_when_its_condition_holds(value: Any, condition: str, runs: bool) -> None:
    tools = Toolset()
    given = plan(
        source(value), bound("b", "look", {"q": "x"}, when=condition), inputs={"on": {"default": True}}
    )
    result = await Thread(agent_with(tools.tools), FREE).send({"plan": given})
    assert statuses(result)["b"] == ("done" if runs else "skipped")
    assert tools.named("look") == (["x"] if runs else [])
    assert result["status"] == "done", "what its condition skipped is not missing"
    step = next(step for step in result["plan"]["steps"] if step["id"] == "b")
    assert step["depends_on"] == ["a"], "a name in the condition implies the dependency"
    if not runs:
        skipped = result["results"]["b"]
        assert (skipped["verdict"], skipped["error"], skipped["output"]) == (None, None, None)


async def test_dependents_of_a_skipped_step_see_null_and_branches_join() -> None:
    result = await Thread(agent_with(Toolset().tools), FREE).run(
        source("left"),
        bound("left", "look", {"q": "l"}, when="a == 'left'"),
        bound("right", "look", {"q": "r"}, when="a == 'right'"),
        bound("join", "echo", {"value": ["${left}", "${right}", "${right.deep.path}"]}),
        bound("either", "echo", {"value": "${left || right}"}),
    )
    assert statuses(result)["right"] == "skipped"
    assert result["results"]["join"]["output"] == ["found l", None, None]
    assert (result["results"]["either"]["output"], result["status"]) == ("found l", "done")


async def test_a_loop_over_a_skipped_step_has_no_items() -> None:
    result = await Thread(agent_with(Toolset().tools), FREE).run(
        source(1),
        bound("rows", "echo", {"value": [1]}, when="a == `2`"),
        bound("each", "echo", {"value": "${item}"}, for_each="${rows}"),
    )
    assert (result["results"]["each"]["output"], result["results"]["each"]["verdict"]) == ([], "met_empty")


async def test_a_condition_over_a_failed_step_blocks() -> None:
    result = await Thread(agent_with(Toolset().tools), Context(approval="never", on_failure="skip")).run(
        bound("a", "broken", {"q": "x"}, on_failure="abort", max_attempts=1),
        bound("b", "look", {"q": "x"}, when="!a"),
    )
    assert statuses(result) == {"a": "failed", "b": "blocked"}


async def test_a_condition_that_cannot_be_evaluated_fails_the_step() -> None:
    tools = Toolset()
    result = await Thread(agent_with(tools.tools), FREE).run(
        source(1), bound("b", "look", {"q": "x"}, when="length(a) > `0`", on_failure="abort")
    )
    assert result["results"]["b"]["error"]["code"] == "unresolved_reference"
    assert tools.named("look") == []


async def test_a_person_is_not_asked_about_a_step_that_its_condition_skips() -> None:
    thread = Thread(agent_with(Toolset().tools), FREE)
    result = await thread.run(source(1), bound("b", "look", {"q": "x"}, when="a == `2`", approve=True))
    assert (result["status"], await thread.questions()) == ("done", [])


@pytest.mark.parametrize(
    ("condition", "code"),
    [("nowhere.x", "unresolved_reference"), ("a ==", "bad_expression"), ("", "bad_expression")],
)
async def test_a_bad_condition_is_an_issue(condition: str, code: str) -> None:
    result = await Thread(agent_with(Toolset().tools), FREE).run(
        source(1), bound("b", "look", {"q": "x"}, when=condition)
    )
    assert codes(result) == [code]
