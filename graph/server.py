"""The graph that ``langgraph dev`` and LangGraph servers load, set up by environment variables."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from langchain_core.tools import BaseTool

from ..context import Environment
from ..errors import ConfigurationError, known
from ..storage.plan_cache import DEFAULT_NAMESPACE, PlanCache, read_duration
from ..tools.toolsets import names_of_toolsets, toolset_of_each_thread
from ..tools.workspaces import server_workspaces, workspace_of
from ..tracing.export import tracers_of
from .agent import PlanExecuteAgent
from .build import create_plan_execute_agent

__all__ = ["load_tools", "make_graph", "watched_by"]

Tool = BaseTool | Callable[..., Any]


async def make_graph() -> PlanExecuteAgent:
    """Return the agent that ``PLAN_EXECUTE_MODEL``, ``_BASE_URL`` and ``_TOOLS`` describe, built once.

    ``PLAN_EXECUTE_TOOLSETS`` names built-in tools (``files,http,command:git,python``), which work in a folder
    of their own for each thread, below ``PLAN_EXECUTE_WORKSPACES``; ``PLAN_EXECUTE_MCP`` names files of MCP
    servers. It has neither checkpointer nor store: the server adds its own. Without a model it still loads,
    and runs plans of bound steps. A run's context contains its settings. ``PLAN_EXECUTE_PRICES`` names a file
    with the models' prices, ``PLAN_EXECUTE_POLICY`` one that says who decides and what may be spent, whatever
    a context says. ``PLAN_EXECUTE_CACHE``, a length of time such as ``7d``, lets it keep plans that worked;
    ``PLAN_EXECUTE_TRACING=otel`` makes OpenTelemetry spans.

    Raises:
        ConfigurationError: If the tools or the model cannot be loaded.
    """
    # The server calls factories on its event loop, where reading a file raises (langgraph-api 0.16.7).
    return await asyncio.to_thread(_agent, Environment.read())


@cache
def _agent(environment: Environment) -> PlanExecuteAgent:
    tools = [
        *load_tools(environment.tools or ""),
        *_built_in_tools(environment),
        *_mcp_tools(environment),
    ]
    agent = create_plan_execute_agent(
        environment.model,
        tools,
        plan_cache=_plan_cache(environment),
        prices=environment.prices,
        base_url=environment.base_url,
        rate_limit=environment.requests_per_second,
        policy=environment.policy,
    )
    return watched_by(agent, environment)


def watched_by(agent: PlanExecuteAgent, environment: Environment) -> PlanExecuteAgent:
    """Give the agent the tracers that the environment names.

    Raises:
        ConfigurationError: If ``PLAN_EXECUTE_TRACING`` is not known, or its package is not installed.
    """
    tracers = tracers_of(environment)
    return agent.with_config(callbacks=tracers) if tracers else agent


def _plan_cache(environment: Environment) -> PlanCache | None:
    """Keep plans as long as the environment says, separately for each authenticated user."""
    if environment.plan_cache is None:
        return None
    base = environment.plan_cache_namespace or DEFAULT_NAMESPACE

    def namespace(configurable: Mapping[str, Any]) -> str:
        user = configurable.get("langgraph_auth_user_id")
        return f"{base}/{user}" if user else base

    return PlanCache(read_duration(environment.plan_cache), namespace)


def _built_in_tools(environment: Environment) -> list[Tool]:
    """Make the tool sets; each thread has a folder of its own."""
    workspaces = Path(environment.workspaces or server_workspaces()).absolute()
    named = names_of_toolsets(environment.toolsets or "")
    folder_of = functools.partial(workspace_of, workspaces)
    return [tool for name in named for tool in toolset_of_each_thread(name, folder_of)]


def _mcp_tools(environment: Environment) -> list[BaseTool]:
    files = [name.strip() for name in (environment.mcp or "").split(",") if name.strip()]
    if not files:
        return []
    from ..tools.mcp import mcp_tools

    return mcp_tools(*files)


def load_tools(references: str) -> list[Tool]:
    """Import tools named as ``module:attribute``, several separated by commas.

    Args:
        references: Each attribute is a tool, a function, a collection of them, or a function
            without parameters and docstring that returns a collection.

    Raises:
        ConfigurationError: If a module or an attribute is missing, or is not a tool; the message names it.
    """
    named = [reference.strip() for reference in references.split(",")]
    return [tool for reference in named if reference for tool in _tools_at(reference)]


def _tools_at(reference: str) -> list[Tool]:
    try:
        found = _attribute(reference)
        made = found() if _makes_tools(found) else found
        return [made] if isinstance(made, BaseTool) or callable(made) else list(made)
    except ConfigurationError:
        raise
    except Exception as error:  # The user's module may raise anything.
        raise ConfigurationError(
            f"the tools {reference!r} cannot be loaded: {type(error).__name__}: {error}"
        ) from error


def _attribute(reference: str) -> Any:
    module_name, _, attribute = reference.partition(":")
    if not (module_name and attribute):
        raise ConfigurationError(f"tools are named as module:attribute, not {reference!r}")
    module = import_module(module_name)
    if not hasattr(module, attribute):
        public = (name for name in vars(module) if not name.startswith("_"))
        raise ConfigurationError(f"module {module_name!r} has no {attribute!r}; it has: {known(public)}")
    return getattr(module, attribute)


def _makes_tools(found: Any) -> bool:
    """Tell a function that makes tools from a tool, which needs a docstring."""
    return inspect.isfunction(found) and not found.__doc__ and not inspect.signature(found).parameters
