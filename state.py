"""The nouns of plan_execute, the graph's state, and the questions one can ask about them.

Everything here is plain JSON typed with TypedDicts, so that it survives strict
msgpack, Studio's state editor and HTTP. Data from outside (a model, a file, a
person, an older version) is checked against the same types with pydantic.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Annotated, Any, ForwardRef, Literal, NotRequired, Required, TypeAlias

from pydantic import with_config
from typing_extensions import TypedDict

if TYPE_CHECKING:
    from langchain_core.messages import AnyMessage
else:
    # Evaluated when a graph is built from the state, so that reading plans does not load LangChain.
    AnyMessage = ForwardRef("__import__('langchain_core.messages').messages.AnyMessage")

SCHEMA_VERSION = 1
"""Version of the state's format; a newer one is refused."""

Json: TypeAlias = Any
"""A JSON value: dict, list, str, int, float, bool or None."""

Effect = Literal["read", "idempotent", "write"]
OnFailure = Literal["auto", "retry", "skip", "patch", "replan", "ask", "abort"]
StepStatus = Literal["done", "failed", "skipped", "blocked"]
Verdict = Literal["met", "met_empty", "failed", "unverified"]
RunStatus = Literal["planning", "running", "done", "partial", "failed", "rejected"]
PlanSource = Literal["planner", "replanner", "person", "given", "cache"]
StepKind = Literal["call", "tools", "agent", "ask", "plan"]

MODEL_CLASSES = ("fast", "strong")
"""Model classes that a step may name; the run's settings say which models they are."""
MODEL_FIELDS: tuple[Literal["model", "escalate"], ...] = ("model", "escalate")
"""Fields in which a step names a class or a model."""
STEP_KINDS: tuple[StepKind, ...] = ("call", "tools", "agent", "ask", "plan")
FINAL_STATUSES: frozenset[str] = frozenset({"done", "partial", "failed", "rejected"})
RESERVED_IDS = frozenset({"inputs", "item", "index"})
STEP_ID_PATTERN = r"[A-Za-z][A-Za-z0-9_]{0,63}"

# --- the plan ---------------------------------------------------------------------------


@with_config(extra="forbid")
class Call(TypedDict):
    """The fixed tool call of a bound step."""

    tool: str
    """The tool's name."""
    args: NotRequired[dict[str, Json]]
    """Its arguments; text may hold references such as ``${weather.temp_c}`` and ``${inputs.city}``.

    A written plan may leave them out; a plan that runs has them.
    """


@with_config(extra="forbid")
class SubPlan(TypedDict):
    """A goal that is planned and run by the same graph."""

    goal: str
    """What the sub-plan is to achieve; may hold references."""


@with_config(extra="forbid")
class Ask(TypedDict):
    """A question to the person; the answer is the step's output."""

    question: str
    """What the person is asked; may hold references."""
    choices: NotRequired[list[str]]
    """The accepted answers; if none are named, any answer."""


Criterion: TypeAlias = dict[str, Json]
"""How success is recognised: a ``type`` and its parameter; `plan/criteria.py` knows the types."""

QUESTION_ID, ANSWER_ID, PROGRESS_ID = "question-", "answer-", "progress-"
"""The beginnings of ids of messages that show questions, decisions and progress to people; models do not see
them.
"""


TOOLS_CALLED = "tools_called"
"""Type of the note that an agent called none of its tools; not a criterion of a plan."""


@with_config(extra="forbid")
class Step(TypedDict, total=False):
    """One node of the plan. Exactly one of ``call``, ``tools``, ``agent``, ``ask``, ``plan`` is present."""

    id: Required[str]
    """The step's name; other steps depend on it and refer to its output by this name."""
    task: str
    """What to do, in words, for the agent of an agent step. May hold references."""
    depends_on: list[str]
    """Steps that must have succeeded before this one starts. A reference implies it."""
    call: Call
    """A fixed tool call: the step runs without a model."""
    tools: list[str]
    """The tools that the step's agent may call; none (``[]``) for pure reasoning."""
    agent: str
    """The name of an agent that the embedding program provides."""
    ask: Ask
    """A question to the person: the step runs without a model."""
    plan: SubPlan
    """A goal that is planned and run as a plan of its own."""
    for_each: str
    """A reference to a list: the step runs once per item, which it knows as ``${item}`` and ``${index}``."""
    when: str
    """A JMESPath expression over earlier outputs and ``inputs``; if it is false, the step is skipped."""
    else_of: str
    """A step with a ``when``: this step runs exactly if that ``when`` skipped the other one."""
    if_failed: list[str]
    """This step runs only if at least one of these steps failed; otherwise it is skipped."""
    output_schema: dict[str, Json]
    """A JSON Schema that the output must fit."""
    success_criteria: list[Criterion]
    """How success is recognised; all of them must be met."""
    on_failure: OnFailure
    """What happens after the last failed attempt; ``auto`` lets a model decide."""
    max_attempts: int
    """The number of attempts."""
    timeout_s: float
    """The most seconds of one attempt."""
    max_iterations: int
    """The most turns of the step's agent."""
    model: str
    """The model of a step with ``tools``: a class (``fast``, ``strong``), or a model's name."""
    escalate: str
    """The class or model that tries again after a result was not good enough."""
    approve: bool
    """Whether a person is asked before the step runs."""
    confirm: bool
    """Whether a person sees the final arguments before the call; only for a ``call``."""


@with_config(extra="forbid")
class Plan(TypedDict, total=False):
    """Revision n of a DAG of steps for one goal."""

    id: str
    """Set by the run; a plan file does not need it."""
    revision: int
    """Counts the versions of a plan in a run; a plan file does not need it."""
    goal: str
    """What the plan is for."""
    rationale: str
    """Why the plan is made like this."""
    complete: bool
    """False: when these steps are done, the planner is asked for the next ones."""
    inputs: dict[str, dict[str, Json]]
    """Parameters by name: a JSON Schema each, optionally with a ``default``; ``${inputs.name}`` is the value.
    """
    answer: str
    """The answer, with references to outputs, if every step is done and met; None: it is written afterwards.
    """
    steps: Required[list[Step]]
    """The steps; each starts as soon as its dependencies have succeeded."""


class PlanIssue(TypedDict):
    """One reason why a plan cannot run."""

    code: str
    step_id: str | None
    message: str
    field: NotRequired[list[str | int]]
    """Where in the step, or in the plan where ``step_id`` is None: ``["call", "args", "city"]``."""


class Draft(TypedDict, total=False):
    """A proposed revision that has not passed the validator yet."""

    plan: Required[dict[str, Json]]
    source: Required[PlanSource]
    attempt: int


# --- results ----------------------------------------------------------------------------


class CriterionResult(TypedDict):
    """The outcome of one success criterion; ``passed`` is None if it could not be checked."""

    type: str
    passed: bool | None
    gap: str


class Evidence(TypedDict):
    """One tool call that a step made."""

    tool: str
    args: dict[str, Json]
    ok: bool
    output_preview: str
    effect: Effect
    call_id: str
    whole: NotRequired[dict[str, Json]]
    """The full ``args`` and ``output``, only for the check of the attempt; never recorded."""


class Failure(TypedDict):
    """Why something failed: a stable code and a sentence."""

    code: str
    message: str


class RoleUsage(TypedDict, total=False):
    """Model calls, tokens and cost of one role, or of one model."""

    model_calls: int
    input_tokens: int
    output_tokens: int
    cost: float
    roles: dict[str, int]
    """Of a model: how many of its calls were made for which role."""


class Usage(TypedDict, total=False):
    """What was spent: totals, by role and by model. ``seconds`` is wall time; ``cost`` needs known prices."""

    model_calls: int
    input_tokens: int
    output_tokens: int
    total_tokens: int
    cost: float
    tool_calls: int
    seconds: float
    by_role: dict[str, RoleUsage]
    by_model: dict[str, RoleUsage]


class FailedItem(TypedDict):
    """One failed item of a ``for_each``: its position in the list, from 0, and the reason."""

    index: int
    error: Failure
    attempts: int


class StepResult(TypedDict):
    """What one step produced. Times are ISO 8601 in UTC; skipped and blocked steps have no verdict.

    The output of a ``for_each`` is a list with null for each item that failed.
    """

    step_id: str
    status: StepStatus
    output: Json
    verdict: Verdict | None
    criteria: list[CriterionResult]
    evidence: list[Evidence]
    attempts: int
    error: Failure | None
    started_at: str | None
    finished_at: str | None
    usage: Usage
    failed_items: NotRequired[list[FailedItem]]


DecisionKind = Literal["continue", "retry", "skip", "patch", "replan", "ask", "abort", "supply"]
Decider = Literal["policy", "model", "person", "limit", "timeout", "planner", "replanner", "cache"]


class By(TypedDict):
    """Who made a decision; records of earlier versions hold the kind alone, as a text."""

    kind: Decider
    id: NotRequired[str]
    """The person's id, if it is known."""


class Evaluation(TypedDict, total=False):
    """A decision about the run: what, about which steps, why, on what evidence, and by whom."""

    decision: Required[DecisionKind]
    step_ids: list[str]
    reason: str
    hint: str
    by: By
    evidence: list[str]
    at: str
    """When it was decided (ISO 8601, UTC); absent in records of earlier versions."""
    cancelled: bool
    """Whether the run was ended from outside: then nobody is asked any more."""


class Attempt(TypedDict):
    """One attempt at a step, or at one item of a ``for_each``."""

    number: int
    """From 1."""
    output: Json
    verdict: Verdict
    criteria: list[CriterionResult]
    evidence: list[Evidence]
    error: Failure | None
    """Why it failed."""
    decision: Evaluation | None
    """The decision about its failure."""
    usage: Usage
    started_at: str | None
    ended_at: str | None
    failed_items: NotRequired[list[FailedItem]]
    model: NotRequired[str]
    """The class or model that made it, if the step or the run's settings named one."""


class Grants(TypedDict):
    """What an approval allows."""

    tools: list[str]
    effects: list[str]
    resources: list[str]
    at_run_time: NotRequired[list[str]]
    """Resources that are known only at run time, as written in the plan."""
    fingerprints: NotRequired[dict[str, str]]
    """Effect and arguments of each tool at that time."""


class Approval(TypedDict, total=False):
    """The last decision on a plan; executors trust the store's record of it."""

    decision: Required[Literal["needed", "not_required", "approved", "edited", "rejected"]]
    plan_hash: str
    feedback: list[str]
    rejected_plan: dict[str, Json]
    grants: Grants
    at: str
    by: By
    """Who approved."""


class AuditEvent(TypedDict, total=False):
    """One recorded decision: trigger, evidence, changes, and the cost so far."""

    at: Required[str]
    event: Required[str]
    plan_id: str | None
    revision: int | None
    step_id: str | None
    trigger: str
    decision: str
    by: By
    evidence: list[str]
    difference: dict[str, list[str]]
    usage: Usage


# --- making records ---------------------------------------------------------------------


def as_by(given: By | str) -> By:
    """Return the maker of a decision in today's form; older records have only the kind, as text."""
    return {"kind": given} if isinstance(given, str) else given  # type: ignore[typeddict-item]


def kind_of(by: By | str | None) -> str:
    """Return the kind of maker of a decision; "" if it is unknown."""
    return as_by(by)["kind"] if by else ""


def decider_in_words(by: By | str | None) -> str:
    """Describe the maker of a decision: the kind, and for a person the id."""
    return " ".join(filter(None, (kind_of(by), as_by(by).get("id", "") if by else "")))


def new_evaluation(
    decision: DecisionKind,
    reason: str,
    *,
    by: By | Decider = "policy",
    step_ids: Iterable[str] = (),
    hint: str = "",
    evidence: Iterable[str] = (),
) -> Evaluation:
    """Make a decision."""
    return {
        "decision": decision,
        "step_ids": list(step_ids),
        "reason": reason,
        "hint": hint,
        "by": as_by(by),
        "evidence": list(evidence),
    }


ORDERED = "ordered"
"""The reason for another attempt at a step that a person has ordered again by its id."""
ORDERED_TOO = "ordered with others"
"""Ordered without being named: it depends on a named step, or the order was for all failed steps."""


def new_attempt(number: int, started_at: str | None, ended_at: str | None, error: Failure | None) -> Attempt:
    """Make an attempt without a result; its maker adds what it did."""
    return {
        "number": number,
        "output": None,
        "verdict": "failed",
        "criteria": [],
        "evidence": [],
        "error": error,
        "decision": None,
        "usage": {},
        "started_at": started_at,
        "ended_at": ended_at,
    }


def new_result(
    step_id: str,
    status: StepStatus,
    finished_at: str | None,
    *,
    made: Sequence[Attempt] = (),
    error: Failure | None = None,
    output: Json = None,
    verdict: Verdict | None = None,
) -> StepResult:
    """Make the result of a step after the attempts that were ``made``, the last of which counts."""
    result: StepResult = {
        "step_id": step_id,
        "status": status,
        "output": output,
        "verdict": verdict,
        "criteria": made[-1]["criteria"] if made else [],
        "evidence": [call for attempt in made for call in attempt["evidence"]],
        "attempts": len(made),
        "error": error,
        "started_at": made[0].get("started_at") if made else None,
        "finished_at": finished_at,
        "usage": total_usage(attempt["usage"] for attempt in made),
    }
    if made and (failed_items := made[-1].get("failed_items")):
        result["failed_items"] = failed_items
    return result


def failure_of(attempt: Attempt) -> Failure:
    """Return why a failed attempt failed."""
    assert attempt["error"] is not None, "only of an attempt that failed"
    return attempt["error"]


# --- reducers ---------------------------------------------------------------------------


def merge_by_id(current: dict[str, Any] | None, update: Mapping[str, Any] | None) -> dict[str, Any]:
    """Merge entries by id. An entry that is None is removed; an update that is None clears all."""
    if update is None:
        return {}
    merged = {**(current or {}), **update}
    removed = [key for key, value in update.items() if value is None]
    for key in removed:
        del merged[key]
    return merged


def add_said(current: Any, update: Any) -> Any:
    """Add messages as LangGraph's ``add_messages`` does, but load it only when it is needed."""
    from langgraph.graph.message import add_messages

    return add_messages(current, update)


def add_usage(current: Usage | None, update: Usage | None) -> Usage:
    """Add numbers, also per role. An update that is None restarts from nothing."""
    if update is None:
        return {}
    return _add(current or {}, update)  # type: ignore[return-value]


def total_usage(spent: Iterable[Usage]) -> Usage:
    """Add up what several parts have spent."""
    return reduce(add_usage, spent, Usage())


def _add(left: Mapping[str, Any], right: Mapping[str, Any]) -> dict[str, Any]:
    total = {**left}
    for key, value in right.items():
        held = total.get(key)
        if held is None:
            total[key] = value
        else:
            total[key] = _add(held, value) if isinstance(value, dict) else held + value
    return total


def append(current: list[Any] | None, update: list[Any] | None) -> list[Any]:
    """Append entries. An update that is None clears the list."""
    return [] if update is None else [*(current or []), *update]


# --- the graph's state ------------------------------------------------------------------


class InputState(TypedDict, total=False):
    """What a caller may hand in: a goal, a conversation, a plan, or a plan with inputs."""

    goal: str | None
    messages: Annotated[list[AnyMessage], add_said]
    plan: Plan | None
    inputs: dict[str, Json]


class OutputState(TypedDict):
    """What a run returns."""

    status: RunStatus
    goal: NotRequired[str | None]
    plan: NotRequired[Plan | None]
    results: Annotated[dict[str, StepResult], merge_by_id]
    final_answer: str
    output: Json
    replans: int
    usage: Annotated[Usage, add_usage]
    plan_issues: list[PlanIssue]
    audit: Annotated[list[AuditEvent], append]
    messages: Annotated[list[AnyMessage], add_said]


class State(TypedDict, total=False):
    """The graph's state. Each field says how its value evolves over a run."""

    messages: Annotated[list[AnyMessage], add_said]
    """The conversation: the goal comes in as a human message, the answer is appended."""
    goal: str | None
    """Set from the input, or from its last human message; constant during a run."""
    inputs: dict[str, Json]
    """Values for the plan's inputs; constant during a run."""
    plan: Plan | None
    """The current valid revision (or, at the very start, the plan the caller gave)."""
    plan_issues: list[PlanIssue]
    """Replaced by every validation; empty when the last draft was valid."""
    approval: Approval | None
    """Replaced by every decision on a plan; feedback accumulates over rounds."""
    results: Annotated[dict[str, StepResult], merge_by_id]
    """Grows by one entry per finished step; finished entries never change."""
    evaluation: Evaluation | None
    """Replaced by every evaluation."""
    usage: Annotated[Usage, add_usage]
    """Every node adds what it spent."""
    audit: Annotated[list[AuditEvent], append]
    """Every decision, in order; survives follow-up goals."""
    status: RunStatus
    """``planning`` → ``running`` → one of the final statuses."""
    replans: int
    """Revisions made because reality disagreed with the plan."""
    rounds: int
    """How often a rolling plan needed its next steps; counted by the evaluator."""
    settings: dict[str, Json]
    """The Context with which the thread was started."""
    earlier: list[dict[str, str]]
    """Internal: the findings of the thread's earlier goals: ``plan_id``, ``goal``, ``found``."""
    final_answer: str
    """Empty until the synthesizer wrote it."""
    output: Json
    """Structured final output, if a response format was requested."""
    schema_version: int
    """Version of this format, written when a run starts."""
    draft: Draft | None
    """Internal: the proposed revision between its author and the validator."""
    decisions: Annotated[dict[str, Evaluation], merge_by_id]
    """Internal: the executors' decisions about failures, until the evaluator acts on them."""


# --- questions about the state -----------------------------------------------------------


def is_for_people(message: AnyMessage) -> bool:
    """Tell whether a message shows a question, a decision or progress to a person."""
    return str(message.id or "").startswith((QUESTION_ID, ANSWER_ID, PROGRESS_ID))


def feedback_of(state: State) -> list[str]:
    """List what people have said when they rejected plans, in order."""
    approval = state.get("approval")
    return list(approval.get("feedback", ())) if approval else []


def draft_attempt(state: State, source: PlanSource) -> int:
    """Number the draft that ``source`` writes now: one more than the last if that one had issues."""
    draft = state.get("draft")
    repeated = draft is not None and draft["source"] == source and bool(state.get("plan_issues"))
    return draft.get("attempt", 1) + 1 if draft is not None and repeated else 1


def reason_of(state: State) -> str:
    """Return the reason of the last evaluation."""
    evaluation = state.get("evaluation")
    return evaluation.get("reason", "") if evaluation else ""


def begun_at(state: Mapping[str, Any]) -> str | None:
    """Return when the first decision of a thread was made (ISO 8601); None: none is on record."""
    return next((event["at"] for event in state.get("audit") or ()), None)


def accepted_at(state: State) -> str:
    """Return when the plan was first accepted (ISO 8601): ``now()``, the same after any resume."""
    plan = state.get("plan")
    times = (event["at"] for event in state.get("audit") or () if plan and event.get("plan_id") == plan["id"])
    return next(times, "")


# --- questions about steps and plans ----------------------------------------------------


def step_kind(step: Mapping[str, Any]) -> StepKind | None:
    """Return the kind of a step, or None if it has not exactly one kind."""
    kinds = [kind for kind in STEP_KINDS if kind in step and step[kind] is not None]
    return kinds[0] if len(kinds) == 1 else None


def names_a_class(model: str) -> bool:
    """Tell whether a step names a class and not a model, whose name has more than letters."""
    return model.replace("_", "").isalpha()


def needs_a_model(step: Mapping[str, Any]) -> bool:
    """Tell whether a model carries the step out, or may."""
    return step_kind(step) not in ("call", "ask")


def agent_grant(name: str) -> str:
    """Return the name of a named agent among the tools: in grants, evidence and ledger."""
    return f"agent:{name}"


def granted_tools(step: Mapping[str, Any]) -> list[str]:
    """List the tools that a step may call; a named agent counts as one."""
    if call := step.get("call"):
        return [call["tool"]]
    if agent := step.get("agent"):
        return [agent_grant(agent)]
    return list(step.get("tools") or ())


def steps_of(plan: Mapping[str, Any] | None) -> list[Step]:
    """List a plan's steps; empty without a plan."""
    return list(plan["steps"]) if plan is not None else []


def steps_by_id(plan: Mapping[str, Any] | None) -> dict[str, Step]:
    """Index a plan's steps."""
    return {step["id"]: step for step in steps_of(plan)}


def is_satisfied(result: StepResult | None) -> bool:
    """Tell whether dependents of this step may run: it is done, or was skipped."""
    return result is not None and result["status"] in ("done", "skipped")


def is_settled(result: StepResult | None) -> bool:
    """Tell whether no revision may replace this step: it is done, skipped, or a person rejected it."""
    if result is None or is_satisfied(result):
        return result is not None
    return result["error"] is not None and result["error"]["code"] == "rejected"


def is_taken_in(state: Mapping[str, Any]) -> bool:
    """Tell whether the planner has accepted the goal: a given plan has its id from then on."""
    under_way = state.get("status") is not None and state["status"] not in FINAL_STATUSES
    return under_way or {"id", "revision"} <= (state.get("plan") or {}).keys()


def status_now(
    values: Mapping[str, Any], *, asks: bool, pending: bool, is_run: Callable[[], bool | None]
) -> str:
    """Name a thread's status, for all who show it.

    Args:
        values: Its state.
        asks: Whether a question is open: it is ``waiting`` then.
        pending: Whether something is still to be run.
        is_run: Tells whether somebody runs it now; None: nobody can know. What has not ended and nobody
            runs has ``stopped``.
    """
    status = str(values.get("status") or "planning")
    if asks:
        return "waiting"
    if status in FINAL_STATUSES and not pending:
        return status
    if is_run() is False:
        return "stopped"
    return "running" if status in FINAL_STATUSES else status


def digest(value: Json) -> str:
    """Hash a JSON value by its content (SHA-256, hex)."""
    return hashlib.sha256(_canonical(value).encode("utf-8", "surrogatepass")).hexdigest()


_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str).encode
