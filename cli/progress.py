"""One line per thing that happens in a run, from its custom stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..recall import describe_recalled
from ..tools.calls import preview
from .terminal import Screen

__all__ = ["show_progress"]

Event = Mapping[str, Any]
Line = tuple[str, str, str] | None
"""A mark, its style, and the text; None: nothing worth a line."""


def show_progress(screen: Screen, event: Any) -> None:
    """Print the line of an event; events of tools and embedders have none."""
    kind = event.get("type") if isinstance(event, Mapping) else None
    make = _LINES.get(kind) if isinstance(kind, str) else None
    if make is not None and (line := make(event)):
        screen.progress(*line)


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
    return "·", "dim", f"{event['step_id']}: {event['tool']}({preview(event['args'], 120)})"


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
        f"{event['status']}: {preview(error['message'], 300)}"
        if error
        else event["verdict"] or event["status"]
    )
    return mark, style, f"{event['step_id']}: {what}"


def _evaluated(event: Event) -> Line:
    if event.get("goal_met"):
        return "●", "green", event["reason"]
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


def _question_open(event: Event) -> Line:
    where = f"{event['step_id']}: " if event["step_id"] else ""
    return "?", "magenta", f"{where}waits for a decision ({event['question']})"


_LINES: dict[str, Callable[[Event], Line]] = {
    "plan_created": _plan_created,
    "plan_validated": _plan_validated,
    "step_started": _step_started,
    "step_attempt": _step_attempt,
    "tool_call": _tool_call,
    "step_finished": _step_finished,
    "evaluated": _evaluated,
    "plan_continued": _replanned,
    "replanned": _replanned,
    "question_open": _question_open,
}
