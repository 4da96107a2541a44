"""Runs that are killed exactly before or after their n-th write, to storage or to the world, and go on.

A child counts its checkpoint puts, pending writes, ledger writes and effects, and kills itself at the
one it is told. Afterwards the ledger and an append-only log of effects say what must be asked about.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import aclosing, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from uuid import uuid4

import psycopg
from crash_child import Children, Workplace, note, serve, summary
from langchain_core.messages import AIMessage
from langchain_core.messages.tool import tool_call
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.store.base import Op, PutOp, Result
from langgraph.types import Command
from logged_tools import Log

from plan_execute import InjectedIdempotencyKey, ScriptedModel, create_plan_execute_agent
from plan_execute.storage import postgres
from plan_execute.storage.adapters import AsyncSaver, AsyncStore
from plan_execute.storage.local import LocalSaver, LocalStore, open_database
from plan_execute.storage.postgres import PooledSaver, PooledStore

KINDS = ("checkpoint", "pending", "ledger", "effect")
MOMENTS = ("before", "after")
MODES = ("local", "local-async", "slow", "slow-async", "postgres", "postgres-async")
"""Saver and store of `local_persistence`, driven by ``stream`` or by ``astream``; or the same on a disk that
is slow with checkpoints, so that effects and the ledger may overtake them; or those of
`postgres_persistence`."""
FREE = {"approval": "never", "on_failure": "abort", "max_attempts": 1}
MAX_ROUNDS = 12


def _call(step_id: str, tool: str, text: str = "", **more: Any) -> dict[str, Any]:
    args = {"name": step_id, "text": text}
    return {"id": step_id, "task": f"do {step_id}", "call": {"tool": tool, "args": args}, **more}


PLAN = {
    "plan": {
        "goal": "survive",
        "steps": [
            _call("source", "look"),
            _call("stored", "put", "${source}"),
            _call("mailed", "send", "${source}"),
            {"id": "agent", "task": "think about ${stored}", "tools": ["look", "put", "send"]},
            _call("broken", "refuse", "${mailed}", on_failure="patch"),
            _call("lost", "send", "${broken}"),
            _call("report", "send", "${agent} ${mailed}"),
        ],
    }
}
"""Reads, idempotent calls and writes, an agent with several of them, a failure and what patches it."""


def _draft(*steps: tuple[str, str, str], complete: bool = True) -> dict[str, Any]:
    """Write bound steps (id, tool, text) as a model does."""
    written = [
        {
            "id": step_id,
            "task": f"do {step_id}",
            "depends_on": [],
            "call": tool,
            "arguments": json.dumps({"name": step_id, "text": text}),
            "tools": [],
            "success_criterion": None,
        }
        for step_id, tool, text in steps
    ]
    return {"outcome": "plan", "rationale": "because", "complete": complete, "steps": written}


ENOUGH = {
    "plan": {
        "goal": "get to the value",
        "goal_criteria": [{"type": "expression", "expression": "contains(stored, 'put stored')"}],
        "steps": [
            _call("source", "look"),
            _call("mailed", "send", "${source}"),
            _call("stored", "put", "${mailed}"),
            _call("report", "send", "${stored}"),
        ],
    }
}
"""A plan whose goal is reached before its last step."""

PATCH = _draft(("mended", "put", "${mailed}"), ("found", "send", "${mended}"))

ROLLING = {"goal": "survive, a few steps at a time"}
ROUNDS = [
    _draft(("first", "look", "here"), ("told", "send", "${first}"), complete=False),
    _draft(("second", "put", "${told}"), ("tolder", "send", "${second}"), complete=False),
    _draft(("third", "send", "${tolder}")),
]
"""What is planned for the goal, and in each round after that."""


class Point(NamedTuple):
    """Where a run kills itself: before or after the number-th (from 1) of a kind."""

    kind: str
    moment: str
    number: int


# --- in the child ------------------------------------------------------------------------


class Countdown:
    """Counts what the run does, and kills the process at the point it is given."""

    def __init__(self, point: Iterable[Any] | None) -> None:
        self.counts: Counter[str] = Counter()
        self._point = Point(*point) if point else None
        self._lock = threading.Lock()

    @contextmanager
    def around(self, kind: str) -> Iterator[None]:
        """Count one of a kind."""
        with self._lock:
            self.counts[kind] += 1
            number = self.counts[kind]
        self._reach(Point(kind, "before", number))
        yield
        self._reach(Point(kind, "after", number))

    def _reach(self, point: Point) -> None:
        if point == self._point:
            os.kill(os.getpid(), signal.SIGKILL)


class CountedSaver:
    """Counts the writes of the checkpointer it is mixed into."""

    countdown: Countdown
    delay_s = 0.0

    def put(self, *args: Any) -> Any:
        time.sleep(self.delay_s)
        with self.countdown.around("checkpoint"):
            return super().put(*args)  # type: ignore[misc]

    def put_writes(self, *args: Any) -> None:
        time.sleep(self.delay_s)
        with self.countdown.around("pending"):
            super().put_writes(*args)  # type: ignore[misc]


class CountedStore:
    """Counts the writes of the store it is mixed into."""

    countdown: Countdown

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        wanted = [*ops]
        if not any(isinstance(op, PutOp) for op in wanted):
            return super().batch(wanted)  # type: ignore[misc]
        with self.countdown.around("ledger"):
            return super().batch(wanted)  # type: ignore[misc]


class CountingSaver(CountedSaver, LocalSaver):
    """The local checkpointer, counted."""


class CountingStore(CountedStore, LocalStore):
    """The local store, counted where it writes."""


class CountingPooledSaver(CountedSaver, PooledSaver):
    """The PostgreSQL checkpointer, counted."""


class CountingPooledStore(CountedStore, PooledStore):
    """The PostgreSQL store, counted where it writes."""


def open_counted(job: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Open the database, with a saver and a store on it."""
    if "postgres" in job["storage"]:
        server = postgres.open_database(postgres.parameters(job["db"]), 4)
        return server, CountingPooledSaver(server), CountingPooledStore(server)
    database = open_database(Path(job["db"]))
    return database, CountingSaver(database), CountingStore(database)


def output_of(tool: str, args: dict[str, Any]) -> str:
    """What a call of a tool gives."""
    return f"{tool} {args['name']}: {args['text']}"


def make_tools(log: Log, countdown: Countdown) -> list[BaseTool]:
    """Make ``look`` (read), ``put`` (idempotent), ``send`` (write) and ``refuse`` (write, fails)."""

    def act(tool: str, name: str, text: str, key: str) -> str:
        log.append("begin", tool=tool, name=name)
        with countdown.around("effect"):
            log.append("call", tool=tool, name=name, text=text, key=key)
        return output_of(tool, {"name": name, "text": text})

    def look(name: str, key: Annotated[str, InjectedIdempotencyKey()], text: str = "") -> str:
        """Look something up."""
        return act("look", name, text, key)

    def put(name: str, key: Annotated[str, InjectedIdempotencyKey()], text: str = "") -> str:
        """Set a value."""
        return act("put", name, text, key)

    def send(name: str, key: Annotated[str, InjectedIdempotencyKey()], text: str = "") -> str:
        """Send a message."""
        return act("send", name, text, key)

    def refuse(name: str, text: str = "") -> str:
        """Fail before anything is done."""
        log.append("begin", tool="refuse", name=name)
        with countdown.around("effect"):
            pass
        raise OSError(f"{name} is out of order")

    effects = {"look": "read", "put": "idempotent", "send": "write", "refuse": "write"}
    return [
        StructuredTool.from_function(function, metadata={"effect": effects[function.__name__]})
        for function in (look, put, send, refuse)
    ]


def make_model() -> ScriptedModel:
    """Make a model that answers by what was said, so that a new process goes on where the old one stopped."""

    def turn(messages: list[Any]) -> Any:
        said = [message for message in messages if message.type == "tool"]
        if not said:
            return _turn(("look", "agent_one"), ("look", "agent_two"))
        if len(said) == 2:
            return _turn(("put", "agent_put"), ("send", "agent_send"))
        if len(said) == 4:
            return _turn(("send", "agent_last"))
        return " | ".join(sorted(message.text for message in said))

    def plan_on(messages: list[Any]) -> Any:
        said = str(messages[-1].text)
        return ROUNDS[sum(f"- {step_id} (" in said for step_id in ("first", "second"))]

    script = {
        "planner": [plan_on],
        "executor": [turn],
        "replanner": [PATCH],
        "synthesizer": ["The end."],
    }
    return ScriptedModel(script, strict=False)


def _turn(*calls: tuple[str, str]) -> AIMessage:
    # New ids whenever it is asked, as those of real models.
    made = [tool_call(name=tool, args={"name": name, "text": "x"}, id=uuid4().hex) for tool, name in calls]
    return AIMessage("", tool_calls=made)


def act(job: dict[str, Any]) -> dict[str, Any]:
    """Run, resume or look, in this process."""
    countdown, log = Countdown(job.get("point")), Log(job["log"])
    database, saver, store = open_counted(job)
    try:
        saver.countdown = store.countdown = countdown
        saver.delay_s = 0.01 if "slow" in job["storage"] else 0.0
        agent = create_plan_execute_agent(
            make_model(),
            tools=make_tools(log, countdown),
            checkpointer=AsyncSaver(saver),
            store=AsyncStore(store),
        )
        if "async" in job["storage"]:
            found = asyncio.run(_drive_async(job, agent, log))
        else:
            found = _drive(job, agent, log)
    finally:
        database.close()
    return {**found, "counts": dict(countdown.counts)}


def _drive(job: dict[str, Any], agent: Any, log: Log) -> dict[str, Any]:
    if job["action"] == "run":
        given = Command(resume=job["resume"]) if job["resume"] is not None else job["input"]
        events = agent.stream(given, job["config"], context=job["context"], stream_mode="custom")
        with closing(events) as stream:
            for event in stream:
                note(log, event)
    return summary(agent.get_state(job["config"]))


async def _drive_async(job: dict[str, Any], agent: Any, log: Log) -> dict[str, Any]:
    if job["action"] == "run":
        given = Command(resume=job["resume"]) if job["resume"] is not None else job["input"]
        events = agent.astream(given, job["config"], context=job["context"], stream_mode="custom")
        async with aclosing(events) as stream:
            async for event in stream:
                note(log, event)
    return summary(await agent.aget_state(job["config"]))


# --- in the sweep ------------------------------------------------------------------------


def essence(results: dict[str, Any]) -> dict[str, Any]:
    """What results say, without when and at what cost."""
    kept = ("status", "output", "verdict", "error", "attempts")
    return {step_id: {key: result[key] for key in kept} for step_id, result in results.items()}


@dataclass
class Trial:
    """What came of one kill.

    Attributes:
        killed: Whether the point was reached.
        questions: How many writes a person was asked about.
        duplicates: Writes that happened more than once.
        lost: Steps whose result, or calls whose effect, is missing or another one than without a kill.
        again: Steps that ran again although their end was on record, or announced.
        other: Whatever else broke a promise.
    """

    point: Point
    killed: bool = False
    questions: int = 0
    duplicates: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    @property
    def broken(self) -> list[str]:
        """Say which promises were broken."""
        parts = ("duplicates", "lost", "again", "other")
        return [f"{part}: {found}" for part in parts if (found := getattr(self, part))]


@dataclass
class Whole:
    """The same run without a kill: its input, its results, its effects, and how often it did what."""

    given: dict[str, Any]
    results: dict[str, Any]
    effects: Counter[tuple[str, str]]
    counts: dict[str, int]

    def points(self) -> list[Point]:
        """List every point at which the run can be killed."""
        return [
            Point(kind, moment, number)
            for kind in KINDS
            for number in range(1, self.counts[kind] + 1)
            for moment in MOMENTS
        ]


def run_whole(children: Children, folder: Path, mode: str, given: dict[str, Any] = PLAN) -> Whole:
    """Run without a kill."""
    workplace = Workplace(folder, mode)
    answer = children.run(workplace, input=given, context=FREE)
    assert answer.get("status") == "done", answer
    return Whole(given, essence(answer["results"]), _effects(workplace), answer["counts"])


def kill_at(children: Children, folder: Path, mode: str, point: Point, whole: Whole) -> Trial:
    """Kill a run at a point, bring it to its end in new processes, and judge what came of it."""
    workplace, trial = Workplace(folder, mode), Trial(point)
    child = children.start(workplace, input=whole.given, context=FREE, point=point)
    trial.killed = not child.ends_with_answer()
    before = Log(workplace.log).lines()
    doubtful, finished = _ledger(workplace)
    finished |= {line["step"] for line in before if line["kind"] == "finished" and line["status"] == "done"}
    trial.other += [f"{call} without an intent" for call in _writes(workplace) - _intents(workplace)]
    answer, asked = _resume(children, workplace, whole.given)
    trial.questions = asked.total()
    if asked != doubtful:
        trial.other.append(f"asked about {dict(asked)} instead of {dict(doubtful)}")
    _judge(trial, answer, whole, workplace)
    later = Log(workplace.log).lines()[len(before) :]
    trial.again = sorted(
        {line["name"] for line in later if "name" in line and _step(line["name"]) in finished}
    )
    return trial


def _resume(
    children: Children, workplace: Workplace, given: dict[str, Any]
) -> tuple[dict[str, Any], Counter[tuple[str, str]]]:
    """Go on until the run has ended, answering as the log of effects says; count what was asked."""
    asked: Counter[tuple[str, str]] = Counter()
    job: dict[str, Any] = {"input": None}
    for _ in range(MAX_ROUNDS):
        answer = children.run(workplace, context=FREE, **job)
        if answer.get("error") == "ThreadNotFoundError":
            job = {"input": given}
        elif answer.get("error") == "ThreadBusyError":
            time.sleep(0.05)  # the server has not noticed yet that the process it talked to is dead
        elif answer.get("error") == "NothingToResumeError":
            return children.run(workplace, "look"), asked
        elif answer.get("questions"):
            requests = {q["id"]: q["value"]["action_requests"][0] for q in answer["questions"]}
            asked.update(_named(request) for request in requests.values())
            job = {"resume": {i: _truth(request, workplace) for i, request in requests.items()}}
        else:
            return answer, asked
    raise AssertionError("the run never ended")


def _named(request: dict[str, Any]) -> tuple[str, str]:
    assert request["name"] == "resolve_unknown_outcome", request
    return request["args"]["tool"], request["args"]["tool_args"]["name"]


def _truth(request: dict[str, Any], workplace: Workplace) -> dict[str, Any]:
    tool, args = request["args"]["tool"], request["args"]["tool_args"]
    if not _effects(workplace)[_named(request)]:
        return {"type": "edit", "args": {"decision": "run_again"}}
    return {"type": "edit", "args": {"decision": "happened", "output": output_of(tool, args)}}


def _judge(trial: Trial, answer: dict[str, Any], whole: Whole, workplace: Workplace) -> None:
    if "error" in answer:
        trial.other.append(f"{answer['error']}: {answer['message']}")
        return
    effects, results = _effects(workplace), essence(answer["results"])
    if answer["status"] != "done":
        trial.other.append(f"the run ended {answer['status']}: {answer['final_answer']}")
    writes = {call: times for call, times in effects.items() if call[0] == "send"}
    trial.duplicates = [f"{call} {times} times" for call, times in writes.items() if times > 1]
    trial.lost = [f"effect {call}" for call in whole.effects if not effects[call]]
    trial.lost += [
        step for step in whole.results.keys() | results if whole.results.get(step) != results.get(step)
    ]
    trial.other += [f"{call} is no call of the whole run" for call in effects.keys() - whole.effects.keys()]
    trial.other += [
        f"{call} has {len(keys)} keys" for call, keys in _keys(workplace).items() if len(keys) > 1
    ]


def _step(name: str) -> str:
    return name.partition("_")[0]


def calls_of(workplace: Workplace) -> list[dict[str, Any]]:
    """Read the calls that took effect, with the key each was given."""
    return [line for line in Log(workplace.log).lines() if line["kind"] == "call"]


def _effects(workplace: Workplace) -> Counter[tuple[str, str]]:
    return Counter((line["tool"], line["name"]) for line in calls_of(workplace))


def _writes(workplace: Workplace) -> set[tuple[str, str]]:
    return {call for call in _effects(workplace) if call[0] == "send"}


def _keys(workplace: Workplace) -> dict[tuple[str, str], set[str]]:
    """Collect the idempotency keys of each idempotent call, which all of its repetitions must share."""
    found: dict[tuple[str, str], set[str]] = {}
    for line in calls_of(workplace):
        if line["tool"] == "put":
            found.setdefault((line["tool"], line["name"]), set()).add(line["key"])
    return found


def _ledger(workplace: Workplace) -> tuple[Counter[tuple[str, str]], set[str]]:
    """Read which writes were begun and have no outcome, and which steps have a result on record."""
    rows = _rows(workplace)
    effects = [json.loads(value["json"]) for kind, _, value in rows if kind == "effects"]
    doubtful = Counter(
        (row["tool"], row["args"]["name"])
        for row in effects
        if row["outcome"] is None and row["tool"] in ("send", "refuse")
    )
    return doubtful, {key for kind, key, _ in rows if kind == "results"}


def _intents(workplace: Workplace) -> set[tuple[str, str]]:
    effects = [json.loads(value["json"]) for kind, _, value in _rows(workplace) if kind == "effects"]
    return {(row["tool"], row["args"]["name"]) for row in effects}


def _rows(workplace: Workplace) -> list[tuple[str, str, dict[str, Any]]]:
    """Read the ledger past our own code: kind, key and value of each row."""
    if "postgres" in workplace.storage:
        return _server_rows(workplace)
    with closing(sqlite3.connect(workplace.db)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_schema WHERE name = 'store'").fetchall()
        rows = connection.execute("SELECT prefix, key, value FROM store").fetchall() if tables else []
    return [(prefix.split(".")[1], key, json.loads(value)) for prefix, key, value in rows]


def _server_rows(workplace: Workplace) -> list[tuple[str, str, dict[str, Any]]]:
    with psycopg.connect(workplace.db) as connection:
        there = connection.execute("SELECT to_regclass('store')").fetchone() != (None,)
        rows = connection.execute("SELECT prefix, key, value FROM store").fetchall() if there else []
    return [(prefix.split(".")[1], key, value) for prefix, key, value in rows]


if __name__ == "__main__":
    serve(act)
