"""The scaffold demo leaves a package whose tests really pass."""

import subprocess
import sys

import pytest

from plan_execute import Context, create_plan_execute_agent
from plan_execute.examples import build_demo
from plan_execute.examples.scaffold_project.tools import project_tools

RUN_TESTS = ["-m", "unittest", "discover", "-s", "tests", "-t", "."]


@pytest.fixture(scope="module")
def scaffolded():
    with build_demo("scaffold") as demo:
        agent = create_plan_execute_agent(**demo.agent_args)
        yield demo.workspace, agent.invoke({"goal": demo.goal}, context=demo.context)


def test_the_package_is_there_and_its_tests_pass(scaffolded):
    workspace, result = scaffolded
    assert result["status"] == "done"
    tested = subprocess.run([sys.executable, "-B", *RUN_TESTS], cwd=workspace, capture_output=True, text=True)
    assert (tested.returncode, "Ran 2 tests" in tested.stderr) == (0, True)
    called = [sys.executable, "-B", "-c", "from roman import to_roman; print(to_roman(2026))"]
    assert subprocess.run(called, cwd=workspace, capture_output=True, text=True).stdout == "MMXXVI\n"


def test_the_agent_saw_the_tests_fail_before_they_passed(scaffolded):
    _, result = scaffolded
    calls = [(call["tool"], call["ok"]) for call in result["results"]["module"]["evidence"]]
    assert calls[:2] == [("write_file", True), ("run_command", False)]
    assert calls[2:] == [("write_file", True), ("run_command", True)]
    assert "ended with 1" in result["results"]["module"]["evidence"][1]["output_preview"]


def test_the_last_check_is_a_run_of_its_own(scaffolded):
    _, result = scaffolded
    assert "Ran 2 tests" in result["results"]["check"]["output"]
    assert result["results"]["check"]["started_at"] >= result["results"]["module"]["finished_at"]


@pytest.mark.parametrize(
    ("tool", "args", "reason"),
    [
        ("write_file", {"path": "../outside.txt", "text": "x"}, "outside the folder"),
        ("read_file", {"path": "../outside.txt"}, "outside the folder"),
        ("run_command", {"command": ["sh", "-c", "true"]}, "'sh' is not allowed"),
        ("run_command", {"command": ["python", "-c", "import time; time.sleep(60)"]}, "took longer than 1 s"),
    ],
)
def test_a_step_that_goes_too_far_fails_and_changes_nothing(tmp_path, tool, args, reason):
    root = tmp_path / "root"
    root.mkdir()
    agent = create_plan_execute_agent(None, project_tools(root, time_limit_s=1))
    plan = {"goal": "go too far", "steps": [{"id": "far", "call": {"tool": tool, "args": args}}]}
    result = agent.invoke({"plan": plan}, context=Context(approval="never", max_attempts=1))
    assert result["status"] == "failed"
    assert reason in result["results"]["far"]["error"]["message"]
    assert [*tmp_path.iterdir()] == [root]
    assert [*root.iterdir()] == []
