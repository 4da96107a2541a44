"""The plan as a drawn DAG: boxes coloured and marked by outcome, each a link to its step."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from ..safety.visible_text import one_line, width
from .layout import Box, Drawing, Point, draw_layers
from .markup import Markup, element, join
from .steps import StepRecord
from .words import OUTCOMES, say_count, say_seconds

__all__ = ["MOST_DRAWN", "draw_plan"]

MOST_DRAWN = 4000
"""Steps above which no drawing is made: it could not be read, and takes seconds."""

_ROOMY = Box(width=196, height=50, beside=22, between=34)
_ROOMY_COLUMNS = Box(width=196, height=50, beside=16, between=46)
_DENSE = Box(width=136, height=26, beside=8, between=40)
_DENSE_ROWS = Box(width=136, height=26, beside=16, between=26)
_DENSE_FROM = 60
"""Steps from which boxes hold the step's name only."""
_COLUMN_PX = 6.7
"""Estimated width of a character of the drawing's 12 px font."""


def draw_plan(
    steps: Sequence[StepRecord], anchors: Mapping[str, str], critical: Sequence[str]
) -> tuple[Markup, int]:
    """Draw the steps of the plan; also tell how many implied lines were left out.

    Args:
        steps: In an order in which they can run.
        anchors: The id of each step's section.
        critical: The steps of the critical path, in order.
    """
    place = {step["id"]: at for at, step in enumerate(steps)}
    # An edge back is one of a cycle in a plan that was refused: the issues name it.
    needs = [[place[d] for d in step["depends_on"] if place.get(d, at) < at] for at, step in enumerate(steps)]
    dense = len(steps) >= _DENSE_FROM
    box, rows = (_DENSE, _DENSE_ROWS) if dense else (_ROOMY_COLUMNS, _ROOMY)
    drawing = draw_layers(needs, box, rows)
    box = rows if drawing.downwards else box
    follows = set(itertools.pairwise(critical))
    marked = {(u, v) for u, v in drawing.links if (steps[u]["id"], steps[v]["id"]) in follows}
    boxes = [
        _box(step, at, box, anchors[step["id"]], dense=dense, critical=step["id"] in critical)
        for step, at in zip(steps, drawing.places, strict=True)
    ]
    svg = element(
        "svg",
        _clip(box),
        *_lines(drawing, marked),
        *boxes,
        class_="dag" + (" dense" if dense else ""),
        viewBox=f"0 0 {drawing.width:.0f} {drawing.height:.0f}",
        width=f"{drawing.width:.0f}",
        height=f"{drawing.height:.0f}",
        role="img",
        aria_label=f"The plan as a graph of {say_count(len(steps), 'step')}",
    )
    return svg, drawing.left_out


def _clip(box: Box) -> Markup:
    """Keep labels inside their box, whatever the font makes of their width."""
    inside = element("rect", width=f"{box.width:g}", height=f"{box.height:g}")
    return element("defs", element("clipPath", inside, id="in-box"))


# --- lines -------------------------------------------------------------------------------


def _lines(drawing: Drawing, marked: set[tuple[int, int]]) -> list[Markup]:
    """Write all plain lines as one path, those of the critical path as another, and the arrow heads."""
    plain: dict[str, None] = {}
    strong: dict[str, None] = {}
    heads: dict[str, None] = {}
    strong_heads: dict[str, None] = {}
    for edge, points in drawing.links.items():
        critical = edge in marked
        pieces = strong if critical else plain
        pieces |= dict.fromkeys(_curves(points, downwards=drawing.downwards))
        (strong_heads if critical else heads)[_head(points[-1], downwards=drawing.downwards)] = None
    written = [("line", plain), ("head", heads), ("line critical", strong), ("head critical", strong_heads)]
    return [element("path", d="".join(pieces), class_=name) for name, pieces in written if pieces]


def _curves(points: Sequence[Point], *, downwards: bool) -> list[str]:
    """Write a line piece by piece, so that what lines share is written once."""
    pieces = []
    for (x, y), (to_x, to_y) in itertools.pairwise(points):
        if (x == to_x) if downwards else (y == to_y):
            pieces.append(f"M{x:g} {y:g}L{to_x:g} {to_y:g}")
        elif downwards:
            middle = (y + to_y) / 2
            pieces.append(f"M{x:g} {y:g}C{x:g} {middle:g} {to_x:g} {middle:g} {to_x:g} {to_y:g}")
        else:
            middle = (x + to_x) / 2
            pieces.append(f"M{x:g} {y:g}C{middle:g} {y:g} {middle:g} {to_y:g} {to_x:g} {to_y:g}")
    return pieces


def _head(at: Point, *, downwards: bool) -> str:
    x, y = at
    return f"M{x:g} {y:g}l-4 -7h8z" if downwards else f"M{x:g} {y:g}l-7 -4v8z"


# --- boxes -------------------------------------------------------------------------------


def _box(step: StepRecord, at: Point, box: Box, anchor: str, *, dense: bool, critical: bool) -> Markup:
    outcome = OUTCOMES[step["outcome"]]
    room = int((box.width - 34 - 12 * critical) / _COLUMN_PX)
    middle = box.height / 2
    name_y = f"{middle + 4:g}" if dense or not _second_line(step) else f"{middle - 4:g}"
    parts = [
        element("text", outcome.mark, x="9", y=name_y, class_="mark"),
        element("text", fit(step["id"] or "(no id)", room), x="26", y=name_y, class_="name"),
    ]
    if not dense and (second := _second_line(step)):
        room = int((box.width - 20) / _COLUMN_PX * 1.08)
        parts.append(element("text", fit(second, room), x="9", y=f"{middle + 15:g}", class_="task"))
    if critical:
        parts.append(element("text", "◆", x=f"{box.width - 16:g}", y=name_y, class_="critical-mark"))
    frame = element("rect", width=f"{box.width:g}", height=f"{box.height:g}", rx="7")
    label = element("g", *parts, clip_path="url(#in-box)")
    kind = f"node {step['outcome']}" + (" critical" if critical else "")
    x, y = at
    return element(
        "a",
        element("title", _tooltip(step)),
        frame,
        label,
        href=f"#{anchor}",
        class_=kind,
        transform=f"translate({x:g} {y:g})",
    )


def _second_line(step: StepRecord) -> str:
    return (
        step["task"]
        or (f"calls {step['call'].get('tool')}" if step["call"] else "")
        or step["sub_goal"]
        or ""
    )


def _tooltip(step: StepRecord) -> str:
    took = say_seconds(step["seconds"])
    return join(
        [f"{step['id']}: {OUTCOMES[step['outcome']].label}", took, one_line(_second_line(step))[:200]], "\n"
    )


def fit(text: str, columns: int) -> str:
    """Shorten a text to one line of so many columns."""
    line = one_line(text[: columns * 4])
    if width(line) <= columns and len(text) <= columns * 4:
        return line
    while line and width(line) > columns - 1:
        line = line[:-1]
    return f"{line.rstrip()}…"
