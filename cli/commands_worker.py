"""The command `worker`, which runs queued threads, and what the other commands need from the queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .exits import DONE
from .options import JsonOutput, Prices, SourceOptions
from .terminal import Screen

if TYPE_CHECKING:
    from langgraph.types import StateSnapshot

    from ..context import Context
    from ..graph.agent import PlanExecuteAgent
    from ..storage.latest import ThreadSource
    from ..threads.queue import QueuedThread
    from ..threads.worker import TakenThread
    from .sources import Sources
    from .terminal import Screen

__all__ = ["leave_to_workers", "queued_now", "queued_status", "what_keeps", "worker"]


def worker(
    *,
    source_options: SourceOptions,
    prices: Prices = None,
    concurrency: Annotated[
        int, typer.Option("--concurrency", metavar="N", min=1, help="Threads at the same time (default: 4).")
    ] = 4,
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="End when nothing is left that this worker could do.")
    ] = False,
    grace: Annotated[
        float,
        typer.Option(
            "--grace",
            metavar="SECONDS",
            min=0,
            help="How long runs may continue after Ctrl-C or SIGTERM (default: 20).",
        ),
    ] = 20.0,
    attempts: Annotated[
        int,
        typer.Option(
            "--max-attempts",
            metavar="N",
            min=1,
            help="Give up a thread after this many attempts without progress (default: 5).",
        ),
    ] = 5,
    json: JsonOutput = False,
) -> int:
    """Run queued threads, by priority and age; start as many workers as you like.

    Needs a PostgreSQL database. On one machine, `plan-execute serve` runs many threads in one process.
    """
    from ..threads.submission import queue_of
    from ..threads.worker import work
    from ..tools.threads import run_to_end
    from .sources import Sources, open_agent, read_plan_cache

    screen = Screen(json=json)
    sources = Sources.read(source_options, prices=prices)
    kept = read_plan_cache(for_goal=True)
    with open_agent(sources, sources.toolbox(), plan_cache=kept) as agent:
        run_to_end(queue_of(agent))  # where there is none, nothing else is said
        screen.note(f"Taking threads from {sources.database.shown}.")
        ended = work(
            agent,
            concurrency=concurrency,
            until_idle=until_idle,
            grace_s=grace,
            max_attempts=attempts,
            on_thread=lambda taken: screen.note(_line(taken)),
            agent_for=_agents(sources, agent) if sources.toolsets and sources.workspace is None else None,
        )
    if json:
        screen.document({"threads": dict(sorted(ended.items()))})
    return DONE


def _agents(sources: Sources, shared: PlanExecuteAgent) -> Callable[[str], PlanExecuteAgent]:
    """Give each thread an agent whose tools have the thread's own workspace."""
    from .sources import make_agent

    def agent_for(thread: str) -> PlanExecuteAgent:
        toolbox = sources.toolbox(thread)
        return make_agent(sources, toolbox, shared.checkpointer, shared.store, shared.plan_cache)

    return agent_for


def _line(taken: TakenThread) -> str:
    reason = f": {taken.reason}" if taken.reason else ""
    return f"{taken.thread_id}  {taken.status} after {taken.seconds:.1f} s{reason}"


# --- the queue ------------------------------------------------------------------------


def leave_to_workers(
    agent: PlanExecuteAgent,
    screen: Screen,
    thread: str,
    given: Any,
    settings: Context | None = None,
    priority: int = 0,
) -> int:
    """Submit a goal, an answer, or a thread that stopped, and say so."""
    from ..threads.submission import submit

    submit(agent, given, thread, context=settings, priority=priority)
    if screen.json:
        screen.document({"thread": thread, "status": "queued"})
    else:
        screen.note(f"Thread {thread} is in the queue; `plan-execute worker` runs it.")
    return DONE


def queued_now(agent: ThreadSource, thread: str) -> QueuedThread | None:
    """Return a thread's place in the queue; None: it is not in it."""
    from ..storage.latest import StoredRows
    from ..storage.ledger import queue_of_thread

    if isinstance(agent.store, StoredRows) and not agent.store.rows(queue_of_thread(thread)):
        return None
    from ..threads.queue import queued_thread
    from ..tools.threads import run_to_end

    return run_to_end(queued_thread(agent.store, thread))


def queued_status(agent: ThreadSource, queued: QueuedThread | None, snapshot: StateSnapshot) -> str:
    """Name the status of a thread; while nobody runs it, it depends on the queue too."""
    from .views import status_of

    status = status_of(agent, snapshot)
    if queued is None or queued.asks:
        return status
    has_answer = status == "waiting" and not queued.attempts
    if status != "stopped" and not has_answer:
        return status
    return "queued" if queued.parked is None else "parked"


def what_keeps(agent: ThreadSource, queued: QueuedThread | None) -> str | None:
    """Say what keeps the workers from a thread."""
    if queued is None:
        return None
    from ..threads.submission import has_queue

    if not has_queue(agent):
        return (
            "an older version queued it, and a file has no queue any more: go on with `plan-execute resume`"
        )
    return queued.what_keeps
