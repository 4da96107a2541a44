"""Call one tool with exact arguments and return its exact output, without a model in between."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, get_type_hints

from langchain_core.messages import ToolCall, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, InjectedToolCallId, StructuredTool, Tool
from langgraph.errors import GraphBubbleUp, is_invalid_resume
from langgraph.prebuilt import ToolNode, ToolRuntime
from langgraph.runtime import Runtime
from pydantic import BaseModel, ValidationError

from ..errors import BadArgumentsError, BudgetExceededError, StepError, ToolFailedError
from ..langgraph_private import inject_tool_args
from ..safety.redaction import Redactor, lost_credential
from .idempotency import key_parameters
from .texts import BRIEF, preview, shortened, words_of
from .values import plain_output, spoken

__all__ = [
    "ABRIDGED",
    "ExactTool",
    "abridged",
    "call_tool",
    "describe_exception",
    "ended_with",
    "failed_call",
    "last_line",
    "own_call_id",
    "require_credentials",
    "without_secrets",
]

Json = Any
KEYS_ONLY = Redactor()
"""Knows no secret by value; it removes text that has the form of a key."""


class ExactTool:
    """A tool as exact calls use it. What they need to know of it is read once: that takes as long as a call.

    Attributes:
        tool: The tool.
        node: Knows what the runtime gives to its calls.
        takes_key: The parameters for a call's idempotency key.
        has_json_schema: Whether its arguments are described by JSON Schema and not by a pydantic model.
    """

    def __init__(self, tool: BaseTool) -> None:
        self.tool, self.node, self.takes_key = tool, ToolNode([tool]), key_parameters(tool)
        self._takes_call_id = _takes_call_id(tool)
        self.has_json_schema = isinstance(tool.tool_call_schema, dict)
        self._shared: BaseTool | None = None
        if type(tool) in (StructuredTool, Tool) and not self._takes_call_id:
            self._shared = _strict(tool)
            object.__setattr__(self._shared, "_arun", _read_once(self._shared._arun))

    async def output(self, call: ToolCall, config: RunnableConfig) -> Any:
        """Make a call that has all its arguments, and return what the tool returns."""
        # What a tool of another class notes in its fields must not reach calls of other threads.
        tool = self._shared or _strict(self.tool)
        if self._takes_call_id:
            return await _with_call_id(tool, call, config)
        return await tool.ainvoke(call["args"], config)


def _strict(tool: BaseTool) -> BaseTool:
    """Copy a tool. If it turned its own errors into text, a failed call would look like a success."""
    return tool.model_copy(update={"handle_tool_error": False, "handle_validation_error": False})


def _read_once(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Return a method with what LangChain (langchain-core 1.8.3) asks for at every call: that takes long."""

    @functools.wraps(method)
    async def run(*args: Any, **kwargs: Any) -> Any:
        return await method(*args, **kwargs)

    run.__annotations__ = get_type_hints(method)
    run.__signature__ = inspect.signature(method)  # type: ignore[attr-defined]
    return run


async def call_tool(
    exact: ExactTool,
    args: dict[str, Json],
    *,
    call_id: str,
    config: RunnableConfig,
    runtime: Runtime[Any],
    key: Callable[[], str] = lambda: "",
    redactor: Redactor = KEYS_ONLY,
) -> Json:
    """Call a tool and return its output as JSON, without secrets.

    Args:
        exact: The tool.
        args: The call's arguments.
        call_id: The call's id.
        config: What the call is made with.
        runtime: The runtime that the tool may ask for.
        key: Returns the call's idempotency key, for a tool that takes it.
        redactor: Removes secrets from the output and the tool's exception.

    Raises:
        BadArgumentsError: If the arguments do not fit the tool's own schema.
        ToolFailedError: If the tool raises, or reports its failure as a value.
    """
    tool = exact.tool
    require_credentials(tool.name, args)
    call = ToolCall(name=tool.name, args=args, id=call_id, type="tool_call")
    try:
        given = _inject(exact, call, config, runtime)
        if exact.takes_key:
            given |= dict.fromkeys(exact.takes_key, key())
        # In a task of its own, because a tool may cancel the one that it runs in.
        output = await asyncio.ensure_future(exact.output({**call, "args": given}, config))
    except ToolFailedError as failure:
        raise without_secrets(failure, redactor) from failure.__cause__
    except (GraphBubbleUp, StepError, BudgetExceededError):
        raise
    except ValidationError as error:
        if is_invalid_resume(error):
            raise
        if error.title not in (tool.name, getattr(tool.args_schema, "__name__", tool.name)):
            raise failed_call(tool.name, error, redactor) from error
        raise BadArgumentsError(f"{tool.name}: {redactor.text(_first_problems(error))}") from error
    except Exception as error:
        raise failed_call(tool.name, error, redactor) from error
    return _plain(tool, output, redactor)


def require_credentials(name: str, args: Mapping[str, Json]) -> None:
    """Refuse a call with the mark of a secret in place of the secret.

    Raises:
        BadArgumentsError: If an argument was a secret; the message names it.
    """
    if secret := lost_credential(args):
        raise BadArgumentsError(
            f"{name}: an argument was a secret ({secret}), and secrets are not passed to tools: let "
            "the tool read it from its own environment"
        )


def without_secrets(failure: ToolFailedError, redactor: Redactor) -> ToolFailedError:
    """Return the tool's own words about its failure, such as a command's output, without secrets."""
    return ToolFailedError(redactor.text(str(failure)), is_answer=failure.is_answer)


_LOST = {"TimeoutError", "ConnectionError", "TransportError", "Timeout", "ClientConnectionError"}
"""Exceptions after which the answer is lost: Python's own, and those of httpx, requests and aiohttp."""
_NOT_SENT = {"ConnectionRefusedError", "ConnectError", "ConnectTimeout", "PoolTimeout"}
"""Those of them that are raised before anything is sent."""


def failed_call(name: str, error: BaseException, redactor: Redactor = KEYS_ONLY) -> ToolFailedError:
    """Turn a tool's exception into its call's failure; if the answer was lost, it may have done its work."""
    classes = {one.__name__ for one in type(error).__mro__}
    is_answer = not classes & _LOST or bool(classes & _NOT_SENT)
    return ToolFailedError(describe_exception(name, error, redactor), is_answer=is_answer)


def describe_exception(name: str, error: BaseException, redactor: Redactor = KEYS_ONLY) -> str:
    """Describe a tool's exception in one line. Secrets are removed first, or the cut would leave halves."""
    text = redactor.text(words_of(error)) or "no message"
    return f"{name} raised {type(error).__name__}: {shortened(text, 800)}"


def _first_problems(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, item['loc'])) or 'arguments'}: {item['msg']}" for item in error.errors()[:5]
    )


def _inject(
    exact: ExactTool, call: ToolCall, config: RunnableConfig, runtime: Runtime[Any]
) -> dict[str, Json]:
    """Add the arguments that the runtime provides (ToolRuntime, store), never the plan."""
    tool_runtime: ToolRuntime[Any, Any] = ToolRuntime(
        state={"messages": []},
        context=runtime.context,
        config=config,
        stream_writer=runtime.stream_writer,
        tool_call_id=call["id"],
        store=runtime.store,
    )
    return inject_tool_args(exact.node, exact.tool, call, tool_runtime)


def _takes_call_id(tool: BaseTool) -> bool:
    schema = tool.args_schema
    fields = schema.model_fields if isinstance(schema, type) and issubclass(schema, BaseModel) else {}
    marks = [mark for field in fields.values() for mark in field.metadata]
    # LangChain's own list of injected arguments (private in langchain-core 1.7.2).
    return InjectedToolCallId in map(_class_of, marks) or "tool_call_id" in tool._injected_args_keys


def _class_of(mark: Any) -> Any:
    return mark if isinstance(mark, type) else type(mark)


async def _with_call_id(tool: BaseTool, call: ToolCall, config: RunnableConfig) -> Any:
    """Call a tool that takes its call's id; LangChain would return only a text."""
    function = getattr(tool, "coroutine", None)
    if function is None:
        return await tool.ainvoke(call, config)
    returned: list[Any] = []

    @functools.wraps(function)
    async def noted(*args: Any, **kwargs: Any) -> Any:
        returned.append(await function(*args, **kwargs))
        return returned[0]

    await tool.model_copy(update={"coroutine": noted}).ainvoke(call, config)
    return returned[0][0] if tool.response_format == "content_and_artifact" else returned[0]


def _plain(tool: BaseTool, output: Any, redactor: Redactor) -> Json:
    output = spoken(output, tool.name)
    if isinstance(output, ToolMessage):
        if output.status == "error":
            raise ToolFailedError(f"{tool.name}: {preview(redactor.text(output.text), 500)}")
        output = output.content
    return redactor.value(plain_output(tool.name, output))


def own_call_id(step_id: str, attempt: int, item: int | None) -> str:
    """Return the id of the call that a step itself makes in an attempt, or in one at an item of its loop."""
    return f"{step_id}-{attempt}" + ("" if item is None else f"-{item}")


def abridged(args: Mapping[str, Json], limit: int) -> dict[str, Json]:
    """Return arguments for the record: unchanged, or over ``limit`` with only the beginnings of long ones.

    Args:
        args: The arguments of a call; often whole outputs of earlier steps.
        limit: Characters of their JSON text; beyond it a long value becomes ``{"$abridged": beginning}``.
    """
    texts = {name: _ENCODER.encode(value) for name, value in args.items()}
    if sum(map(len, texts.values())) <= limit:
        return dict(args)
    return {
        name: value if len(texts[name]) <= BRIEF else {ABRIDGED: preview(value)}
        for name, value in args.items()
    }


_ENCODER = json.JSONEncoder(ensure_ascii=False, default=str)
ABRIDGED = "$abridged"
"""The only key of a shortened argument on record."""


def last_line(text: str) -> str:
    """Return the end of an error's text if the rest has already been shown."""
    lines = text.strip().splitlines()
    return text if len(lines) < 2 else f"… {lines[-1].strip()}"


def ended_with(output: Json, *, ok: bool) -> str:
    """Shorten a call's output for the record; a failed call's text keeps its end."""
    return preview(output) if ok else shortened(output, BRIEF * 3)
