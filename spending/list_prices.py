"""What models cost by the lists of their providers, as the package genai-prices has them at its release.

Nothing is fetched. The lists are read when a run with models begins: that takes longer than the rest.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..models.chat import endpoint_of, model_name
from ..tools.threads import run_in_thread

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, Provider
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages.ai import UsageMetadata

__all__ = ["is_priced", "list_cost", "listed", "listed_by_name", "read_lists"]

_PACKAGE = "langchain_"
_PARTS = {"cache_read": "cache_read_tokens", "cache_creation": "cache_write_tokens"}
"""Parts of the input tokens that have a price of their own, as LangChain and as the lists name them."""


async def read_lists() -> None:
    """Read the lists, outside the event loop: an import reads files."""
    if "genai_prices.data" not in sys.modules:
        await run_in_thread(importlib.import_module, "genai_prices.data")


def listed(model: BaseChatModel, name: str | None = None) -> tuple[Provider, ModelInfo] | None:
    """Return who sells a model, and what is known of it; None where nobody is known to.

    Args:
        model: Says which provider is called: by its endpoint, or where it has none, by its package.
        name: The model that answered, if it is not the one that was asked.
    """
    endpoint = endpoint_of(model) or None
    provider = None if endpoint is not None else _named_by_package(type(model))
    if endpoint is None and provider is None:
        return None  # by its name alone a model would be taken for one of another provider
    return _looked_up(name or model_name(model), provider, endpoint)


def listed_by_name(name: str) -> tuple[Provider, ModelInfo] | None:
    """Return the same for a model that is only named, as ``provider:name`` or by a name that tells."""
    provider, colon, bare = name.partition(":")
    return _looked_up(bare, provider, None) if colon else _looked_up(name, None, None)


def _looked_up(name: str, provider: str | None, endpoint: str | None) -> tuple[Provider, ModelInfo] | None:
    from genai_prices.data_snapshot import get_snapshot

    try:
        return get_snapshot().find_provider_model(name, None, provider, endpoint)
    except LookupError:
        return None


@lru_cache(maxsize=256)
def _named_by_package(kind: type[BaseChatModel]) -> str | None:
    packages = (base.__module__.partition(".")[0] for base in kind.__mro__)
    of_providers = (one for one in packages if one.startswith(_PACKAGE) and one != f"{_PACKAGE}core")
    package = next(of_providers, None)
    return None if package is None else package.removeprefix(_PACKAGE)


def is_priced(model: BaseChatModel) -> bool:
    """Tell whether its provider's list says what the tokens of a model cost."""
    found = listed(model)
    return found is not None and _has_token_prices(found[1])


def _has_token_prices(info: ModelInfo) -> bool:
    prices = info.get_prices(datetime.now(UTC))
    if prices.input_mtok is None and prices.output_mtok is None:
        return info.id.endswith(":free")  # the lists leave out the price of what is free, too
    return True


def list_cost(model: BaseChatModel, name: str, used: UsageMetadata) -> float | None:
    """Return what an answer cost in US dollars by its provider's list; None where that has no price."""
    found = listed(model, name)
    if found is None or not _has_token_prices(found[1]):
        return None
    from genai_prices import Usage

    provider, info = found
    tokens = {"input_tokens": used["input_tokens"], "output_tokens": used["output_tokens"]}
    parts: Mapping[str, Any] = used.get("input_token_details") or {}
    special = {theirs: parts[ours] for ours, theirs in _PARTS.items() if parts.get(ours)}
    if sum(special.values()) > tokens["input_tokens"]:
        special = {}  # a server that counts its parts beside the whole
    now = datetime.now(UTC)
    cost = info.calc_price(Usage(**tokens, **special), provider, genai_request_timestamp=now)
    return float(cost.total_price)
