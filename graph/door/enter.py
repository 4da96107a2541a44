"""The door: what is checked and prepared before a run, because no node could do it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver

from ...context import Context, to_context
from ...errors import StorageError
from ...langgraph_private import FROM_A_PARENT, READ, RUNTIME, SAVER, TASK
from ...run import RUN_KEY, Run
from ...storage.adapters import AsyncSaver, HeldThread, async_saver
from ...storage.ids import thread_id_of
from ...tracing.entry import watched_entry
from ..compiled import CompiledAgent
from .visit import arrive

__all__ = ["HOLD_KEY", "Entry", "enter"]

HOLD_KEY = "__plan_execute_hold"
"""Key under which who holds the thread already says so: what checks the hold, in ``configurable``."""


@dataclass(frozen=True)
class Entry:
    """A run that may start: its input, its config with the run in it, its settings."""

    input: Any
    config: RunnableConfig
    settings: Context


@asynccontextmanager
async def enter(
    agent: CompiledAgent,
    given: Any,
    config: RunnableConfig,
    context: Any,
    *,
    heard: bool,
    elsewhere: bool = False,
) -> AsyncIterator[Entry]:
    """Check a run and prepare it; hold the thread's lock while it runs.

    Args:
        agent: The graph.
        given: Its input.
        config: LangGraph's config.
        context: The settings asked for.
        heard: Whether anybody listens to the run's events.
        elsewhere: Whether another process will run it, which has the models; here it is only prepared.
    """
    configurable = _configurable(config)
    nested = TASK in configurable
    if isinstance(configurable.get(SAVER), BaseCheckpointSaver):
        configurable[SAVER] = async_saver(configurable[SAVER])
    saver = configurable.get(SAVER) or agent.checkpointer
    thread_id = _thread_id(configurable, bool(saver) and not nested)
    asked = to_context(context) or (_inherited(configurable) if nested else None)
    hold = configurable.pop(HOLD_KEY, None)
    async with nullcontext() if nested else _held(agent, saver, thread_id, hold) as check_hold:
        entered = time.time()
        visit = await arrive(agent, config, configurable, saver, thread_id, given, asked, nested=nested)
        checked = await visit.checked(elsewhere=elsewhere)
        run = configurable[RUN_KEY] = await visit.run(checked, heard)
        if isinstance(check_hold, HeldThread) and check_hold.former is not None:
            await run.ledger.record_lost_runner(check_hold.former)
        try:
            watched = watched_entry(config, agent.config, thread_id, run.redactor)
            async with nullcontext() if nested else _stoppable(run, entered, check_hold):
                with watched as told:
                    yield Entry(checked.input, {**told, "configurable": configurable}, run.settings)
        finally:
            if run.ahead is not None:
                await run.ahead.drop()
            if saver and not nested:
                await run.ledger.leave_unbooked_seconds(run.meter.lap())
            if isinstance(saver, AsyncSaver):
                await saver.idle()


CheckHold = Callable[[], Awaitable[None]]
"""Raises `StorageError` once the thread is not held any more."""

_log = logging.getLogger(__name__)
_STOP_POLL_S = 0.5
"""How often a run looks whether another process asked it to stop."""
_SILENT_S = 1.0
"""After which silence a person who watches is shown again how far the run is."""


@asynccontextmanager
async def _stoppable(run: Run, entered: float, check_hold: CheckHold | None) -> AsyncIterator[None]:
    """Watch for a request to stop that comes after the run was ``entered`` (seconds since the epoch).

    While it waits, who watches the run is shown that it goes on.

    A run that does not hold its thread any more is stopped too: its steps may only end, and nothing of it can
    be written.
    """

    async def watch() -> None:
        # Another process asks through the store, which can only be polled.
        while not run.stop.is_set():
            await asyncio.sleep(_STOP_POLL_S)
            try:
                run.show_again(_SILENT_S)
                if await _is_lost(check_hold) or await run.ledger.stop_requested(since=entered):
                    run.stop.set()
            except Exception:
                # The run itself will meet the store's fault where it matters; a later look may succeed.
                _log.warning("cannot look for a request to stop", exc_info=True)

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.wait({watching})


async def _is_lost(check_hold: CheckHold | None) -> bool:
    try:
        if check_hold is not None:
            await check_hold()
    except StorageError:
        _log.error("the run is stopped", exc_info=True)
        return True
    return False


# --- the thread --------------------------------------------------------------------------


def _configurable(config: RunnableConfig) -> dict[str, Any]:
    """Copy it, without a parent that there is not: a server takes these keys from its clients as JSON."""
    given = dict(config.get("configurable") or {})
    has_parent = callable(given.get(READ))
    return {key: value for key, value in given.items() if has_parent or key not in FROM_A_PARENT}


def _thread_id(configurable: Mapping[str, Any], required: bool) -> str:
    is_named = configurable.get("thread_id") is not None
    return thread_id_of(configurable) if required or is_named else uuid4().hex


@asynccontextmanager
async def _held(
    agent: CompiledAgent, saver: Any, thread_id: str, hold: Any
) -> AsyncIterator[CheckHold | None]:
    """Hold the thread where the saver can; a server, or an embedder's own saver, keeps its own order.

    Args:
        agent: Whose run it is.
        saver: Its checkpointer.
        thread_id: The thread.
        hold: What checks a hold that the caller has; what a client sends is JSON, and counts for nothing.
    """
    if callable(hold):
        holding: Any = nullcontext(hold)
    else:
        holding = saver.hold_thread(thread_id) if isinstance(saver, AsyncSaver) else nullcontext()
    async with holding as check_hold:
        with _registered(agent, thread_id):
            yield check_hold


@contextmanager
def _registered(agent: CompiledAgent, thread_id: str) -> Iterator[None]:
    """Let `cancel_run` see the run where no lock shows it."""
    entry = (thread_id, object())
    agent.running.add(entry)
    try:
        yield
    finally:
        agent.running.discard(entry)


def _inherited(configurable: Mapping[str, Any]) -> Context | None:
    """Return the parent's context, which LangGraph hands down to subgraphs, if it is one of ours."""
    context = getattr(configurable.get(RUNTIME), "context", None)
    return context if isinstance(context, Context) else None
