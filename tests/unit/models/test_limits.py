"""The limit on an answer's tokens, put to chat models of all providers by the fields of their class."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel

from plan_execute.models.limits import CallLimits, token_limit


class ByMaxTokens(FakeListChatModel):
    """Has its limit as ChatAnthropic and ChatBedrockConverse do."""

    responses: list[str] = ["x"]  # noqa: RUF012 - a field of pydantic's
    max_tokens: int | None = None


class ByMaxOutputTokens(FakeListChatModel):
    """Has it as ChatGoogleGenerativeAI does."""

    responses: list[str] = ["x"]  # noqa: RUF012 - a field of pydantic's
    max_output_tokens: int | None = None


class ByNumPredict(FakeListChatModel):
    """Has it as ChatOllama does, whose call settings replace all of its options."""

    responses: list[str] = ["x"]  # noqa: RUF012 - a field of pydantic's
    num_predict: int | None = None
    num_ctx: int | None = None
    temperature: float | None = None


def _limit(model: Any, tokens: int | None = 500) -> dict[str, Any]:
    return token_limit(model, CallLimits(tokens=tokens))


@pytest.mark.parametrize(
    ("model", "sent"),
    [
        (ByMaxTokens(), {"max_tokens": 500}),
        (ByMaxOutputTokens(), {"max_output_tokens": 500}),
        (ByNumPredict(), {"options": {"num_predict": 500}}),
    ],
)
def test_a_limit_is_sent_by_the_name_that_the_class_has_for_it(model: Any, sent: dict[str, Any]) -> None:
    assert _limit(model) == sent
    assert _limit(model, None) == {}


def test_ollamas_other_options_stay() -> None:
    model = ByNumPredict(num_ctx=16384, temperature=0.0)
    assert _limit(model) == {"options": {"num_ctx": 16384, "temperature": 0.0, "num_predict": 500}}


@pytest.mark.parametrize(
    "model",
    [ByMaxTokens(max_tokens=400), ByMaxOutputTokens(max_output_tokens=400), ByNumPredict(num_predict=400)],
)
def test_a_lower_limit_of_the_models_own_stays(model: Any) -> None:
    assert _limit(model) == {}


def test_ollamas_words_for_no_limit_are_no_lower_one() -> None:
    assert _limit(ByNumPredict(num_predict=-1)) == {"options": {"num_predict": 500}}


def test_a_model_without_such_a_field_is_sent_none() -> None:
    assert _limit(FakeListChatModel(responses=["x"])) == {}
