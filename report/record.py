"""A run as one record of plain JSON: all that a report says, before anything is worded or drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypedDict

from langgraph.checkpoint.serde.types import INTERRUPT

from ..context import Context
from ..people.questions import OpenQuestion
from ..people.wording import TITLES
from ..plan.identity import input_values
from ..state import FINAL_STATUSES, decider_in_words, status_now
from .conversation import Said, said_in
from .steps import StepRecord, step_records
from .story import Decision, Story, tell_story
from .timeline import Asked, Timeline, make_timeline, seconds_of
from .words import event_title, status_words

if TYPE_CHECKING:
    from langgraph.types import StateSnapshot

    from ..storage.ledger import Wait

__all__ = ["FORMAT", "Question", "RunRecord", "missing_steps", "run_record"]

Json = Any

FORMAT = "plan_execute.report/1"
"""Names the form of a record, for programs that read it."""


class Question(TypedDict):
    """A question that waits for a person."""

    id: str
    name: str
    title: str
    step_id: str | None
    description: str


class _Course(TypedDict):
    goal: str
    status: str
    """As in the state; ``waiting`` while a question is open, ``stopped`` where nobody is known to run it."""
    status_words: str
    reason: str
    """Why it ended as it did, if that is recorded."""
    ended: bool
    started_at: str | None
    last_at: str | None
    """When it ended; if it has not, when something was last recorded."""
    answer: str
    output: Json


class _Plan(TypedDict):
    plan: dict[str, Json] | None
    """``{id, revision, rationale, source, complete}``."""
    replans: int
    inputs: dict[str, Json]
    plan_issues: list[dict[str, Json]]
    refused_plan: bool
    """Whether the steps are those of a plan that was refused."""


class _People(TypedDict):
    questions: list[Question]
    approvals: list[dict[str, Json]]
    feedback: list[str]


class _Spending(TypedDict):
    settings: dict[str, Json]
    usage: dict[str, Json]
    spent: list[str]
    """What its tenant has spent of each budget of a day or a month, where the store was asked."""


class _Work(TypedDict):
    outcomes: dict[str, int]
    """How many steps of the plan ended how."""
    steps: list[StepRecord]
    timeline: Timeline


class _Identity(TypedDict):
    format: str
    thread: str
    made_at: str


class RunRecord(_Identity, _Course, _Plan, _People, _Spending, _Work):
    """A run. Times are ISO 8601 in UTC."""

    decisions: list[Decision]
    """In the order in which they were made."""
    conversation: list[Said]
    story: Story
    """What broke, who decided, and what changed."""


def run_record(
    state: StateSnapshot | Mapping[str, Any],
    *,
    thread: str = "",
    approvals: Sequence[Mapping[str, Any]] = (),
    attempts: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    earlier_steps: Mapping[str, Mapping[str, Any]] | None = None,
    refused: Mapping[str, Any] | None = None,
    waits: Sequence[Wait] = (),
    spent: Sequence[str] = (),
    status: str | None = None,
    made_at: str | None = None,
) -> RunRecord:
    """Read a thread's state into a record.

    Args:
        state: What ``agent.get_state(config)`` gives, or what ``invoke`` returned.
        thread: The thread's id, where the state does not say it.
        approvals: The approvals in the store, oldest first; they are what executors trust.
        attempts: The attempts in the store, by step: those that failed.
        earlier_steps: Steps that only earlier revisions of the plan had; see `missing_steps`.
        refused: The plan that was refused, where the state no longer has it.
        waits: What people were asked, as the store has it.
        spent: What its tenant has spent of each budget of a day or a month, in words.
        status: Its status; None: nobody knows whether it is run now.
        made_at: When the record is made; None: now.
    """
    values, open_questions, thread = _read(state, thread)
    made_at = made_at or datetime.now(UTC).isoformat(timespec="seconds")
    plan, was_refused = _plan_of(values, refused)
    audit, earlier = _in_time([one for one in values.get("audit") or () if isinstance(one, Mapping)], plan)
    own = audit[earlier:]
    people = _people(values, open_questions, approvals)
    asked = _asked(waits, own, audit[:earlier], {question["id"] for question in people["questions"]})
    about_plan = _about_plan(values, plan, own, was_refused=was_refused)
    waiting = {question["step_id"] for question in people["questions"] if question["step_id"]}
    mended = _mended_by_revisions(own)
    results = {
        key: value for key, value in (values.get("results") or {}).items() if isinstance(value, Mapping)
    }
    steps = step_records(
        plan, results, about_plan["inputs"], attempts or {}, waiting, earlier_steps or {}, mended
    )
    spending: _Spending = {
        "settings": dict(values.get("settings") or {}),
        "usage": dict(values.get("usage") or {}),
        "spent": list(spent),
    }
    work = _work(steps, own, spending["settings"], asked, made_at)
    if status is None:
        status = status_now(values, asks=bool(people["questions"]), pending=False, is_run=lambda: None)
    course = _course(values, plan, own, steps, status)
    decisions = [_decision(event, earlier_goal=at < earlier) for at, event in enumerate(audit)]
    return {
        "format": FORMAT,
        "thread": thread,
        "made_at": made_at,
        **course,
        **about_plan,
        **people,
        **spending,
        **work,
        "decisions": decisions,
        "conversation": list(said_in(values.get("messages") or ())),
        "story": tell_story(steps, decisions[earlier:], asked, ended=course["ended"]),
    }


def missing_steps(values: Mapping[str, Any]) -> set[str]:
    """Name the steps that the run had and its plan no longer has."""
    plan = values.get("plan") or {}
    named = set(values.get("results") or {})
    for event in values.get("audit") or ():
        if event.get("plan_id") == plan.get("id"):
            named.update((event.get("difference") or {}).get("removed") or ())
    return named - {step["id"] for step in plan.get("steps") or ()}


def _read(
    state: StateSnapshot | Mapping[str, Any], thread: str
) -> tuple[Mapping[str, Any], list[OpenQuestion], str]:
    """Return the values, the open questions and the thread's id of what a caller handed in."""
    if isinstance(state, Mapping):
        interrupts = state.get(INTERRUPT) or ()
        values = state
    else:
        interrupts, values = state.interrupts, state.values
        thread = thread or str((state.config.get("configurable") or {}).get("thread_id") or "")
    return values, [OpenQuestion.of(interrupt) for interrupt in interrupts], thread


def _course(
    values: Mapping[str, Any],
    plan: Mapping[str, Any] | None,
    own: Sequence[Mapping[str, Any]],
    steps: Sequence[StepRecord],
    status: str,
) -> _Course:
    """Say how the run went: its goal, its status, when, and what it answered."""
    ended, decided = status in FINAL_STATUSES, [event.get("at") for event in own]
    return {
        "goal": str(values.get("goal") or (plan or {}).get("goal") or ""),
        "status": status,
        "status_words": status_words(status),
        "reason": _reason(own) if ended else "",
        "ended": ended,
        "started_at": _first([*decided, *(step["started_at"] for step in steps)]),
        "last_at": _last([*decided, *(step["finished_at"] for step in steps)]),
        "answer": str(values.get("final_answer") or ""),
        "output": values.get("output"),
    }


def _about_plan(
    values: Mapping[str, Any],
    plan: Mapping[str, Any] | None,
    own: Sequence[Mapping[str, Any]],
    *,
    was_refused: bool,
) -> _Plan:
    """Say which plan it was, and with which inputs."""
    given = values.get("inputs")
    inputs = dict(given or {}) if plan is None or was_refused else input_values(plan, given)
    return {
        "plan": _about(plan, own) if plan is not None else None,
        "replans": int(values.get("replans") or 0),
        "inputs": inputs,
        "plan_issues": [dict(issue) for issue in values.get("plan_issues") or ()],
        "refused_plan": was_refused,
    }


def _people(
    values: Mapping[str, Any], open_questions: Sequence[OpenQuestion], approvals: Sequence[Mapping[str, Any]]
) -> _People:
    """Say what people are asked, and what they have said."""
    approval = values.get("approval") or {}
    return {
        "questions": [_question(question) for question in open_questions],
        "approvals": [dict(one) for one in approvals] or _approval_in_state(approval),
        "feedback": [str(said) for said in approval.get("feedback") or ()],
    }


def _work(
    steps: list[StepRecord],
    own: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Json],
    asked: Sequence[Asked],
    made_at: str,
) -> _Work:
    """Say what ran when, and how it ended."""
    slots = int(settings.get("max_parallel") or Context().max_parallel)
    timeline = make_timeline(steps, own, slots, asked, made_at)
    _tell_work_from_waiting(steps, timeline)
    outcomes = _count(step["outcome"] for step in steps if step["in_plan"])
    return {"outcomes": outcomes, "steps": steps, "timeline": timeline}


def _plan_of(
    values: Mapping[str, Any], refused: Mapping[str, Any] | None
) -> tuple[Mapping[str, Any] | None, bool]:
    """Return the plan, or the one that was refused before there was any; and whether it was."""
    plan = values.get("plan")
    if isinstance(plan, Mapping):
        return plan, bool(values.get("plan_issues")) and not values.get("results")
    draft = values.get("draft")
    proposed = draft.get("plan") if isinstance(draft, Mapping) else refused
    return (proposed, True) if isinstance(proposed, Mapping) else (None, False)


def _about(plan: Mapping[str, Any], audit: Sequence[Mapping[str, Any]]) -> dict[str, Json]:
    accepted = [
        event.get("trigger")
        for event in audit
        if event.get("event") == "plan_accepted" and event.get("revision") == plan.get("revision")
    ]
    about = {key: plan.get(key) for key in ("id", "revision", "rationale")}
    return about | {
        "source": accepted[-1] if accepted else None,
        "complete": plan.get("complete", True) is not False,
    }


def _reason(audit: Sequence[Mapping[str, Any]]) -> str:
    """Say why the run ended: the trigger of its last decision."""
    ends = [event for event in audit if event.get("event") == "finished"]
    return str(ends[-1].get("trigger") or "") if ends else ""


def _question(question: OpenQuestion) -> Question:
    step_id = question.args.get("step_id")
    if step_id is None and isinstance(question.value, Mapping):
        step_id = question.value.get("step_id")
    return {
        "id": question.id,
        "name": question.name,
        "title": _title(question.name),
        "step_id": str(step_id) if step_id is not None else None,
        "description": question.description,
    }


def _approval_in_state(approval: Mapping[str, Any]) -> list[dict[str, Json]]:
    """Return what the state says of the approval, where no store was asked."""
    shown = {key: approval[key] for key in ("decision", "at", "grants", "by") if key in approval}
    return [shown] if shown else []


def _in_time(
    audit: Sequence[Mapping[str, Any]], plan: Mapping[str, Any] | None
) -> tuple[list[Mapping[str, Any]], int]:
    """Put decisions in the order of their times; tell how many are of earlier goals of the thread."""
    current = (plan or {}).get("id")
    ends = [
        at
        for at, event in enumerate(audit)
        if event.get("event") == "finished" and event.get("plan_id") != current
    ]
    # A run without a plan also ends with one; it belongs to an earlier goal only if something follows.
    earlier = max((at for at in ends if at < len(audit) - 1), default=-1) + 1
    # Steps that run in parallel record their decisions one step after the other.
    return [*audit[:earlier], *sorted(audit[earlier:], key=lambda event: _seconds(event.get("at")))], earlier


def _title(name: str) -> str:
    """Say in a few words what is asked."""
    return TITLES.get(name, name or "A question")


def _mended_by_revisions(audit: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Tell which failed steps each step that a revision added is there for."""
    failed: list[str] = []
    mended: dict[str, list[str]] = {}
    for event in audit:
        if event.get("event") == "step_failure" and event.get("decision") in ("patch", "replan"):
            failed.append(str(event.get("step_id")))
        elif event.get("event") == "plan_revised":
            added = (event.get("difference") or {}).get("added") or ()
            mended |= dict.fromkeys(map(str, added), failed)
            failed = []
    return mended


def _asked(
    waits: Sequence[Wait],
    own: Sequence[Mapping[str, Any]],
    earlier: Sequence[Mapping[str, Any]],
    open_ids: set[str],
) -> list[Asked]:
    """List what people were asked for this goal; a question that was dropped ends with the next decision."""
    since = max((_seconds(event.get("at")) for event in earlier), default=0.0)
    asked: list[Asked] = []
    for wait in waits:
        begun = _seconds(wait.asked_at)
        later = (event["at"] for event in own if _seconds(event.get("at")) > begun)
        answered_at = wait.answered_at or (
            None if wait.question_id in open_ids else next(later, wait.asked_at)
        )
        if begun > since:
            by = decider_in_words(wait.by) if wait.answered_at else ""
            asked.append(
                {
                    "title": _title(wait.name),
                    "step_id": wait.step_id,
                    "asked_at": wait.asked_at,
                    "answered_at": answered_at,
                    "by": by,
                }
            )
    return asked


def _tell_work_from_waiting(steps: Sequence[StepRecord], timeline: Timeline) -> None:
    """Count only its work as a step's time; the time it waited for people is separate."""
    bars = {bar["step_id"]: bar for bar in timeline["bars"]}
    for step in steps:
        if (bar := bars.get(step["id"])) is not None and step["seconds"] is not None:
            step["seconds"] = bar["worked_s"]
            step["waited_s"] = round(sum(end - start for start, end in bar["waits"]), 3)


def _decision(event: Mapping[str, Any], *, earlier_goal: bool) -> Decision:
    difference = event.get("difference") or {}
    return {
        "at": str(event.get("at") or ""),
        "event": str(event.get("event") or ""),
        "title": event_title(event),
        "step_id": event.get("step_id"),
        "revision": event.get("revision"),
        "decision": str(event.get("decision") or ""),
        "by": decider_in_words(event.get("by")),
        "trigger": str(event.get("trigger") or ""),
        "evidence": [str(piece) for piece in event.get("evidence") or ()],
        "difference": {str(what): [str(i) for i in ids] for what, ids in difference.items() if ids},
        "usage": dict(event.get("usage") or {}),
        "earlier_goal": earlier_goal,
    }


def _count(outcomes: Any) -> dict[str, int]:
    counted: dict[str, int] = {}
    for outcome in outcomes:
        counted[outcome] = counted.get(outcome, 0) + 1
    return counted


def _first(moments: Sequence[Any]) -> str | None:
    return min((m for m in moments if seconds_of(m) is not None), key=_seconds, default=None)


def _last(moments: Sequence[Any]) -> str | None:
    return max((m for m in moments if seconds_of(m) is not None), key=_seconds, default=None)


def _seconds(moment: Any) -> float:
    return seconds_of(moment) or 0.0
