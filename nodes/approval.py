"""Ask a person whether a plan may run, and record the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.runtime import Runtime

from ..context import Context
from ..errors import ApprovalImpossibleError
from ..models.chat import ChatModels
from ..people.approvals import (
    approval_state,
    known_values,
    names_in,
    record_approval,
    record_edit,
    uses_of_plan,
)
from ..people.asking import ask_person
from ..people.plan_text import describe_plan
from ..people.questions import Answer
from ..plan.dag import pending_steps
from ..plan.grants import changed_tools
from ..plan.identity import plan_hash
from ..plan.reuse import describe_recalled
from ..run import Node, Run, Update, audit_event, emit, run_of
from ..spending.estimates import Estimate, estimate_plan
from ..state import Plan, State, digest, feedback_of, is_taken_in, kind_of, new_evaluation
from ..tools.toolbox import Toolbox

__all__ = ["make_approval"]


def make_approval(models: ChatModels, toolbox: Toolbox) -> Node:
    """Build the approval node: a plan in; approved, edited or rejected out."""
    return _Approval(models, toolbox)


@dataclass(frozen=True, eq=False)
class _Approval:
    """The approval node."""

    models: ChatModels
    toolbox: Toolbox

    async def __call__(self, state: State, config: RunnableConfig, runtime: Runtime[Context]) -> Update:
        run, plan = run_of(config), state.get("plan")
        if plan is None:
            return {"approval": {"decision": "rejected", "feedback": []}, "status": "rejected"}
        if not is_taken_in(state):
            # A client skipped the planner, which accepts the goal and its plan.
            return {"approval": {"decision": "rejected", "feedback": []}}
        if run.stop.is_set():
            return _stopped(state)
        if not run.can_ask:
            raise ApprovalImpossibleError(
                f"the plan needs approval (approval={run.settings.approval!r}), but nobody can be "
                'asked: give the agent a checkpointer=, or run it with Context(approval="never")'
            )
        if _was_edited_in_state(state, plan) and not _was_refused(state, plan):
            return _to_validator(state, plan)
        answer = await self._ask(state, plan, run)
        update = await self._apply(answer, state, plan, run)
        _tell(runtime, run, update, answer)
        return update

    async def _ask(self, state: State, plan: Plan, run: Run) -> Answer:
        shown = _shown_plan(state, plan)
        earlier = await run.ledger.approvals(plan["id"])
        hit = await run.reuse.recalled_from(plan["id"]) if shown is plan else None
        origin = describe_recalled(hit) if hit else ""
        estimate = await self._estimate(state, plan, run)
        values = await known_values(run, state, names_in(pending_steps(plan, state.get("results") or {})))
        run.find_place(state)
        description = describe_plan(
            state,
            shown,
            self.toolbox,
            earlier,
            origin=origin,
            estimate=estimate,
            values=values,
            done=await run.effects.left_behind(),
        )
        key = [plan["id"], digest(shown), _decisions(state)]
        uses = await uses_of_plan(run, state, plan, self.toolbox)
        return await ask_person(
            run, key, "approve_plan", {"plan": shown}, description, uses=uses, estimate=estimate
        )

    async def _estimate(self, state: State, plan: Plan, run: Run) -> Estimate:
        return estimate_plan(
            plan,
            state.get("results") or {},
            await run.history.samples(),
            inputs=state.get("inputs"),
            slots=run.settings.max_parallel,
            model_of=self.models.names(run.settings.models),
        )

    async def _apply(self, answer: Answer, state: State, plan: Plan, run: Run) -> Update:
        said = feedback_of(state)
        audit = [
            audit_event(
                run,
                state,
                "plan_" + _PAST[answer["type"]],
                at=answer.get("at"),
                by=answer["by"],
                trigger=answer["message"],
            )
        ]
        if answer["type"] == "approve" and (
            _was_edited_in_state(state, plan) or self._has_other_tools(state)
        ):
            return _to_validator(state, plan) | {"audit": audit}
        if answer["type"] == "approve":
            record = await record_approval(run, state, self.toolbox, "approved", answer["by"])
            return {
                "approval": approval_state(record, said),
                "plan_issues": [],
                "audit": audit,
                "draft": None,
            }
        if answer["type"] == "edit":
            edited = answer["args"]["plan"]
            await record_edit(run, state, edited, answer["by"])
            return _to_validator(state, edited) | {"audit": audit}
        return self._rejected(answer, plan, said, run) | {"audit": audit}

    def _has_other_tools(self, state: State) -> bool:
        """Tell whether the agent was rebuilt with other tools since the plan was shown."""
        approval: Mapping[str, Any] = state.get("approval") or {}
        shown = approval.get("grants") or {}
        return bool(changed_tools(self.toolbox.fingerprints(shown.get("tools", ())), shown))

    def _rejected(self, answer: Answer, plan: Plan, said: list[str], run: Run) -> Update:
        spoken = bool(answer["message"]) and kind_of(answer["by"]) == "person"
        feedback = [*said, answer["message"]] if spoken else said
        rejected = {"decision": "rejected", "feedback": feedback, "rejected_plan": plan}
        can_revise = spoken and self.models.has("planner", run.settings.models)
        update: Update = {"approval": rejected, "plan_issues": [], "draft": None}
        if not can_revise:
            by_a_person = kind_of(answer["by"]) == "person"
            who = "A person rejected the plan" if by_a_person else "The plan was not approved"
            reason = f"{who}: {answer['message']}" if answer["message"] else f"{who}."
            evaluation = new_evaluation("abort", reason, by=answer["by"])
            update |= {"status": "rejected", "evaluation": evaluation}
        return update


def _stopped(state: State) -> Update:
    reason = "The run was told to stop."
    return {
        "status": "rejected",
        "approval": {"decision": "rejected", "feedback": feedback_of(state)},
        "evaluation": new_evaluation("abort", reason, by="person"),
    }


def _tell(runtime: Runtime[Any], run: Run, update: Update, answer: Answer) -> None:
    """Send the event for the answer; an edited plan may exist only in the state."""
    match update["approval"]["decision"]:
        case "edited":
            emit(runtime, run, "plan_edited", by=answer["by"], edited=update["draft"]["plan"])
        case "rejected":
            emit(runtime, run, "plan_rejected", by=answer["by"], feedback=answer["message"])
        case _:
            emit(runtime, run, "plan_approved", by=answer["by"])


def _to_validator(state: State, edited: Mapping[str, Any]) -> Update:
    """Hand an edited plan to the validator; the approval still names the last valid plan."""
    before = state.get("approval")
    approval: dict[str, Any] = {"decision": "edited", "feedback": feedback_of(state)}
    if before and "plan_hash" in before:
        approval["plan_hash"] = before["plan_hash"]
    draft = {"plan": dict(edited), "source": "person", "attempt": 1}
    return {"approval": approval, "draft": draft, "plan_issues": []}


def _was_edited_in_state(state: State, plan: Plan) -> bool:
    """Tell whether a client changed the plan in the state after its validation."""
    approval = state.get("approval")
    return approval is None or approval.get("plan_hash") != plan_hash(plan, state.get("inputs"))


def _was_refused(state: State, plan: Plan) -> bool:
    """Tell whether the validator has just refused this plan."""
    draft = state.get("draft")
    return bool(state.get("plan_issues")) and draft is not None and draft["plan"] == plan


def _decisions(state: State) -> int:
    """Count the answers about plans so far, because the same plan may be asked about again."""
    answered = {f"plan_{past}" for past in _PAST.values()}
    return sum(event["event"] in answered for event in state.get("audit") or ())


_PAST = {"approve": "approved", "edit": "edited", "reject": "rejected", "respond": "rejected"}


def _shown_plan(state: State, plan: Plan) -> Mapping[str, Any]:
    """Show a person's own edit again if it has issues, so that no part of it is lost."""
    draft = state.get("draft")
    refused = draft is not None and draft["source"] == "person" and bool(state.get("plan_issues"))
    return draft["plan"] if refused and draft is not None else plan
