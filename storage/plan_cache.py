"""Keep plans that worked in a LangGraph store until they expire."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from ..errors import ConfigurationError, StorageDamagedError
from ..state import Plan
from .rows import ROOT, decode, deletion, encode, load, put, search

if TYPE_CHECKING:
    # Who only reads a time does not load LangGraph.
    from langgraph.store.base import BaseStore, Item

__all__ = [
    "DEFAULT_NAMESPACE",
    "FORMAT",
    "CachedPlan",
    "CachedPlans",
    "ListedPlan",
    "PlanCache",
    "UnreadablePlanError",
    "list_cached_plans",
    "read_duration",
    "say_duration",
    "time_ago",
    "to_plan_cache",
]

FORMAT = 1
"""Format of the entries; entries in another format are ignored."""
DEFAULT_NAMESPACE = "default"

_ENTRIES = (ROOT, "cached_plans")
_HITS = (ROOT, "cached_plan_hits")
_CLOCK_TOLERANCE_S = 300.0
"""How far in the future an entry may be dated, because clocks are set and machines differ."""


@dataclass(frozen=True)
class PlanCache:
    """How plans that worked are kept and used again.

    Attributes:
        ttl_s: Seconds for which a plan may be used after the run in which it worked. Use does not extend it.
        namespace: The tenant; a plan is never used in another one. A function gets the run's
            ``config["configurable"]`` and returns it, for an agent that serves several tenants.
        max_entries: Plans kept per namespace; beyond that, the oldest are dropped.
        now: Seconds since the epoch.
    """

    ttl_s: float = 7 * 86400.0
    namespace: str | Callable[[Mapping[str, Any]], str] = DEFAULT_NAMESPACE
    max_entries: int = 1000
    now: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        if not (_is_number(self.ttl_s) and 0 < self.ttl_s < math.inf):
            raise ConfigurationError(f"plan_cache: ttl_s must be a number above 0, not {self.ttl_s!r}")
        if not isinstance(self.max_entries, int) or self.max_entries < 1:
            raise ConfigurationError(f"plan_cache: max_entries must be at least 1, not {self.max_entries!r}")
        if not callable(self.namespace):
            _checked(self.namespace)

    def namespace_of(self, configurable: Mapping[str, Any]) -> str:
        """Return the tenant of a run.

        Raises:
            ConfigurationError: If the function that chooses it returns no text.
        """
        return _checked(self.namespace(configurable) if callable(self.namespace) else self.namespace)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _checked(namespace: object) -> str:
    if not isinstance(namespace, str) or not namespace:
        raise ConfigurationError(f"plan_cache: the namespace must be a text, not {namespace!r}")
    return namespace


def to_plan_cache(given: PlanCache | timedelta | float | None) -> PlanCache | None:
    """Read an embedder's ``plan_cache``; None if plans are not kept.

    Raises:
        ConfigurationError: If it is something else.
    """
    if given is None or isinstance(given, PlanCache):
        return given
    if isinstance(given, timedelta):
        return PlanCache(given.total_seconds())
    if _is_number(given):
        return PlanCache(float(given))
    raise ConfigurationError(
        f"plan_cache must be a PlanCache, a timedelta, seconds or None, not {type(given).__name__}"
    )


class UnreadablePlanError(Exception):
    """An entry that is damaged, or that another version wrote."""


@dataclass(frozen=True)
class CachedPlan:
    """A plan that worked; times in seconds since the epoch.

    Attributes:
        goal: The goal as it was given.
        plan: The plan's steps, inputs and rationale.
        model: The planner that wrote it.
        thread_id: The thread in which it worked.
        stored_at: When that was.
        expires_at: From this time on it may not be used.
    """

    goal: str
    plan: Plan
    model: str
    thread_id: str
    stored_at: float
    expires_at: float


class _Row(TypedDict):
    format: int
    goal: str
    plan: Plan
    model: str
    thread_id: str
    stored_at: float
    expires_at: float


@cache
def _row_adapter() -> TypeAdapter[_Row]:
    return TypeAdapter(_Row)


class CachedPlans:
    """The entries of one tenant, in a store whose async methods work (see `async_store`)."""

    def __init__(self, store: BaseStore, namespace: str) -> None:
        self.store = store
        self.namespace = namespace

    async def find(self, key: str, *, now: float, ttl_s: float) -> CachedPlan | None:
        """Return the entry of a key if it may still be used ``now``.

        Args:
            key: The key (see ``plan/reuse.py``).
            now: Seconds since the epoch, by our clock, because not every store expires entries.
            ttl_s: The reader's limit; the writer's holds too.

        Raises:
            UnreadablePlanError: If there is an entry that cannot be read.
        """
        item = await self.store.aget(self._entries, encode(key))
        if item is None:
            return None
        found = _read(item)
        usable = -_CLOCK_TOLERANCE_S <= now - found.stored_at < ttl_s and now < found.expires_at
        return found if usable else None

    async def keep(self, key: str, entry: CachedPlan, *, max_entries: int) -> None:
        """Keep a plan; drop expired plans, and the oldest beyond ``max_entries``."""
        row = {"format": FORMAT, **vars(entry)}
        await self.store.abatch([put(self._entries, key, row)])
        # An unreadable entry may belong to another version, so it is left alone.
        others = {
            item.key: other
            for item in await search(self.store, self._entries)
            if item.key != encode(key) and (other := _read_or_none(item)) is not None
        }
        fresh = [name for name, other in others.items() if other.expires_at > entry.stored_at]
        fresh.sort(key=lambda name: others[name].stored_at, reverse=True)
        await self._delete(set(others) - set(fresh[: max_entries - 1]))

    async def drop(self, key: str, *, stored_at: float | None = None) -> bool:
        """Drop an entry, or only the one of ``stored_at``, and tell whether it existed."""
        item = await self.store.aget(self._entries, encode(key))
        if item is None:
            return False
        found = _read_or_none(item)
        if stored_at is not None and found is not None and found.stored_at != stored_at:
            return False  # Another run has stored another plan since.
        await self._delete([encode(key)])
        return True

    async def count_hit(self, key: str) -> None:
        """Count a use of an entry; the count is stored separately, so that it never restores an entry."""
        item = await self.store.aget(self._hits, encode(key))
        await self.store.abatch([put(self._hits, key, {"hits": _hits(item) + 1})])

    @property
    def _entries(self) -> tuple[str, ...]:
        return (*_ENTRIES, encode(self.namespace))

    @property
    def _hits(self) -> tuple[str, ...]:
        return (*_HITS, encode(self.namespace))

    async def _delete(self, keys: Any) -> None:
        deletions = [deletion(space, key) for key in keys for space in (self._entries, self._hits)]
        if deletions:
            await self.store.abatch(deletions)


@dataclass(frozen=True)
class ListedPlan:
    """An entry for a person to see; if it cannot be read, ``plan`` is None and ``problem`` says why."""

    namespace: str
    key: str
    hits: int
    plan: CachedPlan | None
    problem: str = ""


async def list_cached_plans(store: BaseStore, namespace: str | None = None) -> list[ListedPlan]:
    """List the entries of one tenant, or of all, the newest first."""
    hits = {(item.namespace[-1], item.key): item for item in await search(store, _HITS, below=True)}
    listed = [
        _listed(item, hits.get((item.namespace[-1], item.key)))
        for item in await search(store, _ENTRIES, below=True)
    ]
    listed.sort(key=lambda entry: -entry.plan.stored_at if entry.plan else 0.0)
    return [entry for entry in listed if namespace is None or entry.namespace == namespace]


def _listed(item: Item, hits: Item | None) -> ListedPlan:
    place = {"namespace": decode(item.namespace[-1]), "key": decode(item.key)}
    try:
        return ListedPlan(**place, hits=_hits(hits), plan=_read(item))
    except UnreadablePlanError as error:
        return ListedPlan(**place, hits=_hits(hits), plan=None, problem=str(error))


def _hits(item: Item | None) -> int:
    try:
        return int(load(item)["hits"]) if item is not None else 0
    except (KeyError, TypeError, ValueError, StorageDamagedError):
        return 0  # A damaged count starts again, because nothing depends on it.


def _read(item: Item) -> CachedPlan:
    try:
        row = json.loads(item.value["json"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise UnreadablePlanError("it is not JSON text") from error
    version = row.get("format") if isinstance(row, dict) else None
    if version != FORMAT:
        raise UnreadablePlanError(f"it has the format {version!r}; this plan_execute reads format {FORMAT}")
    try:
        checked = dict(_row_adapter().validate_python(row, strict=True))
    except ValidationError as error:
        first = error.errors()[0]
        raise UnreadablePlanError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    return CachedPlan(**{name: value for name, value in checked.items() if name != "format"})  # type: ignore[arg-type]


def _read_or_none(item: Item) -> CachedPlan | None:
    try:
        return _read(item)
    except UnreadablePlanError:
        return None


# --- how long a plan is kept --------------------------------------------------------------

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_NAMES = {"d": "day", "h": "hour", "m": "minute", "s": "second"}


def read_duration(text: str) -> float:
    """Read a length of time such as ``90s``, ``1.5h`` or ``7d`` and return it in seconds.

    Raises:
        ConfigurationError: If it is not a length of time above zero.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd])\s*", text, re.ASCII)
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 0.0 < seconds < float("inf"):
        raise ConfigurationError(f"{text!r} is not a length of time: write a number above 0 and s, m, h or d")
    return seconds


def time_ago(text: str, now: datetime) -> datetime:
    """Return the moment that was so long ago; the beginning of the calendar at most.

    Raises:
        ConfigurationError: If the text is no length of time.
    """
    seconds = read_duration(text)
    first = datetime.min.replace(tzinfo=now.tzinfo)
    return first if seconds > (now - first).total_seconds() else now - timedelta(seconds=seconds)


def say_duration(seconds: float) -> str:
    """Say a length of time in its largest whole unit: ``2 days``; below a second: ``0 seconds``."""
    unit = next((unit for unit, size in _UNITS.items() if seconds >= size), "s")
    count = int(max(seconds, 0.0) // _UNITS[unit])
    return f"{count} {_NAMES[unit]}{'' if count == 1 else 's'}"
