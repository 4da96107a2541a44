"""What a person may do to a thread whose process was killed, over every kind of step.

After each kill one operation follows: resume, retry, an edit, a fork, ``update_state``, cancel or a new goal.
Questions about writes are answered as the log of effects says. At the end that log tells whether a write was
made twice, was made again without a question, or is missing.
"""

from __future__ import annotations

import copy
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from counted import Point
from crash_child import Children, Workplace, serve
from kill_points import (
    Faults,
    Person,
    Whole,
    act,
    calls_of,
    doubtful_rows,
    essence,
    finished_steps,
    request_of,
)
from langchain_core.messages import AIMessage
from scenarios import FREE, SCENARIOS, WRITES, Scenario, call, calls, given, output_of

__all__ = ["OPERATIONS", "UNITS", "Operated", "draw_operations", "operate"]

# --- the runs ----------------------------------------------------------------------------

_ITEMS = ("a", "b")
"""What the tool ``names`` lists."""


def _turn(messages: list[Any]) -> Any:
    """Answer as an agent that makes two writes at once and then a third; it names them after its task."""
    told = "\n".join(str(message.text) for message in messages if message.type == "human")
    unit, items = re.findall(r"unit-(\w+)", told)[-1], re.findall(r"item_<data [^>]*>(\w)<", told)
    name = f"{unit}_{items[-1]}" if items else unit
    said = [message for message in messages if isinstance(message, AIMessage)]
    if "asking" in told and len(said) < 2:
        return calls(("confirm" if said else "send", f"{name}_two" if said else f"{name}_one"))
    if "asking" in told:
        return f"{name} is done"
    if not said:
        return calls(("send", f"{name}_one"), ("send", f"{name}_two"))
    if len(said) == 1:
        return calls(("look", f"{name}_look"), ("send", f"{name}_three"))
    return f"{name} is done"


def _of_agent(name: str) -> list[str]:
    return [f"{name}_one", f"{name}_two", f"{name}_three"]


def _step(step_id: str, **fields: Any) -> dict[str, Any]:
    return {"id": step_id, "task": f"do {step_id}", "depends_on": [], **fields}


def _send(step_id: str, *needed: str, name: str = "", **fields: Any) -> dict[str, Any]:
    arguments = json.dumps({"name": name or step_id, "text": "x"})
    return _step(step_id, call="send", arguments=arguments, depends_on=list(needed), **fields)


def _sub_plan(kind: str, name: str) -> list[dict[str, Any]]:
    """Write the steps of a sub-plan of a kind, as its planner does."""
    named = _step(f"{name}_names", call="names", arguments=json.dumps({"name": f"{name}_names"}))
    over = {"for_each": f"${{{name}_names}}"}
    agent = {"tools": ["look", "send"]}
    return {
        "writes": [_send(f"{name}_one"), _send(f"{name}_two", f"{name}_one")],
        "agent": [_send(f"{name}_first"), _step(f"{name}_agent", **agent) | {"task": f"unit-{name}"}],
        "loop": [named, _send(f"{name}_each", name=f"{name}_${{item}}", **over)],
        "agents": [named, _step(f"{name}_each", **agent, **over) | {"task": f"unit-{name} item_${{item}}"}],
        "plan": [_send(f"{name}_first"), _step(f"{name}_inner", goal=f"goal-writes-{name}")],
        "deep": [_send(f"{name}_first"), _step(f"{name}_inner", goal=f"goal-agent-{name}_in")],
        "mended": [
            _send(f"{name}_one"),
            _send(f"{name}_bad", f"{name}_one") | {"call": "refuse"},
            _send(f"{name}_lost", f"{name}_bad"),
        ],
    }[kind]


def _of_sub_plan(kind: str, name: str) -> list[str]:
    """Name the writes of a sub-plan of a kind."""
    return {
        "writes": [f"{name}_one", f"{name}_two"],
        "agent": [f"{name}_first", *_of_agent(name)],
        "loop": [f"{name}_{item}" for item in _ITEMS],
        "agents": [write for item in _ITEMS for write in _of_agent(f"{name}_{item}")],
        "plan": [f"{name}_first", f"{name}_one", f"{name}_two"],
        "deep": [f"{name}_first", f"{name}_in_first", *_of_agent(f"{name}_in")],
        "mended": [f"{name}_one", f"{name}_three"],
    }[kind]


def _plan(messages: list[Any]) -> dict[str, Any]:
    told = "\n".join(str(message.text) for message in messages)
    kind, name = re.findall(r"goal-([a-z]+)-(\w+)", told)[-1]
    return {"outcome": "plan", "rationale": "r", "steps": _sub_plan(kind, name)}


def _mend(messages: list[Any]) -> dict[str, Any]:
    """Replace a step that failed by one that makes a write of its own."""
    told = "\n".join(str(message.text) for message in messages)
    name = re.findall(r"\b(\w+)_bad\b", told)[-1]
    return {"outcome": "plan", "rationale": "r", "steps": [_send(f"{name}_three")]}


_SUB_PLANS = ("writes", "agent", "loop", "agents", "plan", "deep", "mended")
_EACH = {"for_each": "${named}"}
_AGENT = {"tools": ["look", "send"]}

UNITS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "bound": ({"call": {"tool": "send", "args": {"name": "s", "text": "x"}}}, ["s"]),
    "bound_loop": (
        {"call": {"tool": "send", "args": {"name": "s_${item}", "text": "x"}}, **_EACH},
        [f"s_{item}" for item in _ITEMS],
    ),
    "asks": ({"call": {"tool": "confirm", "args": {"name": "s", "text": "x"}}}, ["s"]),
    "agent": ({"task": "unit-s", **_AGENT}, _of_agent("s")),
    "agent_asks": ({"task": "asking unit-s", "tools": ["confirm", "send"]}, ["s_one", "s_two"]),
    "agent_loop": (
        {"task": "unit-s item_${item}", **_AGENT, **_EACH},
        [write for item in _ITEMS for write in _of_agent(f"s_{item}")],
    ),
    **{f"sub_{kind}": ({"plan": {"goal": f"goal-{kind}-s"}}, _of_sub_plan(kind, "s")) for kind in _SUB_PLANS},
    **{
        f"sub_{kind}_loop": (
            {"plan": {"goal": f"goal-{kind}-s_${{item}}"}, **_EACH},
            [write for item in _ITEMS for write in _of_sub_plan(kind, f"s_{item}")],
        )
        for kind in ("writes", "agent", "deep")
    },
}
"""The step ``s`` of each kind of run, and the names of its writes."""


_YES = "yes"
"""What a person answers a tool that asks."""
_REPLIES = {f"confirm:{name}": _YES for name in ("s", "s_two")}


def _scenario(kind: str) -> Scenario:
    """Make a run: the unit, what waits for it, and a branch beside it."""
    unit = {"id": "s", "depends_on": ["source", "named"], **UNITS[kind][0]}
    steps = [
        call("source", "look"),
        call("named", "names"),
        call("before", "look", "${source}"),
        call("other", "send", "${before}"),
        unit,
        call("after", "send", "x", depends_on=["s"]),
    ]
    script = {"planner": _plan, "executor": _turn, "replanner": _mend}
    context = {**FREE, "on_failure": "replan"}
    return Scenario(f"operated_{kind}", (given("survive", *steps),), context, script, _REPLIES)


SCENARIOS.update({scenario.name: scenario for scenario in map(_scenario, UNITS)})

# --- the operations ----------------------------------------------------------------------


class Write(NamedTuple):
    """A write by all that it was given."""

    tool: str
    name: str
    text: str


def _writes(workplace: Workplace) -> Counter[Write]:
    made = (line for line in calls_of(workplace) if line["tool"] in WRITES)
    # What a tool was told on the way is not what it was asked to do.
    return Counter(Write(line["tool"], line["name"], line["text"].removesuffix(f" {_YES}")) for line in made)


class Operator(Person):
    """A person who answers kills with operations.

    Attributes:
        asked_about: How often each write was asked about.
        done: The operations that were carried out.
    """

    def __init__(self, children: Children, workplace: Workplace, scenario: Scenario, faults: Faults) -> None:
        super().__init__(children, workplace, scenario, faults)
        self.asked_about: Counter[Write] = Counter()
        self.done: list[str] = []
        self._edits = 0

    def play(self, operations: Sequence[str], dice: random.Random) -> dict[str, Any]:
        """Start the run, follow each kill with an operation, and bring the thread to rest."""
        left = list(operations)
        jobs: list[dict[str, Any]] = [{"action": "run", "input": self.scenario.orders[0].given}]
        for _ in range(60):
            job = jobs.pop(0)
            seen = self._launch(**job)
            if seen is not None and "error" in seen:
                if not _is_over(job, seen):
                    self.broken.append(f"{job['action']}: {seen['error']}: {seen['message']}")
                    return seen
                seen, jobs = self._look(), []
            elif seen is None:
                seen, jobs = self._look(), []
                if not seen["exists"]:
                    jobs = [{"action": "run", "input": self.scenario.orders[0].given}]
                    continue
                if left:
                    operation = left.pop(0)
                    self.done.append(operation)
                    jobs = OPERATIONS[operation](self, seen, dice)
                    continue
            elif job["action"] == "cancel":
                self._check_named(seen)
            if jobs:
                continue
            if replies := self._replies(seen):
                jobs = [{"action": "run", "resume": replies}]
            elif seen["open"]:
                jobs = [{"action": "run"}]
            else:
                return seen
        raise AssertionError(f"{self.scenario.name} never ended: {self.done}")

    def _reply(self, question: dict[str, Any]) -> Any:
        if "confirm" in question["value"]:
            return _YES
        args = request_of(question)["args"]
        write = Write(args["tool"], args["tool_args"]["name"], args["tool_args"].get("text", ""))
        self.asked += 1
        self.asked_about[write] += 1
        if not _writes(self.workplace)[write]:
            return {"type": "edit", "args": {"decision": "run_again"}}
        text = f"{write.text} {_YES}" if write.tool == "confirm" else write.text
        output = output_of(write.tool, {"name": write.name, "text": text})
        return {"type": "edit", "args": {"decision": "happened", "output": output}}

    def _check_asked_again(self, question: dict[str, Any]) -> None:
        """An operation may have a settled question asked anew, by other work."""

    def _check_doubts(self, seen: dict[str, Any]) -> None:
        """Doubts are asked about in the course of a run, and all of them at its end."""

    def _check_named(self, seen: dict[str, Any]) -> None:
        """Who cancels a run is told what may have happened."""
        for row in doubtful_rows(self.workplace):
            if row["args"]["name"] not in (seen["final_answer"] or ""):
                self.broken.append(f"the cancelled run does not name {row['args']}")

    def edited(self, seen: dict[str, Any], step_id: str, needed: Sequence[str]) -> list[dict[str, Any]]:
        """Edit a step that nothing has begun, or add one in its place."""
        plan, begun = copy.deepcopy(seen["plan"]), {_top(line["name"]) for line in self._begun()}
        self._edits += 1
        found = [step for step in plan["steps"] if step["id"] == step_id and step_id not in begun]
        if found:
            found[0]["call"]["args"]["text"] = f"edited {self._edits}"
        else:
            there = {step["id"] for step in plan["steps"]}
            needs = [one for one in needed if one in there]
            plan["steps"].append(call(f"added{self._edits}", "send", "x", depends_on=needs))
        return [{"action": "edit", "input": plan}, {"action": "run"}]

    def _begun(self) -> list[dict[str, Any]]:
        return [line for line in self.log.lines() if "tool" in line]

    def unfinished(self, seen: dict[str, Any]) -> list[str]:
        """List the steps of the plan that have no result yet, in the state or on record."""
        ended = finished_steps(self.workplace) | set(seen["results"])
        return [step["id"] for step in (seen["plan"] or {"steps": []})["steps"] if step["id"] not in ended]


def _top(name: str) -> str:
    return name.partition("_")[0]


def _is_over(job: dict[str, Any], seen: dict[str, Any]) -> bool:
    """Tell whether an operation was refused because the run had ended, or nothing was left to do."""
    over = {"NothingToResumeError"}
    if job["action"] in ("retry", "edit"):
        over.add("InvalidInputError")  # no plan yet, or no step that failed
    return seen["error"] in over


def _resume(_: Operator, __: dict[str, Any], ___: random.Random) -> list[dict[str, Any]]:
    return [{"action": "run"}]


def _retry(person: Operator, seen: dict[str, Any], dice: random.Random) -> list[dict[str, Any]]:
    open_ = person.unfinished(seen)
    chosen = [step for step in open_ if dice.random() < 0.7] or open_[:1]
    return [{"action": "retry", "input": chosen or None}, {"action": "run"}]


def _retry_source(_: Operator, __: dict[str, Any], ___: random.Random) -> list[dict[str, Any]]:
    """Order a read again that the writes need: none of them is named."""
    return [{"action": "retry", "input": ["source"]}, {"action": "run"}]


def _retry_and_fork(_: Operator, __: dict[str, Any], dice: random.Random) -> list[dict[str, Any]]:
    return [{"action": "retry", "input": ["source"]}, {"action": "fork", "at": dice.random()}]


def _edit_other(person: Operator, seen: dict[str, Any], _: random.Random) -> list[dict[str, Any]]:
    return person.edited(seen, "other", []) if seen["plan"] else [{"action": "run"}]


def _edit_dependent(person: Operator, seen: dict[str, Any], _: random.Random) -> list[dict[str, Any]]:
    return person.edited(seen, "after", ["s"]) if seen["plan"] else [{"action": "run"}]


def _edit_itself(person: Operator, seen: dict[str, Any], _: random.Random) -> list[dict[str, Any]]:
    """Word the unit's task, or the goal of its sub-plan, otherwise; what it does stays the same."""
    plan = copy.deepcopy(seen["plan"])
    unit = next((step for step in (plan or {"steps": []})["steps"] if step["id"] == "s"), None)
    if unit is None or "s" not in person.unfinished(seen):
        return [{"action": "run"}]
    if "plan" in unit:
        unit["plan"]["goal"] = f"now {unit['plan']['goal']}"
    else:
        unit["task"] = f"now {unit.get('task', '')}"
    return [{"action": "edit", "input": plan}, {"action": "run"}]


def _edit_away(person: Operator, seen: dict[str, Any], _: random.Random) -> list[dict[str, Any]]:
    """Take the unit out of the plan; what it may have written is still asked about."""
    plan = copy.deepcopy(seen["plan"])
    if plan is None or "s" not in person.unfinished(seen):
        return [{"action": "run"}]
    plan["steps"] = [step for step in plan["steps"] if step["id"] != "s"]
    for step in plan["steps"]:
        step["depends_on"] = [needed for needed in step.get("depends_on", []) if needed != "s"]
    return [{"action": "edit", "input": plan}, {"action": "run"}]


def _fork(_: Operator, __: dict[str, Any], dice: random.Random) -> list[dict[str, Any]]:
    return [{"action": "fork", "at": dice.random()}]


def _update_state(_: Operator, seen: dict[str, Any], __: random.Random) -> list[dict[str, Any]]:
    # Before the planner has begun, LangGraph drops the input for the update.
    begun = "id" in (seen["plan"] or {})
    return [{"action": "update"}, {"action": "run"}] if begun else [{"action": "run"}]


def _cancel(_: Operator, __: dict[str, Any], ___: random.Random) -> list[dict[str, Any]]:
    """The run of an ended thread asks about what is in doubt; else there is nothing to resume."""
    return [{"action": "cancel"}, {"action": "run"}]


def _cancel_and_retry(person: Operator, seen: dict[str, Any], _: random.Random) -> list[dict[str, Any]]:
    open_ = person.unfinished(seen)
    return [{"action": "cancel"}, {"action": "retry", "input": open_ or None}, {"action": "run"}]


def _fresh(**more: Any) -> dict[str, Any]:
    return {"action": "run", "input": given("fresh", call("fresh", "send", "x"), **more).given}


def _cancel_and_go_on(_: Operator, seen: dict[str, Any], __: random.Random) -> list[dict[str, Any]]:
    return [{"action": "cancel"}, _fresh()] if seen["goal"] != "fresh" else [{"action": "run"}]


def _abandon(_: Operator, seen: dict[str, Any], __: random.Random) -> list[dict[str, Any]]:
    return [_fresh(abandon=True)] if seen["goal"] != "fresh" else [{"action": "run"}]


OPERATIONS: dict[str, Callable[[Operator, dict[str, Any], random.Random], list[dict[str, Any]]]] = {
    "resume": _resume,
    "retry": _retry,
    "retry source": _retry_source,
    "retry, fork": _retry_and_fork,
    "edit other": _edit_other,
    "edit dependent": _edit_dependent,
    "edit itself": _edit_itself,
    "edit away": _edit_away,
    "fork": _fork,
    "update_state": _update_state,
    "cancel": _cancel,
    "cancel, retry": _cancel_and_retry,
    "cancel, new goal": _cancel_and_go_on,
    "abandon": _abandon,
}
"""What follows a kill: jobs, by the name of the operation."""

# --- a trial -----------------------------------------------------------------------------


@dataclass
class Operated:
    """What came of kills and operations.

    Attributes:
        kind: The kind of run.
        faults: Where which process was killed.
        operations: What was done after the kills.
        killed: How many processes were killed.
        questions: How often a person was asked about a write.
        duplicates: Writes that happened more than once.
        unasked: Those of them that nobody was asked about.
        lost: Writes that are missing, steps that are not done.
        other: Whatever else broke a promise.
    """

    kind: str
    faults: dict[int, Point]
    operations: list[str] = field(default_factory=list)
    killed: int = 0
    questions: int = 0
    duplicates: list[str] = field(default_factory=list)
    unasked: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    @property
    def broken(self) -> list[str]:
        """Say which promises were broken."""
        parts = ("duplicates", "unasked", "lost", "other")
        return [f"{part}: {found}" for part in parts if (found := getattr(self, part))]


def draw_operations(
    whole: Whole, first: str, kills: int, dice: random.Random
) -> tuple[dict[int, Point], list[str]]:
    """Draw where to kill, mostly amid an effect, and what follows; ``first`` follows the first kill."""
    faults = {0: _point(whole.counts[0], dice, later=False)}
    for _ in range(1, kills):
        faults[max(faults) + dice.randint(1, 2)] = _point(whole.counts[0], dice, later=True)
    return faults, [first, *(dice.choice(list(OPERATIONS)) for _ in range(1, kills))]


def _point(counts: dict[str, int], dice: random.Random, *, later: bool) -> Point:
    kinds = [kind for kind in counts if kind in ("checkpoint", "pending", "ledger")]
    kind = "effect" if dice.random() < 0.6 else dice.choice(kinds)
    number = dice.randint(1, max(1, counts[kind]))
    return Point(kind, dice.choice(["before", "after"]), min(number, dice.randint(1, 6)) if later else number)


def operate(
    children: Children,
    folder: Path,
    whole: Whole,
    faults: Faults,
    operations: Sequence[str],
    seed: str,
) -> Operated:
    """Carry a run out with kills and operations, and judge what came of them."""
    workplace, kind = Workplace(folder, whole.mode), whole.scenario.name.removeprefix("operated_")
    trial = Operated(kind, dict(faults))
    person = Operator(children, workplace, whole.scenario, faults)
    seen = person.play(operations, random.Random(seed))
    trial.operations, trial.killed = person.done, len(person.killed)
    trial.questions, trial.other = person.asked, list(person.broken)
    writes = _writes(workplace)
    trial.duplicates = [f"{write} {times} times" for write, times in writes.items() if times > 1]
    trial.unasked = [
        str(write) for write, times in writes.items() if times > 1 and not person.asked_about[write]
    ]
    if "error" not in seen:
        _judge(trial, seen, whole, workplace, writes)
    return trial


def _judge(
    trial: Operated, seen: dict[str, Any], whole: Whole, workplace: Workplace, writes: Counter[Write]
) -> None:
    doubts = [row["args"]["name"] for row in doubtful_rows(workplace)]
    trial.other += [f"{name} is still in doubt" for name in doubts]
    cancelled = (seen["evaluation"] or {}).get("decision") == "abort"
    if cancelled and {"cancel", "cancel, retry", "cancel, new goal", "abandon"} & set(trial.operations):
        return
    if not seen["plan"]:
        trial.lost.append(f"the run ended {seen['status']} without a plan: {seen['final_answer']}")
        return
    names, results = {write.name for write in writes}, essence(seen["results"])
    for step in seen["plan"]["steps"]:
        found = results.get(step["id"])
        expected = UNITS[trial.kind][1] if step["id"] == "s" else [step["id"]]
        if found is None or found["status"] != "done":
            trial.lost.append(f"{step['id']} is {found}")
        elif (
            "tool" not in step.get("call", {"tool": ""})
            or step.get("call", {"tool": "send"})["tool"] == "send"
        ):
            trial.lost += [f"write {name}" for name in expected if name not in names]
    unit, before = results.get("s"), whole.end["results"]["s"]
    if unit is not None and unit["status"] == "done" and unit["output"] != before["output"]:
        trial.other.append(f"s gave {unit['output']} instead of {before['output']}")
    if not trial.lost and seen["status"] != "done":
        trial.lost.append(f"the run ended {seen['status']}: {seen['final_answer']}")


if __name__ == "__main__":
    serve(act)
