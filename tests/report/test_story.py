"""The first screen of a report: what broke, who decided, what changed, and all of it at its time."""

from __future__ import annotations

import time

from plans import Thread, agent_with, bound
from reported import Page
from toolset import Toolset, make_tool

from plan_execute import Context, retry_steps
from plan_execute.report import aread_run, write_report


def failing(times):
    """Make a tool that fails so many times, and then does not."""
    left = [times]

    def fetch(q: str) -> dict:
        """Fetch."""
        if left[0]:
            left[0] -= 1
            time.sleep(0.002)  # A try that takes no time has no bar.
            raise OSError(f"no route to {q}")
        return {"got": q}

    return make_tool(fetch)


def sending():
    def send(text: str) -> str:
        """Send."""
        return "sent"

    return make_tool(send, effect="write")


def thread(*tools, **settings):
    return Thread(agent_with([*Toolset().tools, *tools]), Context(person="ada", **settings))


async def record_of(thread):
    return await aread_run(thread.agent, thread.config)


async def test_a_question_tells_who_answered_it_and_how_long_it_was_open():
    run = thread(failing(1), sending(), max_attempts=1)
    await run.run(
        bound("get", "fetch", {"q": "mirror"}, on_failure="ask"),
        bound("tell", "send", {"text": "${get.got}"}, confirm=True),
    )
    opened = await record_of(run)
    assert [(one["who"], one["did"]) for one in opened["story"]["decided"]] == [("", "May this plan run?")]
    await run.answer("approve")
    await run.answer({"decision": "retry"})
    await run.answer("approve")
    record = await record_of(run)
    story = record["story"]
    assert [(one["who"], one["did"], one["step_id"]) for one in story["decided"]] == [
        ("ada", "approved the plan", None),
        ("ada", "had it retried", "get"),
        ("ada", "answered: May this call be made?", "tell"),
    ]
    assert all(one["waited_s"] is not None for one in story["decided"])
    assert [(one["said"], one["step_id"]) for one in story["changed"]] == [("send (text: mirror)", "tell")]
    broken = story["broke"][0]
    assert (broken["step_id"], broken["failures"], broken["then"]) == ("get", 1, "attempt 2 succeeded")
    assert broken["error"].endswith("no route to mirror")
    waits = record["timeline"]["waits"]
    assert [(wait["step_id"], wait["ended"]) for wait in waits] == [
        (None, True),
        ("get", True),
        ("tell", True),
    ]


async def test_decisions_have_the_times_when_they_were_made_though_a_question_made_the_step_begin_again():
    run = thread(failing(2), approval="never", max_attempts=2)
    await run.run(bound("get", "fetch", {"q": "mirror"}, on_failure="ask"))
    asked = await record_of(run)
    await run.answer({"decision": "retry"})
    record = await record_of(run)
    retried, answered = [one for one in record["decisions"] if one["event"] == "step_failure"]
    first, second = asked["steps"][0]["tries"]
    assert retried["at"] == first["decided_at"] <= second["started_at"], "it is not the time of the resume"
    assert answered["at"] >= second["ended_at"]
    assert [one["at"] for one in record["decisions"]] == sorted(one["at"] for one in record["decisions"])


async def test_a_step_that_was_ordered_again_keeps_its_failed_tries_and_tells_each_decision_once():
    run = thread(failing(2), approval="never", max_attempts=2, on_failure="abort")
    await run.run(bound("get", "fetch", {"q": "mirror"}), bound("use", "look", {"q": "${get.got}"}))
    failed = await record_of(run)
    assert failed["story"]["broke"][0]["blocked"] == ["use"]
    await retry_steps(run.agent, run.config, person="bob")
    await run.send(None)
    record = await record_of(run)
    got = record["steps"][0]
    assert [made["decision"] for made in got["tries"]] == ["retry", "retry"]
    assert [made["by"] for made in got["tries"]] == ["policy", "person bob"]
    before = [(one["at"], one["event"]) for one in failed["decisions"]]
    assert [(one["at"], one["event"]) for one in record["decisions"]][: len(before)] == before
    later = [one["event"] for one in record["decisions"][len(before) :]]
    assert later == ["steps_retried", "evaluated", "finished"]
    assert record["timeline"]["bars"][0]["worked_s"] < record["timeline"]["bars"][0]["seconds"]
    page = Page(write_report(record))
    assert len(page.named("rect", "bar tried")) == 2


async def test_a_run_in_which_all_went_well_says_so(small):
    assert small["story"]["broke"] == []
    assert small["story"]["unverified"] == ["letter"]
    text = Page(write_report(small)).text
    assert "Nobody could check letter." in text
    assert "Nobody had to decide." in text
    assert "No write is on record." in text


def test_a_revision_tells_what_it_went_around(revised):
    broken = revised["story"]["broke"]
    assert [(one["step_id"], one["then"]) for one in broken] == [
        ("fetch", "revision 2 of the plan worked around it")
    ]
    assert [(one["added"], one["removed"]) for one in revised["story"]["changed"]] == [
        (["fetch_r2"], ["fetch", "merge"])
    ]


def test_each_model_tells_what_it_did(small):
    assert small["usage"]["by_model"]["scripted"]["roles"] == {
        "planner": 1,
        "executor": 2,
        "evaluator": 1,
        "synthesizer": 1,
    }
    assert "planner 1, executor 2, evaluator 1, synthesizer 1" in Page(write_report(small)).text


def test_the_conversation_is_told_folded(small):
    assert [one["who"] for one in small["conversation"]][-1] == "plan-execute"
    html = write_report(small)
    assert f"<summary>{len(small['conversation'])} messages</summary>" in html or "1 message<" in html
    assert Page(html).named("ol", "talk")
