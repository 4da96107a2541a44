"""The one way to ask a model: counted, retried, repaired a bounded number of times.

LangChain's ``with_structured_output`` is used only to put a schema on the request. Its
parsers are not: with langchain-openai 1.7.3 ``include_raw=True`` still raises on fenced
JSON, prose, truncation and content filters, and hides refusals under function calling.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import json
import re
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Generic, Literal, Protocol, TypeVar, cast

from langchain_core.exceptions import ContextOverflowError
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    message_chunk_to_message,
)
from langchain_core.runnables import Runnable, RunnableConfig, RunnableSequence
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.errors import GraphBubbleUp
from pydantic import BaseModel, ValidationError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_exponential, wait_random

from ..errors import (
    ContentFilterError,
    ModelCallError,
    ModelOutputError,
    ModelRefusalError,
    ModelTruncatedError,
    ModelUnavailableError,
    PlanExecuteError,
)
from ..tracing.marks import current_span, role_config
from .chat import endpoint_of, model_name
from .fallbacks import first_that_answers

__all__ = [
    "BACKOFF",
    "Backoff",
    "ModelMeter",
    "TextForm",
    "TextFormError",
    "as_model_error",
    "call_message",
    "call_structured",
    "call_text",
    "closed_schema",
    "extract_json",
    "is_transient",
    "refuses_response_settings",
    "response_settings",
    "retry_transient",
    "wire_schema",
]

T = TypeVar("T", bound=BaseModel)
R = TypeVar("R")
Mode = Literal["text", "json_schema", "function_calling", "prompted"]
Check = Callable[[T], Sequence[str]]
Listener = Callable[[str], None]

_MODES: tuple[Mode, ...] = ("json_schema", "function_calling", "prompted")
_WORKED: dict[str, Mode] = {}
"""What worked, by class, name and endpoint of the model; kept for the life of the process."""

_REFUSING: set[str] = set()
"""Models whose endpoints refused a schema beside tools; kept for the life of the process."""

_QUOTED_ANSWER = 6_000
_QUOTED_REASON = 300
_NAMED_PROBLEMS = 12


# -- counting and retrying ---------------------------------------------------------------


class ModelMeter(Protocol):
    """Counts model calls; every HTTP attempt passes through it, retries and repairs too."""

    def reserve_model_call(self, role: str) -> None:
        """Allow one attempt, or raise ``BudgetExceededError``."""

    async def keep(self) -> None:
        """Return when what was reserved is on record, so that a restart counts it."""

    def record_model_call(self, role: str, message: AIMessage | None, model: BaseChatModel) -> None:
        """Note what came of the attempt; ``message`` is ``None`` when it failed."""

    def seconds_left(self) -> float | None:
        """Return how long a call may take, retries included; None: as long as it likes."""

    def out_of_time(self) -> Exception:
        """Return the error of a call that took longer."""


@dataclass(frozen=True)
class Backoff:
    """How long to wait before a transient failure is tried again (times in seconds)."""

    first_s: float = 0.5
    """The first wait; each further one doubles."""
    longest_s: float = 20.0
    """Doubling ends here."""
    jitter_s: float = 0.5
    """Up to this much is added at random, so that parallel steps do not return together."""
    longest_retry_after_s: float = 60.0
    """A server's ``Retry-After`` is honoured up to this."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    """How to wait."""
    now: Callable[[], float] = time.time
    """Seconds since the epoch, to read a ``Retry-After`` that is a date."""

    def wait(self, state: RetryCallState) -> float:
        """Choose the next wait: what the server asked for, else exponential with jitter."""
        error = state.outcome.exception() if state.outcome else None
        asked = _retry_after(error, self.now) if error else None
        if asked is not None:
            return min(asked, self.longest_retry_after_s)
        own = wait_exponential(multiplier=self.first_s, max=self.longest_s)
        return own(state) + wait_random(0, self.jitter_s)(state)


BACKOFF = Backoff()


async def retry_transient(
    call: Callable[[], Awaitable[R]], *, tries: int = 4, backoff: Backoff = BACKOFF
) -> R:
    """Await ``call()``, again after transient failures; the last failure is raised as it is.

    Args:
        call: Makes one attempt.
        tries: Attempts in all.
        backoff: How long to wait between them.
    """
    try:
        return await call()  # most calls end here, without the machinery of tries
    except Exception as error:
        if tries == 1 or not is_transient(error):
            raise
        failed = [error]
    retrying = AsyncRetrying(
        stop=stop_after_attempt(tries),
        retry=retry_if_exception(is_transient),
        wait=backoff.wait,
        sleep=backoff.sleep,
        reraise=True,
    )

    # tenacity 9.2 awaits only what is visibly a coroutine function, so not every callable.
    async def attempt() -> R:
        if failed:
            raise failed.pop()
        return await call()

    return await retrying(attempt)


# -- what an exception means -------------------------------------------------------------

# HTTP clients differ (httpx, httpx2, aiohttp) and openai 3.52 lets the client's own errors
# through while streaming: so by class name, without importing any of them.
_TRANSPORT_ERRORS = {"TransportError", "APIConnectionError", "ClientConnectionError", "ModelConnectionError"}
_HOPELESS_TRANSPORT = {"UnsupportedProtocol", "InvalidURL"}
_TIMEOUTS = {"APITimeoutError", "TimeoutException", "ModelTimeoutError"}
_TRANSIENT_STATUS = {408, 409, 425, 429}
_TRANSIENT_CODES = ("server_error", "rate_limit", "overloaded", "timeout", "unavailable")
_UNSUPPORTED = re.compile(r"(?i)unsupported param|param requires|(?:not|n't) support")
_MODE_STATUS = {400, 405, 415, 422, 501}
# What openai 3.52 and langchain-openai 1.7.3 raise on a 200 whose body is not a completion.
_UNREADABLE = (json.JSONDecodeError, AttributeError, KeyError, IndexError)
_EMPTY_STREAM = "No generation chunks were returned"
"""What langchain-core 1.7.2 raises, as a ValueError, on a stream that was none."""
_SECRET = re.compile(r"(?i)(sk-|bearer\s+|(?:api[_-]?)?key[=:]\s*)[^\s'\",;]+")


def is_transient(error: BaseException) -> bool:
    """Tell whether the same request may succeed a little later: 429, 5xx, connection, timeout."""
    error = _origin(error)
    if isinstance(error, PlanExecuteError | GraphBubbleUp) or not isinstance(error, Exception):
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
        error: What the model's client raised; a ``ModelCallError`` is returned as it is.
        role: Who was asking.
        model: The model, or its name.
    """
    if isinstance(error, ModelCallError):
        return error
    error = _origin(error)
    who = _describe(role, model)
    return _ending_error(error, who) or _status_error(error, who) or _other_error(error, who)


def _describe(role: str, model: BaseChatModel | str) -> str:
    if isinstance(model, str):
        return f"the model {model} ({role})"
    endpoint = endpoint_of(model)
    return f"the model {model_name(model)} ({role}{', at ' + endpoint if endpoint else ''})"


def _ending_error(error: BaseException, who: str) -> ModelCallError | None:
    """Errors that are really endings of an answer, as openai's parser raises them."""
    names = _classes(error)
    if "LengthFinishReasonError" in names:
        return _truncated(who)
    if "ContentFilterFinishReasonError" in names or _code_of(error) == "content_filter":
        return _filtered(who)
    if "OpenAIRefusalError" in names:
        return _refused(who, str(error))
    if isinstance(error, ContextOverflowError) or _code_of(error) == "context_length_exceeded":
        return ModelCallError(f"{who} was sent more text than it accepts; give it less, or a larger model")
    return None


def _status_error(error: BaseException, who: str) -> ModelUnavailableError | None:
    status = _status_of(error)
    if status is None:
        return None
    if status in (401, 403):
        # The provider's text is left out: it may quote parts of the key.
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


def _truncated(who: str) -> ModelTruncatedError:
    return ModelTruncatedError(
        f"the answer of {who} was cut off at the token limit: "
        "raise the model's max_tokens or ask for something smaller"
    )


def _filtered(who: str) -> ContentFilterError:
    return ContentFilterError(f"the provider's content filter withheld the answer of {who}")


def _refused(who: str, refusal: str) -> ModelRefusalError:
    return ModelRefusalError(f"{who} declined to answer: {_short(refusal, _QUOTED_REASON)}")


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
    """Give the provider's error object: of an HTTP error, or of a 200 that held an error."""
    # langchain-openai 1.7.3 raises ValueError(body["error"]) for the latter.
    held = getattr(error, "body", None) or (error.args[0] if error.args else None)
    return held if isinstance(held, dict) else {}


def _code_of(error: BaseException) -> str:
    """Give the provider's own word for the error (``code``, else ``type``), or ``""``."""
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


def _rejects_mode(error: BaseException) -> bool:
    """Tell whether another way of asking for JSON may be accepted where this one was not."""
    error = _origin(error)
    if _ending_error(error, "") is not None:
        return False
    if isinstance(error, NotImplementedError | TypeError) or _status_of(error) in _MODE_STATUS:
        return True
    return _is_unsupported(error)


def _is_unsupported(error: BaseException) -> bool:
    """Tell whether a server says with HTTP 500 that it does not know a parameter, as llama.cpp does."""
    return _status_of(error) == 500 and _UNSUPPORTED.search(str(error)) is not None


def _reason(error: BaseException) -> str:
    text = _error_object(error).get("message") or str(error) or type(error).__name__
    return _short(_SECRET.sub(r"\1***", str(text)), _QUOTED_REASON)


def _short(text: str, limit: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else f"{flat[:limit]}…"


def _retry_after(error: BaseException, now: Callable[[], float]) -> float | None:
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    value = headers.get("retry-after")
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        return _seconds_until(value, now)


def _seconds_until(date: str, now: Callable[[], float]) -> float | None:
    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - now())
    except ValueError:  # neither seconds nor a date: as if it were absent
        return None


# -- reading an answer -------------------------------------------------------------------

_THINKING = re.compile(r"\A\s*<(think|thinking|reasoning)>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
# Some chat templates put the opening tag into the prompt: only the closing one is seen.
_THINKING_TAIL = re.compile(r"\A(?:(?!<think).)*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"```[\w+-]*[ \t]*\r?\n(.*?)```", re.DOTALL)
_OPENING = re.compile(r"[{\[]")
_EMBEDDED_STARTS = 500
_TRUNCATED = {"length", "max_tokens", "max_output_tokens", "model_length"}
_FILTERED = {"content_filter", "content_filtered", "safety", "prohibited_content", "guardrail_intervened"}


def extract_json(text: str) -> Any:
    """Find the JSON value in what a model wrote: fenced, amid prose, after thinking, or bare.

    Raises:
        ValueError: There is no complete JSON value. Amid prose only an object or a list counts.
    """
    said = _without_thinking(text)
    for loads, candidate in ((_loads, text), (_loads, said), (_loads_fenced, said), (_loads_embedded, said)):
        try:
            return _without_lone_surrogates(loads(candidate))
        except (ValueError, RecursionError):
            continue
    msg = "there is no complete JSON value in this text"
    raise ValueError(msg)


def _refuse_constant(name: str) -> Any:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


# strict=False: models write raw line breaks into strings.
_DECODER = json.JSONDecoder(strict=False, parse_constant=_refuse_constant)


def _loads(text: str) -> Any:
    return _DECODER.decode(text.strip())


def _loads_fenced(text: str) -> Any:
    blocks = _FENCE.findall(text)
    if not blocks:
        msg = "no fenced block"
        raise ValueError(msg)
    return _loads(max(blocks, key=len))


def _loads_embedded(text: str) -> Any:
    """Decode the longest object or list that starts somewhere in the text."""
    found = list(_embedded(text))
    if not found:
        msg = "no object or list"
        raise ValueError(msg)
    return max(found, key=lambda hit: hit[0])[1]


def _embedded(text: str) -> Iterator[tuple[int, Any]]:
    position = 0
    for _ in range(_EMBEDDED_STARTS):  # bounded: hostile text could make this quadratic
        start = _OPENING.search(text, position)
        if start is None:
            return
        try:
            value, position = _DECODER.raw_decode(text, start.start())
            yield position - start.start(), value
        except (ValueError, RecursionError):
            position = start.start() + 1


def _without_lone_surrogates(value: Any) -> Any:
    """Replace half characters (a cut emoji escape): nothing could store or send them."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        text = json.dumps(value, ensure_ascii=False)
        return json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    return value


def _without_thinking(text: str) -> str:
    return _THINKING_TAIL.sub("", _THINKING.sub("", text), count=1)


class TextFormError(ValueError):
    """What stands in the way of reading an answer in a text form, one sentence each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True)
class TextForm(Generic[T]):
    """A form of text that a model is asked for first, because it is shorter to write than JSON."""

    messages: Sequence[BaseMessage]
    """The prompt that asks for it."""
    read: Callable[[str], T | None]
    """Reads a text; None: it is not in this form; raises ``TextFormError``."""
    listen: Callable[[str], None] | None = None
    """Is told all that was written so far, as the model writes it; may be told another try's beginning."""


@dataclass(frozen=True)
class _Reading(Generic[T]):
    """What an answer came to: a value, or the problems that stand in its way."""

    value: T | None
    problems: tuple[str, ...] = ()
    has_json: bool = True
    """Whether there was JSON, or a text in the form asked for."""


def _read(
    answer: AIMessage, schema: type[T], title: str, check: Check[T] | None, form: TextForm[T] | None = None
) -> _Reading[T]:
    """Take the first part of the answer that fits; else the problems of the first JSON in it."""
    if form is not None and (in_form := _read_text(answer, check, form)) is not None:
        return in_form
    failed: list[_Reading[T]] = []
    for part in _parts(answer):
        reading = _read_part(part, schema, title, check)
        if reading.value is not None:
            return reading
        failed.append(reading)
    with_json = [reading for reading in failed if reading.has_json]
    return (with_json or [_Reading(None, ("the answer is not JSON",), has_json=False)])[0]


def _read_text(answer: AIMessage, check: Check[T] | None, form: TextForm[T]) -> _Reading[T] | None:
    """Read an answer in the text form; None if it is in none. What was cut off may look whole and is not."""
    if answer.tool_calls or answer.invalid_tool_calls:
        return None
    try:
        value = form.read(_without_thinking(str(answer.text)))
    except TextFormError as error:
        return _Reading(None, error.problems)
    if value is None:
        return None
    cut_off = ("the answer was cut off",) if _finish_reason(answer) in _TRUNCATED else ()
    problems = cut_off or (tuple(check(value)) if check else ())
    return _Reading(None, problems) if problems else _Reading(value)


def _parts(answer: AIMessage) -> Iterator[Any]:
    """Where a structured answer may stand: tool calls, broken tool calls, text."""
    yield from (call["args"] for call in answer.tool_calls)
    yield from (call["args"] or "" for call in answer.invalid_tool_calls)
    yield str(answer.text)


def _read_part(part: Any, schema: type[T], title: str, check: Check[T] | None) -> _Reading[T]:
    try:
        data = _unwrap(extract_json(part) if isinstance(part, str) else part, title)
    except ValueError as error:
        return _Reading(None, (str(error),), has_json=False)
    try:
        value = _validate(schema, data)
    except ValidationError as error:
        return _Reading(None, tuple(_sentences(error)))
    problems = tuple(check(value)) if check else ()
    return _Reading(None, problems) if problems else _Reading(value)


def _unwrap(data: Any, title: str) -> Any:
    """Undo double encoding and the envelopes that models put around arguments."""
    if isinstance(data, str):
        return _unwrap(extract_json(data), title)
    if isinstance(data, list) and len(data) == 1:
        return _unwrap(data[0], title)
    if isinstance(data, dict):
        if set(data) == {title}:
            return _unwrap(data[title], title)
        if data.get("name") == title and (inner := data.get("arguments") or data.get("parameters")):
            return _unwrap(inner, title)
    return data


def _validate(schema: type[T], data: Any) -> T:
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        mended = _numbers_as_text(data, error)
        if mended is None:
            raise
        return schema.model_validate(mended)


def _numbers_as_text(data: Any, error: ValidationError) -> Any | None:
    """Write numbers as text where text was wanted; ``None`` when that was not the trouble."""
    wanted = [
        problem["loc"]
        for problem in error.errors(include_url=False, include_context=False)
        if problem["type"] == "string_type" and type(problem["input"]) in (int, float)
    ]
    mended = copy.deepcopy(data)
    for *path, last in wanted:
        owner = mended
        for key in path:
            owner = owner[key]
        owner[last] = str(owner[last])
    return mended if wanted else None


def _sentences(error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_url=False, include_context=False):
        place = ".".join(str(key) for key in problem["loc"]) or "the answer"
        yield f"{place}: {problem['msg']} (got {_short(repr(problem['input']), 80)})"


def _finish_reason(answer: AIMessage) -> str:
    metadata = answer.response_metadata
    details = metadata.get("incomplete_details") or {}
    names = ("finish_reason", "stop_reason", "stopReason", "done_reason")
    reason = details.get("reason") or next((metadata[name] for name in names if metadata.get(name)), "")
    return str(reason).lower()


def _refusal_in(answer: AIMessage) -> str | None:
    if refusal := answer.additional_kwargs.get("refusal"):
        return str(refusal)
    blocks = answer.content if isinstance(answer.content, list) else []
    for block in blocks:
        if isinstance(block, dict) and block.get("type") == "refusal":
            return str(block.get("refusal") or "")
    return str(answer.text) if _finish_reason(answer) == "refusal" else None


def _raise_if_withheld(answer: AIMessage, who: str) -> None:
    refusal = _refusal_in(answer)
    if refusal is not None:
        raise _refused(who, refusal)
    if _finish_reason(answer) in _FILTERED:
        raise _filtered(who)


# -- asking ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Line:
    """A role's line to its model: every attempt is counted, transient failures are retried."""

    model: BaseChatModel
    role: str
    meter: ModelMeter
    config: RunnableConfig
    backoff: Backoff
    tries: int

    @property
    def who(self) -> str:
        return _describe(self.role, self.model)

    async def ask(
        self, runnable: Runnable[Any, Any], messages: Sequence[BaseMessage], listen: Listener | None = None
    ) -> AIMessage:
        deadline = asyncio.timeout(self.meter.seconds_left())
        try:
            async with deadline:
                return await retry_transient(
                    lambda: self._attempt(runnable, messages, listen), tries=self.tries, backoff=self.backoff
                )
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise self.meter.out_of_time() from error

    async def _attempt(
        self, runnable: Runnable[Any, Any], messages: Sequence[BaseMessage], listen: Listener | None
    ) -> AIMessage:
        self.meter.reserve_model_call(self.role)
        answer: AIMessage | None = None
        try:
            await self.meter.keep()
            with current_span(self.config):
                answer = await self._answer(runnable, list(messages), listen)
        except Exception as error:
            answer = _answer_inside(error)
            if answer is None:
                raise
        finally:
            self.meter.record_model_call(self.role, answer, self.model)
        return answer

    async def _answer(
        self, runnable: Runnable[Any, Any], messages: list[BaseMessage], listen: Listener | None
    ) -> AIMessage:
        if listen is None or not _counts_streams(self.model):
            return _as_message(await runnable.ainvoke(messages, self.config))
        written: AIMessageChunk | None = None
        async for chunk in runnable.astream(messages, self.config):
            written = chunk if written is None else written + chunk
            listen(_without_thinking(str(written.text)))
        assert written is not None, "langchain-core raises for a stream of nothing"
        return _as_message(message_chunk_to_message(written))

    @contextmanager
    def errors_in_our_words(self) -> Iterator[None]:
        try:
            yield
        except (PlanExecuteError, GraphBubbleUp):
            raise
        except Exception as error:
            raise as_model_error(error, self.role, self.model) from error


def _counts_streams(model: BaseChatModel) -> bool:
    """Tell whether a stream says what it cost; langchain-openai 1.7.3 asks only OpenAI's own server to."""
    return not _speaks_openai(model) or bool(getattr(model, "stream_usage", False))


def _as_message(answer: Any) -> AIMessage:
    if isinstance(answer, AIMessage):
        return answer
    if isinstance(answer, BaseMessage):
        return AIMessage(content=answer.content)
    data = answer.model_dump(mode="json") if isinstance(answer, BaseModel) else answer
    return AIMessage(content=data if isinstance(data, str) else json.dumps(data))


def _answer_inside(error: Exception) -> AIMessage | None:
    """Take the answer out of errors that replace one: it was given, and paid for."""
    if isinstance(error, ValidationError):
        return _badly_encoded_call(error)
    # openai raises these for truncation and content filters, whatever the content.
    completion = getattr(error, "completion", None)
    choices = getattr(completion, "choices", None)
    if not choices:
        return None
    usage = getattr(completion, "usage", None)
    counts = (getattr(usage, "prompt_tokens", 0) or 0, getattr(usage, "completion_tokens", 0) or 0)
    return AIMessage(
        content=choices[0].message.content or "",
        response_metadata={"finish_reason": choices[0].finish_reason},
        usage_metadata={"input_tokens": counts[0], "output_tokens": counts[1], "total_tokens": sum(counts)},
    )


def _badly_encoded_call(error: ValidationError) -> AIMessage | None:
    """Rescue tool arguments that are not an object, such as JSON encoded twice."""
    # langchain-openai 1.7.3 builds an AIMessage that pydantic refuses, and the answer is lost.
    for problem in error.errors(include_url=False, include_context=False):
        if problem["loc"][:1] == ("tool_calls",) and problem["loc"][-1:] == ("args",):
            return _as_message(problem["input"])
    return None


async def call_text(
    model: BaseChatModel,
    messages: Sequence[BaseMessage],
    *,
    role: str,
    meter: ModelMeter,
    config: RunnableConfig | None = None,
    backoff: Backoff = BACKOFF,
) -> str:
    """Ask for plain text; as :func:`call_message`, without what else a message holds."""
    answer = await call_message(model, messages, role=role, meter=meter, config=config, backoff=backoff)
    return str(answer.text)


async def call_message(
    model: BaseChatModel,
    messages: Sequence[BaseMessage],
    *,
    role: str,
    meter: ModelMeter,
    config: RunnableConfig | None = None,
    backoff: Backoff = BACKOFF,
) -> AIMessage:
    """Ask for plain text; thinking is stripped. The message keeps the id under which it was streamed.

    Raises:
        ModelCallError: One of its kinds; ``ModelOutputError`` for an empty answer.
        BudgetExceededError: The meter allowed no further attempt.
    """
    asking = role_config(config, role)

    async def ask(member: BaseChatModel, tries: int) -> AIMessage:
        return await _plain_answer(_Line(member, role, meter, asking, backoff, tries), messages)

    return await first_that_answers(model, ask)


async def _plain_answer(line: _Line, messages: Sequence[BaseMessage]) -> AIMessage:
    with line.errors_in_our_words():
        answer = await line.ask(line.model, messages)
    _raise_if_withheld(answer, line.who)
    if _finish_reason(answer) in _TRUNCATED:
        raise _truncated(line.who)
    text = _without_thinking(str(answer.text)).strip()
    if not text:
        msg = f"{line.who} gave an empty answer"
        raise ModelOutputError(msg)
    return AIMessage(text, id=answer.id)


async def call_structured(
    model: BaseChatModel,
    schema: type[T],
    messages: Sequence[BaseMessage],
    *,
    role: str,
    meter: ModelMeter,
    json_schema: dict[str, Any] | None = None,
    check: Check[T] | None = None,
    form: TextForm[T] | None = None,
    max_repairs: int = 2,
    config: RunnableConfig | None = None,
    backoff: Backoff = BACKOFF,
) -> T:
    """Ask for one JSON object and return it validated.

    Where a text form is given, that is asked for instead. It is taken as well as JSON is, whatever was asked
    for; a model that writes neither, or fails twice at the form, is asked for JSON.

    Args:
        model: Any chat model; the way to ask it for JSON is found out and remembered.
        schema: What the answer is validated with; numbers given for texts are accepted.
        messages: The prompt.
        role: Who is asking; callbacks and traces see it.
        meter: Counts every attempt.
        json_schema: What the model is shown, with ``title``; by default ``wire_schema(schema)``.
        check: Gives one sentence per problem that a schema cannot express.
        form: A shorter way to write the same, as text.
        max_repairs: How often the problems are sent back.
        config: Where callbacks, tags and metadata come from.
        backoff: How long to wait before transient failures are tried again.

    Raises:
        ModelCallError: One of its kinds; ``ModelOutputError`` when no repair helped.
        BudgetExceededError: The meter allowed no further attempt.
    """
    wire, asking = json_schema or wire_schema(schema), role_config(config, role)

    async def ask(member: BaseChatModel, tries: int) -> T:
        line = _Line(member, role, meter, asking, backoff, tries)
        return await _structured_answer(line, schema, messages, wire, check, form, max_repairs)

    return await first_that_answers(model, ask)


async def _structured_answer(
    line: _Line,
    schema: type[T],
    messages: Sequence[BaseMessage],
    wire: dict[str, Any],
    check: Check[T] | None,
    form: TextForm[T] | None,
    max_repairs: int,
) -> T:
    title = str(wire.get("title", schema.__name__))
    question, modes = _Question(wire, messages, form), _modes_for(line.model, form)
    cut_off = False
    reading: _Reading[T] = _Reading(None)
    for number in range(max_repairs + 1):
        with line.errors_in_our_words():
            mode, answer = await _ask_in_a_mode(line, question, modes)
        _raise_if_withheld(answer, line.who)
        reading = _read(answer, schema, title, check, form)
        if reading.value is not None:
            _remember(line.model, mode)
            return reading.value
        was_cut_off, cut_off = cut_off, _finish_reason(answer) in _TRUNCATED
        if cut_off and was_cut_off:
            break
        modes = _modes_after(mode, answer, reading, again=number > 0, model=line.model)
        question.repairs += _repair(answer, reading.problems, cut_off=cut_off)
    raise _no_answer(line.who, reading.problems, cut_off=cut_off, answers=max_repairs + 1)


def _no_answer(who: str, problems: Sequence[str], *, cut_off: bool, answers: int) -> ModelCallError:
    if cut_off:
        return _truncated(who)
    return ModelOutputError(
        f"{who} gave no usable answer in {answers} tries: {_short('; '.join(problems), 600)}"
    )


@dataclass
class _Question:
    """What a model is asked, in whichever mode, with the repairs so far."""

    wire: dict[str, Any]
    messages: Sequence[BaseMessage]
    form: TextForm[Any] | None
    repairs: list[BaseMessage] = field(default_factory=list)

    def in_mode(self, mode: Mode) -> list[BaseMessage]:
        if mode == "text" and self.form is not None:
            return [*self.form.messages, *self.repairs]
        asked = [*self.messages, *self.repairs]
        return _shown(asked, self.wire) if mode == "prompted" else asked

    def listener(self, mode: Mode) -> Listener | None:
        return self.form.listen if mode == "text" and self.form is not None else None


async def _ask_in_a_mode(line: _Line, question: _Question, modes: Sequence[Mode]) -> tuple[Mode, AIMessage]:
    """Ask in the first of the modes that the model accepts, and remember it."""
    rejection: Exception | None = None
    for mode in modes:
        try:
            runnable = _bind(line.model, question.wire, mode)
            answer = await line.ask(runnable, question.in_mode(mode), question.listener(mode))
        except Exception as error:
            if not isinstance(error, _BindError) and not _rejects_mode(error):
                raise
            rejection = error
            continue
        if rejection is not None:
            _remember(line.model, mode)
        return mode, answer
    raise rejection or ValueError("no way of asking for JSON is left")


def _remember(model: BaseChatModel, mode: Mode) -> None:
    if mode != "text":
        _WORKED[_key(model)] = mode


class _BindError(Exception):
    """The model's class offers no such mode."""


def _bind(model: BaseChatModel, wire: dict[str, Any], mode: Mode) -> Runnable[Any, Any]:
    """Put the schema on the request in the given mode; only the request part is kept."""
    if mode in ("text", "prompted"):
        return model
    strict = {"strict": True} if mode == "json_schema" and _takes_strict(model) and _is_strict(wire) else {}
    try:
        with warnings.catch_warnings():
            # langchain-openai 1.7.3 warns the user when it changes the mode for older models.
            warnings.simplefilter("ignore")
            structured = model.with_structured_output(wire, method=mode, **strict)
    except Exception as error:  # NotImplementedError, ValueError, TypeError, KeyError: by provider
        raise _BindError(str(error)) from error
    return structured.first if isinstance(structured, RunnableSequence) else structured


def response_settings(
    model: BaseChatModel, schema: dict[str, Any] | None, tools: Sequence[Any] = ()
) -> dict[str, Any]:
    """Return the call settings that ask a model for JSON of this schema beside its tools, if it takes them.

    It does where its profile says so or this process has seen it work, and where every tool fits
    OpenAI's strict mode, on which langchain-openai then insists. The answer may still be anything.
    """
    profile: Any = getattr(model, "profile", None) or {}
    works = profile.get("structured_output") or _WORKED.get(_key(model)) == "json_schema"
    if schema is None or not works or _key(model) in _REFUSING or not _speaks_openai(model):
        return {}
    # Strict mode closes every object: a tool that takes any keys could be given none.
    if any(_takes_any_keys(convert_to_openai_tool(tool)["function"]["parameters"]) for tool in tools):
        return {}
    # ChatOpenAI.bind_tools (langchain-openai 1.7.3) names the form by the schema's title.
    titled = {"title": "step_output", **schema}
    named = {"name": "step_output", "schema": titled, "strict": _is_strict(schema)}
    return {"response_format": {"type": "json_schema", "json_schema": named}}


def _takes_any_keys(schema: Any) -> bool:
    if isinstance(schema, list):
        return any(map(_takes_any_keys, schema))
    if not isinstance(schema, dict):
        return False
    is_free = schema.get("type") == "object" and not schema.get("properties")
    return (is_free and bool(schema.get("additionalProperties", True))) or any(
        map(_takes_any_keys, schema.values())
    )


def refuses_response_settings(model: BaseChatModel, error: BaseException) -> bool:
    """Tell whether an error says that the endpoint does not take these settings, and remember it."""
    if not _rejects_mode(error):
        return False
    _REFUSING.add(_key(model))
    return True


def _speaks_openai(model: BaseChatModel) -> bool:
    return any(cls.__name__ == "BaseChatOpenAI" for cls in type(model).__mro__)


def _takes_strict(model: BaseChatModel) -> bool:
    return "strict" in inspect.signature(model.with_structured_output).parameters


def _is_strict(schema: Any) -> bool:
    """Tell whether OpenAI's strict mode accepts this: closed objects, every property required."""
    if isinstance(schema, list):
        return all(_is_strict(item) for item in schema)
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties")
    if schema.get("type") == "object" or isinstance(properties, dict):
        closed = schema.get("additionalProperties") is False
        if not closed or set(schema.get("required", [])) != set(properties or {}):
            return False
    return all(_is_strict(value) for value in schema.values())


def _shown(history: Sequence[BaseMessage], wire: dict[str, Any]) -> list[BaseMessage]:
    """Write the schema into the last human message: some endpoints refuse two in a row."""
    asked = (
        "Answer with one JSON object that fits this JSON Schema, and with nothing else:\n"
        f"{json.dumps(wire, ensure_ascii=False)}"
    )
    *before, last = history or [HumanMessage("")]
    if isinstance(last, HumanMessage) and isinstance(last.content, str):
        return [*before, last.model_copy(update={"content": f"{last.content}\n\n{asked}".lstrip()})]
    return [*before, last, HumanMessage(asked)]


def _repair(answer: AIMessage, problems: Sequence[str], *, cut_off: bool) -> list[BaseMessage]:
    """Show the model its answer and what is wrong with it; as text, so that no tool result is owed."""
    given = "\n".join(part if isinstance(part, str) else json.dumps(part) for part in _parts(answer)).strip()
    quoted = given if len(given) <= _QUOTED_ANSWER else f"{given[:_QUOTED_ANSWER]}\n… (shortened)"
    return [AIMessage(quoted or "(empty answer)"), HumanMessage(_feedback(problems, cut_off=cut_off))]


def _feedback(problems: Sequence[str], *, cut_off: bool) -> str:
    if cut_off:
        return "Your answer was cut off at the token limit. Give the whole answer again, much shorter."
    named = [f"- {_short(problem, 400)}" for problem in problems[:_NAMED_PROBLEMS]]
    if len(problems) > _NAMED_PROBLEMS:
        named.append(f"- and {len(problems) - _NAMED_PROBLEMS} more")
    return "\n".join(
        ["Your answer cannot be used:", *named, "Give the whole answer again, with this put right."]
    )


def _key(model: BaseChatModel) -> str:
    cls = type(model)
    return f"{cls.__module__}.{cls.__qualname__}|{model_name(model)}|{endpoint_of(model)}"


def _modes_for(model: BaseChatModel, form: TextForm[Any] | None = None) -> tuple[Mode, ...]:
    worked = _WORKED.get(_key(model), _MODES[0])
    return (*(() if form is None else ("text",)), *_MODES[_MODES.index(worked) :])


def _modes_after(
    mode: Mode, answer: AIMessage, reading: _Reading[T], *, again: bool, model: BaseChatModel
) -> tuple[Mode, ...]:
    """Go on with the mode that was accepted, unless the endpoint seems to ignore it."""
    if mode == "text":
        return _modes_for(model) if again or not reading.has_json else ("text", *_modes_for(model))
    ignored = not reading.has_json and _finish_reason(answer) not in _TRUNCATED and str(answer.text).strip()
    return ("prompted",) if ignored else _MODES[_MODES.index(mode) :]


# -- the schema on the wire --------------------------------------------------------------


def wire_schema(schema: type[BaseModel]) -> dict[str, Any]:
    """Derive what a model is shown from a pydantic class.

    References are inlined, objects are closed and every property is required, which is
    the form that strict and plain modes of all providers read alike.

    Raises:
        ValueError: The class contains itself.
    """
    return closed_schema(schema.model_json_schema())


def closed_schema(full: dict[str, Any]) -> dict[str, Any]:
    """Bring the JSON Schema of a Python type into the form that `wire_schema` describes.

    Raises:
        ValueError: The type contains itself.
    """
    rest = {key: value for key, value in full.items() if key != "$defs"}
    wire = cast(dict[str, Any], _close(_inline(rest, full.get("$defs", {}), ())))
    name = str(full.get("title", "answer"))
    wire["title"] = re.sub(r"\W", "_", name)
    wire.setdefault("description", f"The {name}.")
    return wire


def _inline(node: Any, definitions: dict[str, Any], inside: tuple[str, ...]) -> Any:
    if isinstance(node, list):
        return [_inline(item, definitions, inside) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" not in node:
        return {key: _inline(value, definitions, inside) for key, value in node.items()}
    name = str(node["$ref"]).rpartition("/")[2]
    if name in inside:
        msg = f"{name} contains itself: such a schema cannot be shown to a model"
        raise ValueError(msg)
    beside = {key: value for key, value in node.items() if key != "$ref"}
    return {**_inline(definitions[name], definitions, (*inside, name)), **beside}


def _close(node: Any, *, is_names: bool = False) -> Any:
    """Close objects, require all properties, drop titles and defaults (they mean nothing here)."""
    if isinstance(node, list):
        return [_close(item) for item in node]
    if not isinstance(node, dict):
        return node
    if is_names:
        return {name: _close(value) for name, value in node.items()}
    kept = {key: value for key, value in node.items() if key not in ("title", "default")}
    closed = {key: _close(value, is_names=key == "properties") for key, value in kept.items()}
    if "properties" in closed:
        closed |= {"required": list(closed["properties"]), "additionalProperties": False}
    return closed
