"""Judge one turn of an agent: a call, a result, something to say again, or a failure."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, ToolMessage

from ..errors import IterationLimitError, ModelOutputError
from ..models.client_errors import truncated_error
from ..models.json_text import extract_json, without_thinking
from ..models.prompts import unquote
from ..models.reading import is_malformed_call, raise_if_withheld, was_cut_off

__all__ = ["as_text", "correction_of", "raise_if_no_result", "result_text"]

_SHOWN = 2_000
"""Characters of a failed call that the model is shown again."""


def raise_if_no_result(turn: AIMessage, who: str) -> None:
    """Raise if a turn was withheld, or is a text that was cut off.

    Raises:
        ModelCallError: One of its kinds.
    """
    raise_if_withheld(turn, who)
    if was_cut_off(turn) and not _calls(turn):
        raise truncated_error(who)


def result_text(turn: AnyMessage, who: str) -> str:
    """Return the text of an agent's last turn, without its thinking.

    Raises:
        ModelCallError: If it was cut off, withheld or refused, or says nothing.
        IterationLimitError: If a middleware ended the agent at its limit.
    """
    if not isinstance(turn, AIMessage):
        raise ModelOutputError(f"{who} ended without an answer")
    raise_if_no_result(turn, who)
    text = _said(turn)
    if not text:
        raise ModelOutputError(f"{who} ended without an answer")
    if _LIMIT.match(text) and not (turn.response_metadata or turn.usage_metadata):
        raise IterationLimitError(text)
    return text


_LIMIT = re.compile(r"Model call limits exceeded: |(?:Tool|'[^']*'(?: tool)?) call limit reached: ")
"""The messages by which LangChain 1.4.7's limits end an agent; no model wrote them."""


def correction_of(
    turn: AIMessage, before: Sequence[AnyMessage], granted: Collection[str], schema: Mapping[str, Any] | None
) -> str | None:
    """Return what the model must do again in the same conversation; None if the turn is usable.

    Args:
        turn: The model's message.
        before: The conversation up to it.
        granted: The tools that the step may call.
        schema: What the step's output is declared as.
    """
    if turn.invalid_tool_calls or is_malformed_call(turn):
        named = ", ".join(sorted({str(call["name"]) for call in turn.invalid_tool_calls})) or "a tool"
        return (
            f"The arguments of your call of {named} are not one valid JSON object, so no tool was called in "
            "this turn. Make all calls of this turn again."
        )
    if turn.tool_calls:
        if not was_cut_off(turn):
            return None
        return (
            "Your turn was cut off at the token limit, so no tool was called. "
            "Make the calls again, with shorter arguments."
        )
    text = _said(turn)
    if not text:
        called = bool(before) and isinstance(before[-1], ToolMessage)
        return "Your last message is empty. Write the result of the step now." if called else None
    name = _written_call(text, granted, schema or {})
    if name is None:
        return None
    return (
        f"You wrote a call of {name} as text, so nothing was called. "
        "Call it as a tool, or write the result of the step."
    )


def as_text(turn: AIMessage) -> AIMessage:
    """Return an unusable turn as text only, because providers want an answer to every call they see."""
    calls = "\n".join(f"{call['name']}({json.dumps(call['args'])})"[:_SHOWN] for call in _calls(turn))
    text = "\n".join(part for part in (str(turn.text), calls) if part.strip())
    return AIMessage(
        text or "(empty message)",
        usage_metadata=turn.usage_metadata,
        response_metadata=turn.response_metadata,
    )


def _calls(turn: AIMessage) -> list[Any]:
    return [*turn.tool_calls, *turn.invalid_tool_calls]


def _said(turn: AIMessage) -> str:
    return without_thinking(unquote(str(turn.text))).strip()


# --- calls written as text ---------------------------------------------------------------

_MARKS = re.compile(
    r"^(?:<\|?(?:tool_?calls?|function_?calls?|tool_use|python_tag)\|?>|<function=|<invoke name="
    r"|\[TOOL_CALLS\]|<｜tool▁calls?▁begin｜>|Action:\s*\S+\s+Action Input:)",
    re.IGNORECASE | re.MULTILINE,
)
"""How chat templates and ReAct prompts mark a call."""
_NAMES = ("name", "tool", "tool_name", "function", "action", "recipient_name")
_ARGUMENTS = ("arguments", "parameters", "args", "input", "tool_input", "action_input", "params")


def _written_call(text: str, granted: Collection[str], schema: Mapping[str, Any]) -> str | None:
    """Return the granted tool that a text calls; None if the text is not a call."""
    if mark := _MARKS.search(text):
        rest = text[mark.start() :]
        return next((name for name in granted if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", rest)), None)
    if bare := re.match(r"\[?([A-Za-z_][\w.-]*)\(.*\)\]?\s*\Z", text, re.DOTALL):
        return bare[1] if bare[1] in granted else None
    if text[-1] not in "}]`":
        return None
    try:
        value = extract_json(text)
    except ValueError:
        return None
    if isinstance(value, dict) and value.keys() <= dict(schema.get("properties") or {}).keys():
        return None  # It is the output that was asked for.
    return _call_in(value, granted)


def _call_in(value: Any, granted: Collection[str]) -> str | None:
    if isinstance(value, list):
        names = [_call_in(one, granted) for one in value]
        return names[0] if names and all(names) else None
    if not isinstance(value, dict):
        return None
    if calls := value.get("tool_calls") or value.get("function_call"):
        return _call_in(calls, granted)
    if isinstance(inner := value.get("function"), dict):
        return _call_in(inner, granted)
    named = (value[key] for key in _NAMES if isinstance(value.get(key), str))
    name = next((name for name in named if name in granted), None)
    return name if any(key in value for key in _ARGUMENTS) else None
