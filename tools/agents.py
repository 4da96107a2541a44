"""Read named agents: the embedder's graphs and runnables, to which a step can hand its work."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from langchain_core.runnables import Runnable, RunnableLambda

from ..errors import ConfigurationError
from ..state import Effect

__all__ = ["NamedAgent", "named_agents"]

_NAME = re.compile(r"[A-Za-z][\w-]{0,63}")


@dataclass(frozen=True)
class NamedAgent:
    """An executor that a plan calls by name.

    Attributes:
        name: Its name in plans.
        runnable: The runnable; it gets ``{"messages": […]}``.
        effect: Its effect, ``write`` if undeclared.
        description: The planner's description of it.
    """

    name: str
    runnable: Runnable[Any, Any]
    effect: Effect
    description: str

    @property
    def is_remote(self) -> bool:
        """Whether it runs on another LangGraph server."""
        # By its class's name, because importing RemoteGraph for a check would cost every start 0.1 s.
        return any(cls.__name__ == "RemoteGraph" for cls in type(self.runnable).__mro__)


def named_agents(given: Mapping[str, Any] | None) -> dict[str, NamedAgent]:
    """Read the embedder's agents; ``agent.with_config(metadata={"effect": …, "description": …})`` declares.

    Raises:
        ConfigurationError: If a name is not valid in a plan, or the agent cannot be run.
    """
    return {name: _named(name, agent) for name, agent in (given or {}).items()}


def _named(name: str, agent: Any) -> NamedAgent:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(f"agent name {name!r} must match {_NAME.pattern}")
    if not isinstance(agent, Runnable):
        if not callable(agent):
            raise ConfigurationError(
                f"agent {name!r} must be a graph, a runnable or a function, not {type(agent).__name__}"
            )
        agent = RunnableLambda(agent)
    metadata: Mapping[str, Any] = (getattr(agent, "config", None) or {}).get("metadata") or {}
    effect = metadata.get("effect", "write")
    if effect not in get_args(Effect):
        raise ConfigurationError(
            f"agent {name!r} declares the effect {effect!r}; known effects: {', '.join(get_args(Effect))}"
        )
    return NamedAgent(name, agent, effect, str(metadata.get("description") or ""))
