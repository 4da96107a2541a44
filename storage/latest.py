"""Read where a thread stands in a local database without LangGraph, whose import takes longer than the look.

What is in another form than this version of the graph writes it in is left to LangGraph.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ..langgraph_private import (
    CHECKPOINT_VERSION,
    ENTRY,
    INTERRUPTS,
    NEXT_NODE,
    NO_TASK,
    NO_WRITES,
    NOT_OUTPUT,
    OVERWRITE,
    SENT_TASKS,
    StoredQuestion,
    place_of_task,
    unpacked,
)
from ..state import State, add_usage, append, merge_by_id
from .artifacts import HANDLE, unwrapped
from .parts import DIVIDED, TOGETHER, find_part, part_digest, unite, with_versions
from .sqlite import Database, is_held

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.types import StateSnapshot

__all__ = [
    "LOOKED_AT",
    "NODES",
    "REDUCERS",
    "Latest",
    "StoredRows",
    "StoredThreads",
    "ThreadSource",
    "latest",
]

NODES = (
    ENTRY,
    "planner",
    "validator",
    "approval",
    "dispatcher",
    "executor",
    "evaluator",
    "replanner",
    "synthesizer",
)
"""The graph's nodes, in its order."""

REDUCERS: dict[str, tuple[Callable[[Any, Any], Any], type]] = {
    "results": (merge_by_id, dict),
    "decisions": (merge_by_id, dict),
    "usage": (add_usage, dict),
    "audit": (append, list),
}
"""How fields of the state take an update, and of what type they are; an update replaces other fields."""

_UNREAD = "messages"
LOOKED_AT = frozenset(State.__annotations__) - {_UNREAD}
"""The fields that are read: not the messages, which are objects of LangChain."""

_TRIGGERS = {node: ENTRY if node == ENTRY else NEXT_NODE + node for node in NODES}
_CHANNELS = LOOKED_AT | {_UNREAD, SENT_TASKS, *_TRIGGERS.values()}

_CHECKPOINT = (
    "SELECT checkpoint_id, type, checkpoint FROM checkpoints"
    " WHERE thread_id = ? AND checkpoint_ns = '' ORDER BY checkpoint_id DESC LIMIT 1"
)
_VALUE = (
    "SELECT type, value FROM checkpoint_blobs"
    " WHERE thread_id = ? AND checkpoint_ns = '' AND channel = ? AND version = ?"
)
_WRITES = (
    "SELECT task_id, task_path, channel, type, value FROM writes"
    " WHERE thread_id = ? AND checkpoint_ns = '' AND checkpoint_id = ? ORDER BY task_path, task_id, idx"
)


class Latest(NamedTuple):
    """What is looked at of LangGraph's ``StateSnapshot``.

    Attributes:
        values: The state without its messages, with the updates of tasks that have ended.
        next: The nodes of the tasks that have not ended.
        tasks: The nodes of all tasks.
        interrupts: The open questions.
        created_at: When it was written; None: there is no such thread.
        config: Names the thread.
    """

    values: dict[str, Any]
    next: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    interrupts: tuple[StoredQuestion, ...] = ()
    created_at: str | None = None
    config: Mapping[str, Any] = {}


def latest(database: Database, thread_id: str) -> Latest | None:
    """Read the latest state of a thread; None: only LangGraph can read it."""
    with database.transaction(write=False) as cursor:
        try:
            found = cursor.execute(_CHECKPOINT, (thread_id,)).fetchone()
            return Latest({}) if found is None else _Reading(cursor, thread_id, *found).state()
        except (AttributeError, LookupError, TypeError, ValueError, sqlite3.OperationalError):
            return None


class _Reading:
    """One checkpoint that is read; any error means that it is in another form."""

    def __init__(self, cursor: sqlite3.Cursor, thread_id: str, id: str, kind: str, packed: bytes) -> None:
        self._cursor = cursor
        self._address = (thread_id, id)
        self._checkpoint = with_versions(unpacked(kind, packed))
        self._held = self._checkpoint["channel_values"]
        self._apart = self._checkpoint["channels_apart"]
        self._versions = self._checkpoint["channel_versions"]
        self._channels = {*self._held, *self._apart}
        known = _CHANNELS.issuperset([*self._versions, *self._channels])
        if self._checkpoint["v"] != CHECKPOINT_VERSION or not known:
            raise ValueError(self._checkpoint["v"])

    def state(self) -> Latest:
        """Read it, and apply what tasks have written since."""
        values = {name: kind() for name, (_, kind) in REDUCERS.items()}
        values |= {name: self._value(name) for name in LOOKED_AT & self._channels}
        tasks = self._tasks()
        ended, questions, updates = set(), {}, []
        for task_id, path, channel, kind, packed in self._writes():
            task = None if task_id == NO_TASK else place_of_task(path)
            if task is not None and task not in tasks:
                continue  # LangGraph does not count it either.
            if channel == INTERRUPTS:
                questions[task] = [StoredQuestion(*one) for one in self._load(kind, packed)]
            elif channel not in NOT_OUTPUT:
                ended.add(task)
                if channel in LOOKED_AT:
                    updates.append((channel, self._load(kind, packed)))
                elif channel not in _CHANNELS and channel != NO_WRITES:
                    raise ValueError(channel)
        _apply(values, updates)
        left = [task for task in tasks if task not in ended]
        return Latest(
            values,
            tuple(tasks[task] for task in left),
            tuple(tasks.values()),
            tuple(one for task in left for one in questions.get(task, ())),
            self._checkpoint["ts"],
            {"configurable": {"thread_id": self._address[0]}},
        )

    def _value(self, channel: str) -> Any:
        if channel not in self._apart:
            return self._held[channel]
        key = (self._address[0], channel, str(self._versions[channel]))
        return self._load(*self._cursor.execute(_VALUE, key).fetchone())

    def _writes(self) -> Iterator[tuple[str, str, str, str, bytes]]:
        for task_id, path, *row in self._cursor.execute(_WRITES, self._address).fetchall():
            for channel, kind, packed in unpacked(*row[1:]) if row[0] == TOGETHER else [row]:
                yield task_id, path, channel, kind, packed

    def _load(self, kind: str, packed: bytes) -> Any:
        value = unpacked(kind.removeprefix(DIVIDED), packed)
        return unite(value, self._part) if kind.startswith(DIVIDED) else value

    def _part(self, digest: bytes) -> Any:
        row = find_part(self._cursor, self._address[0], digest)
        if row is None or part_digest(*row) != digest:
            raise LookupError(digest)
        return unpacked(*row)

    def _tasks(self) -> dict[int | str, str]:
        """Return the node of each task: those that were sent, by number, and those that are due, by node."""
        sent = self._value(SENT_TASKS) if SENT_TASKS in self._channels else ()
        tasks: dict[int | str, str] = {number: one.node for number, one in enumerate(sent)}
        if not {*tasks.values()} <= {*NODES}:
            raise ValueError(tasks)
        for node, trigger in _TRIGGERS.items():
            seen = self._checkpoint["versions_seen"].get(node, {}).get(trigger)
            if trigger in self._channels and (seen is None or self._versions[trigger] > seen):
                tasks[node] = node
        return tasks


def _apply(values: dict[str, Any], updates: list[tuple[str, Any]]) -> None:
    replaced: set[str] = set()
    for channel, update in updates:
        if channel in replaced:
            raise ValueError(channel)
        is_added = channel in REDUCERS
        if is_added and isinstance(update, dict) and OVERWRITE in (*update, update.get("type")):
            (update,), is_added = update.values(), False
        if is_added:
            values[channel] = REDUCERS[channel][0](values[channel], update)
        else:
            values[channel] = update
            replaced.add(channel)


class StoredRow(NamedTuple):
    """A row, as LangGraph's ``Item``."""

    namespace: tuple[str, ...]
    key: str
    value: dict[str, Any]


class StoredRows:
    """The store of a local database, for those who only read."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def rows(self, namespace: tuple[str, ...], key: str | None = None) -> list[StoredRow]:
        """Return the rows of a namespace, or the one with this key."""
        query = "SELECT key, value FROM store WHERE prefix = ? AND key = coalesce(?, key)"
        with self._database.transaction(write=False) as cursor:
            found = cursor.execute(query, (".".join(namespace), key)).fetchall()
        return [StoredRow(namespace, key, json.loads(value)) for key, value in found]

    async def aget(self, namespace: tuple[str, ...], key: str) -> StoredRow | None:
        """Return a row; None if there is none."""
        return next(iter(self.rows(namespace, key)), None)

    async def asearch(self, namespace: tuple[str, ...], *, limit: int) -> list[StoredRow]:
        """Return rows of a namespace, not of those below it."""
        return self.rows(namespace)[:limit]


class StoredCheckpoints:
    """The checkpointer of a local database, for those who only look at threads."""

    def __init__(self, database: Database) -> None:
        self.shared = database

    @property
    def database(self) -> Path:
        """The file."""
        return self.shared.path

    async def is_held(self, thread_id: str) -> bool:
        """Tell whether somebody runs a thread now."""
        return is_held(self.database, thread_id)


class ThreadSource(Protocol):
    """What those need of an agent who only look at threads."""

    @property
    def checkpointer(self) -> Any:
        """The checkpointer."""

    @property
    def store(self) -> Any:
        """The store."""

    def get_state(self, config: RunnableConfig) -> StateSnapshot:
        """Return the state of a thread."""

    def get_output(self, config: RunnableConfig, step_id: str) -> Any:
        """Return the exact output of a step."""


class StoredThreads:
    """The threads of a local database, with LangGraph only for a state that needs it.

    Args:
        database: Where they are.
        make_agent: Makes an agent on the database.
    """

    def __init__(self, database: Database, make_agent: Callable[[], ThreadSource]) -> None:
        self.checkpointer = StoredCheckpoints(database)
        self.store = StoredRows(database)
        self._agent = cache(make_agent)

    def get_state(self, config: RunnableConfig) -> StateSnapshot:
        """Return the state of a thread; what is looked at of it, where LangGraph is not needed."""
        found: Any = latest(self.checkpointer.shared, config["configurable"]["thread_id"])
        return found or self._agent().get_state(config)

    def get_output(self, config: RunnableConfig, step_id: str) -> Any:
        """Return the exact output of a step; LangGraph reads a large one, and says why there is none."""
        result = (self.get_state(config).values.get("results") or {}).get(step_id)
        if result is None:
            return self._agent().get_output(config, step_id)
        output = unwrapped(result["output"])
        is_elsewhere = output is result["output"] and isinstance(output, dict) and HANDLE in output
        return self._agent().get_output(config, step_id) if is_elsewhere else output
