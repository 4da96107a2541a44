"""A run whose hold on its thread is lost stops, writes nothing more, and can be resumed."""

import asyncio
import os
import threading
import time

import postgres_server
import pytest
from langgraph.types import Command
from logged_tools import Log, bound, break_tool, make_tools, mend_tool, plan
from savers import opened, thread

from plan_execute import Context, create_plan_execute_agent, postgres_persistence
from plan_execute.errors import InvalidAnswerError, StorageError, ThreadBusyError

FREE = Context(approval="never", on_failure="abort", max_attempts=1)
STEPS = plan(bound("a", "send"), bound("wait", "stall", "a"), bound("b", "send", "wait"))


@pytest.fixture
def log(tmp_path):
    return Log(tmp_path / "log")


def agent_of(log, storage):
    return create_plan_execute_agent(None, tools=make_tools(log), **storage)


def wait_for(condition, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came to this"
        time.sleep(0.01)


def begun(log, name):
    return any(line["kind"] == "begin" and line["name"] == name for line in log.lines())


class Run(threading.Thread):
    """A run that goes on beside the test."""

    def __init__(self, agent):
        super().__init__()
        self.agent, self.error = agent, None
        self.start()

    def run(self):
        try:
            self.agent.invoke(STEPS, thread(), context=FREE)
        except Exception as error:
            self.error = error


def cut_off_holders():
    """End the sessions that hold a thread, as an administrator or a firewall may; give one row for each."""
    # Their locks are free only when they have ended, which the server does not wait for by itself.
    return postgres_server.server().execute(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_locks JOIN pg_stat_activity USING (pid)"
        " WHERE locktype = 'advisory' AND granted AND query NOT LIKE '%pg_terminate_backend%'"
    )


@pytest.fixture
def storage(tmp_path):
    with opened("postgres", tmp_path) as storage:
        yield storage


def test_a_run_that_lost_its_hold_stops_and_goes_on_when_it_is_resumed(log, storage):
    break_tool(log, "wait")
    run = Run(agent_of(log, storage))
    wait_for(lambda: begun(log, "wait"))
    assert cut_off_holders()
    run.join(60)
    assert type(run.error) is StorageError
    assert "thread 't' was lost" in str(run.error)
    mend_tool(log, "wait")
    assert log.calls("send") == {"a": 1}
    assert agent_of(log, storage).invoke(None, thread(), context=FREE)["status"] == "done"
    assert log.calls("send") == {"a": 1, "b": 1}


GONE = (ThreadBusyError, StorageError)
"""Which of the two is noticed first, the taker or the end of the session, is a matter of chance."""


def test_who_lost_its_thread_to_another_cannot_write_any_more(log, storage, tmp_path):
    saver, store = storage["checkpointer"], storage["store"]
    with saver.thread_lock("t"):
        store.put(("plan_execute", "results", "t", "p"), "mine", {"n": 1})
        assert cut_off_holders()
        with opened("postgres", tmp_path) as other, other["checkpointer"].thread_lock("t"):
            with pytest.raises(GONE, match=r"taken over|was lost"):
                store.put(("plan_execute", "results", "t", "p"), "late", {"n": 2})
            with pytest.raises(GONE, match=r"taken over|was lost"):
                saver.put_writes(checkpoint_place(), [("n", 1)], "task")
            other["store"].put(("plan_execute", "results", "t", "p"), "theirs", {"n": 3})
            store.put(("plan_execute", "results", "another thread", "p"), "free", {"n": 4})
        # the other one has left, but the thread was not had back
        with pytest.raises(GONE, match=r"taken over|was lost"):
            store.put(("plan_execute", "results", "t", "p"), "late", {"n": 2})
    keys = {item.key for item in store.search(("plan_execute", "results"))}
    assert keys == {"mine", "theirs", "free"}


def checkpoint_place():
    return {"configurable": {"thread_id": "t", "checkpoint_ns": "", "checkpoint_id": "1"}}


def test_a_hold_that_nobody_took_over_is_lost_all_the_same(storage):
    saver, store = storage["checkpointer"], storage["store"]
    with saver.thread_lock("t") as hold:
        assert hold.loss is None
        assert cut_off_holders()
        with pytest.raises(StorageError, match="was lost"):
            store.put(("plan_execute", "results", "t", "p"), "late", {"n": 2})
        assert "was lost" in str(hold.loss)
        with pytest.raises(ThreadBusyError, match="this process"), saver.thread_lock("t"):
            pass
    with saver.thread_lock("t") as hold:
        assert hold.loss is None
        store.put(("plan_execute", "results", "t", "p"), "mine", {"n": 1})


def test_who_takes_a_thread_over_waits_for_the_last_write_of_who_had_it(storage, tmp_path):
    saver, database = storage["checkpointer"], storage["checkpointer"].shared
    order = []

    def take_over():
        with opened("postgres", tmp_path) as other, other["checkpointer"].thread_lock("t"):
            order.append("taken over")

    with saver.thread_lock("t"):
        with database.transaction(threads=["t"]):
            taker = threading.Thread(target=take_over)
            assert cut_off_holders()
            taker.start()
            time.sleep(0.5)
            order.append("written")
        taker.join(60)
    assert order == ["written", "taken over"]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_server_that_restarts_amid_a_run_ends_it_and_the_same_process_can_resume_it(log, kind):
    with postgres_server.own_server() as server:
        break_tool(log, "wait")
        with postgres_persistence(server.url()) as (checkpointer, store):
            agent = agent_of(log, {"checkpointer": checkpointer, "store": store})
            run = Run(agent)
            wait_for(lambda: begun(log, "wait"))
            server.restart()
            run.join(60)
            assert type(run.error) is StorageError
            mend_tool(log, "wait")
            assert log.calls("send") == {"a": 1}
            if kind == "sync":
                values = agent.invoke(None, thread(), context=FREE)
            else:
                values = asyncio.run(agent.ainvoke(None, thread(), context=FREE))
            assert values["status"] == "done"
    assert log.calls("send") == {"a": 1, "b": 1}


def test_a_server_that_restarted_between_two_runs_is_not_noticed(log):
    with (
        postgres_server.own_server() as server,
        postgres_persistence(server.url()) as (checkpointer, store),
    ):
        agent = agent_of(log, {"checkpointer": checkpointer, "store": store})
        agent.invoke(plan(bound("a", "send")), thread())
        server.restart()
        time.sleep(1.1)
        values = agent.invoke(Command(resume="approve"), thread())
        assert values["status"] == "done"
    assert log.calls() == {"a": 1}


def test_a_killed_server_keeps_what_was_recorded_and_frees_every_thread(log):
    with postgres_server.own_server() as server:
        break_tool(log, "wait")
        with postgres_persistence(server.url()) as (checkpointer, store):
            run = Run(agent_of(log, {"checkpointer": checkpointer, "store": store}))
            wait_for(lambda: begun(log, "wait"))
            server.kill()
            run.join(60)
            assert type(run.error) is StorageError
        server.start()
        mend_tool(log, "wait")
        with postgres_persistence(server.url()) as (checkpointer, store):
            agent = agent_of(log, {"checkpointer": checkpointer, "store": store})
            assert agent.invoke(None, thread(), context=FREE)["status"] == "done"
    assert log.calls("send") == {"a": 1, "b": 1}


def writing_agent(log, storage):
    """Return an agent whose tool that hangs changes the world."""
    tools = [tool.model_copy(update={"metadata": {"effect": "write"}}) for tool in make_tools(log)]
    return create_plan_execute_agent(None, tools=tools, **storage)


def cut_off_amid_a_write(log, storage):
    """Cut off a run in the middle of a write, which goes on; return the run."""
    break_tool(log, "wait")
    run = Run(writing_agent(log, storage))
    wait_for(lambda: begun(log, "wait"))
    assert cut_off_holders()
    return run


def the_question(agent):
    (question,) = agent.get_state(thread()).interrupts
    return question.value


def test_what_became_of_a_write_is_not_answered_while_whoever_made_it_may_be_alive(log, storage, tmp_path):
    run = cut_off_amid_a_write(log, storage)
    with opened("postgres", tmp_path) as other:
        agent = writing_agent(log, other)
        agent.invoke(None, thread(), context=FREE)
        question = the_question(agent)
        request = question["action_requests"][0]
        assert request["name"] == "resolve_unknown_outcome"
        assert request["args"]["runner_stopped"] is False
        former = question["former_runner"]
        assert f"process {os.getpid()} on" in former["runner"]
        assert former["last_seen"] <= time.time() < former["lease_ends"] <= time.time() + 30
        for said in (former["runner"], "was last seen at 20", "may still be alive", "Its lease ends at 20"):
            assert said in request["description"]
        happened = {"decision": "happened", "output": "seen"}
        for answer in (happened, {"decision": "run_again"}, {**happened, "runner_stopped": "perhaps"}):
            with pytest.raises(
                InvalidAnswerError, match=r"may still be making the call.*runner_stopped: true"
            ):
                agent.invoke(Command(resume=answer), thread())
        assert the_question(agent) == question
        mend_tool(log, "wait")
        run.join(20)
        assert run.error is not None
        result = agent.invoke(Command(resume={**happened, "runner_stopped": True}), thread())
    assert (result["status"], result["results"]["wait"]["output"]) == ("done", "seen")


def test_a_lease_that_has_ended_leaves_the_answer_to_the_person(log, tmp_path):
    with postgres_persistence(postgres_server.schema_of(tmp_path), lease_s=1) as (checkpointer, store):
        run = cut_off_amid_a_write(log, {"checkpointer": checkpointer, "store": store})
        with opened("postgres", tmp_path) as other:
            agent = writing_agent(log, other)
            agent.invoke(None, thread(), context=FREE)
            wait_for(lambda: time.time() > the_question(agent)["former_runner"]["lease_ends"])
            result = agent.invoke(Command(resume={"decision": "happened", "output": "seen"}), thread())
        mend_tool(log, "wait")
        run.join(20)
    assert (result["status"], result["results"]["wait"]["output"]) == ("done", "seen")
