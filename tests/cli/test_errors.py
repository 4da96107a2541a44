"""Whatever is wrong, a user of the command line gets one clear message and the right exit code."""

import os
import subprocess

import pytest

KINDS = {
    "unknown command": ("frobnicate",),
    "unknown option": ("run", "goal", "--frobnicate"),
    "neither goal nor plan": ("run",),
    "both goal and plan": ("run", "goal", "--plan", "read.yaml"),
    "bad input": ("run", "--plan", "read.yaml", "--input", "what"),
    "an input twice": ("run", "--plan", "read.yaml", "--input", "a=1", "--input", "a=2"),
    "yes and approval": ("run", "--plan", "read.yaml", "--yes", "--approval", "always"),
    "unknown approval": ("run", "--plan", "read.yaml", "--approval", "sometimes"),
    "no parallelism": ("run", "--plan", "read.yaml", "--max-parallel", "0"),
    "an empty thread": ("run", "--plan", "read.yaml", "--thread", " "),
    "a thread whose name is too long": ("show", "t" * 600),
    "two answers": ("resume", "t", "--approve", "--reject", "no"),
    "a question without an answer": ("resume", "t", "--question", "abc"),
    "a plan file of another kind": ("plan", "goal", "-o", "plan.txt", "--model", "m"),
    "a plan file nowhere": ("plan", "goal", "-o", "nowhere/plan.yaml", "--model", "m"),
    "unknown demo": ("demo", "frobnicate"),
    "unknown ending": ("demo", "release", "--ending", "frobnicate"),
}


@pytest.mark.parametrize("arguments", KINDS.values(), ids=KINDS)
def test_wrong_usage_exits_2_with_a_message_on_stderr_only(cli, arguments):
    done = cli(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.strip()


def test_json_gives_usage_errors_as_a_document_too(cli):
    done = cli("run", "goal", "--frobnicate", "--json")
    assert done.code == 2
    assert done.json["error"]["code"] == "usage"
    assert "--frobnicate" in done.json["error"]["message"]


@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_goal_without_a_model_names_the_three_ways_on(cli, command):
    done = cli(command, "make tea")
    assert done.code == 2
    for way in ("--model", "--base-url", "--plan FILE", "plan-execute demo"):
        assert way in done.err
    assert cli(command, "make tea", "--json").json["error"]["code"] == "missing_model"


def test_a_model_without_its_key_names_the_three_ways_on(cli):
    done = cli("run", "make tea", "--model", "openai:gpt-5-mini")
    assert done.code == 2
    said = "Error: the model 'openai:gpt-5-mini' of the executor has no API key: set OPENAI_API_KEY.\n"
    assert done.err.startswith(f"{said}There are three ways on:\n")
    assert "plan-execute demo" in done.err


def test_arguments_that_are_no_text_exit_2_before_anything_runs(cli):
    done = cli("run", b"make \xff", "--model", "m", "--base-url", "http://127.0.0.1:9/v1")
    assert (done.code, done.out) == (2, "")
    assert "not valid text" in done.err


TOOLS = {
    "no attribute": ("mytools", "module:attribute"),
    "unknown module": ("nowhere:ALL", "nowhere"),
    "unknown attribute": ("mytools:NONE", "ALL"),
    "a module that raises": ("raising:ALL", "boom"),
    "a module that exits": ("leaving:ALL", "ended the program"),
    "a factory that raises": ("factories:raising", "kaput"),
    "a factory of something else": ("factories:number", "int"),
    "a tool without a description": ("factories:undescribed", "docstring"),
    "two tools of one name": ("factories:twice", "two tools are named 'look'"),
}


@pytest.mark.parametrize(("reference", "said"), TOOLS.values(), ids=TOOLS)
def test_tools_that_cannot_be_loaded_exit_2_and_say_why(cli, reference, said):
    (cli.folder / "raising.py").write_text("raise RuntimeError('boom')\n")
    (cli.folder / "leaving.py").write_text("raise SystemExit(0)\n")
    (cli.folder / "factories.py").write_text(
        "from mytools import look\n"
        "def raising(): raise RuntimeError('kaput')\n"
        "def number(): return 7\n"
        "def undescribed(x: int): return x\n"
        "twice = [look, look]\n"
    )
    done = cli("run", "--plan", "read.yaml", "--tools", reference)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


@pytest.mark.parametrize("reference", ["mytools:ALL", "mytools:make_all", "mytools:look"])
def test_tools_can_be_a_list_a_function_that_makes_one_or_one_tool(cli, reference):
    assert cli("run", "--plan", "read.yaml", "--tools", reference).code == 0


def test_tools_can_come_from_several_places_and_from_the_environment(cli):
    done = cli("validate", "write.yaml", "--tools", "mytools:look", "--tools", "mytools:note")
    assert (done.code, done.err) == (0, "")
    done = cli("validate", "write.yaml", PLAN_EXECUTE_TOOLS="mytools:look, mytools:note")
    assert (done.code, done.err) == (0, "")


def test_a_documented_function_is_a_tool_and_is_not_called_to_load_it(cli):
    (cli.folder / "now.yaml").write_text("goal: g\nsteps: [{id: a, call: {tool: now, args: {}}}]\n")
    assert cli("validate", "now.yaml", "--tools", "mytools:now").code == 0
    assert cli.calls == []
    assert cli("run", "--plan", "now.yaml", "--tools", "mytools:now", "--yes").code == 0


def test_an_unexpected_error_is_one_line_and_debug_shows_the_traceback(cli):
    (cli.folder / "odd.py").write_text(
        "from langchain_core.tools import BaseTool\n"
        "class Odd(BaseTool):\n"
        "    name: str = 'look'\n"
        "    description: str = 'a tool whose schema cannot be made'\n"
        "    tool_call_schema = property(lambda self: 1 / 0)\n"
        "    def _run(self, q: str) -> str: return q\n"
        "ODD = Odd()\n"
    )
    arguments = ("run", "--plan", "read.yaml", "--tools", "odd:ODD")
    done = cli(*arguments)
    assert (done.code, done.out) == (1, "")
    assert (
        done.err
        == "Error: ZeroDivisionError: division by zero (run `plan-execute --debug …` for the traceback)\n"
    )
    assert cli(*arguments, "--json").json["error"]["code"] == "internal_error"
    debugged = cli(*arguments, "--debug")
    assert "Traceback" in debugged.err
    assert cli("--debug", *arguments).err == debugged.err


@pytest.mark.parametrize("goal", ["", "   ", "x" * 100_001])
def test_an_empty_or_endless_goal_exits_2(cli, goal):
    done = cli("run", goal, "--model", "m", "--base-url", "http://127.0.0.1:9/v1")
    assert done.code == 2
    assert "goal" in done.err


def test_a_reader_that_goes_away_is_no_error_and_does_not_stop_the_run(cli):
    process = cli.start("run", "--plan", "read.yaml", "--tools", "mytools:ALL", "--thread", "t")
    process.stdout.close()
    process.stderr.close()
    assert process.wait(timeout=60) == 0
    assert cli("show", "t", "--json").json["status"] == "done"


def test_a_closed_stdout_is_no_error(cli):
    for closed in (">&-", "2>&-", "<&-"):
        command = f"plan-execute run --plan read.yaml --tools mytools:ALL {closed}"
        env = {**cli.env, "PATH": f"{os.path.dirname(cli.program)}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(
            ["/bin/sh", "-c", command], cwd=cli.folder, env=env, capture_output=True, text=True
        )
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), (closed, done.stderr)


def test_a_goal_in_any_script_is_shown_under_a_narrow_encoding(cli):
    (cli.folder / "greek.yaml").write_text(
        "goal: Ψάξε τσάι 🍵\nsteps: [{id: a, task: τσάι, call: {tool: look, args: {q: τσάι}}}]\n",
        encoding="utf-8",
    )
    assert "τσάι" in cli.run_plan("greek.yaml").out
    narrow = cli.run_plan("greek.yaml", "--json", PYTHONIOENCODING="ascii")
    assert narrow.code == 0
    assert narrow.json["goal"] == "Ψάξε τσάι 🍵"
