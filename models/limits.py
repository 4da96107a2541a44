"""Limit one model call: its seconds, and the tokens of its answer."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, TypeVar

from langchain_core.language_models import BaseChatModel

from ..errors import ModelTimeoutError
from .chat import model_name
from .endpoints import endpoint_of

T = TypeVar("T")

__all__ = ["CallLimits", "refuses_token_limit", "token_limit", "within_time"]


@dataclass(frozen=True)
class CallLimits:
    """The limits of one call; None means no limit."""

    seconds: float | None = None
    tokens: int | None = None
    tokens_by: str = ""
    """The setting from which the token limit comes."""


async def within_time(call: Awaitable[T], limits: CallLimits, who: str) -> T:
    """Await a call, and interrupt it if it takes too long; the client's own time limit is per read.

    Raises:
        ModelTimeoutError: If it does.
    """
    deadline = asyncio.timeout(limits.seconds)
    try:
        async with deadline:
            return await call
    except TimeoutError as error:
        if not deadline.expired():
            raise
        message = f"{who} did not finish its answer within call_timeout_s={limits.seconds:g}"
        raise ModelTimeoutError(message) from error


_NAMES = ("max_tokens", "max_output_tokens", "num_predict")
"""Names of the limit in chat models (OpenAI, Anthropic, Bedrock; Google; Ollama), as field and call setting.
"""
_OPTIONS = (
    *("mirostat", "mirostat_eta", "mirostat_tau", "num_ctx", "num_gpu", "num_thread", "repeat_last_n"),
    *("repeat_penalty", "temperature", "seed", "stop", "tfs_z", "top_k", "top_p"),
)
"""The other options that ChatOllama (langchain-ollama 1.1) has as fields."""

_REFUSING: set[str] = set()
"""Models whose servers refused a token limit; kept as long as the process runs."""
_REFUSED = re.compile(r"max_(?:completion_|output_)?tokens|in the completion")
_PROMPT = re.compile(r"maximum context length is (\d+) .*?(\d+) in the messages")


def token_limit(model: BaseChatModel, limits: CallLimits) -> dict[str, Any]:
    """Return the call settings that limit the answer, if the model supports them and has no lower limit."""
    if limits.tokens is None:
        return {}
    fields = type(model).model_fields
    name = next((name for name in _NAMES if name in fields), None)
    own = getattr(model, name, None) if name else None
    refused = name is None or _key(model) in _REFUSING
    if refused or (isinstance(own, int) and 0 < own <= limits.tokens):
        return {}
    if name != "num_predict":
        return {str(name): limits.tokens}
    # ChatOllama takes it only with its other options, and forgets its own if some are given.
    options = {option: getattr(model, option, None) for option in _OPTIONS if option in fields}
    given = {option: value for option, value in options.items() if value is not None}
    return {"options": {**given, name: limits.tokens}}


def refuses_token_limit(model: BaseChatModel, error: BaseException) -> bool:
    """Tell whether a server refused a call because of its token limit, and remember it.

    vLLM does so if the prompt and the limit together exceed its context.
    """
    said = str(error)
    status = getattr(error, "status_code", None)
    prompt = _PROMPT.search(said)
    if status not in (400, 422) or not _REFUSED.search(said) or (prompt and int(prompt[2]) >= int(prompt[1])):
        return False
    _REFUSING.add(_key(model))
    return True


def _key(model: BaseChatModel) -> str:
    return f"{model_name(model)}|{endpoint_of(model)}"
