"""Budgets are hard, also for steps in parallel and over a resume, and every end has an answer."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from plans import Thread, agent_with, bound, draft, draft_step, statuses, think
from toolset import Toolset
from virtual_clock import virtually

from plan_execute import Context, ScriptedModel


def _settings(**fields: Any) -> Context:
    return Context(**{"approval": "never", "max_attempts": 1, **fields})


def _now() -> float:
    return asyncio.get_running_loop().time()


async def test_max_tool_calls_is_never_overrun_by_parallel_steps() -> None:
    tools = Toolset()
    result = await Thread(agent_with(tools.tools), _settings(max_tool_calls=3)).run(
        *(bound(f"s{n}", "wait", {"name": f"s{n}", "seconds": 0.02}) for n in range(8))
    )
    assert (len(tools.calls), result["status"]) == (3, "partial")
    assert result["usage"]["tool_calls"] == 3
    assert "max_tool_calls=3" in result["final_answer"]
    assert list(statuses(result).values()).count("done") == 3


async def test_max_model_calls_is_never_overrun_by_parallel_steps() -> None:
    model = ScriptedModel({"executor": ["x"] * 8, "synthesizer": ["ok"]}, latency_s=0.02)
    result = await Thread(agent_with((), model), _settings(max_model_calls=3)).run(
        *(think(f"s{n}") for n in range(8))
    )
    assert (len(model.calls), result["status"]) == (3, "partial")
    assert "max_model_calls=3" in result["final_answer"]
    assert "Not started" in result["final_answer"] or "Failed" in result["final_answer"]


async def test_max_model_calls_ends_an_agent_in_the_middle_of_its_loop() -> None:
    tools = Toolset()
    model = ScriptedModel({"executor": [ScriptedModel.tool_calls(("look", {"q": "x"}))]}, strict=False)
    result = await Thread(agent_with(tools.tools, model), _settings(max_model_calls=2)).run(
        think("a", tools=["look"])
    )
    assert (len(model.calls), result["status"]) == (2, "failed")
    assert result["results"]["a"]["error"]["code"] == "budget_exceeded"


async def test_max_tool_calls_holds_inside_an_agent_step() -> None:
    tools = Toolset()
    many = ScriptedModel.tool_calls(*(("look", {"q": str(n)}) for n in range(5)))
    model = ScriptedModel({"executor": [many, "done"], "synthesizer": ["ok"]})
    result = await Thread(agent_with(tools.tools, model), _settings(max_tool_calls=2)).run(
        think("a", tools=["look"])
    )
    assert (len(tools.calls), result["results"]["a"]["error"]["code"]) == (2, "budget_exceeded")


async def test_no_model_call_at_all_is_made_with_a_budget_of_none() -> None:
    model = ScriptedModel({"planner": [draft(draft_step("a"))]})
    result = await Thread(agent_with((), model), _settings(max_model_calls=0)).send({"goal": "g"})
    assert (model.calls, result["status"]) == ([], "failed")
    assert "max_model_calls=0" in result["final_answer"]


async def test_the_report_is_written_without_a_model_when_none_may_be_called_any_more() -> None:
    model = ScriptedModel(
        {"planner": [draft(draft_step("a", "look", {"q": "x"}), draft_step("b", "look", {"q": "y"}))]}
    )
    result = await Thread(agent_with(Toolset().tools, model), _settings(max_model_calls=1)).send(
        {"goal": "g"}
    )
    assert (result["status"], len(model.calls)) == ("done", 1)
    assert "- a (do a): found x" in result["final_answer"]
    assert "max_model_calls=1" in result["final_answer"]


async def test_max_tokens_lets_nothing_new_begin_once_it_is_spent() -> None:
    model = ScriptedModel({"executor": ["x" * 4000] * 3, "synthesizer": ["ok"]})
    result = await Thread(agent_with((), model), _settings(max_tokens=1000)).run(
        think("a"), think("b", "a"), think("c", "b")
    )
    assert (statuses(result)["a"], len(model.calls), result["status"]) == ("done", 1, "partial")
    assert "max_tokens=1000" in result["final_answer"]


@virtually
async def test_max_seconds_ends_a_chain_of_steps() -> None:
    tools = Toolset()
    steps = [
        bound(f"s{n}", "wait", {"name": f"s{n}", "seconds": 0.15}, *([f"s{n - 1}"] if n else []))
        for n in range(20)
    ]
    result = await Thread(agent_with(tools.tools), _settings(max_seconds=0.4)).run(*steps)
    assert _now() == pytest.approx(0.4)
    assert (result["status"], len(tools.calls)) == ("partial", 3)
    assert "max_seconds=0.4" in result["final_answer"]


@virtually
async def test_max_seconds_cuts_off_a_step_that_is_running() -> None:
    tools = Toolset()
    result = await Thread(agent_with(tools.tools), _settings(max_seconds=0.3)).run(
        bound("a", "wait", {"name": "a", "seconds": 3})
    )
    assert _now() == pytest.approx(0.3)
    assert (result["status"], tools.cancelled) == ("failed", ["a"])


async def test_retries_count_against_the_budget() -> None:
    tools = Toolset()
    result = await Thread(
        agent_with(tools.tools), _settings(max_tool_calls=3, max_attempts=10, on_failure="abort")
    ).run(bound("a", "broken", {"q": "x"}))
    assert (len(tools.calls), result["status"]) == (3, "failed")


async def test_a_budget_goes_on_over_a_resume() -> None:
    tools = Toolset()
    thread = Thread(agent_with(tools.tools), _settings(max_tool_calls=3, on_failure="ask"))
    await thread.run(bound("z", "look", {"q": "z"}), bound("a", "broken", {"q": "x"}, "z"))
    await thread.answer({"decision": "retry"})
    result = await thread.answer({"decision": "retry"})
    assert (len(tools.calls), result["status"]) == (3, "partial")
    assert "max_tool_calls=3" in result["final_answer"]


async def test_a_budget_is_about_one_goal_and_starts_again_with_the_next() -> None:
    tools = Toolset()
    thread = Thread(agent_with(tools.tools), _settings(max_tool_calls=1))
    for _ in range(2):
        assert (await thread.run(bound("a", "look", {"q": "x"})))["status"] == "done"


async def test_no_revision_is_asked_for_once_the_budget_is_spent() -> None:
    model = ScriptedModel({"executor": ["no"], "replanner": [draft(draft_step("b"))], "synthesizer": ["ok"]})
    result = await Thread(agent_with((), model), _settings(max_model_calls=1, on_failure="replan")).run(
        think("a", success_criteria=[{"type": "matches", "pattern": "yes"}])
    )
    assert ([call.role for call in model.calls], result["replans"]) == (["executor"], 0)
    assert result["status"] == "failed"
    assert "max_model_calls=1" in result["final_answer"]


@pytest.mark.parametrize("budget", ["max_model_calls", "max_tool_calls", "max_tokens", "max_seconds"])
async def test_a_budget_that_is_not_reached_changes_nothing(budget: str) -> None:
    model = ScriptedModel({"planner": [draft(draft_step("a", "look", {"q": "x"}))], "synthesizer": ["ok"]})
    result = await Thread(agent_with(Toolset().tools, model), _settings(**{budget: 10_000})).send(
        {"goal": "g"}
    )
    assert (result["status"], result["final_answer"]) == ("done", "ok")


@virtually
async def test_max_seconds_cuts_off_a_planner_that_thinks_too_long() -> None:
    model = ScriptedModel({"planner": [draft(draft_step("a"))]}, latency_s=5)
    result = await Thread(agent_with((), model), _settings(max_seconds=0.3)).send({"goal": "g"})
    assert _now() == pytest.approx(0.3)
    assert (result["status"], "max_seconds=0.3" in result["final_answer"]) == ("failed", True)
    assert result["usage"]["model_calls"] == 1, "a call that was cut off was made all the same"


@pytest.mark.parametrize("role", ["replanner", "synthesizer"])
@virtually
async def test_max_seconds_cuts_off_any_other_call_and_the_answer_is_written_without_a_model(
    role: str,
) -> None:
    model = ScriptedModel({role: ["too late"], "*": []}, latency_s=5)
    thread = Thread(agent_with(Toolset().tools, model), _settings(max_seconds=0.5))
    failing = [bound("b", "broken", {"q": "x"}, "a", on_failure="replan")] if role == "replanner" else []
    result = await thread.run(bound("a", "look", {"q": "x"}), *failing)
    assert _now() == pytest.approx(0.5)
    assert result["status"] == ("partial" if failing else "done")
    assert "max_seconds=0.5" in result["final_answer"]
    assert "- a: found x" in result["final_answer"]


@virtually
async def test_max_seconds_cuts_off_the_planning_of_a_further_round() -> None:
    model = ScriptedModel({"planner": [draft()]}, latency_s=5)
    thread = Thread(agent_with(Toolset().tools, model), _settings(max_seconds=0.5))
    result = await thread.run(bound("a", "look", {"q": "x"}), complete=False)
    assert _now() == pytest.approx(0.5)
    assert (result["status"], "max_seconds=0.5" in result["final_answer"]) == ("partial", True)


async def test_a_budget_that_ends_with_its_time_limit_leaves_no_error_that_nobody_read(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for _ in range(10):
        thread = Thread(agent_with(Toolset().tools), Context(approval="never", max_seconds=1e-6))
        result = await thread.run(bound("a", "look", {"q": "x"}))
        assert result["results"]["a"]["error"]["code"] == "budget_exceeded"
    gc.collect()
    await asyncio.sleep(0)
    assert [record.message for record in caplog.records if record.name == "asyncio"] == []
