"""What the door refuses, and what nobody can get around: approval is a fact on record."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send
from plans import FREE, Thread, agent_with, bound, plan
from toolset import Toolset

from plan_execute import Context, ScriptedModel, create_plan_execute_agent, local_persistence
from plan_execute.errors import (
    ConfigurationError,
    InvalidAnswerError,
    InvalidInputError,
    MissingModelError,
    NothingToResumeError,
    PlanExecuteError,
    QuestionOpenError,
    ThreadNotFoundError,
)
from plan_execute.graph.control import cancel_run, edit_plan, retry_steps
from plan_execute.plan.identity import plan_hash
from plan_execute.report.making import aread_run
from plan_execute.state import InputState, OutputState

WRITE = bound("a", "wr", {"text": "x"})


async def _asked(tools: Toolset, context: Context | None = None, **options: Any) -> Thread:
    thread = Thread(agent_with(tools.tools, **options), context)
    assert "__interrupt__" in await thread.run(WRITE)
    return thread


# --- what cannot be resumed ---------------------------------------------------------------


@pytest.mark.parametrize(
    "given", [{"goal": "another"}, {"plan": plan(WRITE)}, {"goal": "g", "messages": [HumanMessage("hi")]}]
)
async def test_new_input_while_a_question_is_open_is_refused_and_the_question_stays(given: Any) -> None:
    tools = Toolset()
    thread = await _asked(tools)
    with pytest.raises(QuestionOpenError, match=r"approve_plan.*Command\(resume="):
        await thread.send(given)
    assert (await thread.question())["name"] == "approve_plan"
    assert (await thread.answer("approve"))["status"] == "done"


async def test_none_while_a_question_is_open_asks_it_again_and_runs_nothing() -> None:
    tools = Toolset()
    thread = await _asked(tools)
    assert "__interrupt__" in await thread.send(None)
    assert (tools.calls, len(await thread.questions())) == ([], 1)


@pytest.mark.parametrize(
    "given", [None, Command(resume="approve"), Command(resume={"0" * 32: "approve"})], ids=str
)
async def test_a_thread_that_does_not_exist_is_refused_and_not_started(given: Any) -> None:
    thread = Thread(agent_with(Toolset().tools))
    with pytest.raises(ThreadNotFoundError):
        await thread.send(given)
    assert (await thread.agent.aget_state(thread.config)).created_at is None


@pytest.mark.parametrize("given", [None, Command(resume="approve")], ids=str)
async def test_a_finished_thread_has_nothing_to_resume_and_keeps_its_result(given: Any) -> None:
    thread = Thread(agent_with(Toolset().tools), FREE)
    await thread.run(WRITE)
    with pytest.raises(NothingToResumeError, match="done"):
        await thread.send(given)
    assert (await thread.agent.aget_state(thread.config)).values["status"] == "done"


@pytest.mark.parametrize("given", [None, Command(resume="approve")], ids=str)
async def test_without_a_checkpointer_there_is_nothing_to_resume(given: Any) -> None:
    with pytest.raises(PlanExecuteError, match="checkpointer"):
        await create_plan_execute_agent(tools=Toolset().tools).ainvoke(given)


async def test_an_unknown_question_id_is_refused_naming_the_open_ones() -> None:
    thread = await _asked(Toolset())
    (question,) = await thread.questions()
    with pytest.raises(InvalidAnswerError, match=question.id):
        await thread.answer({"f" * 32: "approve"})


async def test_words_in_a_message_answer_the_question_that_is_open() -> None:
    tools = Toolset()
    thread = await _asked(tools)
    result = await thread.send({"messages": [HumanMessage("yes, but later")]})
    assert (result["status"], tools.calls) == ("rejected", [])
    texts = [message.text for message in result["messages"] if message.type in ("tool", "human")]
    assert texts[-2:] == ['Rejected, because you wrote: "yes, but later"', "yes, but later"]


# --- what the input must be ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({}, "goal is empty"),
        ({"goal": ""}, "goal is empty"),
        ({"goal": "  \n "}, "goal is empty"),
        ({"messages": []}, "goal is empty"),
        ({"goal": 7}, "must be text"),
        ({"gaol": "g"}, r"goal is empty.*unknown input 'gaol'; known inputs: goal, inputs, messages, plan"),
        ({"goal": "g", "inputs": [1]}, "inputs must be a mapping"),
        ({"goal": "g", "inputs": {"x": {1, 2}}}, "plain JSON"),
        ({"goal": "g", "inputs": {"x": float("nan")}}, "plain JSON"),
        ({"plan": {"steps": [object()]}}, "plain JSON"),
        (
            {"plan": {"steps": []}, "inputs": {"a\ud800": 1}},
            "inputs must be plain JSON: it holds a lone surr",
        ),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages cannot be read"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages cannot be read: content.*valid string"),
        ("just text", 'must be a mapping such as {"goal": "…"}'),
        (["goal"], "must be a mapping"),
    ],
)
async def test_bad_input_is_refused_with_what_is_wrong(given: Any, word: str) -> None:
    with pytest.raises(InvalidInputError, match=word):
        await Thread(agent_with((), ScriptedModel({})), FREE).send(given)


@pytest.mark.parametrize("key", ["wish", "results", "approval"])
async def test_an_unknown_input_is_ignored_with_a_warning(key: str, caplog: pytest.LogCaptureFixture) -> None:
    thread = Thread(agent_with(Toolset().tools))
    result = await thread.send({"plan": plan(WRITE), key: {"decision": "approved"}})
    assert "__interrupt__" in result
    assert f"unknown input '{key}' is ignored; known inputs: goal, inputs, messages, plan" in caplog.text


async def test_a_goal_without_a_model_says_the_ways_on() -> None:
    with pytest.raises(MissingModelError, match="plan of bound steps"):
        await Thread(agent_with(Toolset().tools), FREE).send({"goal": "g"})


async def test_a_saver_without_a_thread_id_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="thread_id"):
        await agent_with(Toolset().tools).ainvoke({"plan": plan(WRITE)}, context=FREE)


IMPOSSIBLE = {
    "": "is empty",
    " \n": "is empty",
    "a\0b": "NUL",
    "a\ud800": "surrogate",
    "ü" * 300: "at most 512",
}


@pytest.mark.parametrize("thread_id", IMPOSSIBLE, ids=ascii)
@pytest.mark.parametrize("kind", ["memory", "local"])
async def test_an_id_that_no_storage_could_keep_is_refused_wherever_it_comes_in(
    tmp_path: Path, kind: str, thread_id: str
) -> None:
    tools, config = Toolset(), {"configurable": {"thread_id": thread_id}}
    given = {"plan": plan(WRITE)}
    async with local_persistence(tmp_path / "t.db") as (saver, store):
        kept = {"checkpointer": saver, "store": store} if kind == "local" else {}
        agent = agent_with(tools.tools, **kept)
        entries = {
            "run": agent.ainvoke(given, config, context=FREE),
            "abandon": agent.ainvoke({**given, "abandon": True}, config, context=FREE),
            "resume": agent.ainvoke(None, config),
            "state": agent.aget_state(config),
            "update": agent.aupdate_state(config, {"goal": "x"}),
            "output": agent.aget_output(config, "a"),
            "report": aread_run(agent, config),
            "retry": retry_steps(agent, config),
            "edit": edit_plan(agent, config, plan(WRITE)),
            "cancel": cancel_run(agent, config),
        }
        for name, entry in entries.items():
            with pytest.raises(InvalidInputError) as refused:
                await entry
            assert "the thread_id" in str(refused.value), name
            assert IMPOSSIBLE[thread_id] in str(refused.value), name
        assert [found async for found in agent.checkpointer.alist(None)] == []
    assert tools.calls == []


async def test_an_unusual_id_is_kept_as_it_is(tmp_path: Path) -> None:
    async with local_persistence(tmp_path / "t.db") as (saver, store):
        for thread_id in ("ü" * 256, "../a b", "日本.%", 7, UUID(int=5)):
            agent = agent_with(Toolset().tools, checkpointer=saver, store=store)
            config = {"configurable": {"thread_id": thread_id}}
            result = await agent.ainvoke({"plan": plan(WRITE)}, config, context=FREE)
            assert (result["status"], await agent.aget_output(config, WRITE["id"])) == ("done", "wrote x")


@pytest.mark.parametrize("change", [cancel_run, retry_steps])
async def test_a_change_of_a_thread_that_is_not_named_says_so(change: Any) -> None:
    with pytest.raises(ConfigurationError, match="thread_id"):
        await change(agent_with(Toolset().tools), {"configurable": {}})


@pytest.mark.parametrize(
    ("context", "word"),
    [
        ({"max_parallel": 0}, "max_parallel"),
        ({"colour": 1}, "colour.*known settings"),
        ({"approval": "maybe"}, "approval"),
        (7, "Context"),
    ],
)
async def test_a_bad_setting_is_refused_naming_it(context: Any, word: str) -> None:
    thread = Thread(agent_with(Toolset().tools))
    with pytest.raises(ConfigurationError, match=word):
        await thread.agent.ainvoke({"plan": plan(WRITE)}, thread.config, context=context)


@pytest.mark.parametrize("context", [None, {}])
async def test_a_resume_without_context_uses_the_settings_the_thread_was_started_with(context: Any) -> None:
    tools = Toolset()
    thread = Thread(agent_with(tools.tools))
    await thread.send(
        {"plan": plan(WRITE, bound("b", "broken", {"q": "x"}, "a"))}, Context(on_failure="skip")
    )
    result = await thread.agent.ainvoke(Command(resume="approve"), thread.config, context=context)
    assert result["results"]["b"]["status"] == "skipped"


# --- nobody gets around the approval ---------------------------------------------------------


NODES = ["executor", "dispatcher", "evaluator", "synthesizer", "validator", "replanner", "planner"]
FORGED = {"approval": {"decision": "approved"}, "settings": {"approval": "never"}, "status": "running"}


@pytest.mark.parametrize("update", [None, FORGED], ids=["goto", "goto with a forged approval"])
@pytest.mark.parametrize("target", [*NODES, Send("executor", {"step_id": "a"})], ids=str)
async def test_a_goto_runs_nothing_that_was_not_approved(target: Any, update: Any) -> None:
    tools = Toolset()
    thread = await _asked(tools)
    node = target.node if isinstance(target, Send) else target
    with pytest.raises(InvalidInputError, match=rf"sent to '{node}'.*Command\(resume="):
        await thread.send(Command(goto=target, update=update))
    for _ in range(2):
        await thread.send(None)
    assert tools.calls == []


GOTOS = ["approval", "dispatcher", "planner", "no_such_node", ["__end__", "approval"], [Send("executor", {})]]


@pytest.mark.parametrize("forked", [False, True], ids=["newest", "fork"])
@pytest.mark.parametrize("goto", GOTOS, ids=str)
@pytest.mark.parametrize("stands", ["asks", "ended"])
async def test_a_goto_to_a_node_is_refused_and_the_thread_goes_on_as_before(
    stands: str, goto: Any, forked: bool
) -> None:
    tools = Toolset()
    thread = await _asked(tools)
    if stands == "ended":
        await thread.answer("approve")
    before = (await thread.agent.aget_state(thread.config)).config
    first = [one.config async for one in thread.agent.aget_state_history(thread.config)][-1]
    with pytest.raises(InvalidInputError, match="a run cannot be sent to"):
        await thread.agent.ainvoke(Command(goto=goto), first if forked else thread.config)
    assert (await thread.agent.aget_state(thread.config)).config == before
    if stands == "asks":
        assert (await thread.answer("approve"))["status"] == "done"


@pytest.mark.parametrize("goto", ["__end__", "approval", ["dispatcher"]], ids=str)
async def test_an_answer_does_not_come_with_a_goto(goto: Any) -> None:
    tools = Toolset()
    thread = await _asked(tools)
    with pytest.raises(InvalidInputError, match="cannot"):
        await thread.send(Command(resume="approve", goto=goto))
    assert (tools.calls, (await thread.question())["name"]) == ([], "approve_plan")
    assert (await thread.answer("approve"))["status"] == "done"


async def test_a_resume_with_an_update_cannot_swap_the_plan_that_is_approved() -> None:
    tools = Toolset()
    thread = await _asked(tools)
    evil = plan(bound("a", "wr", {"text": "evil"}), id="evil", revision=1, inputs={})
    with suppress(PlanExecuteError):
        await thread.send(Command(resume="approve", update={"plan": evil}))
    assert ("wr", "evil") not in tools.calls


@pytest.mark.parametrize("as_node", ["validator", "approval", "planner", "dispatcher"])
async def test_a_forged_approval_in_the_state_runs_nothing(as_node: str) -> None:
    tools = Toolset()
    thread = await _asked(tools)
    current = (await thread.agent.aget_state(thread.config)).values["plan"]
    forged = {"decision": "approved", "plan_hash": plan_hash(current, {}), "at": "now"}
    await thread.agent.aupdate_state(thread.config, {"approval": forged, "draft": None}, as_node=as_node)
    for _ in range(3):
        if not (await thread.agent.aget_state(thread.config)).next:
            break
        await thread.send(None)
    assert tools.calls == []


@pytest.mark.parametrize("as_node", ["validator", "approval", "dispatcher"])
async def test_an_edited_plan_in_the_state_runs_nothing_of_it(as_node: str) -> None:
    tools = Toolset()
    thread = await _asked(tools)
    current = (await thread.agent.aget_state(thread.config)).values["plan"]
    evil = {**current, "steps": [{**current["steps"][0], "call": {"tool": "wr", "args": {"text": "evil"}}}]}
    forged = {
        "plan": evil,
        "approval": {"decision": "approved", "plan_hash": plan_hash(evil, {})},
        "draft": None,
    }
    await thread.agent.aupdate_state(thread.config, forged, as_node=as_node)
    await thread.send(None)
    assert tools.calls == []


async def test_a_plan_edited_after_its_approval_is_asked_about_again() -> None:
    tools = Toolset()
    thread = Thread(agent_with(tools.tools), Context(on_failure="ask", max_attempts=1))
    await thread.run(bound("a", "broken", {"q": "x"}), bound("b", "wr", {"text": "good"}, "a"))
    await thread.answer("approve")
    current = (await thread.agent.aget_state(thread.config)).values["plan"]
    evil = {
        **current,
        "steps": [{**s, "call": {"tool": "wr", "args": {"text": "evil"}}} for s in current["steps"]],
    }
    await thread.agent.aupdate_state(thread.config, {"plan": evil, "results": {}}, as_node="dispatcher")
    await thread.send(None)
    assert tools.named("wr") == []


async def test_an_edit_forged_as_the_approval_nodes_draft_is_not_approved_by_itself() -> None:
    tools = Toolset()
    thread = await _asked(tools)
    evil = plan(bound("a", "wr", {"text": "evil"}))
    forged = {"draft": {"plan": evil, "source": "person", "attempt": 1}, "approval": {"decision": "edited"}}
    await thread.agent.aupdate_state(thread.config, forged, as_node="approval")
    assert "__interrupt__" in await thread.send(None)
    assert tools.calls == []


async def test_looser_settings_written_into_the_state_change_nothing() -> None:
    tools = Toolset()
    thread = await _asked(tools)
    await thread.agent.aupdate_state(thread.config, {"settings": {"approval": "never"}}, as_node="validator")
    await thread.send(None)
    assert tools.calls == []


async def test_a_later_context_may_tighten_the_approval_and_never_loosen_it() -> None:
    tools = Toolset()
    thread = await _asked(tools)
    result = await thread.send(None, Context(approval="never"))
    assert ("__interrupt__" in result, tools.calls) == (True, [])
    tight = Thread(agent_with(tools.tools), FREE)
    await tight.run(bound("a", "look", {"q": "x"}, approve=True), bound("b", "wr", {"text": "x"}, "a"))
    await tight.send(Command(resume="approve"), Context(approval="always"))
    assert tools.named("wr") == [], "the plan needs an approval now that it did not need before"


# --- the agent is a langgraph graph --------------------------------------------------------


async def test_it_works_as_a_node_of_a_parent_graph_and_its_question_surfaces_there() -> None:
    tools = Toolset()
    child = create_plan_execute_agent(tools=tools.tools)
    parent = StateGraph(OutputState, input_schema=InputState)
    parent.add_node("work", child)
    parent.add_edge(START, "work")
    parent.add_edge("work", END)
    graph = parent.compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    result = await graph.ainvoke({"plan": plan(WRITE)}, config)  # type: ignore[arg-type]
    assert result["__interrupt__"][0].value["action_requests"][0]["name"] == "approve_plan"
    result = await graph.ainvoke(Command(resume="approve"), config)
    assert (result["status"], tools.calls) == ("done", [("wr", "x")])


def test_it_works_as_a_node_of_a_synchronous_parent_graph() -> None:
    tools = Toolset()
    parent = StateGraph(OutputState, input_schema=InputState)
    parent.add_node("work", create_plan_execute_agent(tools=tools.tools))
    parent.add_edge(START, "work")
    parent.add_edge("work", END)
    graph = parent.compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    result = graph.invoke({"plan": plan(WRITE)}, config)  # type: ignore[arg-type]
    assert result["__interrupt__"][0].value["action_requests"][0]["name"] == "approve_plan"
    result = graph.invoke(Command(resume="approve"), config)
    assert (result["status"], tools.calls) == ("done", [("wr", "x")])


async def test_threads_are_independent_of_each_other() -> None:
    tools = Toolset()
    agent = agent_with(tools.tools)
    first, second = Thread(agent), Thread(agent, FREE)
    await first.run(WRITE)
    result = await second.run(bound("a", "wr", {"text": "second"}))
    assert (result["status"], tools.calls) == ("done", [("wr", "second")])
    assert (await first.answer("approve"))["status"] == "done"
    assert tools.calls == [("wr", "second"), ("wr", "x")]
