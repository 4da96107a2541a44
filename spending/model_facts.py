"""What is known of a model before it is called: price, context window, abilities; nothing is contacted."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ..models.chat import endpoint_of, model_name
from .list_prices import listed, listed_by_name

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, Provider
    from langchain_core.language_models import BaseChatModel

    from .prices import PriceTable

__all__ = ["model_facts"]

_PRICES = {"input": "input_mtok", "cached_input": "cache_read_mtok", "output": "output_mtok"}
"""Our names of prices per million tokens, and those of the lists."""
_ABILITIES = {
    "tool_calling": "tools",
    "structured_output": "structured output",
    "reasoning_output": "reasoning",
    "image_inputs": "images",
    "pdf_inputs": "PDF",
    "audio_inputs": "audio",
}
"""What LangChain's profile of a model says it can do, and our words for it."""


def model_facts(model: BaseChatModel | str, prices: PriceTable) -> dict[str, Any]:
    """Say what is known of a model, as JSON; what is not known is left out.

    Args:
        model: A chat model, or where its key is missing, its name.
        prices: The user's prices, which stand before the lists.
    """
    if isinstance(model, str):
        return _facts(model.rpartition(":")[2], "", listed_by_name(model), {}, prices)
    name, profile = model_name(model), dict(model.profile or {})
    return _facts(name, endpoint_of(model), listed(model), profile, prices)


def _facts(
    name: str,
    endpoint: str,
    found: tuple[Provider, ModelInfo] | None,
    profile: Mapping[str, Any],
    prices: PriceTable,
) -> dict[str, Any]:
    facts: dict[str, Any] = {"name": name, "endpoint": endpoint or None}
    if found is not None:
        provider, info = found
        facts |= {"provider": provider.name, "context_window": info.context_window}
        facts |= {"deprecated": info.deprecated or None, "price": _list_price(info)}
    if (own := prices.own(name)) is not None:
        facts["price"] = {**own.model_dump(exclude_none=True), "from": "yours"}
    facts["context_window"] = facts.get("context_window") or profile.get("max_input_tokens")
    facts["max_output_tokens"] = profile.get("max_output_tokens")
    facts["takes"] = [words for key, words in _ABILITIES.items() if profile.get(key)] or None
    return {key: value for key, value in facts.items() if value is not None}


def _list_price(info: ModelInfo) -> dict[str, Any] | None:
    prices = info.get_prices(datetime.now(UTC))
    found = {ours: getattr(prices, theirs, None) for ours, theirs in _PRICES.items()}
    told: dict[str, Any] = {
        name: float(getattr(price, "base", price)) for name, price in found.items() if price is not None
    }
    if not told:
        return None
    beyond = [tier.start for price in found.values() for tier in getattr(price, "tiers", ())]
    return {**told, "from": "list", **({"more_beyond": min(beyond)} if beyond else {})}
