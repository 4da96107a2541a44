"""The embedder's middleware around agent steps: what is refused of it, and what stands around it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool
from langgraph.config import get_config
from langgraph.prebuilt.tool_node import ToolCallRequest
from langgraph.types import Command

from ..errors import ConfigurationError
from ..run import step_scope_of
from ..tools.toolbox import Toolbox
from .evidence import ANSWER, MARKS

__all__ = ["Outermost", "check_middleware", "tool_name"]

Middleware = AgentMiddleware[Any, Any]

_REFUSED = {
    "LLMToolEmulator": "it makes up what tools return, so a step would count as done by calls that nobody "
    "made. In tests, give tools of your own and a ScriptedModel",
    "ProviderToolSearchMiddleware": "its provider would search among tools that the step was not granted. A "
    "model is shown the few tools of its step only, so there is nothing to search: leave it out",
    "TodoListMiddleware": "no plan can grant its tool. The plan is the list of what is to be done: leave it "
    "out, or let a step be a plan of its own (`plan`)",
    "FilesystemFileSearchMiddleware": "no plan can grant its tools. Use the built-in tool set `files`: "
    "tools=[*toolset('files', folder)]",
    "ShellToolMiddleware": "no plan can grant its tool, which runs any command. Use the built-in tool set of "
    "commands that you name: tools=[*toolset('command:git', folder)]",
}
"""LangChain's middleware that would go around the guards: why, and what to use instead."""

_HOOKS = ("wrap_model_call", "wrap_tool_call")


def check_middleware(middleware: Sequence[Any], toolbox: Toolbox) -> None:
    """Refuse what would go around the guards of agent steps, or could not run in them.

    Raises:
        ConfigurationError: If one makes up or adds tools, has no async form, is there twice, or is none.
    """
    seen: set[str] = set()
    for one in middleware:
        if not isinstance(one, AgentMiddleware):
            raise ConfigurationError(
                f"middleware= takes objects of LangChain's AgentMiddleware, not {_kind(one)}"
            )
        if one.name in seen:
            raise ConfigurationError(f"there are two middlewares {one.name!r}; give each a `name` of its own")
        seen.add(one.name)
        for kind in type(one).__mro__:
            if reason := _REFUSED.get(kind.__name__):
                raise ConfigurationError(f"{_kind(one)} cannot be used in agent steps: {reason}")
        _check_tools(one, toolbox)
        _check_is_async(one)


def _check_tools(one: Middleware, toolbox: Toolbox) -> None:
    added = map(tool_name, getattr(one, "tools", ()))
    if unknown := [name for name in added if name not in toolbox]:
        raise ConfigurationError(
            f"{_kind(one)} cannot be used in agent steps: it adds the tool {unknown[0]!r}, which no plan can "
            "grant. Give the tool in tools= as well, so that plans can name it and its effect is known"
        )


def _check_is_async(one: Middleware) -> None:
    for hook in _HOOKS:
        has_sync = getattr(type(one), hook) is not getattr(AgentMiddleware, hook)
        has_async = getattr(type(one), f"a{hook}") is not getattr(AgentMiddleware, f"a{hook}")
        if has_sync and not has_async:
            raise ConfigurationError(
                f"{_kind(one)} cannot be used in agent steps: it has {hook} and no a{hook}, and agent steps "
                f"run in an event loop. Write a{hook}, or put an `async def` under the decorator"
            )


def _kind(one: Any) -> str:
    return one.name if isinstance(one, AgentMiddleware) else type(one).__name__


def tool_name(tool: BaseTool | dict[str, Any]) -> str:
    """Name a tool, in whichever form a model is offered it."""
    if isinstance(tool, BaseTool):
        return tool.name
    return str(tool.get("name") or tool.get("function", {}).get("name", ""))


class Outermost(AgentMiddleware[Any, Any]):
    """Offers those who choose among tools the step's only, and marks the answers of calls that were made."""

    def __init__(self, toolbox: Toolbox) -> None:
        super().__init__()
        self._toolbox = toolbox

    def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> Coroutine[Any, Any, ModelResponse[Any]]:
        """Offer the step's tools only."""
        return self._narrowed(request, handler)

    async def _narrowed(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        granted = step_scope_of(get_config()).tools
        tools: list[Any] = [tool for tool in self._toolbox.tools if tool.name in granted]
        return await handler(request.override(tools=tools))

    def awrap_tool_call(
        self,
        request: ToolCallRequest,
        handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]],
    ) -> Coroutine[Any, Any, ToolMessage | Command[Any]]:
        """Mark the answer as the guard marked its own, whatever a middleware made of that."""
        return self._marked(request, handler)

    async def _marked(
        self,
        request: ToolCallRequest,
        handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]],
    ) -> ToolMessage | Command[Any]:
        mark: dict[str, Any] = {}
        token = ANSWER.set((step_scope_of(get_config()), mark))
        try:
            answer = await handler(request)
        finally:
            ANSWER.reset(token)
        if isinstance(answer, ToolMessage):
            return _with_mark(answer, mark)
        if isinstance(answer.update, dict) and isinstance(said := answer.update.get("messages"), list):
            marked = [_with_mark(one, mark) if isinstance(one, ToolMessage) else one for one in said]
            return replace(answer, update={**answer.update, "messages": marked})
        return answer


def _with_mark(message: ToolMessage, mark: dict[str, Any]) -> ToolMessage:
    """Copy an answer with this mark and no other: a middleware may give what it kept of another call."""
    kept = {key: said for key, said in message.response_metadata.items() if key not in MARKS}
    return message.model_copy(update={"response_metadata": {**kept, **mark}})
