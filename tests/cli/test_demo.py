"""`plan-execute demo`: scripted models, real tools, no key, nothing left behind."""

import pytest


@pytest.mark.parametrize(
    ("arguments", "code", "status"),
    [
        ((), 0, "done"),
        (("release", "--ending", "smoke"), 0, "done"),
        (("release", "--ending", "verify"), 4, "partial"),
        (("scaffold",), 0, "done"),
        (("report",), 0, "done"),
    ],
    ids=["release", "smoke", "verify", "scaffold", "report"],
)
def test_every_demo_runs_without_a_key_and_ends_as_it_says(cli, arguments, code, status):
    temporary = cli.folder / "temporary"
    temporary.mkdir()
    done = cli("demo", *arguments, "--json", "--yes", timeout=110, TMPDIR=str(temporary))
    assert (done.code, done.json["status"]) == (code, status), done.err
    assert "▶" in done.err
    assert not [path for path in temporary.iterdir() if path.name.startswith("plan-execute-demo")]
    assert not (cli.folder / "threads.db").exists()


def test_a_demo_can_be_kept_in_a_database_and_looked_at(cli):
    done = cli("demo", "report", "--yes", "--db", "demo.db", "--json")
    assert done.code == 0, done.err
    shown = cli("show", done.json["thread"], "--db", "demo.db")
    assert "Status: done" in shown.out


def test_the_tour_tells_the_whole_story_by_itself_and_its_thread_is_still_there(cli):
    temporary = cli.folder / "temporary"
    temporary.mkdir()
    done = cli("demo", "tour", timeout=110, TMPDIR=str(temporary))
    assert done.code == 0, done.err
    story = (
        "May change the world",
        "Approved, as there is no terminal to ask at.",
        "build: build_wheel",
        "The process was killed",
        "build: build_wheel",
        "smoke_test failed",
        "decision: patch",
        "Since the plan you approved",
        "Approved, as there is no terminal to ask at.",
        "publish_r2: met",
        "The thread is kept",
    )
    at = 0
    for part in story:
        at = done.err.index(part, at) + 1
    assert done.err.count("tests: run_tests({})\n") == 1  # done before the kill, and not again
    thread = done.err.partition("thread demo-")[2][:6]
    assert "Status: done" in cli("show", f"demo-{thread}").out
    assert not list(temporary.iterdir())


def test_the_tour_asks_a_person_twice_and_shows_what_the_repair_changes(cli, terminal):
    window = terminal("demo", "tour", size=(60, 100))
    for _ in range(2):
        window.expect("What now?", timeout=110)
        window.press("a")
    assert window.wait(timeout=110) == 0
    second = window.text.split("What now?")[1]
    assert "+declare: a model with list_packages, declare_package" in second
    assert "-smoke: smoke_test(" in second
    assert "tests: run_tests" not in second.partition("[a] approve")[0].partition("+declare")[2]


def test_a_demo_whose_thread_is_gone_at_its_end_does_not_name_it(cli):
    done = cli("demo", "report", "--yes")
    assert done.code == 0
    assert "thread " not in done.err.splitlines()[-1]
