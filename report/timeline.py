"""What really ran when: a bar for each step, and the chain of steps that determined the end."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, TypedDict

__all__ = ["Asked", "Bar", "Link", "Piece", "Timeline", "Wait", "make_timeline", "seconds_of"]

Piece = list[float]
"""When something began, and when it ended, in seconds."""

Because = Literal["start", "dependency", "slot", "revision"]


class Bar(TypedDict):
    """When a step ran. Seconds count from when the first step began, or a person was asked before it."""

    step_id: str
    start_s: float
    seconds: float
    """From its start to its end, including the time in which it did not work."""
    worked_s: float
    pieces: list[Piece]
    """When it worked: not while it waited for a person, and not after the run had ended for a while."""
    waits: list[Piece]
    """When it waited for a person."""
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
    asked_s: float
    """Seconds since then in which a person was asked about it or about the run, and it did not work."""
    waited_s: float
    """The other seconds between the end of what it followed and its own start."""


class Asked(TypedDict):
    """A question to a person, as it is on record (ISO 8601)."""

    title: str
    step_id: str | None
    asked_at: str
    answered_at: str | None
    """None: it is open."""
    by: str


class Wait(TypedDict):
    """When the whole run, or a step of it, waited for a person."""

    title: str
    step_id: str | None
    start_s: float
    seconds: float
    by: str
    ended: bool


class Timeline(TypedDict):
    """When everything ran.

    ``seconds`` is from the first start to the last end, ``active_s`` the part of it in which steps worked,
    ``waited_s`` the part in which none did and a person was asked, ``busy_s`` the sum of what all worked,
    ``at_once`` the most at the same time.
    """

    started_at: str | None
    seconds: float
    active_s: float
    waited_s: float
    busy_s: float
    at_once: int
    bars: list[Bar]
    waits: list[Wait]
    critical_path: list[Link]
    never_ran: list[str]


class Ran(NamedTuple):
    """A step with its times, in seconds since the epoch; if it never ran, its start is its end."""

    step_id: str
    start: float
    end: float
    needs: Sequence[str]
    ran: bool
    ended: bool
    attempts: Sequence[float]
    pieces: Sequence[Piece]
    waits: Sequence[Piece]

    @property
    def first(self) -> float:
        """When it worked or waited first."""
        return min([self.start, *(start for start, _ in self.waits)])

    @property
    def last(self) -> float:
        """When it worked or waited last."""
        return max([self.end, *(end for _, end in self.waits)])


_AT_ONCE = 0.01
"""Seconds between an end and a start that count as zero, because times are recorded in milliseconds."""


def seconds_of(moment: Any) -> float | None:
    """Read a moment of the record; None if there is none, or it cannot be read."""
    try:
        return datetime.fromisoformat(moment).timestamp()
    except (TypeError, ValueError):
        return None


def make_timeline(
    steps: Sequence[Mapping[str, Any]],
    audit: Sequence[Mapping[str, Any]],
    slots: int,
    asked: Sequence[Asked] = (),
    now: str | None = None,
) -> Timeline:
    """Make the timeline of a run.

    Args:
        steps: The records of its steps.
        audit: Its decisions: a revision holds up the steps it adds.
        slots: How many steps may run at the same time.
        asked: What people were asked.
        now: Until when open questions have waited (ISO 8601).
    """
    questions = [(one, piece) for one in asked if (piece := _asked_piece(one, now)) is not None]
    over = _over(audit)
    spans = {span.step_id: span for step in steps if (span := _span(step, questions, over)) is not None}
    bars = sorted(
        (span for span in spans.values() if span.ran or span.waits), key=lambda span: (span.first, span.last)
    )
    moments = [at for span in bars for at in (span.first, span.last)]
    moments += [at for _, piece in questions for at in piece]
    zero, end = min(moments, default=0.0), max(moments, default=0.0)
    path = _critical_path(spans, _added_at(audit), slots, questions, zero)
    critical = {link["step_id"] for link in path}
    pieces = [piece for span in bars for piece in span.pieces]
    waits = [piece for _, piece in questions]
    active = _length(pieces)
    return {
        "started_at": datetime.fromtimestamp(zero, UTC).isoformat(timespec="milliseconds")
        if moments
        else None,
        "seconds": round(end - zero, 3),
        "active_s": round(active, 3),
        "waited_s": round(_length([*pieces, *waits]) - active, 3),
        "busy_s": round(sum(end - start for start, end in pieces), 3),
        "at_once": _at_once(pieces),
        "bars": [_bar(span, zero, critical) for span in bars],
        "waits": [_wait(one, piece, zero) for one, piece in questions],
        "critical_path": path,
        "never_ran": [step["id"] for step in steps if step["id"] not in spans or not spans[step["id"]].ran],
    }


def _span(
    step: Mapping[str, Any], questions: Sequence[tuple[Asked, Piece]], over: Sequence[Piece]
) -> Ran | None:
    start, end = seconds_of(step["started_at"]), seconds_of(step["finished_at"])
    waits = [piece for one, piece in questions if one["step_id"] == step["id"]]
    if end is None and not waits:
        return None
    ended = step["outcome"] != "waiting"
    if end is None:
        return Ran(step["id"], waits[0][0], waits[-1][1], step["depends_on"], False, ended, [], [], waits)
    followed = step["tries"][: max(0, step["attempts"] - 1)]
    ends = [at for attempt in followed if (at := seconds_of(attempt.get("ended_at"))) is not None]
    attempts = [at for at in ends if at < end]
    begin = end if start is None else min(start, end)
    pieces = [] if start is None else _without([[begin, end]], [*waits, *over])
    return Ran(step["id"], begin, end, step["depends_on"], start is not None, ended, attempts, pieces, waits)


def _asked_piece(one: Asked, now: str | None) -> Piece | None:
    start, end = seconds_of(one["asked_at"]), seconds_of(one["answered_at"] or now)
    return None if start is None or end is None else [start, max(start, end)]


def _over(audit: Sequence[Mapping[str, Any]]) -> list[Piece]:
    """List the times between an end of the run and its continuation by a person."""
    return [
        [start, end]
        for before, after in itertools.pairwise(audit)
        if before.get("event") == "finished"
        and (start := seconds_of(before.get("at"))) is not None
        and (end := seconds_of(after.get("at"))) is not None
    ]


def _without(pieces: Sequence[Piece], others: Sequence[Piece]) -> list[Piece]:
    """Cut other times out of pieces."""
    left = list(pieces)
    for start, end in others:
        cut = [one for one in left if one[0] < end and one[1] > start]
        parts = [part for begin, stop in cut for part in ([begin, start], [end, stop]) if part[0] < part[1]]
        left = [one for one in left if one not in cut] + parts
    return sorted(left)


def _within(pieces: Iterable[Piece], start: float, end: float) -> list[Piece]:
    """Keep what lies between two moments."""
    cut = ([max(begin, start), min(stop, end)] for begin, stop in pieces)
    return [piece for piece in cut if piece[0] < piece[1]]


def _bar(span: Ran, zero: float, critical: set[str]) -> Bar:
    return {
        "step_id": span.step_id,
        "start_s": round(span.start - zero, 3),
        "seconds": round(span.end - span.start, 3),
        "worked_s": round(sum(end - start for start, end in span.pieces), 3),
        "pieces": _from(span.pieces, zero),
        "waits": _from(span.waits, zero),
        "attempts_s": [round(at - zero, 3) for at in span.attempts],
        "ended": span.ended,
        "critical": span.step_id in critical,
    }


def _from(pieces: Sequence[Piece], zero: float) -> list[Piece]:
    return [[round(at - zero, 3) for at in piece] for piece in pieces]


def _wait(one: Asked, piece: Piece, zero: float) -> Wait:
    return {
        "title": one["title"],
        "step_id": one["step_id"],
        "start_s": round(piece[0] - zero, 3),
        "seconds": round(piece[1] - piece[0], 3),
        "by": one["by"],
        "ended": one["answered_at"] is not None,
    }


def _length(pieces: Iterable[Piece]) -> float:
    """Add up the time that pieces take together."""
    total, until = 0.0, float("-inf")
    for start, end in sorted(pieces):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def _at_once(pieces: Sequence[Piece]) -> int:
    """Count the most that ran at the same time; an end at the moment of a start comes first."""
    changes = [change for start, end in pieces if end > start for change in ((end, -1), (start, 1))]
    running = most = 0
    for _, change in sorted(changes):
        running += change
        most = max(most, running)
    return max(most, min(1, len(pieces)))


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


def _critical_path(
    spans: Mapping[str, Ran],
    added_at: Mapping[str, float],
    slots: int,
    questions: Sequence[tuple[Asked, Piece]],
    zero: float,
) -> list[Link]:
    """Walk back from the step that ended last, each time to what held up its start."""
    path: list[Link] = []
    at = max((span for span in spans.values() if span.ran), key=lambda span: span.end, default=None)
    seen: set[str] = set()
    while at is not None and at.step_id not in seen:
        seen.add(at.step_id)
        because, before = _held_up_by(at, spans, added_at, slots)
        since = before.end if before is not None else zero
        about = [piece for one, piece in questions if one["step_id"] in (at.step_id, None)]
        asked = _without(_within(about, since, at.end), at.pieces)
        idle = _without([[since, at.start]] if before is not None and since < at.start else [], asked)
        if at.ran:
            path.append(
                {
                    "step_id": at.step_id,
                    "because": because,
                    "after": before.step_id if before is not None else None,
                    "asked_s": round(_length(asked), 3),
                    "waited_s": round(_length(idle), 3),
                }
            )
        at = before
    return path[::-1]


def _held_up_by(
    span: Ran, spans: Mapping[str, Ran], added_at: Mapping[str, float], slots: int
) -> tuple[Because, Ran | None]:
    """Tell what a step's start followed.

    Normally this is the dependency that ended last. For a step that a revision added later, it is the last
    end before that revision. If all slots were taken then, it is the end that freed a slot.
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
