"""`prune` deletes what has ended and says so; `show --step` prints what the state only refers to."""

import json

import pytest

LONG = """
goal: look at something long
steps:
  - id: a
    call: {tool: look, args: {q: "%s"}}
  - id: short
    depends_on: [a]
    call: {tool: note, args: {text: "${a.found}"}}
"""
TEXT = "é" * 40_000


@pytest.fixture
def long_plan(cli):
    (cli.folder / "long_output.yaml").write_text(LONG % TEXT)
    return "long_output.yaml"


def test_show_prints_the_whole_output_of_a_step(cli, long_plan):
    result = cli.run_plan(long_plan, "--yes", "--json").json
    assert set(result["results"]["a"]["output"]) == {"$artifact"}
    assert json.loads(cli("show", "t", "--step", "a").out) == {"found": TEXT}
    assert cli("show", "t", "--step", "short").out == f"noted {TEXT}\n"
    document = cli("show", "t", "--step", "a", "--json").json
    assert (document["output"], document["status"], document["step"]) == ({"found": TEXT}, "done", "a")


def test_show_names_the_steps_that_have_an_output(cli):
    cli.run_plan("read.yaml")
    done = cli("show", "t", "--step", "z")
    assert done.code == 2
    assert "steps with a result: a, b" in done.err


def test_prune_says_what_went_and_how_much_came_back(cli, long_plan):
    cli.run_plan(long_plan, "--yes")
    cli("run", "--plan", "write.yaml", "--tools", "mytools:ALL", "--thread", "waits")
    done = cli("prune", "--dry-run")
    assert (done.code, done.out.split()[:3]) == (0, ["would", "delete", "t"])
    done = cli("prune")
    assert done.code == 0
    assert done.out.startswith("deleted  t  ")
    assert done.out.strip().endswith("done")
    assert "1 thread deleted; " in done.err
    assert "given back" in done.err
    assert [thread["thread"] for thread in cli("list", "--json").json["threads"]] == ["waits"]
    assert cli("resume", "waits", "--approve", "--tools", "mytools:ALL").code == 0


def test_prune_deletes_the_threads_own_workspace(cli):
    (cli.folder / "files.yaml").write_text(
        "goal: write\nsteps:\n  - {id: a, call: {tool: write_file, args: {path: x.txt, text: hello}}}\n"
    )
    done = cli("run", "--plan", "files.yaml", "--toolset", "files", "--thread", "t", "--yes")
    assert done.code == 0, done.err
    assert (cli.folder / "threads.db.workspaces" / "t" / "x.txt").exists()
    assert cli("prune", "t").code == 0
    assert not (cli.folder / "threads.db.workspaces" / "t").exists()
    assert [lock.name for lock in (cli.folder / "threads.db.locks").iterdir()] == ["creation.lock"]


def test_prune_gives_one_json_document(cli):
    cli.run_plan("read.yaml")
    cli("run", "--plan", "write.yaml", "--tools", "mytools:ALL", "--thread", "waits")
    found = cli("prune", "t", "waits", "--json")
    assert found.code == 1, "waits was named and kept"
    assert [thread["thread"] for thread in found.json["deleted"]] == ["t"]
    (kept,) = found.json["kept"]
    assert (kept["thread"], kept["status"]) == ("waits", "waiting")
    assert found.json["bytes_given_back"] == found.json["bytes_before"] - found.json["bytes_after"]
    assert cli("prune", "waits", "--force").code == 0
    assert cli("list", "--json").json["threads"] == []


def test_prune_keeps_what_is_too_young_or_ended_otherwise(cli):
    cli.run_plan("read.yaml")
    cli("run", "--plan", "fail_all.yaml", "--tools", "mytools:ALL", "--thread", "f", "--on-failure", "abort")
    assert cli("prune", "--older-than", "30d", "--json").json["deleted"] == []
    assert [t["thread"] for t in cli("prune", "--status", "failed,partial", "--json").json["deleted"]] == [
        "f"
    ]
    assert [t["thread"] for t in cli("prune", "--older-than", "0s", "--json").json["deleted"]] == ["t"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--older-than", "soon"), 2, "a number and a unit such as 30d, not 'soon'"),
        (("--status", "ready"), 2, "done, failed, partial, rejected; not 'ready'"),
        (("--force",), 2, "name them"),
        (("nobody",), 2, "there is no thread 'nobody'; nothing was deleted"),
    ],
)
def test_prune_refuses_what_it_cannot_read(cli, arguments, code, said):
    cli.run_plan("read.yaml")
    done = cli("prune", *arguments)
    assert done.code == code, done.err
    assert said in done.err
    assert len(cli("list", "--json").json["threads"]) == 1


def test_prune_without_a_database_makes_none(cli):
    done = cli("prune", "--json")
    assert (done.code, done.json["deleted"]) == (0, [])
    assert not (cli.folder / "threads.db").exists()


def test_in_a_terminal_prune_asks_first(cli, terminal):
    cli.run_plan("read.yaml")
    screen = terminal("prune")
    screen.expect("would delete  t")
    screen.expect("Delete 1 thread?")
    screen.type("no")
    screen.expect("Nothing was deleted.")
    assert screen.wait() == 0
    screen = terminal("prune")
    screen.expect("Delete 1 thread?")
    screen.type("yes")
    screen.expect("deleted  t")
    assert screen.wait() == 0
    assert cli("list", "--json").json["threads"] == []
