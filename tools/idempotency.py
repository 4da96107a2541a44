"""Give a tool the idempotency key of its call: the same if the call is made again after a crash."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, InjectedToolArg
from pydantic import BaseModel

__all__ = ["InjectedIdempotencyKey", "key_parameters", "keyed_tool"]


class InjectedIdempotencyKey(InjectedToolArg):
    """Marks the parameter of a tool that takes the call's key; models and plans never see or set it.

    The key is 64 hexadecimal characters. A call that is made again after a crash, in whatever process, has
    the same key, and so have its retries after a transient error; another attempt has another key.

    Example: >>> def pay(amount: int, key: Annotated[str, InjectedIdempotencyKey()]) -> str: ... "Pay, once
    per key."
    """


def keyed_tool(tool: BaseTool, key: Mapping[str, str]) -> BaseTool:
    """Return the tool with the key for one call in it, by the parameters that take it.

    ToolNode removes every injected argument from a call, so that no model can forge one (langgraph-prebuilt
    1.1.2). So the key can only come with the tool.
    """
    return _KeyedTool(name=tool.name, description=tool.description, wrapped=tool, key=dict(key))


class _KeyedTool(BaseTool):
    """A tool for one call, which adds the call's key."""

    wrapped: BaseTool
    key: dict[str, str]

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Call the tool with its key; ``input`` is a tool call."""
        keyed = {**input, "args": {**input["args"], **self.key}}
        return await self.wrapped.ainvoke(keyed, config, **kwargs)

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("a tool with a key is called through ainvoke")


def key_parameters(tool: BaseTool) -> list[str]:
    """List the parameters that take the key, whether its function or its argument schema marks them."""
    found = [name for function in _functions(tool) for name in _marked(function)]
    schema = tool.args_schema
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        found += [name for name, field in schema.model_fields.items() if any(map(_is_mark, field.metadata))]
    return list(dict.fromkeys(found))


def _functions(tool: BaseTool) -> list[Callable[..., Any]]:
    own = [function for name in ("func", "coroutine") if (function := getattr(tool, name, None))]
    return own or [tool._run, tool._arun]


def _marked(function: Callable[..., Any]) -> list[str]:
    """List the parameters of a function that take the key."""
    return [name for name, hint in _hints(function).items() if _is_marked(hint)]


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(inspect.unwrap(function), include_extras=True)
    except (AttributeError, NameError, TypeError):
        # A name that only a type checker knows, or a callable object.
        return {name: part.annotation for name, part in inspect.signature(function).parameters.items()}


def _is_marked(hint: Any) -> bool:
    return get_origin(hint) is Annotated and any(map(_is_mark, get_args(hint)[1:]))


def _is_mark(metadata: Any) -> bool:
    return isinstance(metadata, InjectedIdempotencyKey) or metadata is InjectedIdempotencyKey
