"""What the kill sweep plays: the orders, the plans, what models say, and what a person answers.

A scenario says everything about a run but where it is killed. Models and people answer by what they
see, never by counting, so that a new process gets the answers that the killed one got.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any
from uuid import uuid4

from counted import Countdown
from langchain_core.messages import AIMessage
from langchain_core.messages.tool import tool_call
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.types import interrupt
from logged_tools import Log

from plan_execute import InjectedIdempotencyKey, ScriptedModel

FREE = {"approval": "never", "on_failure": "abort", "max_attempts": 1}
LEFT_OPEN = "left open"
"""A reply of a person who does not answer before the next order."""


@dataclass(frozen=True)
class Order:
    """What a person tells a thread to do: ``run`` an input, or ``edit``, ``retry``, ``cancel``."""

    action: str
    given: Any = None
    goal: str = ""
    """The thread's goal once the order has been taken."""


@dataclass(frozen=True)
class Scenario:
    """A run and everything around it that is the same with kills as without.

    Attributes:
        replies: What a person answers, by ``question:step`` (``approve_plan:rationale``).
        one_by_one: Whether a person answers one question at a time when several are open.
        wrong: What a person answers before every right answer, and what refuses it.
        parent: Whether the agent is a node of a parent graph.
        budget: Whether the run may end early, because calls that a kill cut off have used up a budget.
        ordered_again: Steps that may run again although they had ended: a person says so.
    """

    name: str
    orders: tuple[Order, ...]
    context: Mapping[str, Any] = field(default_factory=lambda: FREE)
    script: Mapping[str, Any] = field(default_factory=dict)
    replies: Mapping[str, Any] = field(default_factory=dict)
    one_by_one: bool = False
    wrong: Any = None
    parent: bool = False
    budget: bool = False
    ordered_again: frozenset[str] = frozenset()


def call(step_id: str, tool: str, text: str = "", **more: Any) -> dict[str, Any]:
    """Write a bound step that calls a tool under the step's own name."""
    args = {"name": step_id, "text": text}
    return {"id": step_id, "task": f"do {step_id}", "call": {"tool": tool, "args": args}, **more}


def given(goal: str, *steps: dict[str, Any], **more: Any) -> Order:
    """Order a plan to be run; ``more`` stands beside it in the input."""
    declared = {name: {} for name in more.get("inputs", {})}
    return Order("run", {"plan": {"goal": goal, "inputs": declared, "steps": list(steps)}, **more}, goal)


def drafted(rationale: str, *steps: tuple[str, str, str], complete: bool = True) -> dict[str, Any]:
    """Write a plan as a model does: steps of (id, tool, text)."""
    return {
        "outcome": "plan",
        "rationale": rationale,
        "complete": complete,
        "steps": [
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
        ],
    }


# --- tools -------------------------------------------------------------------------------


def output_of(tool: str, args: Mapping[str, Any]) -> str:
    """Say what a call of a tool gives."""
    return f"{tool} {args['name']}: {args['text']}"


def make_tools(log: Log, countdown: Countdown) -> list[BaseTool]:
    """Make the tools, each of which names its effect.

    ``look`` reads, ``put`` is idempotent, ``send`` writes; ``refuse`` fails, ``shaky`` fails at the first
    attempt, both before anything is done; ``confirm`` asks a person and then writes.
    """

    def act(tool: str, name: str, text: str, key: str) -> str:
        log.append("begin", tool=tool, name=name)
        with countdown.around("effect"):
            log.append("call", tool=tool, name=name, text=text, key=key)
        return output_of(tool, {"name": name, "text": text})

    def fail(tool: str, name: str, key: str = "") -> None:
        log.append("begin", tool=tool, name=name)
        with countdown.around("effect"):
            log.append("refused", tool=tool, name=name, key=key)
        raise OSError(f"{name} is out of order")

    def look(name: str, key: Annotated[str, InjectedIdempotencyKey()], text: str = "") -> str:
        """Look something up."""
        return act("look", name, text, key)

    def names(name: str, text: str = "") -> list[str]:
        """List two names."""
        act("names", name, text, "")
        return ["a", "b"]

    def put(name: str, key: Annotated[str, InjectedIdempotencyKey()], text: str = "") -> str:
        """Set a value."""
        return act("put", name, text, key)

    def send(name: str, key: Annotated[str, InjectedIdempotencyKey()], text: str = "") -> str:
        """Send a message."""
        return act("send", name, text, key)

    def refuse(name: str, text: str = "") -> str:
        """Fail before anything is done."""
        fail("refuse", name)
        return ""

    def shaky(name: str, key: Annotated[str, InjectedIdempotencyKey()], text: str = "") -> str:
        """Send a message; the first attempt, which has a key of its own, fails before anything is done."""
        refused = {line["key"] for line in log.lines() if line["kind"] == "refused" and line["name"] == name}
        if not refused - {key}:
            fail("shaky", name, key)
        return act("shaky", name, text, key)

    def confirm(name: str, key: Annotated[str, InjectedIdempotencyKey()], text: str = "") -> str:
        """Ask a person, then send a message."""
        said = interrupt({"confirm": name})
        return act("confirm", name, f"{text} {said}", key)

    writes = (send, refuse, shaky, confirm)
    effects = {"look": "read", "names": "read", "put": "idempotent"} | {
        tool.__name__: "write" for tool in writes
    }
    return [
        StructuredTool.from_function(function, metadata={"effect": effects[function.__name__]})
        for function in (look, names, put, *writes)
    ]


WRITES = frozenset({"send", "shaky", "confirm"})
"""Tools whose calls must happen once."""
IN_DOUBT = WRITES | {"refuse"}
"""Tools whose calls a person is asked about when nobody saw how they ended."""


# --- models ------------------------------------------------------------------------------


def make_model(scenario: Scenario, log: Log) -> ScriptedModel:
    """Make a model that answers by what was said, and notes on the log that it was asked."""

    def heard(role: str, reply: Any) -> Callable[[list[Any]], Any]:
        def answer(messages: list[Any]) -> Any:
            log.append("model", role=role)
            return reply(messages) if callable(reply) else reply

        return answer

    script = {"executor": _turn, "synthesizer": "The end.", **scenario.script}
    return ScriptedModel({role: [heard(role, reply)] for role, reply in script.items()}, strict=False)


def _turn(messages: list[Any]) -> Any:
    said = [message for message in messages if message.type == "tool"]
    if not said:
        return calls(("look", "agent_one"), ("look", "agent_two"))
    if len(said) == 2:
        return calls(("put", "agent_put"), ("send", "agent_send"))
    if len(said) == 4:
        return calls(("send", "agent_last"))
    return " | ".join(sorted(message.text for message in said))


def calls(*made_of: tuple[str, str]) -> AIMessage:
    """Write a turn of an agent that calls tools, by tool and name."""
    # New ids whenever it is asked, as those of real models.
    made = [tool_call(name=tool, args={"name": name, "text": "x"}, id=uuid4().hex) for tool, name in made_of]
    return AIMessage("", tool_calls=made)


def _heard(messages: list[Any], text: str) -> bool:
    return any(text in str(message.content) for message in messages)


# --- the scenarios -----------------------------------------------------------------------

_MENDED = drafted("around it", ("mended", "put", "${mailed}"), ("found", "send", "${mended}"))

_NAMED_BY_ITEM = {"tool": "send", "args": {"name": "${item}", "text": "${source}"}}

MENDED = Scenario(
    "mended",
    orders=(
        given(
            "survive",
            call("source", "look"),
            call("stored", "put", "${source}"),
            call("mailed", "send", "${source}"),
            {"id": "agent", "task": "think about ${stored}", "tools": ["look", "put", "send"]},
            call("broken", "refuse", "${mailed}", on_failure="patch"),
            call("lost", "send", "${broken}"),
            call("report", "send", "${agent} ${mailed}"),
            {"id": "each", "task": "do each", "for_each": "${inputs.names}", "call": _NAMED_BY_ITEM},
            inputs={"names": ["each_a", "each_b", "each_c"]},
        ),
    ),
    script={"replanner": _MENDED},
)
"""Reads, idempotent calls, writes, a loop of writes, an agent with several calls, a failure and its patch."""


def _edited(question: str, **args: Any) -> dict[str, Any]:
    return {"type": "edit", "args": args}


ASKED = Scenario(
    "asked",
    orders=(
        given(
            "ask",
            call("source", "look"),
            call("checked", "send", "${source}", approve=True),
            call("unsteady", "shaky", "${source}", on_failure="ask"),
            call("hopeless", "refuse", "${source}", on_failure="ask"),
            call("vowed", "confirm", "${source}"),
            call("agreed", "put", "${vowed}", approve=True),
            call("report", "send", "${checked} ${unsteady} ${hopeless} ${agreed}"),
        ),
    ),
    context={"approval": "always", "on_failure": "ask", "max_attempts": 1},
    replies={
        "approve_plan:": "approve",
        "approve_step:checked": _edited("step", call={"args": {"name": "checked", "text": "in other words"}}),
        "approve_step:agreed": "approve",
        "handle_step_failure:unsteady": _edited("failure", decision="retry"),
        "handle_step_failure:hopeless": _edited("failure", decision="supply", output="by hand"),
        "confirm:vowed": "yes",
    },
    one_by_one=True,
    wrong={"type": "perhaps"},
)
"""A plan, steps, failures and a tool that all ask; several questions open at once; wrong answers amid."""

_FIRST = drafted("the first", ("noted", "look", "x"), ("told", "send", "${noted}"))
_SECOND = drafted("the second", ("noted", "look", "x"), ("told", "send", "${noted}"), ("kept", "put", "x"))
_ADDED = call("added", "send", "${kept}")

REVIEWED = Scenario(
    "reviewed",
    orders=(Order("run", {"goal": "tell them"}, "tell them"),),
    context={"approval": "always", "on_failure": "abort", "max_attempts": 1},
    script={"planner": lambda messages: _SECOND if _heard(messages, "keep a copy") else _FIRST},
    replies={
        "approve_plan:the first": {"type": "reject", "message": "keep a copy"},
        "approve_plan:the second": _edited(
            "plan",
            plan={
                "goal": "tell them",
                "rationale": "edited",
                "steps": [
                    call("noted", "look", "x"),
                    call("told", "send", "${noted}"),
                    call("kept", "put", "x"),
                    _ADDED,
                ],
            },
        ),
    },
    wrong={"type": "edit"},
)
"""A plan that a model writes, a person rejects with feedback, then edits."""

FOLLOWED = Scenario(
    "followed",
    orders=(
        given(
            "first",
            call("one", "send"),
            call("two", "refuse", "${one}", on_failure="replan"),
            call("three", "send", "${two}"),
        ),
        Order("run", {"goal": "second"}, "second"),
    ),
    script={
        "planner": drafted("anew", ("four", "look", "x"), ("five", "send", "${four}")),
        "replanner": drafted("otherwise", ("six", "put", "${one}"), ("seven", "send", "${six}")),
    },
)
"""A goal whose plan is written anew on the way, and a second goal on the same thread."""

_CHANGED = [call("kept", "put"), call("sent", "send", "${kept}")]

CHANGED = Scenario(
    "changed",
    orders=(
        given(
            "change",
            *_CHANGED,
            call("stuck", "refuse", "${sent}", on_failure="ask"),
            call("after", "put", "${stuck}"),
        ),
        Order(
            "edit",
            {
                "goal": "change",
                "steps": [*_CHANGED, call("stuck", "send", "edited"), call("after", "put", "${stuck}")],
            },
        ),
        Order("retry", ["after"]),
    ),
    replies={"handle_step_failure:stuck": LEFT_OPEN},
    ordered_again=frozenset({"after"}),
)
"""A plan that a person edits from outside while a question is open; then a finished step ordered again."""

CANCELLED = Scenario(
    "cancelled",
    orders=(
        given("stop", call("sent", "send"), call("stuck", "refuse", "${sent}", on_failure="ask")),
        Order("cancel"),
    ),
    replies={"handle_step_failure:stuck": LEFT_OPEN},
)
"""A run that a person ends from outside."""

ABANDONED = Scenario(
    "abandoned",
    orders=(
        given("leave", call("sent", "send"), call("stuck", "refuse", "${sent}", on_failure="ask")),
        given("other", call("read", "look"), call("told", "send", "${read}"), abandon=True),
    ),
    replies={"handle_step_failure:stuck": LEFT_OPEN},
)
"""A new goal that says that it abandons the open one."""

_ROUNDS = [
    drafted("round one", ("first", "look", "here"), ("told", "send", "${first}"), complete=False),
    drafted("round two", ("second", "put", "${told}"), ("tolder", "send", "${second}"), complete=False),
    drafted("the last round", ("third", "send", "${tolder}")),
]


def _plan_on(messages: list[Any]) -> Any:
    said = str(messages[-1].text)
    return _ROUNDS[sum(f"- {step_id} (" in said for step_id in ("first", "second"))]


ROLLING = Scenario(
    "rolling",
    orders=(Order("run", {"goal": "survive, a few steps at a time"}, "survive, a few steps at a time"),),
    script={"planner": _plan_on},
)
"""A plan that is planned on with what its steps have found, twice."""

LIMITED = replace(
    MENDED, name="limited", context={**FREE, "max_tool_calls": 16, "max_model_calls": 7}, budget=True
)
"""Just enough calls for a run that nothing cuts off."""

EXTENDED = Scenario(
    "extended",
    orders=(
        given(
            "go on",
            call("one", "send"),
            call("two", "put", "${one}"),
            call("three", "send", "${two}"),
            call("four", "look", "${three}"),
            call("five", "send", "${four}"),
            call("six", "put", "${five}"),
        ),
    ),
    context={**FREE, "max_tool_calls": 6, "soft_share": 0.4},
    replies={"extend_budget:": _edited("budget", decision="extend", by=100)},
)
"""A budget whose soft share is used up halfway, and a person who extends it."""

NESTED = replace(MENDED, name="nested", parent=True)
"""The same inside a parent graph."""
NESTED_ASKED = replace(ASKED, name="nested_asked", parent=True, wrong=None)
"""Questions that surface in a parent graph, and are answered there."""

LARGE = Scenario(
    "large",
    orders=(
        given(
            "carry it on",
            call("source", "look", "x" * 2000),
            call("mailed", "send", "${source}"),
            call("report", "put", "${mailed}"),
        ),
    ),
    context={**FREE, "max_inline_bytes": 1000},
)
"""Outputs that go to the store before the ledger and the state refer to them."""

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        MENDED,
        ASKED,
        REVIEWED,
        FOLLOWED,
        CHANGED,
        CANCELLED,
        ABANDONED,
        ROLLING,
        LIMITED,
        EXTENDED,
        LARGE,
        NESTED,
        NESTED_ASKED,
    )
}
