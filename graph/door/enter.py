"""The door: check and prepare a run, because no node could do it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import uuid4

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver

from ...context import Context, to_context
from ...langgraph_private import FROM_A_PARENT, READ, RUNTIME, SAVER, TASK, is_served
from ...run import RUN_KEY, Run, StopSignal
from ...storage.adapters import AsyncSaver, HeldThread, async_saver
from ...storage.ids import thread_id_of
from ...tracing.entry import watched_entry
from ..compiled import CompiledAgent
from .visit import arrive

__all__ = ["HOLD_KEY", "Entry", "enter"]

HOLD_KEY = "__plan_execute_hold"
"""The key in ``configurable`` under which a caller that already holds the thread puts the hold."""


@dataclass(frozen=True)
class Entry:
    """A run that may start: its input, its config with the run in it, its settings."""

    input: Any
    config: RunnableConfig
    settings: Context
    hold: HeldThread | None
    """The thread, if the run holds one."""


@asynccontextmanager
async def enter(
    agent: CompiledAgent,
    given: Any,
    config: RunnableConfig,
    context: Any,
    *,
    heard: bool,
    refusal: str = "",
    elsewhere: bool = False,
) -> AsyncIterator[Entry]:
    """Check a run and prepare it; hold the thread's lock while it runs.

    Args:
        agent: The graph.
        given: Its input.
        config: LangGraph's config.
        context: The settings asked for.
        heard: Whether the run's events are read.
        refusal: Why an answer was not accepted; its question is asked again.
        elsewhere: Whether another process, which has the models, will run it; here it is only prepared.
    """
    configurable = _configurable(config)
    nested = TASK in configurable
    if isinstance(configurable.get(SAVER), BaseCheckpointSaver):
        configurable[SAVER] = async_saver(configurable[SAVER])
    saver = configurable.get(SAVER) or agent.checkpointer
    thread_id = _thread_id(configurable, bool(saver) and not nested)
    asked = to_context(context) or (_inherited(configurable) if nested else None)
    hold = configurable.pop(HOLD_KEY, None)
    async with nullcontext() if nested else _held(agent, saver, thread_id, hold, is_served(config)) as held:
        entered = time.time()
        hold = held and held.hold
        if hold is not None and isinstance(saver, AsyncSaver) and saver.locks_threads:
            saver = configurable[SAVER] = saver.for_a_run()
        visit = await arrive(agent, config, configurable, saver, thread_id, given, asked, nested=nested)
        checked = await visit.checked(refusal, elsewhere=elsewhere)
        run = configurable[RUN_KEY] = await visit.run(checked, heard)
        if hold is not None and hold.former is not None:
            await run.ledger.record_lost_runner(hold.former)
        try:
            watched = watched_entry(config, agent.config, thread_id, run.redactor)
            stoppable = nullcontext() if held is None else _stoppable(run, entered, held)
            async with stoppable, _shown_again(run):
                with watched as told:
                    yield Entry(checked.input, {**told, "configurable": configurable}, run.settings, hold)
        finally:
            run.epochs.clear()  # They refer to the run, so only a garbage collection would free it.
            if run.ahead is not None:
                await run.ahead.drop()
            unbooked_s = run.meter.lap() if saver and not nested else 0.0
            if unbooked_s > (_FEW_S if run.answered and run.settings.max_seconds is None else 0.0):
                await run.ledger.leave_unbooked_seconds(unbooked_s)
            if isinstance(saver, AsyncSaver):
                await saver.idle()


_log = logging.getLogger(__name__)
_STOP_LOOK_S = 1.0
"""How often a run looks for a request to stop if its thread's lock has no signal for that.

That is an SQLite file's lock: the kernel holds it, so there is no lease whose renewal could look.
"""
_FEW_S = 0.1
"""What a run may use after its answer without a row of its own, if no budget counts it.

Only retried steps continue the count.
"""
_SILENT_S = 1.0
"""After this silence a client is shown the progress again."""


def _stoppable(run: Run, entered: float, held: _Held) -> AbstractAsyncContextManager[None]:
    """Stop the run when it is told to after it was ``entered`` (seconds since the epoch).

    A run that no longer holds its thread is stopped too: its steps may only end, and it can write nothing.
    """
    run.stop.follow(held.stop)
    if held.hold is None or held.hold.watch is not None:
        return nullcontext()

    async def look() -> None:
        if run.stop.is_set():
            return
        try:
            if await run.ledger.stop_requested(since=entered):
                run.stop.set()
        except Exception:
            # The run itself will meet the store's fault where it matters; a later look may succeed.
            _log.warning("cannot look for a request to stop", exc_info=True)

    return _every(_STOP_LOOK_S, look)


def _shown_again(run: Run) -> AbstractAsyncContextManager[None]:
    """Show clients that the run continues, even if nothing else is sent."""

    async def show() -> None:
        run.show_again(_SILENT_S)

    return nullcontext() if run.shown is None else _every(_SILENT_S / 2, show)


@asynccontextmanager
async def _every(seconds: float, act: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Act again and again beside a run; most end earlier, and need no task for it."""

    async def go_on() -> None:
        while True:
            await act()
            await asyncio.sleep(seconds)

    loop, begun = asyncio.get_running_loop(), set[asyncio.Task[None]]()
    timer = loop.call_later(seconds, lambda: begun.add(loop.create_task(go_on())))
    try:
        yield
    finally:
        timer.cancel()
        for task in begun:
            task.cancel()
            await asyncio.wait({task})


# --- the thread --------------------------------------------------------------------------


def _configurable(config: RunnableConfig) -> dict[str, Any]:
    """Copy it without a false parent, because a server accepts these keys from clients as JSON."""
    given = dict(config.get("configurable") or {})
    has_parent = callable(given.get(READ))
    return {key: value for key, value in given.items() if has_parent or key not in FROM_A_PARENT}


def _thread_id(configurable: Mapping[str, Any], required: bool) -> str:
    is_named = configurable.get("thread_id") is not None
    return thread_id_of(configurable) if required or is_named else uuid4().hex


class _Held(NamedTuple):
    """A run's claim on its thread: the hold, unless a server keeps its own order, and the request to stop."""

    hold: HeldThread | None
    stop: StopSignal


@asynccontextmanager
async def _held(
    agent: CompiledAgent, saver: Any, thread_id: str, hold: Any, served: bool
) -> AsyncIterator[_Held]:
    """Hold the thread; a server whose saver has no locks keeps its own order.

    Args:
        agent: Whose run it is.
        saver: Its checkpointer.
        thread_id: The thread.
        hold: The hold that the caller has; a client can only send JSON, which does not count.
        served: Whether a LangGraph server runs it.
    """
    if isinstance(hold, HeldThread):
        holding: Any = nullcontext(hold)
    elif isinstance(saver, AsyncSaver) and (saver.locks_threads or not served):
        holding = saver.hold_thread(thread_id)
    else:
        holding = nullcontext()
    async with holding as own:
        held = _Held(own, StopSignal())
        if own is not None and own.watch is not None:
            own.watch(held.stop.set)
        # `cancel_run` finds the run here if no lock shows it.
        agent.running.add((thread_id, held.stop))
        try:
            yield held
        finally:
            agent.running.discard((thread_id, held.stop))


def _inherited(configurable: Mapping[str, Any]) -> Context | None:
    """Return the parent's context, which LangGraph passes to subgraphs, if it is one of ours."""
    context = getattr(configurable.get(RUNTIME), "context", None)
    return context if isinstance(context, Context) else None
