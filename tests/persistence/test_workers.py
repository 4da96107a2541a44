"""Several worker processes share one database: every thread ends, none is run twice, even if workers die."""

import random
import time
from collections import Counter

import crash_child
import pytest
import worker_child
from crash_child import Workplace
from logged_tools import Log, bound, make_tools, plan

from plan_execute import create_plan_execute_agent


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    """Start workers in processes of their own."""
    with crash_child.serving(tmp_path_factory.mktemp("answers"), worker_child.__file__) as started:
        yield started


def steps(thread):
    """A read, a write and a write that needs both; calls bear the thread's name."""
    first, second, third = (f"{thread}_{part}" for part in ("read", "wrote", "told"))
    return plan(
        bound(first, "look", delay=0.01),
        bound(second, "send", delay=0.02),
        bound(third, "send", first, second, delay=0.02),
    )


def seed(workplace, count):
    """Start threads; each waits for a person to approve its plan."""
    names = [f"t{number}" for number in range(count)]
    with workplace.opened() as (saver, store):
        tools = make_tools(Log(workplace.log))
        agent = create_plan_execute_agent(None, tools=tools, checkpointer=saver, store=store)
        for name in names:
            agent.invoke(steps(name), {"configurable": {"thread_id": name}})
    return names


def endings(workplace, names):
    """Give the status of each thread, and the output of each of its steps."""
    with workplace.opened() as (saver, store):
        agent = create_plan_execute_agent(None, checkpointer=saver, store=store)
        states = {name: agent.get_state({"configurable": {"thread_id": name}}) for name in names}
    return {
        name: (
            state.values["status"],
            {step: result["output"] for step, result in state.values["results"].items()},
        )
        for name, state in states.items()
    }


def expected(names):
    found = {}
    for name in names:
        read, wrote, told = (f"{name}_{part}" for part in ("read", "wrote", "told"))
        outputs = {read: f"look {read}: ", wrote: f"send {wrote}: "}
        found[name] = ("done", outputs | {told: f"send {told}: {outputs[read]} {outputs[wrote]}"})
    return found


def effects(names, *parts):
    return Counter({f"{name}_{part}": 1 for name in names for part in parts})


@pytest.mark.timeout(110)
@pytest.mark.parametrize("kind", ["postgres", "local"])
def test_two_workers_finish_a_hundred_threads_and_run_none_twice(workers, tmp_path, kind):
    workplace = Workplace(tmp_path, kind)
    names = seed(workplace, 100)
    both = [workers.start(workplace, threads=names) for _ in range(2)]
    assert [worker.answer(80) for worker in both] == [{"ended": 100}] * 2
    log = Log(workplace.log)
    # the reads too: a thread that two had run would have looked twice
    assert log.calls() == effects(names, "read", "wrote", "told")
    runs = [line for line in log.lines() if line["kind"] == "run"]
    assert Counter(line["thread"] for line in runs) == Counter(names)
    assert {line["pid"] for line in runs} == {worker.pid for worker in both}
    assert endings(workplace, names) == expected(names)


@pytest.mark.timeout(110)
@pytest.mark.parametrize("kind", ["postgres", "local"])
def test_the_threads_of_a_killed_worker_are_taken_over(workers, tmp_path, kind):
    workplace = Workplace(tmp_path, kind)
    names = seed(workplace, 40)
    doomed, survivor = (workers.start(workplace, threads=names) for _ in range(2))
    log = Log(workplace.log)
    while sum(line["pid"] == doomed.pid for line in log.lines()) < 20:
        assert doomed.running()
        time.sleep(0.005)
    doomed.kill()
    assert survivor.answer(80) == {"ended": 40}
    assert log.calls("send") == effects(names, "wrote", "told")
    # reads that were under way are made again; what was finished is not
    assert max(log.calls("look").values()) <= 2
    assert endings(workplace, names) == expected(names)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["postgres", "local"])
def test_workers_that_are_killed_at_random_finish_two_hundred_threads(workers, tmp_path, kind):
    workplace, dice, killed = Workplace(tmp_path, kind), random.Random(kind), 0
    names = seed(workplace, 200)
    crew = [workers.start(workplace, threads=names) for _ in range(3)]
    while all(not worker.out.exists() for worker in crew):
        time.sleep(dice.uniform(0.1, 1.0))
        place = dice.randrange(len(crew))
        crew[place].kill()
        killed += not crew[place].out.exists()
        crew[place] = workers.start(workplace, threads=names)
    assert all(worker.answer(300) == {"ended": 200} for worker in crew)
    assert killed >= 5
    assert Log(workplace.log).calls("send") == effects(names, "wrote", "told")
    assert endings(workplace, names) == expected(names)
