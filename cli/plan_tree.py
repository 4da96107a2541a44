"""A plan drawn as a tree of lines: each step below the one that it waits for longest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..plan.dag import topological_order

__all__ = ["Branch", "branches"]

_DEEPEST = 12
"""Levels that are drawn: a longer chain goes on at this depth."""


class Branch(NamedTuple):
    """One step of the tree.

    Attributes:
        lines: What is drawn before its name.
        step: The step.
        also: What it waits for besides the step above it.
    """

    lines: str
    step: Mapping[str, Any]
    also: tuple[str, ...]


def branches(steps: Sequence[Mapping[str, Any]]) -> Iterator[Branch]:
    """Draw the steps; a plan that goes in a circle is drawn as it was written."""
    try:
        ordered: Sequence[Mapping[str, Any]] = topological_order(steps)  # type: ignore[arg-type]
    except ValueError:
        yield from (Branch("", step, tuple(step.get("depends_on", ()))) for step in steps)
        return
    place = {step["id"]: at for at, step in enumerate(ordered)}
    below: dict[str | None, list[Mapping[str, Any]]] = {}
    for step in ordered:
        below.setdefault(_parent(step, place), []).append(step)
    stack = [(step, "", "") for step in reversed(below.get(None, []))]
    while stack:
        step, lead, mark = stack.pop()
        parent = _parent(step, place)
        also = tuple(name for name in step.get("depends_on", ()) if name != parent)
        yield Branch(lead + mark, step, also)
        inside = lead + {"": "", "├─ ": "│  ", "└─ ": "   "}[mark]
        if len(inside) > 3 * _DEEPEST:
            inside = lead
        children = below.get(step["id"], [])
        marks = ["├─ "] * (len(children) - 1) + ["└─ "]
        stack += [(child, inside, mark) for child, mark in zip(children, marks, strict=False)][::-1]


def _parent(step: Mapping[str, Any], place: Mapping[str, int]) -> str | None:
    """Name the step that it stands below: the last one that it waits for."""
    known = [name for name in step.get("depends_on", ()) if name in place]
    return max(known, key=place.__getitem__, default=None)
