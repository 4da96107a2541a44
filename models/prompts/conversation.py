"""Show the conversation before a goal, with what was found for the goals in it."""

from __future__ import annotations

from langchain_core.messages import AnyMessage

from ...state import State
from ...tools.calls import shortened
from . import quote

__all__ = ["earlier_messages", "quoted_conversation"]

_MESSAGES = 10


def earlier_messages(state: State) -> list[AnyMessage]:
    """List the exchange before this goal."""
    messages, goal = state.get("messages") or [], state.get("goal") or ""
    return messages[:-1] if messages and messages[-1].text.strip() == goal.strip() else messages


def quoted_conversation(state: State, mark: str) -> str:
    """Quote the exchange before this goal, if any, and the calls and outputs behind its answers."""
    earlier = earlier_messages(state)
    if not earlier:
        return ""
    lines = [f"{message.type}: {shortened(message.text, 2000)}" for message in earlier[-_MESSAGES:]]
    said = f"Earlier in this conversation:\n{quote('conversation', chr(10).join(lines), mark)}\n"
    plan = state.get("plan")
    before = [goal for goal in state.get("earlier") or () if plan is None or goal["plan_id"] != plan["id"]]
    found = "\n\n".join(f"Goal: {goal['goal']}\n{goal['found']}" for goal in before)
    return f"{said}What its answers came from:\n{quote('earlier results', found, mark)}\n" if found else said
