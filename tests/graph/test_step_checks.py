"""Success criteria: what is met, what is met but empty, what failed, what nobody could tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain_core.tools import BaseTool
from plans import Thread, agent_with, bound, statuses, think
from toolset import Toolset

from plan_execute import Context, ScriptedModel
from plan_execute.errors import ModelUnavailableError
from plan_execute.tools.toolsets import toolset, toolset_of_each_thread

ONCE = Context(approval="never", on_failure="abort", max_attempts=1)
HERE = str(Path(__file__))

CHECKS = [
    ({"type": "not_empty"}, "x", "met", ""),
    ({"type": "not_empty"}, "  ", "failed", "empty"),
    ({"type": "not_empty"}, [], "failed", "empty"),
    ({"type": "not_empty"}, 0, "met", ""),
    ({"type": "matches", "pattern": r"^\d+$"}, "42", "met", ""),
    ({"type": "matches", "pattern": r"^\d+$"}, "4x", "failed", r"^\\d+$"),
    ({"type": "matches", "pattern": '"n": 1'}, {"n": 1}, "met", ""),
    ({"type": "json_schema", "schema": {"type": "array", "minItems": 1}}, [1], "met", ""),
    ({"type": "json_schema", "schema": {"type": "array", "minItems": 1}}, [], "failed", "schema"),
    ({"type": "expression", "expression": "temp > `3`"}, {"temp": 5}, "met", ""),
    ({"type": "expression", "expression": "temp > `3`"}, {"temp": 1}, "failed", "temp > `3`"),
    ({"type": "expression", "expression": "length(@)"}, 7, "failed", "cannot be evaluated"),
    ({"type": "tool_succeeded", "tool": "echo"}, "x", "met", ""),
    ({"type": "file_exists", "path": HERE}, "x", "met", ""),
    ({"type": "file_exists", "path": "/no/such/file"}, "x", "failed", "/no/such/file"),
    ({"type": "matches", "pattern": ".*"}, "", "met_empty", ""),
    ({"type": "json_schema", "schema": {"type": "object"}}, {}, "met_empty", ""),
]


@pytest.mark.parametrize(("criterion", "output", "verdict", "gap"), CHECKS)
async def test_a_criterion_gives_its_verdict_and_a_failed_one_its_gap(
    criterion: dict[str, Any], output: Any, verdict: str, gap: str
) -> None:
    result = await Thread(agent_with(Toolset().tools), ONCE).run(
        bound("a", "echo", {"value": output}, success_criteria=[criterion])
    )
    step = result["results"]["a"]
    assert step["verdict"] == verdict
    assert step["status"] == ("failed" if verdict == "failed" else "done")
    (outcome,) = step["criteria"]
    assert (outcome["type"], outcome["passed"]) == (criterion["type"], verdict != "failed")
    assert gap in outcome["gap"]
    if verdict == "failed":
        assert step["error"]["code"] == "check_failed"
        assert gap in step["error"]["message"]
        assert result["status"] == "failed"


async def test_references_in_criteria_are_resolved() -> None:
    result = await Thread(agent_with(Toolset().tools), ONCE).run(
        bound("a", "echo", {"value": "abc"}),
        bound("b", "echo", {"value": "xabcx"}, success_criteria=[{"type": "matches", "pattern": "x${a}x"}]),
    )
    assert result["results"]["b"]["verdict"] == "met"
    assert result["plan"]["steps"][1]["depends_on"] == ["a"]


async def test_tool_succeeded_needs_a_call_whose_last_one_succeeded() -> None:
    criterion = [{"type": "tool_succeeded", "tool": "look"}]
    lazy = ScriptedModel({"executor": ["I looked, honestly."], "synthesizer": ["ok"]})
    result = await Thread(agent_with(Toolset().tools, lazy), ONCE).run(
        think("a", tools=["look"], success_criteria=criterion)
    )
    assert result["results"]["a"]["verdict"] == "failed"
    assert "was not called" in result["results"]["a"]["error"]["message"]
    busy = ScriptedModel(
        {"executor": [ScriptedModel.tool_calls(("look", {"q": "x"})), "x"], "synthesizer": ["ok"]}
    )
    result = await Thread(agent_with(Toolset().tools, busy), ONCE).run(
        think("a", tools=["look"], success_criteria=criterion)
    )
    assert result["results"]["a"]["verdict"] == "met"


JUDGE = [{"type": "judge", "criterion": "it rhymes"}]


async def test_a_judge_sees_task_criterion_output_and_evidence_and_its_verdict_counts() -> None:
    model = ScriptedModel({"evaluator": [ScriptedModel.verdict(met=True)], "synthesizer": ["ok"]})
    result = await Thread(agent_with(Toolset().tools, model), ONCE).run(
        bound("a", "look", {"q": "moon"}, task="write a rhyme", success_criteria=JUDGE)
    )
    said = "\n".join(str(m.text) for m in model.calls[0].messages)
    assert all(word in said for word in ("write a rhyme", "it rhymes", "found moon", "look("))
    assert result["results"]["a"]["verdict"] == "met"


async def test_a_judge_that_says_no_must_say_what_is_missing_and_fails_the_step() -> None:
    verdict = ScriptedModel.verdict
    model = ScriptedModel({"evaluator": [verdict(met=False), verdict(met=False, gap="no rhyme")]})
    agent = agent_with(Toolset().tools, models={"evaluator": model})
    result = await Thread(agent, ONCE).run(bound("a", "look", {"q": "x"}, success_criteria=JUDGE))
    assert result["results"]["a"]["error"] == {"code": "check_failed", "message": "no rhyme"}
    model.assert_used()


@pytest.mark.parametrize(
    "replies",
    [[ModelUnavailableError("down")], ["maybe"] * 3, [{"met": "perhaps"}] * 3, [ValueError("broken")]],
    ids=["unreachable", "prose", "no verdict", "raises"],
)
async def test_a_failing_or_unreachable_judge_gives_unverified_and_never_success(replies: list[Any]) -> None:
    model = ScriptedModel({"evaluator": replies})
    agent = agent_with(Toolset().tools, models={"evaluator": model})
    result = await Thread(agent, ONCE).run(bound("a", "look", {"q": "x"}, success_criteria=JUDGE))
    step = result["results"]["a"]
    assert (step["status"], step["verdict"], step["criteria"][0]["passed"]) == ("done", "unverified", None)
    assert "Done, not verified" in result["final_answer"]


async def test_without_a_model_a_judge_criterion_is_unverified() -> None:
    result = await Thread(agent_with(Toolset().tools), ONCE).run(
        bound("a", "look", {"q": "x"}, success_criteria=JUDGE)
    )
    assert result["results"]["a"]["verdict"] == "unverified"


async def test_no_model_is_asked_when_something_cheaper_has_failed() -> None:
    model = ScriptedModel({"evaluator": []})
    agent = agent_with(Toolset().tools, models={"evaluator": model})
    result = await Thread(agent, ONCE).run(
        bound("a", "look", {"q": "x"}, success_criteria=[*JUDGE, {"type": "matches", "pattern": "nope"}])
    )
    assert [outcome["type"] for outcome in result["results"]["a"]["criteria"]] == ["matches"]
    assert model.calls == []


async def test_a_failed_check_feeds_its_gap_back_and_makes_another_attempt() -> None:
    model = ScriptedModel({"executor": ["roses are red", "roses are red\nbed"], "synthesizer": ["ok"]})
    context = Context(approval="never", on_failure="abort", max_attempts=3)
    result = await Thread(agent_with((), model), context).run(
        think("a", success_criteria=[{"type": "matches", "pattern": "bed"}])
    )
    assert (result["results"]["a"]["verdict"], result["results"]["a"]["attempts"]) == ("met", 2)
    assert "does not match the pattern 'bed'" in str(model.calls[1].messages[-1].text)


@pytest.mark.parametrize("attempts", [1, 2, 4])
async def test_attempts_end_at_max_attempts_of_the_step(attempts: int) -> None:
    tools = Toolset()
    result = await Thread(agent_with(tools.tools), Context(approval="never", on_failure="abort")).run(
        bound(
            "a",
            "look",
            {"q": "x"},
            success_criteria=[{"type": "matches", "pattern": "nope"}],
            max_attempts=attempts,
        )
    )
    assert (result["results"]["a"]["attempts"], len(tools.calls)) == (attempts, attempts)


async def test_a_met_empty_output_is_no_failure_and_dependents_run() -> None:
    result = await Thread(agent_with(Toolset().tools), ONCE).run(
        bound("a", "echo", {"value": []}), bound("b", "echo", {"value": "${a}"})
    )
    assert (result["status"], result["results"]["a"]["verdict"]) == ("done", "met_empty")
    assert result["results"]["b"]["output"] == []


def of_each_thread(folder: Path) -> list[BaseTool]:
    return toolset_of_each_thread("files", lambda thread: folder / (thread or "none"))


@pytest.mark.parametrize("made", [lambda folder: toolset("files", root=folder), of_each_thread])
async def test_a_file_is_looked_for_where_file_tools_put_it(made: Any, tmp_path: Path) -> None:
    def asks_for(path: str) -> dict[str, Any]:
        return {"success_criteria": [{"type": "file_exists", "path": path}]}

    result = await Thread(agent_with(made(tmp_path)), ONCE.model_copy(update={"on_failure": "skip"})).run(
        bound("a", "write_file", {"path": "a.md", "text": "x"}, **asks_for("a.md")),
        bound("b", "write_file", {"path": "b.md", "text": "x"}, **asks_for("c.md")),
    )
    assert statuses(result) == {"a": "done", "b": "skipped"}
    assert result["results"]["b"]["error"]["message"] == "there is no file 'c.md'"
