"""Check whether a value has the form of a plan, and fill in defaults."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any
from uuid import uuid4

from pydantic import TypeAdapter, ValidationError

from ...errors import known
from ...safety.depth import is_too_deep, too_deep_message
from ...state import MODEL_FIELDS, STEP_KINDS, Ask, Call, Plan, PlanIssue, Step, SubPlan
from ..criteria import KINDS, criteria_format
from .facts import PlanFacts, issue

__all__ = ["form_issues", "normalised"]


_KNOWN_FIELDS: dict[str, Iterable[str]] = {
    "plan": Plan.__annotations__,
    "step": Step.__annotations__,
    "call": Call.__annotations__,
    "question": Ask.__annotations__,
    "criterion": ("type", *(name for kind in KINDS.values() for name in kind.parameters)),
    "sub-plan": SubPlan.__annotations__,
}


@cache
def _plan_format() -> TypeAdapter[Plan]:
    return TypeAdapter(Plan)


def form_issues(raw: Any) -> Iterator[PlanIssue]:
    """Return what keeps this from being read as a plan: fields, types, kinds of steps."""
    if not isinstance(raw, Mapping):
        yield issue(
            "malformed_plan", None, f"a plan is a JSON object with a list of steps, not {type(raw).__name__}"
        )
        return
    if is_too_deep(raw):
        yield issue("malformed_plan", None, too_deep_message("the plan"))
        return
    try:
        _plan_format().validate_python(dict(raw), strict=True)
    except ValidationError as error:
        yield from (_form_issue(raw, item) for item in error.errors())
        return
    for at, step in enumerate(raw["steps"]):
        yield from _criteria_issues(raw, step, ("steps", at, "success_criteria"))
        yield from _kind_issues(step)


def _criteria_issues(
    raw: Mapping[str, Any], owner: Mapping[str, Any], where: tuple[Any, ...]
) -> Iterator[PlanIssue]:
    try:
        criteria_format().validate_python(owner.get(where[-1], []), strict=True)
    except ValidationError as error:
        yield from (_form_issue(raw, {**item, "loc": (*where, *item["loc"])}) for item in error.errors())


def _form_issue(raw: Mapping[str, Any], item: Any) -> PlanIssue:
    path: tuple[Any, ...] = item["loc"]
    where = ".".join(map(str, path)) or "plan"
    message = f"{where}: {item['msg']}"
    if item["type"] == "extra_forbidden":
        noun = _noun(path)
        fields = known(_KNOWN_FIELDS[noun], given=path[-1])
        message = f"{where}: unknown field {path[-1]!r} of a {noun}; known fields: {fields}"
    elif item["type"] == "literal_error":
        message = f"{where}: {item['input']!r} is not one of {item['ctx']['expected']}"
    elif item["type"] == "bool_type" and str(item["input"]).lower() in ("yes", "no", "on", "off"):
        message += f" (got the text {item['input']!r}: in a plan file only true and false are booleans)"
    elif item["type"] != "missing":
        message += f" (got {type(item['input']).__name__} {str(item['input'])[:80]!r})"
    step = _step_at(raw, path)
    named = step is not None and isinstance(step.get("id"), str)
    code = "bad_criterion" if path[2:3] == ("success_criteria",) and len(path) > 3 else "malformed_plan"
    return issue(code, step, message, *(path[2:] if named else path))


def _noun(path: tuple[Any, ...]) -> str:
    if "success_criteria" in path:
        return "criterion"
    if len(path) == 4:
        return {"call": "call", "ask": "question"}.get(path[2], "sub-plan")
    return "step" if len(path) == 3 else "plan"


def _step_at(raw: Mapping[str, Any], path: tuple[Any, ...]) -> Mapping[str, Any] | None:
    if len(path) > 1 and path[0] == "steps" and isinstance(path[1], int):
        step = raw["steps"][path[1]]
        return step if isinstance(step, Mapping) else None
    return None


def _kind_issues(step: Step) -> Iterator[PlanIssue]:
    kinds = [kind for kind in STEP_KINDS if step.get(kind) is not None]
    if len(kinds) != 1:
        found = f"it has {' and '.join(kinds)}" if kinds else "it has none"
        yield issue(
            "malformed_plan",
            step,
            f"step {step['id']!r} needs exactly one of {', '.join(STEP_KINDS)}; {found}",
            *kinds[-1:],
        )
    if kinds in (["tools"], ["agent"]) and not (step.get("task") or "").strip():
        message = f"step {step['id']!r} needs a task: what its agent is to do"
        yield issue("malformed_plan", step, message, "task")
    if kinds == ["plan"] and not step["plan"]["goal"].strip():
        message = f"step {step['id']!r}: the goal of its plan is empty"
        yield issue("malformed_plan", step, message, "plan", "goal")
    if kinds == ["ask"] and not step["ask"]["question"].strip():
        yield issue("malformed_plan", step, f"step {step['id']!r}: its question is empty", "ask", "question")
    if step.get("confirm") and kinds != ["call"]:
        message = f"step {step['id']!r}: only a call can be confirmed, but this step is of kind {kinds[-1:]}"
        yield issue("malformed_plan", step, message, "confirm")
    for field in MODEL_FIELDS:
        if step.get(field) is not None and kinds != ["tools"]:
            message = (
                f"step {step['id']!r}: {field} is for steps with tools, but this step is of kind {kinds[-1:]}"
            )
            yield issue("malformed_plan", step, message, field)
        elif step.get(field) == "":
            yield issue("malformed_plan", step, f"step {step['id']!r}: {field} is empty", field)
    for name, least in (("max_attempts", 1), ("max_iterations", 1), ("timeout_s", 0)):
        value = step.get(name)
        if value is not None and (value < least or value == 0):  # type: ignore[operator]
            message = f"step {step['id']!r}: {name} must be positive, not {value}"
            yield issue("malformed_plan", step, message, name)


def normalised(raw: Mapping[str, Any], facts: PlanFacts) -> Plan:
    """Fill in defaults. Input values given for undeclared names are declared."""
    previous: Mapping[str, Any] = facts.previous or {}
    steps = [
        {
            "task": "",
            **{key: value for key, value in step.items() if value is not None},
            **({"call": {"args": {}, **step["call"]}} if step.get("call") else {}),
            "depends_on": _unique(step),
        }
        for step in raw["steps"]
    ]
    plan: Plan = {
        "id": raw.get("id") or previous.get("id") or uuid4().hex,
        "revision": raw.get("revision") or previous.get("revision", 0) + 1,
        "goal": raw.get("goal") or facts.goal,
        "rationale": raw.get("rationale") or "",
        "complete": raw.get("complete", True) is not False,
        "inputs": dict(raw.get("inputs") or {}),
        "steps": steps,  # type: ignore[typeddict-item]
    }
    if raw.get("answer"):
        plan["answer"] = raw["answer"]
    return plan


def _unique(step: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(step.get("depends_on") or ()))
