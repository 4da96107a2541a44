"""The release demo as a graph for ``langgraph dev``: it needs no key, and answers any goal."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import ScriptedModel, create_plan_execute_agent
from .release_checklist.demo import release_script, release_steps
from .release_checklist.tools import release_tools
from .scripts import call_step, endless, plan_reply

if TYPE_CHECKING:
    from ..graph.agent import PlanExecuteAgent

__all__ = ["make_demo_graph"]

# Looked up on import, because it blocks, and the server calls the factory on its event loop.
_TEMPORARY = Path(tempfile.gettempdir())


def make_demo_graph(config: Mapping[str, Any] | None = None) -> PlanExecuteAgent:
    """Build the graph; the server calls this for every request and keeps the checkpoints itself.

    Each thread has a project of its own in the system's temporary folder, so that a run goes on
    where it stopped, and the server, which reloads when a file below its folder changes, is left alone.
    """
    thread_id = str(((config or {}).get("configurable") or {}).get("thread_id") or "none")
    return _agent_for(_workspace(thread_id) / "wordcount")


# The server asks for the graph in every request, and warns when that takes 0.1 s (langgraph-api 0.16.7).
@lru_cache(maxsize=64)
def _agent_for(project: Path) -> PlanExecuteAgent:
    # Replies that depend on the conversation alone: a run may be resumed with a new model.
    model = ScriptedModel(endless(_script()), strict=False)
    return create_plan_execute_agent(model, release_tools(project), name="demo")


def _workspace(thread_id: str) -> Path:
    # Hashed, because a thread's id may hold anything.
    name = hashlib.sha256(thread_id.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return _TEMPORARY / f"plan-execute-demo-{name}"


def _script() -> dict[str, list[Any]]:
    """Take the script of the good ending, with a first step that makes the project when the plan runs."""
    start = call_step("project", "Make the throwaway project", "start_project")
    plan = plan_reply("A demonstration: whatever was asked for.", start, *release_steps(after=["project"]))
    return {**release_script("good"), "planner": [plan]}
