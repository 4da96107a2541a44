"""Give a tool the idempotency key of its call: the same if the call is made again after a crash."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints
from weakref import WeakKeyDictionary

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, InjectedToolArg
from pydantic import BaseModel

__all__ = ["InjectedIdempotencyKey", "keyed_tool", "with_idempotency_key"]


class InjectedIdempotencyKey(InjectedToolArg):
    """Marks the parameter of a tool that takes the call's key; models and plans never see or set it.

    The key is 64 hexadecimal characters. A call that is made again after a crash, in whatever process, has
    the same key, and so have its retries after a transient error; another attempt has another key.

    Example: >>> def pay(amount: int, key: Annotated[str, InjectedIdempotencyKey()]) -> str: ... "Pay, once
    per key."
    """


def with_idempotency_key(tool: BaseTool, args: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the arguments with the key if the tool takes it, replacing any given value."""
    return {**args, **dict.fromkeys(_parameters(tool), key)}


def keyed_tool(tool: BaseTool, key: str) -> BaseTool:
    """Return the tool with the key for one call in it, if it takes one.

    ToolNode removes every injected argument from a call, so that no model can forge one (langgraph-prebuilt
    1.1.2). So the key can only come with the tool.
    """
    if not any(True for _ in _parameters(tool)):
        return tool
    return _KeyedTool(name=tool.name, description=tool.description, wrapped=tool, key=key)


class _KeyedTool(BaseTool):
    """A tool for one call, which adds the call's key."""

    wrapped: BaseTool
    key: str

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Call the tool with its key; ``input`` is a tool call."""
        keyed = {**input, "args": with_idempotency_key(self.wrapped, input["args"], self.key)}
        return await self.wrapped.ainvoke(keyed, config, **kwargs)

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("a tool with a key is called through ainvoke")


def _parameters(tool: BaseTool) -> Iterator[str]:
    """List the parameters that take the key, whether its function or its argument schema marks them."""
    for function in _functions(tool):
        yield from _marked(function)
    schema = tool.args_schema
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        fields = schema.model_fields.items()
        yield from (name for name, field in fields if any(map(_is_mark, field.metadata)))


def _functions(tool: BaseTool) -> list[Callable[..., Any]]:
    own = [function for name in ("func", "coroutine") if (function := getattr(tool, name, None))]
    return own or [tool._run, tool._arun]


_MARKED: WeakKeyDictionary[FunctionType, tuple[str, ...]] = WeakKeyDictionary()
"""Results for plain functions, because reading their annotations takes longer than many calls."""


def _marked(function: Callable[..., Any]) -> tuple[str, ...]:
    """List the parameters of a function that take the key."""
    if not isinstance(function, FunctionType):
        return tuple(name for name, hint in _hints(function).items() if _is_marked(hint))
    if function not in _MARKED:
        _MARKED[function] = tuple(name for name, hint in _hints(function).items() if _is_marked(hint))
    return _MARKED[function]


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
