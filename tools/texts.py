"""Write values as text for people and prompts."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["BRIEF", "as_text", "preview", "shortened"]


def as_text(value: Any) -> str:
    """Write a value for people and prompts: text unchanged, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


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
