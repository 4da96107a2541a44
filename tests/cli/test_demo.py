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
