"""What goes on across threads: `plan-execute` alone, inbox, list, and commands without a thread."""

import re
import shutil
from datetime import UTC, datetime

import pytest

from plan_execute import local_persistence
from plan_execute.cli.overview import Entry, list_lines, overview_lines
from plan_execute.storage.ledger import queue_of_thread
from plan_execute.storage.rows import put


@pytest.fixture(scope="module")
def three_threads(tmp_path_factory, cli_in):
    """Have a database with a run that ended, one that waits for approval, and one that failed and asks."""
    cli = cli_in(tmp_path_factory.mktemp("threads"))
    cli.run_plan("read.yaml")
    tools = ("--tools", "mytools:ALL")
    cli("run", "--plan", "write.yaml", *tools, "--thread", "asks")
    cli("run", "--plan", "fail.yaml", *tools, "--thread", "failed", "--on-failure", "ask")
    return [file for file in cli.folder.glob("threads.db*") if file.is_file()]


@pytest.fixture
def three(cli, three_threads):
    """Give each test a copy of them."""
    for file in three_threads:
        shutil.copy(file, cli.folder)
    return cli


def test_alone_it_names_ways_to_begin_where_nothing_has_run_and_makes_no_database(cli):
    done = cli()
    assert done.code == 0
    assert "plan-execute demo tour" in done.out
    assert "plan-execute --help" in done.out
    assert not (cli.folder / "threads.db").exists()


def test_alone_it_says_what_waits_what_ended_and_what_to_do_next(three):
    text = three().out
    waiting, _, ended = text.partition("Ended")
    assert "Waiting for you" in waiting
    assert "May this plan run?" in waiting
    assert "A step failed: f — look raised RuntimeError: no such thing" in waiting
    assert re.search(r"^  t +.* done +2/2 +look at two things$", ended, re.MULTILINE)
    assert "plan-execute resume asks " in ended


def test_a_run_whose_process_was_killed_is_stopped_and_alone_it_says_how_to_go_on(cli):
    process = cli.start("run", "--plan", "long.yaml", "--tools", "mytools:ALL", "--thread", "t")
    cli.wait_for_call("slow")
    assert statuses_of(cli, "t") == {"running"}
    process.kill()
    process.communicate()
    assert statuses_of(cli, "t") == {"stopped"}
    assert cli("list", "--json", "--status", "stopped").json["threads"][0]["done"] == 1
    shown = cli("show", "t")
    assert "Status: stopped" in shown.out
    assert "It stopped before its end. Go on with: plan-execute resume t\n" in shown.err
    text = cli().out
    assert "Stopped before the end" in text
    assert "plan-execute resume t " in text


def statuses_of(cli, thread):
    """Collect the status that each command names."""
    listed = {one["thread"]: one["status"] for one in cli("list", "--json").json["threads"]}
    others = [cli(command, thread, "--json").json["status"] for command in ("show", "report")]
    return {listed[thread], *others}


def test_inbox_shows_what_waits_oldest_first_and_how_to_answer(three):
    found = three("inbox", "--json").json["waiting"]
    assert [entry["thread"] for entry in found] == ["asks", "failed"]
    assert [entry["questions"][0]["name"] for entry in found] == ["approve_plan", "handle_step_failure"]
    text = three("inbox").out
    assert text.index("plan-execute resume asks") < text.index("plan-execute resume failed")
    three("resume", "asks", "--approve", "--tools", "mytools:ALL")
    three("cancel", "failed")
    assert "Nothing waits for you." in three("inbox").err


def test_list_tells_progress_and_the_open_question_one_line_for_each_thread(three):
    lines = three("list").out.splitlines()
    assert len(lines) == 3
    assert re.match(r"failed +\S+ \S+ +waiting +1/3 +fail +\? A step failed: f", lines[0])
    columns = [line.index(goal) for line, goal in zip(lines, ("fail ", "write", "look"), strict=True)]
    columns[0] = lines[0].index("fail ", 10)
    assert len(set(columns)) == 1


def test_list_can_be_limited_by_goal_and_by_time(three):
    def named(*words):
        return [thread["thread"] for thread in three("list", "--json", *words).json["threads"]]

    assert named("--goal", "LOOK at") == ["t"]
    assert named("--since", "1h") == ["failed", "asks", "t"]
    assert named("--goal", "look", "--status", "waiting") == []
    assert three("list", "--since", "yesterday").code == 2


def test_a_window_gets_headings_and_no_line_is_wider_than_it(three, terminal):
    for columns in (60, 100):
        window = terminal("list", size=(40, columns))
        assert window.wait() == 0
        lines = [line.rstrip() for line in window.text.splitlines() if line.strip()]
        assert lines[0].split()[:4] == ["THREAD", "LAST", "STATUS", "STEPS"]
        assert max(map(len, lines)) <= columns
        assert any("? May this plan run?" in line for line in lines)


def test_without_a_terminal_a_command_without_a_thread_says_which_there_are(three):
    for command in ("show", "report", "history", "resume"):
        done = three(command)
        assert (done.code, done.out) == (2, ""), command
        assert "asks" in done.err
    assert "\nt " not in three("resume").err  # there is nothing to go on with


def test_at_a_terminal_a_command_without_a_thread_offers_the_last_ones(three, terminal):
    window = terminal("show")
    window.expect("Which one to show?")
    window.type("3")
    window.expect("Thread: t")
    assert window.wait() == 0
    window = terminal("resume", "--tools", "mytools:ALL")
    window.expect("Which one to resume?")
    window.type("2")
    window.expect("What now?")
    window.press("a")
    assert window.wait() == 0
    assert three("show", "asks", "--json").json["status"] == "done"


def test_a_list_has_a_column_of_costs_where_something_has_a_price():
    now = datetime.now(UTC)
    entries = [Entry("a", now.isoformat(), "done", "g", cost=0.25), Entry("b", now.isoformat(), "done", "h")]
    heading, first, second = list_lines(entries, 100, now=now, headings=True)
    at = heading.index("COST")
    assert (first[at : at + 4], second[at]) == ("0.25", "-")
    assert "COST" not in next(list_lines(entries[1:], 100, now=now, headings=True))


def test_a_list_is_chosen_by_when_runs_were_started_and_what_they_cost(three):
    everything = three("list", "--json", "--started", "1h").json["threads"]
    assert len(everything) == 3
    assert all(entry["started_at"] <= entry["at"] for entry in everything)
    assert three("list", "--json", "--min-cost", "0.01").json["threads"] == [], "nothing has a price"
    assert three("list", "--min-cost", "0.01").err.strip() == "No thread matches."
    refused = three("list", "--started", "soon")
    assert (refused.code, "--started: 'soon' is not a length of time" in refused.err) == (2, True)


@pytest.mark.parametrize("width", [40, 120])
def test_what_to_do_next_stands_in_columns_or_in_a_narrow_window_below_each_other(width):
    now = datetime.now(UTC)
    ended = [Entry("weekly", now.isoformat(), "done", "g", done=1, steps=1)]
    lines = list(overview_lines(ended, lambda thread: f"plan-execute resume {thread}", width=width, now=now))
    _, *todo = lines[lines.index("Next") :]
    if width == 40:
        assert todo[:2] == ["  plan-execute show weekly", "    look at the last run"]
    else:
        assert len({len(line) - len(line.split("  ")[-1].lstrip()) for line in todo}) == 1, todo


def test_what_keeps_a_thread_that_an_older_version_queued_in_a_file_is_said(three):
    with local_persistence(three.folder / "threads.db") as (_, store):
        store.batch([put(queue_of_thread("asks"), "open", {"at": 0.0, "attempts": 1})])
    [listed] = [one for one in three("list", "--json").json["threads"] if one["thread"] == "asks"]
    assert "an older version queued it" in listed["reason"]
    assert "an older version queued it" in three("show", "asks").out
