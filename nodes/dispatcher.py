"""Open an epoch: check that this plan may run, and collect results that already exist."""

from __future__ import annotations

from langchain_core.runnables import RunnableConfig

from ..people.approvals import approval_state, standing_approval
from ..plan.identity import plan_hash, step_fingerprint
from ..run import Node, Update, audit_event, run_of
from ..state import Plan, State, StepResult, feedback_of
from ..storage.ledger import Ledger
from ..tools.toolbox import Toolbox

__all__ = ["make_dispatcher", "recorded_results"]


def make_dispatcher(toolbox: Toolbox) -> Node:
    """Build the dispatcher node: a plan runs if its approval is recorded; otherwise it needs one again."""

    async def dispatcher(state: State, config: RunnableConfig) -> Update:
        run, plan = run_of(config), state.get("plan")
        if plan is None:
            return {"approval": {"decision": "needed"}}
        approval, said = state.get("approval"), feedback_of(state)
        validated = approval.get("plan_hash") if approval else None
        record = None
        if validated == plan_hash(plan, state.get("inputs")):
            record = await standing_approval(run, state, toolbox)
        if record is None:
            needed = {"decision": "needed", "plan_hash": validated, "feedback": said}
            trigger = "no approval of this plan is recorded"
            return {
                "approval": needed,
                "audit": [audit_event(run, state, "approval_missing", trigger=trigger)],
            }
        adopted = await recorded_results(run.ledger, plan, state.get("results") or {})
        update: Update = {
            "status": "running",
            "approval": approval_state(record, said),
            "decisions": None,
            "draft": None,
        }
        return update | ({"results": adopted} if adopted else {})

    return dispatcher


async def recorded_results(ledger: Ledger, plan: Plan, known: dict[str, StepResult]) -> dict[str, StepResult]:
    """Find this plan's results that are in the ledger but not in the state (after a crash or a fork)."""
    recorded = await ledger.results(plan["id"])
    return {
        step["id"]: recorded[step["id"]]["result"]
        for step in plan["steps"]
        if step["id"] in recorded
        and step["id"] not in known
        and recorded[step["id"]]["fingerprint"] == step_fingerprint(step)
    }
