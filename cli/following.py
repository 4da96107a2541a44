"""How a run is followed: drawn live before a person at a terminal, else told line by line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..plan.reuse import describe_recalled
from ..state import kind_of
from ..tools.calls import last_line
from ..tools.texts import preview, shortened
from .terminal import Screen

if TYPE_CHECKING:
    from .live_plan import LivePlan

__all__ = ["Line", "Lines", "Live", "line_of", "show_progress", "way_to_follow"]

Event = Mapping[str, Any]
Line = tuple[str, str, str] | None
"""A mark, its style, and the text; None: nothing worth a line."""


def show_progress(screen: Screen, event: Any) -> None:
    """Print the line of an event; events of tools and embedders have none."""
    if line := line_of(event):
        screen.progress(*line)


def line_of(event: Any) -> Line:
    """Word an event as a line; events of others have none."""
    kind = event.get("type") if isinstance(event, Mapping) else None
    make = _LINES.get(kind) if isinstance(kind, str) else None
    line = make(event) if make is not None and "spent" in event else None
    if line and event["within"]:
        # Steps of a sub-plan, and what is decided about it, say whose work they are.
        return line[0], line[1], f"{' › '.join(event['within'])} › {line[2]}"
    return line


def _plan_created(event: Event) -> Line:
    ids = ", ".join(step["id"] for step in event["plan"]["steps"])
    if hit := event.get("recalled"):
        return "●", "cyan", f"plan {describe_recalled(hit)}; the planner was not asked: {ids}"
    return "●", "cyan", f"plan, revision {event['revision']}: {ids}"


def _plan_validated(event: Event) -> Line:
    issues = event["issues"]
    if not issues:
        return None
    found = "; ".join(f"{issue['code']}: {issue['message']}" for issue in issues)
    return "!", "yellow", f"the plan cannot run: {preview(found, 500)}"


def _step_started(event: Event) -> Line:
    task = event["task"]
    return "▶", "cyan", event["step_id"] + (f": {preview(task, 120)}" if task else "")


def _step_attempt(event: Event) -> Line:
    return (
        ("↻", "yellow", f"{event['step_id']}: attempt {event['attempt']}") if event["attempt"] > 1 else None
    )


def _tool_call(event: Event) -> Line:
    if event["item"] is not None:
        return None  # a loop tells its progress
    return "·", "dim", f"{event['step_id']}: {event['tool']}({preview(event['args'], 120)})"


def _tool_finished(event: Event) -> Line:
    if event["ok"]:
        return None
    why = shortened(event["output_preview"], 600)
    return "!", "yellow", f"{event['step_id']}: {event['tool']} failed: {why}"


def _step_progress(event: Event) -> Line:
    """Tell of every tenth of a loop, and of every item that failed."""
    done, total, error = event["done"], event["total"], event["error"]
    where = f"{event['step_id']}: {done} of {total}"
    if error:
        return "!", "yellow", f"{where}; item {event['item']} failed: {shortened(error['message'], 300)}"
    return ("·", "dim", where) if done == total or done % max(total // 10, 1) == 0 else None


_STEP_ENDS = {
    "done": ("✓", "green"),
    "failed": ("✗", "red"),
    "skipped": ("–", "yellow"),
    "blocked": ("–", "yellow"),
}


def _step_finished(event: Event) -> Line:
    mark, style = _STEP_ENDS[event["status"]]
    error = event["error"]
    what = (
        f"{event['status']}: {shortened(last_line(error['message']), 300)}"
        if error
        else event["verdict"] or event["status"]
    )
    return mark, style, f"{event['step_id']}: {what}"


def _evaluated(event: Event) -> Line:
    if event["decision"] == "continue":
        return None
    return (
        "●",
        "yellow",
        f"decision: {event['decision']}" + (f" ({event['reason']})" if event["reason"] else ""),
    )


def _replanned(event: Event) -> Line:
    named = [f"{what}: {', '.join(ids)}" for what, ids in event["difference"].items() if ids]
    return "●", "cyan", f"plan, revision {event['revision']}; {'; '.join(named) or 'no change'}"


def _plan_rejected(event: Event) -> Line:
    why = f": {preview(event['feedback'], 300)}" if event["feedback"] else ""
    by_nobody = kind_of(event["by"]) == "timeout"
    return "●", "yellow", ("nobody answered" if by_nobody else "the plan was rejected") + why


def _budget_warning(event: Event) -> Line:
    return "!", "yellow", f"budget {event['budget']}: {event['used']:,g} of {event['limit']:,g} used"


def _question_open(event: Event) -> Line:
    where = f"{event['step_id']}: " if event["step_id"] else ""
    return "?", "magenta", f"{where}waits for a decision ({event['question']})"


_LINES: dict[str, Callable[[Event], Line]] = {
    "plan_created": _plan_created,
    "plan_validated": _plan_validated,
    "plan_rejected": _plan_rejected,
    "budget_warning": _budget_warning,
    "step_started": _step_started,
    "step_attempt": _step_attempt,
    "tool_call": _tool_call,
    "tool_finished": _tool_finished,
    "step_progress": _step_progress,
    "step_finished": _step_finished,
    "evaluated": _evaluated,
    "plan_continued": _replanned,
    "replanned": _replanned,
    "question_open": _question_open,
}


# --- following ------------------------------------------------------------------------

_KEPT = frozenset(
    {
        "plan_continued",
        "plan_validated",
        "plan_rejected",
        "replanned",
        "evaluated",
        "budget_warning",
    }
)
"""Events whose line stays above the live view: what was decided about the plan."""


def way_to_follow(screen: Screen) -> Lines | Live:
    """Choose the live view where it can be drawn."""
    return Live(screen) if screen.live else Lines(screen)


_FAILED_ITEMS_TOLD = 3


class Lines:
    """A line for each event."""

    plan: LivePlan | None = None

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._items: set[str] = set()
        self._failed: Counter[str] = Counter()

    def take_up(self, values: Callable[[], Mapping[str, Any]]) -> None:
        """Nothing needs to be known about what happened before."""

    def note_stop(self) -> None:
        """Nothing is said now: the end says what stopped."""

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Be ready for events."""
        yield

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the terminal to somebody else."""
        yield

    def tell(self, event: Any) -> None:
        """Show an event; a loop tells its progress, and of what fails only the first ones."""
        if not self._is_one_of_many(event):
            show_progress(self._screen, event)

    def _is_one_of_many(self, event: Any) -> bool:
        kind = event.get("type") if isinstance(event, Mapping) else None
        if kind == "tool_call" and event.get("item") is not None:
            self._items.add(event["call_id"])
        if kind == "tool_finished" and event["call_id"] in self._items:
            self._items.discard(event["call_id"])
            return True  # the item's own end says it
        if kind == "step_progress" and event.get("error"):
            self._failed[event["step_id"]] += 1
            return self._failed[event["step_id"]] > _FAILED_ITEMS_TOLD
        return False


class Live:
    """The plan as a tree that is drawn anew while the run goes on; each stretch between questions is one."""

    def __init__(self, screen: Screen) -> None:
        from ..context import run_redactor
        from .live_plan import LivePlan
        from .live_screen import LiveScreen

        self._screen = screen
        self.plan = LivePlan()
        self._drawn = LiveScreen(self.plan, lambda text: run_redactor().text(text))

    def take_up(self, values: Callable[[], Mapping[str, Any]]) -> None:
        """Show what a thread that was begun earlier has done, from the values of its state."""
        if not self.plan.rows():
            self.plan.seed(values())

    def note_stop(self) -> None:
        """Say that the run was told to stop; what must not be cut off may finish first."""
        self.plan.stopping()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Draw until the stretch ends; before a question the view makes room, at the end it stays."""
        self.plan.go_on()
        failed = True
        try:
            self._drawn.open()
            yield
            failed = False
        finally:
            self.plan.stop()
            asks = self._screen.interactive and bool(self.plan.questions) and not failed
            self._drawn.close(leave=not asks and bool(self.plan.rows()))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the terminal to somebody else; the view comes back below what they wrote."""
        self._drawn.close(leave=False)
        yield
        self._drawn.open()

    def tell(self, event: Any) -> None:
        """Show an event."""
        self._drawn.tell(event)
        if self._is_kept(event) and (line := line_of(event)):
            self._drawn.say(*line)

    def _is_kept(self, event: Any) -> bool:
        """Tell whether an event leaves a line, because the tree does not say it."""
        kind = event.get("type") if isinstance(event, Mapping) else None
        if kind == "plan_created":
            return bool(event.get("recalled"))
        return kind in _KEPT and (kind != "budget_warning" or event.get("budget") in self.plan.warnings)
