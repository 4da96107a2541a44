"""What follows a failure: the policies of steps and runs, transient errors, and what goes on beside it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from plans import Thread, agent_with, bound, draft, draft_step, plan, statuses, think
from toolset import Toolset, make_tool

from plan_execute import Context, ScriptedModel

ABORT = Context(approval="never", on_failure="abort", max_attempts=1)
FIX = draft(draft_step("fix", "look", {"q": "fixed"}))


def _settings(**fields: Any) -> Context:
    return Context(**{"approval": "never", "max_attempts": 1, **fields})


def _decided(result: dict[str, Any]) -> list[tuple[str, str]]:
    return [(e["decision"], e["by"]["kind"]) for e in result["audit"] if e["event"] == "step_failure"]


# --- transient errors --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "arg", "error"),
    [("flaky", "q", ConnectionError("reset")), ("put", "text", TimeoutError("slow"))],
)
async def test_transient_errors_of_read_and_idempotent_calls_are_tried_again_within_one_attempt(
    tool: str, arg: str, error: Exception
) -> None:
    tools = Toolset()
    tools.failures = [error]
    start = time.monotonic()
    result = await Thread(agent_with(tools.tools), ABORT).run(bound("a", tool, {arg: "x"}))
    assert (result["status"], result["results"]["a"]["attempts"], len(tools.calls)) == ("done", 1, 2)
    assert time.monotonic() - start >= 0.4, "after a pause"
    assert result["usage"]["tool_calls"] == 2


async def test_transient_errors_of_a_read_inside_an_agent_step_are_tried_again_too() -> None:
    tools = Toolset()
    tools.failures = [ConnectionError("reset")]
    model = ScriptedModel(
        {"executor": [ScriptedModel.tool_calls(("flaky", {"q": "x"})), "ok"], "synthesizer": ["ok"]}
    )
    result = await Thread(agent_with(tools.tools, model), ABORT).run(think("a", tools=["flaky"]))
    assert (result["status"], len(tools.calls)) == ("done", 2)
    assert result["results"]["a"]["evidence"][0]["ok"]


@pytest.mark.parametrize("kind", ["bound", "agent"])
async def test_transient_errors_of_write_calls_are_never_tried_again_by_themselves(kind: str) -> None:
    tools = Toolset()
    tools.failures = [ConnectionError("reset")] * 5
    script = {
        "executor": [ScriptedModel.tool_calls(("wr", {"text": "x"})), "it failed"],
        "synthesizer": ["ok"],
    }
    agent = agent_with(tools.tools, ScriptedModel(script) if kind == "agent" else None)
    step = bound("a", "wr", {"text": "x"}) if kind == "bound" else think("a", tools=["wr"])
    await Thread(agent, _settings(on_failure="abort", max_attempts=5)).run(step)
    assert tools.named("wr") == ["x"]


async def test_other_errors_are_not_transient_but_a_read_gets_its_attempts() -> None:
    tools = Toolset()
    tools.failures = [ValueError("odd")]
    result = await Thread(agent_with(tools.tools), _settings(on_failure="abort", max_attempts=3)).run(
        bound("a", "flaky", {"q": "x"})
    )
    assert (result["status"], result["results"]["a"]["attempts"]) == ("done", 2)
    assert _decided(result) == [("retry", "policy")]


async def test_a_write_that_failed_is_made_again_only_on_an_explicit_retry() -> None:
    for policy, made in (("abort", 1), ("skip", 1), ("retry", 3)):
        tools = Toolset()
        tools.failures = [ValueError("odd")] * 9
        context = _settings(on_failure="abort", max_attempts=3)
        await Thread(agent_with(tools.tools, checkpointer=None), context).run(
            bound("a", "wr", {"text": "x"}, on_failure=policy)
        )
        assert len(tools.calls) == made, policy


# --- policies ----------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["step", "run"])
async def test_skip_goes_on_without_the_step_and_dependents_see_null(level: str) -> None:
    tools = Toolset()
    context = _settings(on_failure="skip" if level == "run" else "abort")
    result = await Thread(agent_with(tools.tools), context).run(
        bound("a", "broken", {"q": "x"}, **({"on_failure": "skip"} if level == "step" else {})),
        bound("b", "echo", {"value": "${a}"}),
        bound("c", "echo", {"value": "[${a}]"}),
    )
    assert statuses(result) == {"a": "skipped", "b": "done", "c": "done"}
    assert (result["results"]["b"]["output"], result["results"]["c"]["output"]) == (None, "[null]")
    assert result["results"]["a"]["verdict"] is None
    assert result["status"] == "partial", "a step that was skipped because it failed is not done"


@pytest.mark.parametrize("level", ["step", "run"])
async def test_abort_ends_the_run_and_says_what_was_not_done(level: str) -> None:
    tools = Toolset()
    context = _settings(on_failure="abort" if level == "run" else "skip")
    result = await Thread(agent_with(tools.tools), context).run(
        bound("z", "look", {"q": "z"}),
        bound("a", "broken", {"q": "x"}, "z", **({"on_failure": "abort"} if level == "step" else {})),
        bound("b", "look", {"q": "b"}, "a"),
    )
    assert (result["status"], result["results"]["a"]["status"]) == ("partial", "failed")
    assert tools.named("look") == ["z"]
    assert "Failed:\n- a" in result["final_answer"]
    assert "- b" in result["final_answer"]


@pytest.mark.parametrize("decision", ["abort", "replan"])
async def test_nothing_new_starts_after_abort_or_replan_and_what_runs_may_finish(decision: str) -> None:
    tools = Toolset()
    model = ScriptedModel(
        {"replanner": [draft(outcome="cannot_plan", rationale="no way")], "synthesizer": ["ok"]}
    )
    result = await Thread(agent_with(tools.tools, model), _settings(on_failure=decision)).run(
        bound("run", "wait", {"name": "run", "seconds": 0.2}),
        bound("a", "broken", {"q": "x"}),
        bound("after", "look", {"q": "after"}, "run"),
    )
    assert result["results"]["run"]["status"] == "done"
    assert tools.named("look") == []
    assert "after" not in statuses(result)
    assert result["status"] == "partial"


@pytest.mark.parametrize("level", ["step", "run"])
async def test_patch_replaces_the_failing_step_and_its_descendants_while_other_branches_go_on(
    level: str,
) -> None:
    tools = Toolset()
    patch = draft(draft_step("fix", "look", {"q": "fixed"}), draft_step("b", "look", {"q": "${fix}"}, "fix"))
    model = ScriptedModel({"replanner": [patch], "synthesizer": ["ok"]})
    result = await Thread(
        agent_with(tools.tools, model), _settings(on_failure="patch" if level == "run" else "abort")
    ).run(
        bound("a", "broken", {"q": "x"}, **({"on_failure": "patch"} if level == "step" else {})),
        bound("b", "look", {"q": "b"}, "a"),
        bound("other", "wait", {"name": "other", "seconds": 0.1}),
        bound("more", "look", {"q": "more"}, "other"),
    )
    model.assert_used()
    assert (result["status"], result["replans"]) == ("done", 1)
    assert [step["id"] for step in result["plan"]["steps"]] == ["other", "more", "fix", "b_r2"]
    assert result["results"]["more"]["status"] == "done"
    assert tools.named("look") == ["more", "fixed", "found fixed"]
    assert result["plan"]["revision"] == 2


@pytest.mark.parametrize("level", ["step", "run"])
async def test_replan_replaces_everything_that_is_not_done(level: str) -> None:
    tools, model = Toolset(), ScriptedModel({"replanner": [FIX], "synthesizer": ["ok"]})
    result = await Thread(
        agent_with(tools.tools, model), _settings(on_failure="replan" if level == "run" else "abort")
    ).run(
        bound("z", "look", {"q": "z"}),
        bound("a", "broken", {"q": "x"}, "z", **({"on_failure": "replan"} if level == "step" else {})),
        bound("b", "look", {"q": "b"}, "a"),
        bound("c", "look", {"q": "c"}, "a"),
    )
    assert (result["status"], result["replans"]) == ("done", 1)
    assert [step["id"] for step in result["plan"]["steps"]] == ["z", "fix"]
    assert tools.named("look") == ["z", "fixed"]


async def test_retry_at_run_level_makes_attempts_and_then_asks_a_person() -> None:
    tools = Toolset()
    thread = Thread(agent_with(tools.tools), _settings(on_failure="retry", max_attempts=3))
    await thread.run(bound("a", "broken", {"q": "x"}))
    assert len(tools.calls) == 3
    assert (await thread.question())["name"] == "handle_step_failure"


@pytest.mark.parametrize("rest", [{}, {"hint": None}], ids=str)
async def test_a_decision_that_leaves_the_hint_out_is_taken_at_once(rest: dict[str, Any]) -> None:
    decided = {"decision": "skip", "reason": "not needed", **rest}
    model = ScriptedModel({"evaluator": [decided], "synthesizer": ["ok"]})
    result = await Thread(agent_with(Toolset().tools, model), _settings()).run(
        bound("a", "broken", {"q": "x"}), bound("b", "look", {"q": "x"})
    )
    assert (statuses(result)["a"], _decided(result)) == ("skipped", [("skip", "model")])


async def test_auto_without_a_model_asks_where_someone_can_be_asked_and_else_aborts() -> None:
    thread = Thread(agent_with(Toolset().tools), _settings())
    assert "__interrupt__" in await thread.run(bound("a", "broken", {"q": "x"}))
    result = await Thread(agent_with(Toolset().tools, checkpointer=None), _settings()).run(
        bound("a", "broken", {"q": "x"})
    )
    assert (result["status"], _decided(result)) == ("failed", [("abort", "policy")])


async def test_ask_without_anybody_to_ask_aborts_and_says_so() -> None:
    result = await Thread(agent_with(Toolset().tools, checkpointer=None), _settings(on_failure="ask")).run(
        bound("a", "broken", {"q": "x"})
    )
    assert result["status"] == "failed"
    assert "nobody can be asked" in result["final_answer"]


@pytest.mark.parametrize(
    ("decision", "status", "calls"), [("skip", "partial", 1), ("abort", "partial", 1), ("retry", "done", 2)]
)
async def test_auto_is_one_model_call_with_an_enum_a_reason_and_a_hint(
    decision: str, status: str, calls: int
) -> None:
    tools = Toolset()
    tools.failures = [ValueError("odd")]
    evaluator = ScriptedModel(
        {"evaluator": [{"decision": decision, "reason": "because", "hint": "try harder"}]}
    )
    agent = agent_with(tools.tools, models={"evaluator": evaluator})
    result = await Thread(agent, _settings()).run(
        bound("a", "flaky", {"q": "x"}), bound("z", "look", {"q": "z"})
    )
    assert (result["status"], len(tools.named("flaky"))) == (status, calls)
    assert len(evaluator.calls) == 1
    assert _decided(result) == [(decision, "model")]
    said = "\n".join(str(m.text) for m in evaluator.calls[0].messages)
    assert "flaky raised ValueError: odd" in said


async def test_the_hint_of_an_ordered_retry_reaches_the_agent() -> None:
    model = ScriptedModel(
        {
            "executor": ["no", "yes"],
            "evaluator": [{"decision": "retry", "reason": "r", "hint": "say yes instead"}],
            "synthesizer": ["ok"],
        }
    )
    result = await Thread(agent_with((), model), _settings()).run(
        think("a", success_criteria=[{"type": "matches", "pattern": "yes"}])
    )
    assert result["results"]["a"]["verdict"] == "met"
    assert "say yes instead" in str([c for c in model.calls if c.role == "executor"][1].messages[-1].text)


async def test_an_evaluator_that_may_not_answer_retry_for_a_write_cannot_repeat_it() -> None:
    tools = Toolset()
    tools.failures = [ValueError("odd")] * 5
    retry = {"decision": "retry", "reason": "r", "hint": "h"}
    evaluator = ScriptedModel({"evaluator": [retry, retry, retry]})
    agent = agent_with(tools.tools, models={"evaluator": evaluator})
    result = await Thread(agent, _settings(max_attempts=3)).run(bound("a", "wr", {"text": "x"}))
    assert tools.named("wr") == ["x"]
    assert (result["status"], _decided(result)) == ("failed", [("abort", "policy")])


async def test_an_evaluator_that_fails_decides_nothing_and_the_run_ends_safely() -> None:
    agent = agent_with(Toolset().tools, models={"evaluator": ScriptedModel({"evaluator": ["prose"] * 3})})
    result = await Thread(agent, _settings()).run(bound("a", "broken", {"q": "x"}))
    assert result["status"] == "failed"
    assert "could not decide" in result["final_answer"]


# --- what depends on a failure -------------------------------------------------------------


async def test_dependents_of_a_failed_step_are_blocked_and_have_no_verdict() -> None:
    tools = Toolset()
    model = ScriptedModel(
        {"replanner": [draft(outcome="cannot_plan", rationale="no way")], "synthesizer": ["ok"]}
    )
    result = await Thread(agent_with(tools.tools, model), _settings(on_failure="patch")).run(
        bound("a", "broken", {"q": "x"}),
        bound("b", "look", {"q": "b"}, "a"),
        bound("c", "look", {"q": "c"}, "b"),
        bound("d", "look", {"q": "d"}),
    )
    assert statuses(result) == {"a": "failed", "b": "blocked", "c": "blocked", "d": "done"}
    assert result["results"]["b"]["verdict"] is None
    assert "a" in result["results"]["b"]["error"]["message"]
    assert tools.named("look") == ["d"]
    assert "no way" in result["final_answer"]
    assert "Not done (something they need did not succeed):\n- b" in result["final_answer"]


async def test_when_several_steps_fail_the_weightiest_decision_is_taken_once() -> None:
    model = ScriptedModel({"replanner": [FIX], "synthesizer": ["ok"]})
    tools = Toolset()
    result = await Thread(agent_with(tools.tools, model), _settings()).run(
        bound("a", "broken", {"q": "a"}, on_failure="patch"),
        bound("b", "broken", {"q": "b"}, on_failure="patch"),
        bound("c", "look", {"q": "c"}),
    )
    assert (result["status"], result["replans"]) == ("done", 1)
    said = "\n".join(str(m.text) for m in model.calls[0].messages)
    assert "no a today" in said
    assert "no b today" in said


async def test_an_exception_in_one_step_does_not_cancel_its_running_siblings() -> None:
    tools = Toolset()

    def exits() -> str:
        """Raise what no tool should."""
        raise SystemExit(3)

    result = await Thread(agent_with([*tools.tools, make_tool(exits)]), _settings(on_failure="skip")).run(
        bound("bad", "broken", {"q": "x"}), bound("good", "wait", {"name": "good", "seconds": 0.1})
    )
    assert statuses(result) == {"bad": "skipped", "good": "done"}
    assert tools.cancelled == []


async def test_cancelling_a_run_cancels_its_tools() -> None:
    tools = Toolset()
    thread = Thread(agent_with(tools.tools), ABORT)
    given = {"plan": plan(bound("a", "wait", {"name": "w", "seconds": 30}))}
    running = asyncio.create_task(thread.send(given))
    while not tools.calls:
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert tools.cancelled == ["w"]
