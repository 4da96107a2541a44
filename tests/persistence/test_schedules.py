"""Plans that run at set times: when they are due, what overlaps or was missed, what runs unattended."""

import asyncio
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from langgraph.types import Command
from logged_tools import Log, bound, make_tools, plan
from postgres_server import schema_of

from plan_execute import create_plan_execute_agent, local_persistence, postgres_persistence, work
from plan_execute.errors import ConfigurationError, InvalidInputError
from plan_execute.threads.queue import Queue
from plan_execute.threads.schedules import Schedules, new_schedule, read_grant

# A Friday far away: nothing is due for the workers, who look at the real clock.
NOW = datetime(2096, 3, 23, 12, tzinfo=UTC).timestamp()
MINUTE, DAY = 60, 86_400


@pytest.fixture
def log(tmp_path):
    return Log(tmp_path / "log")


@pytest.fixture
def agent(tmp_path, log):
    with postgres_persistence(schema_of(tmp_path)) as (saver, store):
        yield create_plan_execute_agent(None, tools=make_tools(log), checkpointer=saver, store=store)


def made(**fields):
    given = {"name": "daily", "cron": "0 13 * * *", "timezone": "UTC", "inputs": {}} | fields
    return new_schedule(NOW, **{"plan": plan(bound("a", "send"))["plan"], **given})


def on(agent, act):
    async def acted():
        return await act(await Schedules.of(agent))

    return asyncio.run(acted())


def after(agent, seconds):
    """Look at what is due, and return the schedule."""
    on(agent, lambda schedules: schedules.look(NOW + seconds))
    return on(agent, lambda schedules: schedules.get("daily"))


def threads(agent):
    return sorted({one.config["configurable"]["thread_id"] for one in agent.checkpointer.list(None)})


def status(agent, thread):
    snapshot = agent.get_state({"configurable": {"thread_id": thread}})
    return "waiting" if snapshot.interrupts else snapshot.values.get("status")


GRANT = {"tools": "send", "effects": "read,write", "resources": "*", "until": "2100-01-01"}


def grant(**parts):
    by = {"kind": "person", "id": "ada"}
    return read_grant({**GRANT, **parts}, by, datetime.now(UTC))


def test_a_run_starts_when_it_is_due_once_however_many_look(agent):
    on(agent, lambda schedules: schedules.add(made()))
    assert after(agent, 59 * MINUTE).thread is None

    async def two_look(schedules):
        await asyncio.gather(schedules.look(NOW + 61 * MINUTE), schedules.look(NOW + 61 * MINUTE))

    on(agent, two_look)
    assert threads(agent) == ["daily-20960323T130000Z"]
    found = after(agent, 62 * MINUTE)
    assert (found.thread, found.due) == ("daily-20960323T130000Z", NOW + 25 * 3600)
    assert threads(agent) == ["daily-20960323T130000Z"]


def test_who_died_after_the_start_of_a_run_leaves_it_to_be_found_and_not_started_twice(agent):
    schedule = made()
    on(agent, lambda schedules: schedules.add(schedule))
    on(agent, lambda schedules: schedules._start(schedule, schedule.due))
    assert after(agent, 61 * MINUTE).thread == "daily-20960323T130000Z"
    assert threads(agent) == ["daily-20960323T130000Z"]


def test_who_died_before_a_run_was_in_the_queue_leaves_it_to_be_put_there(agent, log, monkeypatch):
    schedule = made(grant=grant())
    on(agent, lambda schedules: schedules.add(schedule))
    monkeypatch.setattr(Queue, "put", killed)
    with pytest.raises(OSError, match="killed"):
        on(agent, lambda schedules: schedules._start(schedule, schedule.due))
    monkeypatch.undo()
    assert after(agent, 61 * MINUTE).thread == "daily-20960323T130000Z"
    assert work(agent, until_idle=True) == {"done": 1}
    assert (after(agent, 62 * MINUTE).thread, log.calls()) == ("daily-20960323T130000Z", {"a": 1})


async def killed(*_):
    raise OSError("killed")


def test_seven_in_the_morning_stays_so_when_the_clocks_change():
    schedule = made(cron="0 7 * * *", timezone="Europe/Berlin")
    times = [schedule.due]
    for _ in range(3):
        times.append(schedule.next_after(times[-1]))
    local = [datetime.fromtimestamp(each, ZoneInfo("Europe/Berlin")) for each in times]
    assert [each.hour for each in local] == [7] * 4
    assert [each.day for each in local] == [24, 25, 26, 27]


@pytest.mark.parametrize(
    ("missed", "expected"),
    [
        ("skip", []),
        ("once", ["daily-20960325T130000Z"]),
        ("all", [f"daily-209603{d}T130000Z" for d in (23, 24, 25)]),
    ],
)
def test_runs_that_nobody_started_in_time_are_left_out_or_made_up_for(agent, missed, expected):
    on(agent, lambda schedules: schedules.add(made(missed=missed, overlap="queue")))
    for days in range(3):
        found = after(agent, 2 * DAY + 3 * 3600 + days * MINUTE)
        if found.thread:
            work(agent, until_idle=True)
            if status(agent, found.thread) == "waiting":
                agent.invoke(*approve(found.thread))
    assert threads(agent) == expected
    assert found.due == NOW + 3 * DAY + 3600


def test_of_many_runs_that_were_missed_or_wait_the_last_ones_are_started():
    later = NOW + 365 * DAY
    found = made(cron="* * * * *", missed="all").came_due(later)
    assert found.waiting == tuple(later - MINUTE * (99 - each) for each in range(100))
    assert found.due == later + MINUTE
    again = found.came_due(later + MINUTE)
    assert again.waiting == (*found.waiting[1:], later + MINUTE)


def approve(thread):
    return Command(resume="approve"), {"configurable": {"thread_id": thread}}


@pytest.mark.parametrize("overlap", ["skip", "queue", "cancel"])
def test_a_run_that_is_due_before_the_last_one_ended(agent, log, overlap):
    on(agent, lambda schedules: schedules.add(made(overlap=overlap)))
    first, second = "daily-20960323T130000Z", "daily-20960324T130000Z"
    after(agent, 61 * MINUTE)
    work(agent, until_idle=True)
    assert status(agent, first) == "waiting"
    found = after(agent, DAY + 61 * MINUTE)
    if overlap == "skip":
        assert (found.thread, threads(agent)) == (first, [first])
        assert "skipped" in found.note
    elif overlap == "queue":
        assert (found.thread, found.waiting, threads(agent)) == (first, (NOW + DAY + 3600,), [first])
        agent.invoke(*approve(first))
        assert after(agent, DAY + 62 * MINUTE).thread == second
    else:
        assert (found.thread, status(agent, first)) == (second, "failed")
        assert log.calls() == {}


def test_a_paused_schedule_starts_nothing_and_goes_on_with_what_comes_after_the_pause(agent):
    on(agent, lambda schedules: schedules.add(made()))
    on(agent, lambda schedules: schedules.pause("daily", NOW))
    assert after(agent, 3 * DAY).thread is None
    found = on(agent, lambda schedules: schedules.pause("daily", NOW + 3 * DAY, paused=False))
    assert found.due == NOW + 3 * DAY + 3600
    thread = on(agent, lambda schedules: schedules.run_now("daily", NOW))
    assert threads(agent) == [thread]
    on(agent, lambda schedules: schedules.remove("daily"))
    assert on(agent, lambda schedules: schedules.all()) == []


def test_a_plan_within_the_grant_runs_unattended_and_the_record_says_who_granted_it(agent, log):
    on(agent, lambda schedules: schedules.add(made(grant=grant())))
    thread = after(agent, 61 * MINUTE).thread
    assert work(agent, until_idle=True) == {"done": 1}
    assert log.calls() == {"a": 1}
    (record,) = records(agent, thread)
    assert (record["decision"], record["by"]) == ("approved", {"kind": "person", "id": "ada"})
    assert (record["schedule"], record["until"]) == ("daily", "2100-01-01T00:00:00+00:00")


def records(agent, thread):
    from plan_execute.storage.ledger import Ledger

    plan_id = agent.get_state({"configurable": {"thread_id": thread}}).values["plan"]["id"]
    return asyncio.run(Ledger(agent.store, thread).approvals(plan_id))


@pytest.mark.parametrize("beyond", [{"tools": "look"}, {"effects": "read"}])
def test_what_a_grant_does_not_cover_is_asked(agent, log, beyond):
    on(agent, lambda schedules: schedules.add(made(grant=grant(**beyond))))
    thread = after(agent, 61 * MINUTE).thread
    assert work(agent, until_idle=True) == {"waiting": 1}
    assert (status(agent, thread), log.calls()) == ("waiting", {})


def test_a_grant_that_is_over_lets_nothing_run(agent, log):
    on(agent, lambda schedules: schedules.add(made(grant={**grant(), "until": "2026-01-01T00:00:00+00:00"})))
    after(agent, 61 * MINUTE)
    assert work(agent, until_idle=True) == {"waiting": 1}
    assert log.calls() == {}


def test_a_grant_is_not_for_what_somebody_asks_on_the_thread_later(agent, log):
    on(agent, lambda schedules: schedules.add(made(grant=grant())))
    thread = after(agent, 61 * MINUTE).thread
    work(agent, until_idle=True)
    agent.invoke(plan(bound("later", "send")), {"configurable": {"thread_id": thread}})
    assert status(agent, thread) == "waiting"
    assert log.calls() == {"a": 1}


@pytest.mark.parametrize("tool", ["look", "unsteady"], ids=["needs no approval", "is beyond it"])
def test_a_grant_that_the_first_plan_did_not_use_is_not_for_a_later_one(agent, log, tool):
    first = plan(bound("a", tool))["plan"]
    on(agent, lambda schedules: schedules.add(made(plan=first, grant=grant())))
    thread = after(agent, 61 * MINUTE).thread
    work(agent, until_idle=True)
    if status(agent, thread) == "waiting":
        agent.invoke(Command(resume={"type": "reject"}), {"configurable": {"thread_id": thread}})
    calls = log.calls()
    agent.invoke(plan(bound("later", "send")), {"configurable": {"thread_id": thread}})
    assert (status(agent, thread), log.calls()) == ("waiting", calls)


def test_a_grant_that_the_schedules_own_plan_did_not_need_is_for_no_other_plan(agent, log):
    reads = plan(bound("a", "look"))["plan"]
    on(agent, lambda schedules: schedules.add(made(plan=reads, grant=grant(tools="look,send"))))
    thread = after(agent, 61 * MINUTE).thread
    work(agent, until_idle=True)
    agent.invoke(plan(bound("later", "send")), {"configurable": {"thread_id": thread}})
    assert status(agent, thread) == "waiting"
    assert log.calls() == {"a": 1}


@pytest.mark.parametrize(
    "wrong",
    [
        {"cron": "0 7 * *"},
        {"cron": "* * * * * *"},
        {"cron": "0 0 30 2 *"},
        {"timezone": "Mars"},
        {"overlap": "both"},
        {"name": "a b"},
    ],
)
def test_what_is_no_schedule_is_refused(wrong):
    with pytest.raises(InvalidInputError):
        made(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"until": "2020-01-01"}, {"until": "soon"}, {"tools": ""}, {"effects": "all"}, {"x": "y"}]
)
def test_what_is_no_grant_is_refused(wrong):
    with pytest.raises(InvalidInputError):
        grant(**wrong)


def test_without_postgresql_a_line_of_cron_is_named(tmp_path):
    with local_persistence(tmp_path / "runs.db") as (saver, store):
        agent = create_plan_execute_agent(None, checkpointer=saver, store=store)
        with pytest.raises(ConfigurationError, match=r"0 7 \* \* 1  plan-execute run --plan"):
            on(agent, lambda schedules: schedules.all())
