"""What a report says in words, and how much of each text it shows."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from ..context import Context
from ..safety.visible_text import cut

__all__ = [
    "EVENTS",
    "OUTCOMES",
    "SIGNED",
    "Outcome",
    "Share",
    "as_text",
    "event_title",
    "say_cost",
    "say_count",
    "say_critical_path",
    "say_models",
    "say_roles",
    "say_seconds",
    "say_time",
    "say_timeline",
    "say_usage",
    "settings_that_matter",
    "shortened",
    "signature",
    "status_words",
    "way_to_output",
]

Json = Any


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
    "running": Outcome("▶", "running", "is running now"),
    "waiting": Outcome("‖", "waiting", "waits for a person's answer"),
    "blocked": Outcome("⊘", "blocked", "did not run: something it needs did not succeed"),
    "skipped": Outcome("–", "skipped", "skipped by its condition or by a decision"),
    "open": Outcome("○", "not ended", "has not run, or has not ended yet"),
}

_STATUSES = {
    "planning": "Not finished: the plan is being written, or the run was stopped before the plan was ready.",
    "running": "Not finished: it is running, or was stopped before its end. This is what there is so far.",
    "stopped": "Not finished: it was stopped before its end. This is what there is so far.",
    "waiting": "Not finished: it waits for a person's answer. This is what there is so far.",
    "done": "The run ended, and its work is done.",
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
    "outcomes_settled": "A person said what became of writes with an unknown outcome",
    "plan_approved": "The plan was approved",
    "plan_edited": "The plan was edited",
    "plan_rejected": "The plan was rejected",
    "plan_revised": "The plan was revised",
    "approval_missing": "No approval of this plan is on record",
    "cannot_plan": "No plan could be made",
    "cannot_replan": "No revision could be made",
    "step_failure": "A decision was made about a failed step",
    "evaluated": "The run was evaluated",
    "budget_answered": "A person was asked about a budget",
    "steps_retried": "Steps were told to run again",
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
    """Say what the time went to, and how many steps worked at the same time."""
    seconds, active, waited = timeline["seconds"], timeline["active_s"], timeline["waited_s"]
    parts = {"steps worked": active, "a person was asked": waited, "neither": seconds - active - waited}
    told = [f"{say_seconds(part)} {what}" for what, part in parts.items() if part > seconds / 50]
    of_it = f": {', '.join(told)}" if len(told) > 1 or waited > seconds / 50 else ""
    ran = sum(bool(bar["pieces"]) for bar in timeline["bars"])
    most = timeline["at_once"]
    together = (
        f" At most {most} ran at the same time."
        if most > 1
        else " One ran after the other."
        if ran > 1
        else ""
    )
    return (
        f"{say_count(ran, 'step')} ran. It took {say_seconds(seconds)} from the first start "
        f"({say_time(timeline['started_at'])}) to the last end{of_it}.{together}"
    )


def say_critical_path(timeline: Mapping[str, Any]) -> str:
    """Say what the time of the critical path went to."""
    path = {link["step_id"] for link in timeline["critical_path"]}
    work = sum(bar["worked_s"] for bar in timeline["bars"] if bar["step_id"] in path)
    asked = sum(link["asked_s"] for link in timeline["critical_path"])
    between = max(0.0, timeline["seconds"] - work - asked)
    told = [f"{say_seconds(work)} of work"]
    told += [f"{say_seconds(asked)} of waiting for a person"] if asked else []
    return (
        f"The critical path: {say_count(len(path), 'step')} that each waited for the one before, "
        f"with {', '.join(told)} and {say_seconds(between)} between them. "
        "The run could have ended earlier only if one of these times had been shorter."
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


def say_models(usage: Mapping[str, Any]) -> list[str]:
    """Say what each model was used for, where that is on record."""
    models = {name: used for name, used in (usage.get("by_model") or {}).items() if isinstance(used, Mapping)}
    return [
        f"{name}{f' ({roles})' if (roles := say_roles(used)) else ''}: {', '.join(say_usage(used))}"
        for name, used in sorted(models.items())
    ]


def say_roles(used: Mapping[str, Any]) -> str:
    """Say in which roles a model was called, and how often."""
    return ", ".join(f"{role} {calls:,}" for role, calls in (used.get("roles") or {}).items())


SIGNED = "Made by plan-execute "


def signature(record: Mapping[str, Any]) -> str:
    """Say what made a report, and when."""
    from importlib.metadata import version

    return f"{SIGNED}{version('plan-execute')} on {say_time(record['made_at'])}."


# --- settings ------------------------------------------------------------------------------

_ALWAYS = ("approval", "on_failure", "max_parallel", "max_attempts", "max_replans")
_NEVER = {"secret_names"}


def settings_that_matter(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List settings as (title, value): a few always, the others only if they differ from the default."""
    defaults = Context().model_dump(mode="json")
    fields = Context.model_fields
    settings = {**{name: defaults[name] for name in _ALWAYS}, **settings}
    named = [*_ALWAYS, *(name for name in settings if name not in _ALWAYS and name not in _NEVER)]
    return [
        (str(fields[name].title if name in fields else name), _said(settings[name]))
        for name in named
        if name in _ALWAYS or settings[name] != defaults.get(name)
    ]


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {item}" for key, item in value.items())
    return "none" if value is None else str(value)


# --- how much is shown ---------------------------------------------------------------------

_ALL_TEXT = 3_000_000
_ALL_CALLS = 20_000


@dataclass(frozen=True)
class Share:
    """How much of a report one step may take.

    Attributes:
        text: Characters of an output.
        brief: Characters of an input, an argument, a message.
        calls: Tool calls.
    """

    text: int
    brief: int
    calls: int

    @classmethod
    def of(cls, steps: int) -> Share:
        """Divide the room of a report."""
        text = max(1500, min(20_000, _ALL_TEXT // max(1, steps)))
        return cls(text, min(2000, text), max(5, min(50, _ALL_CALLS // max(1, steps))))


def as_text(value: Json) -> str:
    """Write a value for people: text as it is, everything else as indented JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, indent=2, default=str)


def shortened(value: Json, limit: int) -> tuple[str, str]:
    """Write the beginning of a value, and a note about what was left out, if anything."""
    text, left_out = cut(as_text(value), limit)
    return text, f"… {left_out:,} more characters" if left_out else ""


def way_to_output(thread: str, step_id: str) -> str:
    """Write the command that prints a step's whole output."""
    return shlex.join(["plan-execute", "show", thread or "THREAD", "--step", step_id])
