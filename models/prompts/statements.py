"""Build a judge's two statements: the criterion, and a control that is known to be false.

If an output has talked a judge into saying "met", the judge says it about everything. So it judges two
statements at once, in random order: the criterion, and that the output contains a word which no author of the
output can know. If a judge finds that the second holds, its finding on the first does not count.
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
    """Combine a criterion with its control.

    Args:
        criterion: The criterion.
        draw: At least 13 random hex digits: twelve for the control's word, the last one for the order.
    """
    real = f"The output meets this criterion: {criterion}"
    control = _CONTROL.format(word=draw[:12])
    if int(draw[12], 16) % 2:
        return Statements(real, control, "a")
    return Statements(control, real, "b")


def control_letter(prompt: str) -> Letter | None:
    """Find the control in a judge's prompt, for a scripted judge; None for other prompts."""
    found = _STATED_CONTROL.search(prompt)
    if found is None:
        return None
    return "a" if found[1] == "A" else "b"
