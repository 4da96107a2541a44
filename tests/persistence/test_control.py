"""A run is cancelled or mended from outside, and keeps what it has finished."""

import asyncio
import time

import pytest
from crash_child import Workplace
from langgraph.types import Command
from logged_tools import Log, bound, break_tool, make_tools, mend_tool, plan
from savers import ASKING_SYNC, opened, thread

from plan_execute import Context, create_plan_execute_agent
from plan_execute.errors import InvalidInputError, NothingToResumeError, ThreadBusyError, ThreadNotFoundError
from plan_execute.graph.control import cancel_run, retry_steps

NEVER = {"approval": "never", "on_failure": "abort", "max_attempts": 1}


def wait_for(condition, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came to this"
        time.sleep(0.005)


def begun(log, *names):
    return set(names) <= {line.get("name") for line in log.lines() if line["kind"] == "begin"}


def agent_of(log, storage):
    return create_plan_execute_agent(None, tools=make_tools(log), **storage)


# --- cancel -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["local", "local-async", "postgres"])
def test_a_cancel_from_another_process_stops_reads_at_once_and_lets_a_write_finish(children, tmp_path, kind):
    workplace = Workplace(tmp_path, kind)
    log = Log(workplace.log)
    steps = plan(
        bound("done", "look"),
        bound("long", "look", "done", delay=3600),
        bound("mail", "send", "done", delay=2.0),
        bound("later", "send", "long"),
        bound("after_mail", "send", "mail"),
    )
    runner = children.start(workplace, input=steps, context=NEVER)
    wait_for(lambda: begun(log, "long", "mail"))
    assert children.run(workplace, "cancel")["answer"] == "requested"
    answer = runner.answer()
    assert answer["status"] == "partial"
    assert {i: r["status"] for i, r in answer["results"].items()} | {"later": "", "after_mail": ""} == {
        "done": "done",
        "mail": "done",
        "long": "failed",
        "later": "",
        "after_mail": "",
    }
    assert answer["results"]["long"]["error"]["code"] == "stopped"
    assert "told to stop" in answer["final_answer"]
    assert log.calls() == {"done": 1, "mail": 1}


def test_a_cancelled_long_read_stops(children, tmp_path):
    workplace = Workplace(tmp_path, "local")
    runner = children.start(workplace, input=plan(bound("long", "look", delay=3600)), context=NEVER)
    wait_for(lambda: begun(Log(workplace.log), "long"))
    children.run(workplace, "cancel")
    answer = runner.answer()
    assert answer["status"] == "failed"
    assert children.run(workplace, "cancel")["error"] == NothingToResumeError.__name__


def test_a_cancelled_run_can_be_retried_in_a_new_process(children, tmp_path):
    workplace = Workplace(tmp_path, "local")
    log = Log(workplace.log)
    steps = plan(bound("a", "send"), bound("b", "nap", "a", delay=1.5), bound("c", "send", "b"))
    runner = children.start(workplace, input=steps, context=NEVER)
    wait_for(lambda: any(line["kind"] == "finished" for line in log.lines()))
    children.run(workplace, "cancel")
    assert runner.answer()["status"] == "partial"
    assert children.run(workplace, "retry")["answer"] == ["b", "c"]
    assert children.run(workplace)["status"] == "done"
    assert log.calls() == {"a": 1, "b": 1, "c": 1}


@pytest.mark.parametrize("kind", ASKING_SYNC)
async def test_cancelling_a_waiting_run_ends_it_and_keeps_what_had_finished(tmp_path, kind):
    log = Log(tmp_path / "log")
    break_tool(log, "b")
    steps = plan(bound("a", "send"), bound("b", "unsteady", "a"), bound("c", "send"), bound("d", "send", "b"))
    with opened(kind, tmp_path) as storage:
        agent = agent_of(log, storage)
        ask = Context(approval="never", on_failure="ask", max_attempts=1)
        assert (await agent.ainvoke(steps, thread(), context=ask))["__interrupt__"]
        assert await cancel_run(agent, thread()) == "cancelled"
        state = await agent.aget_state(thread())
        assert not state.next
        assert not state.interrupts
        assert state.values["status"] == "partial"
        statuses = {i: r["status"] for i, r in state.values["results"].items()}
        # What was tried and failed is not called "not started", although a person was still being asked.
        assert statuses == {"a": "done", "b": "failed", "c": "done"}
        assert "cancelled" in state.values["final_answer"]
        with pytest.raises(NothingToResumeError):
            await cancel_run(agent, thread())
    assert log.calls() == {"a": 1, "b": 1, "c": 1}


@pytest.mark.parametrize("kind", ASKING_SYNC)
async def test_a_run_of_the_same_agent_is_stopped_whatever_keeps_its_state(tmp_path, kind):
    log = Log(tmp_path / "log")
    steps = plan(bound("a", "send"), bound("b", "nap", "a", delay=3600), bound("c", "send", "b"))
    with opened(kind, tmp_path) as storage:
        agent = agent_of(log, storage)
        running = asyncio.ensure_future(agent.ainvoke(steps, thread(), context=Context(**NEVER)))
        async with asyncio.timeout(60):
            while not begun(log, "b"):
                await asyncio.sleep(0.01)
        assert await cancel_run(agent, thread()) == "requested"
        values = await asyncio.wait_for(running, 60)
        assert values["status"] == "partial"
        assert (await agent.aget_state(thread())).values["final_answer"] == values["final_answer"]
        with pytest.raises(NothingToResumeError):
            await cancel_run(agent, thread())
    assert log.calls() == {"a": 1}


@pytest.mark.parametrize("kind", ASKING_SYNC)
async def test_cancelling_an_unapproved_plan_runs_nothing(tmp_path, kind):
    log = Log(tmp_path / "log")
    with opened(kind, tmp_path) as storage:
        agent = agent_of(log, storage)
        await agent.ainvoke(plan(bound("a", "send")), thread())
        assert await cancel_run(agent, thread()) == "cancelled"
        assert (await agent.aget_state(thread())).values["status"] == "failed"
        with pytest.raises(NothingToResumeError):
            await agent.ainvoke(Command(resume="approve"), thread())
    assert not log.lines()


@pytest.mark.parametrize("change", [cancel_run, retry_steps])
@pytest.mark.parametrize("kind", ASKING_SYNC)
async def test_a_thread_that_does_not_exist_is_neither_cancelled_nor_made(tmp_path, kind, change):
    with opened(kind, tmp_path) as storage:
        agent = agent_of(Log(tmp_path / "log"), storage)
        with pytest.raises(ThreadNotFoundError):
            await change(agent, thread("nobody"))
        assert (await agent.aget_state(thread("nobody"))).created_at is None


# --- retry --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ASKING_SYNC)
async def test_failed_steps_run_again_with_what_depends_on_them_and_nothing_else(tmp_path, kind):
    log = Log(tmp_path / "log")
    break_tool(log, "b")
    steps = plan(bound("a", "send"), bound("b", "unsteady", "a"), bound("c", "send", "b"), bound("d", "send"))
    with opened(kind, tmp_path) as storage:
        agent = agent_of(log, storage)
        values = await agent.ainvoke(steps, thread(), context=Context(**NEVER))
        assert values["status"] == "partial"
        mend_tool(log, "b")
        assert await retry_steps(agent, thread()) == ["b", "c"]
        values = await agent.ainvoke(None, thread())
        assert values["status"] == "done"
        assert values["results"]["b"]["attempts"] == 2
        assert "c" in values["final_answer"]
    assert log.calls() == {"a": 1, "b": 2, "c": 1, "d": 1}


@pytest.mark.parametrize("kind", ASKING_SYNC)
async def test_a_finished_step_runs_again_only_when_it_is_chosen(tmp_path, kind):
    log = Log(tmp_path / "log")
    steps = plan(bound("a", "send"), bound("b", "send", "a"), bound("c", "send"))
    with opened(kind, tmp_path) as storage:
        agent = agent_of(log, storage)
        await agent.ainvoke(steps, thread(), context=Context(**NEVER))
        with pytest.raises(InvalidInputError, match="no step failed"):
            await retry_steps(agent, thread())
        with pytest.raises(InvalidInputError, match="known steps: a, b, c"):
            await retry_steps(agent, thread(), ["z"])
        for times in (2, 3):
            assert await retry_steps(agent, thread(), ["b"]) == ["b"]
            values = await agent.ainvoke(None, thread())
            assert values["status"] == "done"
            assert log.calls() == {"a": 1, "b": times, "c": 1}
        assert await retry_steps(agent, thread(), ["a"]) == ["a", "b"]
        values = await agent.ainvoke(None, thread())
        assert [one.value["step_id"] for one in values["__interrupt__"]] == ["b"], "it was not chosen"
    assert log.calls() == {"a": 2, "b": 3, "c": 1}


@pytest.mark.parametrize("kind", ["local", "sqlite"])
def test_a_retry_ordered_in_one_process_is_carried_out_in_another(children, tmp_path, kind):
    workplace = Workplace(tmp_path, kind)
    log = Log(workplace.log)
    break_tool(log, "b")
    children.run(workplace, input=plan(bound("a", "look"), bound("b", "unsteady", "a")), context=NEVER)
    mend_tool(log, "b")
    assert children.run(workplace, "retry")["answer"] == ["b"]
    answer = children.run(workplace)
    if kind == "sqlite":
        # Without a store the new process has no record of the write, so it asks instead of repeating it.
        [question] = answer["questions"]
        assert question["value"]["action_requests"][0]["name"] == "resolve_unknown_outcome"
        assert log.calls() == {"a": 1, "b": 1}
        answer = children.run(workplace, resume={"type": "edit", "args": {"decision": "run_again"}})
    assert answer["status"] == "done", answer
    assert log.calls() == {"a": 1, "b": 2}


def test_a_running_thread_is_not_mended(children, tmp_path):
    workplace = Workplace(tmp_path, "local")
    runner = children.start(workplace, input=plan(bound("a", "look", delay=20)), context=NEVER)
    wait_for(lambda: begun(Log(workplace.log), "a"))
    assert children.run(workplace, "retry")["error"] == ThreadBusyError.__name__
    runner.kill()


@pytest.mark.parametrize("kind", ASKING_SYNC)
async def test_a_retry_while_another_step_waits_leaves_the_question_to_be_asked_anew(tmp_path, kind):
    log = Log(tmp_path / "log")
    break_tool(log, "b")
    steps = plan(bound("a", "send"), bound("b", "unsteady"), bound("c", "send", "a"))
    with opened(kind, tmp_path) as storage:
        agent = agent_of(log, storage)
        ask = Context(approval="never", on_failure="ask", max_attempts=1)
        await agent.ainvoke(steps, thread(), context=ask)
        assert await retry_steps(agent, thread(), ["a", "c"]) == ["a", "c"]
        values = await agent.ainvoke(None, thread())
        assert [i.value["step_id"] for i in values["__interrupt__"]] == ["b"]
        assert log.calls() == {"a": 2, "b": 1, "c": 2}
