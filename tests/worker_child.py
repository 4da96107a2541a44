"""Workers in processes of their own, which take threads from one database until all have ended."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from crash_child import serve
from langgraph.types import Command, Interrupt
from logged_tools import Log, make_tools

from plan_execute import create_plan_execute_agent, local_persistence, postgres_persistence
from plan_execute.errors import ThreadError

AT_ONCE = 3
"""Threads that one worker runs at the same time."""


def act(job: dict[str, Any]) -> dict[str, Any]:
    """Take any thread that nobody runs and that has not ended, until there is none."""
    persistence = postgres_persistence if "postgres" in job["storage"] else local_persistence
    with persistence(job["db"]) as (saver, store):
        log = Log(job["log"])
        agent = create_plan_execute_agent(None, tools=make_tools(log), checkpointer=saver, store=store)
        left = list(job["threads"])
        with ThreadPoolExecutor(AT_ONCE) as pool:
            while left:
                random.shuffle(left)
                ended = list(pool.map(lambda thread: _take(agent, thread, log), left))
                left = [thread for thread, has_ended in zip(left, ended, strict=True) if not has_ended]
                time.sleep(0.02)
    return {"ended": len(job["threads"])}


def _take(agent: Any, thread: str, log: Log) -> bool:
    """Go on with a thread if nobody else does; tell whether it has ended."""
    config = {"configurable": {"thread_id": thread}}
    snapshot = agent.get_state(config)
    if not snapshot.tasks:  # `next` lacks tasks that had ended when their process was killed
        return True
    given = Command(resume=_answers(snapshot.interrupts, log)) if snapshot.interrupts else None
    try:
        log.append("run", thread=thread, status=agent.invoke(given, config)["status"])
    except ThreadError:
        return False  # somebody runs it, or went on with it since it was looked at
    return not agent.get_state(config).tasks


def _answers(questions: Sequence[Interrupt], log: Log) -> dict[str, Any]:
    return {question.id: _answer(question.value["action_requests"][0], log) for question in questions}


def _answer(request: dict[str, Any], log: Log) -> dict[str, Any]:
    """Approve a plan; say of a write whose outcome is unknown what the log of effects says."""
    if request["name"] == "approve_plan":
        return {"type": "approve"}
    assert request["name"] == "resolve_unknown_outcome", request
    given = request["args"]["tool_args"]
    if not log.calls("send")[given["name"]]:
        return {"type": "edit", "args": {"decision": "run_again"}}
    output = f"send {given['name']}: {given['text']}"
    return {"type": "edit", "args": {"decision": "happened", "output": output}}


if __name__ == "__main__":
    serve(act)
