"""The command line on a PostgreSQL database: ``--db`` takes its address, and no password is ever printed."""

import pytest
from postgres_server import server

from plan_execute.cli.places import Place


@pytest.fixture
def url(cli):
    address = server().new_schema()
    cli.env["PLAN_EXECUTE_DB"] = address
    return address


def test_a_run_waits_is_listed_and_is_resumed_on_the_server(cli, url):
    waiting = cli.run_plan("write.yaml")
    assert waiting.code == 3, waiting.err
    assert "t" in cli("list").out.split()
    assert cli("resume", "t", "--approve", "--tools", "mytools:ALL").code == 0
    assert cli("show", "t", "--json").json["status"] == "done"
    assert not (cli.folder / "threads.db").exists()


def test_the_plan_of_a_thread_is_edited_on_the_server(cli, terminal, url):
    assert cli.run_plan("write.yaml").code == 3
    editor = cli.editor("""sed -i 's/task: .*/task: another one/' "$1\"""")
    session = terminal("edit", "t", "--tools", "mytools:ALL", EDITOR=editor)
    assert session.wait() == 0, session.text
    assert "another one" in cli("show", "t", "--json").json["plan"]["steps"][0]["task"]


def test_the_address_in_a_hint_has_no_password(cli, url):
    del cli.env["PLAN_EXECUTE_DB"]
    waiting = cli.run_plan("write.yaml", "--db", url)
    assert waiting.code == 3
    assert "--db 'postgresql://postgres@127.0.0.1:" in waiting.out + waiting.err
    assert server().password not in waiting.out + waiting.err


def test_a_server_that_cannot_be_reached_exits_1_with_one_line(cli):
    failed = cli("list", "--db", "postgresql://user:secret@127.0.0.1:1/db")
    assert failed.code == 1
    assert "postgresql://user@127.0.0.1:1/db cannot be reached" in failed.err
    assert "secret" not in failed.err


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("threads.db", "threads.db"),
        ("postgresql://u:p@h:1/d", "postgresql://u@h:1/d"),
        ("postgresql://:p@h/d", "postgresql://@h/d"),
        ("postgresql://h/d?password=p&sslmode=require", "postgresql://h/d?sslmode=require"),
        ("postgresql://u@h/d?sslmode=require&password=p", "postgresql://u@h/d?sslmode=require"),
        ("postgres:///d", "postgres:///d"),
    ],
)
def test_a_place_is_shown_without_its_password(name, shown):
    assert Place(name).shown == shown
