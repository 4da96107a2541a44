"""What a person rejected, or wanted to see first, no revision runs behind their back."""

from __future__ import annotations

from bounded import BoundedThread
from plans import agent_with, bound, draft, draft_step, statuses
from toolset import Toolset

from plan_execute import Context, ScriptedModel

WRITES = Context(approval="writes", max_attempts=1)


async def test_a_rejected_step_is_not_replaced_and_its_tool_asks_again_in_a_revision() -> None:
    tools = Toolset()
    model = ScriptedModel(
        {"replanner": [draft(draft_step("again", "wr", {"text": "secret"}))], "synthesizer": ["ok"]}
    )
    thread = BoundedThread(agent_with(tools.tools, model), WRITES)
    await thread.run(
        bound("w", "wr", {"text": "secret"}, approve=True),
        bound("s", "wait", {"name": "s"}),
        bound("b", "broken", {"q": "x"}, "s", on_failure="replan"),
    )
    await thread.answer("approve")
    assert (await thread.question())["name"] == "approve_step"
    result = await thread.answer({"type": "reject", "message": "never do this"})
    steps = {step["id"]: step for step in result["plan"]["steps"]}
    assert steps["w"]["call"]["args"] == {"text": "secret"}, "the rejected step stays in the plan"
    assert steps["again"]["approve"]
    assert list(await thread.ids()) == ["again"]
    result = await thread.answer({"type": "reject", "message": "I said never"})
    assert (statuses(result)["w"], statuses(result)["again"]) == ("failed", "failed")
    assert tools.named("wr") == []


async def test_a_tool_that_was_to_ask_before_it_runs_asks_in_the_steps_of_a_revision_too() -> None:
    tools = Toolset()
    model = ScriptedModel(
        {"replanner": [draft(draft_step("again", "wr", {"text": "secret"}))], "synthesizer": ["ok"]}
    )
    thread = BoundedThread(agent_with(tools.tools, model), WRITES)
    await thread.run(
        bound("w", "wr", {"text": "secret"}, "b", approve=True),
        bound("b", "broken", {"q": "x"}, on_failure="replan"),
    )
    await thread.answer("approve")
    assert (await thread.question())["name"] == "approve_step"
    assert list(await thread.ids()) == ["again"]
    assert tools.named("wr") == []
    result = await thread.answer("approve")
    assert statuses(result)["again"] == "done"
    assert tools.named("wr") == ["secret"]


async def test_a_new_plan_after_a_rejected_revision_keeps_the_skipped_steps_that_others_need() -> None:
    tools = Toolset()
    model = ScriptedModel(
        {
            "replanner": [draft(draft_step("n", "wr", {"text": "x"}))],
            "planner": [draft(draft_step("n2", "look", {"q": "y"}))],
            "synthesizer": ["ok"],
        }
    )
    thread = BoundedThread(agent_with(tools.tools, model), WRITES)
    await thread.run(
        bound("s", "broken", {"q": "1"}, on_failure="skip"),
        bound("d", "look", {"q": "d"}, "s"),
        bound("b", "broken", {"q": "2"}, "d", on_failure="replan"),
    )
    assert (await thread.question())["name"] == "approve_plan"
    result = await thread.answer({"type": "reject", "message": "do not write"})
    assert result["plan_issues"] == []
    assert [call.role for call in model.calls] == ["replanner", "planner", "synthesizer"]
    assert statuses(result) == {"s": "skipped", "d": "done", "b": "failed", "n2": "done"}
    assert tools.named("wr") == []
