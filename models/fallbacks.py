"""Several models for one: when the first cannot be reached, the next one answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from ..errors import ModelUnavailableError

__all__ = ["FallbackModel", "first_that_answers", "members_of"]

R = TypeVar("R")

_TRIES, _TRIES_BEFORE_FALLBACK = 4, 2
"""Tries of a call that fails in a way that may pass; fewer where another model could answer."""


class FallbackModel(BaseChatModel):
    """A model and its fallbacks; a name such as ``openai:a|anthropic:b`` makes one.

    Each call of the agent asks the members one by one, until one can be reached: on network errors,
    refused keys, rate limits and server errors, never on an answer that is merely bad. Every member is
    asked in its own way (tools, structured output), and what it used is counted as its own.
    """

    members: Sequence[BaseChatModel]
    """At least one, the preferred one first."""

    @property
    def _llm_type(self) -> str:
        return "plan-execute-fallbacks"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 - the members have their own
        **kwargs: Any,
    ) -> ChatResult:
        first, *others = self.members
        message = first.with_fallbacks(others).invoke(messages, stop=stop, **kwargs)
        return ChatResult(generations=[ChatGeneration(message=message)])


def members_of(model: BaseChatModel) -> Sequence[BaseChatModel]:
    """List the models that a model stands for; most stand for themselves."""
    return model.members if isinstance(model, FallbackModel) else [model]


async def first_that_answers(model: BaseChatModel, ask: Callable[[BaseChatModel, int], Awaitable[R]]) -> R:
    """Ask the members of a model one by one; the first that can be reached decides.

    Args:
        model: Any model.
        ask: Asks one of them, with so many tries.

    Raises:
        ModelUnavailableError: If none can be reached; the message says why of each.
    """
    *preferred, last = members_of(model)
    failures: list[str] = []
    for member in preferred:
        try:
            return await ask(member, _TRIES_BEFORE_FALLBACK)
        except ModelUnavailableError as error:
            failures.append(str(error))
    try:
        return await ask(last, _TRIES)
    except ModelUnavailableError as error:
        if not failures:
            raise
        raise ModelUnavailableError("; and ".join([*failures, str(error)])) from error
