"""Adapt sync and async savers and stores to one async interface that works in any event loop.

There is a single, asynchronous implementation. These adapters let it run with any checkpointer or store: a
sync one is called in a small thread pool of the adapter's own, an async one in the event loop in which it was
made.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import threading
import time
from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, overload

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    EXCLUDED_METADATA_KEYS,
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    copy_checkpoint,
)
from langgraph.checkpoint.serde.types import ERROR
from langgraph.store.base import BaseStore, GetOp, Op, PutOp, Result, SearchOp

from ..context import run_redactor
from ..errors import ConfigurationError, PlanExecuteError, StorageError, ThreadBusyError
from ..langgraph_private import NO_TASK, uses_default_pool
from ..safety.redaction import Redactor, redactor_of
from .calls import Access, Bridge, note_fault
from .ids import checked_thread_id
from .rows import ROOT, Change, change_alone

__all__ = [
    "AsyncSaver",
    "AsyncStore",
    "ThreadHold",
    "async_saver",
    "async_store",
    "write_beside",
]

T = TypeVar("T")

_ACCESS = {"get_tuple": Access.READ, "put": Access.WRITE, "put_writes": Access.WRITE}
"""Checkpointer calls that may share a transaction."""


class ThreadHold(Protocol):
    """A thread's lock that may be lost while held, and through which its holder can be told to stop."""

    former: dict[str, Any] | None
    """Who ran the thread before and may still be alive."""

    def watch(self, stop: Callable[[], None]) -> None:
        """Call ``stop``, from any thread, once somebody asks the holder to stop or the lock is lost."""


@dataclass
class HeldThread:
    """A thread that is held.

    Attributes:
        former: Who ran the thread before, stopped without a sign and may still be alive; None if nobody did.
        watch: See `ThreadHold.watch`; None if the kernel holds the lock, which has no signals
            and is never lost.
        leaving: Whether its run is about to end, because nobody reads its stream any more.
    """

    former: dict[str, Any] | None = None
    watch: Callable[[Callable[[], None]], None] | None = None
    leaving: bool = False


_held_threads: dict[tuple[int, str], HeldThread] = {}
"""Threads that have a runner in this process: the saver's identity, and the thread's id."""
_holding = threading.Lock()
_TURNS_TO_CLOSE = (0.0, 0.0, 0.0)
"""After so many turns the event loop has begun to close an async generator that was dropped."""
_ENDS_S = (0.01, 0.02, 0.04, 0.08)
"""How one waits for a runner of this process that may be about to end, between looks."""
_LEAVES_S = 0.02
"""The same for one whose stream was left."""
_LETS_GO_WITHIN_S = 10.0
"""How long one waits for a runner whose stream was left; a tool may take its time to tidy up."""


async def _wait_for_leaving(saver: Any, thread_id: str, at_once: bool) -> None:
    """Wait for a runner of this process whose stream was left and, unless ``at_once``, for any a moment.

    A stream whose last part was just read ends a moment later.
    """
    pauses = iter([*_TURNS_TO_CLOSE, *(() if at_once else _ENDS_S)])
    deadline = time.monotonic() + _LETS_GO_WITHIN_S
    while (holder := _held_threads.get((id(saver), thread_id))) is not None:
        if holder.leaving and time.monotonic() < deadline:
            await asyncio.sleep(_LEAVES_S)
        elif (pause := next(pauses, None)) is not None:
            await asyncio.sleep(pause)
        else:
            return


@contextmanager
def _held_here(saver: Any, thread_id: str) -> Iterator[HeldThread]:
    """Hold a thread of a saver against other runners in this process.

    Raises:
        ThreadBusyError: At once, if another runner holds it.
    """
    thread, hold = (id(saver), thread_id), HeldThread()
    with _holding:
        if thread in _held_threads:
            raise ThreadBusyError(f"thread {thread_id!r} is being run by this process")
        _held_threads[thread] = hold
    try:
        yield hold
    finally:
        del _held_threads[thread]


def _never_called(stop: Callable[[], None]) -> None:
    """Watch a thread that only this process can stop, and that is never lost."""


class _Wrapper:
    """The parts that both adapters share."""

    wrapped: Any
    _bridge: Bridge

    def __getattr__(self, name: str) -> Any:
        # copy.copy looks up dunders before `wrapped` exists.
        if name.startswith("__") or "wrapped" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.wrapped, name)

    def check_sync(self) -> None:
        """Raise `ConfigurationError` if a sync run in this thread would block the wrapped object's loop."""
        self._bridge.check_sync()


class AsyncSaver(_Wrapper, BaseCheckpointSaver[Any]):
    """A checkpointer with sync and async methods over any checkpointer; the last place that removes secrets.

    Attributes:
        wrapped: The original. Attributes that the adapter lacks are looked up there.
    """

    def __init__(self, saver: BaseCheckpointSaver[Any]) -> None:
        super().__init__(serde=saver.serde)
        self.wrapped = saver
        self._bridge = Bridge(saver)
        # LangGraph 1.2 still runs savers written before put_writes had a task_path.
        self._takes_path = len(inspect.signature(saver.put_writes).parameters) > 3
        self._keeps_next_read = False
        self._kept: tuple[tuple[Any, ...], CheckpointTuple | None] | None = None

    def for_a_run(self) -> AsyncSaver:
        """Return the adapter of one run that holds its thread.

        The door reads the checkpoint from which the run starts, and LangGraph reads it again; this makes it
        one read.
        """
        mine = copy.copy(self)
        mine._keeps_next_read = True
        return mine

    async def idle(self) -> None:
        """Wait until no call is active: LangGraph leaves some behind when a run is cancelled."""
        await self._bridge.idle()

    @property
    def locks_threads(self) -> bool:
        """Whether the wrapped saver allows a thread only one runner (it has a ``thread_lock``)."""
        return hasattr(self.wrapped, "thread_lock")

    def thread_lock(self, thread_id: str) -> AbstractContextManager[ThreadHold | None]:
        """Hold a thread for one runner, through the wrapped saver.

        Raises:
            InvalidInputError: If the id is not valid.
            ThreadBusyError: On entering, at once, if another runner holds it.
        """
        checked_thread_id(thread_id)
        wrapped: Any = self.wrapped
        lock: AbstractContextManager[ThreadHold | None] = wrapped.thread_lock(thread_id)
        return lock

    @asynccontextmanager
    async def hold_thread(self, thread_id: str, *, at_once: bool = False) -> AsyncIterator[HeldThread]:
        """Hold a thread as `thread_lock` does, without blocking the event loop.

        A saver that locks no threads still gives a thread only one runner in this process. A runner of this
        process that is about to end is waited for.

        Args:
            thread_id: The thread.
            at_once: Whether only a runner whose stream was left is waited for.

        Raises:
            ThreadBusyError: On entering, if another runner holds it.
        """
        await _wait_for_leaving(self.wrapped, thread_id, at_once)
        with _held_here(self.wrapped, thread_id) as hold:
            if self.locks_threads:
                async with self._locked(thread_id) as lock:
                    if lock is not None:
                        hold.former, hold.watch = lock.former, lock.watch
                    yield hold
            else:
                hold.watch = _never_called
                yield hold

    @asynccontextmanager
    async def _locked(self, thread_id: str) -> AsyncIterator[ThreadHold | None]:
        entered: list[ThreadHold | None] = []
        lock, turn, gone = self.thread_lock(thread_id), threading.Lock(), threading.Event()

        def enter() -> None:
            with turn:
                if not gone.is_set():
                    entered.append(lock.__enter__())

        def leave() -> None:
            with turn:
                gone.set()
                if entered:
                    lock.__exit__(None, None, None)

        try:
            await self._bridge.in_thread(enter)
            yield entered[0]
        finally:
            # Also if the wait for it was cancelled, and then the wait for its end, before it had its turn.
            await self._bridge.in_thread(leave)

    async def is_held(self, thread_id: str) -> bool | None:
        """Tell whether somebody runs a thread now; None: the wrapped saver cannot know."""
        looks = getattr(self.wrapped, "is_held", None)
        return None if looks is None else await self._bridge.in_thread(lambda: bool(looks(thread_id)))

    async def signal_stop(self, thread_id: str) -> bool:
        """Tell a thread's holder to stop; return whether the storage can do that (see `ThreadHold.watch`)."""
        signal = getattr(self.wrapped, "signal_stop", None)
        if signal is not None:
            await self._bridge.in_thread(lambda: signal(thread_id))
        return signal is not None

    def _sync(self, method: str, *args: Any, **options: Any) -> Any:
        _check_thread(*args)
        self._bridge.check_sync()
        return getattr(self.wrapped, method)(*args, **options)

    async def _async(self, method: str, *args: Any, **options: Any) -> Any:
        _check_thread(*args)
        with _faults(self):
            return await self._bridge.call(
                lambda: getattr(self.wrapped, f"a{method}")(*args, **options),
                lambda: getattr(self.wrapped, method)(*args, **options),
                _ACCESS.get(method, Access.ALONE),
            )

    @property
    def config_specs(self) -> Any:
        """The wrapped saver's configuration fields."""
        return self.wrapped.config_specs

    def get_next_version(self, current: Any, channel: None) -> Any:
        """Return the version after ``current``, by the wrapped saver's count."""
        return self.wrapped.get_next_version(current, channel)

    def with_allowlist(self, extra_allowlist: Collection[tuple[str, ...]]) -> BaseCheckpointSaver[Any]:
        """Return an adapter over the wrapped saver's clone with these types allowed."""
        inner = self.wrapped.with_allowlist(extra_allowlist)
        if inner is self.wrapped:
            return self
        clone = copy.copy(self)
        clone.wrapped, clone.serde = inner, inner.serde
        return clone

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Fetch a checkpoint."""
        found: CheckpointTuple | None = self._sync("get_tuple", config)
        return found

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Fetch a checkpoint."""
        address = _address(config)
        kept, self._kept = self._kept, None
        if kept is not None and kept[0] == address:
            return kept[1]
        found: CheckpointTuple | None = await self._async("get_tuple", config)
        if self._keeps_next_read:
            self._keeps_next_read = False
            # LangGraph changes the checkpoint that it reads.
            kept_one = found and found._replace(checkpoint=copy_checkpoint(found.checkpoint))
            self._kept = address, kept_one
        return found

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """List checkpoints, newest first."""
        yield from self._sync("list", config, filter=filter, before=before, limit=limit)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """List checkpoints, newest first; they are read before the first one is given."""
        _check_thread(config)
        wanted: dict[str, Any] = {"filter": filter, "before": before, "limit": limit}
        with _faults(self):
            found = await self._bridge.call(
                lambda: _collect(self.wrapped.alist(config, **wanted)),
                lambda: [*self.wrapped.list(config, **wanted)],
            )
        for checkpoint in found:
            yield checkpoint

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint."""
        clean = _clean_put(config, checkpoint, metadata, new_versions)
        stored: RunnableConfig = self._sync("put", *clean, new_versions)
        return stored

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint."""
        self._kept = None
        clean = _clean_put(config, checkpoint, metadata, new_versions)
        stored: RunnableConfig = await self._async("put", *clean, new_versions)
        return stored

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store the writes of one task."""
        path = (task_path,) if self._takes_path else ()
        self._sync("put_writes", config, _clean_writes(config, writes), task_id, *path)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store the writes of one task."""
        self._kept = None
        path = (task_path,) if self._takes_path else ()
        await self._async("put_writes", config, _clean_writes(config, writes), task_id, *path)

    def delete_thread(self, thread_id: str) -> None:
        """Delete everything of a thread."""
        self._sync("delete_thread", thread_id)

    async def adelete_thread(self, thread_id: str) -> None:
        """Delete everything of a thread."""
        await self._async("delete_thread", thread_id)

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete everything of these runs."""
        self._sync("delete_for_runs", run_ids)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete everything of these runs."""
        await self._async("delete_for_runs", run_ids)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread."""
        self._sync("copy_thread", source_thread_id, target_thread_id)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread."""
        await self._async("copy_thread", source_thread_id, target_thread_id)

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Prune the checkpoints of these threads."""
        self._sync("prune", thread_ids, strategy=strategy)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Prune the checkpoints of these threads."""
        await self._async("prune", thread_ids, strategy=strategy)

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Return the values and writes from which each channel was built."""
        history: Mapping[str, DeltaChannelHistory] = self._sync(
            "get_delta_channel_history", config=config, channels=channels
        )
        return history

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Return the values and writes from which each channel was built."""
        history: Mapping[str, DeltaChannelHistory] = await self._async(
            "get_delta_channel_history", config=config, channels=channels
        )
        return history


def _address(config: RunnableConfig) -> tuple[Any, ...]:
    place = config["configurable"]
    return place["thread_id"], place.get("checkpoint_ns") or "", place.get("checkpoint_id")


def _check_thread(*args: Any) -> None:
    """Refuse an id that the storage cannot handle, if the call's first argument is a thread or a config."""
    first = args[0] if args else None
    named = first.get("configurable", {}).get("thread_id") if isinstance(first, Mapping) else first
    if isinstance(named, str):
        checked_thread_id(named)


def _redactor(config: RunnableConfig) -> Redactor:
    # A client's update_state belongs to no run.
    return redactor_of(config) or run_redactor()


def _clean_put(
    config: RunnableConfig, checkpoint: Checkpoint, metadata: CheckpointMetadata, new: ChannelVersions
) -> tuple[RunnableConfig, Checkpoint, CheckpointMetadata]:
    """Remove the secrets from a checkpoint and its metadata, including the caller's config.

    Values that an earlier checkpoint also has are clean. A copy made by hand names none as ``new``.
    """
    configurable, values = config["configurable"], checkpoint["channel_values"]
    written = {channel: values[channel] for channel in new if channel in values} if new else values
    # The keys that LangGraph's savers copy into the metadata (langgraph-checkpoint 4.3).
    copied = {
        key: value
        for key, value in configurable.items()
        if key[:2] != "__" and key not in EXCLUDED_METADATA_KEYS and isinstance(value, str)
    }
    held = (written, copied, config.get("metadata") or {}, metadata)
    clean = _redactor(config).value(held)
    if clean is held:
        return config, checkpoint, metadata
    written, changed, told, kept = clean
    config = {**config, "configurable": {**configurable, **changed}, "metadata": told}
    return config, {**checkpoint, "channel_values": {**values, **written}}, kept


def _clean_writes(config: RunnableConfig, writes: Sequence[tuple[str, Any]]) -> Sequence[tuple[str, Any]]:
    return _redactor(config).value(_whole(writes))


def _whole(writes: Sequence[tuple[str, Any]]) -> Sequence[tuple[str, Any]]:
    """List what a task wrote, without incomplete writes; LangGraph passes them as a deque.

    If a task fails or is cancelled, LangGraph 1.2.22 saves its writes so far next to the error, and takes
    them for complete on resume. A node cancelled between its update and its routing would not run again, and
    the run would end there.
    """
    if ERROR not in dict(writes):
        return list(writes)
    return [write for write in writes if write[0] in WRITES_IDX_MAP]


async def _collect(items: AsyncIterator[T]) -> list[T]:
    return [item async for item in items]


class AsyncStore(_Wrapper, BaseStore):
    """A store with sync and async methods over any store.

    Attributes:
        wrapped: The original. Attributes that the adapter lacks are looked up there.
    """

    wrapped: BaseStore

    def __init__(self, store: BaseStore) -> None:
        self.wrapped = store
        self.supports_ttl = store.supports_ttl
        self.ttl_config = store.ttl_config
        self._bridge = Bridge(store)
        self._native = not uses_default_pool(store)
        self._access_of: Callable[[Sequence[Op]], Access] | None = getattr(store, "access_of", None)

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Execute several operations."""
        self._bridge.check_sync()
        return self.wrapped.batch(ops)

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Execute several operations."""
        wanted = list(ops)
        if not all(_is_ours(op) for op in wanted):
            return await self._abatch(wanted)  # A tool's own use of the store is the tool's business.
        with _faults(self):
            return await self._abatch(wanted)

    async def change(self, namespace: tuple[str, ...], key: str, make: Change) -> dict[str, Any] | None:
        """Change a row; see :func:`~plan_execute.storage.rows.change`."""
        atomic: Callable[..., dict[str, Any] | None] | None = getattr(self.wrapped, "change", None)
        if atomic is None:
            return await change_alone(self, namespace, key, make)
        with _faults(self):
            return await self._bridge.in_thread(lambda: atomic(namespace, key, make), Access.DURABLE)

    async def _abatch(self, ops: list[Op]) -> list[Result]:
        access = self._access_of(ops) if self._access_of is not None else Access.ALONE
        native = (lambda: self.wrapped.abatch(ops)) if self._native else None
        return await self._bridge.call(native, lambda: self.wrapped.batch(ops), access)


def _is_ours(op: Op) -> bool:
    """Tell whether an operation is on our records, and not on a tool's data in the same store."""
    if isinstance(op, SearchOp):
        return op.namespace_prefix[:1] == (ROOT,)
    return isinstance(op, GetOp | PutOp) and op.namespace[:1] == (ROOT,)


@contextmanager
def _faults(adapter: AsyncSaver | AsyncStore) -> Iterator[None]:
    """Turn a storage call's exception into our error, and tell the work that made the call.

    A checkpointer may also get values that it cannot write; that is not a storage fault.
    """
    try:
        yield
    except PlanExecuteError as error:
        note_fault(adapter, error)
        raise
    except Exception as error:
        if isinstance(adapter, AsyncSaver) and not _is_of_storage(error):
            raise
        name, reason = type(adapter.wrapped).__name__, f"{type(error).__name__}: {error}"
        fault = StorageError(f"the storage {name} failed: {reason}")
        note_fault(adapter, fault)
        raise fault from error


def _is_of_storage(error: Exception) -> bool:
    # These are PEP 249's names for the errors of every database client.
    names = {cls.__name__ for cls in type(error).__mro__}
    return isinstance(error, OSError) or not names.isdisjoint({"DatabaseError", "InterfaceError"})


@overload
def async_saver(saver: BaseCheckpointSaver[Any]) -> AsyncSaver: ...
@overload
def async_saver(saver: bool | None) -> bool | None: ...
def async_saver(saver: BaseCheckpointSaver[Any] | bool | None) -> AsyncSaver | bool | None:
    """Return ``saver`` with both interfaces; LangGraph's other values (None, a bool) pass through."""
    if saver is None or isinstance(saver, bool | AsyncSaver):
        return saver
    return AsyncSaver(saver)


@overload
def async_store(store: BaseStore) -> AsyncStore: ...
@overload
def async_store(store: None) -> None: ...
def async_store(store: BaseStore | None) -> AsyncStore | None:
    """Return ``store`` with both interfaces; None passes through."""
    if store is None or isinstance(store, AsyncStore):
        return store
    if not isinstance(store, BaseStore):
        raise ConfigurationError(f"store= takes a LangGraph store, not {type(store).__name__}")
    return AsyncStore(store)


async def write_beside(
    saver: BaseCheckpointSaver[Any], config: RunnableConfig, updates: Sequence[tuple[str, Any]]
) -> None:
    """Add channel updates as pending writes of a checkpoint, without making a new one.

    A new checkpoint would lose the results of finished siblings, which are pending writes of the old one.
    LangGraph stores the update of a ``Command`` in the same way.

    Args:
        saver: The checkpointer.
        config: Names the checkpoint.
        updates: Pairs of a channel and its update, in order.
    """
    found = await saver.aget_tuple(config)
    if found is None or not updates:
        return
    # A saver numbers a task's writes from 0 and keeps existing ones.
    earlier = [
        (channel, value)
        for task, channel, value in found.pending_writes or ()
        if task == NO_TASK and channel not in WRITES_IDX_MAP
    ]
    await saver.aput_writes(found.config, [*earlier, *updates], NO_TASK)
