"""Find references in other tools' notations, such as ``{{step.x}}``, which models write by habit.

A tool would get them as literal characters. Names that are not in the plan (``$HOME``, ``$5``,
``{{user_template}}``) are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

__all__ = ["OtherNotation", "other_notations"]

Lookup = Callable[[str, str], str | None]
"""Returns the reference for a name and the path after it; None if the name is unknown."""


class OtherNotation(NamedTuple):
    """A reference in another notation.

    Attributes:
        text: The text.
        right: The intended reference.
        literal: How to write the characters themselves.
    """

    text: str
    right: str
    literal: str


_PATH = r"(?P<path>(?:\.[^\W\d]\w*+|\[[^\[\]]*+\])*+)"
_NAME = rf"(?:(?:steps?|outputs?|results?|nodes?)\.)?(?P<name>\w[\w-]*+){_PATH}"
_FREE, _NARROW = (("{{", "}}"), ("<<", ">>")), (("[[", "]]"), ("$(", ")"), ("{", "}"), ("<", ">"))
_BRACKETS = [
    (re.compile(rf"{re.escape(opening)}\s*+\$?{_NAME}\s*+{re.escape(closing)}"), pair in _FREE, opening)
    for pair in (*_FREE, *_NARROW)
    for opening, closing in (pair,)
]
"""The text between brackets; narrow brackets have other uses, so there a name needs a path."""
_MARKED = [
    (re.compile(rf"(?<![$\\])\$(?!\d){_NAME}(?!\w|[.,]\d)"), "$"),
    (re.compile(rf"(?<![\w#])#E{_NAME}(?!\w)"), "#E"),
]
_MARK = re.compile(r"[{<[$#]")
_OURS = re.compile(r"\$?\$\{(?:[^{}]|\{[^{}]*+\})*+\}?")
"""Our own references, and the escaped ones."""
_OUTPUT = re.compile(r"^\.(?:outputs?|results?)\b")
_KEY = re.compile(r"""\[(['"])(\w+)\1\]""")


def other_notations(text: str, lookup: Lookup) -> Iterator[OtherNotation]:
    """Find texts that are meant as references but are not."""
    if not _MARK.search(text):
        return
    rest = _OURS.sub(lambda ours: "\0" * len(ours[0]), text)
    for pattern, is_free, opening in _BRACKETS:
        for found in pattern.finditer(rest):
            alone = is_free or found["path"] or found[0] == text.strip()
            if alone and (notation := _read(found, opening, lookup)):
                yield notation
                rest = rest[: found.start()] + "\0" * len(found[0]) + rest[found.end() :]
    for pattern, opening in _MARKED:
        for found in pattern.finditer(rest):
            if notation := _read(found, opening, lookup):
                yield notation


def _read(found: re.Match[str], opening: str, lookup: Lookup) -> OtherNotation | None:
    path = _KEY.sub(r".\2", _OUTPUT.sub("", found["path"]))
    right = lookup(found["name"], path)
    if right is None:
        return None
    return OtherNotation(found[0], right, f"{opening}$${{}}{found[0][len(opening) :]}")
