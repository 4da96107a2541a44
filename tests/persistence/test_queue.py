"""What a worker takes, and what becomes of it: order, questions, failures, and what it was not given."""

import asyncio
import threading
import time
from dataclasses import replace

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command
from logged_tools import Log, bound, make_tools, plan, two_turn_model
from postgres_server import schema_of

from plan_execute import (
    Context,
    awork,
    create_plan_execute_agent,
    local_persistence,
    postgres_persistence,
    submit,
    work,
)
from plan_execute.errors import (
    ConfigurationError,
    InvalidInputError,
    NothingToResumeError,
    QuestionOpenError,
    SchemaVersionError,
    ThreadBusyError,
    ThreadNotFoundError,
    ThreadUnfinishedError,
)
from plan_execute.graph.control import cancel_run
from plan_execute.threads.queue import QueuedThread, queued_thread
from plan_execute.threads.submission import queue_of
from plan_execute.tools.threads import run_to_end

FREE = Context(approval="never", on_failure="abort")


@pytest.fixture
def log(tmp_path):
    return Log(tmp_path / "log")


@pytest.fixture
def storage(tmp_path):
    with postgres_persistence(schema_of(tmp_path)) as (saver, store):
        yield {"checkpointer": saver, "store": store}


@pytest.fixture
def boss(storage):
    """Who submits has neither tools nor a model."""
    return create_plan_execute_agent(None, **storage)


@pytest.fixture
def agent(storage, log):
    return create_plan_execute_agent(None, tools=make_tools(log), **storage)


def state(agent, thread):
    return agent.get_state({"configurable": {"thread_id": thread}})


def row(agent, thread):
    return run_to_end(queued_thread(agent.store, thread))


def put(agent, queued):
    async def write():
        await (await queue_of(agent)).put(queued)

    asyncio.run(write())


def jobs(storage):
    """List the jobs for threads that procrastinate has: thread, status, due at."""
    store = storage["store"]
    with store.shared.connection() as connection:
        (schema,) = connection.execute("SELECT current_schema()").fetchone()
        return connection.execute(
            f"SELECT queueing_lock, status::text, scheduled_at FROM {schema}_queue.procrastinate_jobs"
            " WHERE task_name = 'plan_execute.run'"
        ).fetchall()


def test_the_oldest_goes_first_and_nothing_stays_in_the_queue(boss, storage, agent, log):
    names = ["c", "a", "b"]
    for name in names:
        assert submit(boss, plan(bound(name, "send")), name, context=FREE) == name
        assert state(boss, name).next == ("planner",)
    seen = []
    assert work(agent, concurrency=1, until_idle=True, on_thread=seen.append) == {"done": 3}
    assert [line["name"] for line in log.lines() if line["kind"] == "call"] == names
    assert [(taken.thread_id, taken.status) for taken in seen] == [(name, "done") for name in names]
    assert jobs(storage) == []
    assert [row(agent, name) for name in names] == [None] * 3


def test_what_waits_for_a_person_is_left_alone_until_somebody_submits_the_answer(boss, agent, log):
    thread = submit(boss, plan(bound("a", "send")))
    assert work(agent, until_idle=True) == {"waiting": 1}
    assert work(agent, until_idle=True) == {}
    with pytest.raises(QuestionOpenError):
        submit(boss, {"goal": "something else"}, thread)
    submit(boss, Command(resume="approve"), thread)
    assert log.calls() == {}
    assert work(agent, until_idle=True) == {"done": 1}
    assert log.calls() == {"a": 1}


def test_a_goal_that_abandons_the_open_run_ends_it_and_is_left_to_the_workers(boss, agent, log):
    thread = submit(boss, plan(bound("a", "send")))
    assert work(agent, until_idle=True) == {"waiting": 1}
    with pytest.raises(InvalidInputError):
        submit(boss, {"gaol": "new", "abandon": True}, thread)
    with pytest.raises(InvalidInputError, match="abandon"):
        submit(boss, {**plan(bound("b", "send")), "abandon": "yes"}, thread)
    assert state(boss, thread).interrupts, "what is refused gives nothing up"
    submit(boss, {**plan(bound("b", "send")), "abandon": True}, thread)
    assert not state(boss, thread).interrupts
    assert work(agent, until_idle=True) == {"waiting": 1}
    submit(boss, Command(resume="approve"), thread)
    assert work(agent, until_idle=True) == {"done": 1}
    assert log.calls() == {"b": 1}
    assert "cancelled" in [event["event"] for event in state(boss, thread).values["audit"]]


@pytest.mark.parametrize("given", [plan(bound("a", "send")), {"plan": 7}, {"goal": "anything"}])
def test_what_no_worker_has_looked_at_yet_can_be_abandoned_or_cancelled(boss, storage, agent, log, given):
    for thread in ("abandoned", "cancelled"):
        submit(boss, given, thread, context=FREE)
    submit(boss, {**plan(bound("b", "send")), "abandon": True}, "abandoned", context=FREE)
    asyncio.run(cancel_run(boss, {"configurable": {"thread_id": "cancelled"}}))
    assert state(boss, "cancelled").values["status"] == "failed"
    assert "cancelled" in state(boss, "cancelled").values["final_answer"]
    assert work(agent, until_idle=True)["done"] == 1
    assert log.calls() == {"b": 1}
    # What was to be planned waits for a worker with a model, which finds that it has ended.
    able = create_plan_execute_agent(two_turn_model(), tools=make_tools(log), **storage)
    assert work(able, until_idle=True) == {}
    assert jobs(storage) == []
    assert (row(boss, "abandoned"), row(boss, "cancelled")) == (None, None)


def test_a_goal_that_abandons_a_run_that_a_worker_has_in_hand_stops_that_and_is_refused(boss, storage, log):
    begun, go_on = threading.Event(), threading.Event()

    def wait() -> str:
        """Wait."""
        begun.set()
        go_on.wait(20)
        return "waited"

    agent = create_plan_execute_agent(None, tools=[*make_tools(log), wait], **storage)
    steps = {"goal": "wait", "steps": [{"id": "w", "call": {"tool": "wait", "args": {}}}]}
    submit(boss, {"plan": steps}, "t", context=FREE)
    worker = threading.Thread(target=work, args=(agent,), kwargs={"until_idle": True})
    worker.start()
    assert begun.wait(20)
    with pytest.raises(ThreadBusyError, match="told to stop"):
        submit(boss, {**plan(bound("b", "send")), "abandon": True}, "t", context=FREE)
    go_on.set()
    worker.join(20)
    submit(boss, {**plan(bound("b", "send")), "abandon": True}, "t", context=FREE)
    assert work(agent, until_idle=True) == {"done": 1}
    assert log.calls() == {"b": 1}


def test_a_new_goal_on_a_finished_thread_has_budgets_of_its_own(boss, agent, log):
    once = FREE.model_copy(update={"max_tool_calls": 1})
    for name in ("a", "b"):
        submit(boss, plan(bound(name, "look")), "t", context=once)
        assert work(agent, until_idle=True) == {"done": 1}
    found = state(agent, "t").values
    assert list(found["results"]) == ["b"]
    assert found["usage"]["tool_calls"] == 1


def test_a_model_s_plan_is_made_by_the_worker(boss, storage, log):
    submit(boss, {"goal": "look, then send twice"}, "t", context=FREE)
    assert work(create_plan_execute_agent(None, tools=make_tools(log), **storage), until_idle=True) == {}
    assert row(boss, "t").what_keeps == "waits for a worker with a model (planner)"
    able = create_plan_execute_agent(two_turn_model(), tools=make_tools(log), **storage)
    assert work(able, until_idle=True) == {"done": 1}
    assert log.calls("send") == {"sub_a": 1, "sub_b": 1}


def test_a_thread_whose_tools_a_worker_lacks_is_left_to_one_that_has_them(boss, storage, agent, log):
    submit(boss, plan(bound("a", "send")), "given", context=FREE)
    submit(boss, plan(bound("b", "send")), "asked")
    work(agent, until_idle=True)
    submit(boss, Command(resume="approve"), "asked")
    submit(boss, plan(bound("c", "send")), "given", context=FREE)
    log.forget()
    assert work(create_plan_execute_agent(None, **storage), until_idle=True) == {}
    assert [row(boss, name).attempts for name in ("given", "asked")] == [0, 0]
    assert {row(boss, name).what_keeps for name in ("given", "asked")} == {
        "waits for a worker with the tools send"
    }
    assert work(agent, until_idle=True) == {"done": 2}
    assert log.calls() == {"b": 1, "c": 1}


def test_priority_and_age_count_across_threads_that_need_different_tools(boss, agent, log):
    steps = {"send": plan(bound("a", "send")), "look": plan(bound("a", "look"))}
    submitted = [("first", "send", 0), ("second", "look", 0), ("high", "look", 5), ("third", "send", 0)]
    for name, tool, priority in submitted:
        submit(boss, steps[tool], name, context=FREE, priority=priority)
    seen = []
    assert work(agent, concurrency=1, until_idle=True, on_thread=seen.append) == {"done": 4}
    assert [taken.thread_id for taken in seen] == ["high", "first", "second", "third"]


def test_a_run_that_raises_is_put_off_and_parked_after_so_many_attempts(boss, storage, log):
    agent = create_plan_execute_agent(two_turn_model(), tools=make_tools(log), **storage)
    no_price = FREE.model_copy(update={"max_cost": 1.0})
    submit(boss, plan(bound("a", "send")), "t", context=no_price)
    seen = []

    async def one_look():
        stop = asyncio.Event()
        await awork(
            agent, max_attempts=2, stop=stop, on_thread=lambda taken: (seen.append(taken), stop.set())
        )

    before = time.time()
    asyncio.run(one_look())
    assert (seen[0].status, row(boss, "t").attempts) == ("put off", 1)
    assert "no price" in seen[0].reason
    assert 3 < row(boss, "t").due - before < 6 + time.time() - before
    put(boss, replace(row(boss, "t"), due=0.0))
    assert work(agent, max_attempts=2, until_idle=True) == {"parked": 1}
    assert row(boss, "t").parked.startswith(
        "2 attempts failed, most recently: the run raised ConfigurationError"
    )
    assert work(agent, until_idle=True) == {}
    # Submitted again, with what was wrong mended, it begins anew.
    submit(boss, None, "t", context=FREE)
    assert work(agent, until_idle=True) == {"done": 1}
    assert log.calls() == {"a": 1}


def test_a_thread_whose_workers_die_again_and_again_is_parked_unless_steps_get_done(boss, agent, log):
    def died(attempts, progress):
        put(boss, replace(row(boss, "t"), attempts=attempts, progress=progress, due=0.0))

    submit(boss, plan(bound("a", "send")), "t", context=FREE)
    here = state(boss, "t").config["configurable"]["checkpoint_id"]
    died(5, f"{here}:0")
    assert work(agent, until_idle=True) == {"parked": 1}
    assert "worker died 5 times" in row(boss, "t").parked
    submit(boss, None, "t")
    died(5, "an earlier checkpoint:0")
    assert work(agent, until_idle=True) == {"done": 1}


def test_a_question_whose_time_is_over_gets_its_safe_default_from_a_worker(boss, agent, log):
    submit(boss, plan(bound("a", "send")), "t", context=Context(decision_timeout_s=3))
    assert work(agent, until_idle=True) == {"waiting": 1}
    assert row(boss, "t").asks
    time.sleep(max(0.0, row(boss, "t").due - time.time()) + 0.01)
    seen = []
    stopping = work(agent, until_idle=True, on_thread=seen.append)
    assert (stopping, log.calls()) == ({"rejected": 1}, {})


def test_a_thread_that_ended_past_the_queue_is_taken_out_of_it(boss, agent, log):
    submit(boss, plan(bound("a", "send")), "t", context=FREE)
    agent.invoke(None, {"configurable": {"thread_id": "t"}}, context=FREE)
    assert work(agent, until_idle=True) == {}
    assert row(boss, "t") is None
    assert log.calls() == {"a": 1}


def test_what_cannot_be_submitted_is_refused_and_leaves_no_row(boss, storage):
    for given, error in (
        (None, "there is no thread"),
        ("go", "must be a mapping"),
        ({"goal": " "}, "goal is empty"),
        (Command(goto="executor"), "only answers"),
    ):
        with pytest.raises((InvalidInputError, ThreadNotFoundError), match=error):
            submit(boss, given, "t")
    for impossible in ("", "a\0b", "a\ud800", "ü" * 300):
        with pytest.raises(InvalidInputError, match="the thread_id"):
            submit(boss, plan(bound("a", "send")), impossible)
    with storage["checkpointer"].thread_lock("t"), pytest.raises(ThreadBusyError):
        submit(boss, plan(bound("a", "send")), "t")
    assert row(boss, "t") is None
    submit(boss, plan(bound("a", "send")), "t")
    with pytest.raises(ThreadUnfinishedError):
        submit(boss, {"goal": "another"}, "t")
    with pytest.raises(NothingToResumeError):
        submit(boss, Command(resume="approve"), "t")


def test_a_storage_without_locks_is_refused(log):
    alone = create_plan_execute_agent(None, checkpointer=InMemorySaver(), store=InMemoryStore())
    for attempt in (lambda: submit(alone, {"goal": "g"}), lambda: work(alone, until_idle=True)):
        with pytest.raises(ConfigurationError, match="only a PostgreSQL database has a queue"):
            attempt()
    with pytest.raises(ConfigurationError, match="at least 1"):
        work(alone, concurrency=0)


def test_a_file_has_no_queue_and_the_refusal_names_what_runs_threads_there(tmp_path):
    with local_persistence(tmp_path / "runs.db") as (saver, store):
        agent = create_plan_execute_agent(None, checkpointer=saver, store=store)
        for attempt in (lambda: submit(agent, {"goal": "g"}), lambda: work(agent, until_idle=True)):
            with pytest.raises(
                ConfigurationError, match=r"plan-execute serve.*langgraph dev.*plan-execute run"
            ):
                attempt()


def test_an_answer_waits_for_the_worker_that_asked_to_let_go_of_the_thread(boss, storage, agent, log):
    submit(boss, plan(bound("a", "send")), "t")
    work(agent, until_idle=True)
    hold = storage["checkpointer"].thread_lock("t")
    hold.__enter__()
    letting_go = threading.Timer(0.2, hold.__exit__, (None, None, None))
    letting_go.start()
    submit(boss, Command(resume="approve"), "t")
    letting_go.join()
    assert work(agent, until_idle=True) == {"done": 1}


def test_the_highest_priority_goes_first_and_keeps_it_while_its_thread_waits_for_a_person(boss, agent, log):
    submit(boss, plan(bound("asked", "send")), "asked", priority=5)
    work(agent, until_idle=True)
    for name, priority in (("low", -1), ("usual", 0), ("high", 9)):
        submit(boss, plan(bound(name, "send")), name, context=FREE, priority=priority)
    submit(boss, Command(resume="approve"), "asked", priority=5)
    assert work(agent, concurrency=1, until_idle=True) == {"done": 4}
    called = [line["name"] for line in log.lines() if line["kind"] == "call"]
    assert called == ["high", "asked", "usual", "low"]


def test_a_thread_that_somebody_runs_is_put_back_and_not_lost(boss, storage, agent, log):
    submit(boss, plan(bound("a", "send")), "t", context=FREE)
    hold = storage["checkpointer"].thread_lock("t")
    hold.__enter__()
    worker = threading.Thread(target=work, args=(agent,), kwargs={"until_idle": True, "poll_s": 0.1})
    worker.start()
    wait_for(lambda: any(due is not None for _, _, due in jobs(storage)))
    assert log.calls() == {}
    hold.__exit__(None, None, None)
    worker.join(20)
    assert log.calls() == {"a": 1}
    assert jobs(storage) == []


def test_a_job_too_many_finds_nothing_to_do(boss, storage, agent, log):
    submit(boss, plan(bound("a", "send")), "t", context=FREE)
    with storage["store"].shared.connection() as connection:
        (schema,) = connection.execute("SELECT current_schema()").fetchone()
        connection.execute(f"SET search_path TO {schema}_queue")
        connection.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, args)"
            " SELECT queue_name, task_name, args FROM procrastinate_jobs"
        )
        connection.execute(f"SET search_path TO {schema}")
    assert work(agent, concurrency=2, until_idle=True) == {"done": 1}
    assert log.calls() == {"a": 1}


def test_the_job_of_a_worker_that_is_gone_is_handed_out_again(boss, storage, agent, log):
    submit(boss, plan(bound("a", "send")), "t", context=FREE)
    with storage["store"].shared.connection() as connection:
        (schema,) = connection.execute("SELECT current_schema()").fetchone()
        connection.execute(f"SET search_path TO {schema}_queue")
        connection.execute("INSERT INTO procrastinate_workers DEFAULT VALUES")  # nobody holds its lock
        connection.execute("UPDATE procrastinate_jobs SET status = 'doing', worker_id = 1")
        connection.execute(f"SET search_path TO {schema}")
    assert work(agent, until_idle=True, poll_s=0.1) == {"done": 1}
    assert (log.calls(), jobs(storage)) == ({"a": 1}, [])


def test_what_a_version_without_procrastinate_queued_is_taken_over(boss, storage, agent, log):
    submit(boss, plan(bound("a", "send")), "old", context=FREE)
    submit(boss, plan(bound("b", "send")), "parked", context=FREE)
    put(boss, replace(row(boss, "parked"), parked="5 attempts failed"))
    with storage["store"].shared.connection() as connection:
        (schema,) = connection.execute("SELECT current_schema()").fetchone()
        connection.execute(f"DROP SCHEMA {schema}_queue CASCADE")
    storage["store"].shared.queue = None
    assert work(agent, until_idle=True) == {"done": 1}
    assert log.calls() == {"a": 1}
    assert row(boss, "parked").parked == "5 attempts failed"


def indexes(storage):
    store = storage["store"]
    with store.shared.connection() as connection:
        return {
            name
            for (name,) in connection.execute(
                "SELECT indexname FROM pg_indexes WHERE schemaname = current_schema() || '_queue'"
                " AND indexname LIKE 'plan_execute%_of_queue'"
            )
        }


def test_a_queue_that_an_earlier_version_made_gets_its_indexes_when_it_is_opened(boss, storage):
    submit(boss, plan(bound("a", "send")), "t")
    made = indexes(storage)
    assert made == {"plan_execute_first_of_queue", "plan_execute_next_of_queue"}
    with storage["store"].shared.connection() as connection:
        (schema,) = connection.execute("SELECT current_schema()").fetchone()
        for name in made:
            connection.execute(f"DROP INDEX {schema}_queue.{name}")
    storage["store"].shared.queue = None
    submit(boss, plan(bound("b", "send")), "u")
    assert indexes(storage) == made


def test_who_may_make_no_index_uses_the_queue_without_it(boss, storage, tmp_path, agent, log):
    submit(boss, plan(bound("a", "send")), "t", context=FREE)
    with storage["store"].shared.connection() as connection:
        (schema,) = connection.execute("SELECT current_schema()").fetchone()
        connection.execute(f"DROP INDEX {schema}_queue.plan_execute_next_of_queue")
        connection.execute(f"CREATE ROLE guest_{schema} IN ROLE pg_read_all_data, pg_write_all_data")
    with postgres_persistence(f"{schema_of(tmp_path)}%20-crole%3Dguest_{schema}") as (saver, store):
        guest = create_plan_execute_agent(None, checkpointer=saver, store=store)
        submit(guest, plan(bound("b", "send")), "u", context=FREE)
    assert indexes(storage) == {"plan_execute_first_of_queue"}
    assert work(agent, until_idle=True) == {"done": 2}


def test_a_queue_that_a_newer_procrastinate_made_is_refused(boss, storage):
    submit(boss, plan(bound("a", "send")), "t")
    with storage["store"].shared.connection() as connection:
        (schema,) = connection.execute("SELECT current_schema()").fetchone()
        connection.execute(f"INSERT INTO {schema}_queue.plan_execute_made VALUES ('99.00.00_01_pre.sql')")
    storage["store"].shared.queue = None
    with pytest.raises(SchemaVersionError, match="newer procrastinate"):
        submit(boss, plan(bound("b", "send")), "u")


def wait_for(condition, timeout_s=30.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came to this"
        time.sleep(0.01)


def test_an_answer_keeps_those_that_no_worker_has_handed_in_yet(agent, boss):
    asks = [{"id": name, "ask": {"question": f"{name}?"}} for name in ("one", "two")]
    submit(boss, plan(*asks), "t")
    assert work(agent, until_idle=True) == {"waiting": 1}
    first, second = (one.id for one in state(agent, "t").interrupts)

    async def hand_in():
        queue = await queue_of(boss)
        await queue.put(QueuedThread("t", resume={first: "only the run can read this"}))

    run_to_end(hand_in())
    submit(boss, Command(resume={second: "yes"}), "t")
    assert row(agent, "t").resume == {first: "only the run can read this"}
