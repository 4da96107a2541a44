"""The command line shows no secret, and refuses a plan that holds one."""

import pytest

SECRET = "pl4nted-Secret-Value-7"
ENV = {"SHOP_API_KEY": SECRET}


@pytest.fixture
def plan(cli):
    def write(value, task="look"):
        call = f"{{tool: look, args: {{q: '{value}'}}}}"
        text = f"goal: use it\nsteps:\n  - id: a\n    task: {task}\n    call: {call}\n"
        (cli.folder / "secret.yaml").write_text(text)
        return "secret.yaml"

    return write


def test_a_plan_file_with_a_secret_exits_2_with_its_line_and_stores_nothing(cli, plan):
    for command in (
        ("validate", plan(SECRET), "--tools", "mytools:ALL"),
        ("run", "--plan", plan(f"a {SECRET}")),
    ):
        done = cli(*command, **ENV)
        assert done.code == 2
        assert ": secret_in_plan: step 'a'" in done.out + done.err
        assert "a secret (SHOP_API_KEY)" in done.out + done.err
        assert SECRET not in done.out + done.err
    assert not (cli.folder / "threads.db").exists()


def test_an_input_with_a_secret_exits_2_too(cli):
    done = cli.run_plan("read.yaml", "--input", f"what=my {SECRET}", **ENV)
    assert done.code == 2
    assert "the input 'what' contains a secret (SHOP_API_KEY)" in done.err
    assert SECRET not in done.err


def test_what_a_command_prints_and_its_errors_hold_no_secret(cli, plan):
    done = cli.run_plan(plan("tea", task=f"look with {SECRET}"), "--json", **ENV)
    assert done.code == 0, done.err
    assert "[redacted SHOP_API_KEY]" in done.out
    for command in (
        ("show", "t"),
        ("show", "t", "--json"),
        ("history", "t"),
        ("show", SECRET),
        ("run", "--plan", SECRET),
    ):
        done = cli(*command, **ENV)
        assert SECRET not in done.out + done.err
    assert SECRET.encode() not in b"".join(
        p.read_bytes() for p in cli.folder.glob("threads.db*") if p.is_file()
    )
