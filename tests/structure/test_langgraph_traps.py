"""What the code relies on in LangGraph without it being documented: an upgrade that changes it fails here."""

import asyncio
import operator
from typing import Annotated, Any

import pytest
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph._internal import _constants as constants
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphInterrupt
from langgraph.graph import END, START, StateGraph
from langgraph.prebuilt import ToolNode, ToolRuntime
from langgraph.pregel._algo import task_path_str
from langgraph.pregel._checkpoint import LATEST_VERSION
from langgraph.pregel._read import ChannelRead
from langgraph.pregel._task_status import CONTROL_WRITES
from langgraph.types import Command, Send, interrupt
from typing_extensions import TypedDict

from plan_execute import langgraph_private
from plan_execute.storage.adapters import write_beside

THREAD = {"configurable": {"thread_id": "1"}}


class Shared(TypedDict, total=False):
    plan: dict[str, Any]
    results: Annotated[dict[str, Any], operator.or_]


def fan_out(worker, *orders, checkpointer=None):
    """Build a graph whose first node fills the state, and which then sends each order to a worker."""
    builder = StateGraph(Shared)
    builder.add_node("first", lambda state: {"plan": {"made": "earlier"}})
    builder.add_node("worker", worker)
    builder.add_edge(START, "first")
    builder.add_conditional_edges(
        "first", lambda state: [Send("worker", order) for order in orders], ["worker"]
    )
    builder.add_edge("worker", END)
    return builder.compile(checkpointer=checkpointer)


async def test_a_sent_task_can_read_the_graphs_state_although_it_was_sent_only_an_id():
    async def worker(order, config):
        seen = ChannelRead.do_read(config, select=["plan"])
        return {"results": {order["id"]: (set(order), seen["plan"])}}

    final = await fan_out(worker, {"id": "a"}).ainvoke({})

    assert final["results"] == {"a": ({"id"}, {"made": "earlier"})}


def test_tool_node_injects_a_runtime_into_a_call_made_outside_an_agent():
    @tool
    def who(name: str, runtime: ToolRuntime) -> str:
        """Say who calls."""
        return f"{name} {runtime.tool_call_id}"

    runtime = ToolRuntime(
        state={}, context=None, config={}, stream_writer=lambda _: None, tool_call_id="c1", store=None
    )
    call = {"name": "who", "args": {"name": "me"}, "id": "c1", "type": "tool_call"}

    injected = ToolNode([who])._inject_tool_args(call, runtime, who)

    assert injected["args"]["runtime"] is runtime
    assert "runtime" not in call["args"], "the call itself is left as it is"
    assert who.invoke(injected["args"]) == "me c1"


async def test_an_empty_interrupt_ends_a_task_and_leaves_only_the_real_question_pending():
    """Dependents of a step that waits for a person leave this way, else the superstep never ends."""
    asked = asyncio.Event()
    runs = []

    async def worker(order, config):
        runs.append(order["id"])
        if order["id"] == "asks":
            asked.set()
            return {"results": {"asks": interrupt("what now?")}}
        if order["id"] == "waits" and len(runs) <= 3:
            await asked.wait()
            raise GraphInterrupt(())
        return {"results": {order["id"]: "done"}}

    graph = fan_out(worker, {"id": "asks"}, {"id": "waits"}, {"id": "free"}, checkpointer=InMemorySaver())
    await asyncio.wait_for(graph.ainvoke({}, THREAD), 60)
    state = await graph.aget_state(THREAD)

    assert [question.value for question in state.interrupts] == ["what now?"]
    assert sorted(runs) == ["asks", "free", "waits"]

    final = await asyncio.wait_for(graph.ainvoke(Command(resume="go on"), THREAD), 60)

    assert final["results"] == {"asks": "go on", "waits": "done", "free": "done"}
    assert runs.count("free") == 1, "a finished sibling is not run again"


class Inner(TypedDict, total=False):
    attempt: int
    log: Annotated[list[str], operator.add]


def inner_graph(calls):
    """Build a subgraph that does something and, from the second attempt on, asks."""

    async def act(state):
        calls.append(f"act {state['attempt']}")
        return {"log": [f"acted {state['attempt']}"]}

    async def question(state):
        if state["attempt"] == 0:
            return {"log": ["no question"]}
        answer = interrupt(f"question {state['attempt']}")
        return {"log": [f"answered {answer}"]}

    builder = StateGraph(Inner)
    builder.add_node("act", act)
    builder.add_node("question", question)
    builder.add_edge(START, "act")
    builder.add_edge("act", "question")
    builder.add_edge("question", END)
    return builder.compile()


async def resumed_attempts(configured):
    """Run three attempts of a subgraph in one node, skipping those on record, through two stops."""
    calls, record = [], {}
    inner = inner_graph(calls)

    async def worker(order, config):
        for attempt in range(3):
            if attempt not in record:
                final = await inner.ainvoke({"attempt": attempt}, configured(config, attempt))
                record[attempt] = final["log"]
        return {"results": {"logs": record}}

    graph = fan_out(worker, {"id": "a"}, checkpointer=InMemorySaver())
    await graph.ainvoke({}, THREAD)
    for answer in ("first", "second"):
        # by id, as the door does: without the scratchpad a bare answer does not reach the question
        open_questions = (await graph.aget_state(THREAD)).interrupts
        await graph.ainvoke(Command(resume={question.id: answer for question in open_questions}), THREAD)
    return calls, record, (await graph.aget_state(THREAD)).next


def named_namespace(config, attempt):
    inherited = config["configurable"]
    own = {key: value for key, value in inherited.items() if key != "__pregel_scratchpad"}
    return {
        **config,
        "configurable": {**own, "checkpoint_ns": f"{inherited['checkpoint_ns']}|attempt:{attempt}"},
    }


async def test_a_subgraph_call_with_a_namespace_of_its_own_keeps_its_checkpoint_over_resumes():
    calls, record, open_nodes = await resumed_attempts(named_namespace)

    assert calls == ["act 0", "act 1", "act 2"], "what was done before a stop is not done again"
    assert record == {
        0: ["acted 0", "no question"],
        1: ["acted 1", "answered first"],
        2: ["acted 2", "answered second"],
    }
    assert open_nodes == ()


async def test_without_it_a_skipped_attempt_hands_its_checkpoint_to_the_next():
    """The reason for the namespace; when this fails, LangGraph has mended it and ours can go."""
    _, record, _ = await resumed_attempts(lambda config, attempt: config)

    assert record[1] == ["acted 0", "no question"], "the first attempt's answer, silently"


async def test_an_answer_goes_to_whatever_a_task_asks_first():
    """Why answers are found by the key of their question, and a tool that asks has a graph of its own."""
    entries, answered = [], {}

    async def worker(order, config):
        entries.append(order["id"])
        for question in ("one", "two") if len(entries) == 1 else ("two", "one"):
            answered[question] = interrupt(question)
        return {"results": answered}

    graph = fan_out(worker, {"id": "a"}, checkpointer=InMemorySaver())
    await graph.ainvoke({}, THREAD)
    await graph.ainvoke(Command(resume="for one"), THREAD)

    assert answered == {"two": "for one"}, "the answer to another question, silently"


async def test_a_namespace_of_its_own_finds_a_subgraph_again_from_another_superstep():
    """What an agent's conversation relies on, after an edit or ``update_state``."""
    calls = []
    inner = inner_graph(calls)

    async def worker(order, config):
        named = named_namespace(config, 1)["configurable"]
        fixed = {**named, "checkpoint_ns": "worker:fixed|attempt:1", "__pregel_resuming": True}
        final = await inner.ainvoke({"attempt": 1}, {**config, "configurable": fixed})
        return {"results": {"log": final["log"]}}

    graph = fan_out(worker, {"id": "a"}, checkpointer=InMemorySaver())
    await graph.ainvoke({}, THREAD)
    await graph.aupdate_state(THREAD, {"results": {}}, as_node="first")
    await graph.ainvoke(None, THREAD)

    assert calls == ["act 1"], "what was done in the superstep before is not done again"


async def test_an_exception_in_one_task_cancels_its_running_siblings():
    """The reason why executors never raise."""
    cancelled = asyncio.Event()

    async def worker(order, config):
        if order["id"] == "fails":
            await asyncio.sleep(0.05)
            raise ValueError("boom")
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(ValueError, match="boom"):
        await fan_out(worker, {"id": "fails"}, {"id": "writes"}).ainvoke({})

    assert cancelled.is_set()


def two_steps(checkpointer):
    """Build a graph whose first node asks, with a channel that nobody but a test writes."""
    builder = StateGraph(Shared)
    builder.add_node("asks", lambda state: {"plan": {"answer": interrupt("?"), **state.get("plan", {})}})
    builder.add_edge(START, "asks")
    builder.add_edge("asks", END)
    return builder.compile(checkpointer=checkpointer)


async def test_what_is_written_beside_a_checkpoint_is_seen_at_once_and_saved_by_the_next_run():
    saver = InMemorySaver()
    graph = two_steps(saver)
    await graph.ainvoke({"results": {"a": 1}}, THREAD)
    for name in ("b", "c"):
        await write_beside(saver, THREAD, [("results", {name: 1})])
    paused = await graph.aget_state(THREAD)
    assert set(paused.values["results"]) == {"a", "b", "c"}
    assert [question.value for question in paused.interrupts] == ["?"]
    assert {tuple(state.values["results"]) for state in graph.get_state_history(THREAD) if state.next} >= {
        ("a", "b", "c")
    }
    final = await graph.ainvoke(Command(resume={paused.interrupts[0].id: "!"}), THREAD)
    assert (set(final["results"]), final["plan"]) == ({"a", "b", "c"}, {"answer": "!"})
    kept = await saver.aget_tuple(THREAD)
    assert set(kept.checkpoint["channel_values"]["results"]) == {"a", "b", "c"}


async def test_an_update_of_the_state_leaves_behind_what_stands_beside_the_checkpoint():
    saver = InMemorySaver()
    graph = two_steps(saver)
    await graph.ainvoke({"results": {"a": 1}}, THREAD)
    await write_beside(saver, THREAD, [("results", {"b": 1})])
    await graph.aupdate_state(THREAD, {"plan": {}}, as_node=START)
    assert set((await graph.aget_state(THREAD)).values["results"]) == {"a"}


def test_what_checkpoints_hold_is_called_as_before():
    assert langgraph_private.CHECKPOINT_VERSION == LATEST_VERSION
    assert langgraph_private.ENTRY == START
    assert langgraph_private.NO_TASK == constants.NULL_TASK_ID
    assert langgraph_private.NO_WRITES == constants.NO_WRITES
    assert langgraph_private.OVERWRITE == constants.OVERWRITE
    assert langgraph_private.INTERRUPTS == constants.INTERRUPT
    assert langgraph_private.SENT_TASKS == constants.TASKS
    assert {*langgraph_private.NOT_OUTPUT} == {*CONTROL_WRITES}
    assert langgraph_private.place_of_task(task_path_str((constants.PUSH, 12))) == 12
    assert langgraph_private.place_of_task(task_path_str((constants.PULL, "planner"))) == "planner"
    with pytest.raises(ValueError, match="other"):
        langgraph_private.place_of_task("~other, planner")


async def test_a_route_reads_what_its_node_wrote_as_langgraph_would_read_it():
    seen = {}

    def route(state, config):
        seen["langgraph"] = {name: state[name] for name in ("plan", "results")}
        seen["ours"] = langgraph_private.read_written(config, ["plan", "results"])
        return END

    builder = StateGraph(Shared)
    builder.add_node("first", lambda state: {"plan": {"made": "now"}, "results": {"b": 2}})
    builder.add_edge(START, "first")
    builder.add_conditional_edges("first", RunnableLambda(route), [END])
    graph = builder.compile(checkpointer=InMemorySaver())
    await graph.ainvoke({"results": {"a": 1}}, THREAD)
    assert seen["ours"] == seen["langgraph"] == {"plan": {"made": "now"}, "results": {"a": 1, "b": 2}}
    await graph.aupdate_state(THREAD, {"results": {"__overwrite__": {"c": 3}}}, as_node="first")
    assert seen["ours"] == seen["langgraph"] == {"plan": {"made": "now"}, "results": {"c": 3}}
