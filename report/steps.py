"""What a report knows of each step: what it was to do, what it was given, what it did, how it ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from ..errors import UnresolvedReferenceError
from ..plan.dag import topological_order
from ..plan.references import BadReferenceError, expression_roots, search, step_references
from ..state import decider_in_words, granted_tools, step_kind
from ..storage.artifacts import described_artifact, unwrapped
from .timeline import seconds_of

__all__ = ["Criterion", "Given", "StepRecord", "Try", "outcome_of", "step_records"]

Json = Any


class Given(TypedDict, total=False):
    """What a reference of a step stands for; ``missing`` says why that is not known."""

    expression: str
    value: Json
    missing: str


class Criterion(TypedDict):
    """A success criterion and what became of it; ``passed`` is None when that could not be told."""

    type: str
    wanted: Json
    checked: bool
    passed: bool | None
    gap: str


class Try(TypedDict, total=False):
    """An attempt that failed, as the ledger has it."""

    number: int
    started_at: str | None
    ended_at: str | None
    error: dict[str, Any] | None
    decision: str
    decided_at: str | None
    reason: str
    by: str


class StepRecord(TypedDict):
    """Everything about one step; if only an earlier revision had it, at least what its result says."""

    id: str
    task: str
    kind: str
    """``call``, ``tools``, ``agent``, ``plan``, or ``unknown``."""
    agent: str | None
    sub_goal: str | None
    call: dict[str, Json] | None
    tools: list[str]
    depends_on: list[str]
    options: dict[str, Json]
    """What else the plan says of it: ``for_each``, ``when``, ``timeout_s`` and so on."""
    in_plan: bool
    outcome: str
    """One of the keys of `OUTCOMES`."""
    status: str | None
    verdict: str | None
    inputs: list[Given]
    has_output: bool
    output: Json
    artifact: dict[str, Json] | None
    """What is known about an output that is kept outside the state."""
    criteria: list[Criterion]
    evidence: list[dict[str, Json]]
    failed_items: list[dict[str, Json]]
    attempts: int
    tries: list[Try]
    error: dict[str, Json] | None
    started_at: str | None
    finished_at: str | None
    seconds: float | None
    """How long it worked."""
    waited_s: float
    """How long it waited for people."""
    mends: list[str]
    """The failed steps for which a revision added it."""
    usage: dict[str, Json]


_SAID_ELSEWHERE = {
    "id",
    "task",
    "depends_on",
    "call",
    "tools",
    "agent",
    "plan",
    "success_criteria",
    "output_schema",
}


def step_records(
    plan: Mapping[str, Any] | None,
    results: Mapping[str, Any],
    inputs: Mapping[str, Json],
    tries: Mapping[str, Sequence[Mapping[str, Any]]],
    waiting: set[str],
    earlier: Mapping[str, Mapping[str, Any]],
    mended: Mapping[str, Sequence[str]] | None = None,
) -> list[StepRecord]:
    """Record the steps of a plan, and in their place those of earlier revisions, as they can run.

    Args:
        plan: The plan, which need not be valid: a refused one is shown as it was written.
        results: The results by step.
        inputs: The values of the plan's inputs.
        tries: The attempts on record, by step.
        waiting: Steps that wait for a person's answer.
        earlier: Steps of earlier revisions, as far as they are known.
        mended: The failed steps for which revisions added steps.
    """
    steps = _ordered([step for step in (plan or {}).get("steps") or () if isinstance(step, Mapping)])
    outputs = {step_id: unwrapped(result.get("output")) for step_id, result in results.items()}
    scope = {**outputs, "inputs": inputs}
    dropped = [
        earlier.get(i, {"id": i})
        for i in {**results, **earlier}
        if i not in {step.get("id") for step in steps}
    ]
    in_plan = {id(step) for step in steps}
    records = [
        _step_record(step, results, tries, waiting, scope, in_plan=id(step) in in_plan)
        for step in _with_dropped(steps, dropped)
    ]
    for record in records:
        record["mends"] = list((mended or {}).get(record["id"], ()))
    return records


def _with_dropped(
    steps: Sequence[Mapping[str, Any]], dropped: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Put steps that revisions have dropped after what they depended on; unknown ones come last."""
    placed, last = list(steps), [step for step in dropped if "depends_on" not in step]
    put = set()
    for step in _ordered([step for step in dropped if "depends_on" in step]):
        needs = {*step["depends_on"]}
        at = max((n for n, other in enumerate(placed, start=1) if other.get("id") in needs), default=0)
        while at < len(placed) and id(placed[at]) in put:
            at += 1
        placed.insert(at, step)
        put.add(id(step))
    return placed + last


def _step_record(
    step: Mapping[str, Any],
    results: Mapping[str, Any],
    tries: Mapping[str, Sequence[Mapping[str, Any]]],
    waiting: set[str],
    scope: Mapping[str, Json],
    *,
    in_plan: bool = True,
) -> StepRecord:
    step_id = str(step.get("id", ""))
    made, result = tries.get(step_id, ()), results.get(step_id)
    outcome = "waiting" if result is None and step_id in waiting else outcome_of(result)
    return _record(step, result or _so_far(made), outcome, made, _given(step, scope), in_plan=in_plan)


def _ordered(steps: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    ids = [step.get("id") for step in steps]
    try:
        ordered: list[Any] = topological_order(steps) if len(set(ids)) == len(ids) else steps  # type: ignore[arg-type]
    except (ValueError, KeyError, TypeError):
        return steps  # a plan that was refused is shown as it was written
    return ordered


def _so_far(made: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Tell what is known about a step that has no result yet: its attempts, if they are recorded."""
    if not made:
        return {}
    last = made[-1]
    return {
        "output": last.get("output"),
        "criteria": last.get("criteria") or [],
        "evidence": [call for attempt in made for call in attempt.get("evidence") or ()],
        "attempts": len(made),
        "error": last.get("error"),
        "started_at": made[0].get("started_at"),
        "finished_at": last.get("ended_at"),
        "usage": last.get("usage") or {},
    }


def outcome_of(result: Mapping[str, Any] | None) -> str:
    """Tell how a step ended, as one of the keys of `OUTCOMES`."""
    if result is None:
        return "open"
    status = str(result.get("status"))
    if status == "done":
        return {"met_empty": "empty", "unverified": "unverified"}.get(str(result.get("verdict")), "done")
    return status if status in ("failed", "skipped", "blocked") else "open"


def _record(
    step: Mapping[str, Any],
    result: Mapping[str, Any],
    outcome: str,
    made: Sequence[Mapping[str, Any]],
    given: list[Given],
    *,
    in_plan: bool,
) -> StepRecord:
    call, sub_plan, agent = step.get("call"), step.get("plan"), step.get("agent")
    started, finished = seconds_of(result.get("started_at")), seconds_of(result.get("finished_at"))
    artifact = described_artifact(result.get("output"))
    return {
        "id": str(step.get("id", "")),
        "task": str(step.get("task") or ""),
        "kind": step_kind(step) or "unknown",
        "agent": str(agent) if agent is not None else None,
        "sub_goal": str(sub_plan.get("goal")) if isinstance(sub_plan, Mapping) else None,
        "call": dict(call) if isinstance(call, Mapping) else None,
        "tools": _granted(step),
        "depends_on": _texts(step.get("depends_on")),
        "options": {key: value for key, value in step.items() if key not in _SAID_ELSEWHERE},
        "in_plan": in_plan,
        "outcome": outcome,
        "status": result.get("status"),
        "verdict": result.get("verdict"),
        "inputs": given,
        "has_output": _has_output(result),
        "output": unwrapped(result.get("output")),
        "artifact": dict(artifact) if artifact is not None else None,
        "criteria": _criteria(step, result),
        "evidence": [dict(call) for call in result.get("evidence") or ()],
        "failed_items": [dict(item) for item in result.get("failed_items") or ()],
        "attempts": int(result.get("attempts") or 0),
        "tries": [_try(attempt) for attempt in made],
        "error": result.get("error"),
        "started_at": result.get("started_at"),
        "finished_at": result.get("finished_at"),
        "seconds": None if started is None or finished is None else round(max(0.0, finished - started), 3),
        "waited_s": 0.0,
        "mends": [],
        "usage": dict(result.get("usage") or {}),
    }


def _has_output(result: Mapping[str, Any]) -> bool:
    return result.get("status") == "done" or result.get("output") is not None


def _granted(step: Mapping[str, Any]) -> list[str]:
    try:
        return [str(name) for name in granted_tools(step)]
    except (KeyError, TypeError):
        return []


def _texts(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list | tuple) else []


def _try(attempt: Mapping[str, Any]) -> Try:
    decided = attempt.get("decision") or {}
    return {
        "number": int(attempt.get("number") or 0),
        "started_at": attempt.get("started_at"),
        "ended_at": attempt.get("ended_at"),
        "error": attempt.get("error"),
        "decision": str(decided.get("decision") or ""),
        "decided_at": decided.get("at"),
        "reason": str(decided.get("reason") or ""),
        "by": decider_in_words(decided.get("by")),
    }


# --- what it was given -------------------------------------------------------------------


def _given(step: Mapping[str, Any], scope: Mapping[str, Json]) -> list[Given]:
    """Look up what the references of a step stand for, as far as the state has it."""
    try:
        expressions = dict.fromkeys(expression for _, expression in step_references(step))
        return [_looked_up(expression, scope) for expression in expressions if not _is_of_item(expression)]
    except (BadReferenceError, KeyError, TypeError, AttributeError):
        return []  # of a plan that was refused for it


def _is_of_item(expression: str) -> bool:
    return bool(expression_roots(expression) & {"item", "index"})


def _looked_up(expression: str, scope: Mapping[str, Json]) -> Given:
    roots = expression_roots(expression)
    if absent := sorted(roots - set(scope)):
        return {"expression": expression, "missing": f"{', '.join(absent)} has no result"}
    if kept := sorted(root for root in roots if described_artifact(scope[root]) is not None):
        return {
            "expression": expression,
            "missing": f"the output of {', '.join(kept)} is kept outside the state",
        }
    try:
        return {"expression": expression, "value": search(expression, {root: scope[root] for root in roots})}
    except UnresolvedReferenceError as error:
        return {"expression": expression, "missing": str(error)}


# --- what it was held against ------------------------------------------------------------


def _criteria(step: Mapping[str, Any], result: Mapping[str, Any]) -> list[Criterion]:
    """Join the plan's criteria with their outcomes; within each type both are in the plan's order."""
    wanted: list[tuple[str, Json]] = []
    if "output_schema" in step:
        wanted.append(("json_schema", step["output_schema"]))  # it is checked as one
    for criterion in step.get("success_criteria") or ():
        if isinstance(criterion, Mapping):
            given = [value for name, value in criterion.items() if name != "type"]
            wanted.append((str(criterion.get("type")), given[0] if given else None))
    found = [outcome for outcome in result.get("criteria") or () if isinstance(outcome, Mapping)]
    joined: list[Criterion] = []
    for kind, value in wanted:
        outcome = next((one for one in found if one.get("type") == kind), None)
        if outcome is not None:
            found.remove(outcome)
        joined.append(_criterion(kind, value, outcome))
    return joined + [_criterion(str(outcome.get("type")), None, outcome) for outcome in found]


def _criterion(kind: str, wanted: Json, outcome: Mapping[str, Any] | None) -> Criterion:
    return {
        "type": kind,
        "wanted": wanted,
        "checked": outcome is not None,
        "passed": outcome.get("passed") if outcome is not None else None,
        "gap": str(outcome.get("gap") or "") if outcome is not None else "",
    }
