"""Whether an agent has what a thread needs, so that no step fails only because of who runs it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from langgraph.types import StateSnapshot

from ..context import Context
from ..errors import ConfigurationError, MissingModelError, known
from ..graph.door.thread_state import checked_plan, stands_before_a_goal
from ..plan.dag import is_rolling, pending_steps
from ..state import granted_tools, needs_a_model
from ..tools.toolbox import Toolbox

if TYPE_CHECKING:
    from ..graph.agent import PlanExecuteAgent

__all__ = ["check_can_begin", "check_can_go_on"]


def check_can_go_on(
    agent: PlanExecuteAgent,
    toolbox: Toolbox,
    snapshot: StateSnapshot,
    *,
    again: bool = False,
    not_to_run: Collection[str] = (),
) -> None:
    """Refuse to go on with a plan whose tools or model were not given this time: its steps would fail.

    Args:
        agent: Knows the models.
        toolbox: The tools that were given.
        snapshot: The thread.
        again: Whether steps that have a result may run too.
        not_to_run: Steps that will not run.

    Raises:
        ConfigurationError: If a tool of a step that has not run is missing.
        MissingModelError: If such a step needs a model and none is configured.
    """
    if stands_before_a_goal(snapshot):
        _check_tools_of(snapshot.values.get("plan"), toolbox)
        return
    plan = checked_plan(snapshot)
    pending = pending_steps(plan, {} if again else snapshot.values.get("results") or {}) if plan else []
    pending = [step for step in pending if step["id"] not in not_to_run]
    missing = {name for step in pending for name in granted_tools(step) if name not in toolbox}
    if missing:
        raise ConfigurationError(
            f"the plan of this thread uses tools that were not given: {known(missing)}; "
            "give them with --tools MODULE:ATTRIBUTE, --toolset NAME or --mcp FILE. "
            f"Given: {known(toolbox.names)}"
        )
    models = Context(**(snapshot.values.get("settings") or {})).models
    if not agent.models.has("executor", models) and any(map(needs_a_model, pending)):
        raise MissingModelError(
            "the plan of this thread has steps that need a model, and none is configured."
        )
    if is_rolling(plan) and not agent.models.has("planner", models):
        raise MissingModelError("the plan of this thread is to go on, which needs a model to plan it.")


def check_can_begin(agent: PlanExecuteAgent, snapshot: StateSnapshot, settings: Context) -> None:
    """Refuse to begin a goal without what its plan names, or without a model where there is no plan.

    A plan that somebody handed in has not been checked yet: what is wrong with its form is said by the run.

    Raises:
        ConfigurationError: If a tool or an agent of the plan is missing.
        MissingModelError: If the goal must be planned and there is no model.
    """
    given = snapshot.values.get("plan")
    if given is None:
        if not agent.models.has("planner", settings.models):
            raise MissingModelError("the goal must be planned, and no model is configured.")
        return
    _check_tools_of(given, agent.toolbox)


def _check_tools_of(given: Any, toolbox: Toolbox) -> None:
    missing = {name for name in _named_tools(given) if name not in toolbox}
    if missing:
        raise ConfigurationError(
            f"the plan uses tools that were not given: {known(missing)}. Given: {known(toolbox.names)}"
        )


def _named_tools(plan: Any) -> Iterator[str]:
    steps = plan.get("steps") if isinstance(plan, Mapping) else None
    for step in steps if isinstance(steps, list) else ():
        call = step.get("call") if isinstance(step, Mapping) else None
        tool = call.get("tool") if isinstance(call, Mapping) else None
        if isinstance(tool, str):
            yield tool
