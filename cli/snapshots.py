"""What a thread's stored state says: its status, results and open questions, also amid a superstep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from langchain_core.messages import BaseMessage

from ..errors import ThreadNotFoundError
from ..people.questions import OpenQuestion

if TYPE_CHECKING:
    from langgraph.types import StateSnapshot

    from ..graph.agent import PlanExecuteAgent

__all__ = ["OpenQuestion", "look_up", "open_questions", "recalled", "results_of", "status_of", "values_of"]


def look_up(agent: PlanExecuteAgent, thread: str) -> StateSnapshot:
    """Read a thread's state.

    Raises:
        ThreadNotFoundError: If there is no such thread.
    """
    snapshot = agent.get_state({"configurable": {"thread_id": thread}})
    if snapshot.created_at is None:
        raise ThreadNotFoundError(f"there is no thread {thread!r}; `plan-execute list` names those there are")
    return snapshot


def open_questions(snapshot: StateSnapshot) -> list[OpenQuestion]:
    """List the questions that wait for a person."""
    return [OpenQuestion.of(interrupt) for interrupt in snapshot.interrupts]


def status_of(snapshot: StateSnapshot) -> str:
    """Tell a thread's status; ``waiting`` while a question is open."""
    return "waiting" if snapshot.interrupts else str(snapshot.values.get("status") or "planning")


def results_of(snapshot: StateSnapshot) -> dict[str, Any]:
    """Give the results by step; LangGraph adds those of a superstep that has not ended."""
    return dict(snapshot.values.get("results") or {})


def recalled(values: Mapping[str, Any]) -> str | None:
    """Say from where in the plan cache the current plan is; None: the planner or somebody else wrote it."""
    plan = values.get("plan") or {}
    for event in reversed(values.get("audit") or ()):
        is_this = event.get("plan_id") == plan.get("id") and event.get("revision") == plan.get("revision")
        if event["event"] == "plan_recalled" and is_this:
            return str(event["evidence"][0])
    return None


def values_of(snapshot: StateSnapshot) -> dict[str, Any]:
    """Give the whole state as JSON values."""
    values = {**snapshot.values, "status": status_of(snapshot)}
    messages = [
        message.model_dump(mode="json") for message in values.get("messages") or () if _is_message(message)
    ]
    return values | {"messages": messages, "next": list(snapshot.next)}


def _is_message(value: Any) -> bool:
    return isinstance(value, BaseMessage)
