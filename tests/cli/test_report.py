"""The command `report`: where it writes, in what form, and what it refuses."""

from __future__ import annotations

import json
import os
import sys
import threading

import pytest
from toolset import Toolset, make_tool

from plan_execute import Context, create_plan_execute_agent, local_persistence
from plan_execute.cli.app import run_command_line

STEPS = [
    {"id": "a", "call": {"tool": "look", "args": {"q": "tea"}}},
    {"id": "f", "call": {"tool": "broken", "args": {"q": "${a}"}}, "max_attempts": 1},
]


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """Keep three threads: one that ended, one that waits for an answer, one that waits for approval."""
    path = tmp_path_factory.mktemp("threads") / "threads.db"
    asks = {"ended": Context(approval="never", on_failure="skip"), "waits": Context(on_failure="ask")}
    with local_persistence(path) as (checkpointer, store):
        agent = create_plan_execute_agent(None, tools=Toolset().tools, checkpointer=checkpointer, store=store)
        for thread, context in {**asks, "asks": Context(approval="always")}.items():
            given = {"plan": {"goal": f"look, then {thread}", "steps": STEPS}}
            agent.invoke(given, {"configurable": {"thread_id": thread}}, context=context)
    return path


@pytest.fixture
def report(database, tmp_path, monkeypatch, capsys):
    """Run the command in a folder, and give its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLAN_EXECUTE_DB", str(database))
    stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115 - until the end of the test
    monkeypatch.setattr(sys, "stdin", stdin)

    def run(*arguments):
        code = run_command_line(["report", *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    yield run
    stdin.close()


def test_without_a_file_it_is_markdown_on_stdout(report):
    for arguments in ((), ("-o", "-"), ("--format", "md")):
        code, out, err = report("ended", *arguments)
        assert (code, err) == (0, "")
        assert out.startswith("# look, then ended\n\n**partial** — ")


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("r.html", "<!DOCTYPE html>"),
        ("R.HTM", "<!DOCTYPE html>"),
        ("r.md", "# look"),
        ("r.markdown", "# look"),
        ("r.json", '{\n  "format": "plan_execute.report/1"'),
    ],
)
def test_the_files_name_says_what_is_written(report, tmp_path, name, begins):
    code, out, err = report("ended", "-o", name)
    assert (code, out, err) == (0, "", f"Written to {name}.\n")
    assert (tmp_path / name).read_text(encoding="utf-8").startswith(begins)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_json_prints_one_document_beside_the_file_too(report, tmp_path):
    code, out, _ = report("ended", "--json", "-o", "r.html")
    document = json.loads(out)
    assert (code, document["thread"], document["status"]) == (0, "ended", "partial")
    assert [step["outcome"] for step in document["steps"]] == ["done", "skipped"]
    assert (tmp_path / "r.html").exists()
    assert json.loads(report("ended", "--format", "json")[1])["goal"] == "look, then ended"


@pytest.mark.parametrize(
    ("thread", "question", "step"),
    [
        ("asks", "May this plan run?", "### ○ `a` — not ended"),
        ("waits", "A step failed", "### ✓ `a` — done"),
    ],
)
def test_a_run_that_waits_says_so_and_shows_what_there_is(report, thread, question, step):
    code, out, _ = report(thread)
    assert code == 0, "the report was made"
    assert "**waiting** — Not finished: it waits for a person" in out
    assert f"**{question}**" in out
    assert step in out


def test_a_run_that_is_under_way_says_so_and_goes_on(database, report):
    ready, go_on = threading.Event(), threading.Event()

    def hold() -> str:
        """Wait until the test says so."""
        ready.set()
        assert go_on.wait(60)
        return "held"

    config = {"configurable": {"thread_id": "under way"}}
    plan = {"goal": "hold on", "steps": [{"id": "hold", "call": {"tool": "hold", "args": {}}}]}
    with local_persistence(database) as (checkpointer, store):
        agent = create_plan_execute_agent(
            None, tools=[make_tool(hold)], checkpointer=checkpointer, store=store
        )
        run = threading.Thread(target=lambda: agent.invoke({"plan": plan}, config, context=Context()))
        run.start()
        try:
            assert ready.wait(60)
            code, out, _ = report("under way")
        finally:
            go_on.set()
            run.join()
        assert agent.get_state(config).values["status"] == "done"
    assert (code, out.startswith("# hold on\n\n**running** — Not finished: it is running, or was")) == (
        0,
        True,
    )
    assert "### ○ `hold` — not ended" in out


def test_a_thread_that_is_not_there_is_an_error_that_writes_nothing(report, tmp_path):
    code, out, err = report("nowhere", "-o", "r.html")
    assert (code, out) == (2, "")
    assert "there is no thread 'nowhere'; `plan-execute list` names those there are" in err
    code, out, _ = report("nowhere", "--json")
    assert (code, json.loads(out)["error"]["code"]) == (2, "thread_not_found")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_ending_names_the_known_ones_and_format_overrules_it(report, tmp_path):
    code, _, err = report("ended", "-o", "r.pdf")
    assert code == 2
    assert "r.pdf has an unknown ending; a report can be .html, .htm, .md, .markdown, .json." in err
    assert report("ended", "-o", "r.txt", "--format", "md")[0] == 0
    assert (tmp_path / "r.txt").read_text(encoding="utf-8").startswith("# look")
    code, _, err = report("ended", "-o", "r.html", "--format", "md")
    assert (code, "contradict each other" in err) == (2, True)


def test_an_earlier_report_is_replaced_and_any_other_file_is_not(report, tmp_path):
    for name in ("r.html", "r.md", "r.json"):
        assert report("ended", "-o", name)[0] == 0
        assert report("asks", "-o", name)[0] == 0
        assert "asks" in (tmp_path / name).read_text(encoding="utf-8")
    mine = tmp_path / "mine.md"
    mine.write_text("# my own notes about plan-execute\n")
    code, _, err = report("ended", "-o", "mine.md")
    assert (code, mine.read_text()) == (2, "# my own notes about plan-execute\n")
    assert "mine.md is there already and is no report; --force overwrites it" in err
    assert report("ended", "-o", "mine.md", "--force")[0] == 0
    assert mine.read_text(encoding="utf-8").startswith("# look")


def test_a_folder_that_is_not_there_and_a_folder_instead_of_a_file_are_refused(report, tmp_path):
    (tmp_path / "folder.html").mkdir()
    for name in ("folder.html", "no/such/r.html"):
        code, _, err = report("ended", "-o", name)
        assert (code, f"{name} cannot be written" in err) == (2, True)


def test_a_disk_error_leaves_the_earlier_report_whole(report, tmp_path, monkeypatch):
    report("ended", "-o", "r.html")
    before = (tmp_path / "r.html").read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, _, err = report("asks", "-o", "r.html")
    assert (code, "r.html cannot be written (No space left on device)" in err) == (2, True)
    assert (tmp_path / "r.html").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]


def test_secrets_that_are_only_known_now_are_not_written(report, tmp_path, monkeypatch):
    monkeypatch.setenv("SHOP_API_KEY", "found tea")  # what the step's output happens to be
    assert report("ended", "-o", "r.html")[0] == 0
    assert "found tea" not in (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "[redacted SHOP_API_KEY]" in (tmp_path / "r.html").read_text(encoding="utf-8")
