"""What a report says in words: how steps and runs end, what decisions are called, how long things took."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import version
from typing import Any, NamedTuple

__all__ = [
    "EVENTS",
    "OUTCOMES",
    "SIGNED",
    "Outcome",
    "event_title",
    "say_cost",
    "say_count",
    "say_seconds",
    "say_time",
    "say_timeline",
    "say_usage",
    "signature",
    "status_words",
]


class Outcome(NamedTuple):
    """How a step ended: a mark that needs no colour, and a word."""

    mark: str
    label: str
    meaning: str


OUTCOMES: dict[str, Outcome] = {
    "done": Outcome("✓", "done", "done, and its criteria are met"),
    "empty": Outcome("∅", "done, empty", "done; a valid result with nothing in it"),
    "unverified": Outcome("?", "done, not verified", "done, but nobody could check it"),
    "failed": Outcome("✗", "failed", "failed, after all its attempts"),
    "waiting": Outcome("‖", "waiting", "waits for a person's answer"),
    "blocked": Outcome("⊘", "blocked", "did not run: something it needs did not succeed"),
    "skipped": Outcome("–", "skipped", "skipped by its condition or by a decision"),
    "open": Outcome("○", "not ended", "has not run, or has not ended yet"),
}

_STATUSES = {
    "planning": "Not finished: the plan is being made, or the run was stopped while it was.",
    "running": "Not finished: it is running, or was stopped before its end. This is what there is so far.",
    "waiting": "Not finished: it waits for a person's answer. This is what there is so far.",
    "done": "The run ended, and what it was for is done.",
    "partial": "The run ended before everything was done.",
    "failed": "The run ended, and no step succeeded.",
    "rejected": "The plan was rejected, and nothing more was run.",
}

EVENTS = {
    "plan_written": "The planner wrote a plan",
    "plan_recalled": "A plan of the cache was used again",
    "cached_plan_ignored": "A cached plan could not be read",
    "cached_plan_dropped": "A cached plan was dropped",
    "plan_cached": "The plan was kept in the cache",
    "plan_accepted": "The plan is valid",
    "plan_refused": "The plan cannot run",
    "outcomes_settled": "A person said what became of writes in doubt",
    "plan_approved": "The plan was approved",
    "plan_edited": "The plan was edited",
    "plan_rejected": "The plan was rejected",
    "plan_revised": "The plan was revised",
    "approval_missing": "No approval of this plan is on record",
    "cannot_plan": "No plan could be made",
    "cannot_replan": "No revision could be made",
    "step_failure": "A step's failure was decided about",
    "evaluated": "The run was evaluated",
    "budget_answered": "A person was asked about a budget",
    "steps_retried": "Steps were ordered again",
    "cancelled": "The run was cancelled",
    "finished": "The run ended",
}


def status_words(status: str) -> str:
    """Say a run's status in a sentence."""
    return _STATUSES.get(status, status)


def event_title(event: Mapping[str, Any]) -> str:
    """Say what a decision on record was about."""
    name = str(event.get("event") or "")
    if name == "step_failure" and str(event.get("trigger") or "").startswith("approve_step:"):
        return "A person was asked about a step"
    return EVENTS.get(name, name.replace("_", " "))


def say_seconds(seconds: float | None) -> str:
    """Say a length of time in two units at most: ``340 ms``, ``1.2 s``, ``2 min 5 s``, ``3 h 4 min``."""
    if seconds is None:
        return ""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    for large, size, small, part in _UNITS:
        count = round(seconds / part)
        if count * part >= size:
            whole, rest = divmod(count, size // part)
            return f"{whole:,} {large}" + (f" {rest} {small}" if rest else "")
    return f"{seconds:.0f} s"


_UNITS = (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1))


def say_time(moment: str | None) -> str:
    """Say a moment of the record: ``2026-07-01 12:34:56 UTC``."""
    if not moment:
        return ""
    try:
        parsed = datetime.fromisoformat(moment)
    except ValueError:
        return moment
    zone = (
        " UTC"
        if parsed.utcoffset() is not None and not parsed.utcoffset()
        else parsed.strftime(" %z").rstrip()
    )
    return f"{parsed:%Y-%m-%d %H:%M:%S}{zone}"


def say_timeline(timeline: Mapping[str, Any]) -> str:
    """Say in a sentence how long steps ran, and how many of them together."""
    seconds, active = timeline["seconds"], timeline["active_s"]
    together = timeline["busy_s"] / active if active else 1.0
    part = f", in {say_seconds(active)} of which something ran" if seconds - active > seconds / 20 else ""
    return (
        f"{say_count(len(timeline['bars']), 'step')} ran within {say_seconds(seconds)}{part}, "
        f"from {say_time(timeline['started_at'])}: {together:.1f} at a time on average, "
        f"{timeline['at_once']} at most."
    )


def say_count(count: int, thing: str) -> str:
    """Say how many there are: ``1 step``, ``1,200 steps``."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def say_cost(cost: float) -> str:
    """Say a cost; the unit is that of the prices that were given."""
    return f"{cost:,.2f}" if cost >= 100 else f"{cost:.4g}"


def say_usage(usage: Mapping[str, Any]) -> list[str]:
    """Say what was spent, leaving out what was not."""
    tokens_in, tokens_out = usage.get("input_tokens") or 0, usage.get("output_tokens") or 0
    said = []
    if calls := usage.get("model_calls"):
        said.append(say_count(calls, "model call"))
    if tokens_in or tokens_out:
        said.append(f"{tokens_in:,} tokens in, {tokens_out:,} out")
    elif total := usage.get("total_tokens"):
        said.append(say_count(total, "token"))
    if calls := usage.get("tool_calls"):
        said.append(say_count(calls, "tool call"))
    if (cost := usage.get("cost")) is not None:
        said.append(f"cost {say_cost(cost)}")
    return said


SIGNED = "Made by plan-execute "


def signature(record: Mapping[str, Any]) -> str:
    """Say what made a report, and when."""
    return f"{SIGNED}{version('plan-execute')} on {say_time(record['made_at'])}."
