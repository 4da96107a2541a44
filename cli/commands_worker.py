"""The command that runs what others have queued: worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from .exits import DONE
from .option_groups import SourceOptions
from .options import JsonOutput, Prices
from .terminal import Screen

if TYPE_CHECKING:
    from ..graph.agent import PlanExecuteAgent
    from ..threads.worker import TakenThread
    from .sources import Sources

__all__ = ["worker"]


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
            help="How long runs may go on to their end after Ctrl-C or SIGTERM (default: 20).",
        ),
    ] = 20.0,
    attempts: Annotated[
        int,
        typer.Option(
            "--max-attempts",
            metavar="N",
            min=1,
            help="Give a thread up after so many attempts with nothing done in between (default: 5).",
        ),
    ] = 5,
    json: JsonOutput = False,
) -> int:
    """Run queued threads, the oldest first; start as many workers as you like."""
    from ..threads.worker import work
    from .sources import Sources, open_agent, read_plan_cache

    screen = Screen(json=json)
    sources = Sources.read(source_options, prices=prices)
    kept = read_plan_cache(for_goal=True)
    with open_agent(sources, sources.toolbox(), plan_cache=kept) as agent:
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
