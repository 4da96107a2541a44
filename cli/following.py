"""How a run is followed: drawn live before a person at a terminal, else told line by line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .progress import line_of, show_progress
from .terminal import Screen

if TYPE_CHECKING:
    from .live_plan import LivePlan

__all__ = ["Lines", "Live", "way_to_follow"]

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


class Lines:
    """A line for each event."""

    plan: LivePlan | None = None

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def take_up(self, values: Callable[[], Mapping[str, Any]]) -> None:
        """Nothing is to be known of what happened before."""

    def note_stop(self) -> None:
        """Nothing is to be said: what stops is told at its end."""

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Be ready for events."""
        yield

    def tell(self, event: Any) -> None:
        """Show an event."""
        show_progress(self._screen, event)


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
        """Say that the run was told to stop: what must not be cut off may take its time."""
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
