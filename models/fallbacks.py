"""Use several models as one: if the first cannot be reached, the next one answers."""

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
"""Tries of a call after transient errors; fewer if another model could answer."""


class FallbackModel(BaseChatModel):
    """A model and its fallbacks; a name such as ``openai:a|anthropic:b`` makes one.

    Each call of the agent asks the members in order, until one can be reached: after network errors, refused
    keys, rate limits and server errors, but never after a bad answer. Each member is asked in its own way
    (tools, structured output), and its usage is counted separately.
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
    """List the models that a model stands for; most stand only for themselves."""
    return model.members if isinstance(model, FallbackModel) else [model]


async def first_that_answers(model: BaseChatModel, ask: Callable[[BaseChatModel, int], Awaitable[R]]) -> R:
    """Ask the members of a model in order; the first that can be reached decides.

    Args:
        model: Any model.
        ask: Asks one of them, with a number of tries.

    Raises:
        ModelUnavailableError: If none can be reached; the message gives the reason of each.
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
