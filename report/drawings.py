"""The two drawings of a report: the plan as a DAG, and the time chart with a bar for each step that ran."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter

from ..safety.visible_text import one_line, width
from .layout import Box, Drawing, Point, draw_layers
from .markup import Markup, element, join
from .steps import StepRecord
from .timeline import Bar, Piece, Timeline, Wait
from .words import OUTCOMES, say_count, say_seconds

__all__ = ["MOST_DRAWN", "draw_gantt", "draw_plan", "fit", "instead_of"]

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

    A line of dashes leads from a step that failed to what a revision put in its place.

    Args:
        steps: In an order in which they can run; those that a revision has dropped are drawn faint.
        anchors: The id of each step's section.
        critical: The steps of the critical path, in order.
    """
    place = {step["id"]: at for at, step in enumerate(steps)}
    # An edge back is one of a cycle in a plan that was refused: the issues name it.
    needs = [[place[d] for d in step["depends_on"] if place.get(d, at) < at] for at, step in enumerate(steps)]
    instead = {(place[i], at) for at, step in enumerate(steps) for i in instead_of(step, steps) if i in place}
    instead = {(u, v) for u, v in instead if u < v and u not in needs[v]}
    for u, v in sorted(instead):
        needs[v].append(u)
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
        *_lines(drawing, marked, instead),
        *boxes,
        class_="dag" + (" dense" if dense else ""),
        viewBox=f"0 0 {drawing.width:.0f} {drawing.height:.0f}",
        width=f"{drawing.width:.0f}",
        height=f"{drawing.height:.0f}",
        role="group",
        aria_label=f"The plan as a graph of {say_count(len(steps), 'step')}",
    )
    return svg, drawing.left_out


def instead_of(step: StepRecord, steps: Sequence[StepRecord]) -> Sequence[str]:
    """Name the failed steps that this one replaces; only the first added steps replace any."""
    added = {other["id"] for other in steps if other["mends"]}
    return () if added & {*step["depends_on"]} else step["mends"]


def _clip(box: Box) -> Markup:
    """Keep labels inside their box, however wide the font is."""
    inside = element("rect", width=f"{box.width:g}", height=f"{box.height:g}")
    return element("defs", element("clipPath", inside, id="in-box"))


# --- lines -------------------------------------------------------------------------------


def _lines(drawing: Drawing, marked: set[tuple[int, int]], instead: set[tuple[int, int]]) -> list[Markup]:
    """Write all lines of a kind as one path, and their arrow heads as another."""
    lines: dict[str, dict[str, None]] = {"": {}, " instead": {}, " critical": {}}
    heads: dict[str, dict[str, None]] = {kind: {} for kind in lines}
    for edge, points in drawing.links.items():
        kind = " instead" if edge in instead else " critical" if edge in marked else ""
        lines[kind] |= dict.fromkeys(_curves(points, downwards=drawing.downwards))
        heads[kind][_head(points[-1], downwards=drawing.downwards)] = None
    return [
        element("path", d="".join(pieces), class_=name + kind)
        for kind in lines
        for name, pieces in (("line", lines[kind]), ("head", heads[kind]))
        if pieces
    ]


def _curves(points: Sequence[Point], *, downwards: bool) -> list[str]:
    """Write a line in pieces, so that pieces that several lines share are written once."""
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
    kind = (
        f"node {step['outcome']}" + (" critical" if critical else "") + ("" if step["in_plan"] else " gone")
    )
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
    gone = "" if step["in_plan"] else ", of an earlier revision"
    name = f"{step['id']}: {OUTCOMES[step['outcome']].label}{gone}"
    return join([name, took, one_line(_second_line(step))[:200]], "\n")


def fit(text: str, columns: int) -> str:
    """Shorten a text to one line of so many columns."""
    line = one_line(text[: columns * 4])
    if width(line) <= columns and len(text) <= columns * 4:
        return line
    while line and width(line) > columns - 1:
        line = line[:-1]
    return f"{line.rstrip()}…"


# --- the time chart ------------------------------------------------------------------------

_PLOT, _END = 720.0, 150.0
"""Widths of the axis, and of the room for the last bar's words."""
_MARKS, _COLUMN, _MOST_COLUMNS = 46.0, 6.9, 26
"""Widths of what stands before a name, and of a character of it."""
_TOP = 22.0
_ROW, _DENSE_ROW = 24.0, 17.0
_DENSE_BARS_FROM = 60
_GAP = 64.0
"""Width of a time in which nothing ran and which is not drawn to scale."""
_NICE: tuple[float, ...] = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30,
    *(60.0 * m for m in (1, 2, 5, 10, 15, 30)),
    *(3600.0 * h for h in (1, 2, 3, 6, 12)),
)  # fmt: skip
_DAY = 86400.0


@dataclass(frozen=True)
class Scale:
    """Where a second is on the axis; long times in which nothing ran are cut to a short gap.

    Attributes:
        spans: The times that are drawn to scale, as (start, end).
        px: Pixels per second within them.
        left: Where the axis begins, right of the names.
    """

    spans: Sequence[tuple[float, float]]
    px: float
    left: float

    @classmethod
    def of(cls, timeline: Timeline) -> Scale:
        """Fit the axis to what happened."""
        spans = _busy_spans(timeline)
        shown = sum(end - start for start, end in spans)
        room = max(_PLOT / 3, _PLOT - _GAP * (len(spans) - 1))
        names = [bar["step_id"] for bar in timeline["bars"]]
        names += [wait["title"] for wait in timeline["waits"] if wait["step_id"] not in names]
        columns = min(_MOST_COLUMNS, max(map(width, names), default=0))
        return cls(spans, room / shown if shown else 0.0, _MARKS + _COLUMN * columns)

    def x(self, second: float) -> float:
        """Return the place of a second of the run."""
        at, before = self.left, 0.0
        for start, end in self.spans:
            if second < start:
                return at - _GAP * (start - second) / max(start - before, 1e-9)
            if second <= end:
                return at + (second - start) * self.px
            at, before = at + (end - start) * self.px + _GAP, end
        return at - _GAP

    @property
    def step(self) -> float:
        """Seconds between two ticks: a number that people read easily, for about eight of them."""
        shown = sum(end - start for start, end in self.spans)
        return next(step for step in (*_NICE, *(_DAY * 2.0**n for n in range(40))) if shown / step <= 8)

    def ticks(self) -> list[float]:
        """List the seconds that have a tick."""
        return [
            n * self.step
            for start, end in self.spans
            for n in range(int(start / self.step), int(end / self.step) + 2)
            if start - 1e-9 <= n * self.step <= end + 1e-9
        ]

    @property
    def end(self) -> float:
        """Where the drawing ends."""
        return self.left + _PLOT + _END

    def gaps(self) -> list[tuple[float, float]]:
        """List the times that are cut short."""
        return [(before[1], after[0]) for before, after in itertools.pairwise(self.spans)]


def _busy_spans(timeline: Timeline) -> list[tuple[float, float]]:
    """Join the times in which steps worked, together with short pauses between them."""
    worked = [piece for bar in timeline["bars"] for piece in bar["pieces"]]
    waited = [at for wait in timeline["waits"] for at in (wait["start_s"], wait["start_s"] + wait["seconds"])]
    spans: list[tuple[float, float]] = []
    for start, end in sorted([*worked, *([at, at] for at in waited)]):
        if spans and start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], end))
        else:
            spans.append((start, end))
    busy = sum(end - start for start, end in spans)
    cut = sorted(
        (b[0] - a[1] for a, b in itertools.pairwise(spans) if b[0] - a[1] > max(2.0, busy / 2)), reverse=True
    )[:6]
    least = cut[-1] if cut else float("inf")
    joined: list[tuple[float, float]] = []
    for start, end in spans:
        if joined and start - joined[-1][1] < least:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def draw_gantt(
    timeline: Timeline, steps: Mapping[str, StepRecord], anchors: Mapping[str, str]
) -> tuple[Markup, Markup]:
    """Draw the axis, which stays in sight, and the bars below it."""
    rows: list[tuple[float, Callable[..., Markup]]] = [
        (_begins(bar), partial(_row, bar, steps[bar["step_id"]], anchors)) for bar in timeline["bars"]
    ]
    of_the_run = [wait for wait in timeline["waits"] if wait["step_id"] not in steps]
    rows += [(wait["start_s"], partial(_row_of_wait, wait)) for wait in of_the_run]
    dense = len(rows) >= _DENSE_BARS_FROM
    row = _DENSE_ROW if dense else _ROW
    scale, height = Scale.of(timeline), row * len(rows) + 6
    grid = [_grid_line(scale.x(tick), height) for tick in scale.ticks()]
    gaps = [_gap(scale.x(start), height) for start, _ in scale.gaps()]
    drawn = [draw(at * row, row, scale) for at, (_, draw) in enumerate(sorted(rows, key=itemgetter(0)))]
    axis = _svg("gantt axis", scale.end, _TOP, *_tick_labels(scale))
    return axis, _svg("gantt bars" + (" dense" if dense else ""), scale.end, height, *grid, *gaps, *drawn)


def _svg(name: str, wide: float, high: float, *parts: Markup) -> Markup:
    size = {"viewBox": f"0 0 {wide:g} {high:g}", "width": f"{wide:g}", "height": f"{high:g}"}
    return element("svg", *parts, class_=name, **size)


def _tick_labels(scale: Scale) -> list[Markup]:
    gaps = [(scale.x(start) + _GAP / 2, f"+{say_seconds(end - start)}") for start, end in scale.gaps()]
    ticks = [(scale.x(tick), _tick(tick, scale.step)) for tick in scale.ticks()]
    free = [(x, said) for x, said in ticks if all(abs(x - gap) > _GAP * 0.9 for gap, _ in gaps)]
    return [_tick_label(x, said, "tick") for x, said in free] + [
        _tick_label(x, said, "tick gap") for x, said in gaps
    ]


def _tick_label(x: float, said: str, kind: str) -> Markup:
    return element("text", said, x=f"{x:.1f}", y="15", class_=kind, text_anchor="middle")


def _tick(second: float, step: float) -> str:
    """Say a tick's second exactly, as a clock does if a rounded length of time would hide digits."""
    if second == 0:
        return "0"
    if second < 60:
        return f"{second * 1000:g} ms" if second < 1 else f"{round(second, 3):g} s"
    rounded = (step < 60 and second >= 3600) or (step < 3600 and second >= _DAY) or step < 1
    if not rounded:
        return say_seconds(second)
    minutes, seconds = divmod(round(second, 3), 60)
    return f"{minutes // 60:.0f}:{minutes % 60:02.0f}:{seconds:02g}"


def _grid_line(x: float, height: float) -> Markup:
    return element("line", x1=f"{x:.1f}", x2=f"{x:.1f}", y1="0", y2=f"{height:g}", class_="grid")


def _gap(x: float, height: float) -> Markup:
    return element("rect", x=f"{x:.1f}", y="0", width=f"{_GAP:g}", height=f"{height:g}", class_="idle")


def _begins(bar: Bar) -> float:
    """Tell where a row's first mark stands."""
    return min([bar["start_s"], *(start for start, _ in bar["waits"])])


def _row(
    bar: Bar, step: StepRecord, anchors: Mapping[str, str], top: float, row: float, scale: Scale
) -> Markup:
    outcome = OUTCOMES[step["outcome"]]
    took = _took(bar, step)
    title = f"{step['id']}: {outcome.label}, {took}, from {say_seconds(bar['start_s'])}"
    marks = ("◆" if bar["critical"] else "", outcome.mark)
    shapes = [_stretch("wait", piece, top, row, scale) for piece in bar["waits"]]
    shapes += [
        _stretch("bar tried" if part[1] in bar["attempts_s"] else "bar", part, top, row, scale)
        for piece in bar["pieces"]
        for part in _attempts_in(piece, bar["attempts_s"])
    ]
    end = max((end for _, end in (*bar["pieces"], *bar["waits"])), default=bar["start_s"])
    kind = f"entry {step['outcome']}" + (" critical" if bar["critical"] else "")
    kind += "" if step["in_plan"] else " gone"
    words = _words(title, marks, step["id"], took, scale.x(end), top, row, scale)
    return element("a", *words, *shapes, href=f"#{anchors[step['id']]}", class_=kind)


def _row_of_wait(wait: Wait, top: float, row: float, scale: Scale) -> Markup:
    """Draw what the whole run waited for."""
    piece = [wait["start_s"], wait["start_s"] + wait["seconds"]]
    took = f"{say_seconds(wait['seconds'])}{'' if wait['ended'] else ' …'}"
    title = f"{wait['title']} {took}" + (f", by {wait['by']}" if wait["by"] else "")
    marks = ("", OUTCOMES["waiting"].mark)
    words = _words(title, marks, wait["title"], took, scale.x(piece[1]), top, row, scale)
    shape = _stretch("wait", piece, top, row, scale)
    return element("a", *words, shape, href="#decisions", class_="entry waiting")


def _words(
    title: str, marks: tuple[str, str], name: str, took: str, end: float, top: float, row: float, scale: Scale
) -> list[Markup]:
    """Write all of a row but its bars."""
    baseline = f"{top + row / 2 + 4:g}"
    return [
        element("title", title),
        element("rect", x="0", y=f"{top:g}", width=f"{scale.end:g}", height=f"{row:g}", class_="row"),
        element("text", marks[0], x="2", y=baseline, class_="critical-mark"),
        element("text", marks[1], x="16", y=baseline, class_="mark"),
        element("text", fit(name, _MOST_COLUMNS), x="32", y=baseline, class_="name"),
        element("text", took, x=f"{end + 8:.1f}", y=baseline, class_="took"),
    ]


def _stretch(kind: str, piece: Piece, top: float, row: float, scale: Scale) -> Markup:
    x, end = scale.x(piece[0]), scale.x(piece[1])
    size = {"width": f"{max(2.5, end - x):.1f}", "height": f"{row - 7:g}"}
    return element("rect", x=f"{x:.1f}", y=f"{top + 3.5:g}", **size, rx="2", class_=kind)


def _attempts_in(piece: Piece, ends: Sequence[float]) -> list[Piece]:
    """Cut a time of work where attempts ended."""
    cuts = [piece[0], *(at for at in ends if piece[0] < at < piece[1]), piece[1]]
    return [[start, end] for start, end in itertools.pairwise(cuts)]


def _took(bar: Bar, step: StepRecord) -> str:
    again = f" ×{step['attempts']}" if step["attempts"] > 1 else ""
    worked = say_seconds(bar["worked_s"]) + again if bar["pieces"] else ""
    waited = say_seconds(sum(end - start for start, end in bar["waits"])) if bar["waits"] else ""
    open_ = "" if bar["ended"] else " …"
    return f"{worked}{' + ' if worked and waited else ''}{waited}{' waiting' if waited else ''}{open_}"
