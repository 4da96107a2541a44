"""Runs of an agent in processes of their own, which a test may kill at any moment.

One server process imports everything once and forks a child per run, so that a
sweep of kills does not pay for the imports each time. No thread runs when it forks.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, aclosing, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.store.postgres import PostgresStore
from langgraph.store.postgres.aio import AsyncPostgresStore
from langgraph.types import Command
from logged_tools import Log, make_tools, two_turn_model
from postgres_server import schema_of

from plan_execute import (
    Context,
    PlanExecuteError,
    create_plan_execute_agent,
    local_persistence,
    postgres_persistence,
)
from plan_execute.graph.control import cancel_run, retry_steps
from plan_execute.state import OutputState

_ = (AIMessage, HumanMessage, ToolMessage)  # imported before the fork


# --- in the child ------------------------------------------------------------------------


def serve(act: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Fork a child that acts for every line of JSON on standard input, and print its process id."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.close(0)
            _child(json.loads(line), act)
            os._exit(0)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def _child(job: dict[str, Any], act: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    try:
        answer = act(job)
    except PlanExecuteError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    except BaseException as error:
        answer = {"error": f"unexpected {type(error).__name__}", "message": repr(error)}
    draft = Path(f"{job['out']}.draft")
    draft.write_text(json.dumps(answer))
    draft.replace(job["out"])


def act(job: dict[str, Any]) -> dict[str, Any]:
    """Do what the job asks in this process, and say what came of it."""
    while time.time() < job["at"]:
        time.sleep(0)  # several processes start at the same instant
    if job["storage"] == "local":
        with local_persistence(job["db"]) as (saver, store):
            return _drive(job, saver, store)
    if job["storage"] == "postgres":
        with postgres_persistence(job["db"]) as (saver, store):
            return _drive(job, saver, store)
    if job["storage"] == "plain-postgres":
        with (
            PostgresSaver.from_conn_string(job["db"]) as plain,
            PostgresStore.from_conn_string(job["db"]) as plain_store,
        ):
            plain.setup()
            plain_store.setup()
            return _drive(job, plain, plain_store)
    if job["storage"] == "slow":
        checkpoints = SlowSaver.from_conn_string(f"{job['db']}.slow")
        with checkpoints as slow, local_persistence(job["db"]) as (_, store):
            return _drive(job, slow, store)
    if job["storage"] == "sqlite":
        with SqliteSaver.from_conn_string(job["db"]) as sync_saver:
            return _drive(job, sync_saver, None)
    return asyncio.run(_act_async(job))


class SlowSaver(SqliteSaver):
    """A saver on a slow disk: what happens inside a step is on record half a second late."""

    def put(self, config: Any, *args: Any) -> Any:
        _delay(config)
        return super().put(config, *args)

    def put_writes(self, config: Any, *args: Any) -> None:
        _delay(config)
        super().put_writes(config, *args)


def _delay(config: Any) -> None:
    if config["configurable"]["checkpoint_ns"]:
        time.sleep(0.5)


async def _act_async(job: dict[str, Any]) -> dict[str, Any]:
    if job["storage"] == "local-async":
        async with local_persistence(job["db"]) as (saver, store):
            return await _drive_async(job, saver, store)
    if job["storage"] == "postgres-async":
        async with postgres_persistence(job["db"]) as (saver, store):
            return await _drive_async(job, saver, store)
    if job["storage"] == "plain-postgres-async":
        async with (
            AsyncPostgresSaver.from_conn_string(job["db"]) as plain,
            AsyncPostgresStore.from_conn_string(job["db"]) as plain_store,
        ):
            await plain.setup()
            await plain_store.setup()
            return await _drive_async(job, plain, plain_store)
    async with AsyncSqliteSaver.from_conn_string(job["db"]) as async_saver:
        return await _drive_async(job, async_saver, None)


def _agent(job: dict[str, Any], saver: Any, store: Any) -> Any:
    tools = make_tools(Log(job["log"]))
    model = two_turn_model(job["model"]) if job["model"] else None
    if not job["parent"]:
        return create_plan_execute_agent(model, tools=tools, checkpointer=saver, store=store)
    builder = StateGraph(OutputState, Context)
    builder.add_node("work", create_plan_execute_agent(model, tools=tools))
    builder.add_edge(START, "work")
    builder.add_edge("work", END)
    return builder.compile(checkpointer=saver, store=store)


def _options(job: dict[str, Any]) -> dict[str, Any]:
    durability = {"durability": job["durability"]} if job["durability"] else {}
    return {"context": job["context"], "stream_mode": "custom", **durability}


def _input(job: dict[str, Any]) -> Any:
    return Command(resume=job["resume"]) if job["resume"] is not None else job["input"]


def _drive(job: dict[str, Any], saver: Any, store: Any) -> dict[str, Any]:
    if job["action"] != "run":
        return asyncio.run(_surgery(job, saver, store))
    agent, log = _agent(job, saver, store), Log(job["log"])
    # Closed before the storage is, also by Ctrl-C: SqliteSaver 3.1.2 crashes when it is closed amid a call.
    with closing(agent.stream(_input(job), job["config"], **_options(job))) as stream:
        for event in stream:
            note(log, event)
    return summary(agent.get_state(job["config"]))


async def _drive_async(job: dict[str, Any], saver: Any, store: Any) -> dict[str, Any]:
    if job["action"] != "run":
        return await _surgery(job, saver, store)
    agent, log = _agent(job, saver, store), Log(job["log"])
    async with aclosing(agent.astream(_input(job), job["config"], **_options(job))) as stream:
        async for event in stream:
            note(log, event)
    return summary(await agent.aget_state(job["config"]))


async def _surgery(job: dict[str, Any], saver: Any, store: Any) -> dict[str, Any]:
    agent = _agent(job, saver, store)
    if job["action"] == "look":
        return summary(await agent.aget_state(job["config"]))
    if job["action"] == "cancel":
        return {"answer": await cancel_run(agent, job["config"])}
    return {"answer": await retry_steps(agent, job["config"], job["steps"])}


def note(log: Log, event: dict[str, Any]) -> None:
    """Put the end of a step on the log."""
    if event["type"] == "step_finished":
        log.append("finished", step=event["step_id"], status=event["status"])


def summary(snapshot: Any) -> dict[str, Any]:
    """Say what a thread's state holds, as JSON."""
    values = snapshot.values
    return {
        "status": values.get("status"),
        "next": list(snapshot.next),
        "results": values.get("results") or {},
        "final_answer": values.get("final_answer"),
        "questions": [{"id": i.id, "value": i.value} for i in snapshot.interrupts],
    }


# --- in the test -------------------------------------------------------------------------


@dataclass
class Child:
    """One run in a process of its own."""

    pid: int
    out: Path

    def running(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def kill(self) -> None:
        """Kill it as the kernel would, and wait until it is gone."""
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self._wait_gone(5.0)

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.kill(self.pid, signal.SIGINT)

    def answer(self, timeout_s: float = 60.0) -> dict[str, Any]:
        """Wait for its end and return what it found: a summary, or ``error`` and ``message``."""
        self._wait_gone(timeout_s)
        assert self.out.exists(), "the process died without an answer"
        found: dict[str, Any] = json.loads(self.out.read_text())
        return found

    def ends_with_answer(self, timeout_s: float = 60.0) -> bool:
        """Wait for its end and tell whether it lived to say what it found."""
        self._wait_gone(timeout_s)
        return self.out.exists()

    def _wait_gone(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while self.running():
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                raise AssertionError(f"the run hung: no end within {timeout_s:g} s")
            time.sleep(0.003)


STANDARD: dict[str, Any] = {
    "input": None,
    "resume": None,
    "context": None,
    "durability": None,
    "model": None,
    "steps": None,
    "parent": False,
    "at": 0.0,
}
"""What a run is given unless a test says otherwise."""


@dataclass
class Children:
    """Starts runs in new processes."""

    server: subprocess.Popen[str]
    folder: Path
    numbers: Any = field(default_factory=itertools.count)

    def start(self, workplace: Workplace, action: str = "run", **job: Any) -> Child:
        """Start a run; see `Workplace` for where, and the keyword arguments for what."""
        out = self.folder / f"answer-{next(self.numbers)}.json"
        line = json.dumps(STANDARD | vars(workplace) | {"action": action, "out": str(out)} | job)
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(line + "\n")
        self.server.stdin.flush()
        return Child(int(self.server.stdout.readline()), out)

    def run(
        self, workplace: Workplace, action: str = "run", timeout_s: float = 60.0, **job: Any
    ) -> dict[str, Any]:
        """Run to the end in a new process."""
        return self.start(workplace, action, **job).answer(timeout_s)


class Workplace:
    """Where a run keeps its thread: storage kind, database, log and config."""

    def __init__(self, folder: Path, storage: str, thread: str = "t") -> None:
        self.storage = storage
        self.db = schema_of(folder) if "postgres" in storage else str(folder / "runs.db")
        self.log = str(folder / "effects.log")
        self.config = {"configurable": {"thread_id": thread}}

    def opened(self) -> AbstractContextManager[Any]:
        """Open the same storage in this process, as (saver, store)."""
        if self.storage.startswith("local"):
            return local_persistence(self.db)
        if self.storage.startswith("postgres"):
            return postgres_persistence(self.db)
        return _with_no_store(self.db)


@contextmanager
def _with_no_store(db: str) -> Any:
    with SqliteSaver.from_conn_string(db) as saver:
        yield saver, None


@contextmanager
def serving(folder: Path, script: str = __file__) -> Any:
    """Keep a server of children, which ``script`` is, while a test module runs."""
    command = [sys.executable, script]
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as server:
        try:
            yield Children(server, folder)
        finally:
            server.kill()


if __name__ == "__main__":
    serve(act)
