"""One runner per thread, on one machine or over a database; who comes second is told at once."""

import asyncio
import threading
import time

import pytest
from crash_child import Workplace
from langchain_core.tools import StructuredTool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command
from logged_tools import Log, bound, break_tool, make_tools, mend_tool, plan
from savers import opened, thread

from plan_execute import Context, create_plan_execute_agent
from plan_execute.errors import ThreadBusyError, ThreadError, ThreadUnfinishedError
from plan_execute.graph.control import cancel_run, retry_steps
from plan_execute.storage.adapters import _held_threads

SLOW = plan(bound("a", "look"), bound("b", "nap", "a", delay=3600))
WRITING = plan(bound("a", "send", delay=0.3))
FREE = {"approval": "never"}


def begun(log, name):
    return any(line.get("name") == name for line in log.lines())


def wait_for(condition, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came to this"
        time.sleep(0.005)


@pytest.mark.parametrize("kind", ["local", "local-async", "postgres", "postgres-async"])
def test_a_second_process_is_told_at_once_and_a_kill_frees_the_thread(children, tmp_path, kind):
    workplace = Workplace(tmp_path, kind)
    first = children.start(workplace, input=SLOW, context=FREE)
    wait_for(lambda: begun(Log(workplace.log), "a"))
    for job in ({"input": SLOW, "context": FREE}, {}, {"resume": "approve"}):
        second = children.start(workplace, **job)
        assert second.answer()["error"] == ThreadBusyError.__name__
    other = Workplace(tmp_path, kind, "another thread")
    assert children.run(other, input=WRITING, context=FREE)["status"] == "done"
    first.kill()
    quick = children.start(workplace)
    wait_for(lambda: not quick.out.exists())
    quick.kill()
    assert Log(workplace.log).calls("look") == {"a": 1}


@pytest.mark.parametrize("kind", ["memory", "sqlite", "local", "postgres"])
def test_a_second_thread_of_the_process_is_told_at_once(tmp_path, kind):
    log = Log(tmp_path / "log")
    with opened(kind, tmp_path) as storage:
        agent = create_plan_execute_agent(None, tools=make_tools(log), **storage)
        stream = agent.stream(SLOW, thread(), context=Context(**FREE), stream_mode="custom")
        next(stream)
        refused = threading.Event()

        def second():
            with pytest.raises(ThreadBusyError):
                agent.invoke(None, thread())
            refused.set()

        threading.Thread(target=second).start()
        assert refused.wait(60), "told while the first one runs"
        with pytest.raises(ThreadBusyError, match="'t'"):
            agent.invoke(SLOW, thread(), context=Context(**FREE))
        stream.close()


@pytest.mark.parametrize("kind", ["memory", "sqlite", "local", "postgres"])
async def test_of_two_resumes_at_the_same_moment_one_runs(tmp_path, kind):
    log = Log(tmp_path / "log")
    with opened(kind, tmp_path) as storage:
        agent = create_plan_execute_agent(None, tools=make_tools(log), **storage)
        await agent.ainvoke(WRITING, thread())
        resumes = [agent.ainvoke(Command(resume="approve"), thread()) for _ in range(5)]
        ended = await asyncio.gather(*resumes, return_exceptions=True)
    assert sum(isinstance(each, ThreadBusyError) for each in ended) == 4
    assert [each["status"] for each in ended if isinstance(each, dict)] == ["done"]
    assert log.calls() == {"a": 1}


@pytest.mark.parametrize("kind", ["local", "postgres"])
def test_of_two_processes_that_resume_at_the_same_moment_one_runs(children, tmp_path, kind):
    workplace = Workplace(tmp_path, kind)
    children.run(workplace, input=WRITING)
    both = [children.start(workplace, resume="approve") for _ in range(4)]
    answers = [child.answer() for child in both]
    assert sum(answer.get("status") == "done" for answer in answers) == 1
    assert all(answer.get("status") == "done" or answer["error"] in known_errors() for answer in answers)
    assert Log(workplace.log).calls() == {"a": 1}


def test_of_two_processes_that_go_on_at_the_same_instant_one_runs_and_its_death_frees_the_thread(
    children, tmp_path
):
    workplace = Workplace(tmp_path, "local")
    log = Log(workplace.log)
    break_tool(log, "hang")
    steps = plan(bound("a", "send"), bound("hang", "stall", "a"), bound("z", "send", "hang"))
    winner = children.start(workplace, input=steps, context=FREE)
    wait_for(lambda: begun(log, "hang"))
    for _ in range(20):
        winner.kill()  # whoever comes next can go on at once
        hung = log_of(log, "hang")
        instant = time.time() + 0.05
        both = [children.start(workplace, at=instant) for _ in range(2)]
        wait_for(lambda: log_of(log, "hang") > hung and any(child.out.exists() for child in both))  # noqa: B023
        [loser] = [child for child in both if child.out.exists()]
        [winner] = [child for child in both if child is not loser]
        assert loser.answer()["error"] == ThreadBusyError.__name__
        assert winner.running()
        assert log_of(log, "hang") == hung + 1
    winner.kill()
    mend_tool(log, "hang")
    assert children.run(workplace)["status"] == "done"
    assert log.calls() == {"a": 1, "hang": 1, "z": 1}


def log_of(log, name):
    """Count how often a call was begun."""
    return sum(line.get("name") == name and line["kind"] == "begin" for line in log.lines())


def known_errors():
    """Busy, or ended already: whichever the second one met."""
    return {each.__name__ for each in ThreadError.__subclasses__()}


@pytest.mark.parametrize("kind", ["memory", "sqlite", "local", "postgres"])
async def test_a_run_whose_stream_was_left_lets_the_next_one_go_on(tmp_path, kind):
    log = Log(tmp_path / "log")
    asks = {"plan": {"steps": [{"id": "a", "ask": {"question": "Which?"}}]}}
    with opened(kind, tmp_path) as storage:
        agent = create_plan_execute_agent(None, tools=make_tools(log), **storage)
        async for update in agent.astream(asks, thread(), stream_mode="updates"):
            if "__interrupt__" in update:
                break
        ended = await agent.ainvoke(Command(resume="this one"), thread())
        assert ended["results"]["a"]["output"] == "this one"
        async for event in agent.astream(SLOW, thread(), context=Context(**FREE), stream_mode="custom"):
            if event["type"] == "step_finished":
                break
        with pytest.raises(ThreadUnfinishedError):
            await agent.ainvoke(WRITING, thread())


@pytest.mark.parametrize("kind", ["memory", "sqlite", "local", "postgres"])
async def test_a_run_whose_stream_was_left_lets_an_order_and_another_agent_in_when_it_ends(tmp_path, kind):
    reached, may_end = asyncio.Event(), asyncio.Event()

    async def tidy(name: str, text: str = "", delay: float = 0.0) -> str:
        """Wait, and tidy up before it ends."""
        reached.set()
        try:
            await asyncio.sleep(3600 if not may_end.is_set() else 0)
        finally:
            await may_end.wait()
        return name

    tools = [StructuredTool.from_function(coroutine=tidy, metadata={"effect": "read"})]
    steps = plan(bound("a", "tidy"))
    with opened(kind, tmp_path) as storage:
        agents = [create_plan_execute_agent(None, tools=tools, **storage) for _ in range(2)]
        for given, use in (
            (steps, lambda: retry_steps(agents[0], thread(), ["a"])),
            (None, lambda: retry_steps(agents[1], thread(), ["a"])),
            (None, lambda: cancel_run(agents[0], thread())),
            (steps, lambda: agents[1].ainvoke(None, thread())),
        ):
            reached.clear()
            may_end.clear()
            async for event in agents[0].astream(
                given, thread(), context=Context(**FREE), stream_mode="custom"
            ):
                if event["type"] == "step_started":
                    await reached.wait()
                    break
            using = asyncio.create_task(use())
            await asyncio.sleep(0.5)  # longer than one waits for a run that is not about to end
            assert not using.done()
            may_end.set()
            assert await using not in ("requested", [])


async def test_a_stream_left_inside_a_node_leaves_no_mark_for_the_next_run_to_wait_for(tmp_path):
    log = Log(tmp_path / "log")
    agent = create_plan_execute_agent(None, tools=make_tools(log), checkpointer=InMemorySaver())

    async def node(state, config):
        async for _ in agent.astream(WRITING, config, context=Context(**FREE)):
            break
        return state

    builder = StateGraph(dict).add_node("node", node).add_edge(START, "node")
    await builder.compile(checkpointer=InMemorySaver()).ainvoke({"a": 1}, thread())
    begun_at = time.monotonic()
    assert (await agent.ainvoke(WRITING, thread(), context=Context(**FREE)))["status"] == "done"
    assert time.monotonic() - begun_at < 10, "it waited for a run that had ended"
    assert not _held_threads


@pytest.mark.parametrize("kind", ["memory", "sqlite", "local", "postgres"])
def test_a_sync_stream_that_was_read_to_its_question_lets_the_answer_in(tmp_path, kind):
    asks = {"plan": {"steps": [{"id": "a", "ask": {"question": "Which?"}}]}}
    with opened(kind, tmp_path) as storage:
        agent = create_plan_execute_agent(None, **storage)
        stream = agent.stream(asks, thread(), stream_mode="updates")
        next(update for update in stream if "__interrupt__" in update)
        assert agent.invoke(Command(resume="this one"), thread())["status"] == "done"
