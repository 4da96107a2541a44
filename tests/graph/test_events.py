"""Everything a run tells has the documented form, and says when, of which plan and about which step."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from langgraph.types import Command
from openai_stub import OpenAIStub, Reply
from plans import FREE, Thread, agent_with, bound, draft, draft_step, plan, think
from pydantic import TypeAdapter
from toolset import Toolset

from plan_execute import Context, ScriptedModel, create_plan_execute_agent
from plan_execute.events import EVENT_TYPES, Base, Event

FORMS = {get_args(get_type_hints(form)["type"])[0]: form for form in get_args(Event)}
ADAPTERS = {kind: TypeAdapter(form) for kind, form in FORMS.items()}


def hold(event: dict[str, Any]) -> None:
    """Hold an event against its form: every field, no other one, of the right type."""
    kind = event["type"]
    hints = get_type_hints(FORMS[kind], include_extras=True)
    assert set(event) <= set(hints), f"{kind} has undocumented fields: {sorted(set(event) - set(hints))}"
    ADAPTERS[kind].validate_python(event)
    assert datetime.fromisoformat(event["at"]).tzinfo is not None


async def events_of(agent: Any, given: Any, config: Any, context: Context | None = None) -> list[Any]:
    seen = [e async for e in agent.astream(given, config, context=context, stream_mode="custom")]
    for event in seen:
        hold(event)
    return seen


def kinds(events: list[Any]) -> list[str]:
    return [event["type"] for event in events]


def plan_of(*steps: Any) -> dict[str, Any]:
    return {"plan": plan(*steps)}


def thread_of(agent: Any, context: Context = FREE) -> Thread:
    return Thread(agent, context)


def test_the_list_of_types_and_the_union_are_the_same() -> None:
    assert tuple(FORMS) == EVENT_TYPES
    assert all(get_origin(get_type_hints(form)["type"]) is Literal for form in FORMS.values())


def test_the_page_about_events_has_a_row_for_each() -> None:
    page = (Path(__file__).parents[2] / "docs" / "events.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| `") and line[3:7] != "type"]
    told = {row[1].strip(" `"): row[3] for row in rows}
    assert tuple(told) == EVENT_TYPES
    common = set(get_type_hints(Base)) | {"type"}
    for kind, fields in told.items():
        missing = [name for name in set(get_type_hints(FORMS[kind])) - common if f"`{name}`" not in fields]
        assert not missing, f"the row of {kind} lacks {missing}"


async def test_a_planned_run_tells_its_story_in_order() -> None:
    tools = Toolset()
    model = ScriptedModel({"planner": [draft(draft_step("a", "look", {"q": "x"}))], "synthesizer": ["ok"]})
    thread = thread_of(agent_with(tools.tools, model))
    events = await events_of(thread.agent, {"goal": "g"}, thread.config, FREE)
    assert kinds(events) == [
        "plan_created",
        "plan_validated",
        "plan_approved",
        "step_started",
        "step_attempt",
        "tool_call",
        "tool_finished",
        "step_finished",
        "evaluated",
        "synthesized",
    ]
    ids = {(e["thread_id"], e["plan_id"], e["revision"]) for e in events}
    [(thread_id, plan_id, revision)] = ids
    assert (thread_id, revision) == (thread.config["configurable"]["thread_id"], 1)
    assert plan_id == events[0]["plan"]["id"]
    about = [e["step_id"] for e in events]
    assert about == [None, None, None, "a", "a", "a", "a", "a", None, None]
    call, ended = events[5], events[6]
    assert (call["tool"], call["args"], call["effect"]) == ("look", {"q": "x"}, "read")
    assert (ended["call_id"], ended["ok"], ended["output_preview"]) == (call["call_id"], True, "found x")
    spent = [e["spent"]["tool_calls"] for e in events]
    assert (spent[0], spent[-1], spent == sorted(spent)) == (0, 1, True)
    assert events[-1]["spent"]["model_calls"] == 2


async def test_events_after_an_answer_are_about_the_same_plan_as_those_before_it() -> None:
    thread = thread_of(agent_with(Toolset().tools), Context(approval="always"))
    before = await events_of(
        thread.agent, plan_of(bound("a", "look", {"q": "x"})), thread.config, thread.context
    )
    after = await events_of(thread.agent, Command(resume="approve"), thread.config)
    assert kinds(after)[0] == "plan_approved"
    assert {(e["plan_id"], e["revision"]) for e in after} == {(before[0]["plan"]["id"], 1)}


async def test_tool_calls_of_an_agent_and_steps_of_a_sub_plan_are_told_too() -> None:
    tools = Toolset()
    model = ScriptedModel(
        {
            "planner": [draft(draft_step("inner", "look", {"q": "x"}))],
            "executor": [ScriptedModel.tool_calls(("look", {"q": "y"})), "found"],
            "synthesizer": ["ok", "ok"],
        }
    )
    thread = thread_of(agent_with(tools.tools, model))
    given = plan_of({"id": "sub", "plan": {"goal": "g"}}, think("agent", tools=["look"]))
    events = await events_of(thread.agent, given, thread.config, FREE)
    calls = {(e["step_id"], tuple(e["within"])) for e in events if e["type"] == "tool_call"}
    assert calls == {("inner", ("sub",)), ("agent", ())}
    assert {e["thread_id"] for e in events} == {thread.config["configurable"]["thread_id"]}
    inner = [e["type"] for e in events if e["within"]]
    assert inner[0] == "plan_created"
    assert inner[-1] == "synthesized"


async def test_items_of_a_loop_are_told_as_progress() -> None:
    tools = Toolset()
    given = plan_of(bound("each", "look", {"q": "${item}"}, for_each="${inputs.list}"))
    given["plan"]["inputs"] = {"list": {"type": "array"}}
    thread = thread_of(agent_with(tools.tools))
    given = {**given, "inputs": {"list": ["p", "q", "r"]}}
    events = await events_of(thread.agent, given, thread.config, FREE)
    progress = [e for e in events if e["type"] == "step_progress"]
    assert [(e["done"], e["total"]) for e in progress] == [(1, 3), (2, 3), (3, 3)]
    assert {e["item"] for e in progress} == {0, 1, 2}
    assert {e["item"] for e in events if e["type"] == "tool_call"} == {0, 1, 2}


async def test_every_question_is_told_with_the_id_it_is_answered_by() -> None:
    tools = Toolset()
    tools.failures = [ValueError("odd")]
    context = Context(approval="always", on_failure="ask", max_attempts=1)
    thread = thread_of(agent_with(tools.tools), context)
    given = plan_of(bound("a", "look", {"q": "x"}, approve=True), bound("b", "flaky", {"q": "${a}"}))
    asked = []
    todo: Any = given
    for _ in range(3):
        events = await events_of(thread.agent, todo, thread.config, context)
        question = events[-1]
        assert question["type"] == "question_open"
        asked.append((question["question"], question["step_id"]))
        todo = Command(resume={question["question_id"]: "approve"})
    assert asked == [("approve_plan", None), ("approve_step", "a"), ("handle_step_failure", "b")]
    events = await events_of(thread.agent, todo, thread.config)
    assert kinds(events)[-1] == "synthesized"
    plan_id = (await thread.agent.aget_state(thread.config)).values["plan"]["id"]
    assert {(e["plan_id"], e["revision"]) for e in events} == {(plan_id, 1)}


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ({"type": "approve"}, "plan_approved"),
        ({"type": "reject", "message": "no"}, "plan_rejected"),
        ({"type": "edit", "args": plan_of(bound("z", "look", {"q": "z"}))}, "plan_edited"),
    ],
)
async def test_what_became_of_a_plan_that_was_asked_about_is_told(answer: Any, kind: str) -> None:
    context = Context(approval="always")
    thread = thread_of(agent_with(Toolset().tools), context)
    await events_of(thread.agent, plan_of(bound("a", "look", {"q": "x"})), thread.config, context)
    events = await events_of(thread.agent, Command(resume=answer), thread.config)
    assert events[0]["type"] == kind


async def test_a_revision_is_told_with_its_difference_and_later_events_name_it() -> None:
    tools = Toolset()
    tools.failures = [ValueError("odd")]
    model = ScriptedModel(
        {"replanner": [draft(draft_step("b", "look", {"q": "z"}))], "synthesizer": ["ok"]}, strict=False
    )
    context = Context(approval="never", on_failure="replan", max_attempts=1)
    thread = thread_of(agent_with(tools.tools, model), context)
    events = await events_of(thread.agent, plan_of(bound("a", "flaky", {"q": "x"})), thread.config, context)
    [revised] = [e for e in events if e["type"] == "replanned"]
    assert revised["revision"] == 2
    assert revised["difference"]["added"]
    later = events[events.index(revised) :]
    assert {e["revision"] for e in later} == {2}
    assert next(e["decision"] for e in events if e["type"] == "evaluated") == "replan"


async def test_a_refused_plan_is_told_with_its_issues() -> None:
    thread = thread_of(agent_with(Toolset().tools))
    events = await events_of(thread.agent, plan_of(bound("a", "nothing", {})), thread.config, FREE)
    [refused] = [e for e in events if e["type"] == "plan_validated"]
    assert [issue["code"] for issue in refused["issues"]] == ["unknown_tool"]
    assert "plan" not in refused


def test_a_real_endpoint_and_the_sync_stream_tell_the_same() -> None:
    with OpenAIStub([Reply(content="found it"), Reply(content="the answer")]) as stub:
        agent = create_plan_execute_agent("openai:stub", tools=[], base_url=stub.base_url)
        events = list(agent.stream(plan_of(think("a")), context=FREE, stream_mode="custom"))
    for event in events:
        hold(event)
    assert events[-1]["spent"]["total_tokens"] > 0
