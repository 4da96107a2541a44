"""Values as text for people and prompts."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["as_text"]


def as_text(value: Any) -> str:
    """Write a value for people and prompts: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
