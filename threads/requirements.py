"""Compute what a thread needs from its runner, so that no step fails because the runner lacks it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from langgraph.types import StateSnapshot

from ..context import Context, to_context
from ..errors import ConfigurationError, MissingModelError, known
from ..graph.door.thread_state import checked_plan, stands_before_a_goal
from ..models.chat import ChatModels
from ..people.wording import NEED_A_MODEL
from ..plan.dag import is_rolling, pending_steps
from ..state import FINAL_STATUSES, Plan, granted_tools, needs_a_model
from ..tools.toolbox import Toolbox

if TYPE_CHECKING:
    from ..graph.agent import PlanExecuteAgent

__all__ = ["Needs", "check_can_go_on", "impossible_decisions", "needs_of"]


@dataclass(frozen=True)
class Needs:
    """Tools, and roles for which the thread's own settings name no model.

    Attributes:
        tools: Names of tools.
        roles: ``planner``, ``executor``.
    """

    tools: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()

    @property
    def queue(self) -> str:
        """The name of the queue of threads with these needs."""
        if not self.tools and not self.roles:
            return "any"
        return sha256(json.dumps([self.tools, self.roles]).encode()).hexdigest()[:32]

    def missing(self, toolbox: Toolbox, models: ChatModels) -> Needs:
        """Return what these tools and models lack."""
        tools = tuple(name for name in self.tools if name not in toolbox)
        return Needs(tools, tuple(role for role in self.roles if not models.has(role)))  # type: ignore[arg-type]

    def __bool__(self) -> bool:
        return bool(self.tools or self.roles)

    def __str__(self) -> str:
        tools = [f"the tools {known(self.tools)}"] if self.tools else []
        return " and ".join(tools + [f"a model ({role})" for role in self.roles])


def needs_of(snapshot: StateSnapshot, context: Any) -> Needs:
    """Return what the next run of a thread needs: with these settings, if it begins a goal."""
    values = snapshot.values
    if values.get("status") is None or values["status"] in FINAL_STATUSES:
        if values.get("plan") is not None:
            return Needs(_sorted(_named_tools(values["plan"])))
        return Needs(roles=_unfilled(["planner"], (to_context(context) or Context()).models))
    if stands_before_a_goal(snapshot):
        return Needs(_sorted(_named_tools(values.get("plan"))))
    plan = checked_plan(snapshot)
    pending = pending_steps(plan, values.get("results") or {}) if plan else []
    return _needs_of_steps(plan, pending, _models(snapshot))


def check_can_go_on(
    agent: PlanExecuteAgent,
    toolbox: Toolbox,
    snapshot: StateSnapshot,
    *,
    again: bool = False,
    not_to_run: Collection[str] = (),
) -> None:
    """Refuse to continue a plan whose tools or model were not given this time: its steps would fail.

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
        needs = Needs(_sorted(_named_tools(snapshot.values.get("plan"))))
    else:
        plan = checked_plan(snapshot)
        pending = pending_steps(plan, {} if again else snapshot.values.get("results") or {}) if plan else []
        pending = [step for step in pending if step["id"] not in not_to_run]
        needs = _needs_of_steps(plan, pending, _models(snapshot))
    lacks = needs.missing(toolbox, agent.models)
    if lacks.tools:
        raise ConfigurationError(
            f"the plan of this thread uses tools that were not given: {known(lacks.tools)}; "
            "give them with --tools MODULE:ATTRIBUTE, --toolset NAME or --mcp FILE. "
            f"Given: {known(toolbox.names)}"
        )
    if "executor" in lacks.roles:
        raise MissingModelError(
            "the plan of this thread has steps that need a model, but none is configured."
        )
    if lacks.roles:
        raise MissingModelError(
            "the plan of this thread is not complete, so a model has to plan its next steps, but "
            "none is configured."
        )


def impossible_decisions(agent: PlanExecuteAgent, values: Mapping[str, Any]) -> frozenset[str]:
    """List the decisions that need a model, if neither the agent nor the thread's settings have one."""
    models = Context(**(values.get("settings") or {})).models
    return frozenset() if agent.models.has("replanner", models) else NEED_A_MODEL


def _needs_of_steps(plan: Plan | None, pending: Iterable[Any], models: Mapping[str, str]) -> Needs:
    steps = [*pending]
    roles = ["executor"] if any(map(needs_a_model, steps)) else []
    roles += ["planner"] if is_rolling(plan) else []
    return Needs(_sorted(name for step in steps for name in granted_tools(step)), _unfilled(roles, models))


def _models(snapshot: StateSnapshot) -> Mapping[str, str]:
    return Context(**(snapshot.values.get("settings") or {})).models


def _unfilled(roles: Iterable[str], models: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(role for role in roles if not (models.get(role) or models.get("default")))


def _sorted(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(names)))


def _named_tools(plan: Any) -> Iterator[str]:
    """List the tools of a plan that has not been checked; the run reports problems with its form."""
    steps = plan.get("steps") if isinstance(plan, Mapping) else None
    for step in steps if isinstance(steps, list) else ():
        call = step.get("call") if isinstance(step, Mapping) else None
        tool = call.get("tool") if isinstance(call, Mapping) else None
        if isinstance(tool, str):
            yield tool
