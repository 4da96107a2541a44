"""A server that is stopped and started again, and one that reloads when a source changes."""

import hashlib
import json
import pickle
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from dev_server import ALWAYS, CHECKOUT, NEVER, bound, plan, serve
from openai_stub import OpenAIStub, Reply, asks_for_plan

pytestmark = pytest.mark.timeout(180)

RELOAD_S = 60

KEPT_GOAL = {"goal": "echo what is kept"}
TIMES = 60_000
"""Letters of an output that is too large for the state."""


@dataclass(frozen=True)
class Before:
    """What the first server left when it stopped: threads with their open questions, and its store."""

    folder: Path
    home: Path
    variables: dict[str, str]
    planned: list[dict]
    approval: str
    failure: str
    questions: dict[str, list[dict]]
    rows: dict[tuple[str, ...], dict]

    def kinds(self, thread: str) -> set[str]:
        """Name the kinds of rows that the store has of a thread."""
        return {name[1] for name in self.rows if name[0] == "plan_execute" and thread in name}


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """Stop a server with two open questions: about a plan, and about a step of one that was approved."""
    folder = tmp_path_factory.mktemp("restart")
    home = folder / "home"
    home.mkdir()
    planned = []

    def answer(body):
        if not asks_for_plan(body):
            return Reply("Done.")
        planned.append(body)
        return Reply('1. echo("kept")')

    with OpenAIStub(answer) as stub:
        variables = {
            "HOME": str(home),
            "XDG_DATA_HOME": str(home / "data"),
            "PLAN_EXECUTE_MODEL": "openai:stub",
            "PLAN_EXECUTE_BASE_URL": stub.base_url,
            "PLAN_EXECUTE_CACHE": "1h",
        }
        with serve(folder / "app", "--no-reload", **variables) as server:
            approval, failure, kept = (server.new_thread() for _ in range(3))
            server.at_once(
                [
                    lambda: server.run(approval, input=plan(written("restart-a")), context=ALWAYS),
                    lambda: server.run(failure, input=approved_plan(), context=ALWAYS),
                    lambda: server.run(kept, input=KEPT_GOAL, context=NEVER),
                ]
            )
            server.answer(failure, "approve")
            questions = {thread: server.questions(thread) for thread in (approval, failure)}
            server.stop()
        with (folder / "app" / ".langgraph_api" / "store.pckl").open("rb") as file:
            rows = pickle.load(file)
        yield Before(folder / "app", home, variables, planned, approval, failure, questions, rows)


@pytest.fixture(scope="module")
def server(before):
    """Start it again in the same folder."""
    (before.folder / "restart-got").write_text("found")
    with serve(before.folder, "--no-reload", **before.variables) as started:
        yield started
        assert started.complaints() == []


def written(mark, *after):
    return bound(mark.replace("-", "_"), "write", *after, args={"text": mark})


def approved_plan():
    return plan(
        written("restart-done"),
        bound("large", "recite", args={"word": "x", "times": TIMES}),
        bound("got", "fetch", "restart_done", "large", args={"name": "restart-got"}, on_failure="ask"),
        bound("again", "echo", "got", args={"text": "${large}"}),
        written("restart-last", "got"),
    )


def test_ledger_approvals_artifacts_and_kept_plans_are_in_the_servers_store_and_nowhere_else(before):
    assert before.kinds(before.failure) == {
        "answers",
        "approvals",
        "artifacts",
        "attempts",
        "effects",
        "results",
        "threads",
    }
    assert {name[:3] for name in before.rows if "cached_plans" in name} == {
        ("plan_execute", "cached_plans", "default")
    }
    artifacts = before.rows["plan_execute", "artifacts", before.failure]
    (text,) = (item.value["json"] for item in artifacts.values())
    assert text == json.dumps("x" * TIMES)

    left = {str(path.relative_to(before.folder)) for path in before.folder.rglob("*") if path.is_file()}
    theirs = {name for name in left if name.startswith((".langgraph_api/", "__pycache__/"))}
    assert left - theirs == {"langgraph.json", "served_tools.py", "calls.txt"}
    assert [path for path in before.home.rglob("*") if "plan" in path.name] == []


def test_open_questions_survive_a_restart_of_the_server(before, server):
    assert {thread: server.questions(thread) for thread in before.questions} == before.questions
    server.run(before.approval, input=plan(written("restart-b")))
    assert "waits for an answer" in server.question(before.approval)["description"]
    assert server.calls("restart-b") == []
    assert server.answer(before.approval, "approve")["status"] == "done"
    assert server.calls("restart-a") == ["write"]


def test_after_a_restart_of_the_server_the_approval_holds_and_no_finished_step_runs_again(before, server):
    (question,) = server.questions(before.failure)
    assert question["value"]["action_requests"][0]["name"] == "handle_step_failure"
    result = server.answer(before.failure, "approve")
    assert result["status"] == "done", "and nobody was asked to approve the plan once more"
    assert server.calls("restart-done") == ["write"], "finished before the restart"
    assert server.calls("restart-last") == ["write"]
    large, again = (result["results"][name]["output"]["$artifact"] for name in ("large", "again"))
    assert large["digest"] == again["digest"]
    assert large["digest"] == f"sha256:{hashlib.sha256(json.dumps('x' * TIMES).encode()).hexdigest()}"


def test_a_plan_that_worked_before_a_restart_of_the_server_is_used_after_it(before, server):
    assert len(before.planned) == 1
    result = server.run(server.new_thread(), input=KEPT_GOAL, context=NEVER)
    assert result["status"] == "done"
    assert next(event["event"] for event in result["audit"]) == "plan_recalled"
    assert len(before.planned) == 1


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
