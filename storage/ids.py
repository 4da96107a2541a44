"""Make ids of threads, of checkpoints with their times, of pieces of work and of their calls."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from ..errors import ConfigurationError, InvalidInputError
from ..langgraph_private import sort_ids_after
from .rows import dump

__all__ = [
    "LONGEST_ID",
    "CallId",
    "Place",
    "WorkId",
    "checked_thread_id",
    "checkpoint_time",
    "path_as_json",
    "sort_after",
    "thread_id_of",
]

LONGEST_ID = 512
"""Bytes in UTF-8: PostgreSQL's indexes take about 2,700, and escaping in a store's labels triples them."""


def thread_id_of(configurable: Mapping[str, Any]) -> str:
    """Return the id of a config's thread.

    Raises:
        ConfigurationError: If it names none.
        InvalidInputError: If no storage could store it.
    """
    if configurable.get("thread_id") is None:
        raise ConfigurationError(
            'a graph with a checkpointer needs {"configurable": {"thread_id": …}} in its config'
        )
    return checked_thread_id(configurable["thread_id"])


def checked_thread_id(given: object) -> str:
    """Return a thread's id as text.

    Raises:
        InvalidInputError: If it is blank, too long, or contains something that no storage could store.
    """
    thread_id = str(given)
    size = len(thread_id.encode(errors="surrogatepass"))
    if not thread_id.strip():
        problem = "is empty"
    elif "\0" in thread_id:
        problem = "holds a NUL character"
    elif _SURROGATE.search(thread_id):
        problem = "holds a lone surrogate, which is not Unicode text"
    elif size > LONGEST_ID:
        problem = f"has {size:,} bytes in UTF-8; at most {LONGEST_ID} are allowed"
    else:
        return thread_id
    shown = repr(thread_id) if len(thread_id) <= 60 else f"{thread_id[:60]!r}…"
    raise InvalidInputError(f"the thread_id {problem}: {shown}")


_SURROGATE = re.compile("[\ud800-\udfff]")

_EPOCH = datetime(1582, 10, 15, tzinfo=UTC)
"""The zero of the time in checkpoint ids, by which LangGraph sorts checkpoints."""


def checkpoint_time(checkpoint_id: str) -> datetime | None:
    """Return the time in a checkpoint's id; None for an id without a time."""
    ticks = _ticks(checkpoint_id)
    return None if ticks is None else _EPOCH + timedelta(microseconds=ticks // 10)


def sort_after(checkpoint_id: str) -> None:
    """Make sure that this process's next checkpoints sort after this one.

    If the clock went back, new ones would count as older ones, and the thread would make no progress.
    """
    ticks = _ticks(checkpoint_id)
    if ticks is not None:
        sort_ids_after(ticks)


def _ticks(checkpoint_id: str) -> int | None:
    try:
        number = UUID(checkpoint_id)
    except ValueError:
        return None
    if number.version != 6:
        return None
    # RFC 9562 §5.6: 48 high bits, the version, 12 low bits, counting 100 ns since 1582-10-15.
    return (number.int >> 80) << 12 | (number.int >> 64) & 0xFFF


# --- work and calls -------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """One level on the way from the root plan down to a piece of work.

    Attributes:
        step_id: The step.
        item: The item of a ``for_each``, from 0; None without one.
        attempt: The number of the attempt, from 1.
        asked: Fingerprint of what an agent or a planner was asked; "" for a bound step.
    """

    step_id: str
    item: int | None
    attempt: int
    asked: str = ""

    def as_json(self) -> list[Any]:
        """Return it as plain JSON, for the key of a row."""
        return [self.step_id, self.item, self.attempt, self.asked]


@dataclass(frozen=True)
class WorkId:
    """Identifies one piece of work: the same in every process, superstep, fork and revision.

    Attributes:
        thread_id: The thread.
        plan_id: The root plan.
        path: The steps on the way to it, the outermost first.
    """

    thread_id: str
    plan_id: str
    path: tuple[Place, ...] = ()

    def at(self, place: Place) -> WorkId:
        """Return the identity of work at a place within this work."""
        return replace(self, path=(*self.path, place))

    @property
    def digest(self) -> str:
        """The SHA-256 of all of it, as 32 hexadecimal digits."""
        return _digest([self.thread_id, self.plan_id, path_as_json(self.path)])[:32]


@dataclass(frozen=True)
class CallId:
    """Identifies one call of a tool that has an effect.

    Attributes:
        work: The work that makes the call.
        content: Fingerprint of the tool and its arguments.
        order: Number of this call among the agent's calls with the same content, from 0; None: the
            step's own.
        instead_of: Fingerprint of the agent's own request, if somebody changed it; else "".
    """

    work: WorkId
    content: str
    order: int | None = None
    instead_of: str = ""

    def run_within(self, number: int) -> WorkId:
        """Return the identity of a run that the tool starts, counted from 1."""
        return self.work.at(Place(self._as_step, self.order, number))

    def encloses(self, other: CallId) -> bool:
        """Tell whether this call's tool started the run in which the other call is made."""
        depth, path = len(self.work.path), other.work.path
        if self.work.plan_id != other.work.plan_id:
            return False
        return path[:depth] == self.work.path and len(path) > depth and path[depth].step_id == self._as_step

    @property
    def _as_step(self) -> str:
        return " ".join(["call", self.content, *self._changed])

    @property
    def _changed(self) -> list[str]:
        return [self.instead_of] if self.instead_of else []

    @property
    def row_key(self) -> str:
        """The key of the call's row among the rows of its root plan."""
        return dump([path_as_json(self.work.path), self.content, self.order, *self._changed])

    @property
    def idempotency_key(self) -> str:
        """The SHA-256 of all of it in hexadecimal: the same in every process and after every crash."""
        return _digest([self.work.thread_id, self.work.plan_id, self.row_key])


def path_as_json(path: Iterable[Place]) -> list[Any]:
    """Return a path as plain JSON."""
    return [place.as_json() for place in path]


def _digest(value: Any) -> str:
    return hashlib.sha256(dump(value).encode()).hexdigest()
