"""Write the replies of a scripted model: steps as a planner writes them, and replies that never run out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage

from ..models.scripted import ScriptedModel

__all__ = ["MET", "agent_step", "call_step", "endless", "plan_reply"]

MET = ScriptedModel.verdict(met=True)
"""What a judge says who is content."""


def plan_reply(rationale: str, *steps: dict[str, Any]) -> dict[str, Any]:
    """Write a plan in the form a planner or replanner answers with."""
    return {"outcome": "plan", "rationale": rationale, "steps": list(steps)}


def call_step(
    step_id: str, task: str, tool: str, args: Mapping[str, Any] | None = None, *, after: Sequence[str] = ()
) -> dict[str, Any]:
    """Write a bound step: its tool and arguments are fixed, so no model is asked."""
    return _step(step_id, task, after) | {"call": tool, "arguments": json.dumps(args or {})}


def agent_step(
    step_id: str, task: str, tools: Sequence[str], *, criterion: str, after: Sequence[str] = ()
) -> dict[str, Any]:
    """Write an agent step: a model does it with these tools, and another call judges the outcome."""
    return _step(step_id, task, after) | {"tools": list(tools), "success_criterion": criterion}


def _step(step_id: str, task: str, after: Sequence[str]) -> dict[str, Any]:
    empty: dict[str, Any] = {"call": None, "arguments": None, "tools": [], "success_criterion": None}
    return {"id": step_id, "task": task, "depends_on": list(after), **empty}


def endless(script: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """Make a script that any number of runs can use: each reply is chosen by its own conversation."""
    return {key: [_by_turn(replies)] for key, replies in script.items()}


def _by_turn(replies: Sequence[Any]) -> Callable[[Sequence[BaseMessage]], Any]:
    def reply(messages: Sequence[BaseMessage]) -> Any:
        turn = sum(isinstance(message, AIMessage) for message in messages)
        return replies[min(turn, len(replies) - 1)]

    return reply
