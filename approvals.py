"""Approvals are facts on record, not flags in the state.

What lets a plan run is a record in the store for the plan's hash. Nothing that a
client can write into the graph's state counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .context import needs_approval
from .run import Run
from .state import Approval, Plan, plan_hash, step_fingerprints
from .tools.toolbox import Toolbox

__all__ = ["approval_state", "record_approval", "record_edit", "standing_approval"]

Record = dict[str, Any]


def approval_state(record: Record, feedback: list[str]) -> Approval:
    """Return what the state shows of a record; what counts stays in the store."""
    return {
        "decision": record["decision"],
        "plan_hash": record["plan_hash"],
        "grants": record["grants"],
        "at": record["at"],
        "feedback": feedback,
    }


async def standing_approval(
    run: Run, plan: Plan, inputs: Mapping[str, Any] | None, toolbox: Toolbox
) -> Record | None:
    """Return what lets this plan run now without asking: a record, or a policy that needs none.

    A record of "not required" holds only while the policy still says so: a later context
    may tighten it.
    """
    required = needs_approval(run.settings.approval, toolbox.grants(plan)["effects"])
    record = await run.ledger.approval(plan["id"], plan_hash(plan, inputs))
    if record is not None and not (required and record["decision"] == "not_required"):
        return record
    return None if required else await record_approval(run, plan, inputs, toolbox, "not_required")


async def record_approval(
    run: Run, plan: Plan, inputs: Mapping[str, Any] | None, toolbox: Toolbox, decision: str
) -> Record:
    """Put on record that this plan may run: its hash, grants and steps, when, by what decision.

    ``memory_lost`` marks a plan that was under way when a store in memory forgot it: whether
    its writes had been started is then unknown.
    """
    record: Record = {
        "decision": decision,
        "plan_hash": plan_hash(plan, inputs),
        "revision": plan["revision"],
        "grants": toolbox.grants(plan),
        "steps": step_fingerprints(plan),
        "at": run.timestamp(),
    }
    if run.volatile and run.underway and not await run.ledger.approvals(plan["id"]):
        record["memory_lost"] = True
    await run.ledger.record_approval(plan["id"], record["plan_hash"], record)
    return record


async def record_edit(run: Run, plan: Plan, edited: Mapping[str, Any]) -> None:
    """Put a person's edit on record: an edited plan in the state alone would approve nothing."""
    await run.ledger.record_approval(
        plan["id"], f"edit-{run.new_id()}", {"decision": "edit", "edit": dict(edited), "at": run.timestamp()}
    )
