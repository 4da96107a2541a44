"""What a reader of a report wants to know first: what broke, who decided, and what changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict

from ..tools.calls import last_line
from .steps import StepRecord
from .timeline import Asked, seconds_of

__all__ = ["Break", "Change", "Decided", "Decision", "Story", "tell_story"]

Json = Any


class Decision(TypedDict):
    """A decision on record, and what had been spent by then."""

    at: str
    event: str
    title: str
    step_id: str | None
    revision: int | None
    decision: str
    by: str
    trigger: str
    evidence: list[str]
    difference: dict[str, list[str]]
    usage: dict[str, Json]
    earlier_goal: bool


class Break(TypedDict):
    """A step that failed at least once, and what came of it."""

    step_id: str
    outcome: str
    error: str
    failures: int
    """How many of its attempts failed."""
    then: str
    blocked: list[str]
    """The steps that did not run because of it."""


class Decided(TypedDict):
    """What a person or a model decided, or is asked."""

    at: str
    who: str
    """Empty: nobody has answered yet."""
    did: str
    step_id: str | None
    waited_s: float | None


class Change(TypedDict):
    """A call that may have changed the world, or a revision of the plan."""

    kind: str
    """``call`` or ``plan``."""
    said: str
    step_id: str | None
    added: list[str]
    removed: list[str]


class Story(TypedDict):
    """The first screen of a report."""

    broke: list[Break]
    unverified: list[str]
    """Steps that are done, and that nobody could check."""
    decided: list[Decided]
    changed: list[Change]


def tell_story(
    steps: Sequence[StepRecord], decisions: Sequence[Decision], asked: Sequence[Asked], *, ended: bool
) -> Story:
    """Pick out of a run what its reader wants to know first.

    Args:
        steps: The records of its steps.
        decisions: Those about its goal, in the order in which they were made.
        asked: What people were asked.
        ended: Whether it has ended.
    """
    return {
        "broke": [_break(step, steps, decisions, ended=ended) for step in steps if _failed(step)],
        "unverified": [step["id"] for step in steps if step["in_plan"] and step["outcome"] == "unverified"],
        "decided": sorted([*_decided(decisions, asked), *_answered(decisions, asked)], key=_when),
        "changed": [*_revisions(decisions), *_calls(steps)],
    }


# --- what broke --------------------------------------------------------------------------


def _failed(step: StepRecord) -> bool:
    return step["outcome"] == "failed" or any(made.get("error") for made in step["tries"])


def _break(
    step: StepRecord, steps: Sequence[StepRecord], decisions: Sequence[Decision], *, ended: bool
) -> Break:
    errors = [made["error"] for made in step["tries"] if made.get("error")]
    error = step["error"] or errors[-1] or {}
    return {
        "step_id": step["id"],
        "outcome": step["outcome"],
        "error": last_line(str(error.get("message") or error.get("code") or "")).removeprefix("… "),
        "failures": max(len(errors), step["attempts"] if step["outcome"] == "failed" else 0),
        "then": _then(step, steps, decisions, ended=ended),
        "blocked": _blocked_by(step["id"], steps),
    }


def _then(
    step: StepRecord, steps: Sequence[StepRecord], decisions: Sequence[Decision], *, ended: bool
) -> str:
    """Say what came of a failure."""
    if step["outcome"] == "waiting":
        return "a person is asked what to do"
    if step["outcome"] in ("done", "empty"):
        return f"attempt {step['attempts']} succeeded"
    last = [one for one in decisions if one["event"] == "step_failure" and one["step_id"] == step["id"]]
    decision = last[-1]["decision"] if last else ""
    if decision == "supply":
        return "a person gave its output by hand"
    if step["outcome"] == "unverified":
        return f"attempt {step['attempts']} ended, and nobody could check it"
    if mended := [other["id"] for other in steps if step["id"] in other["mends"]]:
        revision = next(one for one in decisions if mended[0] in one["difference"].get("added", ()))[
            "revision"
        ]
        good = all(
            other["outcome"] in ("done", "empty", "skipped") for other in steps if other["id"] in mended
        )
        return f"revision {revision} of the plan {'worked around it' if good else 'tried to work around it'}"
    if step["outcome"] == "skipped":
        return "the run went on without it"
    if step["outcome"] == "open":
        return "it has not run again yet"
    if decision == "continue":
        return "the plan said what to do then"
    return "the run ended without it" if ended else "nothing has been done about it yet"


def _blocked_by(step_id: str, steps: Sequence[StepRecord]) -> list[str]:
    """Name the steps of the current plan that one step blocks, directly or not."""
    blocked = {step_id}
    for step in steps:
        if step["in_plan"] and step["outcome"] == "blocked" and blocked & {*step["depends_on"]}:
            blocked.add(step["id"])
    return [step["id"] for step in steps if step["id"] in blocked - {step_id}]


# --- who decided -------------------------------------------------------------------------

_DID = {
    "plan_approved": "approved the plan",
    "plan_edited": "edited the plan",
    "plan_rejected": "rejected the plan",
    "steps_retried": "had steps run again",
    "cancelled": "ended the run",
    "outcomes_settled": "said what became of writes with an unknown outcome",
}
_AFTER_A_FAILURE = {
    "retry": "had it retried",
    "skip": "let the run go on without it",
    "patch": "had this part of the plan revised",
    "replan": "had the rest of the plan revised",
    "supply": "gave its output by hand",
    "abort": "ended the run after its failure",
    "ask": "left it to a person",
    "continue": "let the run go on",
}
_DECIDERS = ("person", "model", "timeout")


def _decided(decisions: Sequence[Decision], asked: Sequence[Asked]) -> Iterator[Decided]:
    for one in decisions:
        if not one["by"].startswith(_DECIDERS) or one["event"] == "evaluated":
            continue
        if one["event"] in _DID:
            revision = f" (revision {one['revision']})" if (one["revision"] or 1) > 1 else ""
            did = _DID[one["event"]] + revision
        elif one["event"] == "step_failure":
            did = _about_a_step(one)
        elif one["event"] == "budget_answered":
            did = f"asked about a budget: {one['decision']}"
        else:
            continue
        yield {
            "at": one["at"],
            "who": _who(one["by"]),
            "did": did,
            "step_id": one["step_id"],
            "waited_s": _waited(one, asked),
        }


def _who(by: str) -> str:
    """Name who decided; a person by their name, where it is known."""
    named = {"person": "a person", "model": "the model", "timeout": "nobody in time"}
    return named.get(by, by.removeprefix("person "))


def _about_a_step(one: Decision) -> str:
    if one["trigger"].startswith("approve_step:"):
        return {"reject": "refused to let it run", "edit": "edited it, and let it run"}.get(
            one["trigger"].removeprefix("approve_step:").strip(), "let it run"
        )
    return _AFTER_A_FAILURE.get(one["decision"], one["decision"])


def _waited(one: Decision, asked: Sequence[Asked]) -> float | None:
    """Tell how long the question had been open that this decision answered."""
    for question in asked:
        if question["answered_at"] == one["at"] and question["by"] == one["by"]:
            start, end = seconds_of(question["asked_at"]), seconds_of(one["at"])
            return None if start is None or end is None else round(max(0.0, end - start), 3)
    return None


def _answered(decisions: Sequence[Decision], asked: Sequence[Asked]) -> Iterator[Decided]:
    """List open questions, and answers that no recorded decision covers."""
    on_record = {(one["at"], one["by"]) for one in decisions}
    for one in asked:
        if one["answered_at"] is not None and (not one["by"] or (one["answered_at"], one["by"]) in on_record):
            continue
        start, end = seconds_of(one["asked_at"]), seconds_of(one["answered_at"])
        yield {
            "at": one["answered_at"] or one["asked_at"],
            "who": _who(one["by"]),
            "did": f"answered: {one['title']}" if one["by"] else one["title"],
            "step_id": one["step_id"],
            "waited_s": None if start is None or end is None else round(max(0.0, end - start), 3),
        }


def _when(one: Decided) -> tuple[bool, float]:
    """Order by time; open questions come first."""
    return (bool(one["who"]), seconds_of(one["at"]) or 0.0)


# --- what changed ------------------------------------------------------------------------


def _revisions(decisions: Sequence[Decision]) -> Iterator[Change]:
    for one in decisions:
        added, removed = (one["difference"].get(what, []) for what in ("added", "removed"))
        if one["event"] in ("plan_revised", "plan_edited") and (added or removed or one["difference"]):
            yield {
                "kind": "plan",
                "said": f"revision {one['revision']} of the plan, by {one['by']}",
                "step_id": None,
                "added": added,
                "removed": removed,
            }


def _calls(steps: Sequence[StepRecord]) -> Iterator[Change]:
    """List the calls that may have changed the world, in the order of their steps' times."""
    ran = sorted(steps, key=lambda step: seconds_of(step["started_at"]) or 0.0)
    for step in ran:
        for call in step["evidence"]:
            if call.get("effect") in ("write", "idempotent") and call.get("ok"):
                yield {
                    "kind": "call",
                    "said": _call(call),
                    "step_id": step["id"],
                    "added": [],
                    "removed": [],
                }


def _call(call: Mapping[str, Any]) -> str:
    args = ", ".join(f"{name}: {value}" for name, value in (call.get("args") or {}).items())
    return f"{call.get('tool')}{f' ({args})' if args else ''}"
