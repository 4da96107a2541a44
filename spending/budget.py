"""What a run spends, and the hard limits on it.

The meter reserves calls before they are made, so that parallel steps cannot overshoot
together, and starts from what earlier runs of the goal have spent. Where calls have a budget,
each one is on record before it is made: one that a crash cuts off is counted too. Tokens and
cost are known only after a call: each call under way may overshoot by what it uses.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

from langchain_core.messages import AIMessage, BaseMessage
from typing_extensions import TypedDict

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

from ..context import Context
from ..errors import BudgetExceededError
from ..models.limits import CallLimits
from ..state import Usage, add_usage
from .periods import Periods, Reserved, SoftLimit, amounts_of, worst_of
from .prices import PriceTable, answering_model

__all__ = ["BUDGETS", "Budget", "Calls", "Extension", "Meter", "Tab"]

Calls = dict[str, float]
"""``{"model_calls", "tool_calls"}``: calls that were begun; ``seconds`` of the goal by then, if limited."""
Budget = Literal["max_seconds", "max_model_calls", "max_tokens", "max_cost", "max_tool_calls"]
BUDGETS: tuple[Budget, ...] = get_args(Budget)


class Extension(TypedDict):
    """What a person added to a budget: how much in all, and what was used when they did so last."""

    by: float
    at: float


class _Book:
    """A count over several runs, recorded before the next call is made."""

    def __init__(self, counted: Mapping[str, Any], write: Callable[[Any], Awaitable[None]]) -> None:
        self.counted = dict(counted)
        self._write = write
        self._kept: dict[str, Any] = {}
        self._lock = asyncio.Lock()

    async def keep(self) -> None:
        if self.counted == self._kept:
            return
        async with self._lock:  # an older count must not overtake a newer one
            if self.counted != self._kept:
                counted = dict(self.counted)
                await self._write(counted)
                self._kept = counted


class Meter:
    """Counts a whole run against its budgets; steps and nodes spend through a :class:`Tab`."""

    def __init__(
        self,
        settings: Context,
        spent: Usage | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        unbooked_s: float = 0.0,
        calls: Mapping[str, float] | None = None,
        write_calls: Callable[[Calls], Awaitable[None]] | None = None,
        prices: PriceTable | None = None,
        extensions: Mapping[str, Extension] | None = None,
        periods: Periods | None = None,
    ) -> None:
        """Start a meter.

        Args:
            settings: The budgets.
            spent: What earlier runs of the goal have spent, as the state has it.
            clock: Seconds.
            unbooked_s: Seconds of earlier runs that are not in ``spent``.
            calls: Calls that earlier runs have begun, and their seconds, as they are on record.
            write_calls: Puts the calls begun on record; None where none of them has a budget.
            prices: What model calls cost; None: what is known of list prices.
            extensions: What a person has added to budgets of this goal.
            periods: What its tenant spends in a day and a month; None: nothing limits that.
        """
        self.extensions: dict[str, Extension] = dict(extensions or {})
        self.prices = prices or PriceTable()
        self.periods = periods
        self._settings = settings
        limits = {budget: getattr(settings, budget) for budget in BUDGETS}
        self._limits: dict[Budget, float] = {key: one for key, one in limits.items() if one is not None}
        self._clock = clock
        self._spent: Usage = add_usage({}, spent or {})
        self._reserved = 0
        begun: Mapping[str, Any] = calls or self._spent
        kinds = {kind: begun.get(kind, 0) for kind in ("model_calls", "tool_calls")}
        self._book = None if write_calls is None else _Book(kinds, write_calls)
        # A run that stopped at a question had spent time that no node could write down.
        # A killed run has recorded its seconds up to its last call.
        killed_s = (calls or {}).get("seconds", 0.0) - self._spent.get("seconds", 0.0)
        self._started = self._lap = clock() - max(unbooked_s, killed_s)

    def lap(self) -> float:
        """Return the seconds since the last lap (or the start), for the usage of a node."""
        now = self._clock()
        seconds, self._lap = now - self._lap, now
        return seconds

    def seconds(self) -> float:
        """Return the wall time of all runs of this thread's goal so far."""
        return self._spent.get("seconds", 0.0) + self._clock() - self._started

    def spent(self) -> dict[str, Any]:
        """Return the totals so far: calls, tokens, seconds of wall time, and cost where it is known."""
        totals = {key: self._spent.get(key, 0) for key in ("model_calls", "total_tokens", "tool_calls")}
        cost = {"cost": self._spent["cost"]} if "cost" in self._spent else {}
        return {**totals, "seconds": round(self.seconds(), 3), **cost}

    def limit(self, budget: Budget) -> float | None:
        """Return what a budget allows in all, with what a person has added to it; None: no such budget."""
        return self._limit(budget) if budget in self._limits else None

    def _limit(self, budget: Budget) -> float:
        limit, added = self._limits[budget], self.extensions.get(budget)
        return limit if added is None else limit + added["by"]

    def extend(self, budget: Budget, by: float) -> None:
        """Add to a budget; its soft share counts from here on for what is left of it."""
        earlier = self.extensions.get(budget)
        total = by + (earlier["by"] if earlier else 0.0)
        self.extensions[budget] = {"by": total, "at": self._used(budget)}

    def soft_limit(self, share: float) -> SoftLimit | None:
        """Return the first budget of which this share is used up, if there is one."""
        for budget in self._limits:
            limit, used, added = self._limit(budget), self._used(budget), self.extensions.get(budget)
            since = added["at"] if added else 0.0
            if used >= since + share * (limit - since):
                return SoftLimit(budget, used, limit)
        return self.periods.soft_limit(share) if self.periods is not None else None

    def _used(self, budget: Budget) -> float:
        match budget:
            case "max_seconds":
                return self.seconds()
            case "max_model_calls":
                return self._begun("model_calls")
            case "max_tool_calls":
                return self._begun("tool_calls")
            case "max_tokens":
                return self._spent.get("total_tokens", 0)
            case "max_cost":
                return round(self._spent.get("cost", 0.0), 9)

    def seconds_left(self) -> float | None:
        """Return the wall time that ``max_seconds`` leaves; None when there is no such budget."""
        limit = self.limit("max_seconds")
        return None if limit is None else max(0.0, limit - self.seconds())

    def call_limits(self) -> CallLimits:
        """Return what one model call may take: by the settings, and by what ``max_tokens`` leaves."""
        seconds, tokens = self._settings.call_timeout_s, self._settings.max_call_tokens
        limits = [] if tokens is None else [(tokens, f"max_call_tokens={tokens}")]
        if (limit := self.limit("max_tokens")) is not None:
            left = max(1, int(limit - self._used("max_tokens")))
            limits.append((left, f"what was left of max_tokens={limit:g}"))
        if self.periods is not None and (in_period := self.periods.tokens_left()) is not None:
            limits.append(in_period)
        return CallLimits(seconds, *min(limits, default=(None, "")))

    def out_of_time(self) -> BudgetExceededError:
        """Return the error of what was cut off when no seconds were left."""
        return BudgetExceededError("max_seconds", self.seconds(), self.limit("max_seconds") or 0.0)

    def exhausted(self) -> BudgetExceededError | None:
        """Return the first budget that leaves no room for a model call, if there is one."""
        over = self._first_over("max_seconds", "max_model_calls", "max_tokens", "max_cost")
        return over or (self.periods.exhausted() if self.periods is not None else None)

    def no_tool_call(self) -> BudgetExceededError | None:
        """Return the first budget that leaves no room for a tool call, if there is one."""
        return self._first_over("max_tool_calls", "max_seconds")

    def _begun(self, kind: Literal["model_calls", "tool_calls"]) -> int:
        """Count the calls that were begun, those under way included."""
        if self._book is not None:
            return int(self._book.counted[kind])
        return self._spent.get(kind, 0) + (self._reserved if kind == "model_calls" else 0)

    async def cover(
        self, model: BaseChatModel | None, messages: Sequence[BaseMessage], name: str = ""
    ) -> Reserved | None:
        """Reserve the worst of a call in what its tenant may spend.

        Args:
            model: The model that is called; None if only its name is known.
            messages: The messages of the request.
            name: The model's.

        Raises:
            BudgetExceededError: If a limit leaves no room.
        """
        if self.periods is None:
            return None
        limits = self.call_limits()
        worst = worst_of(self.prices, model, messages, limits, name)
        return await self.periods.reserve(worst, limits.seconds)

    async def settle(self, covered: Reserved | None, usage: Usage) -> None:
        """Book what a call used in the place of what was reserved for it."""
        if self.periods is not None and covered is not None:
            await self.periods.settle(covered, amounts_of(usage))

    def owe(self, usage: Usage) -> None:
        """Count in what the tenant may spend what a call uses for which nothing was reserved."""
        if self.periods is not None:
            self.periods.owe(amounts_of(usage))

    async def keep(self) -> None:
        """Record the calls begun, and the seconds, if they have a budget; book what is owed."""
        if self.periods is not None:
            await self.periods.pay()
        if self._book is None:
            return
        if self._settings.max_seconds is not None:
            self._book.counted["seconds"] = round(self.seconds(), 3)
        await self._book.keep()

    def _first_over(self, *budgets: Budget) -> BudgetExceededError | None:
        for budget in budgets:
            if budget in self._limits and (used := self._used(budget)) >= (limit := self._limit(budget)):
                return BudgetExceededError(budget, used, limit)
        return None

    def reserve_model_call(self) -> None:
        """Take room for one model call.

        Raises:
            BudgetExceededError: If a budget leaves none.
        """
        # For what the tenant may spend, it has room already.
        if error := self._first_over("max_seconds", "max_model_calls", "max_tokens", "max_cost"):
            raise error
        self._reserved += 1
        if self._book is not None:
            self._book.counted["model_calls"] += 1

    def reserve_tool_call(self) -> None:
        """Count one tool call before it is made.

        Raises:
            BudgetExceededError: If the budget of tool calls or of seconds leaves no room.
        """
        if error := self.no_tool_call():
            raise error
        self.spend({"tool_calls": 1})
        if self._book is not None:
            self._book.counted["tool_calls"] += 1

    def settle_model_call(self, usage: Usage) -> None:
        """Replace a reservation by what the call really used."""
        self._reserved -= 1
        self.spend(usage)

    def spend(self, usage: Usage) -> None:
        """Add what was used, without a check."""
        self._spent = add_usage(self._spent, usage)


class Tab:
    """What one node or step spends, counted on the run's meter as well.

    It is the ``ModelMeter`` that structured calls expect.

    Args:
        meter: The run's.
        earlier: Usage that the meter has counted already.
        write_others: Records the usage of calls that others make, because no conversation shows them.
    """

    def __init__(
        self,
        meter: Meter,
        earlier: Usage | None = None,
        write_others: Callable[[Usage], Awaitable[None]] | None = None,
    ) -> None:
        self._meter = meter
        self.usage: Usage = add_usage({}, earlier or {})
        self._by_others: dict[Hashable, tuple[str, str, Reserved | None]] = {}
        self._others = None if write_others is None else _Book({}, write_others)

    def reserve_model_call(self, role: str) -> None:  # noqa: ARG002 - the protocol names the role
        """Take room for one model call; raises BudgetExceededError."""
        self._meter.reserve_model_call()

    def record_model_call(self, role: str, message: AIMessage | None, model: BaseChatModel | None) -> None:
        """Count a model call, its tokens and its cost; ``message`` is None when the call failed."""
        self._record(self._usage_of(role, message, model))

    def _record(self, usage: Usage) -> None:
        self._meter.settle_model_call(usage)
        self.usage = add_usage(self.usage, usage)

    async def cover(self, model: BaseChatModel | None, messages: Sequence[BaseMessage]) -> Reserved | None:
        """Reserve the worst of a call in what its tenant may spend; raises BudgetExceededError."""
        return await self._meter.cover(model, messages)

    async def settle(
        self, covered: Reserved | None, message: AIMessage | None, model: BaseChatModel | None
    ) -> None:
        """Book what came of a call in the place of what was reserved for it."""
        if covered is not None:
            await self.settle_usage(covered, self._usage_of("", message, model))

    async def settle_usage(self, covered: Reserved | None, usage: Usage) -> None:
        """Replace the reservation for several calls by what they used."""
        await self._meter.settle(covered, usage)

    # Calls that others make, such as middleware; they report the start and the end of each.

    async def begin_call(
        self, call: Hashable, role: str, messages: Sequence[BaseMessage], name: str = ""
    ) -> None:
        """Count and record a call that begins.

        Args:
            call: The call's key.
            role: The role of the model.
            messages: The messages of the request.
            name: The model's name, if it is known before the answer.

        Raises:
            BudgetExceededError: If a budget leaves no room.
        """
        covered = await self._meter.cover(None, messages, name)
        try:
            self.begin_blocking_call(call, role, name, covered)
        except BudgetExceededError:
            await self.settle(covered, None, None)
            raise
        try:
            await self.keep()
        except BaseException:
            await self.end_call(call, None)  # Nobody reports the end of a call that could not begin.
            raise

    def begin_blocking_call(
        self, call: Hashable, role: str, name: str = "", covered: Reserved | None = None
    ) -> None:
        """Count a call without waiting for anything; what nothing covers is booked later.

        Raises:
            BudgetExceededError: If a budget leaves no room.
        """
        if covered is None and (error := self.exhausted()):
            raise error
        self.reserve_model_call(role)
        if covered is None:
            self._meter.owe({"model_calls": 1})
        self._by_others[call] = role, name, covered

    async def end_call(self, call: Hashable, said: AIMessage | None) -> None:
        """Count what a call used; ``said`` is None if it failed. Ignore a call that never began."""
        if call in self._by_others:
            role, name, covered = self._by_others.pop(call)
            usage = self._usage_of(role, said, None, name)
            self._record(usage)
            self._note_others(usage)
            if covered is None:
                self._meter.owe({**usage, "model_calls": 0})
            await self.settle_usage(covered, usage)

    def _note_others(self, usage: Usage) -> None:
        if self._others is not None:
            self._others.counted = dict(add_usage(self._others.counted, usage))  # type: ignore[arg-type]

    async def end_calls(self) -> None:
        """Count calls without a reported end as failed: LangChain reports none for a cancelled call.

        Return when what all calls used is on record.
        """
        for call in [*self._by_others]:
            await self.end_call(call, None)
        await self.keep()

    def take_over(self, usage: Usage) -> None:
        """Count what others used in an earlier entry of the same attempt."""
        self._meter.spend(usage)
        self.note(usage)
        self._note_others(usage)

    def _usage_of(
        self, role: str, message: AIMessage | None, model: BaseChatModel | None, name: str = ""
    ) -> Usage:
        metadata = message.usage_metadata if message is not None else None
        counted: dict[str, Any] = {
            "model_calls": 1,
            "input_tokens": metadata["input_tokens"] if metadata else 0,
            "output_tokens": metadata["output_tokens"] if metadata else 0,
        }
        cost = self._meter.prices.cost(model, message, name) if message is not None else None
        if cost is not None:
            counted["cost"] = cost
        total = counted["input_tokens"] + counted["output_tokens"]
        named = name or answering_model(message, model)
        by_model = {"by_model": {named: {**counted, "roles": {role: 1}}}} if named else {}
        return {**counted, "total_tokens": total, "by_role": {role: counted}, **by_model}  # type: ignore[typeddict-item]

    def exhausted(self) -> BudgetExceededError | None:
        """Return the first budget that leaves no room for a model call, if there is one."""
        return self._meter.exhausted()

    def no_tool_call(self) -> BudgetExceededError | None:
        """Return the first budget that leaves no room for a tool call, if there is one."""
        return self._meter.no_tool_call()

    def call_limits(self) -> CallLimits:
        """Return what one model call may take."""
        return self._meter.call_limits()

    def seconds_left(self) -> float | None:
        """Return the wall time that ``max_seconds`` leaves; None when there is no such budget."""
        return self._meter.seconds_left()

    def out_of_time(self) -> BudgetExceededError:
        """Return the error of a call that was cut off when no seconds were left."""
        return self._meter.out_of_time()

    def recover(self, role: str, messages: Any, model: BaseChatModel | None = None) -> Usage:
        """Count what an earlier entry of the same attempt spent, as its saved conversation shows it."""
        total: Usage = {}
        for message in messages:
            if isinstance(message, AIMessage):
                usage = self._usage_of(role, message, model)
            elif message.type == "tool":
                usage = {"tool_calls": 1}
            else:
                continue
            self._meter.spend(usage)
            self.usage = add_usage(self.usage, usage)
            total = add_usage(total, usage)
        return total

    def tool_call(self) -> None:
        """Count one tool call; raises BudgetExceededError."""
        self._meter.reserve_tool_call()
        self.usage = add_usage(self.usage, {"tool_calls": 1})

    def note(self, usage: Usage) -> None:
        """Add what was counted on the run's meter elsewhere."""
        self.usage = add_usage(self.usage, usage)

    async def keep(self) -> None:
        """Record the counted calls that have a budget or that others made."""
        await self._meter.keep()
        if self._others is not None:
            await self._others.keep()

    def close(self) -> Usage:
        """Return what was spent, with the wall time since the run's last lap."""
        return add_usage(self.usage, {"seconds": round(self._meter.lap(), 4)})
