"""Delete threads whose runs have ended, and return their space."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidInputError, PlanExecuteError, ThreadBusyError, ThreadNotFoundError, known
from ..graph.build import create_plan_execute_agent
from ..graph.door.thread_state import check_version
from ..state import FINAL_STATUSES
from ..storage.persistence import LocalPersistence, Persistence, local_persistence
from ..storage.thread_names import list_threads
from ..tools.workspaces import workspaces_of
from .deletion import delete_thread, file_of, finish_deletions, give_space_back, stored_bytes

if TYPE_CHECKING:
    from ..graph.agent import PlanExecuteAgent

__all__ = ["PruneReport", "PrunedThread", "prune_threads"]


@dataclass(frozen=True)
class PrunedThread:
    """A thread that was deleted or kept."""

    thread: str
    status: str
    """How its run ended; ``open`` or ``waiting`` if it has not, ``foreign`` if it is not our run."""
    at: str
    """When it was last written (ISO 8601, UTC); "" if that is unknown."""
    kept: str | None = None
    """Why it was kept; None: it was deleted."""


@dataclass(frozen=True)
class PruneReport:
    """What `prune_threads` did."""

    threads: list[PrunedThread]
    """The deleted threads, and the chosen ones that were kept."""
    bytes_before: int
    bytes_after: int
    """Size of the database with its log and of the deleted workspaces; the same as before in a dry run."""
    note: str | None = None
    """What kept the file from shrinking, if anything did."""
    dry_run: bool = False

    @property
    def deleted(self) -> list[PrunedThread]:
        """The deleted threads; in a dry run, those that would be deleted."""
        return [thread for thread in self.threads if thread.kept is None]

    @property
    def kept(self) -> list[PrunedThread]:
        """The chosen threads that were kept."""
        return [thread for thread in self.threads if thread.kept is not None]

    def as_json(self) -> dict[str, Any]:
        """Describe it for a program."""
        gone = [{k: v for k, v in asdict(thread).items() if k != "kept"} for thread in self.deleted]
        sizes = {"bytes_before": self.bytes_before, "bytes_after": self.bytes_after}
        sizes["bytes_given_back"] = self.bytes_before - self.bytes_after
        kept = [asdict(thread) for thread in self.kept]
        return {"deleted": gone, "kept": kept, **sizes, "note": self.note, "dry_run": self.dry_run}


@dataclass(frozen=True)
class _Choice:
    named: Collection[str]
    older_than: timedelta | None
    statuses: Collection[str]
    force: bool
    now: datetime

    def reason_to_keep(self, thread: PrunedThread) -> str | None:
        """Return why a thread is not to be deleted; None if it is."""
        if thread.status not in FINAL_STATUSES:
            return None if self.force else "its run has not ended (force deletes it)"
        if thread.status not in self.statuses:
            return f"it ended {thread.status}"
        if self.older_than is not None and not self._is_older(thread.at):
            return "it is not old enough"
        return None

    def _is_older(self, at: str) -> bool:
        assert self.older_than is not None
        return bool(at) and self.now - datetime.fromisoformat(at) >= self.older_than


def prune_threads(
    storage: str | os.PathLike[str] | AbstractContextManager[Persistence],
    threads: Collection[str] = (),
    *,
    older_than: timedelta | None = None,
    statuses: Collection[str] = FINAL_STATUSES,
    force: bool = False,
    dry_run: bool = False,
    workspaces: Path | None = None,
) -> PruneReport:
    """Delete threads whose runs have ended: checkpoints, ledger, artifacts, workspace; then shrink the file.

    A thread that is being run is kept. After a kill a thread is complete or gone; the next call deletes the
    rest of one that is gone.

    Args:
        storage: A file, or what `local_persistence` or `postgres_persistence` returns, not yet entered.
        threads: Only these; empty means all.
        older_than: Only those that were last written at least so long ago.
        statuses: Only those that ended with this status: done, partial, failed, rejected.
        force: Delete the named ones although their runs have not ended.
        dry_run: Only say what would be deleted.
        workspaces: The folder of the threads' workspaces; None: the one next to the file.

    Raises:
        InvalidInputError: If a status is unknown, or force names no threads.
        ThreadNotFoundError: If a named thread does not exist; nothing is deleted then.
        StorageError: If the database cannot be used.
    """
    if unknown := sorted(set(statuses) - FINAL_STATUSES):
        raise InvalidInputError(f"no run ends {unknown[0]!r}; runs end {known(FINAL_STATUSES)}")
    if force and not threads:
        raise InvalidInputError("force deletes threads whose runs have not ended: name them")
    opening = local_persistence(storage) if isinstance(storage, str | os.PathLike) else storage
    if isinstance(opening, LocalPersistence) and not opening.path.exists():
        _require(threads, ())
        return PruneReport([], 0, 0, dry_run=dry_run)
    choice = _Choice(set(threads), older_than, set(statuses), force, datetime.now(UTC))
    with opening as persistence:
        file = file_of(persistence)
        folder = workspaces_of(file) if workspaces is None and file is not None else workspaces
        return _prune(persistence, file, folder, choice, dry_run)


def _prune(
    persistence: Persistence, file: Path | None, workspaces: Path | None, choice: _Choice, dry_run: bool
) -> PruneReport:
    times = dict(list_threads(persistence.checkpointer))
    _require(choice.named, times)
    agent = create_plan_execute_agent(checkpointer=persistence.checkpointer, store=persistence.store)
    wanted = {thread: at for thread, at in times.items() if not choice.named or thread in choice.named}
    before = stored_bytes(file, workspaces, wanted)
    if dry_run:
        seen = [_judge(agent, choice, thread, at) for thread, at in wanted.items()]
        return PruneReport([thread for thread in seen if thread is not None], before, before, dry_run=True)
    finish_deletions(persistence, workspaces)
    ended = [*_delete(persistence, workspaces, agent, choice, wanted)]
    note = give_space_back(persistence)
    return PruneReport(ended, before, stored_bytes(file, workspaces, wanted), note)


def _require(named: Collection[str], existing: Collection[str]) -> None:
    if missing := sorted(set(named) - set(existing)):
        raise ThreadNotFoundError(f"there is no thread {missing[0]!r}; nothing was deleted")


def _delete(
    persistence: Persistence,
    workspaces: Path | None,
    agent: PlanExecuteAgent,
    choice: _Choice,
    wanted: dict[str, str],
) -> Iterator[PrunedThread]:
    for thread, at in wanted.items():
        try:
            with persistence.checkpointer.thread_lock(thread):
                judged = _judge(agent, choice, thread, at)
                if judged is not None and judged.kept is None:
                    delete_thread(persistence, thread, workspaces)
        except ThreadBusyError:
            judged = PrunedThread(thread, "open", at, "somebody is running it")
        if judged is not None:
            yield judged


def _judge(agent: PlanExecuteAgent, choice: _Choice, thread: str, at: str) -> PrunedThread | None:
    """Tell whether a thread is to be deleted, or why not; None if it was not chosen."""
    try:
        found = PrunedThread(thread, _status(agent, thread), at)
    except PlanExecuteError as error:
        # Another version wrote it, or it is damaged: it is deleted only if it is named.
        return PrunedThread(thread, "foreign", at, None if choice.force else str(error))
    reason = choice.reason_to_keep(found)
    return None if reason and thread not in choice.named else replace(found, kept=reason)


def _status(agent: PlanExecuteAgent, thread: str) -> str:
    snapshot = agent.get_state({"configurable": {"thread_id": thread}})
    check_version(snapshot)
    if snapshot.interrupts:
        return "waiting"
    if snapshot.tasks:
        return "open"
    # A parent graph may use our channels' names; only we write this one.
    ours = snapshot.values.get("schema_version") is not None
    status = str(snapshot.values.get("status"))
    return status if ours and status in FINAL_STATUSES else "foreign"
