"""Leave a thread to the workers, and tell how it stands in their queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .exits import DONE

if TYPE_CHECKING:
    from ..context import Context
    from ..graph.agent import PlanExecuteAgent
    from ..threads.queue import QueuedThread
    from .terminal import Screen

__all__ = ["leave_to_workers", "queue_now", "queued_now", "queued_status", "what_keeps"]


def leave_to_workers(
    agent: PlanExecuteAgent, screen: Screen, thread: str, given: Any, settings: Context | None = None
) -> int:
    """Submit a goal, an answer, or a thread that stopped, and say so."""
    from ..threads.submission import submit

    submit(agent, given, thread, context=settings)
    if screen.json:
        screen.document({"thread": thread, "status": "queued"})
    else:
        screen.note(f"Thread {thread} is in the queue; `plan-execute worker` runs it.")
    return DONE


def queue_now(agent: PlanExecuteAgent) -> dict[str, QueuedThread]:
    """Return what is in the queue, by thread."""
    from ..threads.submission import queue_of
    from ..tools.threads import run_to_end

    return {queued.thread_id: queued for queued in run_to_end(queue_of(agent).all())}


def queued_now(agent: PlanExecuteAgent, thread: str) -> QueuedThread | None:
    """Return a thread's place in the queue; None: it is not in it."""
    from ..threads.submission import queue_of
    from ..tools.threads import run_to_end

    return run_to_end(queue_of(agent).get(thread))


def queued_status(queued: QueuedThread | None, status: str) -> str:
    """Name the status of a thread, as far as the queue has a say in it."""
    if queued is None or queued.asks:
        return status
    if queued.parked is not None:
        return "parked"
    return status if queued.attempts else "queued"


def what_keeps(queued: QueuedThread | None) -> str | None:
    """Say what keeps the workers from a thread."""
    return (queued.parked or queued.error) if queued else None
