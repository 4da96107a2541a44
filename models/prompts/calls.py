"""List tool calls in a prompt: tool, arguments, and how each call ended."""

from __future__ import annotations

from collections.abc import Sequence

from ...state import Evidence
from ...tools.texts import shortened

__all__ = ["describe_calls", "is_said"]

_LEAST = 300
"""The fewest characters for a call's arguments, and for its output."""
_TAIL = 200


def describe_calls(calls: Sequence[Evidence], room: int, *, already: str = "", outputs: bool = True) -> str:
    """List calls, one after the other, as ``tool(arguments) -> how it ended: output``.

    Args:
        calls: The calls.
        room: Characters for all of them; each gets an equal share.
        already: A text that the prompt already contains; an error in it is not repeated.
        outputs: Whether to include the outputs of successful calls.
    """
    share = max(_LEAST, room // max(1, 2 * len(calls)))
    return "\n".join(_line(call, share, already, outputs) for call in calls) or "(no tool was called)"


def is_said(text: str, already: str) -> bool:
    """Tell whether another text contains the end of a text."""
    return bool(text.strip()) and text.strip()[-_TAIL:] in already


def _line(call: Evidence, share: int, already: str, outputs: bool) -> str:
    whole = call.get("whole", {})
    output = whole.get("output", call["output_preview"])
    made = f"{call['tool']}({shortened(whole.get('args', call['args']), share)})"
    made += " -> ok" if call["ok"] else " -> FAILED"
    known = not outputs if call["ok"] else is_said(str(output), already)
    return made if known else f"{made}: {shortened(output, share)}"
