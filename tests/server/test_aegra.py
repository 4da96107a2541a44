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
    env |= {"PLAN_EXECUTE_TOOLS": "mail_tools:send", "PYTHONPATH": str(folder)}
    command = [PYTHON, "-m", "uvicorn", "aegra_api.main:app", "--port", str(port)]
    with (folder / "log").open("a") as log:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)
    try:
        wait_until_it_answers(process, f"http://127.0.0.1:{port}/health")
        with get_sync_client(url=f"http://127.0.0.1:{port}") as client:
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
