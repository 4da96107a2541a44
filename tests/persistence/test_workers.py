"""Workers as users start them: real processes on one database, killed, hung and told to stop."""

import os
import random
import signal
import time
from collections import Counter

import crash_child
import pytest
import queue_child
from crash_child import Workplace
from langgraph.types import Command
from logged_tools import Log, bound, plan, truthful

from plan_execute import Context, create_plan_execute_agent, submit

FREE = Context(approval="never", on_failure="abort")


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    with crash_child.serving(tmp_path_factory.mktemp("answers"), queue_child.__file__) as started:
        yield started


class Crew:
    """Workers on one database, and the person who looks after their threads."""

    def __init__(self, processes, workplace, agent):
        self._processes, self._workplace, self.agent = processes, workplace, agent
        self.log, self.workers = Log(workplace.log), []

    def start(self, **job):
        job = {"lease_s": 30, "concurrency": 3, "grace_s": 20} | job
        ready = sum(line["kind"] == "ready" for line in self.log.lines())
        worker = self._processes.start(self._workplace, **job)
        self.workers.append(worker)
        wait_for(lambda: sum(line["kind"] == "ready" for line in self.log.lines()) > ready)
        return worker

    def state(self, thread):
        return self.agent.get_state({"configurable": {"thread_id": thread}})

    def has_ended(self, thread):
        """Look at a thread; where a person is asked what became of a write, say what the log says."""
        state = self.state(thread)
        if state.interrupts:
            asked = [{"id": one.id, "value": one.value} for one in state.interrupts]
            answers = {question["id"]: truthful(question, self.log) for question in asked}
            submit(self.agent, Command(resume=answers), thread)
        return not state.tasks

    def wait_for_all(self, threads, timeout_s=60.0):
        left = list(threads)
        deadline = time.monotonic() + timeout_s
        while left := [thread for thread in left if not self.has_ended(thread)]:
            assert time.monotonic() < deadline, f"not ended: {left}"
            time.sleep(0.05)

    def stop(self):
        for worker in self.workers:
            if worker.running():
                os.kill(worker.pid, signal.SIGTERM)
        return [worker.answer() for worker in self.workers if worker.ends_with_answer()]


def wait_for(condition, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came to this"
        time.sleep(0.005)


@pytest.fixture
def crew(processes, tmp_path):
    workplace = Workplace(tmp_path, "postgres")
    with workplace.opened() as (saver, store):
        agent = create_plan_execute_agent(None, checkpointer=saver, store=store)
        found = Crew(processes, workplace, agent)
        yield found
        for worker in found.workers:
            if worker.running():
                os.kill(worker.pid, signal.SIGCONT)
            worker.kill()


def steps(thread):
    """A read, a write, and a write that needs both; calls bear the thread's name."""
    first, second, third = (f"{thread}_{part}" for part in ("read", "wrote", "told"))
    return plan(
        bound(first, "look", delay=0.01),
        bound(second, "send", delay=0.02),
        bound(third, "send", first, second, delay=0.02),
    )


def effects(names):
    return Counter({f"{name}_{part}": 1 for name in names for part in ("wrote", "told")})


def killed_at_random(crew, names, dice, pauses):
    for name in names:
        submit(crew.agent, steps(name), name, context=FREE)
    for _ in range(3):
        crew.start()
    for pause in pauses:
        time.sleep(pause)
        if all(crew.has_ended(name) for name in names):
            break
        victim = dice.choice([worker for worker in crew.workers if worker.running()])
        victim.kill()
        crew.start()
    crew.wait_for_all(names, timeout_s=400.0)
    assert crew.log.calls("send") == effects(names)
    assert {crew.state(name).values["status"] for name in names} == {"done"}


def test_workers_that_are_killed_at_random_lose_and_repeat_no_effect(crew):
    names = [f"t{number}" for number in range(15)]
    killed_at_random(crew, names, random.Random(7), [0.05, 0.15, 0.1])
    assert all(set(answer["ended"]) <= {"done", "waiting", "put off"} for answer in crew.stop())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_hundred_threads_survive_workers_that_are_killed_at_random(crew):
    dice = random.Random(11)
    names = [f"t{number}" for number in range(200)]
    killed_at_random(crew, names, dice, [dice.uniform(0.1, 1.0) for _ in range(60)])
    assert sum(not worker.running() for worker in crew.workers) >= 5


def test_two_workers_share_the_queue_and_never_a_thread(crew):
    names = [f"t{number}" for number in range(16)]
    for name in names:
        submit(crew.agent, steps(name), name, context=FREE)
    for _ in range(2):
        crew.start()
    crew.wait_for_all(names)
    # the reads too: a thread that two had run would have looked twice
    assert set(crew.log.calls().values()) == {1}
    wait_for(lambda: len(taken(crew)) == 16)
    assert Counter(line["thread"] for line in taken(crew)) == Counter(names)
    assert {line["pid"] for line in taken(crew)} == {worker.pid for worker in crew.workers}
    assert sum(answer["ended"]["done"] for answer in crew.stop()) == 16


def taken(crew):
    return [line for line in crew.log.lines() if line["kind"] == "taken"]


def test_what_a_worker_that_hung_writes_late_is_refused_and_no_effect_is_repeated(crew):
    submit(crew.agent, plan(bound("a", "send", delay=3.0), bound("b", "send", "a")), "t", context=FREE)
    hung = crew.start(lease_s=1)
    wait_for(lambda: any(line["kind"] == "begin" for line in crew.log.lines()))
    os.kill(hung.pid, signal.SIGSTOP)
    other = crew.start(lease_s=1)
    # The lease is over: somebody else has the thread, and asks what became of the write.
    wait_for(lambda: crew.state("t").interrupts)
    assert crew.log.calls("send") == {}
    os.kill(hung.pid, signal.SIGCONT)
    wait_for(lambda: crew.log.calls("send"))
    crew.wait_for_all(["t"])
    assert crew.log.calls("send") == {"a": 1, "b": 1}
    assert [line["pid"] for line in crew.log.lines() if line.get("name") == "b"] == [other.pid] * 2
    assert crew.state("t").values["status"] == "done"
    # Who hung is a worker like any other again.
    other.kill()
    submit(crew.agent, steps("next"), "next", context=FREE)
    crew.wait_for_all(["next"])
    assert {line["pid"] for line in taken(crew) if line["thread"] == "next"} <= {hung.pid}


@pytest.mark.timeout(60)
def test_a_worker_that_is_told_to_stop_ends_its_runs_first(crew):
    submit(crew.agent, plan(bound("a", "send", delay=0.6), bound("b", "send", "a")), "t", context=FREE)
    worker = crew.start(concurrency=1)
    wait_for(lambda: any(line["kind"] == "begin" for line in crew.log.lines()))
    submit(crew.agent, steps("later"), "later", context=FREE)
    os.kill(worker.pid, signal.SIGTERM)
    assert worker.answer() == {"ended": {"done": 1}}
    assert crew.log.calls("send") == {"a": 1, "b": 1}


@pytest.mark.timeout(60)
def test_what_does_not_end_within_the_grace_is_left_to_the_next_worker(crew):
    submit(crew.agent, plan(bound("a", "send"), bound("nap", "nap", "a", delay=0.8)), "t", context=FREE)
    worker = crew.start(grace_s=0.1)
    wait_for(lambda: any(line.get("name") == "nap" for line in crew.log.lines()))
    os.kill(worker.pid, signal.SIGTERM)
    assert worker.answer() == {"ended": {"left": 1}}
    crew.start()
    crew.wait_for_all(["t"])
    assert crew.log.calls() == {"a": 1, "nap": 1}
