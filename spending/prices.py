"""What model calls cost: the user's prices per million tokens, else the providers' lists, else nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import ConfigurationError, known
from ..models.chat import model_name
from ..models.fallbacks import members_of
from .list_prices import is_priced, list_cost

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage
    from langchain_core.messages.ai import UsageMetadata

    from ..context import Context

__all__ = ["Price", "PriceTable", "answering_model", "price_problem", "read_prices"]

_MILLION = 1_000_000


class Price(BaseModel):
    """What a million tokens of a model cost, in one currency for all models."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cached_input: float | None = Field(default=None, ge=0)
    """Input tokens that the provider had in its cache; None: they cost what the others do."""


_DATED = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8})$")
"""The date of a snapshot, which providers append to the name that was asked for."""


class PriceTable:
    """Prices by model name. The user's stand before the providers' lists, and hold at every endpoint."""

    def __init__(self, own: Mapping[str, Price] | None = None) -> None:
        self._own = dict(own or {})

    def knows(self, model: BaseChatModel) -> bool:
        """Tell whether calls of this model can be priced."""
        return self.own(model_name(model)) is not None or is_priced(model)

    def own(self, name: str) -> Price | None:
        """Return the user's price of a model; a dated name costs what the one without its date does."""
        return self._own.get(name) or self._own.get(_DATED.sub("", name))

    def cost(self, model: BaseChatModel | None, answer: AIMessage, name: str = "") -> float | None:
        """Return what an answer cost; None where the price or the number of tokens is not known.

        Args:
            model: The model that was called, perhaps with fallbacks; None where only its answer is known.
            answer: What it said. The name in it counts: a fallback may have answered.
            name: What was asked for by name; it counts where no price is known for what the answer says.
        """
        used = answer.usage_metadata
        if used is None:
            return None
        asked = members_of(model) if model is not None else [None]
        named = ((said, member) for member in asked for said in (_name_in(answer, member), name))
        costs = (self._cost(said, member, used) for said, member in named if said)
        return next((cost for cost in costs if cost is not None), None)

    def _cost(self, name: str, model: BaseChatModel | None, used: UsageMetadata) -> float | None:
        price = self.own(name)
        if price is None:
            return None if model is None else list_cost(model, name, used)
        cached = (used.get("input_token_details") or {}).get("cache_read") or 0
        for_cached = price.input if price.cached_input is None else price.cached_input
        given = (used["input_tokens"] - cached) * price.input + cached * for_cached
        return (given + used["output_tokens"] * price.output) / _MILLION


def _name_in(answer: AIMessage, model: BaseChatModel | None) -> str:
    """Name the model that answered, as the answer does, else as the model that was asked is named."""
    metadata = answer.response_metadata
    said = metadata.get("model_name") or metadata.get("model")
    return str(said) if said else model_name(model) if model is not None else ""


def answering_model(answer: AIMessage | None, model: BaseChatModel | None) -> str:
    """Name the model that a call went to, as it was asked for, else as its answer does; "": not known."""
    if model is not None:
        return model_name(members_of(model)[0])
    return _name_in(answer, None) if answer is not None else ""


def price_problem(model: BaseChatModel, settings: Context, prices: PriceTable, *, whose: str = "") -> str:
    """Say why a budget could not be held, because calls of this model would count as free; "": it can."""
    limits = [] if settings.max_cost is None else [f"{settings.max_cost:g}"]
    limits += [f"{one.max_cost:g} per {one.per}" for one in settings.spend_limits if one.max_cost is not None]
    for member in members_of(model) if limits else ():
        if not prices.knows(member):
            name = model_name(member)
            return (
                f"max_cost={limits[0]} cannot be held: there is no price for the model {name!r}{whose}. "
                f'Hand one in: prices={{"{name}": {{"input": …, "output": …}}}}, per million tokens'
            )
    return ""


def read_prices(given: Mapping[str, Any] | str | Path | PriceTable | None) -> PriceTable:
    """Read a price table: ``{model: {"input", "output", "cached_input"}}``, or a YAML or JSON file of that.

    Prices are per million tokens. A model's name may have its provider before it: ``openai:gpt-5``.

    Raises:
        ConfigurationError: If the file cannot be read, or an entry is wrong; the message names it.
    """
    if isinstance(given, PriceTable):
        return given
    place, entries = ("prices", given) if isinstance(given, Mapping) else _of_file(given)
    return PriceTable({_bare(name): _entry(place, name, entry) for name, entry in (entries or {}).items()})


def _of_file(path: str | Path | None) -> tuple[str, Mapping[str, Any]]:
    if path is None:
        return "prices", {}
    place = f"price table {path}"
    try:
        text = Path(path).read_text(encoding="utf-8")
        entries = json.loads(text) if str(path).endswith(".json") else yaml.safe_load(text)
    except RecursionError as error:
        raise ConfigurationError(f"{place} is nested too deeply") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{place} cannot be read: {error}") from error
    if not isinstance(entries, Mapping):
        raise ConfigurationError(f"{place} must hold models by name, not {type(entries).__name__}")
    return place, entries


def _entry(place: str, name: Any, entry: Any) -> Price:
    if not isinstance(entry, Price | Mapping):
        raise ConfigurationError(
            f"{place}: the entry of {name!r} must be {known(Price.model_fields)}, not {type(entry).__name__}"
        )
    try:
        return Price.model_validate(entry)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise ConfigurationError(
            f"{place}: {field!r} of {name!r}: {first['msg']} (it is {first['input']!r}); "
            f"known fields: {known(Price.model_fields)}, per million tokens"
        ) from error


def _bare(name: Any) -> str:
    """Drop the provider before a model's name; a name that is made with colons, as Ollama's, stays."""
    prefix, _, rest = str(name).partition(":")
    return rest if rest and prefix in _PROVIDERS else str(name)


_PROVIDERS = frozenset({"openai", "azure_openai", "anthropic", "google_genai", "google_vertexai", "bedrock"})
"""Providers that people write before a name; in ``llama3:8b`` the colon is part of it."""
