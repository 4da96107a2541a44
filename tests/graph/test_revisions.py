"""Revisions: finished work stays, ids are never reused, and there is an end to them."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.tools import BaseTool
from plans import Thread, agent_with, bound, draft, draft_step, statuses, think
from toolset import Toolset, make_tool

from plan_execute import Context, ScriptedModel


def _settings(**fields: Any) -> Context:
    return Context(**{"approval": "never", "max_attempts": 1, "on_failure": "replan", **fields})


def _again(n: int) -> dict[str, Any]:
    return draft(draft_step("a", "broken", {"q": f"try {n}"}))


@pytest.mark.parametrize("limit", [0, 1, 2])
async def test_max_replans_is_hard_and_ends_with_an_answer(limit: int) -> None:
    tools = Toolset()
    model = ScriptedModel({"replanner": [_again(n) for n in range(limit)], "synthesizer": ["written"]})
    result = await Thread(agent_with(tools.tools, model), _settings(max_replans=limit)).run(
        bound("z", "look", {"q": "z"}), bound("a", "broken", {"q": "x"}, "z")
    )
    model.assert_used()
    assert (result["status"], result["replans"], len(tools.named("broken"))) == ("partial", limit, limit + 1)
    assert f"max_replans={limit}" in result["final_answer"]
    assert "Failed:" in result["final_answer"], "our own report, whatever the model wrote"
    assert "written" in result["final_answer"]


async def test_finished_steps_and_their_results_are_untouched_and_can_be_referred_to() -> None:
    tools = Toolset()
    model = ScriptedModel(
        {"replanner": [draft(draft_step("b", "look", {"q": "${z}"}, "z"))], "synthesizer": ["ok"]}
    )
    thread = Thread(agent_with(tools.tools, model), _settings())
    given = [bound("z", "look", {"q": "z"}), bound("b", "broken", {"q": "x"}, "z")]
    result = await thread.run(*given)
    assert tools.named("look") == ["z", "found z"], "z ran once"
    assert result["plan"]["steps"][0] == {**given[0], "task": ""}
    assert statuses(result) == {"z": "done", "b": "failed", "b_r2": "done"}
    assert result["status"] == "done"


async def test_a_finished_step_that_a_revision_writes_again_does_not_run_again() -> None:
    tools, again = Toolset(), draft_step("z", "look", {"q": "z"})
    replies = [draft(again), draft(again, draft_step("b", "look", {"q": "${z}"}, "z"))]
    model = ScriptedModel({"replanner": replies, "synthesizer": ["ok"]})
    result = await Thread(agent_with(tools.tools, model), _settings()).run(
        bound("z", "look", {"q": "z"}), bound("b", "broken", {"q": "x"}, "z")
    )
    assert "all these steps are in the plan already" in str(model.calls[1].messages[-1].content)
    assert statuses(result) == {"z": "done", "b": "failed", "b_r2": "done"}
    assert tools.named("look") == ["z", "found z"]


async def test_new_steps_get_new_ids_over_several_revisions() -> None:
    tools = Toolset()
    replies = [draft(draft_step("a", "broken", {"q": "2"}), draft_step("b", "look", {"q": "${a}"}, "a"))]
    replies += [draft(draft_step("a", "look", {"q": "3"}), draft_step("b", "look", {"q": "${a}"}, "a"))]
    model = ScriptedModel({"replanner": replies, "synthesizer": ["ok"]})
    result = await Thread(agent_with(tools.tools, model), _settings()).run(bound("a", "broken", {"q": "1"}))
    assert [step["id"] for step in result["plan"]["steps"]] == ["a_r3", "b_r3"]
    assert result["plan"]["steps"][1]["call"]["args"] == {"q": "${a_r3}"}
    assert result["plan"]["steps"][1]["depends_on"] == ["a_r3"]
    assert result["plan"]["revision"] == 3
    assert (result["status"], result["replans"]) == ("done", 2)
    assert tools.named("look") == ["3", "found 3"]


async def test_the_replanner_sees_what_is_done_what_is_open_and_why() -> None:
    model = ScriptedModel({"replanner": [draft(draft_step("b", "look", {"q": "y"}))], "synthesizer": ["ok"]})
    await Thread(agent_with(Toolset().tools, model), _settings()).run(
        bound("z", "look", {"q": "zed"}),
        bound("a", "broken", {"q": "x"}, "z", task="the open one"),
        goal="the big goal",
    )
    said = "\n".join(str(m.text) for m in model.calls[0].messages)
    assert all(
        word in said
        for word in (
            "the big goal",
            "found zed",
            "the open one",
            "broken raised ValueError: no x today",
            "wr(text: string) -> string [write]",
        )
    )


async def test_an_invalid_revision_goes_back_to_the_replanner_with_its_issues() -> None:
    model = ScriptedModel(
        {
            "replanner": [draft(draft_step("b", "fly")), draft(draft_step("b", "look", {"q": "y"}))],
            "synthesizer": ["ok"],
        }
    )
    result = await Thread(agent_with(Toolset().tools, model), _settings()).run(
        bound("a", "broken", {"q": "x"})
    )
    assert (result["status"], result["replans"]) == ("done", 1)
    assert "unknown_tool" in "\n".join(str(m.text) for m in model.calls[1].messages)


async def test_a_replanner_that_never_writes_a_valid_revision_ends_the_run_with_a_report() -> None:
    model = ScriptedModel({"replanner": [draft(draft_step("b", "fly"))] * 3, "synthesizer": ["ok"]})
    result = await Thread(agent_with(Toolset().tools, model), _settings()).run(
        bound("z", "look", {"q": "z"}), bound("a", "broken", {"q": "x"}, "z")
    )
    model.assert_used()
    assert (result["status"], [i["code"] for i in result["plan_issues"]]) == ("partial", ["unknown_tool"])
    assert "unknown_tool" in result["final_answer"]


@pytest.mark.parametrize(
    "reply",
    [draft(outcome="cannot_plan", rationale="hopeless now"), ValueError("hopeless now")],
    ids=["says so", "raises"],
)
async def test_a_replanner_that_cannot_go_on_ends_the_run_with_the_reason(reply: Any) -> None:
    model = ScriptedModel({"replanner": [reply], "synthesizer": ["ok"]})
    result = await Thread(agent_with(Toolset().tools, model), _settings()).run(
        bound("a", "broken", {"q": "x"})
    )
    assert result["status"] == "failed"
    assert "hopeless now" in result["final_answer"]


async def test_without_a_model_a_replan_ends_the_run_and_says_why() -> None:
    result = await Thread(agent_with(Toolset().tools), _settings()).run(
        bound("z", "look", {"q": "z"}), bound("a", "broken", {"q": "x"}, "z")
    )
    assert (result["status"], result["replans"]) == ("partial", 0)
    assert "no model to revise" in result["final_answer"]


def _on_one_board(tools: Toolset) -> list[BaseTool]:
    """Let ``wr`` say what it touches."""
    declared = {"effect": "write", "resource": "board"}
    return [
        tool.model_copy(update={"metadata": declared}) if tool.name == "wr" else tool for tool in tools.tools
    ]


async def test_a_write_whose_resource_follows_its_arguments_is_asked_about_when_a_revision_changes_them() -> (
    None
):
    tools = Toolset()
    tools.failures = [ValueError("odd")]
    on_a_page = [
        tool.model_copy(update={"metadata": {"effect": "write", "resource": "page {text}"}})
        if tool.name == "wr"
        else tool
        for tool in tools.tools
    ]
    model = ScriptedModel(
        {"replanner": [draft(draft_step("b", "wr", {"text": "evil"}))], "synthesizer": ["ok"]}
    )
    thread = Thread(agent_with(on_a_page, model), _settings(approval="writes"))
    await thread.run(bound("a", "wr", {"text": "first"}))
    await thread.answer("approve")
    assert tools.named("wr") == ["first"]
    assert (await thread.question())["name"] == "approve_plan"
    assert (await thread.answer("approve"))["results"]["b"]["status"] == "done"


@pytest.mark.parametrize("first", ["call", "agent"])
async def test_the_same_call_again_and_a_call_that_an_agent_step_could_have_made_need_no_new_approval(
    first: str,
) -> None:
    tools = Toolset()
    tools.failures = [ValueError("odd")]
    same = draft(draft_step("b", "wr", {"text": "first"}))
    call = ScriptedModel.tool_calls(("wr", {"text": "first"}))
    model = ScriptedModel({"replanner": [same], "executor": [call, ValueError("x")], "synthesizer": ["ok"]})
    thread = Thread(agent_with(tools.tools, model), _settings(approval="writes"))
    await thread.run(bound("a", "wr", {"text": "first"}) if first == "call" else think("a", tools=["wr"]))
    result = await thread.answer("approve")
    assert result["results"]["b"]["status"] == "done"


async def test_a_revision_within_the_approval_needs_no_new_one_and_one_beyond_it_does() -> None:
    tools = Toolset()
    tools.failures = [ValueError("odd")] * 2
    within = draft(draft_step("b", "wr", {"text": "again"}))
    beyond = draft(draft_step("c", "look", {"q": "x"}), draft_step("d", "wr", {"text": "more"}))
    model = ScriptedModel({"replanner": [within, beyond], "synthesizer": ["ok"]})
    thread = Thread(agent_with(_on_one_board(tools), model), _settings(approval="writes"))
    await thread.run(bound("a", "wr", {"text": "first"}))
    result = await thread.answer("approve")
    assert tools.named("wr") == ["first", "again"], "the revision within the grant ran unasked"
    assert "__interrupt__" in result, "a tool that was not approved is asked about, though it only reads"
    assert "c" in (await thread.question())["description"]
    result = await thread.answer("approve")
    assert (result["status"], tools.named("wr")) == ("done", ["first", "again", "more"])


async def test_a_revision_that_writes_to_a_resource_that_was_not_approved_is_asked_about() -> None:
    saved: list[str] = []

    def save(path: str, text: str) -> str:
        """Save."""
        saved.append(path)
        raise ValueError("disk full")

    tools = [*Toolset().tools, make_tool(save, effect="write", resource="file:{path}")]
    elsewhere = draft(draft_step("b", "save", {"path": "/etc/hosts", "text": "${z}"}, "z"))
    model = ScriptedModel({"replanner": [elsewhere]}, strict=False)
    thread = Thread(agent_with(tools, models={"replanner": model}), _settings(approval="writes"))
    await thread.run(bound("z", "look", {"q": "z"}), bound("a", "save", {"path": "notes", "text": "${z}"}))
    result = await thread.answer("approve")
    assert saved == ["notes"]
    assert "__interrupt__" in result


async def test_a_persons_rejection_of_a_revision_is_not_overruled_by_a_replan() -> None:
    tools = Toolset()
    model = ScriptedModel({"replanner": [draft(draft_step("b", "wr", {"text": "evil"}))]})
    thread = Thread(agent_with(tools.tools, models={"replanner": model}), _settings(approval="writes"))
    await thread.run(bound("z", "look", {"q": "z"}), bound("a", "broken", {"q": "x"}, "z"))
    result = await thread.answer({"type": "reject", "message": "stop it"})
    assert result["status"] == "rejected"
    assert tools.named("wr") == []
    assert "stop it" in result["final_answer"]


async def test_a_step_whose_approval_a_person_refused_is_not_replanned() -> None:
    tools = Toolset()
    model = ScriptedModel(
        {"replanner": [draft(draft_step("b", "look", {"q": "evil"}))], "synthesizer": ["ok"]}
    )
    thread = Thread(agent_with(tools.tools, model), _settings())
    await thread.run(bound("a", "look", {"q": "x"}, approve=True))
    result = await thread.answer({"type": "reject", "message": "not this"})
    assert result["results"]["a"]["error"]["code"] == "rejected"
    assert (tools.calls, result["replans"], result["status"]) == ([], 0, "failed")


async def test_the_audit_tells_what_triggered_each_revision_and_what_it_changed() -> None:
    model = ScriptedModel({"replanner": [draft(draft_step("b", "look", {"q": "y"}))], "synthesizer": ["ok"]})
    result = await Thread(agent_with(Toolset().tools, model), _settings()).run(
        bound("a", "broken", {"q": "x"})
    )
    (event,) = [event for event in result["audit"] if event["event"] == "plan_revised"]
    assert (event["decision"], event["revision"]) == ("replan", 2)
    assert event["difference"] == {"added": ["b"], "removed": ["a"], "changed": []}
    assert "no x today" in event["trigger"]


async def test_an_agent_step_that_fails_is_replanned_like_any_other() -> None:
    model = ScriptedModel(
        {"executor": ["no"], "replanner": [draft(draft_step("b", "look", {"q": "y"}))], "synthesizer": ["ok"]}
    )
    result = await Thread(agent_with(Toolset().tools, model), _settings()).run(
        think("a", success_criteria=[{"type": "matches", "pattern": "yes"}])
    )
    assert (result["status"], statuses(result)) == ("done", {"a": "failed", "b": "done"})


async def test_the_answer_of_a_run_that_is_done_after_a_revision_holds_no_report_of_what_was_replaced() -> (
    None
):
    tools = Toolset()
    model = ScriptedModel(
        {"replanner": [draft(draft_step("m", "look", {"q": "y"}))], "synthesizer": ["All is well."]}
    )
    result = await Thread(agent_with(tools.tools, model), Context(approval="never", max_attempts=1)).run(
        bound("b", "broken", {"q": "x"}, on_failure="replan")
    )
    assert (result["status"], result["final_answer"]) == ("done", "All is well.")
