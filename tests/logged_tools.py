"""Tools whose every call stands on an append-only log, so that tests count what really happened.

A line is on the disk before the tool returns; lines of several processes do not mix.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from langchain_core.messages import AIMessage
from langchain_core.messages.tool import tool_call
from langchain_core.tools import BaseTool, StructuredTool

from plan_execute import ScriptedModel


class Log:
    """An append-only file of JSON lines that survives ``kill -9`` of its writers."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def append(self, kind: str, **fields: Any) -> None:
        line = json.dumps({"kind": kind, **fields, "pid": os.getpid()}) + "\n"
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, line.encode())
            os.fsync(handle)
        finally:
            os.close(handle)

    def lines(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        # What follows the last line break is being written by another process at this moment.
        *whole, _ = self.path.read_text().split("\n")
        return [json.loads(line) for line in whole]

    def calls(self, *tools: str) -> Counter[str]:
        """Count the calls that took effect, by the name they were given."""
        return Counter(
            line["name"]
            for line in self.lines()
            if line["kind"] == "call" and (not tools or line["tool"] in tools)
        )

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)


def make_tools(log: Log) -> list[BaseTool]:
    """Make the tools.

    ``look`` and ``nap`` (async) read, ``put`` is idempotent, ``send`` writes, ``unsteady`` writes or
    fails, ``stall`` reads or hangs; what is in the way of the last two is a file (see `break_tool`).
    """

    def look(name: str, q: Any = "", delay: float = 0.0) -> str:
        """Look something up."""
        return _act(log, "look", name, q, delay)

    def put(name: str, value: Any = "", delay: float = 0.0) -> str:
        """Set a value."""
        return _act(log, "put", name, value, delay)

    def send(name: str, text: Any = "", delay: float = 0.0) -> str:
        """Send a message."""
        return _act(log, "send", name, text, delay)

    async def nap(name: str, q: Any = "", delay: float = 0.0) -> str:
        """Look something up without blocking."""
        log.append("begin", tool="nap", name=name)
        await asyncio.sleep(delay)
        log.append("call", tool="nap", name=name)
        return f"nap {name}: {q}"

    def unsteady(name: str, text: Any = "", delay: float = 0.0) -> str:
        """Send a message; fail while the file ``<log>.<name>`` exists."""
        if Path(f"{log.path}.{name}").exists():
            log.append("call", tool="unsteady", name=name)
            raise OSError(f"{name} is out of order")
        return _act(log, "unsteady", name, text, delay)

    def stall(name: str, q: Any = "", delay: float = 0.0) -> str:
        """Look something up; hang while the file ``<log>.<name>`` exists."""
        log.append("begin", tool="stall", name=name)
        while Path(f"{log.path}.{name}").exists():
            time.sleep(0.01)
        log.append("call", tool="stall", name=name)
        return f"stall {name}: {q}"

    effects = {"look": "read", "stall": "read", "put": "idempotent", "send": "write", "unsteady": "write"}
    sync = [
        StructuredTool.from_function(function, metadata={"effect": effects[function.__name__]})
        for function in (look, put, send, unsteady, stall)
    ]
    return [*sync, StructuredTool.from_function(coroutine=nap, metadata={"effect": "read"})]


def _act(log: Log, tool: str, name: str, value: Any, delay: float) -> str:
    for moment in ("begin", "call"):
        log.append(moment, tool=tool, name=name)
        while _hold(log, name, moment).exists():
            time.sleep(0.01)
        time.sleep(delay / 2)
    return f"{tool} {name}: {value}"


@contextmanager
def held(log: Log, name: str, moment: str) -> Iterator[None]:
    """Hold the call of this name once it has logged this moment: "begin" before it acts, "call" after."""
    _hold(log, name, moment).touch()
    yield
    _hold(log, name, moment).unlink()


def _hold(log: Log, name: str, moment: str) -> Path:
    return Path(f"{log.path}.{name}.{moment}")


def break_tool(log: Log, name: str) -> None:
    """Let ``unsteady`` fail, and ``stall`` hang, for this name."""
    Path(f"{log.path}.{name}").touch()


def mend_tool(log: Log, name: str) -> None:
    """Let them work again for this name."""
    Path(f"{log.path}.{name}").unlink()


def bound(step_id: str, tool: str, *needs: str, delay: float = 0.0, **more: Any) -> dict[str, Any]:
    """Write a bound step that calls ``tool`` under its own id with the outputs it needs."""
    value = " ".join(f"${{{need}}}" for need in needs)
    key = {"look": "q", "nap": "q", "stall": "q", "put": "value"}.get(tool, "text")
    args = {"name": step_id, key: value, "delay": delay}
    return {"id": step_id, "task": f"do {step_id}", "call": {"tool": tool, "args": args}, **more}


def plan(*steps: dict[str, Any]) -> dict[str, Any]:
    """Write a plan as input."""
    return {"plan": {"goal": "prove it", "steps": list(steps)}}


def two_turn_model(second: str = "send") -> ScriptedModel:
    """Make a model that calls ``look``, then ``second``, then answers; as the conversation says.

    Its calls get new ids whenever it is asked, as those of real models do.
    """

    def turn(messages: list[Any]) -> Any:
        step = "think"
        said = sum(message.type == "tool" for message in messages)
        if said == 0:
            return _call("look", {"name": f"{step}_look", "delay": 0.02})
        if said == 1:
            value = {"send": {"text": "mail"}, "put": {"value": "mail"}}[second]
            return _call(second, {"name": f"{step}_{second}", "delay": 0.04, **value})
        return f"thought: {messages[-1].text}"

    said = {"planner": [_sub_plan()], "executor": [turn], "synthesizer": ["The end."]}
    return ScriptedModel(said, strict=False)


def _sub_plan() -> dict[str, Any]:
    """What the model plans for any goal: look, then send twice."""
    steps = [("sub_look", "look", []), ("sub_a", "send", ["sub_look"]), ("sub_b", "send", ["sub_look"])]
    return {
        "outcome": "plan",
        "rationale": "",
        "steps": [
            {
                "id": step_id,
                "task": step_id,
                "depends_on": needs,
                "call": tool,
                "arguments": json.dumps({"name": step_id, "delay": 0.02}),
                "tools": [],
                "success_criterion": None,
            }
            for step_id, tool, needs in steps
        ],
    }


def _call(tool: str, args: dict[str, Any]) -> AIMessage:
    return AIMessage("", tool_calls=[tool_call(name=tool, args=args, id=uuid4().hex)])


def essence(results: dict[str, Any]) -> dict[str, Any]:
    """What a result says, without when and at what cost."""
    return {
        step_id: {key: result[key] for key in ("status", "output", "verdict", "error")}
        for step_id, result in results.items()
    }


def truthful(question: dict[str, Any], log: Log) -> dict[str, Any]:
    """Answer a question about a write as the log of effects says."""
    value = question["value"]["action_requests"][0]
    assert value["name"] == "resolve_unknown_outcome", value
    args = value["args"]
    name = args["tool_args"]["name"]
    if log.calls("send")[name]:
        output = f"send {name}: {args['tool_args'].get('text', '')}"
        return {"type": "edit", "args": {"decision": "happened", "output": output}}
    return {"type": "edit", "args": {"decision": "run_again"}}
