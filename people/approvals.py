"""Keep approvals as records, not as flags in the state.

What allows a plan to run is a record in the store for the plan's hash. Nothing that a client can write into
the graph's state counts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from ..context import needs_approval
from ..errors import StorageDamagedError
from ..plan.grants import changed_tools, covers, plan_grants
from ..plan.identity import input_values, plan_hash, step_fingerprints
from ..plan.references import expression_roots, step_references
from ..run import Run
from ..state import Approval, By, Grants, Plan, State, Step, as_by, digest, granted_tools
from ..tools.toolbox import Toolbox
from .deciders import Use, deciders_of, uses_of

__all__ = [
    "approval_state",
    "grants_of",
    "inputs_digest",
    "known_values",
    "maker_of",
    "record_approval",
    "record_edit",
    "standing_approval",
    "uses_of_plan",
]

Record = dict[str, Any]


def approval_state(record: Record, feedback: list[str]) -> Approval:
    """Return the copy of a record for the state; the record in the store is what counts."""
    return {
        "decision": record["decision"],
        "plan_hash": record["plan_hash"],
        "grants": record["grants"],
        "at": record["at"],
        "feedback": feedback,
    } | ({"by": record["by"]} if "by" in record else {})  # type: ignore[return-value]


async def known_values(run: Run, state: State, named: Collection[str]) -> dict[str, Any]:
    """Return the known values of references to these names: inputs, and outputs of finished steps."""
    found: dict[str, Any] = {}
    for step_id, result in (state.get("results") or {}).items():
        if step_id in named and result["status"] == "done":
            # A damaged output is unknown; the step that needs it fails with the reason.
            with suppress(StorageDamagedError):
                found[step_id] = await run.artifacts.value(result["output"], step_id)
    return found | {"inputs": input_values(state.get("plan") or {}, state.get("inputs"))}


def names_in(steps: Iterable[Step]) -> set[str]:
    """Collect the names that the references of steps use."""
    uses = [expression for step in steps for _, expression in step_references(step)]
    return {root for expression in uses for root in expression_roots(expression)}


async def grants_of(run: Run, state: State, toolbox: Toolbox) -> Grants:
    """Return what approving the state's plan would allow now."""
    plan = state["plan"]
    assert plan is not None, "only a plan can be approved"
    return plan_grants(plan, toolbox, await _values_of(run, state, plan, toolbox))


async def uses_of_plan(run: Run, state: State, plan: Plan, toolbox: Toolbox) -> list[Use]:
    """Return what a plan may do; nothing if no rule says who decides, because nobody asks then."""
    if not run.settings.approvers:
        return []
    return uses_of(plan["steps"], toolbox, await _values_of(run, state, plan, toolbox))


async def _values_of(run: Run, state: State, plan: Plan, toolbox: Toolbox) -> dict[str, Any]:
    """Return the values for the resources of a plan's steps."""
    touching = [step for step in plan["steps"] if any(map(toolbox.template, granted_tools(step)))]
    return await known_values(run, state, names_in(touching))


async def standing_approval(run: Run, state: State, toolbox: Toolbox) -> Record | None:
    """Return what lets the state's plan run now without a question: a record, or a policy.

    A record of "not required" is valid only while the policy still says so, because a later context may
    tighten it. A person's approval is valid for the tools of that time, and while the rules let that person
    approve the plan.
    """
    plan = state["plan"]
    assert plan is not None, "only a plan can be approved"
    tools = sorted({name for step in plan["steps"] for name in granted_tools(step)})
    required = needs_approval(run.settings.approval, list(toolbox.effects(tools)))
    record = await run.ledger.approval(plan["id"], plan_hash(plan, state.get("inputs")))
    if record is not None and _is_over(record, run):
        record = None
    if record is None:
        if required:
            return await _approved_by_grant(run, state, toolbox)
        return await record_approval(run, state, toolbox, "not_required")
    is_other = record["decision"] == "not_required" or changed_tools(
        toolbox.fingerprints(tools), record["grants"]
    )
    if required and not is_other:
        uses = await uses_of_plan(run, state, plan, toolbox)
        is_other = deciders_of(run).refusal("approve_plan", uses, maker_of(record)) is not None
    return None if required and is_other else record


async def _approved_by_grant(run: Run, state: State, toolbox: Toolbox) -> Record | None:
    """Record the approval of a plan that a standing grant covers; None: a person is asked.

    The grant is for the first plan of the thread and its revisions, not for later goals there.
    """
    plan, grant = state["plan"], await run.ledger.grant()
    assert plan is not None, "only a plan can be approved"
    if grant is None or _is_over(grant, run):
        return None
    if "plan_id" not in grant:
        # The first plan may have needed no approval, and so did not use the grant.
        earlier = await run.ledger.approved_plans() - {plan["id"]}
        grant = {**grant, "plan_id": min(earlier, default=plan["id"])}
        await run.ledger.record_grant(grant)
    if grant["plan_id"] != plan["id"]:
        return None
    if not covers(grant, await grants_of(run, state, toolbox)):
        return None
    uses = await uses_of_plan(run, state, plan, toolbox)
    if deciders_of(run).refusal("approve_plan", uses, maker_of(grant)) is not None:
        return None
    said = {name: grant[name] for name in ("until", "schedule") if name in grant}
    return await record_approval(run, state, toolbox, "approved", grant.get("by"), **said)


def _is_over(record: Record, run: Run) -> bool:
    until = record.get("until")
    return until is not None and datetime.fromisoformat(until) <= datetime.fromisoformat(run.timestamp())


def maker_of(record: Record) -> By:
    """Return who approved or edited; earlier versions did not record which person."""
    by = as_by(record.get("by") or "person")
    return by if by["kind"] == "person" else {"kind": "policy"}


async def record_approval(
    run: Run, state: State, toolbox: Toolbox, decision: str, by: By | None = None, **said: Any
) -> Record:
    """Record that the state's plan may run: its hash, grants, steps, time, decision and decider.

    ``memory_lost`` marks a plan that was running when a store in memory lost it. It is then unknown whether
    its writes were started.
    """
    plan = state["plan"]
    assert plan is not None, "only a plan can be approved"
    record: Record = {
        "decision": decision,
        "plan_hash": plan_hash(plan, state.get("inputs")),
        "revision": plan["revision"],
        "grants": await grants_of(run, state, toolbox),
        "steps": step_fingerprints(plan),
        "inputs": inputs_digest(state),
        "at": run.timestamp(),
        "by": by or {"kind": "policy"},
        **said,
    }
    if run.volatile and run.underway and not await run.ledger.approvals(plan["id"]):
        record["memory_lost"] = True
    await run.ledger.record_approval(plan["id"], record["plan_hash"], record)
    return record


async def record_edit(run: Run, state: State, edited: Mapping[str, Any], by: By) -> None:
    """Record a person's edit: an edited plan in the state alone would approve nothing.

    Like an approval, it is for the inputs of that time.
    """
    plan = state["plan"]
    assert plan is not None, "only a plan can be edited"
    record = {
        "decision": "edit",
        "edit": dict(edited),
        "inputs": inputs_digest(state),
        "at": run.timestamp(),
        "by": by,
    }
    await run.ledger.record_approval(plan["id"], f"edit-{run.new_id()}", record)


def inputs_digest(state: State | Mapping[str, Any]) -> str:
    """Return the fingerprint of the given input values."""
    return digest(state.get("inputs") or {})
