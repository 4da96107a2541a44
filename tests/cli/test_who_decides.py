"""The command line says who sits at it, holds the rules of a policy, and shows who decided."""

import json
from getpass import getuser

from postgres_server import server

TOOLS = ("--tools", "mytools:ALL")


def policy(cli, **rules):
    path = cli.folder / "policy.json"
    path.write_text(json.dumps(rules))
    return {"PLAN_EXECUTE_POLICY": str(path)}


def test_an_approval_is_of_the_user_of_the_system_or_of_whom_person_names(cli):
    for person, options in ((getuser(), ()), ("bob", ("--person", "bob"))):
        assert cli.run_plan("write.yaml").code == 3
        assert cli("resume", "t", "--approve", *TOOLS, *options).code == 0
        events = cli("history", "t", "--json").json["audit"]
        assert [one["by"] for one in events if one["event"] == "plan_approved"][-1] == {
            "kind": "person",
            "id": person,
        }
        assert f"by person {person}" in cli("history", "t").out
        assert f"Approved by person {person}" in cli("show", "t").out
        assert f"approved by person {person}" in cli("report", "t").out


def test_a_decision_of_somebody_else_is_refused_names_who_can_and_leaves_the_question_open(cli):
    rules = policy(cli, approvers=[{"who": ["boss"], "effect": "write", "requester": False}])
    assert cli.run_plan("write.yaml", "--person", "ann", **rules).code == 3
    refused = cli("resume", "t", "--approve", *TOOLS, "--person", "ann", **rules)
    assert refused.code == 2
    assert "ann may not decide this" in refused.err
    assert "boss may decide" in refused.err
    assert cli.calls == []
    for command in (("edit", "t", "--plan", "read.yaml"), ("retry", "t", "--step", "w")):
        assert "may not decide" in cli(*command, *TOOLS, "--person", "ann", **rules).err
    assert cli("show", "t", "--json").json["status"] == "waiting"
    assert cli("resume", "t", "--approve", *TOOLS, "--person", "boss").code == 0, "without the policy too"
    assert cli.calls == ["look tea", "note tea"]


def test_the_rules_of_a_thread_hold_where_no_policy_is_set(cli):
    rules = policy(cli, approvers=[{"who": ["boss"]}])
    assert cli.run_plan("write.yaml", **rules).code == 3
    assert "boss may decide" in cli("resume", "t", "--approve", *TOOLS).err
    assert cli.calls == []


def test_an_answer_that_workers_carry_out_is_of_who_submitted_it(cli):
    cli.env["PLAN_EXECUTE_DB"] = server().new_schema()
    rules = policy(cli, approvers=[{"who": ["boss"]}])
    assert cli.run_plan("write.yaml", **rules).code == 3
    assert "may not decide" in cli("resume", "t", "--approve", "--queue", "--person", "eve").err
    assert cli("resume", "t", "--approve", "--queue", "--person", "boss").code == 0
    assert cli("worker", "--until-idle", *TOOLS).code == 0
    events = cli("history", "t", "--json").json["audit"]
    assert [one["by"]["id"] for one in events if one["event"] == "plan_approved"] == ["boss"]
    assert cli.calls == ["look tea", "note tea"]


def test_a_policy_that_cannot_be_held_is_refused_with_what_it_can_say(cli):
    for wrong, words in (({"max_cost": 1}, "max_cost"), ({"approvers": [{"whom": ["x"]}]}, "approvers")):
        refused = cli.run_plan("write.yaml", **policy(cli, **wrong))
        assert refused.code in (1, 2)
        assert words in refused.err
    assert "cannot be read" in cli.run_plan("write.yaml", PLAN_EXECUTE_POLICY="nowhere.json").err


def test_show_and_report_name_what_the_tenant_has_spent(cli):
    done = cli.run_plan("read.yaml", "--tenant", "acme", "--max-cost-per-day", "5")
    assert done.code == 0, done.err
    for text in (cli("show", "t").out, cli("report", "t").out):
        assert "by acme: 0 of 5" in text.replace("\\", "")
    assert len(cli("show", "t", "--json").json["spent"]) == 1
