"""A plan may say when its goal is reached: what is left then does not run, and is called not needed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from bounded import BoundedThread
from plans import FREE, agent_with, bound, codes, draft, draft_step, statuses, think
from toolset import Toolset, make_tool
from virtual_clock import virtually

from plan_execute import Context, ScriptedModel
from plan_execute.graph.control import cancel_run, retry_steps

FOUND = [{"type": "expression", "expression": "a == 'yes'"}]


def _thread(tools: Toolset, model: Any = None, context: Context = FREE, more: Any = ()) -> BoundedThread:
    return BoundedThread(agent_with([*tools.tools, *more], model), context)


def _say(step_id: str, value: Any, *after: str, **fields: Any) -> dict[str, Any]:
    return bound(step_id, "echo", {"value": value}, *after, **fields)


# --- reaching the goal -------------------------------------------------------------------


async def test_once_the_goal_is_reached_nothing_new_starts_and_the_rest_is_reported_as_not_needed() -> None:
    tools = Toolset()
    result = await _thread(tools).run(
        _say("a", "yes"), bound("b", "wr", {"text": "${a}"}), _say("c", 1, "b"), goal_criteria=FOUND
    )
    assert (result["status"], tools.calls) == ("done", [("echo", "yes")])
    assert statuses(result) == {"a": "done", "b": "skipped", "c": "skipped"}
    assert {result["results"][i]["error"]["code"] for i in "bc"} == {"not_needed"}
    assert "The goal is reached: expression a == 'yes'." in result["final_answer"]
    assert "Not needed (the goal was reached before):\n- b\n- c" in result["final_answer"]


@virtually
async def test_what_only_reads_is_cancelled_at_once_and_a_write_that_runs_is_finished() -> None:
    tools, started = Toolset(), asyncio.Event()
    written: list[str] = []

    async def save(text: str) -> str:
        """Save slowly."""
        started.set()
        await asyncio.sleep(5)
        written.append(text)
        return f"saved {text}"

    async def reach() -> str:
        """Say yes once the writer writes."""
        await started.wait()
        return "yes"

    more = [make_tool(save, effect="write"), make_tool(reach)]
    result = await _thread(tools, more=more).run(
        bound("a", "reach"),
        bound("r", "wait", {"name": "r", "seconds": 3600}),
        bound("w", "save", {"text": "t"}),
        bound("later", "wr", {"text": "${w}"}),
        goal_criteria=FOUND,
    )
    assert (result["status"], written, tools.cancelled, tools.named("wr")) == ("done", ["t"], ["r"], [])
    assert statuses(result) == {"a": "done", "r": "skipped", "w": "done", "later": "skipped"}
    assert result["results"]["r"]["attempts"] == 1
    assert result["results"]["r"]["evidence"][0]["tool"] == "wait"


async def test_an_agent_that_is_at_work_is_cut_off() -> None:
    tools = Toolset()
    slow = ScriptedModel.tool_calls(("wait", {"name": "w", "seconds": 30}))
    model = ScriptedModel({"executor:t": [slow], "synthesizer": ["ok"]})
    result = await _thread(tools, model).run(
        think("t", tools=["wait"]),
        bound("a", "wait", {"name": "yes", "seconds": 0.5}),
        goal_criteria=[{"type": "expression", "expression": "a"}],
    )
    assert (result["status"], statuses(result)) == ("done", {"t": "skipped", "a": "done"})
    assert tools.cancelled == ["w"]
    assert "Not needed" in result["final_answer"], "what a model writes is followed by what was left"


async def test_a_loop_stops_between_its_items_and_keeps_what_they_gave() -> None:
    tools = Toolset()
    items = {"values": {"default": [str(n) for n in range(50)]}}
    result = await _thread(tools, context=Context(approval="never", max_parallel=2)).run(
        bound("each", "wait", {"name": "${item}", "seconds": 0.1}, for_each="${inputs.values}"),
        bound("a", "wait", {"name": "a", "seconds": 0.35}),
        inputs=items,
        goal_criteria=[{"type": "expression", "expression": "a"}],
    )
    assert (result["status"], statuses(result)) == ("done", {"each": "skipped", "a": "done"})
    output = result["results"]["each"]["output"]
    assert output[:2] == ["0", "1"]
    assert output[-1] is None
    assert len(tools.named("wait")) < 20


async def test_failures_do_not_matter_once_the_goal_is_reached_but_are_told() -> None:
    tools = Toolset()
    result = await _thread(tools, context=Context(approval="never", max_attempts=1)).run(
        bound("b", "broken", {"q": "x"}, on_failure="abort"),
        bound("a", "wait", {"name": "yes", "seconds": 0.2}),
        goal_criteria=FOUND,
    )
    assert (result["status"], statuses(result)) == ("done", {"b": "failed", "a": "done"})
    assert "Failed:\n- b: failed: broken raised ValueError: no x today" in result["final_answer"]


async def test_nobody_is_asked_about_steps_that_are_not_needed() -> None:
    tools = Toolset()
    thread = _thread(tools)
    result = await thread.run(
        _say("a", "yes"), bound("w", "wr", {"text": "t"}, "a", approve=True), goal_criteria=FOUND
    )
    assert (result["status"], await thread.questions(), tools.named("wr")) == ("done", [], [])


async def test_a_goal_that_is_reached_with_the_last_step_leaves_nothing_to_report() -> None:
    result = await _thread(Toolset()).run(_say("a", "yes"), goal_criteria=FOUND)
    assert (result["status"], "Not needed" in result["final_answer"]) == ("done", False)


async def test_each_end_of_a_step_is_an_event_and_the_reason_stands_in_the_audit() -> None:
    thread = _thread(Toolset())
    given = {"plan": {"goal": "g", "steps": [_say("a", "yes"), _say("b", 1, "a")], "goal_criteria": FOUND}}
    events = [
        event
        async for event in thread.agent.astream(given, thread.config, context=FREE, stream_mode="custom")
    ]
    ends = {event["step_id"]: event["status"] for event in events if event["type"] == "step_finished"}
    assert ends == {"a": "done", "b": "skipped"}
    assert [event["goal_met"] for event in events if event["type"] == "evaluated"] == [True]
    values = (await thread.agent.aget_state(thread.config)).values
    assert any("The goal is reached" in entry.get("trigger", "") for entry in values["audit"])


# --- not reaching it ---------------------------------------------------------------------


async def test_a_plan_whose_steps_are_done_and_whose_goal_is_not_reached_is_partial() -> None:
    result = await _thread(Toolset()).run(_say("a", "no"), _say("b", 1), goal_criteria=FOUND)
    assert (result["status"], statuses(result)) == ("partial", {"a": "done", "b": "done"})
    assert "criteria are not met: the expression \"a == 'yes'\" gives false" in result["final_answer"]


async def test_a_criterion_that_cannot_be_evaluated_yet_is_not_met_yet() -> None:
    tools = Toolset()
    result = await _thread(tools).run(
        _say("a", 1),
        _say("b", [1, 2], "a"),
        _say("c", 1, "b"),
        goal_criteria=[{"type": "expression", "expression": "length(b) > `1`"}],
    )
    assert (result["status"], statuses(result)["c"], len(tools.calls)) == ("done", "skipped", 2)


async def test_all_criteria_must_hold_and_inputs_may_be_named(tmp_path: Any) -> None:
    made = tmp_path / "made.txt"

    def make(path: str) -> str:
        """Make a file."""
        made.write_text("x")
        return path

    tools = Toolset()
    result = await _thread(tools, more=[make_tool(make, effect="idempotent")]).run(
        _say("a", "yes"),
        bound("m", "make", {"path": str(made)}, "a"),
        _say("z", 1, "m"),
        inputs={"path": {"default": str(made)}, "wanted": {"default": "yes"}},
        goal_criteria=[
            {"type": "file_exists", "path": "${inputs.path}"},
            {"type": "expression", "expression": "a == inputs.wanted"},
            {"type": "tool_succeeded", "tool": "make"},
        ],
    )
    assert (result["status"], statuses(result)) == ("done", {"a": "done", "m": "done", "z": "skipped"})


# --- judges ------------------------------------------------------------------------------

JUDGED = [FOUND[0], {"type": "judge", "criterion": "it is really found"}]


async def test_a_judge_is_asked_only_when_all_else_is_met_and_once_per_result() -> None:
    tools = Toolset()
    verdict = ScriptedModel.verdict
    no, yes = verdict(met=False, gap="not really"), verdict(met=True)
    model = ScriptedModel({"evaluator": [no, yes], "synthesizer": ["ok"]})
    result = await _thread(tools, model).run(
        _say("x", 1), _say("a", "yes", "x"), _say("b", 2, "a"), _say("c", 3, "b"), goal_criteria=JUDGED
    )
    model.assert_used()
    assert statuses(result) == {"x": "done", "a": "done", "b": "done", "c": "skipped"}
    assert result["status"] == "done"
    assert (result["usage"]["by_role"]["evaluator"]["model_calls"], result["usage"]["model_calls"]) == (2, 3)


@pytest.mark.parametrize("model", [None, ScriptedModel({"evaluator": [], "synthesizer": ["ok"]})])
async def test_a_judge_that_cannot_be_asked_is_no_success(model: Any) -> None:
    result = await _thread(Toolset(), model).run(_say("a", "yes"), _say("b", 1, "a"), goal_criteria=JUDGED)
    assert (result["status"], statuses(result)) == ("partial", {"a": "done", "b": "done"})
    assert "criteria are not met" in result["final_answer"]


# --- with everything else ----------------------------------------------------------------


async def test_a_rolling_plan_is_done_when_its_goal_is_reached_and_is_told_what_is_missing_until_then() -> (
    None
):
    tools = Toolset()
    again = draft(
        draft_step("b", "look", {"q": "${a}"}), draft_step("c", "wr", {"text": "${b}"}), complete=False
    )
    model = ScriptedModel({"planner": [again], "synthesizer": ["ok"]})
    result = await _thread(tools, model).run(
        bound("a", "look", {"q": "x"}),
        complete=False,
        goal_criteria=[{"type": "tool_succeeded", "tool": "wr"}],
    )
    model.assert_used()
    assert (result["status"], tools.named("wr")) == ("done", ["found found x"])
    assert not result["plan"]["complete"]
    said = str(model.calls[0].messages[-1].text)
    assert "the tool 'wr' was not called" in said


async def test_criteria_follow_a_step_that_is_replaced_under_a_new_id() -> None:
    tools = Toolset()
    model = ScriptedModel(
        {
            "replanner": [
                draft(draft_step("a", "look", {"q": "y"}), draft_step("z", "wr", {"text": "${a}"}))
            ],
            "synthesizer": ["ok"],
        }
    )
    result = await _thread(tools, model, Context(approval="never", max_attempts=1)).run(
        bound("a", "broken", {"q": "x"}, on_failure="replan"),
        goal_criteria=[{"type": "expression", "expression": "a == 'found y'"}],
    )
    assert (result["status"], tools.named("wr")) == ("done", []), result["final_answer"]
    assert result["plan"]["goal_criteria"][0]["expression"] == "a_r2 == 'found y'"


async def test_a_revision_that_drops_the_step_a_criterion_names_can_run_and_does_not_reach_the_goal() -> None:
    tools = Toolset()
    model = ScriptedModel(
        {"replanner": [draft(draft_step("other", "look", {"q": "y"}))], "synthesizer": ["ok"]}
    )
    result = await _thread(tools, model, Context(approval="never", max_attempts=1)).run(
        bound("a", "broken", {"q": "x"}, on_failure="replan"), goal_criteria=FOUND
    )
    assert (result["status"], statuses(result)["other"]) == ("partial", "done")


async def test_a_person_may_have_a_step_run_that_was_not_needed_and_no_other_runs() -> None:
    tools = Toolset()
    thread = _thread(tools)
    await thread.run(_say("a", "yes"), _say("b", 1, "a"), _say("c", 2, "a"), goal_criteria=FOUND)
    with pytest.raises(Exception, match="no step failed"):
        await retry_steps(thread.agent, thread.config)
    assert await retry_steps(thread.agent, thread.config, ["b"]) == ["b"]
    result = await thread.send(None)
    assert (result["status"], statuses(result)) == ("done", {"a": "done", "b": "done", "c": "skipped"})
    assert tools.named("echo") == ["yes", 1]


async def test_what_ends_a_plan_early_is_shown_and_part_of_what_is_approved() -> None:
    tools = Toolset()
    thread = _thread(tools, context=Context(approval="always"))
    await thread.run(_say("a", "yes"), _say("b", 1, "a"), goal_criteria=FOUND)
    question = await thread.question()
    assert "Done as soon as:** expression a == 'yes'" in question["description"]
    plan = {**question["args"]["plan"], "goal_criteria": [{"type": "expression", "expression": "b"}]}
    await thread.agent.aupdate_state(thread.config, {"plan": plan})
    await thread.send(None)
    assert tools.calls == []
    assert "expression b" in (await thread.question())["description"]


async def test_an_open_question_is_answered_first_and_then_nothing_more_runs() -> None:
    tools = Toolset()
    thread = _thread(tools)
    await thread.run(
        bound("w", "wr", {"text": "t"}, approve=True),
        bound("a", "wait", {"name": "yes", "seconds": 0.3}),
        bound("z", "look", {"q": "${a}"}),
        goal_criteria=FOUND,
    )
    assert (await thread.question())["name"] == "approve_step"
    result = await thread.answer("approve")
    assert (result["status"], tools.named("wr"), tools.named("look")) == ("done", [], [])
    assert statuses(result) == {"w": "skipped", "a": "done", "z": "skipped"}


# --- plans that cannot run ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("criterion", "code", "words"),
    [
        ({"type": "expression", "expression": "ghost.found"}, "unresolved_reference", "'ghost'"),
        ({"type": "expression", "expression": "a =="}, "bad_expression", "a =="),
        ({"type": "expression", "expression": "inputs.ghost"}, "unresolved_reference", "'ghost'"),
        ({"type": "file_exists", "path": "${ghost}"}, "unresolved_reference", "'ghost'"),
        ({"type": "file_exists", "path": "${a"}, "bad_expression", "not closed"),
        ({"type": "expression"}, "bad_criterion", "takes expression"),
        ({"type": "not_empty"}, "bad_criterion", "says nothing about a goal"),
        ({"type": "matches", "pattern": "x"}, "bad_criterion", "file_exists, json_schema, judge"),
        ({"type": "tool_succeeded", "tool": "fly"}, "bad_criterion", "'fly'"),
        ({"type": "json_schema", "schema": {"type": "thing"}}, "bad_schema", "JSON Schema"),
        ({"type": "luck"}, "malformed_plan", "'luck'"),
        ({"type": "judge", "by": "me"}, "malformed_plan", "of a criterion"),
        ("a", "malformed_plan", "goal_criteria.0"),
    ],
)
async def test_criteria_that_cannot_be_checked_are_issues_before_anything_runs(
    criterion: Any, code: str, words: str
) -> None:
    tools = Toolset()
    result = await _thread(tools).run(_say("a", "yes"), goal_criteria=[criterion])
    assert codes(result) == [code], result["plan_issues"]
    assert words in result["plan_issues"][0]["message"]
    assert tools.calls == []


def _slow_writer(started: asyncio.Event, written: list[str]) -> Any:
    async def save(text: str) -> str:
        """Save slowly."""
        started.set()
        await asyncio.sleep(5)
        written.append(text)
        return f"saved {text}"

    return make_tool(save, effect="write")


@virtually
async def test_a_write_within_a_sub_plan_is_finished_too_and_what_comes_after_it_does_not_run() -> None:
    tools, started, written = Toolset(), asyncio.Event(), []

    async def reach() -> str:
        """Say yes once the writer writes."""
        await started.wait()
        return "yes"

    inner = draft(draft_step("w", "save", {"text": "t"}), draft_step("v", "wr", {"text": "${w}"}))
    model = ScriptedModel({"planner": [inner], "synthesizer": ["ok"]}, strict=False)
    more = [_slow_writer(started, written), make_tool(reach)]
    result = await _thread(tools, model, more=more).run(
        bound("a", "reach"), {"id": "s", "plan": {"goal": "save it"}}, goal_criteria=FOUND
    )
    assert (result["status"], statuses(result)) == ("done", {"a": "done", "s": "skipped"})
    assert (written, tools.named("wr")) == (["t"], [])


@virtually
async def test_a_write_within_a_sub_plan_is_finished_when_the_run_is_told_to_stop() -> None:
    tools, started, written = Toolset(), asyncio.Event(), []
    inner = draft(draft_step("w", "save", {"text": "t"}), draft_step("v", "wr", {"text": "${w}"}))
    model = ScriptedModel({"planner": [inner], "synthesizer": ["ok"]}, strict=False)
    thread = _thread(tools, model, more=[_slow_writer(started, written)])
    running = asyncio.create_task(thread.run({"id": "s", "plan": {"goal": "save it"}}))
    await started.wait()
    assert await cancel_run(thread.agent, thread.config) == "requested"
    result = await running
    assert (written, tools.named("wr"), result["status"]) == (["t"], [], "failed")
