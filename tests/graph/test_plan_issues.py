"""A given plan that cannot run comes back with issues, and nothing of it is executed."""

from __future__ import annotations

from typing import Any

import pytest
from plans import FREE, Thread, agent_with, bound, codes, plan, think
from toolset import Toolset, make_tool

from plan_execute import Context, ScriptedModel

LOOK = bound("a", "look", {"q": "x"})


def _bad(code: str, *steps: Any, words: tuple[str, ...] = (), **fields: Any) -> Any:
    return pytest.param(code, plan(*steps, **fields), words, id=f"{code}-{len(words)}-{'-'.join(words)[:30]}")


BAD_PLANS = [
    _bad("empty_plan", words=("no steps",)),
    _bad(
        "bad_criterion",
        {**LOOK, "success_criteria": [{"type": "judge"}]},
        words=("needs the parameter 'criterion'",),
    ),
    _bad("malformed_plan", {**LOOK, "colour": "red"}, words=("colour", "known fields", "success_criteria")),
    _bad("malformed_plan", LOOK, shape=1, words=("shape", "known fields", "steps")),
    _bad("malformed_plan", {**LOOK, "tools": []}, words=("'a'", "exactly one of", "call and tools")),
    _bad("malformed_plan", {"id": "a", "task": "t"}, words=("'a'", "it has none")),
    _bad("malformed_plan", {**LOOK, "max_attempts": "two"}, words=("max_attempts", "two")),
    _bad("malformed_plan", {**LOOK, "max_attempts": 0}, words=("max_attempts", "positive")),
    _bad("malformed_plan", {**LOOK, "timeout_s": -1.0}, words=("timeout_s", "positive")),
    _bad("malformed_plan", {**LOOK, "on_failure": "panic"}, words=("panic", "abort")),
    _bad("malformed_plan", {**LOOK, "id": 1}, words=("id", "1")),
    _bad("malformed_plan", {"id": "a", "tools": []}, words=("'a'", "needs a task")),
    _bad(
        "bad_criterion",
        bound("a", "look", {"q": "x"}, success_criteria=[{"type": "vibes"}]),
        words=("vibes", "not_empty", "judge"),
    ),
    _bad("duplicate_id", LOOK, LOOK, words=("'a'", "2 steps")),
    _bad("bad_id", bound("1a", "look", {"q": "x"}), words=("1a", "must match")),
    _bad("bad_id", bound("step-1", "look", {"q": "x"}), words=("step-1",)),
    _bad("bad_id", bound("inputs", "look", {"q": "x"}), words=("reserved", "index")),
    _bad("bad_id", bound("x" * 65, "look", {"q": "x"}), words=("must match",)),
    _bad(
        "unknown_dependency",
        bound("b", "look", {"q": "x"}, "ghost"),
        LOOK,
        words=("'b'", "ghost", "known steps: a, b"),
    ),
    _bad("self_dependency", bound("a", "look", {"q": "x"}, "a"), words=("'a'",)),
    _bad(
        "cycle",
        bound("a", "look", {"q": "x"}, "c"),
        bound("b", "look", {"q": "x"}, "a"),
        bound("c", "look", {"q": "x"}, "b"),
        words=(" -> ",),
    ),
    _bad("unknown_tool", bound("a", "fly"), words=("'a'", "fly", "known tools:", "look")),
    _bad("unknown_tool", think("a", tools=["look", "fly"]), words=("fly", "look")),
    _bad("unknown_agent", {"id": "a", "task": "t", "agent": "coder"}, words=("coder", "known agents")),
    _bad(
        "bad_arguments",
        bound("a", "look", {"query": "x"}),
        words=("'a'", "'look'", "query", "known arguments: q"),
    ),
    _bad("bad_arguments", bound("a", "look", {}), words=("'q'",)),
    _bad("bad_arguments", bound("a", "look", {"q": 7}), words=("q", "7")),
    _bad(
        "unresolved_reference",
        bound("a", "look", {"q": "${ghost.x}"}),
        words=("'a'", "ghost", "known: a, inputs"),
    ),
    _bad("unresolved_reference", bound("a", "look", {"q": "${inputs.city}"}), words=("city", "known inputs")),
    _bad("unresolved_reference", bound("a", "look", {"q": "${item}"}), words=("item",)),
    *(
        _bad("bad_reference", LOOK, bound("b", "look", {"q": text}), words=("'b', call.args", "a, b", text))
        for text in ("${'x'}", "${`5`}", "${@}", "${*}", "${[0]}", "${keys(@)}", "${type('x')}")
    ),
    *(
        _bad("bad_reference", LOOK, bound("b", "look", {"q": text}), words=("'b', call.args", text, right))
        for text, right in (
            ("{{a.x}}", "write ${a.x}, or {{$${}a.x}}"),
            ("{{ steps.a.output }}", "${a}"),
            ("$a.x", "${a.x}"),
            ("<a.x>", "${a.x}"),
            ("{a.x}", "${a.x}"),
        )
    ),
    _bad(
        "bad_reference",
        bound("a", "look", {"q": "{{city}} $inputs.city"}),
        inputs={"city": {"default": "Rome"}},
        words=("${inputs.city}",),
    ),
    _bad(
        "bad_reference",
        bound("a", "look", {"q": "see $item"}, for_each="${inputs.all}"),
        inputs={"all": {"default": []}},
        words=("$item", "${item}"),
    ),
    _bad("bad_reference", LOOK, answer="It is {{a}}.", words=("answer", "${a}")),
    _bad(
        "reference_not_a_dependency",
        bound("a", "look", {"q": "${b}"}),
        bound("b", "look", {"q": "x"}, "a"),
        words=("'a'", "'b'"),
    ),
    _bad("reference_not_a_dependency", bound("a", "look", {"q": "${a}"}), words=("'a'",)),
    _bad(
        "type_mismatch",
        bound("a", "echo", {"value": 1}, output_schema={"type": "object", "properties": {"t": {}}}),
        bound("b", "look", {"q": "${a.u}"}),
        words=("'b'", "'u'", "it has: t"),
    ),
    _bad(
        "type_mismatch",
        bound("a", "echo", {"value": 1}, output_schema={"type": "integer"}),
        bound("b", "look", {"q": "${a}"}),
        words=("integer", "string"),
    ),
    _bad("type_mismatch", LOOK, inputs={"n": {"type": "integer", "default": "x"}}, words=("'n'",)),
    _bad(
        "bad_criterion", {**LOOK, "success_criteria": [{"type": "matches", "pattern": "("}]}, words=("'('",)
    ),
    _bad("bad_criterion", {**LOOK, "success_criteria": [{"type": "matches"}]}, words=("pattern",)),
    _bad(
        "bad_criterion",
        {**LOOK, "success_criteria": [{"type": "not_empty", "path": "x"}]},
        words=("no parameter",),
    ),
    _bad(
        "bad_criterion",
        {**LOOK, "success_criteria": [{"type": "tool_succeeded", "tool": "wr"}]},
        words=("wr", "look"),
    ),
    _bad("bad_schema", {**LOOK, "output_schema": {"type": "thing"}}, words=("JSON Schema",)),
    _bad(
        "bad_schema",
        {**LOOK, "success_criteria": [{"type": "json_schema", "schema": {"type": 1}}]},
        words=("$.type",),
    ),
    _bad("bad_expression", bound("a", "look", {"q": "${b..c}"}), words=("b..c",)),
    _bad("bad_expression", bound("a", "look", {"q": "${never closed"}), words=("not closed",)),
    _bad(
        "bad_expression",
        {**LOOK, "success_criteria": [{"type": "expression", "expression": "a ||"}]},
        words=("a ||",),
    ),
    _bad("missing_input", LOOK, inputs={"city": {"type": "string"}}, words=("'city'", "no default")),
]


@pytest.mark.parametrize(("code", "given", "words"), BAD_PLANS)
async def test_an_invalid_given_plan_returns_its_issue_and_executes_nothing(
    code: str, given: dict[str, Any], words: tuple[str, ...]
) -> None:
    tools, model = Toolset(), ScriptedModel({})
    result = await Thread(agent_with(tools.tools, model), FREE).send({"plan": given})
    found = [issue for issue in result["plan_issues"] if issue["code"] == code]
    assert found, result["plan_issues"]
    assert any(all(word in issue["message"] for word in words) for issue in found), found
    assert result["status"] == "failed"
    assert code in result["final_answer"], "the answer names the issues"
    assert tools.calls == []
    assert model.calls == [], "a given plan is never repaired by a model"


async def test_a_plan_that_is_to_go_on_needs_a_model_to_plan_before_anything_runs() -> None:
    tools = Toolset()
    result = await Thread(agent_with(tools.tools), FREE).run(LOOK, complete=False)
    assert (codes(result), result["status"]) == (["missing_model"], "failed")
    assert "complete: false" in result["plan_issues"][0]["message"]
    assert tools.calls == []


async def test_more_steps_than_max_steps_are_refused() -> None:
    tools = Toolset()
    steps = [bound(f"s{n}", "look", {"q": "x"}) for n in range(3)]
    result = await Thread(agent_with(tools.tools), Context(approval="never", max_steps=2)).run(*steps)
    assert codes(result) == ["too_many_steps"]
    assert "3 steps" in result["plan_issues"][0]["message"]
    assert tools.calls == []


async def test_two_unordered_writers_of_one_resource_conflict_until_one_depends_on_the_other() -> None:
    def save(path: str, text: str) -> str:
        """Save a file."""
        return f"{path}: {text}"

    agent = agent_with([make_tool(save, effect="write", resource="file:{path}")])
    first, second = {"path": "f", "text": "1"}, {"path": "f", "text": "2"}
    result = await Thread(agent, FREE).run(bound("a", "save", first), bound("b", "save", second))
    assert codes(result) == ["write_conflict"]
    assert all(word in result["plan_issues"][0]["message"] for word in ("'a'", "'b'", "file:f"))
    result = await Thread(agent, FREE).run(bound("a", "save", first), bound("b", "save", second, "a"))
    assert result["status"] == "done"
    result = await Thread(agent, FREE).run(
        bound("a", "save", first), bound("b", "save", {**second, "path": "g"})
    )
    assert result["status"] == "done"


async def test_an_agent_step_without_a_model_is_refused_before_anything_runs() -> None:
    tools = Toolset()
    result = await Thread(agent_with(tools.tools), FREE).run(LOOK, think("b"))
    assert codes(result) == ["missing_model"]
    assert tools.calls == []


async def test_every_issue_of_a_plan_is_given_at_once_with_its_step() -> None:
    result = await Thread(agent_with(Toolset().tools), FREE).run(
        bound("a", "fly"), bound("b", "look", {"q": 1}), bound("c", "look", {"q": "${ghost}"}, "nobody")
    )
    assert {(issue["step_id"], issue["code"]) for issue in result["plan_issues"]} == {
        ("a", "unknown_tool"),
        ("b", "bad_arguments"),
        ("c", "unknown_dependency"),
        ("c", "unresolved_reference"),
    }


@pytest.mark.parametrize("given", [[], "a plan", 7, {"steps": {}}, {"steps": [1]}, {"goal": "no steps"}])
async def test_something_that_is_no_plan_at_all_is_malformed(given: Any) -> None:
    result = await Thread(agent_with(Toolset().tools), FREE).send({"plan": given, "goal": "g"})
    assert (result["status"], codes(result)[0]) == ("failed", "malformed_plan")


async def test_a_value_only_known_at_run_time_is_checked_against_the_tool_at_run_time() -> None:
    tools = Toolset()
    result = await Thread(agent_with(tools.tools), Context(approval="never", on_failure="abort")).run(
        bound("a", "echo", {"value": {"n": 1}}), bound("b", "slow", {"name": "x", "seconds": "${a}"})
    )
    assert result["results"]["b"]["error"]["code"] == "bad_arguments"
    assert tools.named("slow") == []
    assert result["results"]["b"]["attempts"] == 1, "the same arguments cannot get better"


async def test_a_path_that_the_output_lacks_fails_the_step_and_is_never_a_silent_literal() -> None:
    tools = Toolset()
    result = await Thread(agent_with(tools.tools), Context(approval="never", on_failure="abort")).run(
        bound("a", "echo", {"value": {"n": 1}}), bound("b", "look", {"q": "${a.m}"})
    )
    error = result["results"]["b"]["error"]
    assert error["code"] == "unresolved_reference"
    assert "'m'" in error["message"]
    assert "n" in error["message"]
    assert tools.named("look") == []


async def test_an_invalid_plan_leaves_the_thread_free_for_a_better_one() -> None:
    thread = Thread(agent_with(Toolset().tools), FREE)
    assert codes(await thread.run(bound("a", "fly"))) == ["unknown_tool"]
    result = await thread.run(LOOK)
    assert (result["status"], result["plan_issues"]) == ("done", [])
