"""A run that waits, or was stopped, goes on in a new agent and a new process; what has finished stays."""

import asyncio
import time
from contextlib import aclosing

import pytest
from crash_child import Workplace
from langchain_core.tools import StructuredTool
from langgraph.types import Command
from logged_tools import Log, bound, break_tool, make_tools, mend_tool, plan
from savers import ASKING_SYNC, opened, thread

from plan_execute import Context, create_plan_execute_agent
from plan_execute.errors import (
    InvalidAnswerError,
    InvalidInputError,
    NothingToResumeError,
    QuestionOpenError,
    ThreadNotFoundError,
    ThreadUnfinishedError,
)

KINDS = ["local", "local-async", "sqlite", "sqlite-async", "postgres", "postgres-async"]
WRITING = plan(bound("a", "look"), bound("b", "send", "a"), bound("c", "put", "b"))
FAILING = plan(
    bound("a", "look"),
    bound("b", "unsteady", "a"),
    bound("c", "unsteady", "a"),
    bound("d", "send", "b", "c"),
    bound("e", "send", "a"),
)
ASK = {"approval": "never", "on_failure": "ask", "max_attempts": 1}


def asked(answer):
    return {q["value"].get("step_id", "plan"): q["id"] for q in answer["questions"]}


def edit(**args):
    return {"type": "edit", "args": args}


# --- in a new process ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_an_approval_is_given_in_a_new_process(children, tmp_path, kind):
    workplace = Workplace(tmp_path, kind)
    first = children.run(workplace, input=WRITING)
    assert [q["value"]["action_requests"][0]["name"] for q in first["questions"]] == ["approve_plan"]
    assert not Log(workplace.log).lines()
    last = children.run(workplace, resume="approve")
    assert last["status"] == "done"
    assert last["results"]["c"]["output"] == "put c: send b: look a: "
    assert Log(workplace.log).calls() == {"a": 1, "b": 1, "c": 1}


@pytest.mark.parametrize("kind", KINDS)
def test_failures_are_answered_in_new_processes_and_nothing_finished_runs_again(children, tmp_path, kind):
    workplace = Workplace(tmp_path, kind)
    log = Log(workplace.log)
    break_tool(log, "b")
    break_tool(log, "c")
    first = children.run(workplace, input=FAILING, context=ASK)
    assert set(asked(first)) == {"b", "c"}
    assert {i: r["status"] for i, r in first["results"].items()} == {"a": "done", "e": "done"}
    mend_tool(log, "b")
    second = children.run(workplace, resume={asked(first)["b"]: {"type": "approve"}})
    assert set(asked(second)) == {"c"}
    assert second["results"]["b"]["output"] == "unsteady b: look a: "
    third = children.run(workplace, resume=edit(decision="supply", output={"by": "hand"}))
    assert third["status"] == "done"
    assert third["results"]["c"]["verdict"] == "unverified"
    assert third["results"]["d"]["output"] == 'send d: unsteady b: look a:  {"by": "hand"}'
    assert log.calls() == {"a": 1, "b": 2, "c": 1, "d": 1, "e": 1}


@pytest.mark.parametrize("kind", ["local", "sqlite"])
def test_a_skip_in_a_new_process_lets_dependents_run_with_null(children, tmp_path, kind):
    workplace = Workplace(tmp_path, kind)
    log = Log(workplace.log)
    break_tool(log, "b")
    first = children.run(workplace, input=FAILING, context=ASK)
    last = children.run(workplace, resume={asked(first)["b"]: edit(decision="skip")})
    assert last["status"] == "partial"
    assert {i: r["status"] for i, r in last["results"].items()} == {
        "a": "done",
        "b": "skipped",
        "c": "done",
        "d": "done",
        "e": "done",
    }
    assert log.calls() == {"a": 1, "b": 1, "c": 1, "d": 1, "e": 1}


@pytest.mark.parametrize("kind", ["local", "sqlite"])
def test_an_abort_in_a_new_process_ends_with_a_report_and_keeps_what_was_done(children, tmp_path, kind):
    workplace = Workplace(tmp_path, kind)
    log = Log(workplace.log)
    break_tool(log, "b")
    first = children.run(workplace, input=FAILING, context=ASK)
    last = children.run(workplace, resume={asked(first)["b"]: edit(decision="abort")})
    assert last["status"] == "partial"
    assert "b is out of order" in last["final_answer"]
    assert log.calls() == {"a": 1, "b": 1, "c": 1, "e": 1}


@pytest.mark.parametrize("kind", ["local", "sqlite"])
def test_several_retries_over_several_processes_count_on(children, tmp_path, kind):
    workplace = Workplace(tmp_path, kind)
    log = Log(workplace.log)
    break_tool(log, "b")
    answer = children.run(workplace, input=FAILING, context=ASK)
    for _ in range(2):
        answer = children.run(workplace, resume={asked(answer)["b"]: {"type": "approve"}})
    mend_tool(log, "b")
    answer = children.run(workplace, resume={asked(answer)["b"]: {"type": "approve"}})
    assert answer["status"] == "done"
    assert answer["results"]["b"]["attempts"] == 4
    assert log.calls() == {"a": 1, "b": 4, "c": 1, "d": 1, "e": 1}


@pytest.mark.parametrize("kind", ["local", "sqlite"])
def test_an_ended_run_cannot_be_resumed_and_an_open_one_takes_no_new_goal(children, tmp_path, kind):
    workplace = Workplace(tmp_path, kind)
    assert children.run(workplace, resume="approve")["error"] == ThreadNotFoundError.__name__
    children.run(workplace, input=WRITING)
    assert children.run(workplace, input=WRITING)["error"] == QuestionOpenError.__name__
    assert children.run(workplace, resume="perhaps")["error"] == InvalidAnswerError.__name__
    assert children.run(workplace, resume={"f" * 32: "approve"})["error"] == InvalidAnswerError.__name__
    assert children.run(workplace, resume="approve")["status"] == "done"
    assert children.run(workplace)["error"] == NothingToResumeError.__name__
    assert children.run(workplace, resume="approve")["error"] == NothingToResumeError.__name__
    assert Log(workplace.log).calls() == {"a": 1, "b": 1, "c": 1}


@pytest.mark.parametrize("kind", ["local", "sqlite"])
def test_a_killed_run_takes_no_new_goal(children, tmp_path, kind):
    workplace = Workplace(tmp_path, kind)
    steps = plan(bound("a", "look"), bound("b", "look", "a", delay=20))
    child = children.start(workplace, input=steps, context=ASK)
    wait_for(lambda: any(line.get("name") == "b" for line in Log(workplace.log).lines()))
    child.kill()
    assert children.run(workplace, input=WRITING)["error"] == ThreadUnfinishedError.__name__


def test_an_empty_input_goes_on_with_a_run_that_stopped_and_answers_no_question(tmp_path):
    with opened("local", tmp_path) as storage:
        agent = agent_of(tmp_path, storage)
        agent.invoke(WRITING, thread("asks"), context=Context(approval="always"))
        with pytest.raises(QuestionOpenError):
            agent.invoke({}, thread("asks"))
        never = Context(approval="never")
        agent.invoke(WRITING, thread("stopped"), context=never, interrupt_before=["executor"])
        assert agent.invoke({}, thread("stopped"))["status"] == "done"
        with pytest.raises(InvalidInputError, match="the goal is empty"):
            agent.invoke({}, thread("stopped"))


def test_a_run_that_a_server_starts_again_goes_on_and_another_with_the_same_input_is_refused(tmp_path):
    def served(run_id):
        return {**thread("killed"), "metadata": {"langgraph_api_version": "0.16.7", "run_id": run_id}}

    with opened("local", tmp_path) as storage:
        agent = agent_of(tmp_path, storage)
        never = Context(approval="never")
        agent.invoke(WRITING, served("one"), context=never, interrupt_before=["executor"])
        with pytest.raises(ThreadUnfinishedError):
            agent.invoke(WRITING, served("two"), context=never)
        assert agent.invoke(WRITING, served("one"), context=never)["status"] == "done"
    assert Log(tmp_path / "log").calls() == {"a": 1, "b": 1, "c": 1}


# --- in a new agent -----------------------------------------------------------------------


def agent_of(tmp_path, storage):
    return create_plan_execute_agent(None, tools=make_tools(Log(tmp_path / "log")), **storage)


@pytest.mark.parametrize("kind", ASKING_SYNC)
def test_a_new_agent_goes_on_where_the_old_one_waited(tmp_path, kind):
    log = Log(tmp_path / "log")
    break_tool(log, "b")
    break_tool(log, "c")
    with opened(kind, tmp_path) as storage:
        values = agent_of(tmp_path, storage).invoke(FAILING, thread(), context=Context(**ASK))
        mend_tool(log, "b")
        mend_tool(log, "c")
        answers = {question.id: {"type": "approve"} for question in values["__interrupt__"]}
        values = agent_of(tmp_path, storage).invoke(Command(resume=answers), thread())
        assert values["status"] == "done"
    assert log.calls() == {"a": 1, "b": 2, "c": 2, "d": 1, "e": 1}


@pytest.mark.parametrize("kind", ASKING_SYNC)
def test_what_has_finished_is_in_the_state_while_another_step_waits(tmp_path, kind):
    log = Log(tmp_path / "log")
    break_tool(log, "b")
    with opened(kind, tmp_path) as storage:
        agent = agent_of(tmp_path, storage)
        values = agent.invoke(FAILING, thread(), context=Context(**ASK))
        state = agent.get_state(thread())
        for results in (state.values["results"], values["results"]):
            assert {i: r["status"] for i, r in results.items()} == {"a": "done", "c": "done", "e": "done"}


@pytest.mark.parametrize("kind", ASKING_SYNC)
def test_a_second_run_of_the_same_plan_on_one_thread_runs_it_again(tmp_path, kind):
    named = {"plan": {**WRITING["plan"], "id": "fixed"}}
    with opened(kind, tmp_path) as storage:
        agent = agent_of(tmp_path, storage)
        agent.invoke(named, thread(), context=Context(approval="never"))
        values = agent.invoke(named, thread(), context=Context(approval="never"))
        assert values["status"] == "done"
    assert Log(tmp_path / "log").calls() == {"a": 2, "b": 2, "c": 2}


@pytest.mark.parametrize("kind", ASKING_SYNC)
def test_a_fork_from_an_older_checkpoint_reuses_finished_results(tmp_path, kind):
    with opened(kind, tmp_path) as storage:
        agent = agent_of(tmp_path, storage)
        done = agent.invoke(WRITING, thread(), context=Context(approval="never"))
        before = next(s for s in agent.get_state_history(thread()) if s.next == ("dispatcher",))
        assert not before.values.get("results")
        forked = agent.invoke(None, before.config)
        assert forked["status"] == "done"
        assert forked["results"] == done["results"]
    assert Log(tmp_path / "log").calls() == {"a": 1, "b": 1, "c": 1}


@pytest.mark.parametrize("kind", ASKING_SYNC)
@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_every_durability_carries_questions_and_results(tmp_path, kind, durability):
    log = Log(tmp_path / "log")
    break_tool(log, "b")
    with opened(kind, tmp_path) as storage:
        agent = agent_of(tmp_path, storage)
        asks = Context(on_failure="ask", max_attempts=1)
        agent.invoke(FAILING, thread(), context=asks, durability=durability)
        agent.invoke(Command(resume="approve"), thread(), durability=durability)
        assert set(agent.get_state(thread()).values["results"]) == {"a", "c", "e"}
        mend_tool(log, "b")
        values = agent.invoke(Command(resume={"type": "approve"}), thread(), durability=durability)
        assert values["status"] == "done"
    assert log.calls() == {"a": 1, "b": 2, "c": 1, "d": 1, "e": 1}


def test_a_kill_under_exit_durability_repeats_no_write(children, tmp_path):
    workplace = Workplace(tmp_path, "local")
    steps = plan(bound("a", "look"), bound("b", "send", "a"), bound("c", "look", "b", delay=20))
    children.run(workplace, input=steps, durability="exit")
    child = children.start(workplace, resume="approve", durability="exit")
    wait_for(lambda: any(line.get("name") == "c" for line in Log(workplace.log).lines()))
    child.kill()
    child = children.start(workplace, durability="exit")  # the answer was kept
    wait_for(lambda: sum(line.get("name") == "c" for line in Log(workplace.log).lines()) == 2)
    child.kill()
    assert Log(workplace.log).calls() == {"a": 1, "b": 1}


# --- stopping on purpose ------------------------------------------------------------------

LONG = plan(bound("a", "look"), bound("b", "send", "a"), bound("c", "nap", "b", delay=3600))


def napping(log):
    return any(line["kind"] == "begin" and line["tool"] == "nap" for line in log.lines())


def wait_for(condition, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came to this"
        time.sleep(0.005)


def shortened(agent, config, tmp_path):
    """Go on with a tool that does not nap for long."""
    quick = [each for each in make_tools(Log(tmp_path / "log")) if each.name != "nap"]

    def nap(name: str, q: str = "", delay: float = 0.0) -> str:
        """Answer at once."""
        return f"quick {name}"

    tools = [*quick, StructuredTool.from_function(nap, metadata={"effect": "read"})]
    again = create_plan_execute_agent(None, tools=tools, checkpointer=agent.checkpointer, store=agent.store)
    return again.invoke(None, config)


@pytest.mark.parametrize("kind", ASKING_SYNC)
def test_closing_a_stream_stops_the_work_and_the_thread_goes_on_with_none(tmp_path, kind):
    log = Log(tmp_path / "log")
    with opened(kind, tmp_path) as storage:
        agent = agent_of(tmp_path, storage)
        stream = agent.stream(LONG, thread(), context=Context(approval="never"), stream_mode="custom")
        for event in stream:
            if event["type"] == "tool_call" and event["tool"] == "nap":
                break
        stream.close()
        assert shortened(agent, thread(), tmp_path)["status"] == "done"
    assert log.calls() == {"a": 1, "b": 1}


@pytest.mark.parametrize("kind", ASKING_SYNC)
async def test_cancelling_an_async_run_stops_the_work_and_the_thread_goes_on_with_none(tmp_path, kind):
    log = Log(tmp_path / "log")
    with opened(kind, tmp_path) as storage:
        agent = agent_of(tmp_path, storage)
        running = asyncio.ensure_future(agent.ainvoke(LONG, thread(), context=Context(approval="never")))
        async with asyncio.timeout(60):
            while not napping(log):
                await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (await asyncio.to_thread(shortened, agent, thread(), tmp_path))["status"] == "done"
    assert log.calls() == {"a": 1, "b": 1}


@pytest.mark.parametrize("kind", ASKING_SYNC)
@pytest.mark.parametrize("chunks", range(1, 16, 2))
def test_a_run_stopped_at_any_moment_goes_on_with_none(tmp_path, kind, chunks):
    steps = plan(bound("a", "look"), bound("b", "put", "a"), bound("c", "nap", "b"))
    with opened(kind, tmp_path) as storage:
        agent = agent_of(tmp_path, storage)
        options = {"context": Context(approval="never"), "stream_mode": ["custom", "updates"]}
        stream = agent.stream(steps, thread(), **options)
        for _ in range(chunks):
            next(stream)
        stream.close()
        snapshot = agent.get_state(thread())
        # On a busy machine the run may reach its end before it hears of the stop.
        values = agent.invoke(None, thread()) if snapshot.tasks else snapshot.values
        assert values["status"] == "done"
        assert values["results"]["c"]["output"] == "nap c: put b: look a: "


@pytest.mark.parametrize("kind", ["local", "local-async", "sqlite-async"])
def test_ctrl_c_stops_at_once_and_a_new_process_goes_on(children, tmp_path, kind):
    workplace = Workplace(tmp_path, kind)
    log = Log(workplace.log)
    break_tool(log, "b")
    steps = plan(bound("a", "send"), bound("b", "stall", "a"), bound("c", "send", "b"))
    child = children.start(workplace, input=steps, context=ASK)
    wait_for(lambda: any(line["kind"] == "begin" and line["name"] == "b" for line in log.lines()))
    child.interrupt()
    assert child.answer(timeout_s=5)["error"] == "unexpected KeyboardInterrupt"
    mend_tool(log, "b")
    answer = children.run(workplace)
    assert answer["status"] == "done", answer
    assert log.calls() == {"a": 1, "b": 1, "c": 1}


@pytest.mark.parametrize("kind", ASKING_SYNC)
async def test_closing_an_async_stream_stops_the_work_and_gives_the_thread_back(tmp_path, kind):
    log = Log(tmp_path / "log")
    break_tool(log, "b")
    steps = plan(bound("a", "send"), bound("b", "stall", "a"), bound("c", "send", "b"))
    with opened(kind, tmp_path) as storage:
        agent = agent_of(tmp_path, storage)
        options = {"context": Context(approval="never"), "stream_mode": "custom"}
        async with aclosing(agent.astream(steps, thread(), **options)) as stream:
            async for event in stream:
                if event["type"] == "tool_call" and event["tool"] == "stall":
                    break
        mend_tool(log, "b")
        assert (await agent.ainvoke(None, thread()))["status"] == "done"
    assert log.calls("send") == {"a": 1, "c": 1}


def test_an_abandoned_stream_gives_the_thread_back(tmp_path):
    with opened("local", tmp_path) as storage:
        agent = agent_of(tmp_path, storage)
        for _ in agent.stream(LONG, thread(), context=Context(approval="never"), stream_mode="custom"):
            break
        assert shortened(agent, thread(), tmp_path)["status"] == "done"
