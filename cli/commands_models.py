"""The command that says what is known of models: models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ConfigurationError, MissingModelError
from .exits import DONE, BadUsageError
from .options import BaseUrl, JsonOutput, Prices, SourceOptions
from .terminal import Screen

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

__all__ = ["models"]


def models(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Models as --model takes them (default: that one)."),
    ] = None,
    prices: Prices = None,
    base_url: BaseUrl = None,
    json: JsonOutput = False,
) -> int:
    """Show what is known about models: price, context window, kinds of input.

    Prices are your own, or the providers' list prices. No server is contacted.
    """
    from ..spending.model_facts import model_facts
    from ..spending.prices import read_prices
    from .sources import Sources

    screen, sources = Screen(json=json), Sources.read(SourceOptions(base_url=base_url), prices=prices)
    wanted = names or ([sources.model] if sources.model else [])
    if not wanted:
        raise BadUsageError("name a model, or set PLAN_EXECUTE_MODEL")
    table = read_prices(sources.prices)
    named = [part.strip() for name in wanted for part in name.split("|")]
    found = [model_facts(_made(name, sources.base_url), table) for name in named]
    if json:
        screen.document({"models": found})
        return DONE
    for facts in found:
        for line in _lines(facts):
            screen.data(line)
    return DONE


def _made(name: str, base_url: str | None) -> BaseChatModel | str:
    """Make the model, which knows its endpoint and abilities; give its name if key or package is missing."""
    from ..models.chat import ChatModels
    from ..spending.list_prices import listed_by_name

    try:
        return ChatModels(name, base_url=base_url).get("executor")
    except (ConfigurationError, MissingModelError) as error:
        if listed_by_name(name) is None:
            # Nothing is run here, so the role that the message names means nothing.
            raise type(error)(str(error).replace(" of the executor", "")) from error
        return name


def _lines(facts: dict[str, Any]) -> list[str]:
    place = facts.get("provider") or facts.get("endpoint")
    lines = [facts["name"] + (f" ({place})" if place else "")]
    lines.append(f"  price: {_price(facts['price']) if 'price' in facts else 'not known: --prices FILE'}")
    if "context_window" in facts:
        lines.append(f"  context: {facts['context_window']:,} tokens")
    if "max_output_tokens" in facts:
        lines.append(f"  longest answer: {facts['max_output_tokens']:,} tokens")
    if "takes" in facts:
        lines.append(f"  takes: {', '.join(facts['takes'])}")
    if "deprecated" in facts:
        lines.append("  its provider will take it away")
    return lines


def _price(price: dict[str, Any]) -> str:
    words = {"input": "input", "cached_input": "cached input", "output": "output"}
    parts = [f"{price[key]:g} {word}" for key, word in words.items() if key in price]
    more = f", more beyond {price['more_beyond']:,} tokens" if "more_beyond" in price else ""
    origin = "your price" if price["from"] == "yours" else "US dollars, list price"
    return f"{', '.join(parts)} per million tokens{more} ({origin})"
