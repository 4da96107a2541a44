"""Prepare a thread's state for clients: its question where they look for it, and the agents of its steps.

LangGraph looks for the state of a subgraph under the id of the calling task. An agent's conversation is
stored under the identity of its work instead, so that it continues from any superstep, fork or edit.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

from langchain_core.messages.utils import convert_to_messages
from langchain_core.runnables import RunnableConfig
from langgraph.types import Interrupt, StateSnapshot

from ..langgraph_private import NAMESPACE, sent_orders
from ..people.chat import current_question
from ..tracing.marks import AGENT, STEP

__all__ = ["agent_instead_of_task", "declared_name", "question_last", "with_agents"]

GetState = Callable[..., Awaitable[StateSnapshot]]

_TASK = re.compile(r"executor:([0-9a-f]{8}-[0-9a-f-]{27})")
_ATTEMPT = re.compile(r"executor\|attempt_\d+(_item_\d+)?")


def question_last(snapshot: StateSnapshot) -> StateSnapshot:
    """Put the question for an answer without an id where chat clients look for it.

    LangGraph's ``useStream`` shows only the last interrupt of the last task.
    """
    if not snapshot.interrupts or not isinstance(snapshot.values, dict):
        return snapshot
    # A server reads messages and interrupts as JSON here.
    messages: list[Any] = convert_to_messages(snapshot.values.get("messages") or [])
    shown = current_question([_interrupt(one) for one in snapshot.interrupts], messages)

    def is_shown(one: Any) -> bool:
        return shown is not None and _interrupt(one).id == shown.id

    tasks = [
        task._replace(interrupts=tuple(sorted(task.interrupts, key=is_shown))) for task in snapshot.tasks
    ]
    tasks.sort(key=lambda task: any(map(is_shown, task.interrupts)))
    return snapshot._replace(tasks=tuple(tasks))


def _interrupt(one: Any) -> Interrupt:
    return Interrupt(value=one.get("value"), id=one["id"]) if isinstance(one, dict) else one


def declared_name(namespace: str | None) -> str | None:
    """Return the declared name of a namespace's subgraph."""
    return "executor|agent" if namespace is not None and _ATTEMPT.fullmatch(namespace) else namespace


async def agent_instead_of_task(config: RunnableConfig, get_state: GetState, saver: Any) -> RunnableConfig:
    """Return the newest conversation of a step's agent if the step's task is named.

    Args:
        config: Names the thread, and perhaps a task of it.
        get_state: Reads the graph's own state.
        saver: The checkpointer.
    """
    address = config["configurable"]
    named = _TASK.fullmatch(address.get(NAMESPACE) or "")
    if named is None:
        return config
    thread: RunnableConfig = {"configurable": {"thread_id": address["thread_id"]}}
    snapshot = await get_state(thread)
    path = next((task.path for task in snapshot.tasks if task.id == named[1]), None)
    kept = await saver.aget_tuple(snapshot.config)
    orders = sent_orders(kept.checkpoint) if kept is not None else []
    if path is None or not isinstance(path[1], int) or path[1] >= len(orders):
        return config
    marks = {STEP: orders[path[1]].get("step_id"), AGENT: "step_agent"}
    async for found in saver.alist(thread, filter=marks, limit=1):
        namespace = found.config["configurable"][NAMESPACE]
        return {**config, "configurable": {**thread["configurable"], NAMESPACE: namespace}}
    return config


async def with_agents(snapshot: StateSnapshot, get_state: GetState) -> StateSnapshot:
    """Put the states of a thread's agents into the tasks of its state."""
    tasks = []
    for task in snapshot.tasks:
        if isinstance(address := task.state, dict):
            inner = await get_state(address, subgraphs=True)
            task = task._replace(state=inner if inner.created_at is not None else None)
        tasks.append(task)
    return snapshot._replace(tasks=tuple(tasks))
