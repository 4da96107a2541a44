"""Runs that are killed exactly before or after their n-th write, to storage or to the world, and go on.

A child counts its checkpoint puts, pending writes, ledger writes and effects, and kills itself at the
one it is told. A `Person` sees to it from outside that the run comes to its end: looks where the thread
stands, goes on, and answers by an append-only log of effects. That log and the ledger then tell what the
kills have broken.
"""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import aclosing, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from counted import KINDS, MODES, MOMENTS, Countdown, Point, aopened, opened
from crash_child import Children, Workplace, note, serve, summary
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command
from logged_tools import Log
from scenarios import (
    IN_DOUBT,
    LEFT_OPEN,
    MENDED,
    SCENARIOS,
    WRITES,
    Order,
    Scenario,
    make_model,
    make_tools,
    output_of,
)

from plan_execute import Context, create_plan_execute_agent
from plan_execute.graph.control import cancel_run, edit_plan, retry_steps
from plan_execute.state import OutputState, is_for_people

__all__ = [
    "KINDS",
    "MODES",
    "Faults",
    "Person",
    "Point",
    "Trial",
    "Whole",
    "calls_of",
    "carry_out",
    "doubtful_rows",
    "draw",
    "essence",
    "finished_steps",
    "kill_at",
    "request_of",
    "run_whole",
]

MAX_ROUNDS = 40
MOST_UNDER_WAY = 4
"""Calls that a scenario may have under way at once."""
Faults = Mapping[int, Point]
"""Where which process is killed: points by the number of the process, from 0."""


# --- in the child ------------------------------------------------------------------------


class ParentState(OutputState, total=False):
    """What the parent graph of a nested scenario knows."""

    goal: str


def act(job: dict[str, Any]) -> dict[str, Any]:
    """Run, resume, look or operate, in this process."""
    scenario, log = SCENARIOS[job["scenario"]], Log(job["log"])
    countdown = Countdown(job["point"])
    if "async" in job["storage"]:
        found = asyncio.run(_act_async(job, scenario, log, countdown))
    else:
        with opened(job["storage"], job["db"], countdown) as storage:
            found = _act_sync(job, _agent(scenario, log, countdown, *storage), log)
    return {**found, "counts": dict(countdown.counts)}


def _agent(scenario: Scenario, log: Log, countdown: Countdown, saver: Any, store: Any) -> Any:
    model, tools = make_model(scenario, log), make_tools(log, countdown)
    if not scenario.parent:
        return create_plan_execute_agent(model, tools=tools, checkpointer=saver, store=store)
    builder = StateGraph(ParentState, Context)
    builder.add_node("before", lambda _: {})
    builder.add_node("work", create_plan_execute_agent(model, tools=tools))
    builder.add_node("after", lambda _: {})
    for edge in ((START, "before"), ("before", "work"), ("work", "after"), ("after", END)):
        builder.add_edge(*edge)
    return builder.compile(checkpointer=saver, store=store)


def _run_arguments(job: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    given = Command(resume=job["resume"]) if job["resume"] is not None else job["input"]
    durability = {"durability": job["durability"]} if job["durability"] else {}
    return given, {"context": job["context"], "stream_mode": "custom", **durability}


def _act_sync(job: dict[str, Any], agent: Any, log: Log) -> dict[str, Any]:
    if job["action"] == "run":
        given, options = _run_arguments(job)
        with closing(agent.stream(given, job["config"], **options)) as stream:
            for event in stream:
                note(log, event)
    elif job["action"] != "look":
        asyncio.run(_operate(job, agent))
    return _seen(agent.get_state(job["config"]))


async def _act_async(
    job: dict[str, Any], scenario: Scenario, log: Log, countdown: Countdown
) -> dict[str, Any]:
    async with aopened(job["storage"], job["db"], countdown) as storage:
        agent = _agent(scenario, log, countdown, *storage)
        if job["action"] == "run":
            given, options = _run_arguments(job)
            async with aclosing(agent.astream(given, job["config"], **options)) as stream:
                async for event in stream:
                    note(log, event)
        elif job["action"] != "look":
            await _operate(job, agent)
        return _seen(await agent.aget_state(job["config"]))


async def _operate(job: dict[str, Any], agent: Any) -> None:
    if job["action"] == "edit":
        await edit_plan(agent, job["config"], job["input"])
    elif job["action"] == "retry":
        await retry_steps(agent, job["config"], job["input"])
    elif job["action"] == "update":
        await agent.aupdate_state(job["config"], {"goal": "in other words"}, as_node="dispatcher")
    elif job["action"] == "fork":
        await agent.ainvoke(None, await _earlier(job, agent))
    else:
        await cancel_run(agent, job["config"])


async def _earlier(job: dict[str, Any], agent: Any) -> dict[str, Any]:
    """Return the config of a checkpoint before steps ran: ``at`` 0 is the oldest, 1 the newest."""
    history = [one async for one in agent.aget_state_history(job["config"])]
    found = [one.config for one in history if one.next and set(one.next) <= {"dispatcher", "executor"}]
    return found[-1 - int(job["at"] * len(found))] if found else job["config"]


def _seen(snapshot: Any) -> dict[str, Any]:
    """Say what a person can see of a thread, as JSON."""
    values = snapshot.values
    kept = ("goal", "plan", "replans", "approval", "usage", "evaluation")
    # A kill may leave a question that an uninterrupted run does not ask.
    messages = [one for one in values.get("messages") or () if not is_for_people(one)]
    said = [[message.type, message.text] for message in messages]
    more = {"exists": snapshot.created_at is not None, "open": bool(snapshot.tasks), "said": said}
    return {**summary(snapshot), **more, **{key: values.get(key) for key in kept}}


# --- what was recorded -------------------------------------------------------------------

Call = tuple[str, str]
"""A call by its tool and the name it was given."""


def calls_of(workplace: Workplace) -> list[dict[str, Any]]:
    """Read the calls that took effect, with the key each was given."""
    return [line for line in Log(workplace.log).lines() if line["kind"] == "call"]


def _effects(workplace: Workplace) -> Counter[Call]:
    return Counter((line["tool"], line["name"]) for line in calls_of(workplace))


def _keys(workplace: Workplace) -> dict[Call, set[str]]:
    """Collect the idempotency keys of each idempotent call, which all of its repetitions must share."""
    found: dict[Call, set[str]] = {}
    for line in calls_of(workplace):
        if line["tool"] == "put":
            found.setdefault((line["tool"], line["name"]), set()).add(line["key"])
    return found


def _recorded_effects(workplace: Workplace) -> list[dict[str, Any]]:
    return [json.loads(value["json"]) for kind, _, value in _rows(workplace) if kind == "effects"]


def doubtful_rows(workplace: Workplace) -> list[dict[str, Any]]:
    """Read which writes may have happened: begun, with no outcome, and not settled by a person."""
    return [
        row
        for row in _recorded_effects(workplace)
        if row["outcome"] is None and row["tool"] in IN_DOUBT and row["starts"] > row["settled"]
    ]


def _doubtful(workplace: Workplace) -> Counter[Call]:
    return Counter((row["tool"], row["args"]["name"]) for row in doubtful_rows(workplace))


def finished_steps(workplace: Workplace) -> set[str]:
    """Read which steps have a result on record, or were announced as done."""
    said = Log(workplace.log).lines()
    announced = {line["step"] for line in said if line["kind"] == "finished" and line["status"] == "done"}
    return announced | {key for kind, key, _ in _rows(workplace) if kind == "results"}


def _rows(workplace: Workplace) -> list[tuple[str, str, dict[str, Any]]]:
    """Read the ledger past our own code: kind, key and value of each row."""
    if "postgres" in workplace.storage:
        return _server_rows(workplace)
    with closing(sqlite3.connect(workplace.db, timeout=5)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_schema WHERE name = 'store'").fetchall()
        rows = connection.execute("SELECT prefix, key, value FROM store").fetchall() if tables else []
    return [(prefix.split(".")[1], key, json.loads(value)) for prefix, key, value in rows]


def _server_rows(workplace: Workplace) -> list[tuple[str, str, dict[str, Any]]]:
    with psycopg.connect(workplace.db) as connection:
        there = connection.execute("SELECT to_regclass('store')").fetchone() != (None,)
        rows = connection.execute("SELECT prefix, key, value FROM store").fetchall() if there else []
    return [(prefix.split(".")[1], key, value) for prefix, key, value in rows]


# --- the person --------------------------------------------------------------------------


class Person:
    """Brings a scenario to its end from outside, whatever happens to the processes that run it.

    Attributes:
        counts: What each process that was not killed has counted, by its number.
        killed: Numbers of the processes that were killed.
        asked: How often a person was asked what became of a write.
        broken: Promises that did not hold on the way.
        again: Calls of steps that had ended before.
    """

    def __init__(
        self, children: Children, workplace: Workplace, scenario: Scenario, faults: Faults, **options: Any
    ) -> None:
        self.children, self.workplace, self.scenario = children, workplace, scenario
        self.faults, self.options = faults, options
        self.log = Log(workplace.log)
        self.launches = 0
        self.counts: dict[int, dict[str, int]] = {}
        self.killed: list[int] = []
        self.asked = 0
        self.broken: list[str] = []
        self.again: set[str] = set()
        self._answered: dict[str, tuple[int, int]] = {}  # question: process, and lines of the log before it

    def carry_out(self) -> dict[str, Any]:
        """Give all orders, one after the other, and return how the thread stands at the end."""
        seen: dict[str, Any] = {}
        for order in self.scenario.orders:
            seen = self._bring_to_rest(order)
        return seen

    def _bring_to_rest(self, order: Order) -> dict[str, Any]:
        taken = False
        job: dict[str, Any] = {"action": order.action, "input": order.given}
        for _ in range(MAX_ROUNDS):
            seen = self._launch(**job)
            if seen is not None and seen.get("error") == "ThreadBusyError" and self.killed:
                time.sleep(0.05)  # a server notices late that the process it talked to is dead
                continue
            if seen is not None and "error" in seen:
                self.broken.append(f"{job['action']}: {seen['error']}: {seen['message']}")
                return seen
            was_killed = seen is None
            if seen is None:
                seen = self._look()
                taken = taken or self._was_taken(order, seen)
            else:
                taken = True
            if not taken:
                continue
            # A parent graph keeps no answers: only a run can tell what is still open there.
            unsure = was_killed and self.scenario.parent
            replies = {} if unsure else self._replies(seen)
            if replies:
                job = {"action": "run", "resume": replies}
            elif seen["questions"] and not was_killed:
                return seen
            elif seen["open"]:
                job = {"action": "run"}
            else:
                return seen
        raise AssertionError(f"{self.scenario.name} never ended")

    def _was_taken(self, order: Order, seen: dict[str, Any]) -> bool:
        """Tell from the thread whether an order of a killed process has arrived."""
        if order.action != "run":
            return order.action == "cancel" and not seen["open"]
        begun = self.scenario.parent or seen["goal"] == order.goal or "__start__" in seen["next"]
        return bool(seen["exists"] and begun)

    def _look(self) -> dict[str, Any]:
        return self.children.run(
            self.workplace, "look", scenario=self.scenario.name, point=None, timeout_s=60.0
        )

    def _launch(self, action: str, **job: Any) -> dict[str, Any] | None:
        """Start a process and return what it saw at its end; None: it was killed."""
        number, self.launches = self.launches, self.launches + 1
        finished, before = finished_steps(self.workplace), len(self.log.lines())
        for question in job.get("resume") or ():
            self._answered[question] = (number, before)
        options = {"context": dict(self.scenario.context), **self.options, **job}
        point = self.faults.get(number)
        child = self.children.start(
            self.workplace, action, scenario=self.scenario.name, point=point, **options
        )
        seen = child.answer(60.0) if child.ends_with_answer(60.0) else None
        said = self.log.lines()[before:]
        self.again |= {
            line["name"]
            for line in said
            if "tool" in line and _step(line["name"]) in finished - self.scenario.ordered_again
        }
        if seen is None:
            assert point is not None, "a process died that nobody had killed"
            self.killed.append(number)
        elif "error" not in seen:
            self.counts[number] = seen["counts"]
            self._check_doubts(seen)
        return seen

    # --- questions

    def _replies(self, seen: dict[str, Any]) -> dict[str, Any]:
        """Answer what is open: everything, or only the first."""
        replies = {}
        for question in sorted(seen["questions"], key=_key_of):
            reply = self._reply(question)
            if reply == LEFT_OPEN or (replies and self.scenario.one_by_one):
                continue
            self._check_asked_again(question)
            self._answer_wrongly(question, seen)
            replies[question["id"]] = reply
        return replies

    def _reply(self, question: dict[str, Any]) -> Any:
        key = _key_of(question)
        if not key.startswith("resolve_unknown_outcome"):
            assert key in self.scenario.replies, f"nobody expects {key}"
            return self.scenario.replies[key]
        args = question["value"]["action_requests"][0]["args"]
        called = args["tool"], args["tool_args"]["name"]
        self.asked += 1
        if not _effects(self.workplace)[called]:
            return {"type": "edit", "args": {"decision": "run_again"}}
        done = next(line for line in calls_of(self.workplace) if (line["tool"], line["name"]) == called)
        return {"type": "edit", "args": {"decision": "happened", "output": output_of(called[0], done)}}

    def _answer_wrongly(self, question: dict[str, Any], seen: dict[str, Any]) -> None:
        if self.scenario.wrong is None or "action_requests" not in question["value"]:
            return
        options = {"context": dict(self.scenario.context), **self.options}
        wrong = {"resume": {question["id"]: self.scenario.wrong}, "scenario": self.scenario.name}
        refused = self.children.run(self.workplace, "run", point=None, timeout_s=60.0, **wrong, **options)
        if refused.get("error") != "InvalidAnswerError":
            self.broken.append(f"the wrong answer to {_key_of(question)} gave {refused}")
        if [q["id"] for q in self._look()["questions"]] != [q["id"] for q in seen["questions"]]:
            self.broken.append(f"the wrong answer to {_key_of(question)} changed what is open")

    def _check_asked_again(self, question: dict[str, Any]) -> None:
        """A question comes again only when its answer went down with a process that had not acted upon it."""
        key = _key_of(question)
        if question["id"] not in self._answered or key.startswith("resolve_unknown_outcome"):
            return
        process, before = self._answered[question["id"]]
        if process not in self.killed:
            self.broken.append(f"the answer to {key} was lost")
        elif not self.scenario.parent and self._acted_upon(key, self.log.lines()[before:]):
            self.broken.append(f"{key} was asked again although its answer had been acted upon")

    @staticmethod
    def _acted_upon(key: str, said: Iterable[Mapping[str, Any]]) -> bool:
        kind, _, step = key.partition(":")
        if kind == "confirm":  # the tool begins anew to find out that it has been answered
            return any(line["kind"] == "call" and line["name"] == step for line in said)
        steps = [line.get("step") or _step(line["name"]) for line in said if line["kind"] != "model"]
        return bool(steps) if kind == "approve_plan" else step in steps

    def _check_doubts(self, seen: dict[str, Any]) -> None:
        """At rest, questions are open about those writes whose outcome is unknown, and no other ones."""
        requests = [q["value"]["action_requests"][0] for q in _unknown(seen["questions"])]
        asked = Counter((r["args"]["tool"], r["args"]["tool_args"]["name"]) for r in requests)
        doubtful = _doubtful(self.workplace)
        if asked != doubtful:
            self.broken.append(f"asked about {dict(asked)} instead of {dict(doubtful)}")


def _unknown(questions: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [q for q in questions if _key_of(q).startswith("resolve_unknown_outcome")]


def request_of(question: dict[str, Any]) -> dict[str, Any]:
    """Return what a question of ours asks."""
    request: dict[str, Any] = question["value"]["action_requests"][0]
    return request


def _key_of(question: dict[str, Any]) -> str:
    """Name a question by what is asked, and about what."""
    value = question["value"]
    if "confirm" in value:
        return f"confirm:{value['confirm']}"
    request = request_of(question)
    args = request["args"]
    about = args.get("step_id") or args.get("step", {}).get("id") or args.get("plan", {}).get("rationale", "")
    return f"{request['name']}:{about}"


def _step(name: str) -> str:
    return name.partition("_")[0]


# --- the sweep ---------------------------------------------------------------------------


@dataclass
class Whole:
    """A scenario without a kill: how it ended, its effects, and what each process counted."""

    scenario: Scenario
    mode: str
    end: dict[str, Any]
    effects: Counter[Call]
    counts: dict[int, dict[str, int]]

    def points(self) -> list[tuple[int, Point]]:
        """List every point at which the scenario can be killed, with the number of the process."""
        return [
            (process, Point(kind, moment, number))
            for process, counts in sorted(self.counts.items())
            for kind in KINDS
            for number in range(1, counts.get(kind, 0) + 1)
            for moment in MOMENTS
        ]


@dataclass
class Trial:
    """What came of the kills.

    Attributes:
        killed: How many processes were killed.
        questions: How many times a person was asked what became of a write.
        duplicates: Writes that happened more than once.
        lost: Steps whose result, or calls whose effect, is missing or another one than without a kill.
        again: Steps that ran again although their end was on record, or announced.
        other: Whatever else broke a promise.
    """

    faults: dict[int, Point]
    killed: int = 0
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


def essence(results: dict[str, Any]) -> dict[str, Any]:
    """Say what results hold, without when and at what cost."""
    kept = ("status", "output", "verdict", "error", "attempts")
    return {step_id: {key: result[key] for key in kept} for step_id, result in results.items()}


def _end_of(seen: dict[str, Any]) -> dict[str, Any]:
    """Say how a thread ended, without ids that are drawn, times and costs."""
    plan, approval = seen["plan"] or {}, seen["approval"] or {}
    return {
        "results": essence(seen["results"]),
        "steps": plan.get("steps"),
        "revision": plan.get("revision"),
        "approval": [approval.get("decision"), approval.get("feedback")],
        **{key: seen[key] for key in ("status", "goal", "replans", "final_answer", "said")},
    }


def run_whole(children: Children, folder: Path, mode: str, scenario: Scenario = MENDED) -> Whole:
    """Carry a scenario out without a kill."""
    workplace = Workplace(folder, mode)
    person = Person(children, workplace, scenario, {})
    seen = person.carry_out()
    assert not person.broken, person.broken
    return Whole(scenario, mode, _end_of(seen), _effects(workplace), person.counts)


def carry_out(children: Children, folder: Path, whole: Whole, faults: Faults, **options: Any) -> Trial:
    """Carry a scenario out with kills, and judge what came of them."""
    workplace, trial = Workplace(folder, whole.mode), Trial(dict(faults))
    person = Person(children, workplace, whole.scenario, faults, **options)
    seen = person.carry_out()
    trial.killed, trial.questions = len(person.killed), person.asked
    trial.again, trial.other = sorted(person.again), list(person.broken)
    if "error" not in seen:
        _judge(trial, seen, whole, workplace)
    return trial


def kill_at(children: Children, folder: Path, point: tuple[int, Point], whole: Whole) -> Trial:
    """Carry a scenario out with one kill."""
    return carry_out(children, folder, whole, dict([point]))


def draw(whole: Whole, kills: int, dice: random.Random) -> dict[int, Point]:
    """Draw a point of the whole run, and points of the processes that go on after it."""
    process, first = dice.choice(whole.points())
    faults = {process: first}
    for later in range(process + 1, process + kills):
        # What is left to do is less than the whole: low numbers are reached more often.
        kind = dice.choice(KINDS)
        most = max(counts.get(kind, 0) for counts in whole.counts.values())
        number = min(dice.randint(1, max(1, most)) for _ in range(2))
        faults[later] = Point(kind, dice.choice(MOMENTS), number)
    return faults


def _judge(trial: Trial, seen: dict[str, Any], whole: Whole, workplace: Workplace) -> None:
    effects = _effects(workplace)
    writes = {call: times for call, times in effects.items() if call[0] in WRITES}
    trial.duplicates = [f"{call} {times} times" for call, times in writes.items() if times > 1]
    intents = {(row["tool"], row["args"]["name"]) for row in _recorded_effects(workplace)}
    trial.other += [f"{call} without an intent" for call in writes.keys() - intents]
    trial.other += [f"{call} was never asked about" for call in _doubtful(workplace)]
    trial.other += [f"{call} is no call of the whole run" for call in effects.keys() - whole.effects.keys()]
    trial.other += [
        f"{call} has {len(keys)} keys"
        for call, keys in _keys(workplace).items()
        if len(keys) > 1 and _step(call[1]) not in whole.scenario.ordered_again
    ]
    trial.other += _spending(seen, whole.scenario, workplace, trial.killed)
    if whole.scenario.budget:
        return
    trial.lost = [f"effect {call}" for call in whole.effects if not effects[call]]
    end = _end_of(seen)
    expected, found = whole.end["results"], end["results"]
    trial.lost += [
        f"{step}: {found.get(step)} instead of {expected.get(step)}"
        for step in expected.keys() | found
        if expected.get(step) != found.get(step)
    ]
    trial.other += [
        f"{key} is {end[key]} instead of {whole.end[key]}"
        for key in end
        if key != "results" and end[key] != whole.end[key]
    ]


def _spending(seen: dict[str, Any], scenario: Scenario, workplace: Workplace, kills: int) -> list[str]:
    """Compare the calls that were made, by whatever process, with the budgets."""
    said = Log(workplace.log).lines()
    made = {
        "tool_calls": sum(line["kind"] == "begin" for line in said),
        "model_calls": sum(line["kind"] == "model" for line in said),
    }
    limits = {kind: scenario.context.get(f"max_{kind}") for kind in made}
    added = scenario.replies.get("extend_budget:", {"args": {"by": 0}})["args"]["by"]
    over = [
        f"{made[kind]} {kind} within a budget of {limit + added}"
        for kind, limit in limits.items()
        if limit is not None and made[kind] > limit + added
    ]
    counted = [row for kind, key, row in _rows(workplace) if (kind, key) == ("threads", "calls")]
    booked = json.loads(counted[0]["json"])["calls"] if counted else {}
    # What a kill cut off between the count and the call is counted: at most one call per step under way.
    return over + [
        f"{booked[kind]} {kind} counted, {made[kind]} made"
        for kind in booked
        if not made[kind] <= booked[kind] <= made[kind] + MOST_UNDER_WAY * kills
    ]


if __name__ == "__main__":
    serve(act)
