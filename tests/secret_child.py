"""A run in which everything that can speak says a secret, in a process of its own that can be killed."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any
from uuid import uuid4

from crash_child import Children, Workplace, serve
from langchain_core.messages import AIMessage
from langchain_core.messages.tool import tool_call
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.types import Command, interrupt
from plans import draft, draft_step

from plan_execute import ScriptedModel, create_plan_execute_agent, local_persistence
from plan_execute.safety.redaction import _base64_cores, _written_forms

NAME = "PLANTED_API_KEY"
SECRET = 'pl4nted/S3cret+"Value"=\\7'
KEY = "sk-proj-" + "aB3dE5fG7h" * 4
"""A key that no variable holds."""
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
BOTH = f"{SECRET} and {KEY}"
CONFIG = {"configurable": {"thread_id": "t"}, "metadata": {"customer": SECRET}}
MODES = ["values", "updates", "messages", "custom", "debug", "tasks", "checkpoints"]


def traces() -> Iterator[tuple[str, bytes]]:
    """Give everything that must not be found in a file, with what it is."""
    for value in (SECRET, KEY, JWT):
        forms = [*_written_forms(value), *_base64_cores(value)]
        yield from ((form, form.encode()) for form in forms)
        yield f"{value} in UTF-16", value.encode("utf-16-le")
        yield f"part of {value}", value[4:20].encode()


def found_in(*paths: Path) -> list[str]:
    """Name the traces of a secret in these files."""
    held = [path.read_bytes() for path in paths if path.exists()]
    return [name for name, trace in traces() for content in held if trace in content]


def make_tools(log: str) -> list[BaseTool]:
    """Make tools that say the secret in every way, and count their calls on a log of process ids."""

    def count(name: str) -> None:
        with Path(log).open("a") as lines:
            lines.write(f"{name}\n")

    def leak() -> dict[str, Any]:
        """Give the secret away."""
        count("leak")
        return {
            "key": SECRET,
            SECRET: [KEY, {"deep": JWT}],
            "header": "Basic " + base64.b64encode(f"user:{SECRET}".encode()).decode(),
            "config": json.dumps({"key": SECRET}),
            "wide": base64.b64encode(f"k={SECRET}".encode("utf-16-le")).decode(),
            "bytes": f"raw {SECRET}".encode(),
            "url": f"postgres://app:{KEY[:20]}@db/x",
            "text": f"the key is {SECRET}, really",
        }

    def boom(q: str = "") -> str:
        """Fail, and say why in too many words."""
        count("boom")
        raise ValueError("x" * 280 + BOTH + "y" * 600 + BOTH)

    def send(text: str) -> str:
        """Send a message."""
        count(f"send {text[:20]}")
        assert not found(text), "a tool was called with a secret"
        return f"sent {text} with {SECRET}"

    def confirm(q: str) -> str:
        """Ask a person within the tool."""
        return f"they said {interrupt({'question': f'may I use {SECRET}?'})} {q}"

    effects = {"leak": "read", "boom": "read", "send": "write", "confirm": "read"}
    return [
        StructuredTool.from_function(function, metadata={"effect": effects[function.__name__]})
        for function in (leak, boom, send, confirm)
    ]


def found(text: str) -> bool:
    return any(trace.decode("utf-8", "ignore") in text for _, trace in traces() if trace.isascii())


def model(seen: list[str]) -> ScriptedModel:
    """Make a model that repeats the secret in all its answers; what it is told is noted in ``seen``."""

    def turn(messages: list[Any]) -> AIMessage:
        seen.extend(str(message) for message in messages)
        said = sum(message.type == "tool" for message in messages)
        calls = [
            ("leak", {}),
            ("send", {"text": f"a {BOTH}"}),
            ("send", {"text": SECRET}),
            ("boom", {"q": KEY}),
        ]
        if said < len(calls):
            name, args = calls[said]
            return AIMessage(f"use {BOTH}", tool_calls=[tool_call(name=name, args=args, id=uuid4().hex)])
        return AIMessage(f"my answer holds {BOTH}")

    def plan(messages: list[Any]) -> dict[str, Any]:
        seen.extend(str(message) for message in messages)
        return draft(
            draft_step("leak", "leak", {}),
            draft_step("think", None, None, "leak", tools=["leak", "send", "boom"], task=f"use {BOTH}"),
            draft_step("confirm", "confirm", {"q": "${leak.text}"}),
            draft_step("boom", "boom", {}, "think"),
            draft_step("send", "send", {"text": "to ${leak.text} ${boom}"}),
            rationale=f"because of {BOTH}",
        )

    def text(messages: list[Any]) -> str:
        seen.extend(str(message) for message in messages)
        return f"The answer is {BOTH}."

    decision = {"decision": "ask", "reason": f"of {BOTH}", "hint": f"try {SECRET}"}
    script = {"planner": [plan], "executor": [turn], "evaluator": [decision], "synthesizer": [text]}
    return ScriptedModel(script, strict=False)


def act(job: dict[str, Any]) -> dict[str, Any]:
    """Run until a question or the end; every event goes to a file."""
    os.environ[NAME] = SECRET
    return asyncio.run(_run(job))


async def _run(job: dict[str, Any]) -> dict[str, Any]:
    seen: list[str] = []
    async with local_persistence(job["db"], **job.get("options", {})) as (saver, store):
        agent = create_plan_execute_agent(
            model(seen), make_tools(job["log"]), checkpointer=saver, store=store
        )
        given = Command(resume=job["resume"]) if job["resume"] is not None else job["input"]
        options = {"context": job["context"], "stream_mode": MODES, "subgraphs": True}
        stream = agent.astream(given, CONFIG, **options)
        with Path(job["events"]).open("a") as events:
            async with aclosing(stream):
                async for event in stream:
                    events.write(f"{event}\n")
                    events.flush()
        snapshot = await agent.aget_state(CONFIG)
    assert not any(map(found, seen)), "a model was told a secret"
    return {
        "status": snapshot.values.get("status"),
        "questions": [{"id": i.id, "value": i.value} for i in snapshot.interrupts],
        "results": snapshot.values.get("results") or {},
        "plan": snapshot.values.get("plan"),
        "final_answer": snapshot.values.get("final_answer"),
    }


# --- in the test -------------------------------------------------------------------------

SETTINGS = {"approval": "always", "max_attempts": 1}


def answered(questions: list[dict[str, Any]], rounds: int) -> dict[str, Any]:
    """Answer every open question with the secret in it."""
    answers: dict[str, Any] = {}
    for question in questions:
        value = question["value"]
        name = value["action_requests"][0]["name"] if "action_requests" in value else "tool"
        answers[question["id"]] = {
            "approve_plan": {"type": "reject", "message": f"use {BOTH} instead"}
            if not rounds
            else {"type": "approve"},
            "handle_step_failure": {
                "type": "edit",
                "args": {"decision": "supply", "output": {"by hand": BOTH}, "instructions": BOTH},
            },
            "resolve_unknown_outcome": {
                "type": "edit",
                "args": {"decision": "happened", "output": f"it did, with {BOTH}"},
            },
            "tool": f"yes, use {BOTH}",
        }[name]
    return answers


def finish(
    children: Children,
    workplace: Workplace,
    events: Path,
    *,
    kills: int = 0,
    dice: random.Random | None = None,
    options: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Bring the run to its end, killing it ``kills`` times on the way."""
    job = {"input": {"goal": f"do it with {BOTH}"}, "resume": None}
    rounds = killed = 0
    for _ in range(40):
        child = children.start(workplace, context=SETTINGS, events=str(events), options=options or {}, **job)
        if killed < kills:
            time.sleep((dice or random.Random(0)).uniform(0.05, 0.6))
            child.kill()
            killed += 1
            if not child.out.exists():
                # a question may be open already: then going on asks it again
                job = {"input": None, "resume": None}
                continue
        answer = child.answer()
        if answer.get("error") == "ThreadNotFoundError":
            job: dict[str, Any] = {"input": {"goal": f"do it with {BOTH}"}, "resume": None}
        elif "error" in answer:
            raise AssertionError(answer)
        elif answer["questions"]:
            job = {"input": None, "resume": answered(answer["questions"], rounds)}
            rounds += 1
        else:
            return answer
    raise AssertionError("the run came to no end")


if __name__ == "__main__":
    serve(act)
