"""The graph on Aegra, on demand: PLAN_EXECUTE_AEGRA names a Python that has aegra-api (docs/aegra.md)."""

import os
import secrets
import subprocess
import time
from contextlib import contextmanager, suppress

import httpx
import pytest
from langgraph_sdk import get_sync_client
from langgraph_sdk.errors import PermissionDeniedError
from postgres_server import free_port, server

PYTHON = os.environ.get("PLAN_EXECUTE_AEGRA")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="PLAN_EXECUTE_AEGRA names no Python that has aegra-api"),
]

AUTH = """
from langgraph_sdk import Auth
auth = Auth()
@auth.authenticate
async def who(headers):
    return {"identity": "ada"}
@auth.on.store
async def no_store(ctx, value):
    return False
"""
CONFIG = """
{"dependencies": ["."], "auth": {"path": "./auth.py:auth"}, "graphs": {"plan_execute": "./agent.py:graph"}}
"""
TOOLS = '''
import time
from pathlib import Path

def slow(to: str) -> str:
    """Send, and take until a file of this name appears."""
    send(to)
    while not Path(to).exists():
        time.sleep(0.05)
    return to

def send(to: str) -> str:
    """Send."""
    with open("sent", "a") as file:
        file.write(to)
    return to
'''
PLAN = {"goal": "g", "steps": [{"id": "a", "call": {"tool": "send", "args": {"to": "ada"}}}]}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "auth.py").write_text(AUTH)
    (tmp_path / "aegra.json").write_text(CONFIG)
    (tmp_path / "mail_tools.py").write_text(TOOLS)
    (tmp_path / "agent.py").write_text("from plan_execute.graph import make_graph as graph\n")
    return tmp_path


@pytest.fixture
def database():
    name = f"aegra_{secrets.token_hex(4)}"
    server().execute(f"CREATE DATABASE {name}")
    return server().url(database=name)


@contextmanager
def serving(folder, database):
    port = free_port()
    env = {**os.environ, "DATABASE_URL": database, "AEGRA_CONFIG": str(folder / "aegra.json")}
    env |= {"PLAN_EXECUTE_TOOLS": "mail_tools:send,mail_tools:slow", "PYTHONPATH": str(folder)}
    command = [PYTHON, "-m", "uvicorn", "aegra_api.main:app", "--port", str(port)]
    with (folder / "log").open("a") as log:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)
    try:
        wait_until_it_answers(process, f"http://127.0.0.1:{port}/health")
        with get_sync_client(url=f"http://127.0.0.1:{port}") as client:
            client.process = process
            yield client
    finally:
        process.kill()
        process.wait()


def wait_until_it_answers(process, address):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, "it did not start"
        with suppress(httpx.TransportError):
            if httpx.get(address).status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError("it did not start in time")


def amid_a_write(folder, client, mark):
    """Start a run, and return it when it is amid a write."""
    step = {"id": "a", "call": {"tool": "slow", "args": {"to": mark}}}
    thread = client.threads.create()["thread_id"]
    given = {"plan": {"goal": "g", "steps": [step]}}
    run = client.runs.create(thread, "plan_execute", input=given, context={"approval": "never"})["run_id"]
    deadline = time.monotonic() + 60
    while not (folder / "sent").exists() or mark not in (folder / "sent").read_text():
        assert time.monotonic() < deadline, "the tool was not called"
        time.sleep(0.05)
    return thread, run


def is_settled(folder, client, thread, mark):
    """Go on with an empty input, say what became of the write, and see that it was not repeated."""
    asks = client.runs.wait(thread, "plan_execute", input={})
    (asked,) = asks["__interrupt__"]
    assert asked["value"]["action_requests"][0]["name"] == "resolve_unknown_outcome"
    answer = {"decision": "happened", "output": "sent"}
    done = client.runs.wait(thread, "plan_execute", command={"resume": answer})
    return done["status"] == "done" and (folder / "sent").read_text().count(mark) == 1


def test_a_second_server_goes_on_with_what_a_killed_one_had_in_hand_when_it_is_told_to(folder, database):
    with serving(folder, database) as first, serving(folder, database) as second:
        waiting = first.threads.create()["thread_id"]
        first.runs.wait(waiting, "plan_execute", input={"plan": PLAN})
        thread, run = amid_a_write(folder, first, "killed")
        first.process.kill()
        first.process.wait()
        assert second.runs.wait(waiting, "plan_execute", command={"resume": "approve"})["status"] == "done"
        assert (second.runs.get(thread, run)["status"], second.threads.get(thread)["status"]) == (
            "running",
            "busy",
        )
        assert is_settled(folder, second, thread, "killed")


def test_an_empty_input_goes_on_with_a_run_that_was_cancelled(folder, database):
    with serving(folder, database) as client:
        thread, run = amid_a_write(folder, client, "cancelled")
        client.runs.cancel(thread, run, wait=True)
        assert is_settled(folder, client, thread, "cancelled")


def test_a_question_survives_the_server_and_its_answer_lets_the_plan_run_once(folder, database):
    with serving(folder, database) as client:
        thread = client.threads.create()["thread_id"]
        client.runs.wait(thread, "plan_execute", input={"plan": PLAN})
        assert client.threads.get(thread)["status"] == "interrupted"
        assert client.threads.get_state(thread)["next"] == ["approval"]
    assert not (folder / "sent").exists()
    with serving(folder, database) as client:
        done = client.runs.wait(thread, "plan_execute", command={"resume": "approve"})
        assert done["status"] == "done"
        assert (folder / "sent").read_text() == "ada"


def test_the_store_is_closed_to_clients_by_the_handler_that_the_page_shows(folder, database):
    with serving(folder, database) as client:
        with pytest.raises(PermissionDeniedError):
            client.store.put_item(["plan_execute", "approvals", "t"], "k", {"json": "{}"})
        with pytest.raises(PermissionDeniedError):
            client.store.search_items(["plan_execute"])


def test_runs_stream_their_events_and_take_settings(folder, database):
    with serving(folder, database) as client:
        thread = client.threads.create()["thread_id"]
        never = {"approval": "never"}
        parts = client.runs.stream(
            thread, "plan_execute", input={"plan": PLAN}, context=never, stream_mode=["custom", "updates"]
        )
        assert {"custom", "updates"} <= {part.event for part in parts}
        assert client.threads.get_state(thread)["values"]["status"] == "done"
