"""Call a role's model: count, time and trace every attempt, and retry it if that may help."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, message_chunk_to_message
from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.errors import GraphBubbleUp
from pydantic import BaseModel, ValidationError

from ..errors import PlanExecuteError
from ..tracing.marks import current_span
from .chat import speaks_openai
from .client_errors import as_model_error, describe_model
from .json_text import without_thinking
from .limits import CallLimits, refuses_token_limit, token_limit, within_time
from .reading import TextListener
from .retrying import Backoff, retry_transient

T = TypeVar("T")

__all__ = ["MeteredModel", "ModelMeter", "counted"]


class ModelMeter(Protocol):
    """Counts model calls; every HTTP attempt passes through it, including retries and repairs."""

    def reserve_model_call(self, role: str) -> None:
        """Allow one attempt, or raise ``BudgetExceededError``."""

    async def keep(self) -> None:
        """Return when the reservation is recorded, so that a restart counts it."""

    async def cover(self, model: BaseChatModel | None, messages: Sequence[BaseMessage]) -> Any:
        """Reserve an attempt's maximum from the tenant's limits, or raise ``BudgetExceededError``."""

    async def settle(self, covered: Any, message: AIMessage | None, model: BaseChatModel | None) -> None:
        """Replace the reservation with the attempt's real usage."""

    def record_model_call(self, role: str, message: AIMessage | None, model: BaseChatModel) -> None:
        """Record the attempt's outcome; ``message`` is ``None`` if it failed."""

    def call_limits(self) -> CallLimits:
        """Return the limits of one call."""

    def seconds_left(self) -> float | None:
        """Return how long a call may take, including retries; None for no limit."""

    def out_of_time(self) -> Exception:
        """Return the error for a call that took longer."""


async def counted(
    call: Callable[[], Awaitable[T]],
    answer_in: Callable[[T], AIMessage | None],
    meter: ModelMeter,
    role: str,
    model: BaseChatModel,
    messages: Sequence[BaseMessage],
) -> T:
    """Reserve one attempt before it is made, make it, and record its outcome.

    Args:
        call: Makes it.
        answer_in: Returns the model's answer in what came of it.
        meter: Counts it.
        role: Who asks.
        model: Who is asked.
        messages: What is asked.

    Raises:
        BudgetExceededError: If a budget leaves no room.
    """
    answer: AIMessage | None = None
    covered = await meter.cover(model, messages)
    try:
        meter.reserve_model_call(role)
        try:
            await meter.keep()
            made = await call()
            answer = answer_in(made)
            return made
        finally:
            meter.record_model_call(role, answer, model)
    finally:
        await meter.settle(covered, answer, model)


@dataclass(frozen=True)
class MeteredModel:
    """A role's connection to its model: every attempt is counted, transient failures are retried."""

    model: BaseChatModel
    role: str
    meter: ModelMeter
    config: RunnableConfig
    backoff: Backoff
    tries: int

    @property
    def who(self) -> str:
        """The model's name in errors."""
        return describe_model(self.role, self.model)

    async def ask(
        self,
        runnable: Runnable[Any, Any],
        messages: Sequence[BaseMessage],
        listen: TextListener | None = None,
    ) -> AIMessage:
        """Ask until there is an answer, a failure that is not transient, or no time left.

        Args:
            runnable: The model, with the request's other settings.
            messages: The prompt.
            listen: Called with all the text so far, if the stream reports its usage.
        """
        deadline = asyncio.timeout(self.meter.seconds_left())
        try:
            async with deadline:
                return await retry_transient(
                    lambda: self._limited(runnable, messages, listen), tries=self.tries, backoff=self.backoff
                )
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise self.meter.out_of_time() from error

    async def _limited(
        self, runnable: Runnable[Any, Any], messages: Sequence[BaseMessage], listen: TextListener | None
    ) -> AIMessage:
        limit = token_limit(self.model, self.meter.call_limits())
        try:
            return await self._attempt(runnable.bind(**limit) if limit else runnable, messages, listen)
        except Exception as error:
            if not limit or not refuses_token_limit(self.model, error):
                raise
        return await self._attempt(runnable, messages, listen)

    async def _attempt(
        self, runnable: Runnable[Any, Any], messages: Sequence[BaseMessage], listen: TextListener | None
    ) -> AIMessage:
        async def call() -> AIMessage:
            try:
                with current_span(self.config):
                    asking = self._answer(runnable, list(messages), listen)
                    return await within_time(asking, self.meter.call_limits(), self.who)
            except Exception as error:
                answer = _answer_inside(error)
                if answer is None:
                    raise
                return answer

        return await counted(call, lambda answer: answer, self.meter, self.role, self.model, messages)

    async def _answer(
        self, runnable: Runnable[Any, Any], messages: list[BaseMessage], listen: TextListener | None
    ) -> AIMessage:
        if listen is None or not _counts_streams(self.model):
            return _as_message(await runnable.ainvoke(messages, self.config))
        written: AIMessageChunk | None = None
        async for chunk in runnable.astream(messages, self.config):
            written = chunk if written is None else written + chunk
            listen(without_thinking(str(written.text)))
        assert written is not None, "langchain-core raises for a stream of nothing"
        return _as_message(message_chunk_to_message(written))

    @contextmanager
    def errors_in_our_words(self) -> Iterator[None]:
        """Raise the client's exception as a ``ModelCallError``."""
        try:
            yield
        except (PlanExecuteError, GraphBubbleUp):
            raise
        except Exception as error:
            raise as_model_error(error, self.role, self.model) from error


def _counts_streams(model: BaseChatModel) -> bool:
    """Tell whether a stream reports its usage; langchain-openai 1.7.3 asks only OpenAI's server for it."""
    return not speaks_openai(model) or bool(getattr(model, "stream_usage", False))


def _as_message(answer: Any) -> AIMessage:
    if isinstance(answer, AIMessage):
        return answer
    if isinstance(answer, BaseMessage):
        return AIMessage(content=answer.content)
    data = answer.model_dump(mode="json") if isinstance(answer, BaseModel) else answer
    return AIMessage(content=data if isinstance(data, str) else json.dumps(data))


def _answer_inside(error: Exception) -> AIMessage | None:
    """Take the answer out of errors that replace one, because it was given and paid for."""
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
