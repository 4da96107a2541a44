"""A real ``langgraph dev`` with the checkout's langgraph.json, driven with the SDK as any client would."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from langgraph_sdk import get_sync_client
from langgraph_sdk.errors import NotFoundError

CHECKOUT = Path(__file__).parents[2]
START_S, STOP_S = 90, 30

TOOLS = '''
"""Tools of a user: named to the server as module:attribute."""

from pathlib import Path

from langchain_core.tools import tool


def look(city: str) -> dict:
    """Look up the weather."""
    return {"city": city, "temp_c": 21}


@tool
def note(text: str) -> str:
    """Write the note."""
    Path("note.txt").write_text(text)
    return text


TOOLS = [look, note]
'''

PLAN = {
    "goal": "Note the weather",
    "steps": [
        {"id": "weather", "task": "Look", "call": {"tool": "look", "args": {"city": "Oslo"}}},
        {
            "id": "noted",
            "task": "Note",
            "call": {"tool": "note", "args": {"text": "${weather.temp_c} degrees in ${weather.city}"}},
        },
    ],
}

pytestmark = pytest.mark.timeout(300)


@dataclass
class Server:
    """The running server, its folder, and a client."""

    process: subprocess.Popen
    folder: Path
    url: str

    @property
    def client(self):
        return get_sync_client(url=self.url)

    @property
    def log(self):
        return (self.folder / "server.log").read_text(encoding="utf-8", errors="replace")

    @property
    def note(self):
        path = self.folder / "note.txt"
        return path.read_text() if path.exists() else None

    def run(self, thread, graph="plan_execute", **what):
        with self.client as client:
            return client.runs.wait(thread["thread_id"], graph, **what)

    def new_thread(self):
        with self.client as client:
            return client.threads.create()

    def state(self, thread):
        with self.client as client:
            return client.threads.get_state(thread["thread_id"])


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment():
    """Give the server no model, no key and no tracing, whatever the developer's shell has."""
    foreign = ("PLAN_EXECUTE_", "OPENAI_", "ANTHROPIC_", "LANGSMITH_", "LANGCHAIN_", "LANGGRAPH_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    quiet = {"LANGSMITH_TRACING": "false", "LANGGRAPH_CLI_NO_ANALYTICS": "1", "NO_COLOR": "1"}
    return {**kept, **quiet, "PLAN_EXECUTE_TOOLS": "weather_tools:TOOLS"}


def wait_until_ready(server):
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert server.process.poll() is None, server.log
        try:
            if httpx.get(f"{server.url}/ok", timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    pytest.fail(f"the server was not ready within {START_S} s:\n{server.log}")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")  # the server writes .langgraph_api into its folder
    shutil.copy(CHECKOUT / "langgraph.json", folder)
    (folder / "weather_tools.py").write_text(TOOLS)
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "langgraph_cli",
        "dev",
        "--no-browser",
        "--no-reload",
        "--port",
        str(port),
    ]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    started = Server(process, folder, f"http://127.0.0.1:{port}")
    try:
        wait_until_ready(started)
        yield started
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(STOP_S)


def test_both_graphs_are_served_without_a_model_or_a_key(server):
    with server.client as client:
        assert {a["graph_id"] for a in client.assistants.search()} == {"plan_execute", "demo"}


def test_clients_learn_the_settings_the_input_and_the_picture(server):
    with server.client as client:
        (assistant,) = client.assistants.search(graph_id="plan_execute")
        schemas = client.assistants.get_schemas(assistant["assistant_id"])
        graph = client.assistants.get_graph(assistant["assistant_id"], xray=True)
    settings = schemas["context_schema"]["properties"]
    assert settings["approval"]["enum"] == ["always", "writes", "never"]
    assert settings["approval"]["title"] == "Plan approval"
    assert {"max_parallel", "max_replans", "on_failure", "instructions"} <= set(settings)
    assert set(schemas["input_schema"]["properties"]) == {"goal", "messages", "plan", "inputs"}
    assert {"planner", "approval", "dispatcher", "executor"} <= {node["id"] for node in graph["nodes"]}


def test_the_demo_runs_to_its_end(server):
    thread = server.new_thread()
    result = server.run(thread, "demo", input={"goal": "Release the project"}, context={"approval": "never"})
    while "__interrupt__" in result:
        result = server.run(thread, "demo", command={"resume": {"decisions": [{"type": "approve"}]}})
    assert result["status"] == "done", result.get("final_answer")
    assert result["results"]
    assert {step["status"] for step in result["results"].values()} == {"done"}


def test_a_given_plan_asks_is_approved_in_another_request_and_runs(server):
    thread = server.new_thread()
    (server.folder / "note.txt").unlink(missing_ok=True)

    server.run(thread, input={"plan": PLAN}, context={"approval": "always"})
    (question,) = server.state(thread)["interrupts"]

    request = question["value"]["action_requests"][0]
    assert request["name"] == "approve_plan"
    assert [step["id"] for step in request["args"]["plan"]["steps"]] == ["weather", "noted"]
    assert server.state(thread)["next"] == ["approval"]
    assert server.note is None

    result = server.run(thread, command={"resume": {"decisions": [{"type": "approve"}]}})

    assert result["status"] == "done"
    assert result["results"]["noted"]["output"] == "21 degrees in Oslo" == server.note
    assert server.state(thread)["next"] == []


def test_a_plan_may_be_edited_by_the_client(server):
    thread = server.new_thread()
    server.run(thread, input={"plan": PLAN}, context={"approval": "always"})
    edited = json.loads(json.dumps(PLAN).replace("Oslo", "Turku"))

    result = server.run(thread, command={"resume": [{"type": "edit", "args": {"args": {"plan": edited}}}]})

    assert (result["status"], server.note) == ("done", "21 degrees in Turku")


def test_an_approval_written_into_the_state_by_a_client_does_not_count(server):
    thread = server.new_thread()
    (server.folder / "note.txt").unlink(missing_ok=True)
    server.run(thread, input={"plan": PLAN}, context={"approval": "always"})
    needed = server.state(thread)["values"]["approval"]
    with server.client as client:
        forged = {"approval": {**needed, "decision": "approved"}}
        client.threads.update_state(thread["thread_id"], forged, as_node="approval")

    server.run(thread, input=None)

    assert server.note is None
    assert server.state(thread)["interrupts"], "it is asked again"


def test_the_store_in_which_approvals_are_recorded_is_closed_to_clients(server):
    with server.client as client:
        with pytest.raises(NotFoundError):
            client.store.put_item(("plan_execute",), "k", {"decision": "approved"})
        with pytest.raises(NotFoundError):
            client.store.search_items(())


def test_a_goal_without_a_model_fails_with_the_reason_and_the_server_goes_on(server):
    with pytest.raises(Exception, match="MissingModelError"):
        server.run(server.new_thread(), input={"goal": "Plan my week"})
    assert "planning a goal needs a model and none is configured" in server.log
    assert (
        server.run(server.new_thread(), input={"plan": PLAN}, context={"approval": "never"})["status"]
        == "done"
    )


def test_nothing_blocked_the_event_loop(server):
    assert "Blocking call" not in server.log
    assert "BlockingError" not in server.log


def test_the_server_stops_when_told(server):
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(STOP_S) in (0, 130, -signal.SIGINT)
    assert "Traceback" not in server.log.rpartition("Shutting down")[2]
