"""Decide, after an epoch, what its failures mean for the plan: continue, patch, replan, abort or finish."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from langchain_core.runnables import RunnableConfig
from langgraph.runtime import Runtime

from ..context import Context
from ..models.chat import ChatModels
from ..people.budget_question import ask_about_budget
from ..plan.dag import next_round_is_due, pending_steps
from ..run import Node, Run, Update, audit_event, emit, run_of, warn_of_budget
from ..state import (
    AuditEvent,
    Evaluation,
    Plan,
    State,
    Step,
    StepResult,
    new_evaluation,
    steps_of,
)

__all__ = ["make_evaluator"]


_WEIGHT = {"patch": 1, "replan": 2, "abort": 3}
"""If several steps failed, the decision with the highest weight is taken."""


def make_evaluator(models: ChatModels) -> Node:
    """Build the evaluator node: results of an epoch in, one decision about the plan out."""
    return _Evaluator(models)


@dataclass(frozen=True, eq=False)
class _Evaluator:
    """The evaluator, with the models that can revise a plan."""

    models: ChatModels

    async def __call__(self, state: State, config: RunnableConfig, runtime: Runtime[Context]) -> Update:
        run = run_of(config)
        evaluation = self._evaluate(state, run)
        warn_of_budget(runtime, run)
        audit: list[AuditEvent] = []
        if (soft := run.soft_limit()) is not None and _goes_on(evaluation, state):
            left = [step["id"] for step in _pending(state)]
            evaluation, audit = await ask_about_budget(soft, evaluation, left, state, run)
        emit(runtime, run, "evaluated", decision=evaluation["decision"], reason=evaluation.get("reason", ""))
        update: Update = {
            "evaluation": evaluation,
            "audit": [*audit, _noted(run, state, evaluation)],
            "usage": {"seconds": round(run.meter.lap(), 4)},
        }
        if evaluation["decision"] == "continue" and _is_due(state):
            update["rounds"] = state.get("rounds", 0) + 1
        return update

    def _evaluate(self, state: State, run: Run) -> Evaluation:
        plan, results = state.get("plan"), state.get("results") or {}
        decision = _weightiest(plan, state.get("decisions") or {}, results)
        if decision is None:
            return self._plan_on(state, run) if _is_due(state) else _go_on(plan, results, run)
        if decision["decision"] in ("patch", "replan") and (reason := self._cannot_replan(state, run)):
            reason = f"{reason}; the failure was: {decision.get('reason', '')}"
            steps, evidence = decision.get("step_ids", ()), decision.get("evidence", ())
            return new_evaluation("abort", reason, by="limit", step_ids=steps, evidence=evidence)
        return decision

    def _plan_on(self, state: State, run: Run) -> Evaluation:
        """Ask the planner for the next steps of a rolling plan, unless a limit forbids it."""
        round_, limit = state.get("rounds", 0) + 1, run.settings.max_rounds
        if run.stop.is_set():
            return _stopped_from_outside()
        if reason := self._cannot_plan_on(round_, run):
            return new_evaluation("abort", reason, by="limit")
        reason = f"The plan goes on: the next steps are planned (round {round_} of at most {limit})."
        return new_evaluation("continue", reason)

    def _cannot_plan_on(self, round_: int, run: Run) -> str | None:
        if round_ > run.settings.max_rounds:
            return f"No more steps may be planned (max_rounds={run.settings.max_rounds})."
        if not self.models.has("planner", run.settings.models):
            return "There is no model to plan the next steps."
        spent = run.meter.exhausted()
        return str(spent) if spent else None

    def _cannot_replan(self, state: State, run: Run) -> str | None:
        if state.get("replans", 0) >= run.settings.max_replans:
            return f"the plan may not be revised again (max_replans={run.settings.max_replans})"
        if not self.models.has("replanner", run.settings.models):
            return "there is no model to revise the plan"
        spent = run.meter.exhausted()
        return str(spent) if spent else None


def _noted(run: Run, state: State, evaluation: Evaluation) -> AuditEvent:
    return audit_event(
        run,
        state,
        "evaluated",
        decision=evaluation["decision"],
        by=evaluation.get("by", "policy"),
        trigger=evaluation.get("reason", ""),
        evidence=evaluation.get("evidence", []),
    )


def _goes_on(evaluation: Evaluation, state: State) -> bool:
    """Tell whether the run spends more after this decision than its last answer costs."""
    if evaluation["decision"] != "continue":
        return evaluation["decision"] in ("patch", "replan")
    return bool(_pending(state)) or _is_due(state)


def _pending(state: State) -> list[Step]:
    """List the steps that can still run."""
    plan = state.get("plan")
    return pending_steps(plan, state.get("results") or {}) if plan else []


def _stopped_from_outside() -> Evaluation:
    return {**new_evaluation("abort", "The run was told to stop.", by="person"), "cancelled": True}


def _is_due(state: State) -> bool:
    return next_round_is_due(state.get("plan"), state.get("results") or {})


def _weightiest(
    plan: Plan | None, decisions: Mapping[str, Evaluation], results: Mapping[str, StepResult]
) -> Evaluation | None:
    """Combine the executors' decisions about steps that are still failed in the current plan."""
    current = {step["id"] for step in steps_of(plan)}
    open_ones = [
        decision
        for step_id, decision in decisions.items()
        if step_id in current and step_id in results and results[step_id]["status"] == "failed"
    ]
    if not open_ones:
        return None
    heaviest = max(open_ones, key=lambda decision: _WEIGHT.get(decision["decision"], 0))
    return {
        **heaviest,
        "step_ids": _collect(open_ones, "step_ids"),
        "evidence": _collect(open_ones, "evidence"),
    }


def _collect(decisions: Sequence[Evaluation], key: str) -> list[str]:
    return [item for decision in decisions for item in decision.get(key, [])]  # type: ignore[attr-defined]


def _go_on(plan: Plan | None, results: Mapping[str, StepResult], run: Run) -> Evaluation:
    pending = pending_steps(plan, results) if plan else []
    if pending and run.stop.is_set():
        return _stopped_from_outside()
    if pending and (spent := run.meter.exhausted()):
        return new_evaluation("abort", str(spent), by="limit")
    if pending:
        return new_evaluation("continue", "steps are left to run", step_ids=[step["id"] for step in pending])
    ended = {step["id"]: results[step["id"]] for step in steps_of(plan) if step["id"] in results}
    undone = [i for i, result in ended.items() if result["status"] != "done" and result["error"]]
    reason = f"Not done: {', '.join(undone)}." if undone else "Every step has ended."
    return new_evaluation("continue", reason)
