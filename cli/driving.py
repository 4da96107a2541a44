"""Drive a run from the terminal: stream it, ask what it asks, say how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import RunnableConfig
from langgraph.types import Command

from ..context import Context, stricter
from ..errors import (
    InvalidAnswerError,
    MissingModelError,
    PlanExecuteError,
    QuestionOpenError,
    ThreadUnfinishedError,
)
from ..people.questions import OpenQuestion
from ..plan.dag import descendants
from ..plan.identity import plan_hash
from ..state import FINAL_STATUSES, steps_of
from ..threads.requirements import check_can_go_on, impossible_decisions
from .dialogue import Before, ask_person
from .exits import EXIT_CODES, FAILED, WAITING, Stopped, interruptible
from .following import Lines, Live, way_to_follow
from .sources import Sources, in_the_name_of, open_agent, who_is_there
from .terminal import Screen
from .views import (
    asked,
    look_up,
    open_questions,
    overdue_questions,
    patience_of,
    recalled,
    results_of,
    show_ways_to_answer,
    status_of,
)

if TYPE_CHECKING:
    from langgraph.types import StateSnapshot

    from ..graph.agent import PlanExecuteAgent
    from ..tools.toolbox import Toolbox

__all__ = [
    "Session",
    "answer_open_questions",
    "apply_safe_defaults",
    "check_can_end",
    "conclude",
    "drive",
    "follow",
    "note_earlier_run",
    "note_overdue",
]

_ON_THE_COMMAND_LINE = (QuestionOpenError, ThreadUnfinishedError)
"""Errors that `resume` is the way out of."""


@dataclass
class _Early:
    """All that the person was asked while other steps ran, and what they answered."""

    asked: set[str] = field(default_factory=set)
    answers: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Session:
    """One thread before one person (or none).

    Attributes:
        agent: Runs it.
        thread: Its id.
        screen: Where everything is shown.
        resume: The command that goes on with it; None: its tools or its storage end with this process.
        person: Who it is; None: nobody knows.
        kept: Whether the thread is there when this process has ended.
    """

    agent: PlanExecuteAgent
    thread: str
    screen: Screen
    resume: str | None = None
    person: str | None = None
    kept: bool = True
    early: _Early = field(default_factory=_Early)

    @property
    def config(self) -> RunnableConfig:
        """LangGraph's name for the thread."""
        return {"configurable": {"thread_id": self.thread}}

    @cached_property
    def view(self) -> Lines | Live:
        """How the person follows it; one for all stretches between questions."""
        return way_to_follow(self.screen)

    @cached_property
    def impossible(self) -> frozenset[str]:
        """Decisions that need a model, where there is none."""
        return impossible_decisions(self.agent, self.snapshot().values)

    def snapshot(self) -> StateSnapshot:
        """Read the thread's state."""
        return self.agent.get_state(self.config)


def drive(session: Session, given: Any, context: Context | None = None) -> int:
    """Run until the thread ends or waits for somebody who is not here, say so, and return the exit code.

    Raises:
        Stopped: With what stopped the run (an error, Ctrl-C) as its cause.
    """
    _note_kept_approval(session, context)
    return _supervised(session, lambda: follow(session, given, context))


def _note_kept_approval(session: Session, context: Context | None) -> None:
    """Say so where this run asks for less approval than its thread was started with."""
    started = session.snapshot().values.get("settings")
    if context is None or started is None:
        return
    kept = stricter(context.approval, Context(**started).approval)
    if kept != context.approval:
        session.screen.note(
            f"Approval stays {kept!r}, as thread {session.thread!r} was started with; a later run can only "
            f"make it stricter. Use another --thread for {context.approval!r}."
        )


def note_earlier_run(screen: Screen, agent: PlanExecuteAgent, thread: str) -> None:
    """Say what a new run keeps of one that has ended on its thread."""
    snapshot = agent.get_state({"configurable": {"thread_id": thread}})
    if snapshot.created_at is not None and (status := status_of(agent, snapshot)) in FINAL_STATUSES:
        screen.note(
            f"The last run of thread {thread!r} ended as {status}. A new run begins: it keeps the thread's "
            "conversation and history, and no plan, results or approval."
        )


def answer_open_questions(session: Session) -> int:
    """Ask what a thread waits for, and go on; without a person before it, print the questions.

    Raises:
        Stopped: With what stopped the run as its cause.
    """
    return _supervised(session, lambda: None)


def _supervised(session: Session, begin: Callable[[], None]) -> int:
    """Begin, ask and go on until the end; an error on the way says how to go on."""
    with interruptible(session.view.note_stop, session.resume):
        try:
            begin()
            _ask_and_go_on(session)
            return conclude(session)
        except (Exception, KeyboardInterrupt) as error:
            raise Stopped(session.thread, _way_on(session, error)) from error


def follow(session: Session, given: Any, context: Context | None = None) -> None:
    """Run until the thread ends or waits, and show its progress."""
    if not isinstance(given, Mapping):
        session.view.take_up(lambda: session.snapshot().values)
    running: set[str] = set()
    with session.view.shown():
        told = in_the_name_of(context, session.person)
        for event in session.agent.stream(given, session.config, context=told, stream_mode="custom"):
            session.view.tell(event)
            if _note_running(running, event) and running and session.screen.interactive:
                _ask_meanwhile(session, running)


def _note_running(running: set[str], event: Any) -> bool:
    """Note which steps are being carried out; tell whether one of them has just asked something."""
    if not isinstance(event, Mapping) or event.get("within") or not event.get("step_id"):
        return False
    if event.get("type") == "step_started":
        running.add(event["step_id"])
    elif event.get("type") in ("step_finished", "question_open"):
        running.discard(event["step_id"])
    return event.get("type") == "question_open"


def _ask_meanwhile(session: Session, running: Collection[str]) -> None:
    """Ask while other steps run; they go on meanwhile, and the answers are given when they have ended.

    If all of them end or ask within a moment, nothing is asked here, and the questions come together.
    """
    for _ in range(_LOOKS):
        snapshot = session.snapshot()
        questions = open_questions(snapshot)
        if not set(running) - {_step_of(one) for one in questions} - results_of(snapshot).keys():
            return
        time.sleep(_PAUSE_S)
    new = [one for one in questions if one.id not in session.early.asked]
    session.early.asked.update(one.id for one in new)
    with session.view.paused():
        answers = ask_person(session.screen, new, impossible=session.impossible)
        session.early.answers |= answers
        if answers:
            session.screen.note("Your answer is given when the steps that run now have ended.")


_LOOKS, _PAUSE_S = 10, 0.1


def _ask_and_go_on(session: Session) -> None:
    before = Before()
    while session.screen.interactive and (questions := open_questions(session.snapshot())):
        before.approved = (session.view.plan and session.view.plan.approved) or _approved_plan(session)
        given = session.early.answers
        early = {one.id: given[one.id] for one in questions if one.id in given}
        rest = [one for one in questions if one.id not in session.early.asked]
        answers = early | ask_person(session.screen, rest, before, session.impossible)
        if not answers:
            return
        session.early.asked.clear()
        session.early.answers.clear()
        try:
            follow(session, Command(resume=answers))
        except InvalidAnswerError as error:
            session.screen.note(str(error))
            continue
        if len(answers) < len(questions):
            return


def _approved_plan(session: Session) -> Mapping[str, Any] | None:
    """Find the plan that was approved last; another process may have asked about it."""
    for earlier in session.agent.get_state_history(session.config):
        plan, approval = earlier.values.get("plan"), earlier.values.get("approval") or {}
        is_approved = approval.get("decision") in ("approved", "edited")
        if (
            plan
            and is_approved
            and plan_hash(plan, earlier.values.get("inputs")) == approval.get("plan_hash")
        ):
            return dict(plan)
    return None


def _way_on(session: Session, error: BaseException) -> str | None:
    """Name the command that goes on, where the thread holds something to go on with."""
    if isinstance(error, PlanExecuteError) and not isinstance(error, _ON_THE_COMMAND_LINE):
        return None
    try:
        return session.resume if session.snapshot().tasks else None
    except Exception:  # the storage itself may be what failed; the first error is the one to report
        return None


# --- the end -----------------------------------------------------------------------------


def conclude(session: Session) -> int:
    """Say how the thread ended, or what it waits for, and return the exit code."""
    snapshot, screen = session.snapshot(), session.screen
    if questions := open_questions(snapshot):
        return _waiting(session, questions)
    status = status_of(session.agent, snapshot)
    if screen.json:
        screen.document(_result(session, snapshot, status))
    elif answer := snapshot.values.get("final_answer"):
        screen.markdown(answer)
    screen.note(_summary(session, snapshot, status))
    if status == "stopped" and session.resume:
        screen.note(f"It stopped before its end. Go on with: {session.resume}")
    return EXIT_CODES.get(status, FAILED)


def _waiting(session: Session, questions: list[OpenQuestion]) -> int:
    if not session.screen.interactive:
        described = [question.as_json() for question in questions]
        session.screen.document({"status": "waiting", "thread": session.thread, "questions": described})
    session.screen.note(f"Thread {session.thread} waits for a person.")
    if not session.screen.interactive:
        for question in questions:
            session.screen.note(asked(question))
    if session.resume:
        show_ways_to_answer(session.screen, session.resume, questions, session.impossible)
    return WAITING


def _result(session: Session, snapshot: StateSnapshot, status: str) -> dict[str, Any]:
    names = ("goal", "final_answer", "output", "plan", "plan_issues", "replans", "usage")
    values = {name: snapshot.values.get(name) for name in names}
    values |= {"recalled": recalled(snapshot.values), "results": results_of(snapshot)}
    return {"status": status, "thread": session.thread, **values}


def _summary(session: Session, snapshot: StateSnapshot, status: str) -> str:
    values = snapshot.values
    steps = (values.get("plan") or {}).get("steps", [])
    done = [result for result in results_of(snapshot).values() if result["status"] == "done"]
    unverified = sum(1 for result in done if result["verdict"] == "unverified")
    thread = f"thread {session.thread}" if session.kept else ""
    parts = [status, thread, f"{len(done)} of {len(steps)} steps done"]
    parts.append(f"{unverified} not verified" if unverified else "")
    if replans := values.get("replans"):
        parts.append(f"{replans} replan{'s' if replans > 1 else ''}")
    parts.append(f"plan {hit}" if (hit := recalled(values)) else "")
    parts.append(_spent(values.get("usage") or {}))
    return " · ".join(part for part in parts if part)


def _spent(usage: Mapping[str, Any]) -> str:
    calls = usage.get("model_calls", 0)
    return (
        f"{calls} model call{'' if calls == 1 else 's'}, {usage.get('total_tokens', 0)} tokens"
        if calls
        else ""
    )


# --- questions that nobody answered in time -------------------------------------------

_ENDS_ITS_STEP = {"approve_step", "confirm_call", "handle_step_failure", "extend_budget"}
"""Questions whose safe default neither calls a tool of their step nor asks a model."""


def note_overdue(screen: Screen, snapshot: StateSnapshot, overdue: Sequence[OpenQuestion]) -> None:
    """Say which questions get their safe default, and why."""
    named = ", ".join(question.label for question in overdue)
    waited = patience_of(snapshot)
    screen.note(f"Nobody answered within {waited:g} s, so the safe default applies to: {named}.")


def check_can_end(
    agent: PlanExecuteAgent, toolbox: Toolbox, snapshot: StateSnapshot, overdue: Sequence[OpenQuestion]
) -> None:
    """Refuse to end overdue questions where that would run steps whose tools or model were not given.

    Raises:
        ConfigurationError: If a tool of a step that could run is missing.
        MissingModelError: If such a step, or the decision about it, needs a model and none is configured.
    """
    if any(question.name == "approve_plan" for question in overdue):
        return  # the run ends rejected
    ended = {step for question in overdue if question.name in _ENDS_ITS_STEP and (step := _step_of(question))}
    ended |= descendants(steps_of(snapshot.values.get("plan")), ended)
    check_can_go_on(agent, toolbox, snapshot, not_to_run=ended)
    models = Context(**(snapshot.values.get("settings") or {})).models
    decides = any(question.name not in _ENDS_ITS_STEP for question in overdue)
    used_model = (snapshot.values.get("usage") or {}).get("model_calls", 0) > 0
    if decides and used_model and not agent.models.has("evaluator", models):
        raise MissingModelError(
            "what follows a failed step is decided by the run's model, and none is given."
        )


def _step_of(question: OpenQuestion) -> Any:
    return question.value.get("step_id") or question.args.get("step_id")


def apply_safe_defaults(sources: Sources, screen: Screen, thread: str) -> StateSnapshot | None:
    """Give overdue questions their safe default, and return the state after it.

    None: it cannot be done now, which is said; the thread is as it was.
    """
    try:
        toolbox = sources.toolbox(thread)
        with open_agent(sources, toolbox, existing=True) as agent:
            snapshot = look_up(agent, thread)
            if overdue := overdue_questions(snapshot):
                check_can_end(agent, toolbox, snapshot, overdue)
                note_overdue(screen, snapshot, overdue)
                follow(Session(agent, thread, screen, person=who_is_there(None)), None)
            return look_up(agent, thread)
    except PlanExecuteError as error:
        screen.note(f"Overdue, but its safe default cannot be applied now: {error}")
        return None
