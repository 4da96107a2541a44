"""Steps that run instead of others, lists side by side, functions in references, the clock."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from plans import Thread, agent_with, bound, statuses
from toolset import Toolset, make_tool

from plan_execute import Context

RULES = Context(approval="never", on_failure="abort", max_attempts=1)


async def ran(*steps: Any) -> Any:
    return await Thread(agent_with([*Toolset().tools, make_tool(break_down)]), RULES).run(*steps)


def break_down() -> str:
    """Fail."""
    raise ValueError("out of order")


def failing(step_id: str, **more: Any) -> Any:
    return bound(step_id, "break_down", {}, **more)


@pytest.mark.parametrize(
    ("value", "ran_then"), [(1, ["one"]), (2, ["two"]), (3, ["other"])], ids=["if", "else if", "else"]
)
async def test_of_a_chain_of_alternatives_exactly_one_runs(value: int, ran_then: list[str]) -> None:
    result = await ran(
        bound("n", "echo", {"value": value}),
        bound("one", "echo", {"value": "1"}, when="n == `1`"),
        bound("two", "echo", {"value": "2"}, else_of="one", when="n == `2`"),
        bound("other", "echo", {"value": "3"}, else_of="two"),
        bound("after", "echo", {"value": "${one || two || other}"}),
    )
    done = [i for i, status in statuses(result).items() if status == "done"]
    assert done == ["n", *ran_then, "after"]
    assert result["results"]["after"]["output"] == str(value)
    assert result["status"] == "done"


async def test_an_alternative_to_a_step_that_failed_is_blocked_as_its_condition_did_hold() -> None:
    result = await ran(
        bound("n", "echo", {"value": 1}),
        failing("one", when="n == `1`"),
        bound("other", "echo", {"value": "3"}, else_of="one"),
    )
    assert statuses(result) == {"n": "done", "one": "failed", "other": "blocked"}


async def test_a_step_for_a_failure_runs_when_a_named_step_fails_and_what_follows_goes_on() -> None:
    result = await ran(
        bound("good", "echo", {"value": 1}),
        failing("bad"),
        bound("mend", "echo", {"value": "mended ${good}"}, if_failed=["good", "bad"]),
        bound("after", "echo", {"value": "${mend}!"}),
    )
    assert statuses(result) == {"good": "done", "bad": "failed", "mend": "done", "after": "done"}
    assert result["results"]["after"]["output"] == "mended 1!"
    assert result["status"] == "partial", "a step failed, and nothing says otherwise"


async def test_a_step_for_a_failure_is_skipped_when_nothing_fails() -> None:
    result = await ran(
        bound("good", "echo", {"value": 1}), bound("mend", "echo", {"value": 2}, if_failed=["good"])
    )
    assert statuses(result) == {"good": "done", "mend": "skipped"}
    assert result["status"] == "done"


async def test_what_a_step_itself_says_about_its_failure_comes_before_the_step_for_it() -> None:
    result = await ran(
        failing("bad", on_failure="abort"),
        bound("mend", "echo", {"value": 2}, if_failed=["bad"]),
    )
    assert statuses(result) == {"bad": "failed"}


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        ({"else_of": "nobody"}, "unknown_dependency", "else_of names 'nobody'; known steps: a, b"),
        ({"else_of": "a"}, "bad_reference", "else_of names 'a', which has no when"),
        ({"if_failed": ["nobody"]}, "unknown_dependency", "if_failed names 'nobody'"),
        ({"if_failed": ["b"]}, "self_dependency", "if_failed names the step itself"),
    ],
)
async def test_what_a_branch_names_is_checked(more: dict[str, Any], code: str, words: str) -> None:
    result = await ran(bound("a", "echo", {"value": 1}), bound("b", "echo", {"value": 2}, **more))
    issue = result["plan_issues"][0]
    assert (issue["code"], issue["step_id"]) == (code, "b")
    assert words in issue["message"]


async def test_a_loop_goes_over_several_lists_side_by_side() -> None:
    result = await ran(
        bound("names", "echo", {"value": ["a", "b"]}),
        bound("sizes", "echo", {"value": [1, 2]}),
        bound("both", "echo", {"value": "${item[0]}=${item[1]}"}, for_each="${zip(names, sizes)}"),
    )
    assert result["results"]["both"]["output"] == ["a=1", "b=2"]


async def test_lists_of_different_lengths_are_never_cut_to_the_shortest() -> None:
    result = await ran(
        bound("names", "echo", {"value": ["a", "b"]}),
        bound("sizes", "echo", {"value": [1]}),
        bound("both", "echo", {"value": "${item}"}, for_each="${zip(names, sizes)}"),
    )
    assert result["results"]["both"]["status"] == "failed"
    assert "lists of one length, not of 2, 1" in result["results"]["both"]["error"]["message"]


async def test_functions_count_in_references_and_conditions() -> None:
    result = await ran(
        bound("price", "echo", {"value": {"of": 2.5, "name": "rye"}}),
        bound(
            "sum",
            "echo",
            {"value": ["${multiply(price.of, `3`)}", "${upper(price.name)}", "${round(price.of)}"]},
            when="add(price.of, `1`) > `3`",
        ),
    )
    assert result["results"]["sum"]["output"] == [7.5, "RYE", 3]


async def test_now_is_the_same_in_every_step_and_after_a_question() -> None:
    tools = Toolset()
    thread = Thread(agent_with(tools.tools, checkpointer=InMemorySaver()), RULES)
    first = await thread.run(
        bound("early", "echo", {"value": "${now()}"}),
        bound("late", "echo", {"value": "${add_days(now(), `0`)} ${early}"}, approve=True),
    )
    assert first["__interrupt__"]
    last = await thread.answer("approve")
    early = last["results"]["early"]["output"]
    assert last["results"]["late"]["output"] == f"{early} {early}"
    assert early == next(event["at"] for event in last["audit"] if event.get("plan_id"))
