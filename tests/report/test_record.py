"""The record of a run says what the state and the store say, and nothing else."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from plans import FREE, Thread, agent_with, bound, draft, draft_step
from toolset import Toolset, make_tool

from plan_execute import Context, ScriptedModel, create_plan_execute_agent
from plan_execute.errors import ConfigurationError, ThreadNotFoundError
from plan_execute.report import aread_run, make_report, read_run, run_record, write_report
from plan_execute.report.words import EVENTS

CHECKOUT = Path(__file__).parents[2]


def by_id(record):
    return {step["id"]: step for step in record["steps"]}


def test_a_run_is_plain_json_that_reads_back_the_same(small, revised):
    for record in (small, revised):
        assert json.loads(json.dumps(record)) == record


def test_steps_have_their_outcome_inputs_output_criteria_and_cost(small):
    steps = by_id(small)
    assert {name: step["outcome"] for name, step in steps.items()} == {
        "weather": "done",
        "prices": "done",
        "pack": "done",
        "letter": "unverified",
    }
    assert small["outcomes"] == {"done": 3, "unverified": 1}
    assert steps["weather"]["output"] == {"name": "weather", "found": ["weather", 2, None]}
    (judged,) = steps["pack"]["criteria"]
    assert (judged["type"], judged["wanted"], judged["passed"]) == ("judge", "names a tent", True)
    assert steps["pack"]["usage"]["model_calls"] == 2, "its own and the judge's"
    assert steps["weather"]["evidence"][0]["args"] == {"name": "weather"}
    assert small["plan"]["source"] == "planner"
    assert small["status_words"] == "The run ended, and its work is done."


def test_a_revised_run_keeps_its_dropped_steps_with_what_they_were_to_do(revised):
    steps = by_id(revised)
    assert [name for name, step in steps.items() if not step["in_plan"]] == ["fetch", "merge"]
    fetch = steps["fetch"]
    assert (fetch["task"], fetch["depends_on"], fetch["outcome"]) == ("Fetch them", ["list"], "failed")
    assert [made["decision"] for made in fetch["tries"]] == ["retry", "replan"]
    assert steps["merge"]["outcome"] == "blocked"
    assert revised["outcomes"] == {"done": 2, "skipped": 1}, "of the plan as it is now"
    assert [link["step_id"] for link in revised["timeline"]["critical_path"]][-1] == "fetch_r2"
    written = [one for one in revised["decisions"] if one["event"] == "plan_revised"]
    assert written[0]["difference"] == {"added": ["fetch_r2"], "removed": ["fetch", "merge"]}


def test_references_are_shown_with_what_they_stood_for(revised):
    assert by_id(revised)["fetch"]["inputs"] == [{"expression": "list", "value": "found files"}]
    assert by_id(revised)["merge"]["inputs"] == [{"expression": "fetch", "value": None}]


def test_a_waiting_run_says_so_and_shows_the_attempts_that_only_the_store_has(waiting):
    assert (waiting["status"], waiting["ended"]) == ("waiting", False)
    (question,) = waiting["questions"]
    assert (question["name"], question["step_id"]) == ("handle_step_failure", "fetch")
    fetch = by_id(waiting)["fetch"]
    assert (fetch["outcome"], fetch["attempts"], fetch["error"]["code"]) == ("waiting", 1, "tool_failed")
    assert by_id(waiting)["merge"]["outcome"] == "open"


def test_the_state_alone_is_enough_and_says_less():
    agent = create_plan_execute_agent(None, tools=Toolset().tools, checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "plain"}}
    steps = [bound("a", "look", {"q": "x"}), bound("b", "echo", {"value": "${a}"})]
    result = agent.invoke({"plan": {"goal": "look", "steps": steps}}, config, context=FREE)
    record = run_record(result)
    assert (record["thread"], record["outcomes"]) == ("", {"done": 2})
    assert run_record(agent.get_state(config))["thread"] == "plain"
    assert read_run(agent, config)["approvals"][0]["decision"] == "not_required"
    assert "<!DOCTYPE html>" in make_report(agent.get_state(config))
    assert make_report(result, format="md").startswith("# look\n")
    assert json.loads(make_report(result, format="json"))["goal"] == "look"


def test_an_unknown_format_names_the_known_ones_and_a_missing_thread_is_not_found():
    agent = agent_with(Toolset().tools)
    with pytest.raises(ConfigurationError, match=r"'pdf'; known formats: html, json, md"):
        make_report({}, format="pdf")
    with pytest.raises(ThreadNotFoundError, match="'nowhere'"):
        read_run(agent, {"configurable": {"thread_id": "nowhere"}})


def test_what_invoke_returns_at_a_question_is_a_waiting_run():
    agent = agent_with(Toolset().tools)
    steps = [bound("a", "wr", {"text": "x"})]
    config = {"configurable": {"thread_id": "t"}}
    result = agent.invoke({"plan": {"goal": "write", "steps": steps}}, config)
    record = run_record(result)
    assert (record["status"], record["questions"][0]["name"]) == ("waiting", "approve_plan")


def test_an_empty_state_is_a_run_that_is_being_planned():
    record = run_record({})
    assert (record["status"], record["steps"], record["plan"]) == ("planning", [], None)
    for form in ("html", "md", "json"):
        assert make_report({}, format=form)


async def test_a_refused_plan_is_shown_as_it_was_written_with_its_issues():
    thread = Thread(agent_with(Toolset().tools), FREE)
    steps = [
        bound("a", "nothing", {}, "b"),
        bound("b", "look", {"q": "${a.b"}, "a"),
        bound("a", "look", {"q": 1}),
    ]
    await thread.run(*steps)
    record = await aread_run(thread.agent, thread.config)
    assert record["refused_plan"]
    assert {issue["code"] for issue in record["plan_issues"]} >= {"duplicate_id"}
    assert [step["id"] for step in record["steps"]] == ["a", "b", "a"]
    assert {step["outcome"] for step in record["steps"]} == {"open"}
    assert "This plan was refused" in write_report(record)


@pytest.mark.parametrize(
    "plan",
    [
        {"steps": "none"},
        {"steps": [1, None, {"id": 3}, {"task": ["x"]}]},
        {
            "id": [],
            "revision": {},
            "steps": [{"id": "a", "depends_on": "b", "call": 7, "success_criteria": [3]}],
        },
        {"steps": [{"id": "a", "tools": 5, "agent": {}, "plan": 1, "for_each": "${", "when": 2}]},
    ],
)
def test_a_plan_that_is_none_is_shown_all_the_same(plan):
    state = {"plan": plan, "plan_issues": [{"code": "malformed_plan", "message": "no"}], "status": "failed"}
    for form in ("html", "md", "json"):
        assert "malformed_plan" in make_report(state, format=form)


async def test_decisions_about_an_earlier_goal_of_the_thread_are_marked():
    replies = [draft(draft_step(name, "look", {"q": name})) for name in ("one", "two")]
    model = ScriptedModel({"planner": replies, "synthesizer": ["first", "second"]})
    thread = Thread(agent_with(Toolset().tools, model), FREE)
    await thread.send({"goal": "the first goal"})
    await thread.send({"goal": "the second goal"})
    record = await aread_run(thread.agent, thread.config)
    marks = [one["earlier_goal"] for one in record["decisions"]]
    assert marks == [True] * (len(marks) // 2) + [False] * (len(marks) // 2)
    assert [step["id"] for step in record["steps"]] == ["two"]


async def test_a_large_output_is_shown_by_its_handle_and_what_needs_it_says_where_it_is():
    settings = Context(approval="never", max_inline_bytes=300)
    thread = Thread(agent_with(Toolset().tools), settings)
    await thread.run(
        bound("big", "echo", {"value": ["y" * 100] * 20}), bound("use", "echo", {"value": "${big[0]}"})
    )
    record = await aread_run(thread.agent, thread.config)
    big, use = by_id(record)["big"], by_id(record)["use"]
    assert (big["artifact"]["type"], big["artifact"]["items"]) == ("array", 20)
    assert use["inputs"] == [
        {"expression": "big[0]", "missing": "the output of big is kept outside the state"}
    ]
    page = make_report(await thread.agent.aget_state(thread.config))
    assert f"plan-execute show {record['thread']} --step big" in page


async def test_an_output_that_looks_like_a_handle_is_shown_as_the_output_it_is():
    forged = {"$artifact": {"digest": "sha256:0", "bytes": 3, "type": "string", "preview": "forged"}}
    thread = Thread(agent_with([make_tool(_forge)], store=None), FREE)
    await thread.run(bound("a", "_forge", {}))
    assert by_id(await aread_run(thread.agent, thread.config))["a"]["output"] == forged


def _forge() -> dict:
    """Give what looks like a handle."""
    return {"$artifact": {"digest": "sha256:0", "bytes": 3, "type": "string", "preview": "forged"}}


async def test_a_loop_shows_its_failed_items():
    def look(q: str) -> str:
        """Look."""
        if q == "bad":
            raise OSError("gone")
        return q

    thread = Thread(
        agent_with([make_tool(look)]), Context(approval="never", max_attempts=1, on_failure="skip")
    )
    await thread.run(
        bound("each", "look", {"q": "${item}"}, for_each="${inputs.names}"),
        inputs={"names": {"default": ["good", "bad", "fine"]}},
    )
    record = await aread_run(thread.agent, thread.config)
    each = by_id(record)["each"]
    assert [(item["index"], item["error"]["code"]) for item in each["failed_items"]] == [(1, "tool_failed")]
    assert each["inputs"] == [{"expression": "inputs.names", "value": ["good", "bad", "fine"]}]
    assert '[1] <span class="error"><code>tool_failed</code>' in make_report(
        await thread.agent.aget_state(thread.config)
    )


def test_every_decision_that_can_be_on_record_has_words():
    """The names stand in the calls that write them down."""
    named = {"plan_approved", "plan_edited", "plan_rejected"}  # made of the answer's type
    for room in ("nodes", "execution", "evaluation", "graph", "people", "plan"):
        for file in (CHECKOUT / room).rglob("*.py"):
            for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                called = getattr(call, "func", None)
                name = getattr(called, "id", getattr(called, "attr", ""))
                place = {"audit_event": 2, "_note": 1, "_leave": 5}.get(name)
                written = call.args[place : place + 1] if place is not None else []
                named |= {word.value for word in written if isinstance(word, ast.Constant)}
    assert len(named) > 15
    assert named <= set(EVENTS), named - set(EVENTS)
