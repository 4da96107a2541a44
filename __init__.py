"""plan_execute: a plan-and-execute agent for LangGraph.

Public names are imported on first use, so that ``import plan_execute`` stays
cheap: neither LangGraph nor pydantic is loaded until something needs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .context import Context
    from .errors import PlanExecuteError
    from .graph import create_plan_execute_agent
    from .models.scripted import ScriptedModel
    from .storage.local import local_persistence
    from .storage.plan_cache import PlanCache
    from .storage.postgres import postgres_persistence
    from .threads.prune import prune_threads
    from .threads.submission import asubmit, submit
    from .threads.worker import awork, work
    from .tools.idempotency import InjectedIdempotencyKey
    from .tools.mcp import amcp_tools, mcp_tools

__all__ = [
    "Context",
    "InjectedIdempotencyKey",
    "PlanCache",
    "PlanExecuteError",
    "ScriptedModel",
    "amcp_tools",
    "asubmit",
    "awork",
    "create_plan_execute_agent",
    "local_persistence",
    "mcp_tools",
    "postgres_persistence",
    "prune_threads",
    "submit",
    "work",
]

_HOMES = {
    "Context": ".context",
    "InjectedIdempotencyKey": ".tools.idempotency",
    "PlanCache": ".storage.plan_cache",
    "PlanExecuteError": ".errors",
    "ScriptedModel": ".models.scripted",
    "amcp_tools": ".tools.mcp",
    "asubmit": ".threads.submission",
    "awork": ".threads.worker",
    "create_plan_execute_agent": ".graph",
    "local_persistence": ".storage.local",
    "mcp_tools": ".tools.mcp",
    "postgres_persistence": ".storage.postgres",
    "prune_threads": ".threads.prune",
    "submit": ".threads.submission",
    "work": ".threads.worker",
}


def __getattr__(name: str) -> Any:
    try:
        home = _HOMES[name]
    except KeyError:
        msg = f"module {__name__!r} has no attribute {name!r}; it has: {', '.join(sorted(_HOMES))}"
        raise AttributeError(msg) from None
    value = getattr(import_module(home, __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
