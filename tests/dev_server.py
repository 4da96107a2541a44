"""A real ``langgraph dev`` with the checkout's langgraph.json, and a client for it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from langgraph_sdk import get_sync_client
from langgraph_sdk.client import SyncLangGraphClient

__all__ = ["ALWAYS", "CHECKOUT", "NEVER", "RUN_S", "Server", "Waiting", "bound", "plan", "serve"]

T = TypeVar("T")
CHECKOUT = Path(__file__).parents[1]
START_S, STOP_S, RUN_S = 90, 30, 60

ALWAYS, NEVER = {"approval": "always"}, {"approval": "never"}
"""Contexts in which every plan, or none, has to be approved."""

_NOT_OURS = (
    "structlog/stdlib.py",  # about the server's own logging
    "[langgraph_api.server]",  # a request that was answered with 4xx
    "`durability` has no effect",  # langgraph, of any stateless run on the server
    "Slow graph load",  # of a first request; how long that takes is up to the machine
    "Graph import exceeded",  # so is this
    "Import for custom app",  # and this, of the page: it imports what the graph needs
    "is ignored; known inputs",  # what a test sent
    "The v3 streaming protocol on Pregel is experimental",  # langgraph, of itself
    "interrupt_lookup_failed",  # of the first command on a thread, which makes it
    "Thread stream client disconnected",  # a client that has read what it wanted
)
"""Warnings that say nothing about plan_execute."""


@dataclass
class Server:
    """A running server, its folder, its log, and a client."""

    process: subprocess.Popen[bytes]
    folder: Path
    log_file: Path
    url: str
    client: SyncLangGraphClient

    # --- the log -------------------------------------------------------------------------

    @property
    def log(self) -> str:
        """What the server has printed, without colours."""
        text = self.log_file.read_text(encoding="utf-8", errors="replace")
        return re.sub(r"\x1b\[\d*m", "", text)

    def complaints(self) -> list[str]:
        """Lines of the log that no user should see: warnings, blocking calls, faults of ours."""
        bad = re.compile(r"\[(?:warning|critical) |Warning: |Blocking call|BlockingError|internal error")
        lines = [line for line in self.log.splitlines() if bad.search(line)]
        return [line for line in lines if not any(known in line for known in _NOT_OURS)]

    def calls(self, mark: str) -> list[str]:
        """The tools that were called with an argument that holds this mark, in order."""
        path = self.folder / "calls.txt"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [line.partition(" ")[0] for line in lines if mark in line]

    # --- threads and runs ----------------------------------------------------------------

    def new_thread(self) -> str:
        """Make a thread and return its id."""
        return self.client.threads.create()["thread_id"]

    def run(self, thread: str, graph: str = "plan_execute", **what: Any) -> dict[str, Any]:
        """Run to the end or to a question, and return the values; a failed run raises what it says."""
        result = self.client.runs.wait(thread, graph, **what)
        assert isinstance(result, dict)
        return result

    def answer(self, thread: str, answer: Any) -> dict[str, Any]:
        """Answer the open question, or several by id."""
        return self.run(thread, command={"resume": answer})

    def state(self, thread: str) -> dict[str, Any]:
        """The thread's state."""
        return dict(self.client.threads.get_state(thread))

    def values(self, thread: str) -> dict[str, Any]:
        """The values of the thread's state."""
        return dict(self.state(thread)["values"])

    def questions(self, thread: str) -> list[dict[str, Any]]:
        """The questions that are open."""
        return list(self.state(thread)["interrupts"])

    def question(self, thread: str) -> dict[str, Any]:
        """The action request of the one open question."""
        (only,) = self.questions(thread)
        (request,) = only["value"]["action_requests"]
        return dict(request)

    def explained(self, thread: str, answer: Any) -> str:
        """Give an answer that must be refused, and return what the open question says of it."""
        self.answer(thread, answer)
        assert self.client.threads.get(thread)["status"] == "interrupted"
        asked = self.state(thread)["tasks"][-1]["interrupts"][-1]
        told = str(asked["value"]["action_requests"][0]["description"])
        assert told.startswith("**Your answer was not accepted:** "), told
        return told

    def refusal(self, thread: str, graph: str = "plan_execute", **what: Any) -> str:
        """Run what must be refused, and return what the client is told: the error's class and message."""
        result = self.client.runs.wait(thread, graph, raise_error=False, **what)
        assert isinstance(result, dict)
        assert "__error__" in result, f"this was not refused: {what}"
        return f"{result['__error__']['error']}: {result['__error__']['message']}"

    def at_once(self, runs: Iterable[Callable[[], T]]) -> list[T]:
        """Start them all at the same time, and return what they return, in order."""
        wanted = list(runs)
        with ThreadPoolExecutor(max(1, len(wanted))) as pool:
            return [started.result(RUN_S) for started in [pool.submit(run) for run in wanted]]

    def await_call(self, mark: str, tool: str) -> None:
        """Wait until the tool has been called with an argument that holds this mark."""
        deadline = time.monotonic() + RUN_S
        while tool not in self.calls(mark):
            assert time.monotonic() < deadline, f"{tool} was not called with {mark} within {RUN_S} s"
            time.sleep(0.02)

    # --- the process ---------------------------------------------------------------------

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end."""
        self.process.send_signal(number)
        return self.process.wait(STOP_S)


def bound(step_id: str, tool: str, *after: str, args: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Write a bound step."""
    call = {"tool": tool, "args": args}
    return {"id": step_id, "task": f"Do {step_id}", "call": call, "depends_on": list(after), **fields}


def plan(*steps: dict[str, Any]) -> dict[str, Any]:
    """Write an input with a plan of these steps."""
    return {"plan": {"goal": "The goal", "steps": list(steps)}}


class Waiting:
    """Threads that wait for the approval of a plan that writes their mark; started at once, to save time."""

    def __init__(self, server: Server, count: int) -> None:
        self._unused = [(server.new_thread(), f"mark-{number}-") for number in range(count)]
        server.at_once(partial(self._ask, server, thread, mark) for thread, mark in self._unused)

    @staticmethod
    def _ask(server: Server, thread: str, mark: str) -> None:
        server.run(thread, input=plan(bound("written", "write", args={"text": mark})), context=ALWAYS)

    def one(self) -> tuple[str, str]:
        """Hand out a thread that no test has had, and its mark."""
        return self._unused.pop()

    def take(self, count: int) -> tuple[list[str], list[str]]:
        """Hand out several: the threads, and their marks."""
        taken = [self.one() for _ in range(count)]
        return [thread for thread, _ in taken], [mark for _, mark in taken]


def _environment(**more: str) -> dict[str, str]:
    """Give the server no model, no key and no tracing, whatever the developer's shell has."""
    foreign = ("PLAN_EXECUTE_", "OPENAI_", "ANTHROPIC_", "LANGSMITH_", "LANGCHAIN_", "LANGGRAPH_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    quiet = {"LANGSMITH_TRACING": "false", "LANGGRAPH_CLI_NO_ANALYTICS": "1", "NO_COLOR": "1"}
    return {**kept, **quiet, **more}


@contextmanager
def serve(folder: Path, *options: str, jobs: int = 10, **variables: str) -> Iterator[Server]:
    """Start a server in the folder, with the tools of served_tools.py, and end it afterwards.

    Its log stands beside the folder, which a server with hot reload watches. A langgraph.json that is
    there already is served in place of the checkout's.
    """
    folder.mkdir(exist_ok=True)
    if not (folder / "langgraph.json").exists():
        shutil.copy(CHECKOUT / "langgraph.json", folder)
    shutil.copy(CHECKOUT / "tests" / "served_tools.py", folder)
    port, log_file = _free_port(), folder.with_suffix(".log")
    command = [sys.executable, "-m", "langgraph_cli", "dev", "--no-browser", "--port", str(port), *options]
    temporary = folder.with_suffix(".tmp")  # the demo graph makes its projects there
    temporary.mkdir(exist_ok=True)
    variables = {"PLAN_EXECUTE_TOOLS": "served_tools:TOOLS", "TMPDIR": str(temporary), **variables}
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [*command, "--n-jobs-per-worker", str(jobs)],
            cwd=folder,
            env=_environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        with get_sync_client(url=url, timeout=RUN_S) as client:
            server = Server(process, folder, log_file, url, client)
            _wait_until_ready(server)
            yield server
    finally:
        _end(process)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(server: Server) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert server.process.poll() is None, server.log
        try:
            if httpx.get(f"{server.url}/ok", timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    pytest.fail(f"the server was not ready within {START_S} s:\n{server.log}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server and, with hot reload, the process that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(STOP_S)
