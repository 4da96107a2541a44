"""The functions that expressions have beside JMESPath's own: arithmetic, texts, lists side by side, times.

Each takes bounded work, and the same values always give the same result: ``now`` comes from the run's clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

__all__ = ["ADDED", "call_added", "clock_at"]

Json = Any
Number = int | float

_NOW: ContextVar[str] = ContextVar("now_in_expressions", default="")


@contextmanager
def clock_at(time: str) -> Iterator[None]:
    """Let ``now()`` be this time, in ISO 8601, for what is evaluated here."""
    token = _NOW.set(time)
    try:
        yield
    finally:
        _NOW.reset(token)


# --- the functions -----------------------------------------------------------------------


def _add(*numbers: Number) -> Number:
    return sum(numbers)


def _subtract(left: Number, right: Number) -> Number:
    return left - right


def _multiply(*numbers: Number) -> Number:
    return math.prod(numbers)


def _divide(left: Number, right: Number) -> Number:
    if right == 0:
        raise ValueError(f"divide() by zero: {left} / 0")
    whole = left % right == 0
    return left // right if whole and isinstance(left, int) and isinstance(right, int) else left / right


def _round(number: Number, places: Number = 0) -> Number:
    """Round half away from zero, as people do; to a whole number where no places are asked for."""
    if places != int(places) or not -15 <= places <= 15:
        raise ValueError(f"round() takes from -15 to 15 places, not {places}")
    rounded = Decimal(str(number)).quantize(Decimal(1).scaleb(-int(places)), ROUND_HALF_UP)
    return int(rounded) if places <= 0 else float(rounded)


def _zip(*lists: list[Json]) -> list[Json]:
    if len({len(one) for one in lists}) > 1:
        raise ValueError(
            f"zip() takes lists of one length, not of {', '.join(str(len(one)) for one in lists)}"
        )
    return [list(together) for together in zip(*lists, strict=True)]


def _split(text: str, separator: str) -> list[str]:
    return text.split(separator) if separator else list(text)


def _now() -> str:
    if not (time := _NOW.get()):
        raise ValueError("now() has no time here: only a running plan has a clock")
    return time


def _add_days(moment: str, days: Number) -> str:
    """Add days to a date or a time, in the form that it has."""
    try:
        if len(moment) == len("2026-01-31"):
            return (date.fromisoformat(moment) + timedelta(days=math.floor(days))).isoformat()
        precision = "milliseconds" if "." in moment else "seconds"
        return (datetime.fromisoformat(moment) + timedelta(days=days)).isoformat(timespec=precision)
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"add_days() takes a date like 2026-01-31, not {moment[:40]!r} and {days}: {error}"
        ) from error


# --- the table ---------------------------------------------------------------------------

_KINDS: Mapping[str, tuple[type, ...]] = {"number": (int, float), "string": (str,), "array": (list,)}


@dataclass(frozen=True)
class _Added:
    """A function, what it takes, and how many of its arguments may be left out."""

    does: Callable[..., Json]
    takes: Sequence[str]
    more: bool = False
    optional: int = 0

    @property
    def signature(self) -> list[dict[str, Any]]:
        """Return the signature in JMESPath's form."""
        kinds: list[dict[str, Any]] = [
            {"types": [kind]} for kind in self.takes[: len(self.takes) - self.optional]
        ]
        if self.more or self.optional:
            kinds[-1]["variadic"] = True
        return kinds


ADDED: Mapping[str, _Added] = {
    "add": _Added(_add, ["number", "number"], more=True),
    "subtract": _Added(_subtract, ["number", "number"]),
    "multiply": _Added(_multiply, ["number", "number"], more=True),
    "divide": _Added(_divide, ["number", "number"]),
    "round": _Added(_round, ["number", "number"], optional=1),
    "upper": _Added(str.upper, ["string"]),
    "lower": _Added(str.lower, ["string"]),
    "trim": _Added(str.strip, ["string"]),
    "split": _Added(_split, ["string", "string"]),
    "replace": _Added(str.replace, ["string", "string", "string"]),
    "zip": _Added(_zip, ["array", "array"], more=True),
    "now": _Added(_now, []),
    "add_days": _Added(_add_days, ["string", "number"]),
}
"""Every function that is added, by its name."""

_LONGEST_TEXT, _LARGEST = 1_000_000, 10**30


def _is_moderate(number: Number) -> bool:
    return math.isfinite(number) and abs(number) < _LARGEST


def call_added(name: str, given: Sequence[Json]) -> Json:
    """Call one of the added functions.

    Raises:
        ValueError: If it takes other values, or what it gives is no number or too much.
    """
    added = ADDED[name]
    if len(given) > len(added.takes) and not added.more:
        raise ValueError(f"{name}() takes at most {len(added.takes)} argument(s), not {len(given)}")
    for at, value in enumerate(given):
        kind = added.takes[min(at, len(added.takes) - 1)]
        if not isinstance(value, _KINDS[kind]) or isinstance(value, bool):
            hint = "; write to_number(…) around a text" if kind == "number" and isinstance(value, str) else ""
            raise ValueError(f"{name}() takes a {kind}, not {type(value).__name__} {str(value)[:60]!r}{hint}")
        if isinstance(value, int | float) and not _is_moderate(value):
            raise ValueError(f"{name}() takes numbers below 1e30")
    if name == "replace" and len(given[0]) * (len(given[2]) + 1) > _LONGEST_TEXT:
        raise ValueError(f"what replace() gives could be longer than {_LONGEST_TEXT:,} characters")
    found = added.does(*given)
    if isinstance(found, int | float) and not _is_moderate(found):
        raise ValueError(f"what {name}() gives is too large")
    return found
