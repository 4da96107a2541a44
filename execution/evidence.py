"""Keep an agent's calls as evidence: which tools were called, with what, and how each call ended."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, ToolCall, ToolMessage

from ..run import StepScope
from ..state import Evidence
from ..tools.calls import abridged, ended_with
from ..tools.toolbox import Toolbox

__all__ = ["ANSWER", "CALLED_WITH", "MADE", "MARKS", "calls_not_in", "evidence_of"]

CALLED_WITH = "plan_execute_args"
"""Key in a tool message's metadata: the call's arguments, if they differ from the model's."""
MADE = "plan_execute_made"
"""Key in the same metadata: whether the call succeeded. If it is missing, the tool was not called."""
MARKS = (CALLED_WITH, MADE)
ANSWER: ContextVar[tuple[StepScope, dict[str, Any]] | None] = ContextVar("answer", default=None)
"""The step, and the marks of the answer to the call being made: models use an id twice in a turn."""
_NOT_MADE = "The tool was not called. Somebody answered in its place."


def calls_not_in(found: Sequence[Evidence], calls: Sequence[Evidence]) -> list[Evidence]:
    """List the calls without a trace, because a middleware may have removed them from the conversation."""
    known = {(seen["call_id"], seen["tool"]) for seen in found}
    return [seen for seen in calls if (seen["call_id"], seen["tool"]) not in known]


def evidence_of(
    said: Sequence[AnyMessage], toolbox: Toolbox, limit: int, *, marked: bool = False
) -> list[Evidence]:
    """List the tool calls of a conversation with their outcomes.

    Each call gets its answer in its own turn and under its own name. Ids come from the model: if it used one
    again, a failed call could get the success of another.

    Args:
        said: The conversation.
        toolbox: Knows the tools' effects.
        limit: Longer arguments are shortened.
        marked: Whether answers of tools carry :data:`MADE`; an answer without it comes from somebody else.
    """
    evidence: list[Evidence] = []
    waiting: list[tuple[ToolCall, Evidence]] = []
    for message in said:
        if isinstance(message, AIMessage):
            waiting = [(call, _unanswered(call, toolbox, limit)) for call in message.tool_calls]
            evidence += [seen for _, seen in waiting]
        elif isinstance(message, ToolMessage):
            answered = next((pair for pair in waiting if _answers(message, pair[0])), None)
            if answered is not None:
                waiting.remove(answered)
                _ended(answered[1], message, limit, marked=marked)
    return evidence


def _ended(seen: Evidence, answer: ToolMessage, limit: int, *, marked: bool) -> None:
    """Add to the evidence of a call how it ended."""
    is_error = answer.status == "error"
    mark = answer.response_metadata.get(MADE) if marked else not is_error
    if mark is None and not is_error:
        seen["output_preview"] = _NOT_MADE
        return
    ok = bool(mark)
    asked = seen["whole"]["args"]
    made: Any = answer.response_metadata.get(CALLED_WITH, asked)
    seen["ok"] = ok
    if made is not asked:
        seen["args"] = abridged(made, limit)
    seen["output_preview"] = ended_with(answer.text, ok=ok)
    seen["whole"] = {"args": made, "output": answer.text}


def _unanswered(call: ToolCall, toolbox: Toolbox, limit: int) -> Evidence:
    return {
        "tool": call["name"],
        "args": abridged(call["args"], limit),
        "ok": False,
        "output_preview": "",
        "effect": toolbox.effect(call["name"]),
        "call_id": call["id"] or "",
        "whole": {"args": call["args"]},
    }


def _answers(message: ToolMessage, call: ToolCall) -> bool:
    return message.tool_call_id == (call["id"] or "") and message.name in (None, call["name"])
