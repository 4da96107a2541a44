"""What a run reports: the events of its custom stream.

Every event is a plain JSON object with the fields of :class:`Base`; ``type`` says which one of :data:`Event`
it is. Steps of a sub-plan send the same events, with the ids of the steps that they are the work of in
``within``. A client skips types it does not know: later versions may send more, and tools may write events of
their own into the same stream.

    async for event in agent.astream({"goal": "…"}, config, stream_mode="custom"):
        if event["type"] == "step_finished":
            print(event["step_id"], event["verdict"])
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from .state import (
    PROGRESS_ID,
    By,
    DecisionKind,
    Effect,
    Failure,
    Plan,
    PlanIssue,
    PlanSource,
    RunStatus,
    StepStatus,
    Usage,
    Verdict,
)

__all__ = [
    "EVENT_TYPES",
    "Base",
    "BudgetWarning",
    "Evaluated",
    "Event",
    "ItemsSoFar",
    "OpenQuestion",
    "PlanApproved",
    "PlanContinued",
    "PlanCreated",
    "PlanEdited",
    "PlanRejected",
    "PlanValidated",
    "Progress",
    "QuestionOpen",
    "ReadAhead",
    "Replanned",
    "Spent",
    "StepAttempt",
    "StepFinished",
    "StepProgress",
    "StepStarted",
    "StepUpdate",
    "Synthesized",
    "ToolCall",
    "ToolFinished",
    "ToolProgress",
]


class Spent(TypedDict):
    """What the goal has used so far, over all its runs; ``seconds`` is wall time."""

    model_calls: int
    total_tokens: int
    tool_calls: int
    seconds: float
    cost: NotRequired[float]
    """Only if a price is known."""


class Base(TypedDict):
    """The fields of every event: time, thread, plan, revision and step."""

    at: str
    """ISO 8601 in UTC, with milliseconds."""
    thread_id: str
    plan_id: str | None
    revision: int | None
    """Revision of the event's plan; None if there is no plan yet."""
    step_id: str | None
    """None if it concerns the whole plan."""
    within: list[str]
    """Steps whose sub-plan sent it, the outermost first; empty for the plan of the thread itself."""
    spent: Spent


class PlanCreated(Base):
    """The planner wrote a plan, or the cache had one (``recalled``); it is not validated yet."""

    type: Literal["plan_created"]
    plan: Plan
    recalled: NotRequired[dict[str, Any]]


class PlanContinued(Base):
    """The planner wrote the next steps of a rolling plan."""

    type: Literal["plan_continued"]
    plan: Plan
    round: int
    difference: dict[str, list[str]]


class PlanValidated(Base):
    """A plan was checked against the rules; without issues it may run."""

    type: Literal["plan_validated"]
    source: PlanSource
    plan: NotRequired[Plan]
    """The valid plan, in its normal form."""
    issues: list[PlanIssue]


class PlanApproved(Base):
    """The plan may run: a person said so, or the policy or an earlier approval did."""

    type: Literal["plan_approved"]
    by: By


class PlanEdited(Base):
    """A person changed the plan; their version is validated next."""

    type: Literal["plan_edited"]
    by: By
    edited: dict[str, Any]


class PlanRejected(Base):
    """A person rejected the plan, or nobody answered in time."""

    type: Literal["plan_rejected"]
    by: By
    feedback: str


class ReadAhead(Base):
    """A read began while its plan is still being written; the plan may turn out not to contain it."""

    type: Literal["read_ahead"]
    tool: str
    args: dict[str, Any]
    item: int | None


class StepStarted(Base):
    """A step has what it needs and begins."""

    type: Literal["step_started"]
    task: str


class StepAttempt(Base):
    """An attempt at the step begins; the first is 1."""

    type: Literal["step_attempt"]
    attempt: int


class ToolCall(Base):
    """A tool is called now; ``args`` may be shortened. In a ``for_each``, ``item`` counts from 0."""

    type: Literal["tool_call"]
    tool: str
    args: dict[str, Any]
    call_id: str
    effect: Effect
    attempt: int
    item: int | None


class ToolFinished(Base):
    """The call with this ``call_id`` ended."""

    type: Literal["tool_finished"]
    tool: str
    call_id: str
    ok: bool
    output_preview: str


class ToolProgress(Base):
    """The call with this ``call_id`` reports its progress, in units of its own."""

    type: Literal["tool_progress"]
    tool: str
    call_id: str
    progress: float
    total: float | None
    """The final value of ``progress``, if it is known."""
    message: str


class StepProgress(Base):
    """One more item of a ``for_each`` has ended: ``done`` of ``total`` have, failures included."""

    type: Literal["step_progress"]
    done: int
    total: int
    item: int
    ok: bool
    error: Failure | None


class StepFinished(Base):
    """A step has its result."""

    type: Literal["step_finished"]
    status: StepStatus
    verdict: Verdict | None
    error: Failure | None
    attempts: int
    usage: Usage
    """What the step itself has spent."""


class Evaluated(Base):
    """The evaluator's decision about the results."""

    type: Literal["evaluated"]
    decision: DecisionKind
    reason: str


class Replanned(Base):
    """The replanner wrote a revision; it is not validated yet."""

    type: Literal["replanned"]
    plan: Plan
    difference: dict[str, list[str]]
    """Ids of the steps that were ``added``, ``removed``, ``changed`` and so on."""


class BudgetWarning(Base):
    """A soft share of a budget is used up: no new step starts before somebody has decided."""

    type: Literal["budget_warning"]
    budget: str
    used: float
    limit: float


class QuestionOpen(Base):
    """The run waits for a person; the question itself is an interrupt of the run."""

    type: Literal["question_open"]
    question: str
    """Its name, such as ``approve_plan``."""
    question_id: str
    """The interrupt's id: ``Command(resume={question_id: answer})``."""


class Synthesized(Base):
    """The final answer is written; the run has ended."""

    type: Literal["synthesized"]
    status: RunStatus
    answer: str


Event = (
    PlanCreated
    | PlanContinued
    | PlanValidated
    | PlanApproved
    | PlanEdited
    | PlanRejected
    | ReadAhead
    | StepStarted
    | StepAttempt
    | ToolCall
    | ToolProgress
    | ToolFinished
    | StepProgress
    | StepFinished
    | Evaluated
    | Replanned
    | BudgetWarning
    | QuestionOpen
    | Synthesized
)
"""Everything a run tells; ``type`` tells them apart."""

EVENT_TYPES = (
    "plan_created",
    "plan_continued",
    "plan_validated",
    "plan_approved",
    "plan_edited",
    "plan_rejected",
    "read_ahead",
    "step_started",
    "step_attempt",
    "tool_call",
    "tool_progress",
    "tool_finished",
    "step_progress",
    "step_finished",
    "evaluated",
    "replanned",
    "budget_warning",
    "question_open",
    "synthesized",
)
"""The types, in the order in which a run may send them."""


# --- what a client follows (``graph/streams.py``) -----------------------------------------


class ItemsSoFar(TypedDict):
    """How many items of a ``for_each`` have ended, failures included."""

    done: int
    total: int


class StepUpdate(TypedDict):
    """A step as it is now. The last one of a step that has ended says how."""

    step_id: str
    within: list[str]
    """Steps whose sub-plan it is a step of, the outermost first."""
    at: str
    status: Literal["running"] | StepStatus
    attempt: int
    """The attempt under way, from 1; 0: none has begun."""
    items: ItemsSoFar | None
    """Of a ``for_each``, once the first item has ended."""
    verdict: Verdict | None
    error: Failure | None
    usage: Usage
    """What the step has spent by itself, once it has ended."""


class OpenQuestion(TypedDict):
    """A question that waits for a person."""

    id: str
    """``Command(resume={id: answer})``."""
    name: str
    """Such as ``approve_plan``; empty where a tool or a middleware asks in a form of its own."""
    args: dict[str, Any]
    description: str
    """Markdown that a person can decide from."""
    value: Any
    """All that was asked, in LangChain's human-in-the-loop form."""


class Progress:
    """How far a run is, as one message of LangGraph's generative UI that is updated in place.

    Args:
        run_id: Names the run; the message of the conversation that shows the same in words has this id too.
    """

    def __init__(self, run_id: str) -> None:
        self._id = PROGRESS_ID + run_id
        self._phase = "Planning"
        self._steps: dict[str, str] = {}

    def hear(self, event: Mapping[str, Any]) -> bool:
        """Take an event in, and tell whether it changes what is shown."""
        before = self.text
        if not event["within"]:
            self._take_in(event)
        return self.text != before

    def _take_in(self, event: Mapping[str, Any]) -> None:
        step_id = event["step_id"]
        match event["type"]:
            case "plan_validated" if "plan" in event:
                ids = [step["id"] for step in event["plan"]["steps"]]
                self._steps = {one: self._steps.get(one, "waiting") for one in ids}
            case "step_started":
                self._phase, self._steps[step_id] = "Working", "running"
            case "step_finished":
                self._steps[step_id] = event["status"]
            case "evaluated":
                self._phase = "Revising the plan" if event["decision"] in ("patch", "replan") else "Answering"
            case "synthesized":
                self._phase = "Done"

    @property
    def text(self) -> str:
        """The progress in words."""
        if not self._steps:
            return f"{self._phase} …"
        ended = sum(status not in ("waiting", "running") for status in self._steps.values())
        running = ", ".join(step_id for step_id, status in self._steps.items() if status == "running")
        now = f" Now: {running}." if running else ""
        return f"{self._phase} … {ended} of {len(self._steps)} steps have ended.{now}"

    def as_message(self) -> dict[str, Any]:
        """Return the message, as ``push_ui_message`` of LangGraph would send it."""
        props = {"text": self.text, "phase": self._phase, "steps": dict(self._steps)}
        metadata = {"merge": False, "message_id": self._id}
        return {"type": "ui", "id": self._id, "name": "progress", "props": props, "metadata": metadata}
