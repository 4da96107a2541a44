"""Ask a person whether a plan may run, and record the answer as a fact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.runtime import Runtime

from ..approvals import record_approval, record_edit
from ..context import Context
from ..errors import ApprovalImpossibleError
from ..models.chat import ChatModels
from ..questions import Answer, ask
from ..run import Node, Run, Update, audit_event, emit, run_of
from ..state import (
    Plan,
    PlanIssue,
    State,
    Step,
    feedback_of,
    granted_tools,
    pending_steps,
    plan_difference,
    plan_hash,
    remaining_path,
    topological_order,
)
from ..tools.calls import preview
from ..tools.toolbox import Toolbox

__all__ = ["describe_plan", "make_approval"]


def make_approval(models: ChatModels, toolbox: Toolbox) -> Node:
    """Build the approval node: a plan in; approved, edited or rejected out."""

    async def approval(state: State, config: RunnableConfig, runtime: Runtime[Context]) -> Update:
        run, plan = run_of(config), state.get("plan")
        if plan is None:
            return {"approval": {"decision": "rejected", "feedback": []}, "status": "rejected"}
        if not run.can_ask:
            raise ApprovalImpossibleError(
                f"the plan needs approval (approval={run.settings.approval!r}) and nobody can be asked: "
                'give the agent a checkpointer=, or run it with Context(approval="never")'
            )
        if _was_edited_in_state(state, plan) and not _was_refused(state, plan):
            return _to_validator(state, plan)
        shown = _shown_plan(state, plan)
        approved_before = await run.ledger.approvals(plan["id"])
        description = describe_plan(state, shown, toolbox, bool(approved_before))
        answer = ask("approve_plan", {"plan": shown}, description)
        emit(runtime, run, "plan_answered", answer=answer["type"])
        return await _apply(answer, state, plan, run)

    async def _apply(answer: Answer, state: State, plan: Plan, run: Run) -> Update:
        said = feedback_of(state)
        audit = [
            audit_event(
                run, state, "plan_" + _PAST[answer["type"]], by=answer["by"], trigger=answer["message"]
            )
        ]
        if answer["type"] == "approve" and _was_edited_in_state(state, plan):
            return _to_validator(state, plan)
        if answer["type"] == "approve":
            record = await record_approval(run, plan, state.get("inputs"), toolbox, "approved")
            return {
                "approval": {**record, "feedback": said},
                "plan_issues": [],
                "audit": audit,
                "draft": None,
            }
        if answer["type"] == "edit":
            edited = answer["args"]["plan"]
            await record_edit(run, plan, edited)
            return _to_validator(state, edited) | {"audit": audit}
        return _rejected(answer, plan, said, run) | {"audit": audit}

    def _rejected(answer: Answer, plan: Plan, said: list[str], run: Run) -> Update:
        spoken = bool(answer["message"]) and answer["by"] == "person"
        feedback = [*said, answer["message"]] if spoken else said
        rejected = {"decision": "rejected", "feedback": feedback, "rejected_plan": plan}
        can_revise = spoken and models.has("planner", run.settings.models)
        update: Update = {"approval": rejected, "plan_issues": [], "draft": None}
        if not can_revise:
            who = "A person rejected the plan" if answer["by"] == "person" else "The plan was not approved"
            reason = f"{who}: {answer['message']}" if answer["message"] else f"{who}."
            evaluation = {"decision": "abort", "reason": reason, "by": answer["by"]}
            update |= {"status": "rejected", "evaluation": evaluation}
        return update

    return approval


def _to_validator(state: State, edited: Mapping[str, Any]) -> Update:
    """Hand an edited plan to the validator; the approval goes on naming the plan that was valid last."""
    before = state.get("approval")
    approval: dict[str, Any] = {"decision": "edited", "feedback": feedback_of(state)}
    if before and "plan_hash" in before:
        approval["plan_hash"] = before["plan_hash"]
    draft = {"plan": dict(edited), "source": "person", "attempt": 1}
    return {"approval": approval, "draft": draft, "plan_issues": []}


def _was_edited_in_state(state: State, plan: Plan) -> bool:
    """Tell whether a client changed the plan in the state since it was validated."""
    approval = state.get("approval")
    return approval is None or approval.get("plan_hash") != plan_hash(plan, state.get("inputs"))


def _was_refused(state: State, plan: Plan) -> bool:
    """Tell whether it is this plan that the validator has just refused."""
    draft = state.get("draft")
    return bool(state.get("plan_issues")) and draft is not None and draft["plan"] == plan


_PAST = {"approve": "approved", "edit": "edited", "reject": "rejected", "respond": "rejected"}


def _shown_plan(state: State, plan: Plan) -> Mapping[str, Any]:
    """Show a person's own edit again when it has issues, so that nothing of it is lost."""
    draft = state.get("draft")
    refused = draft is not None and draft["source"] == "person" and bool(state.get("plan_issues"))
    return draft["plan"] if refused and draft is not None else plan


# --- the description ---------------------------------------------------------------------


def describe_plan(state: State, shown: Mapping[str, Any], toolbox: Toolbox, asked_before: bool) -> str:
    """Write Markdown that a person can decide from."""
    plan = state.get("plan")
    parts = [f"**Goal:** {preview(str(shown.get('goal') or state.get('goal') or ''), 500)}"]
    if issues := state.get("plan_issues"):
        parts.append("**Your edit cannot run yet:**\n" + "\n".join(map(_issue_line, issues)))
        parts.append(
            "Mend it and send the whole plan again, approve the plan before your edit, or reject it."
        )
    if shown.get("rationale"):
        parts.append(f"**Why this plan:** {preview(str(shown['rationale']), 1000)}")
    if plan is not None and shown is plan:
        parts.append(_steps_table(plan, toolbox))
        if asked_before and (changes := _changes(state, plan)):
            parts.append(changes)
        parts.append(_estimate(plan, state))
    return "\n\n".join(parts)


def _issue_line(issue: PlanIssue) -> str:
    return f"- `{issue['code']}` {issue['message']}"


def _steps_table(plan: Plan, toolbox: Toolbox) -> str:
    lines = [
        f"{number}. {_marker(step, toolbox)}**{step['id']}**: {step['task'] or 'call'}"
        f"{_details(step, toolbox)}"
        for number, step in enumerate(topological_order(plan["steps"]), start=1)
    ]
    writing = sum(1 for step in plan["steps"] if "write" in toolbox.effects(granted_tools(step)))
    head = f"**Steps:** {len(lines)}" + (
        f", {writing} of them may change the world (✎)" if writing else ", read only"
    )
    return head + "\n" + "\n".join(lines)


def _marker(step: Step, toolbox: Toolbox) -> str:
    return "✎ " if "write" in toolbox.effects(granted_tools(step)) else ""


def _details(step: Step, toolbox: Toolbox) -> str:
    parts = []
    if "call" in step:
        tool = step["call"]["tool"]
        parts.append(f"`{tool}({preview(step['call']['args'], 200)})` [{toolbox.effect(tool)}]")
    elif tools := granted_tools(step):
        parts.append("an agent with " + ", ".join(f"`{name}` [{toolbox.effect(name)}]" for name in tools))
    else:
        parts.append("an agent without tools")
    if step["depends_on"]:
        parts.append("after " + ", ".join(step["depends_on"]))
    return " — " + "; ".join(parts)


def _changes(state: State, plan: Plan) -> str:
    """Say what is new since the revision that was approved last."""
    accepted = [event for event in state.get("audit") or () if event["event"] == "plan_accepted"]
    if len(accepted) < 2:
        return ""
    difference = accepted[-1].get("difference") or plan_difference(None, plan)
    named = [f"{what}: {', '.join(ids)}" for what, ids in difference.items() if ids]
    return "**Changed since the last revision:** " + "; ".join(named) if named else ""


def _estimate(plan: Plan, state: State) -> str:
    pending = pending_steps(plan, state.get("results") or {})
    agents = sum(1 for step in pending if "call" not in step)
    judged = sum(1 for step in pending for c in step.get("success_criteria", ()) if c["type"] == "judge")
    longest = max(remaining_path(pending, {}).values(), default=0.0)
    return (
        f"**Estimate:** {len(pending) - agents} direct tool calls, at least {agents + judged} model calls, "
        f"{longest:.0f} steps on the longest path. Tokens and time: unknown before the first run."
    )
