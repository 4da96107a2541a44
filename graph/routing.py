"""Choose the next node: pure, total functions over the state, one per node that has a choice."""

from __future__ import annotations

from typing import Literal

from langgraph.types import Send
from typing_extensions import TypedDict

from ..plan.dag import next_round_is_due, pending_steps
from ..state import Approval, Draft, Evaluation, Plan, PlanIssue, RunStatus, StepResult, is_taken_in

__all__ = [
    "RouteState",
    "route_after_approval",
    "route_after_dispatcher",
    "route_after_evaluator",
    "route_after_planner",
    "route_after_validator",
]


class RouteState(TypedDict, total=False):
    """The parts of the state that routes read; no others reach them."""

    plan: Plan | None
    plan_issues: list[PlanIssue]
    approval: Approval | None
    results: dict[str, StepResult]
    evaluation: Evaluation | None
    status: RunStatus
    draft: Draft | None


def route_after_planner(state: RouteState) -> Literal["validator", "synthesizer"]:
    """A draft is validated; if the goal cannot be planned, the answer gives the reason."""
    return "validator" if state.get("draft") else "synthesizer"


def route_after_validator(
    state: RouteState,
) -> Literal["planner", "replanner", "approval", "dispatcher", "synthesizer"]:
    """Issues go back to the author of the plan, or end the run; a valid plan is approved or runs."""
    if _aborted(state):
        return "synthesizer"
    if state.get("plan_issues"):
        draft = state.get("draft")
        routes: dict[str, Literal["planner", "replanner", "approval"]] = {
            "planner": "planner",
            "cache": "planner",
            "replanner": "replanner",
            "person": "approval",
        }
        return routes.get(draft["source"], "synthesizer") if draft else "synthesizer"
    return "approval" if _decision(state) == "needed" else "dispatcher"


def route_after_approval(state: RouteState) -> Literal["planner", "validator", "dispatcher", "synthesizer"]:
    """An edit is validated; a rejection goes back to the planner, or ends the run if there is none."""
    decision = _decision(state)
    if decision == "edited":
        return "validator"
    if decision == "rejected":
        return "synthesizer" if state.get("status") == "rejected" else "planner"
    return "dispatcher"


def route_after_dispatcher(state: RouteState) -> list[Send] | Literal["approval", "evaluator"]:
    """Send every pending step at once, in topological order; ask for an approval if none is recorded."""
    plan = state.get("plan")
    if plan is None or _decision(state) == "needed" or not is_taken_in(state):
        return "approval"
    pending = pending_steps(plan, state.get("results") or {})
    return [Send("executor", {"step_id": step["id"]}) for step in pending] or "evaluator"


def route_after_evaluator(state: RouteState) -> Literal["dispatcher", "replanner", "planner", "synthesizer"]:
    """Run the remaining steps, revise the plan, plan the next steps, or finish."""
    evaluation, plan, results = state.get("evaluation"), state.get("plan"), state.get("results") or {}
    decision = evaluation["decision"] if evaluation else "abort"
    if decision in ("patch", "replan"):
        return "replanner"
    if decision == "continue" and plan and pending_steps(plan, results):
        return "dispatcher"
    if decision == "continue" and next_round_is_due(plan, results):
        return "planner"
    return "synthesizer"


def _decision(state: RouteState) -> str:
    approval = state.get("approval")
    return approval["decision"] if approval else "needed"


def _aborted(state: RouteState) -> bool:
    evaluation = state.get("evaluation")
    return evaluation is not None and evaluation["decision"] == "abort"
