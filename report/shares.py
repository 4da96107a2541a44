"""How much of each text a report shows, so that one of 1,000 steps can be opened; and how to get the rest."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import Any

from ..safety.visible_text import cut

__all__ = ["Share", "as_text", "shortened", "way_to_output"]

Json = Any

_ALL_TEXT = 3_000_000
_ALL_CALLS = 20_000


@dataclass(frozen=True)
class Share:
    """What one step may take of a report.

    Attributes:
        text: Characters of an output.
        brief: Characters of an input, an argument, a message.
        calls: Tool calls.
    """

    text: int
    brief: int
    calls: int

    @classmethod
    def of(cls, steps: int) -> Share:
        """Divide the room of a report."""
        text = max(1500, min(20_000, _ALL_TEXT // max(1, steps)))
        return cls(text, min(2000, text), max(5, min(50, _ALL_CALLS // max(1, steps))))


def as_text(value: Json) -> str:
    """Write a value for people: text as it is, everything else as indented JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, indent=2, default=str)


def shortened(value: Json, limit: int) -> tuple[str, str]:
    """Write the beginning of a value, and a note about what was left out; none where that is nothing."""
    text, left_out = cut(as_text(value), limit)
    return text, f"… {left_out:,} more characters" if left_out else ""


def way_to_output(thread: str, step_id: str) -> str:
    """Write the command that prints a step's whole output."""
    return shlex.join(["plan-execute", "show", thread or "THREAD", "--step", step_id])
