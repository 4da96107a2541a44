"""A run's status and figures in HTML, for the report and the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from .markup import Markup, element
from .words import say_cost

__all__ = ["Fact", "fact_list", "spent_facts", "status_badge"]


def status_badge(status: str, *, maybe_elsewhere: bool = False) -> Markup:
    """Write a run's status; a stopped run may be one that another process runs."""
    is_stopped = status == "stopped"
    words = "stopped, or run elsewhere" if is_stopped and maybe_elsewhere else status
    return element("span", words, class_=f"badge {'open' if is_stopped else status}")


class Fact(NamedTuple):
    """A figure of a run and its title; the page finds it by its key."""

    title: str
    value: object
    key: str | None = None


def spent_facts(usage: Mapping[str, Any]) -> list[Fact]:
    """Say what was spent; "" where that is not on record."""
    counts = {"model_calls": "Model calls", "total_tokens": "Tokens", "tool_calls": "Tool calls"}
    facts = [
        Fact(title, "" if (count := usage.get(key)) is None else f"{count:,}", key)
        for key, title in counts.items()
    ]
    return [*facts, Fact("Cost", "" if (cost := usage.get("cost")) is None else say_cost(cost), "cost")]


def fact_list(facts: Iterable[Fact], *more: Markup) -> Markup:
    """Write facts beside each other, and what follows them."""
    listed = [
        element("div", element("dt", title), element("dd", value, dir="auto", data_fact=key))
        for title, value, key in facts
    ]
    return element("dl", *listed, *more, class_="facts")
