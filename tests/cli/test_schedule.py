"""The commands about plans that run at set times."""

import pytest
from postgres_server import schema_of

ADD = ("schedule", "add", "tea", "--cron", "0 7 * * 1", "--plan", "write.yaml")


@pytest.fixture
def server(cli):
    cli.env["PLAN_EXECUTE_DB"] = schema_of(cli.folder)
    return cli


def test_a_schedule_is_added_listed_paused_run_at_once_and_removed(server):
    cli = server
    assert "0 7 * * 1 Europe/Berlin" in cli(*ADD, "--timezone", "Europe/Berlin").err
    (found,) = cli("schedule", "list", "--json").json["schedules"]
    assert (found["name"], found["thread"], found["grant"], found["overlap"]) == ("tea", None, None, "skip")
    assert cli(*ADD).code == 2, "one of this name is there"
    assert cli("schedule", "pause", "tea", "--json").json["paused"] is True
    assert cli("schedule", "pause", "tea", "--off", "--json").json["paused"] is False
    thread = cli("schedule", "run-now", "tea", "--json").json["thread"]
    done = cli("worker", "--tools", "mytools:ALL", "--until-idle", "--json")
    assert done.json == {"threads": {"waiting": 1}}, "a plan that writes asks"
    assert cli("show", thread, "--json").json["status"] == "waiting"
    assert cli("schedule", "remove", "tea").code == 0
    assert cli("schedule", "list", "--json").json == {"schedules": []}


def test_a_grant_lets_a_plan_that_writes_run_unattended(server):
    cli = server
    grant = ["tools=look,note", "effects=read,write", "until=2100-01-01", "resources=*"]
    added = cli(*ADD, *(word for part in grant for word in ("--grant", part)))
    assert added.code == 0, added.err
    cli("schedule", "run-now", "tea")
    done = cli("worker", "--tools", "mytools:ALL", "--until-idle", "--json")
    assert done.json == {"threads": {"done": 1}}
    assert cli.calls[0] == "look tea"
    assert len(cli.calls) == 2


def test_a_grant_without_an_end_is_refused_and_so_is_a_file(cli):
    refused = cli(*ADD, "--grant", "tools=note")
    assert refused.code != 0
    assert "until" in refused.err
    refused = cli(*ADD)
    assert refused.code == 2
    assert "a line of cron can start a plan" in refused.err


def test_a_worker_on_a_file_says_nothing_but_why_it_cannot_work(cli):
    refused = cli("worker", "--until-idle")
    assert refused.code == 2
    assert refused.err.startswith("Error: only a PostgreSQL database has a queue"), refused.err
