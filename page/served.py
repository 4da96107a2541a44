"""What a LangGraph server serves beside its API: the page, read-only, at ``/board``, and how far a run is.

It reads the server's own threads, as any client does; the server's store is closed to clients, so
approvals and attempts are shown as far as the state has them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from langchain_core.messages.utils import convert_to_messages
from langgraph.types import Interrupt, PregelTask, StateSnapshot
from langgraph_sdk import get_client
from langgraph_sdk.errors import NotFoundError, UnprocessableEntityError
from starlette.applications import Starlette
from starlette.routing import Mount

from ..report import RunRecord, run_record
from .app import create_app, looking
from .components import app as components
from .guard import Access
from .threads import MOST_CHECKPOINTS, Threads, config_of

__all__ = ["ServerThreads", "app"]

_LISTED = 200


class ServerThreads(Threads):
    """The threads of the server that this process is."""

    def __init__(self) -> None:
        super().__init__()
        self._busy: set[str] = set()

    async def listed(self) -> Sequence[tuple[str, str]]:
        """List the newest threads that have a state."""
        found = await get_client().threads.search(
            limit=_LISTED,
            sort_by="updated_at",
            sort_order="desc",
            select=["thread_id", "status", "updated_at"],
        )
        self._busy = {str(one["thread_id"]) for one in found if one["status"] == "busy"}
        return [(str(one["thread_id"]), str(one["updated_at"])) for one in found]

    async def state(self, thread: str, checkpoint: str | None = None) -> StateSnapshot:
        """Read a thread's state."""
        try:
            at: Any = None if checkpoint is None else {"checkpoint_ns": "", "checkpoint_id": checkpoint}
            found: Any = await get_client().threads.get_state(thread, checkpoint=at)
        except (NotFoundError, UnprocessableEntityError):  # the latter for an id that is no UUID
            found = {}
        return _snapshot(thread, found)

    async def history(self, thread: str) -> Sequence[StateSnapshot]:
        """Read the newest states of a thread, newest first."""
        found: Any = await get_client().threads.get_history(thread, limit=MOST_CHECKPOINTS)
        return [_snapshot(thread, one) for one in found]

    async def read(self, thread: str) -> RunRecord:
        """Read all about a run, as far as the state has it."""
        snapshot = await self.snapshot(thread)
        return run_record(snapshot, thread=thread, status=self.status_of(thread, snapshot))

    def is_running(self, thread: str) -> bool:
        """Tell whether the server was running a thread when it was asked last."""
        return thread in self._busy


def _snapshot(thread: str, found: Mapping[str, Any]) -> StateSnapshot:
    """Read a state as a server writes it."""
    values = dict(found.get("values") or {})
    values["messages"] = convert_to_messages(values.get("messages") or [])
    before = found.get("parent_checkpoint")
    return StateSnapshot(
        values=values,
        next=tuple(found.get("next") or ()),
        config=config_of(thread, _id(found.get("checkpoint"))),
        metadata=found.get("metadata"),
        created_at=found.get("created_at"),
        parent_config=config_of(thread, _id(before)) if before else None,
        tasks=tuple(PregelTask(str(one["id"]), str(one["name"]), ()) for one in found.get("tasks") or ()),
        interrupts=tuple(
            Interrupt(value=one["value"], id=one["id"]) for one in found.get("interrupts") or ()
        ),
    )


def _id(checkpoint: Mapping[str, Any] | None) -> str:
    return str((checkpoint or {}).get("checkpoint_id") or "")


_threads = ServerThreads()


@asynccontextmanager
async def _lifespan(_: Starlette) -> AsyncIterator[None]:
    async with looking(_threads):
        yield


# The server decides who may read: ``enable_custom_route_auth`` puts its authentication in front of this.
_access = Access(hosts=None, authenticate=lambda _: "a client of the server", read_only=True)
app = Starlette(
    routes=[*components.routes, Mount("/board", create_app(_threads, _access))], lifespan=_lifespan
)
