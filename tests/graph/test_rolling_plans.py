"""A rolling plan goes on from what its steps have found, a bounded number of times."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from bounded import BoundedThread
from openai_stub import OpenAIStub, Reply, asks_for_plan
from plans import FREE, agent_with, bound, draft, draft_step, statuses
from toolset import Toolset
from virtual_clock import virtually

from plan_execute import Context, ScriptedModel, create_plan_execute_agent
from plan_execute.graph.control import cancel_run, retry_steps

FIRST = draft(draft_step("a", "look", {"q": "x"}), complete=False)
NEXT = draft(draft_step("b", "look", {"q": "${a}"}), complete=False)
LAST = draft(draft_step("c", "look", {"q": "${b}"}))
FINISHED = draft(outcome="finished")
WRITE = draft(draft_step("w", "wr", {"text": "${a}"}))


def _thread(
    *drafts: Any, tools: Toolset | None = None, context: Context = FREE, **roles: Any
) -> tuple[BoundedThread, ScriptedModel, Toolset]:
    used = tools or Toolset()
    model = ScriptedModel({"planner": list(drafts), "synthesizer": ["ok"], **roles}, strict=False)
    return BoundedThread(agent_with(used.tools, model), context), model, used


def _said(model: ScriptedModel, number: int, role: str = "planner") -> str:
    calls = [call for call in model.calls if call.role == role]
    return "\n".join(str(message.text) for message in calls[number].messages)


def _asked(model: ScriptedModel, role: str = "planner") -> int:
    return sum(call.role == role for call in model.calls)


# --- the rounds --------------------------------------------------------------------------


async def test_a_planner_that_says_complete_false_is_asked_for_the_next_steps_until_it_says_true() -> None:
    thread, model, tools = _thread(FIRST, NEXT, LAST)
    result = await thread.send({"goal": "g"})
    assert result["status"] == "done", result["final_answer"]
    assert tools.named("look") == ["x", "found x", "found found x"]
    plan = result["plan"]
    assert (plan["revision"], plan["complete"]) == (3, True)
    assert [step["id"] for step in plan["steps"]] == ["a", "b", "c"]
    assert (_asked(model), result["replans"]) == (3, 0)


async def test_the_planner_is_told_what_the_steps_have_produced_and_how_often_it_may_go_on() -> None:
    thread, model, _ = _thread(FIRST, NEXT, LAST, context=Context(approval="never", max_rounds=2))
    await thread.send({"goal": "the very goal"})
    second, third = _said(model, 1), _said(model, 2)
    words = ("the very goal", "- a (do a): done, met\n", "Output: found x", "<data")
    assert all(word in second for word in words)
    assert "1 more time." in second
    assert "found found x" in third
    assert "for the last time" in third
    assert "steps so far" not in _said(model, 0)


async def test_a_planner_may_find_the_goal_reached_and_the_plan_is_complete_then() -> None:
    thread, model, tools = _thread(FIRST, FINISHED)
    result = await thread.send({"goal": "g"})
    assert (result["status"], result["plan"]["complete"]) == ("done", True)
    assert [step["id"] for step in result["plan"]["steps"]] == ["a"]
    assert (_asked(model), tools.named("look")) == (2, ["x"])


async def test_each_round_is_an_event_and_stands_in_the_audit() -> None:
    thread, _, _ = _thread(FIRST, NEXT, LAST)
    events = [
        event
        async for event in thread.agent.astream(
            {"goal": "g"}, thread.config, context=FREE, stream_mode="custom"
        )
    ]
    rounds = [event for event in events if event["type"] == "plan_continued"]
    assert [(event["round"], event["difference"]["added"]) for event in rounds] == [(1, ["b"]), (2, ["c"])]
    audit = (await thread.agent.aget_state(thread.config)).values["audit"]
    triggers = [entry["trigger"] for entry in audit if entry["event"] == "plan_written"]
    assert triggers == ["a goal", "round 1 of a rolling plan", "round 2 of a rolling plan"]
    assert any("round 2 of at most 10" in entry.get("trigger", "") for entry in audit)
    accepted = [entry["difference"]["added"] for entry in audit if entry["event"] == "plan_accepted"]
    assert accepted == [["a"], ["b"], ["c"]]


async def test_a_given_plan_that_is_not_complete_goes_on_with_the_planner() -> None:
    thread, model, tools = _thread(draft(draft_step("b", "wr", {"text": "${a}"})))
    result = await thread.run(bound("a", "look", {"q": "x"}), complete=False)
    assert (result["status"], tools.named("wr"), _asked(model)) == ("done", ["found x"], 1)


async def test_a_follow_up_goal_has_all_its_rounds_again() -> None:
    thread, _, _ = _thread(FIRST, LAST_OF_ONE, FIRST, LAST_OF_ONE, context=ONE_ROUND)
    assert (await thread.send({"goal": "g"}))["status"] == "done"
    assert (await thread.send({"goal": "again"}))["status"] == "done"


ONE_ROUND = Context(approval="never", max_rounds=1)
LAST_OF_ONE = draft(draft_step("b", "look", {"q": "${a}"}))


# --- the cap -----------------------------------------------------------------------------


@pytest.mark.parametrize("cap", [0, 1, 3])
async def test_at_the_cap_the_run_ends_partial_and_says_that_the_plan_was_not_complete(cap: int) -> None:
    endless = [draft(draft_step(f"s{n}", "look", {"q": str(n)}), complete=False) for n in range(9)]
    thread, model, tools = _thread(*endless, context=Context(approval="never", max_rounds=cap))
    result = await thread.send({"goal": "g"})
    assert result["status"] == "partial"
    assert (len(tools.calls), _asked(model)) == (cap + 1, cap + 1)
    assert "not complete" in result["final_answer"]
    assert f"max_rounds={cap}" in result["final_answer"]


async def test_a_planner_that_only_repeats_itself_does_not_loop_and_nothing_runs_twice() -> None:
    thread, model, tools = _thread(draft(draft_step("w", "wr", {"text": "once"}), complete=False))
    result = await thread.send({"goal": "g"})
    assert (result["status"], tools.named("wr")) == ("partial", ["once"])
    assert _asked(model) <= 5
    assert "all these steps are in the plan already" in _said(model, 2)
    assert "not complete" in result["final_answer"]


async def test_steps_that_a_planner_writes_again_are_those_that_are_done_and_may_be_referred_to() -> None:
    again = draft(draft_step("a", "look", {"q": "x"}), draft_step("w", "wr", {"text": "${a}"}, "a"))
    thread, _, tools = _thread(FIRST, again)
    result = await thread.send({"goal": "g"})
    assert (result["status"], tools.calls) == ("done", [("look", "x"), ("wr", "found x")])
    assert statuses(result) == {"a": "done", "w": "done"}


async def test_an_old_id_with_new_work_gets_a_new_id() -> None:
    other = draft(draft_step("a", "look", {"q": "y"}), draft_step("w", "wr", {"text": "${a}"}, "a"))
    thread, _, tools = _thread(FIRST, other)
    result = await thread.send({"goal": "g"})
    assert statuses(result) == {"a": "done", "a_r2": "done", "w": "done"}
    assert tools.named("wr") == ["found y"]


async def test_fifty_steps_a_round_are_no_limit_to_the_whole_plan_but_max_steps_is() -> None:
    def many(first: int, complete: bool) -> dict[str, Any]:
        steps = [draft_step(f"s{n}", "look", {"q": str(n)}) for n in range(first, first + 40)]
        return draft(*steps, complete=complete)

    drafts = many(0, False), many(40, True)
    thread, _, tools = _thread(*drafts)
    result = await thread.send({"goal": "g"})
    assert (result["status"], len(tools.calls)) == ("done", 80)
    capped, _, _ = _thread(*drafts, context=Context(approval="never", max_steps=60))
    result = await capped.send({"goal": "g"})
    assert (result["status"], result["plan_issues"][0]["code"]) == ("partial", "too_many_steps")


@pytest.mark.parametrize("budget", ["max_model_calls", "max_tokens"])
async def test_a_spent_budget_ends_the_rounds_with_what_there_is(budget: str) -> None:
    thread, model, _ = _thread(FIRST, NEXT, LAST, context=Context(approval="never", **{budget: 1}))
    result = await thread.send({"goal": "g"})
    assert (result["status"], statuses(result)) == ("partial", {"a": "done"})
    assert budget in result["final_answer"]
    assert _asked(model) == 1


# --- what goes wrong ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (draft(outcome="cannot_plan", rationale="the trail is cold"), "the trail is cold"),
        (draft(draft_step("f", "fly"), complete=False), "unknown_tool"),
        (ConnectionResetError("gone"), "planner could not answer"),
    ],
    ids=["cannot plan", "bad plan", "no model"],
)
async def test_a_round_that_brings_no_steps_ends_the_run_with_what_was_done(reply: Any, words: str) -> None:
    thread, _, tools = _thread(FIRST, *[reply] * 4)
    thread.limit_s = 30
    result = await thread.send({"goal": "g"})
    assert (result["status"], tools.named("look")) == ("partial", ["x"])
    assert words in result["final_answer"]
    assert "not complete" in result["final_answer"]


async def test_a_round_with_issues_goes_back_to_the_planner_and_is_no_round_of_its_own() -> None:
    bad = draft(draft_step("b", "look", {"nope": 1}))
    thread, model, _ = _thread(FIRST, bad, LAST_OF_ONE, context=ONE_ROUND)
    result = await thread.send({"goal": "g"})
    assert (result["status"], statuses(result)) == ("done", {"a": "done", "b": "done"})
    assert "bad_arguments" in _said(model, 2)
    assert "found x" in _said(model, 2)


async def test_a_step_that_fails_is_replaced_and_the_plan_goes_on_afterwards() -> None:
    broken = draft(draft_step("b", "broken", {"q": "y"}), complete=False)
    thread, model, tools = _thread(
        FIRST,
        broken,
        LAST_OF_PATCH,
        replanner=[draft(draft_step("m", "look", {"q": "mended"}))],
        evaluator=[{"decision": "patch", "reason": "try look", "hint": ""}],
        context=Context(approval="never", max_attempts=1),
    )
    result = await thread.send({"goal": "g"})
    assert result["status"] == "done", result["final_answer"]
    assert [step["id"] for step in result["plan"]["steps"]] == ["a", "m", "c"]
    assert (result["replans"], _asked(model), tools.named("look")) == (1, 3, ["x", "mended", "found mended"])
    assert "planned when they are done" in _said(model, 0, "replanner")


LAST_OF_PATCH = draft(draft_step("c", "look", {"q": "${m}"}))


async def test_a_skipped_failure_is_known_in_the_next_round() -> None:
    thread, model, _ = _thread(draft(draft_step("c", "look", {"q": "y"})))
    result = await thread.run(bound("b", "broken", {"q": "x"}, on_failure="skip"), complete=False)
    assert "no x today" in _said(model, 0)
    assert (result["status"], statuses(result)) == ("partial", {"b": "skipped", "c": "done"})


async def test_a_step_that_a_person_rejected_is_kept_and_known_and_its_tool_asks_again() -> None:
    thread, model, tools = _thread(
        draft(draft_step("again", "wr", {"text": "t"})), context=Context(approval="never")
    )
    await thread.run(
        bound("a", "look", {"q": "x"}), bound("w", "wr", {"text": "t"}, approve=True), complete=False
    )
    await thread.answer({"type": "reject", "message": "not today"})
    assert "not today" in _said(model, 0)
    assert (await thread.question())["name"] == "approve_step"
    result = await thread.answer({"type": "reject", "message": "I said no"})
    assert (result["status"], tools.named("wr")) == ("partial", [])
    assert statuses(result) == {"a": "done", "w": "failed", "again": "failed"}


# --- people ------------------------------------------------------------------------------

ASKING = Context(approval="writes")


async def test_a_round_that_adds_an_effect_is_asked_about_and_one_that_adds_none_is_not() -> None:
    write = draft(draft_step("w", "wr", {"text": "${b}"}), complete=False)
    more = draft(draft_step("v", "wr", {"text": "${w}"}))
    thread, _, tools = _thread(FIRST, NEXT, write, more, context=ASKING)
    await thread.send({"goal": "g"})
    request = await thread.question()
    assert request["name"] == "approve_plan"
    assert tools.named("look") == ["x", "found x"]
    assert all(text in request["description"] for text in ("- new: w", "Not all of it"))
    result = await thread.answer("approve")
    assert (result["status"], len(tools.named("wr"))) == ("done", 2), "v needs no tool beyond w's"


async def test_feedback_on_a_round_goes_to_the_planner_for_this_round_and_not_from_scratch() -> None:
    better = draft(draft_step("w", "wr", {"text": "better"}))
    thread, model, tools = _thread(FIRST, WRITE, better, context=Context(approval="writes", max_rounds=1))
    await thread.send({"goal": "g"})
    await thread.answer({"type": "reject", "message": "say it better"})
    said = _said(model, 2)
    assert all(words in said for words in ("say it better", "steps so far", "found x", "rejected plan"))
    result = await thread.answer("approve")
    assert (result["status"], tools.calls) == ("done", [("look", "x"), ("wr", "better")])
    assert [step["id"] for step in result["plan"]["steps"]] == ["a", "w_r3"]


async def test_feedback_on_a_first_rolling_plan_starts_from_scratch() -> None:
    thread, model, tools = _thread(FIRST, NEXT_FROM_SCRATCH, context=Context(approval="always"))
    await thread.send({"goal": "g"})
    await thread.answer({"type": "reject", "message": "look for z"})
    assert "steps so far" not in _said(model, 1)
    result = await thread.answer("approve")
    assert (result["status"], tools.named("look")) == ("done", ["z"])


NEXT_FROM_SCRATCH = draft(draft_step("z", "look", {"q": "z"}))


async def test_a_person_may_edit_a_round_and_declare_the_plan_complete() -> None:
    thread, model, tools = _thread(
        FIRST, draft(draft_step("w", "wr", {"text": "t"}), complete=False), context=ASKING
    )
    await thread.send({"goal": "g"})
    plan = (await thread.question())["args"]["plan"]
    plan["steps"][-1]["call"]["args"]["text"] = "mine"
    result = await thread.answer({"type": "edit", "args": {"plan": {**plan, "complete": True}}})
    assert (result["status"], tools.named("wr"), _asked(model)) == ("done", ["mine"], 2)


async def test_a_round_that_is_rejected_without_a_word_ends_the_run_rejected() -> None:
    thread, _, tools = _thread(FIRST, WRITE, context=ASKING)
    await thread.send({"goal": "g"})
    result = await thread.answer({"type": "reject"})
    assert (result["status"], statuses(result)) == ("rejected", {"a": "done"})
    assert tools.named("wr") == []


# --- over the wire -----------------------------------------------------------------------


def _answer(body: dict[str, Any]) -> Reply:
    said = json.dumps(body["messages"])
    made = LAST_OF_ONE if "steps so far" in said else FIRST
    return Reply.json(made) if asks_for_plan(body) else Reply("The end.")


async def test_the_rounds_work_over_the_openai_protocol_and_the_form_offers_what_fits() -> None:
    tools = Toolset()
    with OpenAIStub(_answer) as stub:
        agent = create_plan_execute_agent("openai:stub", tools.tools, base_url=stub.base_url)
        result = await agent.ainvoke({"goal": "g"}, context=FREE)
        planning = [json.dumps(request.body) for request in stub.requests[:2]]
    assert (result["status"], tools.named("look")) == ("done", ["x", "found x"])
    assert ["`finished`" in text for text in planning] == [False, True]
    assert all("`more`" in text for text in planning)


# --- going on after the end --------------------------------------------------------------


async def test_a_round_that_failed_for_want_of_a_model_is_planned_again_when_retried() -> None:
    thread, model, tools = _thread(FIRST, draft(outcome="cannot_plan", rationale="not now"), LAST_OF_ONE)
    assert (await thread.send({"goal": "g"}))["status"] == "partial"
    assert await retry_steps(thread.agent, thread.config) == []
    result = await thread.send(None)
    assert (result["status"], tools.named("look")) == ("done", ["x", "found x"])
    assert _asked(model) == 3


async def test_a_retry_does_not_lift_the_cap_on_rounds_but_a_higher_one_does() -> None:
    more = draft(draft_step("b", "look", {"q": "y"}), complete=False)
    thread, model, tools = _thread(FIRST, more, LAST, context=ONE_ROUND)
    assert (await thread.send({"goal": "g"}))["status"] == "partial"
    await retry_steps(thread.agent, thread.config)
    result = await thread.send(None)
    assert (result["status"], _asked(model)) == ("partial", 2)
    await retry_steps(thread.agent, thread.config)
    result = await thread.send(None, Context(approval="never", max_rounds=2))
    assert (result["status"], _asked(model), len(tools.calls)) == ("done", 3, 3)


@virtually
async def test_a_run_told_to_stop_while_it_plans_on_ends_with_what_was_done() -> None:
    tools = Toolset()
    model = ScriptedModel({"planner": [NEXT], "synthesizer": ["ok"]}, strict=False, latency_s=1.0)
    thread = BoundedThread(agent_with(tools.tools, model), FREE)
    running = asyncio.create_task(thread.run(bound("a", "look", {"q": "x"}), complete=False))
    await asyncio.sleep(0.3)
    assert await cancel_run(thread.agent, thread.config) == "requested"
    result = await running
    assert (result["status"], tools.named("look")) == ("partial", ["x"])
    assert "told to stop" in result["final_answer"]


async def test_a_sub_plan_may_be_rolling_with_rounds_of_its_own() -> None:
    thread, model, tools = _thread(FIRST, LAST_OF_ONE, context=ONE_ROUND)
    result = await thread.run({"id": "s", "plan": {"goal": "find out"}})
    assert (result["status"], tools.named("look")) == ("done", ["x", "found x"])
    assert _asked(model) == 2
