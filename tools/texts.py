"""Write values as text for people and prompts."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["BRIEF", "as_text", "preview", "shortened", "words_of"]


def as_text(value: Any) -> str:
    """Write a value for people and prompts: text unchanged, anything else as JSON."""
    return value if isinstance(value, str) else _ENCODER.encode(value)


_ENCODER = json.JSONEncoder(ensure_ascii=False, default=str)
BRIEF = 300


def preview(value: Any, limit: int = BRIEF) -> str:
    """Shorten a value for people and prompts, saying how much was left out."""
    text = as_text(value)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit:,} more characters)"


def shortened(value: Any, limit: int) -> str:
    """Shorten a value in the middle, and say by how much, because an error is at the end of its text."""
    text = as_text(value)
    left_out, head = len(text) - limit, limit * 3 // 8
    if left_out <= 0:
        return text
    return f"{text[:head]}… ({left_out:,} characters left out) …{text[head + left_out :]}"


def words_of(error: BaseException) -> str:
    """Return what an exception says; a group only counts those in it, so they are named too."""
    try:
        said = str(error).strip()
    except Exception as unreadable:
        return f"its message cannot be read ({type(unreadable).__name__})"
    if not isinstance(error, BaseExceptionGroup):
        return said
    return f"{said}: " + "; ".join(f"{type(one).__name__}: {words_of(one)}" for one in error.exceptions)
