"""What is read without LangGraph is what LangGraph reads, after every write of a run."""

from datetime import UTC, datetime
from functools import cache, wraps

import pytest
from crash_child import STANDARD, Workplace
from kill_points import Person, act
from langgraph.channels.binop import BinaryOperatorAggregate
from langgraph.channels.last_value import LastValue
from savers import thread
from scenarios import SCENARIOS

from plan_execute import create_plan_execute_agent, local_persistence
from plan_execute.errors import PlanExecuteError
from plan_execute.storage.checkpoints import LocalSaver
from plan_execute.storage.latest import LOOKED_AT, NODES, REDUCERS, Latest, StoredThreads, latest


def essence(snapshot):
    return {
        "values": {name: value for name, value in snapshot.values.items() if name in LOOKED_AT},
        "next": snapshot.next,
        "tasks": [getattr(task, "name", task) for task in snapshot.tasks],
        "questions": [(one.id, one.value) for one in snapshot.interrupts],
        "created_at": snapshot.created_at,
    }


class Here:
    """Acts in this process instead of a child."""

    def start(self, workplace, action="run", **job):
        try:
            self.said = act(STANDARD | vars(workplace) | {"action": action} | job)
        except PlanExecuteError as error:
            self.said = {"error": type(error).__name__, "message": str(error)}
        return self

    def run(self, workplace, action="run", timeout_s=0.0, **job):
        return self.start(workplace, action, **job).said

    def ends_with_answer(self, _timeout_s):
        return True

    def answer(self, _timeout_s):
        return self.said


@pytest.fixture
def seen(monkeypatch):
    """Compare after every write; gather which states were read without LangGraph."""
    found, wrong = [], []

    @cache
    def reader(saver):
        return create_plan_execute_agent(tools=[], checkpointer=saver)

    def compared(name):
        write = getattr(LocalSaver, name)

        @wraps(write)
        def written(self, config, *given):
            own = thread(config["configurable"]["thread_id"])
            with self.cursor():  # so that nobody writes between the two
                result = write(self, config, *given)
                read = latest(self.shared, own["configurable"]["thread_id"])
                whole = reader(self).get_state(own)
            found.append(read is not None)
            wrong.extend([] if read is None or essence(read) == essence(whole) else [(read, whole)])
            return result

        monkeypatch.setattr(LocalSaver, name, written)

    compared("put")
    compared("put_writes")
    yield found
    assert wrong == []


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=lambda one: one.name)
def test_a_state_is_read_as_langgraph_reads_it(tmp_path, scenario, seen):
    person = Person(Here(), Workplace(tmp_path, "local"), scenario, {})
    person.carry_out()
    assert person.broken == []
    assert len(seen) > 10
    if scenario.parent:
        assert not any(seen[2:]), "once it has begun, a parent's state is not ours"
    else:
        # Only LangGraph reads what an order about an open run leaves while it is being written.
        assert seen.count(False) <= 2 * (len(scenario.orders) - 1)


@pytest.fixture
def asking(tmp_path):
    """A thread that asks, in a database with nothing else."""
    with local_persistence(tmp_path / "runs.db") as storage:
        agent = create_plan_execute_agent(tools=[], checkpointer=storage.checkpointer, store=storage.store)
        agent.invoke(
            {"plan": {"goal": "g", "steps": [{"id": "a", "ask": {"question": "Well?"}}]}}, thread("t")
        )
        yield agent


def test_nodes_channels_and_reducers_are_those_of_the_graph(asking):
    channels = asking.channels
    assert list(asking.nodes) == list(NODES)
    operators = {name: one for name, one in channels.items() if isinstance(one, BinaryOperatorAggregate)}
    assert {name: one.operator for name, one in operators.items() if name != "messages"} == {
        name: reducer for name, (reducer, _) in REDUCERS.items()
    }
    assert {name: type(one.value) for name, one in operators.items() if name != "messages"} == {
        name: kind for name, (_, kind) in REDUCERS.items()
    }
    others = {name: one for name, one in channels.items() if name in LOOKED_AT - REDUCERS.keys()}
    assert {type(one) for one in others.values()} == {LastValue}
    assert channels.keys() >= LOOKED_AT


def test_a_thread_that_does_not_exist_is_no_state(asking):
    found = latest(asking.checkpointer.shared, "other")
    assert (found.created_at, found.values) == (None, {})


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE checkpoints SET type = 'json'",
        "UPDATE writes SET task_path = ''",
        "UPDATE writes SET channel = 'of_another_graph' WHERE channel = '__interrupt__'",
        "DELETE FROM checkpoint_blobs WHERE channel = 'plan'",
        "UPDATE checkpoints SET checkpoint = substr(checkpoint, 1, 40)",
        "ALTER TABLE writes DROP COLUMN task_path",
    ],
)
def test_another_form_is_left_to_langgraph(asking, change):
    database = asking.checkpointer.shared
    assert latest(database, "t").interrupts
    database.connection.execute(change)
    assert latest(database, "t") is None


def test_a_state_in_another_form_is_read_with_langgraph(asking):
    database = asking.checkpointer.shared
    threads = StoredThreads(database, lambda: asking)
    assert isinstance(threads.get_state(thread("t")), Latest)
    database.connection.execute("UPDATE writes SET task_path = ''")
    assert essence(threads.get_state(thread("t"))) == essence(asking.get_state(thread("t")))
    assert threads.get_state(thread("t")).interrupts


def test_a_value_of_another_type_is_left_to_langgraph(asking):
    asking.update_state(thread("t"), {"inputs": {"when": datetime(2026, 1, 1, tzinfo=UTC)}})
    assert asking.get_state(thread("t")).values["inputs"]["when"].year == 2026
    assert latest(asking.checkpointer.shared, "t") is None
