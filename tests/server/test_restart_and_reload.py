"""A server that is stopped and started again, and one that reloads when a source changes."""

import shutil
import time

import pytest
from dev_server import ALWAYS, CHECKOUT, NEVER, bound, plan, serve

pytestmark = pytest.mark.timeout(180)

RELOAD_S = 15


def test_open_questions_survive_a_restart_of_the_server_and_no_finished_step_runs_again(tmp_path):
    ask = {"on_failure": "ask", "max_attempts": 1}
    with serve(tmp_path / "app", "--no-reload") as server:
        approval, failure = server.new_thread(), server.new_thread()
        server.at_once(
            [
                lambda: server.run(
                    approval, input=plan(bound("a", "write", args={"text": "restart-a"})), context=ALWAYS
                ),
                lambda: server.run(
                    failure,
                    input=plan(
                        bound("done", "write", args={"text": "restart-done"}),
                        bound("got", "fetch", "done", args={"name": "restart-got"}, **ask),
                        bound("last", "write", "got", args={"text": "restart-last"}),
                    ),
                    context=NEVER,
                ),
            ]
        )
        before = server.questions(approval), server.questions(failure)
        server.stop()

    (tmp_path / "app" / "restart-got").write_text("found")
    with serve(tmp_path / "app", "--no-reload") as server:
        assert (server.questions(approval), server.questions(failure)) == before
        told = server.refusal(approval, input=plan(bound("b", "write", args={"text": "restart-b"})))
        assert told.startswith("QuestionOpenError: ")
        results = server.at_once(
            lambda thread=thread: server.answer(thread, "approve") for thread in (approval, failure)
        )
        assert [result["status"] for result in results] == ["done", "done"]
        assert server.calls("restart-a") == ["write"]
        assert server.calls("restart-done") == ["write"], "finished before the restart"
        assert server.calls("restart-last") == ["write"]
        assert server.calls("restart-b") == []
        assert server.complaints() == []


def test_what_tools_write_does_not_trigger_the_hot_reload_of_a_checkout_and_an_edit_does(tmp_path):
    checkout = tmp_path / "clone"
    leave_out = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "build", "tests", "benchmarks")
    shutil.copytree(CHECKOUT, checkout, ignore=leave_out)
    with serve(checkout) as server:
        thread = server.new_thread()
        result = server.run(thread, "demo", input={"goal": "Release it"}, context=NEVER)
        assert result["status"] == "done"
        assert list((tmp_path / "clone.tmp").rglob("*.py")), "what the demo's tools wrote"
        assert reloads(server) == []
        assert server.complaints() == []

        (checkout / "served_tools.py").write_text("TOOLS = []\n")
        deadline = time.monotonic() + RELOAD_S
        while not reloads(server):
            assert time.monotonic() < deadline, server.log
            time.sleep(0.1)
        (only,) = reloads(server)
        assert "detected changes in 'served_tools.py'" in only


def reloads(server):
    return [line for line in server.log.splitlines() if "Reloading" in line]
