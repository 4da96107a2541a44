"""OpenTelemetry's view of runs: which spans there are, how they stand in each other, and what they say."""

import asyncio
import os
import sys

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
from plans import FREE, agent_with, bound, draft, draft_step, plan
from span_tree import Spans

from plan_execute import Context, ScriptedModel

ROOT = "invoke_agent plan_execute"


def add(a: int, b: int) -> int:
    """Add."""
    return a + b


def broken() -> str:
    """Fail."""
    raise ValueError("the secret word is swordfish")


READ = {"effect": "read"}


def config(spans, thread="1"):
    return {"configurable": {"thread_id": thread}, "callbacks": [spans.tracer]}


def planned(*steps, **model):
    return ScriptedModel({"planner": [draft(*steps)], **model})


async def test_a_run_has_spans_for_planning_steps_attempts_agents_models_and_tools():
    spans = Spans()
    model = planned(
        draft_step("sum", "add", {"a": 1, "b": 2}),
        draft_step("say", None, None, "sum", tools=["add"], criterion="is good"),
        executor=[ScriptedModel.tool_calls(("add", {"a": 1, "b": 1})), "it is 2"],
        evaluator=[ScriptedModel.verdict(met=True)],
        synthesizer=["two"],
    )
    await agent_with([add], model).ainvoke({"goal": "count"}, config(spans), context=FREE)
    say = f"{ROOT} > step say > attempt 1"
    assert spans.paths == {
        ROOT,
        f"{ROOT} > plan plan_execute",
        f"{ROOT} > plan plan_execute > chat scripted",
        f"{ROOT} > validator",
        f"{ROOT} > step sum",
        f"{ROOT} > step sum > attempt 1",
        f"{ROOT} > step sum > attempt 1 > execute_tool add",
        f"{ROOT} > step say",
        say,
        f"{say} > invoke_agent step_agent",
        f"{say} > invoke_agent step_agent > chat scripted",
        f"{say} > invoke_agent step_agent > execute_tool add",
        f"{say} > chat scripted",
        f"{ROOT} > evaluator",
        f"{ROOT} > synthesizer",
        f"{ROOT} > synthesizer > chat scripted",
    }
    assert len({span.context.trace_id for span in spans.all}) == 1
    assert all(span.status.status_code is StatusCode.UNSET for span in spans.all)


async def test_spans_say_what_the_genai_conventions_ask_for():
    spans = Spans()
    model = planned(draft_step("sum", "add", {"a": 1, "b": 2}), synthesizer=["three"])
    done = await agent_with([add], model).ainvoke({"goal": "count"}, config(spans, "t7"), context=FREE)
    root, chat, tool = spans.one(ROOT), spans.named("chat scripted")[0], spans.one("execute_tool add")
    assert dict(root.attributes) == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": "plan_execute",
        "gen_ai.agent.name": "plan_execute",
        "gen_ai.conversation.id": "t7",
        "plan_execute.status": "done",
    }
    usage = done["usage"]["by_role"]["planner"]
    told = dict(chat.attributes)
    # How the planner is asked for JSON is what worked before in this process.
    assert told.pop("gen_ai.response.finish_reasons") in [("stop",), ("tool_calls",)]
    assert told == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "scriptedmodel",
        "gen_ai.request.model": "scripted",
        "gen_ai.response.model": "scripted",
        "gen_ai.usage.input_tokens": usage["input_tokens"],
        "gen_ai.usage.output_tokens": usage["output_tokens"],
        "gen_ai.conversation.id": "t7",
        "plan_execute.role": "planner",
    }
    assert dict(tool.attributes) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "add",
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": done["results"]["sum"]["evidence"][0]["call_id"],
        "gen_ai.conversation.id": "t7",
        "plan_execute.plan.id": done["plan"]["id"],
        "plan_execute.revision": 1,
        "plan_execute.step.id": "sum",
        "plan_execute.attempt": 1,
    }
    assert (root.kind, chat.kind, tool.kind) == (SpanKind.INTERNAL, SpanKind.CLIENT, SpanKind.INTERNAL)
    assert spans.one("step sum").attributes["plan_execute.verdict"] == "met"


async def test_parallel_steps_keep_their_tools_to_themselves():
    spans = Spans()

    async def wait(name: str) -> str:
        """Wait."""
        await asyncio.sleep(0.02)
        return name

    steps = [bound(f"s{n}", "wait", {"name": str(n)}) for n in range(6)]
    await agent_with([wait]).ainvoke({"plan": plan(*steps)}, config(spans), context=FREE)
    tools = spans.named("execute_tool wait")
    assert {spans.path(tool) for tool in tools} == {
        f"{ROOT} > step s{n} > attempt 1 > execute_tool wait" for n in range(6)
    }
    assert all(f"step {tool.attributes['plan_execute.step.id']} " in spans.path(tool) for tool in tools)


async def test_what_a_model_reports_itself_stands_below_the_node_or_the_agent_that_asks_it():
    spans = Spans()
    mine = spans.provider.get_tracer("http")

    def over_http(reply):
        def answer(messages):
            mine.start_span("POST").end()
            return reply

        return answer

    model = ScriptedModel(
        {
            "planner": [over_http(draft(draft_step("say", tools=["add"])))],
            "executor": [over_http("said")],
        }
    )
    await agent_with([add], model).ainvoke({"goal": "talk"}, config(spans), context=FREE)
    assert {spans.path(post) for post in spans.named("POST")} == {
        f"{ROOT} > plan plan_execute > POST",
        f"{ROOT} > step say > attempt 1 > invoke_agent step_agent > POST",
    }
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_synchronous_runs_stand_below_the_span_of_their_caller():
    spans = Spans()
    with spans.provider.get_tracer("mine").start_as_current_span("mine"):
        agent_with([add]).invoke(
            {"plan": plan(bound("sum", "add", {"a": 1, "b": 2}))}, config(spans), context=FREE
        )
        assert trace.get_current_span().name == "mine"
    path = f"mine > {ROOT} > step sum > attempt 1 > execute_tool add"
    assert spans.path(spans.one("execute_tool add")) == path


async def test_what_a_tool_reports_itself_stands_below_its_attempt():
    spans = Spans()
    mine = spans.provider.get_tracer("mine")

    def outer() -> str:
        """Do something that is instrumented."""
        with mine.start_as_current_span("from a thread"):
            return "done"

    async def inner() -> str:
        """Do something that is instrumented."""
        with mine.start_as_current_span("from a task"):
            return "done"

    await agent_with([outer, inner]).ainvoke(
        {"plan": plan(bound("a", "outer"), bound("b", "inner", {}, "a"))}, config(spans), context=FREE
    )
    assert spans.path(spans.one("from a thread")) == f"{ROOT} > step a > attempt 1 > from a thread"
    assert spans.path(spans.one("from a task")) == f"{ROOT} > step b > attempt 1 > from a task"
    assert trace.get_current_span() is trace.INVALID_SPAN


async def test_retries_are_attempts_of_one_step_and_failures_are_errors_without_their_text():
    spans = Spans()
    agent = agent_with([broken])
    step = bound("a", "broken", max_attempts=2, on_failure="abort")
    agent.toolbox.get("broken").metadata = READ
    agent = agent_with([agent.toolbox.get("broken")])
    await agent.ainvoke({"plan": plan(step)}, config(spans), context=FREE)
    attempts = [spans.one(f"attempt {number}") for number in (1, 2)]
    assert [spans.path(one) for one in attempts] == [f"{ROOT} > step a > attempt {n}" for n in (1, 2)]
    for span, error in [
        (attempts[0], "tool_failed"),
        (attempts[1], "tool_failed"),
        (spans.one("step a"), "tool_failed"),
        (spans.named("execute_tool broken")[0], "ValueError"),
        (spans.one(ROOT), "run_failed"),
    ]:
        assert (span.status.status_code, span.attributes["error.type"]) == (StatusCode.ERROR, error)
    assert not any("swordfish" in span.to_json() for span in spans.all)


async def test_a_question_ends_the_spans_without_an_error_and_the_answer_begins_another_trace():
    spans = Spans()
    agent = agent_with([add])
    given = {"plan": plan(bound("sum", "add", {"a": 1, "b": 2}, approve=True))}
    await agent.ainvoke(given, config(spans), context=FREE)
    [asked] = spans.named(ROOT)
    assert asked.attributes["plan_execute.status"] == "waiting"
    assert all(span.status.status_code is StatusCode.UNSET for span in spans.all)
    await agent.ainvoke(Command(resume="approve"), config(spans))
    first, second = spans.named(ROOT)
    assert second.attributes["plan_execute.status"] == "done"
    assert first.context.trace_id != second.context.trace_id
    conversations = {span.attributes["gen_ai.conversation.id"] for span in (first, second)}
    assert conversations == {"1"}


async def test_a_question_about_a_failure_ends_the_step_as_waiting():
    spans = Spans()
    agent = agent_with([broken])
    await agent.ainvoke({"plan": plan(bound("a", "broken", on_failure="ask"))}, config(spans), context=FREE)
    step = spans.one("step a")
    assert step.attributes["plan_execute.status"] == "waiting"
    assert step.status.status_code is StatusCode.UNSET
    assert spans.one(ROOT).attributes["plan_execute.status"] == "waiting"


async def test_items_of_a_loop_are_attempts_with_their_index():
    spans = Spans()

    def numbers() -> list[int]:
        """Give numbers."""
        return [1, 2]

    loop = bound("each", "add", {"a": "${item}", "b": 1}, for_each="${numbers}")
    await agent_with([add, numbers]).ainvoke(
        {"plan": plan(bound("numbers", "numbers"), loop)}, config(spans), context=FREE
    )
    items = [spans.one(f"item {index}, attempt 1") for index in (0, 1)]
    assert [item.attributes["plan_execute.item"] for item in items] == [0, 1]
    assert spans.path(items[1]) == f"{ROOT} > step each > item 1, attempt 1"


async def test_a_sub_plan_is_an_agent_within_its_step_with_steps_of_its_own():
    spans = Spans()
    model = ScriptedModel(
        {
            "planner": [draft(draft_step("inner", "add", {"a": 1, "b": 2}))],
            "synthesizer": ["the inside is done"],
        },
        strict=False,
    )
    steps = plan({"id": "big", "plan": {"goal": "something big"}})
    await agent_with([add], model).ainvoke({"plan": steps}, config(spans), context=FREE)
    within = f"{ROOT} > step big > attempt 1 > {ROOT}"
    assert f"{within} > plan plan_execute > chat scripted" in spans.paths
    assert f"{within} > step inner > attempt 1 > execute_tool add" in spans.paths
    assert spans.one("step inner").attributes["plan_execute.step.id"] == "inner"


async def test_a_named_agent_is_an_agent_within_its_step():
    spans = Spans()
    spoken = ScriptedModel(["written"])

    async def write(state: MessagesState) -> dict:
        return {"messages": [await spoken.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState).add_node("write", write)
    writer = graph.add_edge(START, "write").add_edge("write", END).compile()
    agent = agent_with(agents={"writer": writer.with_config(metadata=READ)})
    steps = plan({"id": "text", "task": "write it", "agent": "writer"})
    await agent.ainvoke({"plan": steps}, config(spans), context=FREE)
    path = f"{ROOT} > step text > attempt 1 > invoke_agent writer > chat scripted"
    assert path in spans.paths


async def test_as_a_node_of_a_parent_graph_it_is_one_agent_of_the_trace():
    spans = Spans()
    inner = agent_with([add], checkpointer=None)

    async def call(state: dict) -> dict:
        return await inner.ainvoke({"plan": plan(bound("sum", "add", {"a": 1, "b": 2}))}, context=FREE)

    parent = StateGraph(dict).add_node("call", call).add_edge(START, "call").add_edge("call", END)
    await parent.compile(checkpointer=InMemorySaver()).ainvoke({}, config(spans))
    assert f"{ROOT} > step sum > attempt 1 > execute_tool add" in spans.paths
    assert len(spans.named(ROOT)) == 1


async def test_outside_of_our_graphs_models_have_spans_and_chains_have_none():
    spans = Spans()
    chain = RunnableLambda(lambda text: [HumanMessage(text)]) | ScriptedModel(["hello"])
    await chain.ainvoke("hi", {"callbacks": [spans.tracer]})
    assert spans.paths == {"chat scripted"}


async def test_content_is_left_out_unless_it_is_asked_for_and_then_holds_no_secrets(monkeypatch):
    monkeypatch.setenv("SHOP_WORD", "whisper-me-not-1234")

    def look() -> str:
        """Say what must not be said."""
        return f"it is {os.environ['SHOP_WORD']}"

    model = planned(
        draft_step("look", "look"),
        draft_step("say", None, None, "look", tools=["look"]),
        executor=[ScriptedModel.tool_calls(("look", {})), "said"],
        synthesizer=["the end"],
    )
    quiet, telling = Spans(), Spans(capture_content=True)
    secretive = Context(approval="never", secret_names=("SHOP_WORD",))
    both = config(quiet) | {"callbacks": [quiet.tracer, telling.tracer]}
    await agent_with([look], model).ainvoke({"goal": "tell whisper-me-not-1234"}, both, context=secretive)
    assert not any("messages" in key or "result" in key for span in quiet.all for key in span.attributes)
    results = [span.attributes["gen_ai.tool.call.result"] for span in telling.named("execute_tool look")]
    assert results == ["it is [redacted SHOP_WORD]"] * 2
    assert "[redacted SHOP_WORD]" in telling.named("chat scripted")[0].attributes["gen_ai.input.messages"]
    assert telling.tracer.redactors == {}, "nothing of a run is kept"
    assert not any("whisper" in span.to_json() for span in [*quiet.all, *telling.all])


async def test_a_caller_who_stops_reading_leaves_no_span_open():
    spans = Spans()

    async def forever() -> str:
        """Take long."""
        await asyncio.sleep(30)
        return ""

    stream = agent_with([forever]).astream(
        {"plan": plan(bound("long", "forever"))}, config(spans), context=FREE, stream_mode="custom"
    )
    async for event in stream:
        if event["type"] == "tool_call":
            break
    await stream.aclose()
    assert {"step long", ROOT} <= {span.name for span in spans.all}
    assert spans.one(ROOT).status.status_code is StatusCode.UNSET


async def test_one_tracer_serves_runs_of_several_threads_at_once():
    spans = Spans()

    async def wait() -> str:
        """Wait."""
        await asyncio.sleep(0.02)
        return ""

    agent, given = agent_with([wait]), {"plan": plan(bound("a", "wait"))}
    runs = [agent.ainvoke(given, config(spans, str(n)), context=FREE) for n in range(5)]
    await asyncio.gather(*runs)
    roots = {root.context.trace_id: root.attributes["gen_ai.conversation.id"] for root in spans.named(ROOT)}
    assert sorted(roots.values()) == ["0", "1", "2", "3", "4"]
    for tool in spans.named("execute_tool wait"):
        assert tool.attributes["gen_ai.conversation.id"] == roots[tool.context.trace_id]


async def test_an_agent_with_a_tracer_of_its_own_is_traced_whoever_calls_it():
    spans = Spans()
    agent = agent_with([add]).with_config(callbacks=[spans.tracer])
    given = {"plan": plan(bound("sum", "add", {"a": 1, "b": 2}))}
    await agent.ainvoke(given, {"configurable": {"thread_id": "1"}}, context=FREE)
    assert f"{ROOT} > step sum > attempt 1 > execute_tool add" in spans.paths


def test_a_run_that_nobody_watches_has_no_marks_of_a_trace():
    agent = agent_with([add])
    thread = {"configurable": {"thread_id": "1"}}
    agent.invoke({"plan": plan(bound("sum", "add", {"a": 1, "b": 2}))}, thread, context=FREE)
    assert "plan_execute_run" not in agent.get_state(thread).metadata


def test_without_the_extra_the_tracer_says_what_to_install(monkeypatch):
    from plan_execute.errors import ConfigurationError
    from plan_execute.tracing import OpenTelemetryTracer

    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ConfigurationError, match=r"plan-execute\[otel\]"):
        OpenTelemetryTracer()
