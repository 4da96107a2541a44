"""Hand a thread to the workers: like ``invoke``, but another process runs it, now or later."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from langchain_core.runnables import RunnableConfig
from langgraph.constants import CONF
from langgraph.graph import START
from langgraph.types import Command

from ..context import to_context
from ..errors import ConfigurationError, InvalidInputError, ThreadBusyError
from ..graph.control import ABANDON, without_open_run
from ..graph.door.enter import enter
from ..graph.loop import run
from ..run import run_of
from ..safety.redaction import REDACTOR_KEY
from ..storage.adapters import AsyncSaver, AsyncStore
from ..storage.ids import checked_thread_id
from ..tools.threads import run_to_end
from .queue import Queue, QueuedThread
from .requirements import needs_of

if TYPE_CHECKING:
    from ..graph.agent import PlanExecuteAgent
    from ..storage.latest import ThreadSource

__all__ = ["asubmit", "has_queue", "queue_of", "submit"]

_LETS_GO_WITHIN_S = 5.0
"""The most time that a worker takes to release a thread that waits for a person."""


async def asubmit(
    agent: PlanExecuteAgent,
    input: Any,
    thread_id: str | None = None,
    *,
    context: Any = None,
    priority: int = 0,
) -> str:
    """Hand a goal, an answer, or a stopped thread to the workers (see ``work``); return at once.

    It is stored when this returns. The agent needs neither the models nor the tools.

    Args:
        agent: Any agent on the database of the workers.
        input: What ``invoke`` takes: ``{"goal": …}``, ``{"plan": …}`` and so on, with ``"abandon": True``
            to end an open run first; a ``Command(resume=…)`` with answers; None to
            continue a thread that stopped or was parked.
        thread_id: The thread; None: a new one.
        context: Settings, as for ``invoke``.
        priority: The highest goes first, then the oldest.

    Returns:
        The id of the thread.

    Raises:
        ThreadError: If the thread is being run, or its state does not allow the input.
        InvalidInputError: If the input has the wrong form.
        ConfigurationError: If a setting is wrong, or there is no queue: the storage is not PostgreSQL.
    """
    thread_id = uuid4().hex[:12] if thread_id is None else checked_thread_id(thread_id)
    await queue_of(agent)
    if not isinstance(input, Mapping | Command) and input is not None:
        raise InvalidInputError(f"the input must be a mapping, a Command or None, not {type(input).__name__}")
    if isinstance(input, Command) and (input.goto or input.update):
        raise InvalidInputError("only answers can be submitted; update the state with update_state")
    if isinstance(input, Mapping) and ABANDON in input:
        config: RunnableConfig = {CONF: {"thread_id": thread_id}}
        input, _ = await without_open_run(agent, input, config, context, elsewhere=True)
    prepare = partial(_prepare, agent, input, thread_id, context, priority)
    if not isinstance(input, Command):
        await prepare()
        return thread_id
    deadline = time.monotonic() + _LETS_GO_WITHIN_S
    while True:
        try:
            await prepare()
            return thread_id
        except ThreadBusyError:
            # A question appears a moment before its worker releases the thread.
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)


async def _prepare(agent: PlanExecuteAgent, input: Any, thread_id: str, context: Any, priority: int) -> None:
    """Record what the thread should do, and put it into the queue."""
    config: RunnableConfig = {CONF: {"thread_id": thread_id}}
    async with enter(agent, input, config, context, heard=False, elsewhere=True) as entry:
        redactor = run_of(entry.config).redactor
        if isinstance(entry.input, dict):
            address: RunnableConfig = {CONF: {"thread_id": thread_id, REDACTOR_KEY: redactor}}
            await agent.aupdate_state(address, entry.input, as_node=START)
        resume = entry.input.resume if isinstance(entry.input, Command) else None
        settings = entry.settings.model_dump(mode="json", exclude_defaults=True)
        given, name = to_context(context), run_of(entry.config).person.get("id")
        asked = settings if given is not None and given.model_fields_set - {"person"} else {}
        # The worker continues in the name of the person who submitted it.
        asked |= {"person": name} if name else {}
        queue = await queue_of(agent, redactor)
        if not isinstance(entry.input, dict) and (before := await queue.get(thread_id)) is not None:
            resume = {**(before.resume or {}), **(resume or {})} or None  # No worker has used them yet.
        queued = QueuedThread(thread_id, context=asked or None, resume=resume, priority=priority)
        needs = needs_of(await agent.aget_state(config), asked or None)
        await queue.put(queued.needing(needs))


def submit(
    agent: PlanExecuteAgent,
    input: Any,
    thread_id: str | None = None,
    *,
    context: Any = None,
    priority: int = 0,
) -> str:
    """Hand a goal, an answer, or a stopped thread to the workers; see :func:`asubmit`."""
    agent.check_sync()
    abandons = isinstance(input, Mapping) and ABANDON in input  # A model may write its last report.
    wait = run if abandons else run_to_end
    return wait(asubmit(agent, input, thread_id, context=context, priority=priority))


async def queue_of(agent: PlanExecuteAgent, redactor: Any = None) -> Queue:
    """Return the queue of an agent's database; create it if there is none.

    Raises:
        ConfigurationError: If the database is not PostgreSQL, or the extra is not installed.
        StorageError: If the tables of the queue cannot be made.
    """
    store = agent.store
    if not has_queue(agent):
        raise ConfigurationError(
            "only a PostgreSQL database has a queue: give --db postgresql://…, or postgres_persistence. "
            "On one machine `plan-execute serve` and `langgraph dev` run many threads in one process, "
            "and `plan-execute run` runs one"
        )
    assert isinstance(store, AsyncStore)
    from ..storage.postgres_queue import JobTables

    database: Any = store.shared
    if database.queue is None:
        tables = await asyncio.to_thread(JobTables, database)
        if tables.made_now:
            await Queue(store, tables).adopt()
        database.queue = tables
    return Queue(store, database.queue, redactor)


def has_queue(agent: ThreadSource) -> bool:
    """Tell whether the agent's database can have a queue."""
    saver, store = agent.checkpointer, agent.store
    if not (isinstance(saver, AsyncSaver) and saver.locks_threads and isinstance(store, AsyncStore)):
        return False
    return hasattr(getattr(store.wrapped, "shared", None), "queue")
