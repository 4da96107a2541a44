"""What really ran when: a bar for each step, and the chain of steps that determined the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple, TypedDict

__all__ = ["Bar", "Link", "Timeline", "make_timeline", "seconds_of"]

Because = Literal["start", "dependency", "slot", "revision"]


class Bar(TypedDict):
    """When a step ran. Seconds count from the start of the first step."""

    step_id: str
    start_s: float
    seconds: float
    attempts_s: list[float]
    """When an attempt ended and another one followed, as far as that is on record."""
    ended: bool
    critical: bool


class Link(TypedDict):
    """One step of the critical path."""

    step_id: str
    because: Because
    """What its start followed: the run's start, a dependency, a slot that became free, a revision."""
    after: str | None
    waited_s: float
    """Between the end of what it followed and its own start."""


class Timeline(TypedDict):
    """When everything ran.

    ``seconds`` is from the first start to the last end, ``active_s`` the part of it in which anything ran,
    ``busy_s`` the sum of all bars, ``at_once`` the most at the same time.
    """

    started_at: str | None
    seconds: float
    active_s: float
    busy_s: float
    at_once: int
    bars: list[Bar]
    critical_path: list[Link]
    never_ran: list[str]


class Ran(NamedTuple):
    """A step with its times, in seconds since the epoch; one that never ran has its end for a start."""

    step_id: str
    start: float
    end: float
    needs: Sequence[str]
    ran: bool
    ended: bool
    attempts: Sequence[float]


_AT_ONCE = 0.01
"""Seconds between an end and a start that count as none: times are on record in milliseconds."""


def seconds_of(moment: Any) -> float | None:
    """Read a moment of the record; None where there is none that can be read."""
    try:
        return datetime.fromisoformat(moment).timestamp()
    except (TypeError, ValueError):
        return None


def make_timeline(
    steps: Sequence[Mapping[str, Any]], audit: Iterable[Mapping[str, Any]], slots: int
) -> Timeline:
    """Make the timeline of a run.

    Args:
        steps: The records of its steps.
        audit: Its decisions: a revision holds up the steps it adds.
        slots: How many steps may run at the same time.
    """
    spans = {span.step_id: span for step in steps if (span := _span(step)) is not None}
    bars = sorted((span for span in spans.values() if span.ran), key=lambda span: (span.start, span.end))
    zero = bars[0].start if bars else 0.0
    path = _critical_path(spans, _added_at(audit), slots)
    critical = {link["step_id"] for link in path}
    first = min((step for step in steps if step["started_at"]), key=_start_of, default=None)
    return {
        "started_at": first["started_at"] if first is not None else None,
        "seconds": round(max((span.end for span in bars), default=zero) - zero, 3),
        "active_s": round(_active(bars), 3),
        "busy_s": round(sum(span.end - span.start for span in bars), 3),
        "at_once": _at_once(bars),
        "bars": [_bar(span, zero, critical) for span in bars],
        "critical_path": path,
        "never_ran": [step["id"] for step in steps if step["id"] not in spans or not spans[step["id"]].ran],
    }


def _start_of(step: Mapping[str, Any]) -> float:
    return seconds_of(step["started_at"]) or float("inf")


def _span(step: Mapping[str, Any]) -> Ran | None:
    start, end = seconds_of(step["started_at"]), seconds_of(step["finished_at"])
    if end is None:
        return None
    followed = step["tries"][: max(0, step["attempts"] - 1)]
    ends = [at for attempt in followed if (at := seconds_of(attempt.get("ended_at"))) is not None]
    attempts = [at for at in ends if at < end]
    begin = end if start is None else min(start, end)
    ended = step["outcome"] != "waiting"
    return Ran(step["id"], begin, end, step["depends_on"], start is not None, ended, attempts)


def _bar(span: Ran, zero: float, critical: set[str]) -> Bar:
    return {
        "step_id": span.step_id,
        "start_s": round(span.start - zero, 3),
        "seconds": round(span.end - span.start, 3),
        "attempts_s": [round(at - zero, 3) for at in span.attempts],
        "ended": span.ended,
        "critical": span.step_id in critical,
    }


def _active(bars: Sequence[Ran]) -> float:
    """Add up the time in which at least one step ran; the bars come by their start."""
    total, until = 0.0, float("-inf")
    for span in bars:
        total += max(0.0, span.end - max(span.start, until))
        until = max(until, span.end)
    return total


def _at_once(bars: Sequence[Ran]) -> int:
    """Count the most steps that ran at the same time; an end at the moment of a start comes first."""
    changes = [(span.end, -1) for span in bars if span.end > span.start]
    changes += [(span.start, 1) for span in bars if span.end > span.start]
    running = most = 0
    for _, change in sorted(changes):
        running += change
        most = max(most, running)
    return max(most, min(1, len(bars)))


def _added_at(audit: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Tell when each step came into a plan."""
    added: dict[str, float] = {}
    for event in audit:
        if event.get("event") != "plan_accepted" or (at := seconds_of(event.get("at"))) is None:
            continue
        for step_id in (event.get("difference") or {}).get("added") or ():
            added[step_id] = at
    return added


# --- the critical path -------------------------------------------------------------------


def _critical_path(spans: Mapping[str, Ran], added_at: Mapping[str, float], slots: int) -> list[Link]:
    """Walk back from the step that ended last, each time to what held up its start."""
    path: list[Link] = []
    at = max((span for span in spans.values() if span.ran), key=lambda span: span.end, default=None)
    seen: set[str] = set()
    while at is not None and at.step_id not in seen:
        seen.add(at.step_id)
        because, before = _held_up_by(at, spans, added_at, slots)
        waited = max(0.0, at.start - before.end) if before is not None else 0.0
        if at.ran:
            path.append(
                {
                    "step_id": at.step_id,
                    "because": because,
                    "after": before.step_id if before is not None else None,
                    "waited_s": round(waited, 3),
                }
            )
        at = before
    return path[::-1]


def _held_up_by(
    span: Ran, spans: Mapping[str, Ran], added_at: Mapping[str, float], slots: int
) -> tuple[Because, Ran | None]:
    """Tell what a step's start followed.

    That is the dependency that ended last; but for a step that a revision added later, the end before
    that revision, and for one that then found all slots taken, the end that gave it one.
    """
    ended = [dep for name in span.needs if (dep := spans.get(name)) and dep.end <= span.start + _AT_ONCE]
    last = max(ended, key=lambda dep: dep.end, default=None)
    ready = last.end if last is not None else float("-inf")
    added = added_at.get(span.step_id, float("-inf"))
    if max(ready, added) >= span.start - _AT_ONCE and added <= ready:
        return "dependency", last
    others = [other for other in spans.values() if other.ran and other.step_id != span.step_id]
    if added > ready:
        before = max((one for one in others if one.end <= added), key=lambda one: one.end, default=None)
        if before is not None and before.end > ready:
            return "revision", before
    freed = [one for one in others if max(ready, added) < one.end <= span.start + _AT_ONCE]
    if freed:
        before = max(freed, key=lambda one: one.end)
        if sum(one.start < before.end <= one.end for one in others) >= slots:
            return "slot", before
    return ("dependency", last) if last is not None else ("start", None)
