"""Read a thread's newest state, and decide whether this version may continue it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from langgraph.graph import START
from langgraph.types import Interrupt, StateSnapshot

from ...errors import InvalidInputError, SchemaVersionError, StorageError
from ...langgraph_private import NAMESPACE, SAVER
from ...plan.identity import plan_hash
from ...plan.rules.form import form_issues
from ...state import FINAL_STATUSES, SCHEMA_VERSION, Plan
from ...storage.ids import checkpoint_time, sort_after
from ..compiled import CompiledAgent

__all__ = [
    "check_clock",
    "check_version",
    "checked_plan",
    "look_at",
    "plan_of",
    "reopen",
    "reopen_to_settle",
    "stands_before_a_goal",
    "was_edited_after_its_end",
]


async def look_at(
    agent: CompiledAgent, configurable: dict[str, Any], saver: Any, nested: bool
) -> tuple[StateSnapshot | None, bool]:
    """Return the state at the named checkpoint or the newest one, with its open questions.

    Returns:
        The state, or None if nothing is kept; and whether it is an earlier one, from which a run forks.

    Raises:
        SchemaVersionError: If another version wrote it.
        StorageError: If it is dated in the future.
    """
    if not saver or configurable.get("thread_id") is None:
        return None, False
    address = {key: configurable[key] for key in ("thread_id", "checkpoint_id") if configurable.get(key)}
    if nested:
        address |= {NAMESPACE: configurable.get(NAMESPACE, ""), SAVER: saver}
    snapshot = await agent.aget_state({"configurable": {SAVER: saver, **address}})
    check_version(snapshot)
    newest = snapshot
    if "checkpoint_id" in address:
        rest = {key: value for key, value in address.items() if key != "checkpoint_id"}
        newest = await agent.aget_state({"configurable": {SAVER: saver, **rest}})
    check_clock(newest)
    forks = _checkpoint_of(snapshot) != _checkpoint_of(newest)
    if not forks:
        # Chat clients name the newest checkpoint too; LangGraph 1.2.24 would replay it.
        configurable.pop("checkpoint_id", None)
        snapshot = newest
    return snapshot._replace(interrupts=_unanswered(snapshot)), forks


def _checkpoint_of(snapshot: StateSnapshot) -> str:
    return str(snapshot.config["configurable"].get("checkpoint_id") or "")


def _unanswered(snapshot: StateSnapshot) -> tuple[Interrupt, ...]:
    """Select the open questions; an older checkpoint also shows questions answered since then.

    A second answer to one of those would not count: LangGraph 1.2.22 continues with the first.
    """
    open_ = {question.id for task in snapshot.tasks if task.result is None for question in task.interrupts}
    return tuple(question for question in snapshot.interrupts if question.id in open_)


def stands_before_a_goal(snapshot: StateSnapshot) -> bool:
    """Tell whether a goal was accepted but not begun, so that a given plan has not been checked."""
    status = snapshot.values.get("status")
    has_none_under_way = status is None or status in FINAL_STATUSES
    return has_none_under_way and any(task.name in (START, "planner") for task in snapshot.tasks)


def plan_of(snapshot: StateSnapshot) -> Plan:
    """Return the thread's plan.

    Raises:
        InvalidInputError: If it has none, or a given one that has not been checked.
    """
    if stands_before_a_goal(snapshot):
        raise InvalidInputError(
            "the run of this thread has not begun, so its plan is not checked yet and cannot be "
            "changed. Continue the run first (None as input), or send another goal or plan with "
            '"abandon": True'
        )
    plan = checked_plan(snapshot)
    if plan is None:
        raise InvalidInputError("the thread has no plan to change or run again")
    return plan


def checked_plan(snapshot: StateSnapshot) -> Plan | None:
    """Return the thread's plan if it is valid, and not what somebody gave or wrote into the state."""
    plan = snapshot.values.get("plan")
    if stands_before_a_goal(snapshot) or not isinstance(plan, Mapping):
        return None
    is_normal = isinstance(plan.get("id"), str) and isinstance(plan.get("revision"), int)
    return plan if is_normal and not any(form_issues(plan)) else None  # type: ignore[return-value]


def was_edited_after_its_end(snapshot: StateSnapshot) -> bool:
    """Tell whether a client changed the plan of a finished run in the state (Studio, ``update_state``)."""
    plan, approval = snapshot.values.get("plan"), snapshot.values.get("approval") or {}
    if snapshot.tasks or not isinstance(plan, Mapping) or "plan_hash" not in approval:
        return False
    return bool(approval["plan_hash"] != plan_hash(plan, snapshot.values.get("inputs")))  # type: ignore[arg-type]


async def reopen(agent: CompiledAgent, address: dict[str, Any], snapshot: StateSnapshot) -> None:
    """Let a finished run continue with its edited plan, which is validated and needs approval if required."""
    update = {
        "draft": {"plan": snapshot.values["plan"], "source": "person", "attempt": 1},
        "approval": {**snapshot.values["approval"], "decision": "edited"},
        "evaluation": None,
        "decisions": None,
        "status": "running",
    }
    await agent.aupdate_state({"configurable": address}, update, as_node="approval")


async def reopen_to_settle(agent: CompiledAgent, address: dict[str, Any], snapshot: StateSnapshot) -> None:
    """Let an ended run ask about its writes in doubt, and write its answer again."""
    ended = snapshot.values.get("evaluation")
    update = {"evaluation": {**ended, "cancelled": False} if ended else None}
    await agent.aupdate_state({"configurable": address}, update, as_node="evaluator")


def check_version(snapshot: StateSnapshot) -> None:
    """Refuse a thread that another version wrote.

    Raises:
        SchemaVersionError: If its state has another format.
    """
    version = snapshot.values.get("schema_version")
    if version is not None and version != SCHEMA_VERSION:
        raise SchemaVersionError(
            f"this thread was written with state version {version}; this plan_execute reads version "
            f"{SCHEMA_VERSION}. Nothing was changed; use the version that wrote it."
        )


_CLOCK_TOLERANCE = timedelta(minutes=5)
"""How far in the future a checkpoint may be dated, because clocks are set and machines differ."""


def check_clock(newest: StateSnapshot) -> None:
    """Refuse a thread whose newest checkpoint is dated in the future; make sure that new ones sort after it.

    Checkpoints are sorted by the times in their ids. If the clock went back, new checkpoints are never the
    newest, and the thread would not show them.

    Raises:
        StorageError: If it is dated more than five minutes ahead.
    """
    checkpoint_id = _checkpoint_of(newest)
    made, now = checkpoint_time(checkpoint_id), datetime.now(UTC)
    if made is not None and made > now + _CLOCK_TOLERANCE:
        raise StorageError(
            f"the newest checkpoint of thread {newest.config['configurable'].get('thread_id')!r} is "
            f"dated {made:%Y-%m-%d %H:%M:%S} UTC, but this machine's clock says "
            f"{now:%Y-%m-%d %H:%M:%S} UTC: it was set back, or was ahead then. Anything written now "
            "would be sorted before that checkpoint and be lost. Nothing was changed. Set the "
            "clock and continue, or wait until that time."
        )
    sort_after(checkpoint_id)
