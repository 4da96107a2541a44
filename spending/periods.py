"""What a tenant spends in a day and a month (UTC), over all threads and processes, against hard limits.

One row of the store holds a tenant's month. Before a call its worst is reserved there, in one step with
the look at what is left; afterwards what it used takes the place of that. What a killed process had
reserved stays counted. Near a limit calls wait for each other, as most use less than their worst; a call
whose worst is more than what is left is made alone. So the last call may go over a limit, and no other.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args
from uuid import uuid4

from langchain_core.messages import AIMessage, BaseMessage
from langgraph.store.base import BaseStore

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

from ..context import Context, SpendLimit
from ..errors import BudgetExceededError
from ..models.limits import CallLimits
from ..state import Usage
from ..storage.rows import ROOT, change, encode, read
from .prices import PriceTable

__all__ = ["Periods", "Reserved", "SoftLimit", "amounts_of", "spent_in_words", "worst_of"]

Amounts = dict[str, float]
"""``{"max_cost", "max_tokens", "max_model_calls"}``: what counts against a limit of that name."""
Row = dict[str, Any]
PeriodBudget = Literal[
    "max_cost per day",
    "max_tokens per day",
    "max_model_calls per day",
    "max_cost per month",
    "max_tokens per month",
    "max_model_calls per month",
]
_BUDGETS: tuple[PeriodBudget, ...] = get_args(PeriodBudget)

ANSWER_TOKENS = 4096
"""What an answer is taken to be at worst where nothing limits it."""
_BYTES_PER_TOKEN = 3
"""A low guess, as a reservation must not be less than the call: English has 4, JSON and code about 3."""
_UNDER_WAY_S = 3600.0
"""How long a call without a time limit is taken to be under way."""
_LOOK_S = (0.02, 0.5)
"""How long is waited between looks for room, at first and at most."""


@dataclass(frozen=True)
class SoftLimit:
    """A budget whose soft share is used up: what it is, what was used, and its limit."""

    budget: str
    used: float
    limit: float


class Reserved(NamedTuple):
    """A reservation: the month whose row holds it, and its id there."""

    month: str
    id: str


class _Limit(NamedTuple):
    budget: PeriodBudget
    limit: float

    @property
    def what(self) -> str:
        return self.budget.split(" ")[0]

    @property
    def per(self) -> str:
        return self.budget.rsplit(" ", 1)[1]


class Periods:
    """A tenant's spending against the limits of one run; ``row`` is the month as it was seen last."""

    def __init__(
        self,
        store: BaseStore,
        tenant: str,
        limits: Sequence[SpendLimit],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.tenant = tenant
        self._store = store
        self._limits = [*_in_order(limits)]
        self._now = now
        self._month, self._row = "", Row()
        self._owed: dict[tuple[str, str], Amounts] = {}
        """What calls used that could not wait for the store, by month and day."""

    @property
    def _space(self) -> tuple[str, ...]:
        return (ROOT, "spend", encode(self.tenant))

    async def refresh(self) -> None:
        """Look at what the tenant has spent, over all its runs."""
        self._see(self._key(), await read(self._store, self._space, self._key()))

    def _key(self) -> str:
        return f"{self._now():%Y-%m}"

    def _see(self, month: str, row: Row | None) -> None:
        self._month, self._row = month, row or {}

    # --- calls ---------------------------------------------------------------------------

    async def reserve(self, worst: Amounts, seconds: float | None) -> Reserved:
        """Take room for one call; wait while calls under way may yet leave some.

        Args:
            worst: What it may use.
            seconds: How long it may take; None: any time.

        Raises:
            BudgetExceededError: If a limit leaves no room.
        """
        await self.pay()
        wait_s, call = _LOOK_S[0], uuid4().hex
        while True:
            month, now = self._key(), self._now()
            ends = now.timestamp() + (seconds or _UNDER_WAY_S)
            mine = {"day": f"{now:%d}", "worst": worst, "until": ends}

            def take(row: Row | None, mine: Row = mine, now: datetime = now) -> Row | None:
                month_now = row or {}
                if not self._has_room(month_now, worst, now):
                    return None
                return {**month_now, "open": {**month_now.get("open", {}), call: mine}}

            row = await change(self._store, self._space, month, take)
            self._see(month, row)
            if call in self._row.get("open", {}):
                return Reserved(month, call)
            if error := self.exhausted():
                raise error
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _LOOK_S[1])

    def _has_room(self, row: Row, worst: Amounts, now: datetime) -> bool:
        if self._first_over(row, now) is not None:
            return False
        under_way = any(one["until"] >= now.timestamp() for one in row.get("open", {}).values())
        fits = all(
            round(_used(row, one, now, all_open=True) + worst.get(one.what, 0), 9) <= _limit_of(row, one, now)
            for one in self._limits
        )
        return fits or not under_way

    async def settle(self, reserved: Reserved, used: Amounts) -> None:
        """Put what a call used in the place of what was reserved for it."""

        def book(row: Row | None) -> Row | None:
            month = row or {}
            open_ = dict(month.get("open", {}))
            mine = open_.pop(reserved.id, None)
            if mine is None:
                return None
            return {**_booked(month, mine["day"], used), "open": open_}

        self._see(reserved.month, await change(self._store, self._space, reserved.month, book))

    def owe(self, used: Amounts) -> None:
        """Count what a call uses that cannot wait for the store, because code blocks the event loop."""
        self._add_debt((self._key(), f"{self._now():%d}"), used)

    def _add_debt(self, of: tuple[str, str], used: Amounts) -> None:
        self._owed[of] = _sum_of(self._owed.get(of, {}), used)

    async def pay(self) -> None:
        """Book what is owed."""
        while self._owed:
            (month, day), used = self._owed.popitem()

            def book(row: Row | None, day: str = day, used: Amounts = used) -> Row:
                return _booked(row or {}, day, used)

            try:
                self._see(month, await change(self._store, self._space, month, book))
            except BaseException:
                self._add_debt((month, day), used)
                raise

    # --- limits --------------------------------------------------------------------------

    def exhausted(self) -> BudgetExceededError | None:
        """Return the first limit that leaves no room, as it was seen last."""
        now = self._now()
        return self._first_over(self._row_now(), now)

    def _row_now(self) -> Row:
        row = self._row if self._month == self._key() else {}
        for (month, day), used in self._owed.items():
            row = _booked(row, day, used) if month == self._key() else row
        return row

    def _first_over(self, row: Row, now: datetime) -> BudgetExceededError | None:
        for one in self._limits:
            used, limit = _used(row, one, now), _limit_of(row, one, now)
            if used >= limit:
                return BudgetExceededError(one.budget, used, limit)
        return None

    def tokens_left(self) -> tuple[int, str] | None:
        """Return the fewest tokens that a limit leaves, and that limit."""
        now, row = self._now(), self._row_now()
        left = [
            (max(1, int(_limit_of(row, one, now) - _used(row, one, now))), f"what was left of {one.budget}")
            for one in self._limits
            if one.what == "max_tokens"
        ]
        return min(left, default=None)

    def soft_limit(self, share: float) -> SoftLimit | None:
        """Return the first limit of which this share is used up, if there is one."""
        now, row = self._now(), self._row_now()
        for one in self._limits:
            limit, used = _limit_of(row, one, now), _used(row, one, now)
            since = row.get("extended", {}).get(_key_of(one, now), {}).get("at", 0)
            if used >= since + share * (limit - since):
                return SoftLimit(one.budget, used, limit)
        return None

    async def extend(self, budget: str, by: float) -> None:
        """Add to a limit of the tenant, for the rest of the period and for all its runs."""
        one, now = next(limit for limit in self._limits if limit.budget == budget), self._now()
        key = _key_of(one, now)

        def add(row: Row | None) -> Row:
            month = row or {}
            extended = month.get("extended", {})
            total = extended.get(key, {}).get("by", 0) + by
            added = {"by": total, "at": _used(month, one, now)}
            return {**month, "extended": {**extended, key: added}}

        self._see(self._key(), await change(self._store, self._space, self._key(), add))

    def in_words(self) -> Iterator[str]:
        """Say what is spent of each limit, as it was seen last."""
        now, row = self._now(), self._row_now()
        whose = f" by {self.tenant}" if self.tenant else ""
        for one in self._limits:
            period = f"{now:%Y-%m-%d}" if one.per == "day" else f"{now:%Y-%m}"
            used, limit = _used(row, one, now), _limit_of(row, one, now)
            yield f"{one.what.removeprefix('max_')} in {period}{whose}: {used:g} of {limit:g}"


async def spent_in_words(store: BaseStore, settings: Mapping[str, Any] | None) -> list[str]:
    """Say what the tenant of a thread has spent of each limit that its settings name, over all threads."""
    known = Context(**settings) if settings else Context()
    if not known.spend_limits:
        return []
    periods = Periods(store, known.tenant or "", known.spend_limits)
    await periods.refresh()
    return list(periods.in_words())


def _in_order(limits: Sequence[SpendLimit]) -> Iterator[_Limit]:
    """List the limits by budget, the lowest where several name one."""
    for budget in _BUDGETS:
        what, _, per = budget.split(" ")
        given = [getattr(one, what) for one in limits if one.per == per]
        if known := [limit for limit in given if limit is not None]:
            yield _Limit(budget, min(known))


def _sum_of(one: Amounts, other: Amounts) -> Amounts:
    return {key: one.get(key, 0) + other.get(key, 0) for key in {*one, *other}}


def _booked(row: Row, day: str, used: Amounts) -> Row:
    days = row.get("days", {})
    return {**row, "days": {**days, day: _sum_of(days.get(day, {}), used)}}


def _key_of(one: _Limit, now: datetime) -> str:
    return f"{now:%d} {one.what}" if one.per == "day" else one.what


def _limit_of(row: Row, one: _Limit, now: datetime) -> float:
    added: float = row.get("extended", {}).get(_key_of(one, now), {}).get("by", 0)
    return round(one.limit + added, 9)


def _used(row: Row, one: _Limit, now: datetime, *, all_open: bool = False) -> float:
    """Add up what is booked, and reserved: by calls that will not come back, or by all."""
    this_day = f"{now:%d}"
    booked = sum(
        day.get(one.what, 0)
        for name, day in row.get("days", {}).items()
        if one.per == "month" or name == this_day
    )
    reserved = sum(
        call["worst"].get(one.what, 0)
        for call in row.get("open", {}).values()
        if (one.per == "month" or call["day"] == this_day) and (all_open or call["until"] < now.timestamp())
    )
    return round(float(booked + reserved), 9)  # ten cents are not a hair less than ten times one cent


def worst_of(
    prices: PriceTable,
    model: BaseChatModel | None,
    messages: Sequence[BaseMessage],
    limits: CallLimits,
    name: str = "",
) -> Amounts:
    """Say what a call may use: what it sends, by its length, and the longest answer that it may get."""
    sent = sum(len(_text(message).encode("utf-8", "surrogatepass")) for message in messages)
    given, answer = sent // _BYTES_PER_TOKEN + 1, limits.tokens or ANSWER_TOKENS
    tokens: Any = {"input_tokens": given, "output_tokens": answer, "total_tokens": given + answer}
    cost = prices.cost(model, AIMessage("", usage_metadata=tokens), name)
    return {"max_model_calls": 1, "max_tokens": given + answer, "max_cost": cost or 0.0}


def _text(message: BaseMessage) -> str:
    content = message.content
    return content if isinstance(content, str) else json.dumps(content, default=str, ensure_ascii=False)


def amounts_of(usage: Usage | Mapping[str, Any]) -> Amounts:
    """Say what the usage of a call counts against limits."""
    return {
        "max_model_calls": usage.get("model_calls", 0),
        "max_tokens": usage.get("total_tokens", 0),
        "max_cost": usage.get("cost", 0.0),
    }
