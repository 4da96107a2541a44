"""What a thread's stored state says, and threads, plans and audits as text."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ThreadNotFoundError
from ..people.wording import DECISIONS, TITLES
from ..plan.dag import topological_order
from ..report.words import say_models
from ..state import decider_in_words, kind_of, status_now
from ..tools.texts import as_text, preview, shortened

if TYPE_CHECKING:
    from langgraph.types import StateSnapshot

    from ..people.questions import OpenQuestion
    from ..storage.latest import ThreadSource
    from .terminal import Screen

__all__ = [
    "asked",
    "audit_lines",
    "look_up",
    "open_questions",
    "overdue_questions",
    "patience_of",
    "recalled",
    "results_of",
    "show_ways_to_answer",
    "spent_of",
    "status_of",
    "thread_lines",
    "title_of",
    "values_of",
    "with_answers",
]


def look_up(agent: ThreadSource, thread: str) -> StateSnapshot:
    """Read a thread's state.

    Raises:
        ThreadNotFoundError: If there is no such thread.
    """
    snapshot = agent.get_state({"configurable": {"thread_id": thread}})
    if snapshot.created_at is None:
        place = getattr(agent.checkpointer, "database", None)
        where = f" in {place}; --db takes another database" if place else ""
        raise ThreadNotFoundError(
            f"there is no thread {thread!r}; `plan-execute list` names those there are{where}"
        )
    return snapshot


def open_questions(snapshot: StateSnapshot) -> list[OpenQuestion]:
    """List the questions that wait for a person."""
    from ..people.questions import OpenQuestion

    return [OpenQuestion.of(interrupt) for interrupt in snapshot.interrupts]


def overdue_questions(snapshot: StateSnapshot) -> list[OpenQuestion]:
    """List the open questions that have waited longer than the thread's ``decision_timeout_s``."""
    from ..people.questions import overdue_answers

    if not snapshot.interrupts:
        return []
    late = overdue_answers(snapshot, patience_of(snapshot))
    return [question for question in open_questions(snapshot) if question.id in late]


def patience_of(snapshot: StateSnapshot) -> float | None:
    """Tell how many seconds a thread's questions wait for an answer; None: for ever."""
    from ..context import Context

    settings = snapshot.values.get("settings") or {}
    # Making a Context would take longer than all the rest of a list.
    waits: float | None = settings.get(
        "decision_timeout_s", Context.model_fields["decision_timeout_s"].default
    )
    return waits


def status_of(agent: ThreadSource, snapshot: StateSnapshot) -> str:
    """Tell a thread's status; ``stopped`` where it has not ended and nobody runs it."""
    from ..tools.threads import run_to_end

    thread = snapshot.config["configurable"]["thread_id"]
    return status_now(
        snapshot.values,
        asks=bool(snapshot.interrupts),
        pending=bool(snapshot.tasks),
        is_run=lambda: run_to_end(agent.checkpointer.is_held(thread)),
    )


def results_of(snapshot: StateSnapshot) -> dict[str, Any]:
    """Give the results by step; LangGraph adds those of a superstep that has not ended."""
    return dict(snapshot.values.get("results") or {})


def spent_of(agent: ThreadSource, snapshot: StateSnapshot) -> list[str]:
    """Say what the thread's tenant has spent of each limit of a day or a month."""
    settings = snapshot.values.get("settings") or {}
    if not settings.get("spend_limits"):
        return []
    from ..spending.periods import spent_in_words
    from ..tools.threads import run_to_end

    return run_to_end(spent_in_words(agent.store, settings))


def recalled(values: Mapping[str, Any]) -> str | None:
    """Say from which cache entry the current plan is; None if it is not from the plan cache."""
    plan = values.get("plan") or {}
    for event in reversed(values.get("audit") or ()):
        is_this = event.get("plan_id") == plan.get("id") and event.get("revision") == plan.get("revision")
        if event["event"] == "plan_recalled" and is_this:
            return str(event["evidence"][0])
    return None


def values_of(snapshot: StateSnapshot) -> dict[str, Any]:
    """Give the whole state as JSON values."""
    values = snapshot.values
    messages = [
        message.model_dump(mode="json") for message in values.get("messages") or () if _is_message(message)
    ]
    return {**values, "messages": messages, "next": list(snapshot.next)}


def _is_message(value: Any) -> bool:
    from langchain_core.messages import BaseMessage

    return isinstance(value, BaseMessage)


# --- as text --------------------------------------------------------------------------

_MARKS = {"done": "✓", "failed": "✗", "skipped": "–", "blocked": "–"}


def title_of(question: OpenQuestion) -> str:
    """Say in a few words what is asked."""
    return TITLES.get(question.name, question.name or "A question")


def asked(question: OpenQuestion) -> str:
    """Say in a line what is asked, and about what."""
    args = question.args
    about = args.get("question") or args.get("step_id") or args.get("budget")
    error = args.get("error")
    why = error.get("message") if isinstance(error, Mapping) else error
    title = title_of(question)
    parts = [shortened(" ".join(str(part).split()), 200) for part in (about, why) if part]
    return f"{title}{' ' if title.endswith('?') else ': '}{' — '.join(parts)}" if parts else title


def thread_lines(
    thread: str,
    snapshot: StateSnapshot,
    status: str,
    reason: str | None = None,
    spent: Sequence[str] = (),
) -> Iterator[str]:
    """Describe a thread: status, plan with the state of every step, open questions, answer.

    What keeps the workers from it is the ``reason`` of its status.
    """
    values = snapshot.values
    yield f"Thread: {thread}"
    yield f"Status: {status}"
    if reason:
        yield f"        {preview(' '.join(reason.split()), 2000)}"
    yield f"Goal:   {preview(str(values.get('goal') or ''), 500)}"
    yield from (f"Spent:  {line}" for line in spent)
    if plan := values.get("plan"):
        hit = recalled(values)
        yield f"\nPlan (revision {plan.get('revision', 1)}{f', {hit}' if hit else ''}):"
        yield from _plan_lines(plan, results_of(snapshot))
        approval = values.get("approval") or {}
        if kind_of(approval.get("by")) == "person":
            at = str(approval["at"])[:16].replace("T", " ")
            yield f"Approved by {decider_in_words(approval['by'])}, {at}"
    if issues := values.get("plan_issues"):
        yield "\nIssues:"
        yield from (f"  {issue['code']}: {issue['message']}" for issue in issues)
    for question in open_questions(snapshot):
        yield f"\nWaiting for an answer [{question.id[:8]}] {question.name}:\n{question.description}"
    if spent := say_models(values.get("usage") or {}):
        yield "\nModels:"
        yield from (f"  {line}" for line in spent)
    if answer := values.get("final_answer"):
        yield f"\n{answer}"


def _plan_lines(plan: Mapping[str, Any], results: Mapping[str, Any]) -> Iterator[str]:
    try:
        steps = topological_order(plan["steps"])
    except ValueError:
        # a plan that was refused is shown as it was written
        steps = plan["steps"]
    depths: dict[str, int] = {}
    for step in steps:
        above = [depths[dep] + 1 for dep in step.get("depends_on", ()) if dep in depths]
        depths[step["id"]] = max(above, default=0)
        yield "  " * (depths[step["id"]] + 1) + _step_line(step, results.get(step["id"]))


def _step_line(step: Mapping[str, Any], result: Mapping[str, Any] | None) -> str:
    after = f" (after {', '.join(step['depends_on'])})" if step.get("depends_on") else ""
    title = f"{step['id']}" + (f": {preview(step['task'], 100)}" if step.get("task") else "") + after
    if result is None:
        return f"○ {title}"
    outcome = f"done, {result['verdict']}" if result["status"] == "done" else result["status"]
    error = f" — {shortened(result['error']['message'], 300)}" if result["error"] else ""
    return f"{_MARKS[result['status']]} {title} [{outcome}]{error}"


async def with_answers(
    agent: ThreadSource, thread: str, audit: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Add the answers that people gave to questions and that no decision of the audit covers."""
    from ..storage.ledger import Ledger

    assert agent.store is not None
    ledger, known, answered = Ledger(agent.store, thread), {event["at"] for event in audit}, []
    for wait in await ledger.waits():
        given = await ledger.answer(wait.question_id) if wait.answered_at not in known else None
        if wait.answered_at is not None and given is not None:
            answered.append(
                {
                    "at": wait.answered_at,
                    "event": "answered",
                    "step_id": wait.step_id,
                    "by": given.by,
                    "trigger": TITLES.get(wait.name, wait.name),
                    "evidence": [as_text(given.answer)],
                }
            )
    return sorted([*audit, *answered], key=lambda event: event["at"])


def audit_lines(events: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Describe every decision of a thread, oldest first."""
    for event in events:
        parts = [event["at"][:19].replace("T", " "), event["event"]]
        parts += [f"step {event['step_id']}"] if event.get("step_id") else []
        parts += [f"revision {event['revision']}"] if event.get("revision") else []
        parts += [str(event["decision"])] if event.get("decision") else []
        parts += [f"by {decider_in_words(event['by'])}"] if event.get("by") else []
        yield "  ".join(parts)
        if event.get("trigger"):
            yield f"    {preview(str(event['trigger']), 500)}"
        changed = [
            f"{what}: {', '.join(ids)}" for what, ids in (event.get("difference") or {}).items() if ids
        ]
        yield from (f"    {line}" for line in changed)
        yield from (f"    - {preview(str(piece), 300)}" for piece in event.get("evidence") or ())


# --- ways to answer --------------------------------------------------------------------


def show_ways_to_answer(
    screen: Screen, resume: str, questions: Sequence[OpenQuestion], impossible: Collection[str] = ()
) -> None:
    """Write the commands that answer the open questions.

    Args:
        screen: Where to.
        resume: The command that goes on with the thread.
        questions: What is asked.
        impossible: Decisions that could not be carried out.
    """
    screen.note("Answer with one of:")
    for question in questions:
        which = f" --question {question.id[:8]}" if len(questions) > 1 else ""
        for answer, what in _ways_to_answer(question, impossible):
            screen.note(f"  {resume}{which} {answer}{f'    {what}' if what else ''}")
        if question.name == "approve_plan":
            edit = resume.replace("plan-execute resume", "plan-execute edit", 1)
            screen.note(f"  {edit} --plan FILE    the whole plan as it should be, which approves it")


def _ways_to_answer(question: OpenQuestion, impossible: Collection[str]) -> list[tuple[str, str]]:
    """List the options that answer a question, each with what it means."""
    if decisions := DECISIONS.get(question.name):
        return [
            (f"--answer {shlex.quote(_WITH_MORE.get(word, word))}", what)
            for word, what in decisions.items()
            if word not in impossible
        ]
    answers: Sequence[str] = _ANSWERS.get(question.name, ("--answer JSON",))
    if choices := question.args.get("choices"):
        answers = (*(f"--answer {shlex.quote(_as_answer(choice))}" for choice in choices), answers[-1])
    return [(answer, "") for answer in answers]


def _as_answer(choice: str) -> str:
    """Write a choice so that `--answer` reads it as this text."""
    try:
        json.loads(choice)
    except ValueError:
        return choice if choice.lstrip()[:1] not in ("{", "[", '"') else json.dumps(choice)
    return json.dumps(choice)


_WITH_MORE = {
    "supply": '{"decision": "supply", "output": …}',
    "happened": '{"decision": "happened", "output": …}',
}
"""Decisions that need more than their name."""
_ANSWERS = {
    "approve_plan": ("--approve", "--reject 'what should be different'"),
    "approve_step": ("--approve", "--reject 'why'"),
    "confirm_call": ("--approve", "--reject 'why'"),
    "ask_person": ("--answer 'your answer'", "--reject 'why not'"),
}
