"""Hold what a plan is checked against, and build its issues."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...state import MODEL_CLASSES, Plan, PlanIssue, StepResult, names_a_class
from ..tools import Tools

__all__ = ["PlanFacts", "Rule", "issue"]


def _unknown_class(named: str) -> str:
    """Return the problem with a model or class if no models are known."""
    if named in MODEL_CLASSES or not names_a_class(named):
        return ""
    return f"there is no class {named!r} of models; known classes: {', '.join(MODEL_CLASSES)}"


@dataclass(frozen=True)
class PlanFacts:
    """What a plan is checked against.

    Attributes:
        toolbox: The tools there are.
        step_limit: How many steps the plan may have.
        inputs: Input values given for this run.
        has_model: Whether agent steps can run at all.
        has_planner: Whether sub-plans and the next steps of a rolling plan can be planned.
        model_problem: Returns the problem with a class or a model that a step names; "" if there is none.
        may_nest: Whether sub-plans are within the limit of depth.
        previous: The revision that this one replaces.
        results: Results so far; finished steps must stay as they are.
        finished: Fingerprints of the finished steps when they ran, by step id.
        goal: The goal, if the plan itself does not state it.
    """

    toolbox: Tools
    step_limit: int
    inputs: Mapping[str, Any] = field(default_factory=dict)
    has_model: bool = True
    has_planner: bool = True
    model_problem: Callable[[str], str] = _unknown_class
    may_nest: bool = True
    previous: Plan | None = None
    results: Mapping[str, StepResult] = field(default_factory=dict)
    finished: Mapping[str, str] = field(default_factory=dict)
    goal: str = ""


Rule = Callable[[Plan, PlanFacts], Iterator[PlanIssue]]


def issue(code: str, step: Mapping[str, Any] | None, message: str, *field: str | int) -> PlanIssue:
    """Build an issue of a step, or of the plan; ``field`` is the place in it."""
    step_id = step.get("id") if step else None
    issue: PlanIssue = {
        "code": code,
        "step_id": step_id if isinstance(step_id, str) else None,
        "message": message,
    }
    return {**issue, "field": list(field)} if field else issue
