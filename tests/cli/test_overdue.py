"""Questions that nobody answered in time: `list` marks them, `show` and `resume` apply their safe default."""

import json
import subprocess
import sys
import time

import pytest

TOOLS = ("--tools", "mytools:ALL")
PATIENCE = 0.2

PROGRAM = """
import json, sys
from mytools import ALL
from plan_execute import Context, create_plan_execute_agent, local_persistence
from plan_execute.plan.files.plan_files import load_plan_file

with local_persistence("threads.db") as (checkpointer, store):
    agent = create_plan_execute_agent(None, tools=ALL, checkpointer=checkpointer, store=store)
    given, config = {"plan": load_plan_file(sys.argv[1]).plan}, {"configurable": {"thread_id": "t"}}
    agent.invoke(given, config, context=Context(**json.loads(sys.argv[2])))
"""


@pytest.fixture
def embedded(cli):
    """Start a plan in a program that embeds the agent, as only it can set ``decision_timeout_s``."""
    started = []

    def start(plan, **settings):
        arguments = [sys.executable, "-c", PROGRAM, plan, json.dumps(settings)]
        started.append(subprocess.Popen(arguments, cwd=cli.folder, env=cli.env))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def waiting(embedded, plan, patience=PATIENCE, **settings):
    """Run a plan up to its question, and longer than it waits."""
    assert embedded(plan, decision_timeout_s=patience, **settings).wait(timeout=60) == 0
    time.sleep(min(patience, 1.0) * 1.5)


def test_list_marks_overdue_threads_and_applies_nothing(cli, embedded):
    waiting(embedded, "write.yaml")
    for _ in range(2):
        (line,) = cli("list").out.splitlines()
        assert "overdue" in line
        (entry,) = cli("list", "--json").json["threads"]
        assert (entry["status"], entry["overdue"]) == ("waiting", True)
    assert "plan_rejected" not in cli("history", "t").out


def test_show_rejects_a_plan_that_nobody_approved_in_time_and_needs_no_tools_for_it(cli, embedded):
    waiting(embedded, "write.yaml")
    shown = cli("show", "t")
    assert shown.code == 0
    assert "the safe default applies to: approve_plan" in shown.err
    assert "Status: rejected" in shown.out
    assert "nobody answered within 0.2 seconds" in shown.out
    rejected = [e for e in cli("history", "t", "--json").json["audit"] if e["event"] == "plan_rejected"]
    assert [event["by"] for event in rejected] == [{"kind": "timeout"}]
    assert cli.calls == []
    assert "overdue" not in cli("list").out


def test_show_ends_a_run_whose_failed_step_nobody_decided_about(cli, embedded):
    waiting(embedded, "fail.yaml", on_failure="ask")
    state = cli("show", "t", "--json").json
    assert (state["status"], state["questions"]) == ("partial", [])
    assert {step: result["status"] for step, result in state["results"].items()} == {
        "a": "done",
        "f": "failed",
        "after": "blocked",
    }
    assert sorted(cli.calls) == ["look bad", "look tea"]


def test_a_question_in_its_time_is_shown_and_nothing_is_applied(cli, embedded):
    waiting(embedded, "write.yaml", patience=1000)
    assert "Status: waiting" in cli("show", "t").out
    assert "waiting" in cli("list").out
    assert cli("resume", "t").code == 3


def test_show_applies_nothing_that_could_run_tools_which_were_not_given_and_says_so(cli, embedded):
    (cli.folder / "stall.yaml").write_text(
        "goal: g\nsteps: [{id: w, max_attempts: 1, call: {tool: stall, args: {seconds: 60}}}]\n"
    )
    process = embedded("stall.yaml", decision_timeout_s=PATIENCE, approval="never")
    cli.wait_for_call("stall")
    process.kill()
    process.wait()
    asked = cli("resume", "t", *TOOLS)
    assert (asked.code, asked.json["questions"][0]["name"]) == (3, "resolve_unknown_outcome")
    time.sleep(PATIENCE)
    shown = cli("show", "t")
    assert shown.code == 0
    assert "cannot be applied now" in shown.err
    assert "stall" in shown.err
    assert "resolve_unknown_outcome" in shown.out
    shown = cli("show", "t", *TOOLS)
    assert "resolve_unknown_outcome" not in shown.out
    assert "handle_step_failure" in shown.out
    assert cli.calls == ["stall"]


def test_show_of_a_thread_that_runs_says_that_the_safe_default_has_to_wait(cli, embedded):
    (cli.folder / "both.yaml").write_text(
        "goal: g\nsteps:\n"
        "  - {id: f, max_attempts: 1, on_failure: ask, call: {tool: look, args: {q: bad}}}\n"
        "  - {id: s, call: {tool: slow, args: {seconds: 60}}}\n"
    )
    embedded("both.yaml", decision_timeout_s=PATIENCE)
    cli.wait_for_call("slow")
    until = time.monotonic() + 60
    while "overdue" not in cli("list").out:
        assert time.monotonic() < until, "the question never became visible"
    shown = cli("show", "t", *TOOLS)
    assert shown.code == 0
    assert "cannot be applied now" in shown.err
    assert "being run by someone else" in shown.err
    assert "Status: waiting" in shown.out


def test_resume_applies_the_safe_default_instead_of_asking_again(cli, embedded):
    waiting(embedded, "write.yaml")
    done = cli("resume", "t", "--json")
    assert (done.code, done.json["status"]) == (1, "rejected")
    assert cli.calls == []


def test_a_late_answer_does_not_count_and_is_told_so(cli, embedded):
    waiting(embedded, "write.yaml")
    done = cli("resume", "t", "--approve", *TOOLS)
    assert done.code == 1
    assert "This answer comes too late to count." in done.err
    assert cli.calls == []


def test_a_person_at_a_terminal_is_not_asked_what_is_overdue(cli, embedded, terminal):
    waiting(embedded, "write.yaml")
    screen = terminal("resume", "t", *TOOLS)
    assert screen.wait() == 1
    assert "What now?" not in screen.text
    assert "nobody answered" in screen.text
