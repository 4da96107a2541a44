"""Say which tools were called, with what, and how each call ended, in the words of a prompt."""

from __future__ import annotations

from collections.abc import Sequence

from ...state import Evidence
from ...tools.calls import shortened

__all__ = ["describe_calls"]

_LEAST = 300
"""Characters that the arguments, and the output, of a call get at least."""


def describe_calls(calls: Sequence[Evidence], room: int, *, already: str = "") -> str:
    """List calls, one after the other, as ``tool(arguments) -> how it ended: what it gave``.

    Args:
        calls: The calls.
        room: Characters for all of them; each gets an equal share.
        already: A text that the prompt holds anyway: an error in it is not written again.
    """
    share = max(_LEAST, room // max(1, 2 * len(calls)))
    return "\n".join(_line(call, share, already) for call in calls) or "(no tool was called)"


def _line(call: Evidence, share: int, already: str) -> str:
    whole = call.get("whole", {})
    made = f"{call['tool']}({shortened(whole.get('args', call['args']), share)})"
    output = whole.get("output", call["output_preview"])
    if call["ok"]:
        return f"{made} -> ok: {shortened(output, share)}"
    said = "the error above" if output and output in already else shortened(output, share)
    return f"{made} -> FAILED: {said}"
