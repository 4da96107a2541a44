"""Schedules in the page: what they need, and what is done with them."""

import asyncio

import pytest
from postgres_server import schema_of
from served_page import PLANS, text_of

from plan_execute import create_plan_execute_agent, postgres_persistence
from plan_execute.threads.schedules import Schedules

FORM = {"name": "tea", "cron": "0 7 * * 1", "timezone": "Europe/Berlin", "overlap": "queue", "missed": "all"}


@pytest.fixture
def served(page):
    page.database = schema_of(page.folder)
    return page.start().signed_in()


def stored(page):
    async def read():
        with postgres_persistence(page.database) as (saver, store):
            agent = create_plan_execute_agent(checkpointer=saver, store=store)
            return await (await Schedules.of(agent)).all()

    return asyncio.run(read())


def test_a_schedule_is_added_paused_run_at_once_and_removed(served):
    assert "There are no schedules yet." in served.get("/schedules")
    assert served.post("/schedules", {**FORM, "plan": PLANS["write"]}).status_code == 303
    shown = served.get("/schedules")
    assert "0 7 * * 1" in shown
    assert " 07:00</time>" in shown, "in its own time zone"
    assert "Mon " in shown
    (made,) = stored(served)
    assert (made.timezone, made.overlap, made.missed, made.grant) == ("Europe/Berlin", "queue", "all", None)
    served.post("/schedules/tea/pause", {})
    assert "paused" in text_of(served.get("/schedules"))
    served.post("/schedules/tea/go-on", {})
    assert stored(served)[0].paused is False
    served.post("/schedules/tea/run-now", {})
    (made,) = stored(served)
    assert made.thread in served.get("/schedules")
    assert made.thread in served.get("/runs")
    served.post("/schedules/tea/remove", {})
    assert stored(served) == []


def test_a_plan_that_was_about_to_be_started_is_scheduled_with_its_inputs(served):
    form = served.post("/schedules/new", {"plan": PLANS["inputs"]}).text
    assert 'name="input.what"' in form
    fields = {**FORM, "plan": PLANS["inputs"], "input.what": "milk", "input.times": "3"}
    assert served.post("/schedules", fields).status_code == 303
    assert stored(served)[0].inputs == {"what": "milk", "times": 3}


def test_a_grant_names_who_gave_it(page):
    page.database = schema_of(page.folder)
    page.start("--auth", "mytools:authenticate")
    page.client.headers["x-user"] = "eve"
    grant = {"grant.tools": "look,note", "grant.effects": "read,write", "grant.until": "2100-01-01"}
    answer = page.post("/schedules", {**FORM, **grant, "plan": PLANS["write"]})
    assert answer.status_code == 303, text_of(answer.text)
    assert stored(page)[0].grant["by"] == {"kind": "person", "id": "eve"}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"cron": "now"}, "now"),
        ({"timezone": "Mars"}, "Mars"),
        ({"plan": ""}, "a schedule runs a plan"),
        ({"plan": "goal: x\nsteps: [{id: a, call: {tool: fly}}]"}, "fly"),
        ({"grant.tools": "look"}, "a grant needs until="),
        ({"overlap": "both"}, "both"),
    ],
)
def test_what_cannot_be_is_said_and_what_was_typed_stays(served, wrong, said):
    answer = served.post("/schedules", {**FORM, "plan": PLANS["write"], **wrong})
    assert answer.status_code == 422
    assert said in answer.text
    assert 'value="tea"' in answer.text
    assert stored(served) == []


def test_read_only_schedules_are_shown_and_not_changed(served):
    served.post("/schedules", {**FORM, "plan": PLANS["write"]})
    served.stop()
    served.start("--read-only").signed_in()
    shown = served.get("/schedules")
    assert "0 7 * * 1" in shown
    assert "<form" not in shown
    assert served.client.post("/schedules/tea/remove", data={}).status_code == 403
    assert len(stored(served)) == 1


def test_without_postgresql_it_is_said_what_schedules_need(shared):
    said = text_of(shared.get("/schedules"))
    assert "Schedules need a queue" in said
    assert "0 7 * * 1  plan-execute run --plan FILE" in said
    assert shared.post("/schedules", {**FORM, "plan": PLANS["write"]}).status_code == 422
