"""Write what models and tools are told and say in the JSON form of OpenTelemetry's GenAI conventions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from pydantic_core import to_jsonable_python

__all__ = ["input_messages", "output_messages", "plain_text"]

_ROLES = {"human": "user", "ai": "assistant", "AIMessageChunk": "assistant"}


def plain_text(value: Any) -> str:
    """Write any value as JSON, a text as it is."""
    return value if isinstance(value, str) else json.dumps(_plain(value), ensure_ascii=False)


def _plain(value: Any) -> Any:
    try:
        return to_jsonable_python(value, fallback=str, serialize_unknown=True, bytes_mode="base64")
    except (ValueError, RecursionError):
        return str(value)


def input_messages(said: Sequence[BaseMessage | str]) -> str:
    """Write what a model is told; a bare prompt is a user's."""
    return plain_text([_message(one) for one in said])


def output_messages(generations: Sequence[Any]) -> str:
    """Write what a model answered, one message for each choice."""
    return plain_text(
        [
            {**_message(getattr(one, "message", None) or one.text), "finish_reason": _reason(one)}
            for one in generations
        ]
    )


def _message(said: BaseMessage | str) -> dict[str, Any]:
    if isinstance(said, str):
        return {"role": "user", "parts": [_text(said)]}
    if isinstance(said, ToolMessage):
        answer = {"type": "tool_call_response", "id": said.tool_call_id, "response": said.content}
        return {"role": "tool", "parts": [answer]}
    parts = [_text(said.text)] if said.text else []
    for call in said.tool_calls if isinstance(said, AIMessage) else ():
        parts.append({"type": "tool_call", "id": call["id"], "name": call["name"], "arguments": call["args"]})
    return {"role": _ROLES.get(said.type, said.type), "parts": parts}


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "content": str(text)}


def _reason(generation: Any) -> str:
    told = getattr(getattr(generation, "message", None), "response_metadata", None) or {}
    return str(told.get("finish_reason") or told.get("stop_reason") or "stop")
