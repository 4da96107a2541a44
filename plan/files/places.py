"""Places in a text: where the readers of plan files found a value or a problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = [
    "FOREIGN_BREAKS",
    "MAX_DEPTH",
    "KeyPath",
    "Marked",
    "Place",
    "Problem",
    "UnreadableError",
    "check_depth",
    "check_integer",
    "check_new",
    "not_json",
    "place_at",
]

MAX_DEPTH = 64

FOREIGN_BREAKS = frozenset("\r\x85\u2028\u2029")
"""Line breaks for YAML but not for people; every style but one would fold them."""

KeyPath = tuple[str | int, ...]
"""Where a value is in a document, such as ``("steps", 0, "id")``; ``()`` is the whole."""


class Place(NamedTuple):
    """A place in a text; line and column count characters from 1."""

    line: int
    column: int


class Problem(NamedTuple):
    """A problem in a text, and its place if that is known."""

    message: str
    place: Place | None = None


class UnreadableError(Exception):
    """A text that cannot be read; ``problems`` says why, in order."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__(problems[0].message)
        self.problems = problems


@dataclass
class Marked:
    """A value that was read, the place of everything in it, and its problems.

    The place of a mapping's member is the place of its key.
    """

    value: Any = None
    places: dict[KeyPath, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def place_at(text: str, position: int) -> Place:
    """Turn a position in a text into a place."""
    start = text.rfind("\n", 0, position) + 1
    return Place(text.count("\n", 0, position) + 1, position - start + 1)


def check_depth(path: Sequence[Any], place: Place) -> None:
    """Refuse nesting so deep that it is an attack or an accident.

    Raises:
        UnreadableError: It cannot be read any further.
    """
    if len(path) > MAX_DEPTH:
        raise UnreadableError(Problem(f"is nested more than {MAX_DEPTH} levels deep", place))


def check_new(key: str, seen: dict[str, Place], place: Place) -> Problem | None:
    """Refuse a key that appears twice in its mapping (one value would be lost), and note its place."""
    first = seen.setdefault(key, place)
    if first is place:
        return None
    return Problem(f"the key {key!r} appears twice here (first in line {first.line})", place)


def check_integer(digits: str, place: Place) -> Problem | None:
    """Find an integer that no checkpoint can store."""
    too_long = len(digits) > 40  # Python refuses to read thousands of digits.
    if too_long or not -(2**63) <= int(digits, 0 if digits[:2] in ("0o", "0x") else 10) < 2**64:
        shown = digits if len(digits) <= 30 else f"{digits[:30]}… ({len(digits)} digits)"
        return Problem(f"the integer {shown} does not fit 64 bits; put it in quotes if it is text", place)
    return None


def not_json(value: str, place: Place) -> Problem:
    """Describe the problem with a number such as NaN."""
    return Problem(f"{value} is not a valid JSON number; put it in quotes if it is text", place)
