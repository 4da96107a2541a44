"""``for_each``: a step that runs once per item of a list known only at run time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from langgraph.types import interrupt
from plans import FREE, Thread, agent_with, bound, codes, plan, statuses, think
from toolset import Toolset, make_tool
from virtual_clock import virtually

from plan_execute import Context, ScriptedModel
from plan_execute.models.prompts import unquote

EACH = bound("each", "echo", {"value": "${item}"}, for_each="${list}")


def listing(value: Any) -> dict[str, Any]:
    return bound("list", "echo", {"value": value})


class Picky:
    """Tools that fail, ask or take their time, by item."""

    def __init__(self, bad: set[Any] = frozenset(), effect: str = "read", **metadata: Any) -> None:
        self.bad, self.asked, self.made, self.now, self.most = set(bad), set(), [], 0, 0

        async def pick(n: Any) -> str:
            """Pick one."""
            self.made.append(n)
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.01)
            self.now -= 1
            if n in self.bad:
                raise ValueError(f"{n} is bad")
            return f"picked {n}"

        def inquire(n: Any) -> str:
            """Ask a person about odd ones."""
            said = interrupt({"about": n}) if n in self.bad else "not asked"
            self.made.append((n, said))
            return f"{n}: {said}"

        tools: list[tuple[Callable[..., Any], str]] = [(pick, effect), (inquire, effect)]
        self.tools = [make_tool(tool, effect=its, **metadata) for tool, its in tools]


def picking(values: list[Any], **fields: Any) -> list[dict[str, Any]]:
    return [
        bound("list", "echo", {"value": values}),
        bound("each", "pick", {"n": "${item}"}, for_each="${list}", **fields),
    ]


@pytest.mark.parametrize("values", [[3, 1, 2], ["a", None, {"x": [1]}, [], 2**53 + 1, "é"], [7]])
async def test_the_output_is_the_list_of_outputs_in_order_with_exact_values(values: list[Any]) -> None:
    result = await Thread(agent_with(Toolset().tools), FREE).run(listing(values), EACH)
    assert result["results"]["each"]["output"] == values
    assert [type(one) for one in result["results"]["each"]["output"]] == [type(one) for one in values]
    assert (result["status"], result["results"]["each"]["verdict"]) == ("done", "met")
    assert "failed_items" not in result["results"]["each"] or result["results"]["each"]["failed_items"] == []


async def test_an_empty_list_is_met_empty_and_calls_nothing() -> None:
    tools = Toolset()
    result = await Thread(agent_with(tools.tools), FREE).run(
        listing([]),
        bound("each", "look", {"q": "${item}"}, for_each="${list}"),
        bound("after", "echo", {"value": "${each}"}),
    )
    assert (result["results"]["each"]["output"], result["results"]["each"]["verdict"]) == ([], "met_empty")
    assert (result["status"], result["results"]["after"]["output"]) == ("done", [])
    assert tools.named("look") == []


async def test_item_and_index_stand_in_arguments_at_any_depth_beside_other_references() -> None:
    step = bound(
        "each",
        "echo",
        {
            "value": {
                "at": "${index}",
                "of": ["${item.name}"],
                "text": "${index}: ${item.name} in ${inputs.city}",
            }
        },
        for_each="${list[?ok]}",
    )
    given = plan(
        listing([{"name": "a", "ok": True}, {"name": "b", "ok": False}, {"name": "c", "ok": True}]),
        step,
        inputs={"city": {"type": "string", "default": "Rome"}},
    )
    result = await Thread(agent_with(Toolset().tools), FREE).send({"plan": given})
    assert result["results"]["each"]["output"] == [
        {"at": 0, "of": ["a"], "text": "0: a in Rome"},
        {"at": 1, "of": ["c"], "text": "1: c in Rome"},
    ]


async def test_a_list_from_the_inputs_needs_no_step() -> None:
    step = bound("each", "look", {"q": "${item}"}, for_each="${inputs.names}")
    given = plan(step, inputs={"names": {"type": "array"}})
    result = await Thread(agent_with(Toolset().tools), FREE).send(
        {"plan": given, "inputs": {"names": ["x", "y"]}}
    )
    assert result["results"]["each"]["output"] == ["found x", "found y"]


@virtually
async def test_items_run_at_most_max_parallel_at_a_time_over_all_loops() -> None:
    picky = Picky()
    loops = [bound(f"l{n}", "pick", {"n": "${item}"}, for_each="${inputs.n}") for n in range(3)]
    given = plan(*loops, inputs={"n": {"default": list(range(10))}})
    result = await Thread(agent_with(picky.tools), Context(approval="never", max_parallel=4)).send(
        {"plan": given}
    )
    assert (result["status"], picky.most, len(picky.made)) == ("done", 4, 30)
    assert asyncio.get_running_loop().time() == pytest.approx(0.08), "30 items of 0.01 s, four at a time"


async def test_a_failed_item_is_null_in_its_place_and_kept_with_its_error() -> None:
    picky = Picky({2})
    result = await Thread(agent_with([*Toolset().tools, *picky.tools]), FREE).run(
        *picking([1, 2, 3], on_failure="abort"), bound("after", "echo", {"value": "${each}"})
    )
    each = result["results"]["each"]
    assert (each["status"], each["error"]["code"]) == ("failed", "items_failed")
    assert each["output"] == ["picked 1", None, "picked 3"]
    assert [(one["index"], one["error"]["code"]) for one in each["failed_items"]] == [(1, "tool_failed")]
    assert "1 of 3 items failed: [1] tool_failed" in each["error"]["message"]
    assert "2 is bad" in each["error"]["message"]
    assert statuses(result)["after"] == "blocked", "a failed dependency never counts as satisfied"


async def test_another_attempt_runs_only_the_items_that_failed() -> None:
    picky = Picky({2})
    result = await Thread(agent_with([*Toolset().tools, *picky.tools]), FREE).run(
        *picking([1, 2, 3], max_attempts=3, on_failure="abort")
    )
    assert sorted(picky.made) == [1, 2, 2, 2, 3]
    assert result["results"]["each"]["attempts"] == 3


async def test_skipping_the_failed_items_passes_on_the_rest() -> None:
    picky = Picky({2})
    result = await Thread(agent_with([*Toolset().tools, *picky.tools]), FREE).run(
        *picking([1, 2, 3], max_attempts=1, on_failure="skip"), bound("after", "echo", {"value": "${each}"})
    )
    assert statuses(result) == {"list": "done", "each": "skipped", "after": "done"}
    assert result["results"]["after"]["output"] == ["picked 1", None, "picked 3"]
    assert result["status"] == "partial", "skipped because it failed is not done"


async def test_items_that_write_are_not_attempted_again_without_a_person() -> None:
    picky = Picky({2}, effect="write")
    thread = Thread(agent_with([*Toolset().tools, *picky.tools]), FREE)
    await thread.run(*picking([1, 2, 3], max_attempts=3))
    question = await thread.question()
    assert (question["name"], sorted(picky.made)) == ("handle_step_failure", [1, 2, 3])
    picky.bad.clear()
    result = await thread.answer({"type": "edit", "args": {"decision": "retry"}})
    assert (result["status"], sorted(picky.made)) == ("done", [1, 2, 2, 3])
    assert result["results"]["each"]["output"] == ["picked 1", "picked 2", "picked 3"]


async def test_items_that_write_one_resource_run_one_at_a_time() -> None:
    picky = Picky(effect="write", resource="the ledger")
    result = await Thread(agent_with([*Toolset().tools, *picky.tools]), FREE).run(*picking([1, 2, 3]))
    assert (result["status"], picky.most, picky.made) == ("done", 1, [1, 2, 3])


async def test_criteria_and_the_schema_are_held_against_each_item() -> None:
    result = await Thread(agent_with(Toolset().tools), FREE).run(
        listing([1, "two", 3]),
        {**EACH, "output_schema": {"type": "integer"}, "max_attempts": 1, "on_failure": "abort"},
    )
    (failed,) = result["results"]["each"]["failed_items"]
    assert (failed["index"], failed["error"]["code"]) == (1, "check_failed")
    assert result["results"]["each"]["criteria"][0]["passed"] is False
    assert "item 1" in result["results"]["each"]["criteria"][0]["gap"]


async def test_what_is_no_list_fails_the_step_and_says_so() -> None:
    result = await Thread(agent_with(Toolset().tools), FREE).run(
        listing({"a": 1}), {**EACH, "on_failure": "abort"}
    )
    error = result["results"]["each"]["error"]
    assert error["code"] == "unresolved_reference"
    assert "dict, not a list" in error["message"]


async def test_tools_that_ask_get_each_its_own_answer_and_nothing_runs_twice() -> None:
    picky = Picky({1, 3, 4}, effect="write")
    thread = Thread(agent_with([*Toolset().tools, *picky.tools]), FREE)
    await thread.run(listing([0, 1, 2, 3, 4]), bound("each", "inquire", {"n": "${item}"}, for_each="${list}"))
    questions = await thread.questions()
    assert len(questions) == 3, "all are asked at once"
    await thread.answer({questions[2].id: f"yes to {questions[2].value['about']}"})
    assert {one.id for one in await thread.questions()} == {one.id for one in questions[:2]}
    result = await thread.answer({one.id: f"yes to {one.value['about']}" for one in questions[:2]})
    assert result["status"] == "done"
    assert result["results"]["each"]["output"] == [
        "0: not asked",
        "1: yes to 1",
        "2: not asked",
        "3: yes to 3",
        "4: yes to 4",
    ]
    assert sorted(n for n, _ in picky.made) == [0, 1, 2, 3, 4]


async def test_an_agent_does_each_item_and_sees_that_item_only() -> None:
    model = ScriptedModel({"executor:each": ["one", "two"], "synthesizer": ["done"]})
    result = await Thread(agent_with(Toolset().tools, model), Context(approval="never", max_parallel=1)).run(
        listing(["apple", "pear"]),
        think("each", for_each="${list}", task="Describe ${item}, number ${index}."),
    )
    assert result["results"]["each"]["output"] == ["one", "two"]
    first, second = (str(call.messages) for call in model.calls[:2])
    assert "Describe apple, number 0." in unquote(first)
    assert "pear" not in first
    assert "Describe pear, number 1." in unquote(second)


async def test_a_budget_ends_the_loop_and_keeps_what_was_done() -> None:
    picky = Picky()
    settings = Context(approval="never", max_tool_calls=4, max_parallel=1)
    result = await Thread(agent_with([*Toolset().tools, *picky.tools]), settings).run(
        *picking(list(range(9)))
    )
    assert len(picky.made) == 3, "one call went to the list"
    assert result["results"]["each"]["error"]["code"] == "budget_exceeded"
    assert result["results"]["each"]["output"][:4] == ["picked 0", "picked 1", "picked 2", None]
    assert result["status"] == "partial"


@pytest.mark.parametrize(
    ("step", "code", "word"),
    [
        ({**EACH, "for_each": "${nowhere}"}, "unresolved_reference", "nowhere"),
        ({**EACH, "for_each": "list"}, "bad_expression", "one reference"),
        ({**EACH, "for_each": "all of ${list}"}, "bad_expression", "one reference"),
        ({**EACH, "for_each": "${item}"}, "unresolved_reference", "item"),
        ({**EACH, "when": "item == `1`"}, "unresolved_reference", "item"),
        (bound("each", "echo", {"value": "${item}"}), "unresolved_reference", "item"),
    ],
)
async def test_a_loop_over_nothing_known_is_an_issue(step: dict[str, Any], code: str, word: str) -> None:
    tools = Toolset()
    result = await Thread(agent_with(tools.tools), FREE).run(listing([1]), step)
    assert code in codes(result)
    assert any(word in issue["message"] for issue in result["plan_issues"])
    assert tools.calls == []


async def test_a_loop_over_what_is_declared_as_no_list_is_an_issue() -> None:
    declared = {**listing({}), "output_schema": {"type": "object", "properties": {"n": {"type": "integer"}}}}
    for path in ("${list}", "${list.n}"):
        result = await Thread(agent_with(Toolset().tools), FREE).run(declared, {**EACH, "for_each": path})
        assert codes(result) == ["type_mismatch"], path


async def test_a_field_that_no_item_has_is_an_issue() -> None:
    item = {"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": False}
    declared = {**listing([]), "output_schema": {"type": "array", "items": item}}
    result = await Thread(agent_with(Toolset().tools), FREE).run(
        declared, {**EACH, "call": {"tool": "echo", "args": {"value": "${item.m}"}}}
    )
    assert codes(result) == ["type_mismatch"]
    looped = {**EACH, "output_schema": item, "id": "rows"}
    result = await Thread(agent_with(Toolset().tools), FREE).run(
        listing([]), looped, bound("after", "echo", {"value": "${rows.n}"})
    )
    assert codes(result) == ["type_mismatch"], "the output of a loop is a list"


async def test_a_list_that_is_written_in_the_plan_is_looped_over() -> None:
    steps = [bound("each", "look", {"q": "${item}"}, for_each="${['one', 'two']}")]
    result = await Thread(agent_with(Toolset().tools), FREE).run(*steps)
    assert result["results"]["each"]["output"] == ["found one", "found two"]
