"""A person decides about single steps: failures, approvals of steps, several questions at once."""

from __future__ import annotations

from typing import Any

import pytest
from plans import Thread, agent_with, bound, draft, draft_step, statuses, think
from toolset import Toolset

from plan_execute import Context, ScriptedModel
from plan_execute.errors import InvalidAnswerError

ASK = Context(approval="never", on_failure="ask", max_attempts=1)


async def _failed(tools: Toolset, *more: Any, **options: Any) -> Thread:
    tools.failures = [ValueError("odd")]
    thread = Thread(agent_with(tools.tools, **options), ASK)
    result = await thread.run(bound("a", "flaky", {"q": "x"}), bound("b", "look", {"q": "${a}"}), *more)
    assert "__interrupt__" in result
    return thread


async def test_the_question_about_a_failure_names_step_error_and_every_decision() -> None:
    thread = await _failed(Toolset(), model=ScriptedModel({}))
    question = await thread.question()
    assert question["name"] == "handle_step_failure"
    assert set(question["args"]) == {"step_id", "error", "decision", "instructions", "output"}
    assert question["args"]["step_id"] == "a"
    assert question["args"]["error"]["code"] == "tool_failed"
    for word in ("odd", "**a**", "`retry`", "`skip`", "`patch`", "`replan`", "`supply`", "`abort`"):
        assert word in question["description"]


@pytest.mark.parametrize(
    "answer",
    [
        "approve",
        {"decision": "retry"},
        {"type": "edit", "args": {"decision": "retry"}},
        [{"type": "accept", "args": None}],
        {"decisions": [{"type": "edit", "edited_action": {"name": "x", "args": {"decision": "retry"}}}]},
        {"type": "respond", "message": "again, please"},
    ],
    ids=str,
)
async def test_retry_makes_another_attempt(answer: Any) -> None:
    tools = Toolset()
    result = await (await _failed(tools)).answer(answer)
    assert (result["status"], statuses(result)) == ("done", {"a": "done", "b": "done"})
    assert tools.calls == [("flaky", "x"), ("flaky", "x"), ("look", "got x")]
    assert result["results"]["a"]["attempts"] == 2


async def test_skip_goes_on_without_the_step() -> None:
    tools = Toolset()
    thread = Thread(agent_with(tools.tools), ASK)
    await thread.run(bound("a", "broken", {"q": "x"}), bound("b", "echo", {"value": "${a}"}))
    result = await thread.answer({"decision": "skip"})
    assert (result["status"], statuses(result)) == ("partial", {"a": "skipped", "b": "done"})


@pytest.mark.parametrize("output", [{"n": 1}, "by hand", None, 0, ""])
async def test_supply_takes_the_output_by_hand_and_never_calls_it_verified(output: Any) -> None:
    tools = Toolset()
    thread = Thread(agent_with(tools.tools), ASK)
    await thread.run(bound("a", "broken", {"q": "x"}), bound("b", "echo", {"value": "${a}"}))
    result = await thread.answer({"type": "edit", "args": {"decision": "supply", "output": output}})
    assert (result["status"], result["results"]["b"]["output"]) == ("done", output)
    assert result["results"]["a"]["verdict"] == "unverified"
    assert result["results"]["a"]["output"] == output


@pytest.mark.parametrize(
    "answer",
    [
        {"decision": "abort"},
        "reject",
        [{"type": "ignore", "args": None}],
        {"type": "reject", "message": "enough"},
    ],
)
async def test_abort_and_every_rejection_end_the_run_safely(answer: Any) -> None:
    tools = Toolset()
    result = await (await _failed(tools)).answer(answer)
    assert (result["status"], result["results"]["a"]["status"]) == ("failed", "failed")
    assert tools.named("look") == []
    if isinstance(answer, dict) and "message" in answer:
        assert "enough" in str(result["audit"]) + result["final_answer"]


@pytest.mark.parametrize("decision", ["patch", "replan"])
async def test_patch_and_replan_revise_the_plan_with_the_persons_instructions(decision: str) -> None:
    tools = Toolset()
    model = ScriptedModel(
        {"replanner": [draft(draft_step("fix", "look", {"q": "fixed"}))], "synthesizer": ["ok"]}
    )
    thread = await _failed(tools, model=model)
    result = await thread.answer(
        {"type": "edit", "args": {"decision": decision, "instructions": "use the other door"}}
    )
    assert (result["status"], result["replans"], tools.named("look")) == ("done", 1, ["fixed"])
    assert "use the other door" in "\n".join(str(m.text) for m in model.calls[0].messages)


async def test_instructions_of_a_retry_reach_the_agent() -> None:
    model = ScriptedModel({"executor": ["no", "yes"], "synthesizer": ["ok"]})
    thread = Thread(agent_with((), model), ASK)
    await thread.run(think("a", success_criteria=[{"type": "matches", "pattern": "yes"}]))
    result = await thread.answer({"type": "respond", "message": "just say yes"})
    assert result["results"]["a"]["verdict"] == "met"
    assert "just say yes" in str([c for c in model.calls if c.role == "executor"][1].messages[-1].text)


async def test_a_question_can_follow_a_question() -> None:
    tools = Toolset()
    thread = Thread(agent_with(tools.tools), ASK)
    await thread.run(bound("a", "broken", {"q": "x"}), bound("b", "look", {"q": "b"}, "a"))
    for n in range(3):
        result = await thread.answer({"decision": "retry"})
        assert "__interrupt__" in result
        assert len(tools.named("broken")) == n + 2
    result = await thread.answer({"decision": "skip"})
    assert (result["status"], result["results"]["a"]["attempts"]) == ("partial", 4)
    assert tools.named("look") == ["b"]


# --- several at once ---------------------------------------------------------------------


def _many(count: int) -> list[Any]:
    failing = [bound(f"f{n}", "broken", {"q": f"f{n}"}) for n in range(count)]
    after = [bound(f"g{n}", "look", {"q": f"g{n}"}, f"f{n}") for n in range(count)]
    return [
        *failing,
        *after,
        bound("free", "look", {"q": "free"}),
        bound("more", "look", {"q": "more"}, "free"),
    ]


async def test_several_questions_are_open_at_once_and_other_branches_go_on() -> None:
    tools = Toolset()
    thread = Thread(agent_with(tools.tools), ASK)
    await thread.run(*_many(3))
    assert set(await thread.ids()) == {"f0", "f1", "f2"}
    assert sorted(tools.named("look")) == ["free", "more"]


@pytest.mark.parametrize("order", [["f0", "f1", "f2"], ["f2", "f0", "f1"], ["f1", "f2", "f0"]])
async def test_questions_are_answered_by_id_in_any_order_and_nothing_finished_runs_again(
    order: list[str],
) -> None:
    tools = Toolset()
    thread = Thread(agent_with(tools.tools), ASK)
    result = await thread.run(*_many(3))
    for place, step_id in enumerate(order):
        ids = await thread.ids()
        assert set(ids) == set(order[place:])
        result = await thread.answer({ids[step_id]: {"decision": "skip"}})
        assert f"g{step_id[1]}" in tools.named("look"), "its dependents run at once"
    assert result["status"] == "partial"
    assert sorted(tools.calls) == sorted(
        [("broken", f"f{n}") for n in range(3)] + [("look", q) for q in ("free", "more", "g0", "g1", "g2")]
    )


async def test_several_questions_are_answered_together_each_with_its_own_decision() -> None:
    tools = Toolset()
    thread = Thread(agent_with(tools.tools), ASK)
    await thread.run(*_many(3))
    ids = await thread.ids()
    result = await thread.answer(
        {
            ids["f0"]: {"decision": "skip"},
            ids["f1"]: {"type": "edit", "args": {"decision": "supply", "output": "mine"}},
            ids["f2"]: {"decision": "retry"},
        }
    )
    assert statuses(result)["f0"] == "skipped"
    assert result["results"]["f1"]["output"] == "mine"
    assert tools.named("broken").count("f2") == 2
    assert set(await thread.ids()) == {"f2"}


@pytest.mark.parametrize(
    "answer", ["approve", {"decision": "skip"}, [{"type": "accept"}], {"decisions": [{"type": "approve"}]}]
)
async def test_an_answer_without_an_id_is_refused_while_several_are_open(answer: Any) -> None:
    thread = Thread(agent_with(Toolset().tools), ASK)
    await thread.run(*_many(2))
    with pytest.raises(InvalidAnswerError, match="by id"):
        await thread.answer(answer)
    assert set(await thread.ids()) == {"f0", "f1"}


async def test_one_bad_answer_among_several_refuses_them_all() -> None:
    tools = Toolset()
    thread = Thread(agent_with(tools.tools), ASK)
    await thread.run(*_many(2))
    ids = await thread.ids()
    with pytest.raises(InvalidAnswerError):
        await thread.answer({ids["f0"]: {"decision": "retry"}, ids["f1"]: {"decision": "explode"}})
    assert set(await thread.ids()) == {"f0", "f1"}
    assert len(tools.named("broken")) == 2


@pytest.mark.parametrize(
    "answer",
    [
        {"decision": "explode"},
        {"decision": "supply"},
        {"type": "edit", "args": {"decision": "supply"}},
        {"decision": None},
    ],
    ids=str,
)
async def test_a_bad_decision_is_refused_naming_the_known_ones(answer: Any) -> None:
    thread = await _failed(Toolset())
    with pytest.raises(InvalidAnswerError, match=r"abort, patch, replan, retry, skip, supply|needs the args"):
        await thread.answer(answer)
    assert (await thread.answer({"decision": "retry"}))["status"] == "done"


async def test_abort_of_one_question_ends_the_run_though_others_are_open() -> None:
    tools = Toolset()
    thread = Thread(agent_with(tools.tools), ASK)
    await thread.run(*_many(2))
    ids = await thread.ids()
    result = await thread.answer({ids["f0"]: {"decision": "abort"}})
    while "__interrupt__" in result:
        ids = await thread.ids()
        result = await thread.answer({next(iter(ids.values())): {"decision": "skip"}})
    assert result["status"] == "partial"
    assert "g0" not in tools.named("look")


# --- approve: true -------------------------------------------------------------------------


async def test_a_step_with_approve_asks_before_it_runs_while_others_go_on() -> None:
    tools = Toolset()
    thread = Thread(agent_with(tools.tools), ASK)
    await thread.run(
        bound("a", "look", {"q": "a"}, approve=True, task="the step"), bound("z", "look", {"q": "z"})
    )
    question = await thread.question()
    assert (question["name"], tools.named("look")) == ("approve_step", ["z"])
    assert question["args"]["step"]["id"] == "a"
    assert "the step" in question["description"]
    result = await thread.answer("approve")
    assert (result["status"], sorted(tools.named("look"))) == ("done", ["a", "z"])


@pytest.mark.parametrize(
    "args", [{"call": {"args": {"q": "edited"}}}, {"step": {"call": {"args": {"q": "edited"}}}}]
)
async def test_an_edit_of_a_step_changes_its_arguments(args: Any) -> None:
    tools = Toolset()
    thread = Thread(agent_with(tools.tools), ASK)
    await thread.run(bound("a", "look", {"q": "a"}, approve=True))
    result = await thread.answer({"type": "edit", "args": args})
    assert (result["status"], tools.named("look")) == ("done", ["edited"])


async def test_an_edit_of_a_step_cannot_give_it_another_tool() -> None:
    tools = Toolset()
    thread = Thread(agent_with(tools.tools), ASK)
    await thread.run(bound("a", "put", {"text": "a"}, approve=True))
    await thread.answer({"type": "edit", "args": {"call": {"tool": "wr", "args": {"text": "evil"}}}})
    assert tools.named("wr") == []


async def test_an_edit_of_an_agent_step_changes_its_task() -> None:
    model = ScriptedModel({"executor": ["ok"], "synthesizer": ["ok"]})
    thread = Thread(agent_with((), model), ASK)
    await thread.run(think("a", approve=True))
    await thread.answer({"type": "edit", "args": {"task": "another task"}})
    assert "another task" in str(model.calls[0].messages[-1].text)


async def test_a_rejected_step_fails_with_the_reason_and_blocks_its_dependents() -> None:
    tools = Toolset()
    thread = Thread(agent_with(tools.tools), ASK)
    await thread.run(bound("a", "look", {"q": "a"}, approve=True), bound("b", "look", {"q": "b"}, "a"))
    result = await thread.answer({"type": "reject", "message": "too risky"})
    assert (result["status"], tools.calls) == ("failed", [])
    assert statuses(result) == {"a": "failed", "b": "blocked"}
    assert result["results"]["a"]["error"] == {
        "code": "rejected",
        "message": "a person rejected this step: too risky",
    }


async def test_an_approved_step_that_fails_asks_again_without_mixing_up_the_answers() -> None:
    tools = Toolset()
    tools.failures = [ValueError("odd"), ValueError("odd")]
    thread = Thread(agent_with(tools.tools), ASK)
    await thread.run(bound("a", "flaky", {"q": "a"}, approve=True))
    await thread.answer({"type": "edit", "args": {"call": {"args": {"q": "edited"}}}})
    assert (await thread.question())["name"] == "handle_step_failure"
    await thread.answer({"decision": "retry"})
    assert (await thread.question())["name"] == "handle_step_failure"
    result = await thread.answer({"decision": "retry"})
    assert (result["status"], tools.named("flaky")) == ("done", ["edited"] * 3)


async def test_approve_step_without_anybody_to_ask_is_refused_before_anything_runs() -> None:
    from plan_execute.errors import ApprovalImpossibleError

    tools = Toolset()
    with pytest.raises(ApprovalImpossibleError):
        await Thread(agent_with(tools.tools, checkpointer=None), ASK).run(
            bound("z", "look", {"q": "z"}), bound("a", "look", {"q": "a"}, "z", approve=True)
        )
    assert tools.calls == []
