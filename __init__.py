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
    from .events import Event
    from .graph import create_plan_execute_agent
    from .graph.agent import PlanExecuteAgent
    from .graph.control import cancel_run, edit_plan, retry_steps
    from .models.scripted import ScriptedModel
    from .safety.redaction import redact_also
    from .state import Evaluation, InputState, OutputState, Plan, Step, StepResult, Usage
    from .storage.persistence import Persistence, local_persistence
    from .storage.plan_cache import PlanCache
    from .storage.server import postgres_persistence
    from .threads.prune import prune_threads
    from .threads.submission import asubmit, submit
    from .threads.worker import awork, work
    from .tools.idempotency import InjectedIdempotencyKey
    from .tools.mcp import amcp_tools, mcp_tools
    from .tools.toolsets import toolset

    __version__: str

__all__ = [
    "Context",
    "Evaluation",
    "Event",
    "InjectedIdempotencyKey",
    "InputState",
    "OutputState",
    "Persistence",
    "Plan",
    "PlanCache",
    "PlanExecuteAgent",
    "PlanExecuteError",
    "ScriptedModel",
    "Step",
    "StepResult",
    "Usage",
    "__version__",
    "amcp_tools",
    "asubmit",
    "awork",
    "cancel_run",
    "create_plan_execute_agent",
    "edit_plan",
    "local_persistence",
    "mcp_tools",
    "postgres_persistence",
    "prune_threads",
    "redact_also",
    "retry_steps",
    "submit",
    "toolset",
    "work",
]

_HOMES = {
    "Context": ".context",
    "Evaluation": ".state",
    "Event": ".events",
    "InjectedIdempotencyKey": ".tools.idempotency",
    "InputState": ".state",
    "OutputState": ".state",
    "Persistence": ".storage.persistence",
    "Plan": ".state",
    "PlanCache": ".storage.plan_cache",
    "PlanExecuteAgent": ".graph.agent",
    "PlanExecuteError": ".errors",
    "ScriptedModel": ".models.scripted",
    "Step": ".state",
    "StepResult": ".state",
    "Usage": ".state",
    "amcp_tools": ".tools.mcp",
    "asubmit": ".threads.submission",
    "awork": ".threads.worker",
    "cancel_run": ".graph.control",
    "create_plan_execute_agent": ".graph",
    "edit_plan": ".graph.control",
    "local_persistence": ".storage.persistence",
    "mcp_tools": ".tools.mcp",
    "postgres_persistence": ".storage.server",
    "prune_threads": ".threads.prune",
    "redact_also": ".safety.redaction",
    "retry_steps": ".graph.control",
    "submit": ".threads.submission",
    "toolset": ".tools.toolsets",
    "work": ".threads.worker",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("plan-execute")
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
