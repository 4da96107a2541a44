"""What a judge is asked to tell apart: the criterion, and a control that is false by construction.

A judge that an output has talked into saying "met" says it of everything. So it judges two
statements at once, in random order: the criterion, and that the output holds a word which nobody
who wrote the output can know. Whoever finds that the second holds is not believed about the first.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

__all__ = ["Letter", "Statements", "control_letter", "state_criterion"]

Letter = Literal["a", "b"]

_CONTROL = "The output meets this criterion: it contains the word {word}."
_STATED_CONTROL = re.compile(
    r"^Statement ([AB]): " + re.escape(_CONTROL).replace(r"\{word\}", r"[0-9a-f]{12}"), re.M
)


class Statements(NamedTuple):
    """The two statements by their letters, and which of them is the criterion."""

    a: str
    b: str
    criterion: Letter


def state_criterion(criterion: str, draw: str) -> Statements:
    """Put a criterion beside its control.

    Args:
        criterion: The criterion.
        draw: At least 13 random hex digits: twelve are the control's word, the last one the order.
    """
    real = f"The output meets this criterion: {criterion}"
    control = _CONTROL.format(word=draw[:12])
    if int(draw[12], 16) % 2:
        return Statements(real, control, "a")
    return Statements(control, real, "b")


def control_letter(prompt: str) -> Letter | None:
    """Find the control in a judge's prompt, for a scripted judge; None: it is no such prompt."""
    found = _STATED_CONTROL.search(prompt)
    if found is None:
        return None
    return "a" if found[1] == "A" else "b"
