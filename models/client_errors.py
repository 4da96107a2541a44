"""Interpret an exception of a model's client: whether it is transient, an ending, and how to say it."""

from __future__ import annotations

import json
import re
from typing import Any

from langchain_core.exceptions import ContextOverflowError
from langchain_core.language_models import BaseChatModel
from langgraph.errors import GraphBubbleUp

from ..errors import (
    ContentFilterError,
    ModelCallError,
    ModelOverflowError,
    ModelRefusalError,
    ModelTruncatedError,
    ModelUnavailableError,
    PlanExecuteError,
)
from ..tools.texts import words_of
from .chat import model_name
from .endpoints import endpoint_of

__all__ = [
    "as_model_error",
    "describe_model",
    "filtered_error",
    "is_transient",
    "one_line",
    "refused_error",
    "rejects_mode",
    "truncated_error",
]

_QUOTED_REASON = 300
# HTTP clients differ (httpx, httpx2, aiohttp), and openai 3.52 lets the client's own errors through while
# streaming. So compare class names, without importing any of them.
_TRANSPORT_ERRORS = {"TransportError", "APIConnectionError", "ClientConnectionError", "ModelConnectionError"}
_HOPELESS_TRANSPORT = {"UnsupportedProtocol", "InvalidURL"}
_TIMEOUTS = {"APITimeoutError", "TimeoutException", "ModelTimeoutError"}
_TRANSIENT_STATUS = {408, 409, 425, 429}
_TRANSIENT_CODES = ("server_error", "rate_limit", "overloaded", "timeout", "unavailable")
_UNSUPPORTED = re.compile(r"(?i)unsupported param|param requires|(?:not|n't) support")
_OVERFLOWS = {"context_length_exceeded", "exceed_context_size_error"}
"""What OpenAI and llama.cpp call a request that is longer than the context."""
_OVERFLOW = re.compile(
    r"(?i)maximum (?:context|model|input) length|longer than the (?:maximum|model|context)|prompt is too long"
    r"|(?:exceeds?|larger than|longer than) (?:the )?(?:available |model'?s )?(?:maximum )?context"
    r"|input token count .* exceeds|context (?:length|size|window) (?:of|exceeded)|context[ _]overflow"
)
"""How vLLM, SGLang, Ollama, LM Studio, Anthropic, Google and others say it."""
_MODE_STATUS = {400, 405, 415, 422, 501}
# openai 3.52 and langchain-openai 1.7.3 raise these on a 200 whose body is not a completion.
_UNREADABLE = (json.JSONDecodeError, AttributeError, KeyError, IndexError)
_EMPTY_STREAM = "No generation chunks were returned"
"""What langchain-core 1.7.2 raises, as a ValueError, on an empty stream."""
_SECRET = re.compile(r"(?i)(sk-|bearer\s+|(?:api[_-]?)?key[=:]\s*)[^\s'\",;]+")


def is_transient(error: BaseException) -> bool:
    """Tell whether the same request may succeed a little later: 429, 5xx, connection, timeout."""
    error = _origin(error)
    if isinstance(error, PlanExecuteError | GraphBubbleUp) or not isinstance(error, Exception):
        return False
    if _is_overflow(error):
        return False
    status = _status_of(error)
    if status is not None:
        return _is_transient_status(status, error) and not _is_unsupported(error)
    if _classes(error.__cause__) & _HOPELESS_TRANSPORT or _classes(error) & _HOPELESS_TRANSPORT:
        return False
    if isinstance(error, TimeoutError | ConnectionError) or _classes(error) & (_TRANSPORT_ERRORS | _TIMEOUTS):
        return True
    return bool(getattr(error, "is_retryable", False)) or _code_of(error).startswith(_TRANSIENT_CODES)


def as_model_error(error: BaseException, role: str, model: BaseChatModel | str) -> ModelCallError:
    """Say in one sentence what went wrong with a model, without key or traceback.

    Args:
        error: The client's exception; a ``ModelCallError`` is returned unchanged.
        role: The role that asked.
        model: The model, or its name.
    """
    if isinstance(error, ModelCallError):
        return error
    error = _origin(error)
    who = describe_model(role, model)
    return _ending_error(error, who) or _status_error(error, who) or _other_error(error, who)


def describe_model(role: str, model: BaseChatModel | str) -> str:
    """Describe a model, with its role and its endpoint."""
    if isinstance(model, str):
        return f"the model {model} ({role})"
    endpoint = endpoint_of(model)
    return f"the model {model_name(model)} ({role}{', at ' + endpoint if endpoint else ''})"


def _ending_error(error: BaseException, who: str) -> ModelCallError | None:
    """Errors that are really endings of an answer; openai's parser raises them."""
    names = _classes(error)
    if "LengthFinishReasonError" in names:
        return truncated_error(who)
    if "ContentFilterFinishReasonError" in names or _code_of(error) == "content_filter":
        return filtered_error(who)
    if "OpenAIRefusalError" in names:
        return refused_error(who, str(error))
    if _is_overflow(error):
        return ModelOverflowError(
            f"{who} was sent more text than it accepts ({_sizes(error)}); send less text, or use a "
            "model with a larger context"
        )
    return None


def _is_overflow(error: BaseException) -> bool:
    """Tell whether a request was longer than the model's context, in any server's words."""
    codes = {str(_error_object(error).get("type")), _code_of(error), str(getattr(error, "type", ""))}
    if isinstance(error, ContextOverflowError) or codes & _OVERFLOWS:
        return True
    return isinstance(error, Exception) and _OVERFLOW.search(_reason(error)) is not None


def _sizes(error: BaseException) -> str:
    """Give the sizes from llama.cpp's fields, else from the server's words."""
    said = _error_object(error)
    sent, room = said.get("n_prompt_tokens"), said.get("n_ctx")
    if isinstance(sent, int) and isinstance(room, int):
        return f"{sent:,} tokens, and its context holds {room:,}"
    return _reason(error)


def _status_error(error: BaseException, who: str) -> ModelUnavailableError | None:
    status = _status_of(error)
    if status is None:
        return None
    if status in (401, 403):
        # The provider's text is left out, because it may quote parts of the key.
        return ModelUnavailableError(
            f"{who} refused the API key (HTTP {status}): check the key and its rights"
        )
    if status == 404:
        return ModelUnavailableError(f"{who} was not found (HTTP 404): check the name and the base URL")
    if status == 429:
        cause = "the quota is used up" if _is_quota(error) else "too many requests"
        return ModelUnavailableError(
            f"{who} limits the rate (HTTP 429): {cause}. {_reason(error)}".rstrip(". ")
        )
    verb = "failed" if status >= 500 else "rejected the request"
    return ModelUnavailableError(f"{who} {verb} (HTTP {status}): {_reason(error)}")


def _other_error(error: BaseException, who: str) -> ModelCallError:
    names = _classes(error)
    if isinstance(error, TimeoutError) or names & _TIMEOUTS:
        return ModelUnavailableError(f"{who} did not answer in time")
    if isinstance(error, ConnectionError) or names & _TRANSPORT_ERRORS:
        return ModelUnavailableError(
            f"{who} cannot be reached ({_reason(error)}): check the base URL and the network"
        )
    unreadable = isinstance(error, _UNREADABLE) or str(error) == _EMPTY_STREAM
    if unreadable or "APIResponseValidationError" in names:
        return ModelUnavailableError(
            f"{who} answered with something that is not a chat completion: check the base URL"
        )
    return ModelCallError(f"{who} failed: {type(error).__name__}: {_reason(error)}")


def truncated_error(who: str, limit: str = "") -> ModelTruncatedError:
    """Say that an answer was cut off, and by which of our settings, if it was one."""
    which, raised = (f" ({limit})", "it") if limit else ("", "the model's max_tokens")
    return ModelTruncatedError(
        f"the answer of {who} was cut off at the token limit{which}: write much less, or raise {raised}"
    )


def filtered_error(who: str) -> ContentFilterError:
    """Say that an answer was withheld."""
    return ContentFilterError(f"the provider's content filter withheld the answer of {who}")


def refused_error(who: str, refusal: str) -> ModelRefusalError:
    """Say that the model declined."""
    return ModelRefusalError(f"{who} declined to answer: {one_line(refusal, _QUOTED_REASON)}")


def rejects_mode(error: BaseException) -> bool:
    """Tell whether another way of asking for JSON may work where this one did not."""
    error = _origin(error)
    if _ending_error(error, "") is not None:
        return False
    if isinstance(error, NotImplementedError | TypeError) or _status_of(error) in _MODE_STATUS:
        return True
    return _is_unsupported(error)


def _origin(error: BaseException) -> BaseException:
    # langchain-openai 1.7.3 warns before it re-raises some 400s; under -W error the warning replaces them.
    while isinstance(error, Warning) and error.__context__ is not None:
        error = error.__context__
    return error


def _classes(error: BaseException | None) -> set[str]:
    return {cls.__name__ for cls in type(error).__mro__}


def _status_of(error: BaseException) -> int | None:
    response = getattr(error, "response", None)
    places = [(owner, name) for owner in (error, response) for name in ("status_code", "status", "code")]
    values = [getattr(owner, name, None) for owner, name in places] + [_error_object(error).get("code")]
    return next((value for value in values if isinstance(value, int) and 400 <= value < 600), None)


def _error_object(error: BaseException) -> dict[str, Any]:
    """Return the provider's error object: from an HTTP error, or from a 200 with an error inside."""
    # langchain-openai 1.7.3 raises ValueError(body["error"]) for the latter.
    held = getattr(error, "body", None) or (error.args[0] if error.args else None)
    return held if isinstance(held, dict) else {}


def _code_of(error: BaseException) -> str:
    """Return the provider's own name for the error (``code``, else ``type``), or ``""``."""
    for attribute in ("code", "type"):
        value = getattr(error, attribute, None)
        if isinstance(value, str):
            return value
    return ""


def _is_transient_status(status: int, error: BaseException) -> bool:
    if status == 429:
        return not _is_quota(error)
    return status in _TRANSIENT_STATUS or (status >= 500 and status != 501)


def _is_quota(error: BaseException) -> bool:
    return "insufficient_quota" in (_code_of(error), getattr(error, "type", None))


def _is_unsupported(error: BaseException) -> bool:
    """Tell whether a server reports an unknown parameter with HTTP 500, as llama.cpp does."""
    return _status_of(error) == 500 and _UNSUPPORTED.search(str(error)) is not None


def _reason(error: BaseException) -> str:
    text = _error_object(error).get("message") or words_of(error) or type(error).__name__
    return one_line(_SECRET.sub(r"\1***", str(text)), _QUOTED_REASON)


def one_line(text: str, limit: int) -> str:
    """Write a text in one line of at most so many characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else f"{flat[:limit]}…"
