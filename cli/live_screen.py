"""A run drawn live before a person: the plan as a tree, what runs now, and what it has spent so far."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TextIO, cast

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderResult
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType
from rich.text import Text

from ..safety.terminal_text import plain
from .cells import cut, cut_in_the_middle
from .live_plan import LivePlan, Row, fold, say_seconds

__all__ = ["LiveScreen", "can_draw"]

FRAMES_PER_SECOND = 8

_MARKS = {
    "pending": ("○", "dim"),
    "running": ("▶", "bold cyan"),
    "asking": ("?", "bold magenta"),
    "stopped": ("■", "yellow"),
    "done": ("✓", "green"),
    "failed": ("✗", "bold red"),
    "skipped": ("–", "yellow"),
    "blocked": ("–", "red"),
}
"""A mark for each state, which says it without colour, and its style."""
_DETAIL_STYLES = {"failed": "red", "asking": "magenta", "running": "", "stopped": "yellow"}
_VERDICT_STYLES = {"unverified": "yellow"}


def can_draw(stream: TextIO) -> bool:
    """Tell whether a live view can be drawn on a terminal: it can move its cursor and has our marks."""
    return not Console(file=stream).is_dumb_terminal and "utf" in (stream.encoding or "").lower()


# --- drawing -----------------------------------------------------------------------------


class PlanView:
    """Draws a run into a window, and never more lines or cells than the window has."""

    def __init__(self, plan: LivePlan, lock: threading.Lock) -> None:
        self._plan = plan
        self._lock = lock

    def __rich_console__(self, console: Console, _: ConsoleOptions) -> RenderResult:
        """Draw all lines, the last one without its end."""
        drawn = Text("\n", no_wrap=True, overflow="crop", end="").join(
            self.lines(console.size.width, console.size.height)
        )
        yield drawn

    def lines(self, width: int, height: int) -> list[Text]:
        """Draw the lines for a window."""
        # The last column stays free: some terminals break the line after it.
        width = max(width - 1, 1)
        plan = self._plan
        with self._lock:
            goal, facts, notes, rows = plan.goal, plan.facts(), plan.notes(), plan.rows()
        foot = [Text(line, "bold") for line in _flowed(facts, width)][: max(height - 1, 1)]
        head = [Text(cut(goal, width), "bold")] if goal and height >= 8 else []
        styles = {"!": "yellow"}
        said = [Text(cut(f"{mark} {note}", width), styles.get(mark, "dim")) for mark, note in notes]
        foot = [*(said if height >= 8 else []), *foot]
        # One line stays free, where there are lines to spare, for what stands above the view.
        room = height - len(head) - len(foot) - (height >= 8)
        drawn = [*head, *_tree(rows, max(room, 0), width), *foot]
        for line in drawn:
            line.truncate(width, overflow="crop")
        return drawn


def _flowed(parts: Sequence[str], width: int) -> list[str]:
    """Write parts behind each other, in as many lines as they need."""
    lines: list[str] = []
    for part in parts:
        if lines and cell_len(lines[-1]) + 3 + cell_len(part) <= width:
            lines[-1] += f" · {part}"
        else:
            lines.append(cut(part, width))
    return lines


def _tree(rows: Sequence[Row], room: int, width: int) -> Iterable[Text]:
    folded = fold(rows, room)
    if room < 1:
        return
    shown = folded.rows
    left = min((row.indent for row in shown), default=0)
    deepest = max(width // 16, 1)
    indents = [2 * min(row.indent - left, deepest) for row in shown]
    names = max((at + cell_len(row.name) for at, row in zip(indents, shown, strict=True)), default=0)
    names = min(names, max(width * 9 // 20 - 2, 4))
    if folded.above:
        yield Text(cut(f"… {folded.above}", width), "dim")
    for indent, row in zip(indents, shown, strict=True):
        yield _line(row, indent, names, width)
    if folded.below:
        yield Text(cut(f"… {folded.below}", width), "dim")


def _line(row: Row, indent: int, names: int, width: int) -> Text:
    """Draw a step: mark, name, what it does, and its time at the right edge."""
    mark, style = _MARKS[row.state]
    time = "" if row.seconds is None else say_seconds(row.seconds, whole=row.state == "running")
    name = cut(row.name, max(names - indent, 1))
    room = width - 2 - names - 2 - (len(time) + 1 if time else 0)
    shorten = cut_in_the_middle if row.is_error else cut
    detail = shorten(row.detail, room) if room > 0 else ""
    line = Text(" " * indent, no_wrap=True, overflow="crop")
    line.append(mark, style)
    line.append(f" {name}", "bold" if row.state in ("running", "asking") else "")
    line.append(" " * max(names - indent - cell_len(name), 0) + "  ")
    line.append(detail, _VERDICT_STYLES.get(row.verdict or "") or _DETAIL_STYLES.get(row.state, "dim"))
    if time and width > 24:
        line.append(" " * max(width - line.cell_len - len(time), 1) + time, "dim")
    return line


# --- the terminal ------------------------------------------------------------------------


_BEGIN, _END = "\x1b[?2026h", "\x1b[?2026l"
"""Terminals with synchronized updates show everything between these at once; others ignore them."""


class _Net:
    """A stream that shows each frame at once, and without secrets, as every output of ours is."""

    def __init__(self, stream: TextIO, redact: Callable[[str], str]) -> None:
        self._stream = stream
        self._redact = redact

    def write(self, text: str) -> int:
        return self._stream.write(f"{_BEGIN}{self._redact(text)}{_END}" if text else text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Window(Live):
    """rich's live display, which begins anew when the window has another size.

    rich 15 moves the cursor up by as many lines as it drew. A terminal that has broken them anew
    shows more or fewer by then, and what was drawn before would be left standing.
    """

    _size: tuple[int, int] | None = None

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        shown = super().process_renderables(renderables)
        size = tuple(self.console.size)
        if self._size not in (None, size) and self.console.is_interactive:
            shown[0] = Control(ControlType.CLEAR, ControlType.HOME)
        self._size = cast("tuple[int, int]", size)
        return shown


class LiveScreen:
    """The live view of a run, from :meth:`open` to :meth:`close`; between them it can be told of events."""

    def __init__(self, plan: LivePlan, redact: Callable[[str], str], stream: TextIO | None = None) -> None:
        self._plan = plan
        self._lock = threading.Lock()
        self._console = Console(file=cast("TextIO", _Net(stream or sys.stderr, redact)), highlight=False)
        self._window: _Window | None = None
        self._closing = threading.Event()
        self._painter: threading.Thread | None = None

    def tell(self, event: Any) -> None:
        """Take an event in; it is drawn with the next frame."""
        with self._lock:
            self._plan.apply(event)

    def say(self, mark: str, style: str, text: str) -> None:
        """Print a line above the view, where it stays."""
        self._console.print(Text.assemble((mark, style), " ", plain(text)))

    def open(self) -> None:
        """Begin to draw."""
        self._closing.clear()
        self._window = _Window(
            PlanView(self._plan, self._lock),
            console=self._console,
            auto_refresh=False,
            vertical_overflow="crop",
        )
        self._window.start(refresh=True)
        self._painter = threading.Thread(target=self._paint, name="plan-execute-view", daemon=True)
        self._painter.start()

    def close(self, *, leave: bool) -> None:
        """End drawing and give the terminal back.

        Args:
            leave: Whether the last frame stays.
        """
        window, self._window = self._window, None
        if window is None:
            return
        self._closing.set()
        if self._painter is not None:
            self._painter.join()
        window.transient = not leave
        # A terminal that went away needs nothing back.
        with contextlib.suppress(OSError):
            window.stop()
            if leave:
                self._console.line()

    def _paint(self) -> None:
        """Draw a frame where something was told or a second has passed, but not too many of them."""
        drawn: Any = None
        while not self._closing.wait(1 / FRAMES_PER_SECOND):
            now = (self._plan.changes, int(self._plan.seconds), self._console.size)
            window = self._window
            if now == drawn or window is None:
                continue
            drawn = now
            try:
                window.refresh()
            except OSError:  # the terminal went away; the run goes on without a view
                return
