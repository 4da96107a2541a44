"""Show images and files that a person attached to models that accept them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage

from ...state import State, is_for_people
from ..fallbacks import members_of

__all__ = ["attachments_in", "attachments_of", "name_of", "with_attachments"]

Block = dict[str, Any]

_INPUTS = {
    "image": "image_inputs",
    "image_url": "image_inputs",
    "audio": "audio_inputs",
    "video": "video_inputs",
}
"""The profile field for each kind of content."""


def attachments_of(state: State) -> list[Block]:
    """List the attachments of the goal: in the person's messages since the last answer."""
    found: list[Block] = []
    for message in reversed([one for one in state.get("messages") or [] if not is_for_people(one)]):
        if isinstance(message, AIMessage):
            break
        found = [*attachments_in(message), *found]
    return found


def attachments_in(message: AnyMessage) -> list[Block]:
    """List the attachments of a message, in the form that LangChain's chat models accept."""
    if not isinstance(message, HumanMessage) or isinstance(message.content, str):
        return []
    blocks = (block for block in message.content if isinstance(block, dict))
    return [_normal(block) for block in blocks if block.get("type") not in ("text", None)]


def _normal(block: Block) -> Block:
    """Convert a block of Agent Chat UI (``mimeType``, ``data``) to LangChain's Python form."""
    data = block.get("base64") or block.get("data")
    mime_type = block.get("mime_type") or block.get("mimeType")
    if not (data and mime_type):
        return dict(block)
    named = (
        {"filename": name_of(block)} if block["type"] == "file" else {"metadata": {"name": name_of(block)}}
    )
    return {"type": block["type"], "base64": data, "mime_type": mime_type, **named}


def name_of(block: Mapping[str, Any]) -> str:
    """Describe an attachment for people."""
    metadata = block.get("metadata") or {}
    name = block.get("filename") or metadata.get("filename") or metadata.get("name")
    return str(name or block.get("mime_type") or block.get("mimeType") or block["type"])


def with_attachments(
    prompt: Sequence[BaseMessage], blocks: Sequence[Block], model: BaseChatModel
) -> list[BaseMessage]:
    """Add attachments to the end of a prompt, or a sentence that the model cannot see them.

    Args:
        prompt: Ends with a human message.
        blocks: The attachments.
        model: The model; one whose profile says nothing is assumed to see everything.
    """
    if not blocks:
        return list(prompt)
    *before, last = prompt
    shown = [block for block in blocks if _is_taken(block, model)]
    hidden = ", ".join(name_of(block) for block in blocks if block not in shown)
    text = f"{last.text}\n\nAttached by the person, and not shown to you: {hidden}." if hidden else last.text
    content: list[str | Block] = [{"type": "text", "text": f"{text}{_TOLD if hidden else ''}"}, *shown]
    return [*before, HumanMessage(content if shown else content[0]["text"])]  # type: ignore[index]


_TOLD = " You take no such input: say so where it matters, and never guess what it holds."


def _is_taken(block: Block, model: BaseChatModel) -> bool:
    of_a_file = "pdf_inputs" if block.get("mime_type") == "application/pdf" else ""
    asked = _INPUTS.get(block["type"], of_a_file)
    profiles = [getattr(member, "profile", None) or {} for member in members_of(model)]
    return all(profile.get(asked) is not False for profile in profiles)
