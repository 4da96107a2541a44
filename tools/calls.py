"""Call one tool with exact arguments and get its exact output, with no model in between."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from langchain_core.messages import ToolCall, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool
from langgraph.errors import GraphBubbleUp
from langgraph.prebuilt import ToolNode, ToolRuntime
from langgraph.runtime import Runtime
from langgraph.types import Command
from pydantic import ValidationError
from pydantic_core import to_jsonable_python

from ..errors import BadArgumentsError, BudgetExceededError, StepError, ToolFailedError
from ..safety.depth import is_too_deep, too_deep_message
from ..safety.redaction import Redactor, lost_credential
from .idempotency import with_idempotency_key

__all__ = [
    "ABRIDGED",
    "abridged",
    "as_text",
    "call_tool",
    "describe_exception",
    "ended_with",
    "last_line",
    "preview",
    "require_credentials",
    "shortened",
    "to_json",
    "without_secrets",
]

Json = Any
KEYS_ONLY = Redactor()
"""Knows no secret by its value: it takes out what has the form of a key."""


async def call_tool(
    tool: BaseTool,
    args: dict[str, Json],
    *,
    call_id: str,
    config: RunnableConfig,
    runtime: Runtime[Any],
    key: str = "",
    redactor: Redactor = KEYS_ONLY,
    node: ToolNode | None = None,
) -> Json:
    """Call a tool and return its output as JSON, without secrets.

    Args:
        node: The tool's own node, if there is one already: to make it takes as long as a call.
        key: The call's idempotency key, for a tool that asks for it.
        redactor: Keeps secrets out of the output and of what the tool raises.

    Raises:
        BadArgumentsError: If the arguments do not fit the tool's own schema.
        ToolFailedError: If the tool raises, or reports its failure as a value.
    """
    require_credentials(tool.name, args)
    # A tool that turns its own errors into text would make a failed call look like a success.
    strict = tool.model_copy(update={"handle_tool_error": False, "handle_validation_error": False})
    call = ToolCall(name=tool.name, args=args, id=call_id, type="tool_call")
    try:
        injected = _inject(node or ToolNode([tool]), tool, call, config, runtime)
        given = with_idempotency_key(tool, injected, key)
        output = await strict.ainvoke(given, config)
    except ToolFailedError as failure:
        raise without_secrets(failure, redactor) from failure.__cause__
    except (GraphBubbleUp, StepError, BudgetExceededError):
        raise
    except ValidationError as error:
        if error.title not in (tool.name, getattr(tool.args_schema, "__name__", tool.name)):
            raise ToolFailedError(describe_exception(tool.name, error, redactor)) from error
        raise BadArgumentsError(f"{tool.name}: {redactor.text(_first_problems(error))}") from error
    except Exception as error:
        raise ToolFailedError(describe_exception(tool.name, error, redactor)) from error
    try:
        return _plain(tool, output, redactor)
    except (ValueError, RecursionError) as error:
        problem = redactor.text(str(error))
        raise ToolFailedError(f"{tool.name} returned something that is not JSON: {problem}") from error


def require_credentials(name: str, args: Mapping[str, Json]) -> None:
    """Refuse a call that would be made with the mark of a secret in the secret's place.

    Raises:
        BadArgumentsError: If an argument was a secret; the message names it.
    """
    if secret := lost_credential(args):
        raise BadArgumentsError(
            f"{name}: an argument was a secret ({secret}), and secrets are not passed on: "
            "let the tool read it from its own environment"
        )


def without_secrets(failure: ToolFailedError, redactor: Redactor) -> ToolFailedError:
    """Return what a tool itself says about its failure, such as the output of a command, without secrets."""
    return ToolFailedError(redactor.text(str(failure)))


def describe_exception(name: str, error: BaseException, redactor: Redactor = KEYS_ONLY) -> str:
    """Say in one line what a tool raised. Secrets are taken out first: the cut would leave halves of them."""
    text = redactor.text(str(error)).strip() or "no message"
    return f"{name} raised {type(error).__name__}: {shortened(text, 800)}"


def _first_problems(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, item['loc'])) or 'arguments'}: {item['msg']}" for item in error.errors()[:5]
    )


def _inject(
    node: ToolNode, tool: BaseTool, call: ToolCall, config: RunnableConfig, runtime: Runtime[Any]
) -> dict[str, Json]:
    """Add what the tool asks to be given by the runtime (ToolRuntime, store), never by the plan."""
    tool_runtime: ToolRuntime[Any, Any] = ToolRuntime(
        state={"messages": []},
        context=runtime.context,
        config=config,
        stream_writer=runtime.stream_writer,
        tool_call_id=call["id"],
        store=runtime.store,
    )
    # ToolNode's own injection (private in langgraph-prebuilt 1.1.2; pinned by a test).
    args: dict[str, Json] = node._inject_tool_args(call, tool_runtime, tool)["args"]
    return args


def _plain(tool: BaseTool, output: Any, redactor: Redactor) -> Json:
    if isinstance(output, Command):
        raise ToolFailedError(f"{tool.name} returned a Command; a bound step needs a value")
    if isinstance(output, ToolMessage):
        if output.status == "error":
            raise ToolFailedError(f"{tool.name}: {preview(redactor.text(output.text), 500)}")
        output = output.content
    return redactor.value(to_json(output))


def to_json(value: Any) -> Json:
    """Turn any value into plain JSON: models, dates and paths by their usual form, the rest as text."""
    bytes_mode: Any = "utf8" if _is_utf8(value) else "base64"
    if is_too_deep(value):
        raise ValueError(too_deep_message("it"))
    plain = to_jsonable_python(value, fallback=str, serialize_unknown=True, bytes_mode=bytes_mode)
    if is_too_deep(plain):  # models may nest, too
        raise ValueError(too_deep_message("it"))
    return _storable(plain)


def _storable(value: Json) -> Json:
    """Write as text what checkpoints cannot hold: NaN, infinities, integers beyond 64 bits."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return str(value)
    if isinstance(value, dict):
        return {key: _storable(item) for key, item in value.items()}
    return [_storable(item) for item in value] if isinstance(value, list) else value


def _is_utf8(value: Any) -> bool:
    if not isinstance(value, bytes):
        return False
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def abridged(args: Mapping[str, Json], limit: int) -> dict[str, Json]:
    """Return arguments for the record: as they are, or, over ``limit``, the beginnings of the long ones.

    Args:
        args: The arguments of a call; often whole outputs of earlier steps.
        limit: Characters of their JSON text; beyond it a long value becomes ``{"$abridged": beginning}``.
    """
    texts = {name: json.dumps(value, ensure_ascii=False, default=str) for name, value in args.items()}
    if sum(map(len, texts.values())) <= limit:
        return dict(args)
    return {
        name: value if len(texts[name]) <= _BRIEF else {ABRIDGED: preview(value)}
        for name, value in args.items()
    }


ABRIDGED = "$abridged"
"""The one key of what stands for a long argument on record."""


_BRIEF = 300


def preview(value: Json, limit: int = _BRIEF) -> str:
    """Shorten a value for people and prompts, saying how much was left out."""
    text = as_text(value)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit:,} more characters)"


def shortened(value: Json, limit: int) -> str:
    """Shorten a value in the middle, and say how much is left out: an error stands at the end of its text."""
    text = as_text(value)
    left_out, head = len(text) - limit, limit * 3 // 8
    if left_out <= 0:
        return text
    return f"{text[:head]}… ({left_out:,} characters left out) …{text[head + left_out :]}"


def last_line(text: str) -> str:
    """Return what an error says at its end, where the whole of it has been shown already."""
    lines = text.strip().splitlines()
    return text if len(lines) < 2 else f"… {lines[-1].strip()}"


def ended_with(output: Json, *, ok: bool) -> str:
    """Shorten what a call gave for the record; a failed call's text keeps its end."""
    return preview(output) if ok else shortened(output, _BRIEF * 3)


def as_text(value: Json) -> str:
    """Write a value for people and prompts: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
