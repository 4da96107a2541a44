"""Reports of runs: read a thread into a record, and write it as HTML, Markdown or JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from ..errors import ConfigurationError, ThreadNotFoundError, known
from ..spending.periods import spent_in_words
from ..storage.ledger import Ledger
from .record import FORMAT, RunRecord, missing_steps, run_record
from .words import SIGNED

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.types import StateSnapshot

    from ..graph.agent import PlanExecuteAgent

__all__ = ["FORMATS", "ReportFormat", "aread_run", "is_report", "make_report", "read_run", "write_report"]

ReportFormat = Literal["html", "md", "json"]

FORMATS: tuple[ReportFormat, ...] = ("html", "md", "json")


def make_report(
    state: StateSnapshot | Mapping[str, Any], *, format: ReportFormat = "html", thread: str = ""
) -> str:
    """Make the report of a run from its state.

    Args:
        state: What ``agent.get_state(config)`` gives, or what ``invoke`` returned.
        format: ``html`` (one file that needs nothing else), ``md`` or ``json``.
        thread: The thread's id, where the state does not say it.

    Raises:
        ConfigurationError: If there is no such format.
    """
    return write_report(run_record(state, thread=thread), format)


def write_report(record: RunRecord, format: ReportFormat = "html") -> str:
    """Write a record as ``html``, ``md`` or ``json``.

    Raises:
        ConfigurationError: If there is no such format.
    """
    if format == "html":
        from .html import write_html

        return write_html(record)
    if format == "md":
        from .markdown import write_markdown

        return write_markdown(record)
    if format == "json":
        return json.dumps(record, ensure_ascii=False, indent=2, default=str) + "\n"
    raise ConfigurationError(f"there is no report format {format!r}; known formats: {known(FORMATS)}")


def is_report(text: str) -> bool:
    """Tell whether a text was written by `write_report`."""
    return SIGNED in text[-1000:] or f'"format": "{FORMAT}"' in text[:200]


async def aread_run(
    agent: PlanExecuteAgent, config: RunnableConfig, status_of: Callable[[StateSnapshot], str] | None = None
) -> RunRecord:
    """Read a thread, with the approvals and attempts that the agent's store has of it.

    Args:
        agent: Has the thread.
        config: Names it.
        status_of: Tells its status, where the caller knows whether somebody runs it.

    Raises:
        ThreadNotFoundError: If there is no such thread.
    """
    snapshot = await agent.aget_state(config)
    thread = str(config["configurable"].get("thread_id"))
    if snapshot.created_at is None:
        raise ThreadNotFoundError(f"there is no thread {thread!r}")
    status = status_of(snapshot) if status_of is not None else None
    plan_id = (snapshot.values.get("plan") or {}).get("id")
    if not isinstance(plan_id, str):
        refused = await _last_draft(agent, config) if snapshot.values.get("plan_issues") else None
        return run_record(snapshot, thread=thread, refused=refused, status=status)
    store = agent.store if agent.store is not None else agent.memory
    ledger = Ledger(store, thread)
    attempts: dict[str, list[Any]] = {}
    for (step_id, _), made in (await ledger.attempts_of_plan(plan_id)).items():
        attempts.setdefault(step_id, []).extend(made)
    return run_record(
        snapshot,
        thread=thread,
        approvals=await ledger.approvals(plan_id),
        attempts=_in_order(attempts),
        waits=await ledger.waits(),
        spent=await spent_in_words(store, snapshot.values.get("settings")),
        status=status,
        earlier_steps=await _earlier_steps(agent, config, missing_steps(snapshot.values), plan_id),
    )


async def _last_draft(agent: PlanExecuteAgent, config: RunnableConfig) -> Mapping[str, Any] | None:
    """Find the plan that was refused last, in the checkpoints that are still there."""
    async for snapshot in agent.aget_state_history(config):
        if draft := snapshot.values.get("draft"):
            plan: Mapping[str, Any] = draft["plan"]
            return plan
    return None


async def _earlier_steps(
    agent: PlanExecuteAgent, config: RunnableConfig, missing: set[str], plan_id: str
) -> dict[str, Mapping[str, Any]]:
    """Find steps that revisions have dropped, in the checkpoints that are still there."""
    found: dict[str, Mapping[str, Any]] = {}
    if not missing:
        return found
    async for snapshot in agent.aget_state_history(config):
        plan = snapshot.values.get("plan") or {}
        for step in plan.get("steps") or () if plan.get("id") == plan_id else ():
            if step["id"] in missing:
                found.setdefault(step["id"], step)
        if found.keys() >= missing:
            break
    return found


def _in_order(attempts: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, list[Mapping[str, Any]]]:
    """Order the attempts of each step; an edited step has those of its earlier content too."""
    return {
        step_id: sorted(
            made, key=lambda attempt: (attempt.get("started_at") or "", attempt.get("number") or 0)
        )
        for step_id, made in attempts.items()
    }


def read_run(
    agent: PlanExecuteAgent, config: RunnableConfig, status_of: Callable[[StateSnapshot], str] | None = None
) -> RunRecord:
    """Read a thread from synchronous code; see :func:`aread_run`."""
    from ..tools.threads import run_to_end

    agent.check_sync()
    return run_to_end(aread_run(agent, config, status_of))
