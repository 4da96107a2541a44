"""What was said in a run's conversation, in the report and in the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypedDict

__all__ = ["Said", "said_in"]

_NAMES = {"human": "You", "ai": "plan-execute", "tool": "Decision"}


class Said(TypedDict):
    """One message that says something."""

    who: str
    words: str


def said_in(messages: Iterable[Any]) -> Sequence[Said]:
    """List who said what, oldest first; messages without words are left out."""
    said = [(message.type, message.text) for message in messages if hasattr(message, "type")]
    worded = [(kind, text if isinstance(text, str) else text()) for kind, text in said]
    return [{"who": _NAMES.get(kind, kind), "words": words} for kind, words in worded if words.strip()]
