"""Ask a model for plain text."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import RunnableConfig

from ..errors import ModelOutputError
from ..tracing.marks import role_config
from .client_errors import truncated_error
from .fallbacks import first_that_answers
from .json_text import without_thinking
from .metered import MeteredModel, ModelMeter
from .reading import raise_if_withheld, was_cut_off
from .retrying import BACKOFF, Backoff

__all__ = ["call_message"]


async def call_message(
    model: BaseChatModel,
    messages: Sequence[BaseMessage],
    *,
    role: str,
    meter: ModelMeter,
    config: RunnableConfig | None = None,
    backoff: Backoff = BACKOFF,
) -> AIMessage:
    """Ask for plain text without thinking. The message keeps the id under which it was streamed.

    Raises:
        ModelCallError: One of its kinds; ``ModelOutputError`` for an empty answer.
        BudgetExceededError: If the meter allows no further attempt.
    """
    asking = role_config(config, role)

    async def ask(member: BaseChatModel, tries: int) -> AIMessage:
        return await _plain_answer(MeteredModel(member, role, meter, asking, backoff, tries), messages)

    return await first_that_answers(model, ask)


async def _plain_answer(asked: MeteredModel, messages: Sequence[BaseMessage]) -> AIMessage:
    with asked.errors_in_our_words():
        answer = await asked.ask(asked.model, messages)
    raise_if_withheld(answer, asked.who)
    if was_cut_off(answer):
        raise truncated_error(asked.who, asked.meter.call_limits().tokens_by)
    text = without_thinking(str(answer.text)).strip()
    if not text:
        msg = f"{asked.who} gave an empty answer"
        raise ModelOutputError(msg)
    return AIMessage(text, id=answer.id)
