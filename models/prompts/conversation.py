"""Show the conversation before a goal, with the findings of its earlier goals."""

from __future__ import annotations

from langchain_core.messages import AnyMessage

from ...state import State, is_for_people
from ...tools.texts import shortened
from . import quote

__all__ = ["earlier_messages", "quoted_conversation"]

_MESSAGES = 10


def earlier_messages(state: State) -> list[AnyMessage]:
    """List the exchange before this goal, without runs' questions and the decisions on them."""
    goal = (state.get("goal") or "").strip()
    said = [message for message in state.get("messages") or [] if not is_for_people(message)]
    stated = [n for n, message in enumerate(said) if message.type == "human" and message.text.strip() == goal]
    return said[: stated[-1]] if stated else said


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
