"""Every way into the agent gives the same result, with every kind of storage, at full parallelism."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain_core.tools import StructuredTool
from logged_tools import Log, bound, make_tools, plan
from savers import ASYNC, SYNC, aopened, opened, thread

from plan_execute import Context, ScriptedModel, create_plan_execute_agent
from plan_execute.errors import ConfigurationError, ThreadNotFoundError
from plan_execute.graph.control import cancel_run, edit_plan, fork_outlook, retry_steps

PLAN = plan(
    bound("a", "look"),
    bound("b", "nap"),
    bound("c", "put", "a", "b"),
    bound("d", "send", "c"),
    {"id": "sum", "task": "sum up ${d}", "tools": []},
)
FREE = Context(approval="never")
EXPECTED = {
    "a": "look a: ",
    "b": "nap b: ",
    "c": "put c: look a:  nap b: ",
    "d": "send d: put c: look a:  nap b: ",
    "sum": "summed up",
}


def agent_of(tmp_path, storage):
    model = ScriptedModel({"executor": ["summed up"], "synthesizer": ["The end."]}, strict=False)
    return create_plan_execute_agent(model, tools=make_tools(Log(tmp_path / "log")), **storage)


def outputs(values):
    return {step_id: result["output"] for step_id, result in values["results"].items()}


def is_whole(values):
    return values["status"] == "done" and outputs(values) == EXPECTED and values["final_answer"] == "The end."


# --- every mode, every storage ------------------------------------------------------------


@pytest.mark.parametrize("kind", SYNC)
def test_sync_entry_points_agree_in_every_mode(tmp_path, kind):
    with opened(kind, tmp_path) as storage:
        agent = agent_of(tmp_path, storage)
        assert is_whole(agent.invoke(PLAN, thread("invoke"), context=FREE))
        assert is_whole([*agent.stream(PLAN, thread("values"), context=FREE, stream_mode="values")][-1])
        hold_modes(
            {
                mode: [*agent.stream(PLAN, thread(mode), context=FREE, stream_mode=mode)]
                for mode in ("updates", "custom", "messages")
            }
        )
        many = agent.stream(PLAN, thread("many"), context=FREE, stream_mode=["values", "updates", "custom"])
        assert {mode for mode, _ in many} == {"values", "updates", "custom"}
        both = {"stream_mode": ["updates", "messages"], "subgraphs": True}
        inner = agent.stream(PLAN, thread("inner"), context=FREE, **both)
        hold_subgraphs([*inner])


@pytest.mark.parametrize("kind", ASYNC)
async def test_async_entry_points_agree_in_every_mode(tmp_path, kind):
    async with aopened(kind, tmp_path) as storage:
        agent = agent_of(tmp_path, storage)

        async def collect(name, mode, **more):
            stream = agent.astream(PLAN, thread(name), context=FREE, stream_mode=mode, **more)
            return [chunk async for chunk in stream]

        assert is_whole(await agent.ainvoke(PLAN, thread("invoke"), context=FREE))
        assert is_whole((await collect("values", "values"))[-1])
        hold_modes({mode: await collect(mode, mode) for mode in ("updates", "custom", "messages")})
        many = await collect("many", ["values", "updates", "custom"])
        assert {mode for mode, _ in many} == {"values", "updates", "custom"}
        hold_subgraphs(await collect("inner", ["updates", "messages"], subgraphs=True))


def hold_modes(chunks):
    nodes = [node for chunk in chunks["updates"] for node in chunk]
    assert nodes.count("executor") == len(EXPECTED)
    assert nodes[:3] == ["planner", "validator", "dispatcher"]
    assert nodes[-1] == "synthesizer"
    finished = {event["step_id"] for event in chunks["custom"] if event["type"] == "step_finished"}
    assert finished == set(EXPECTED)
    assert "The end." in spoken(chunks["messages"])


def spoken(chunks):
    return "".join(message.text for message, _ in chunks)


def hold_subgraphs(chunks):
    depths = {len(namespace) for namespace, mode, _ in chunks if mode == "updates"}
    assert depths == {0, 2}, "the agent step's own graph is streamed too"
    inner = [part for namespace, mode, part in chunks if namespace and mode == "messages"]
    assert "summed up" in spoken(inner)


# --- parallelism --------------------------------------------------------------------------


def meeting_tool(size, *, blocking):
    """Make a read that returns only when ``size`` calls of it are under way at once."""
    barrier, meeting = threading.Barrier(size, timeout=60), asyncio.Barrier(size)

    def meet(name: str) -> str:
        """Wait for all the others."""
        barrier.wait()
        return name

    async def ameet(name: str) -> str:
        """Wait for all the others."""
        async with asyncio.timeout(60):
            await meeting.wait()
        return name

    if blocking:
        return StructuredTool.from_function(meet, name="meet", metadata={"effect": "read"})
    return StructuredTool.from_function(coroutine=ameet, name="meet", metadata={"effect": "read"})


def meeting(size):
    names = [f"s{n}" for n in range(size)]
    return plan(*({"id": s, "task": "", "call": {"tool": "meet", "args": {"name": s}}} for s in names))


WIDE = Context(approval="never", max_parallel=30, on_failure="abort", max_attempts=1)


@pytest.mark.parametrize(("size", "blocking"), [(30, True), (12, False)])
@pytest.mark.parametrize("kind", SYNC)
def test_all_independent_steps_run_at_once_from_sync_code(tmp_path, kind, size, blocking):
    with opened(kind, tmp_path) as storage:
        agent = create_plan_execute_agent(None, tools=[meeting_tool(size, blocking=blocking)], **storage)
        values = agent.invoke(meeting(size), thread(), context=WIDE)
        assert values["status"] == "done", values["final_answer"]


@pytest.mark.parametrize(("size", "blocking"), [(30, True), (12, False)])
@pytest.mark.parametrize("kind", ASYNC)
async def test_all_independent_steps_run_at_once_from_async_code(tmp_path, kind, size, blocking):
    async with aopened(kind, tmp_path) as storage:
        agent = create_plan_execute_agent(None, tools=[meeting_tool(size, blocking=blocking)], **storage)
        values = await agent.ainvoke(meeting(size), thread(), context=WIDE)
        assert values["status"] == "done", values["final_answer"]


# --- many callers at once -----------------------------------------------------------------


@pytest.mark.parametrize("kind", SYNC)
async def test_a_sync_call_inside_a_running_event_loop_works(tmp_path, kind):
    with opened(kind, tmp_path) as storage:
        assert is_whole(agent_of(tmp_path, storage).invoke(PLAN, thread(), context=FREE))


async def test_a_sync_call_that_would_wait_for_its_own_loop_is_refused(tmp_path):
    async with aopened("aiosqlite", tmp_path) as storage:
        with pytest.raises(ConfigurationError, match="ainvoke"):
            agent_of(tmp_path, storage).invoke(PLAN, thread(), context=FREE)


async def test_sync_calls_from_other_threads_reach_an_async_saver(tmp_path):
    async with aopened("aiosqlite", tmp_path) as storage:
        agent = agent_of(tmp_path, storage)
        calls = [asyncio.to_thread(agent.invoke, PLAN, thread(str(n)), context=FREE) for n in range(3)]
        assert all(is_whole(values) for values in await asyncio.gather(*calls))


@pytest.mark.parametrize("kind", SYNC)
def test_threads_of_the_process_share_one_agent(tmp_path, kind):
    with opened(kind, tmp_path) as storage, ThreadPoolExecutor(8) as pool:
        agent = agent_of(tmp_path, storage)
        runs = [pool.submit(agent.invoke, PLAN, thread(str(n)), context=FREE) for n in range(8)]
        assert all(is_whole(run.result(timeout=30)) for run in runs)
    assert set(Log(tmp_path / "log").calls().values()) == {8}


@pytest.mark.parametrize("kind", ASYNC)
async def test_twenty_runs_at_once_on_one_agent(tmp_path, kind):
    async with aopened(kind, tmp_path) as storage:
        agent = agent_of(tmp_path, storage)
        runs = [agent.ainvoke(PLAN, thread(str(n)), context=FREE) for n in range(20)]
        assert all(is_whole(values) for values in await asyncio.gather(*runs))
    assert set(Log(tmp_path / "log").calls().values()) == {20}


def test_a_run_leaves_no_thread_of_a_step_behind():
    used = []

    def where(name: str, text: str, delay: float) -> str:
        """Note the thread."""
        used.append(threading.current_thread())
        return f"{name} {text} {delay}"

    agent = create_plan_execute_agent(None, tools=[where])
    agent.invoke(plan(bound("a", "where"), bound("b", "where", "a")), context=FREE)
    assert len(used) == 2
    for thread_of_step in used:
        thread_of_step.join(60)
        assert not thread_of_step.is_alive()


def test_a_thread_that_with_config_names_is_the_thread_of_every_call(tmp_path):
    with opened("memory", tmp_path) as storage:
        agent = agent_of(tmp_path, storage).with_config(thread("bound"))
        assert is_whole(agent.invoke(PLAN, context=FREE))
        assert is_whole([*agent.stream(PLAN, thread("named"), context=FREE, stream_mode="values")][-1])
        for name in ("bound", "named"):
            assert is_whole(agent.get_state(thread(name)).values)
        for config in ({}, {"configurable": {}}):
            assert is_whole(agent.get_state(config).values)
            assert is_whole(asyncio.run(agent.aget_state(config)).values)
            assert is_whole(next(agent.get_state_history(config)).values)
            exact = agent.get_output(thread("bound"), "a")
            assert agent.get_output(config, "a") == exact
            assert asyncio.run(retry_steps(agent, config, ["a"]))
            assert asyncio.run(fork_outlook(agent, config)).runs
            assert asyncio.run(cancel_run(agent, config)) == "cancelled"
            assert agent.invoke(PLAN, context=FREE)["status"] == "done"


def test_a_call_that_needs_a_thread_says_that_none_is_named(tmp_path):
    with opened("memory", tmp_path) as storage:
        agent = agent_of(tmp_path, storage)
        for config in ({}, {"configurable": {}}):
            for call in (
                lambda: agent.get_state(config),  # noqa: B023
                lambda: asyncio.run(agent.aget_state(config)),  # noqa: B023
                lambda: next(agent.get_state_history(config)),  # noqa: B023
                lambda: agent.get_output(config, "a"),  # noqa: B023
                lambda: asyncio.run(retry_steps(agent, config)),  # noqa: B023
                lambda: asyncio.run(edit_plan(agent, config, PLAN["plan"])),  # noqa: B023
                lambda: asyncio.run(cancel_run(agent, config)),  # noqa: B023
            ):
                with pytest.raises(ConfigurationError, match="thread_id"):
                    call()


def test_a_checkpoint_that_does_not_exist_is_named(tmp_path):
    with opened("memory", tmp_path) as storage:
        agent = agent_of(tmp_path, storage)
        agent.invoke(PLAN, thread(), context=FREE)
        nowhere = {"configurable": {**thread()["configurable"], "checkpoint_id": "c-1"}}
        for call in (lambda: agent.invoke(None, nowhere), lambda: agent.get_output(nowhere, "a")):
            with pytest.raises(ThreadNotFoundError, match="no checkpoint 'c-1' of thread 't'"):
                call()
