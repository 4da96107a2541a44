"""The command that deletes: prune."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import known
from .exits import DONE, FAILED, BadUsageError
from .option_groups import SourceOptions
from .options import Database, JsonOutput
from .terminal import Screen

if TYPE_CHECKING:
    from collections.abc import Collection

    from ..threads.prune import PrunedThread, PruneReport

__all__ = ["prune"]

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def prune(
    threads: Annotated[
        list[str] | None,
        typer.Argument(metavar="THREAD", help="Only these (default: all whose runs have ended)."),
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option(
            "--older-than", metavar="AGE", help="Only what was last written to so long ago: 30d, 12h."
        ),
    ] = None,
    status: Annotated[
        list[str] | None,
        typer.Option(
            "--status",
            metavar="WORDS",
            help="Only runs that ended so, separated by commas: done, partial, failed, rejected.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Delete the named threads although their runs have not ended.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
    db: Database = None,
    json: JsonOutput = False,
) -> int:
    """Delete threads whose runs have ended, with all that is kept of them, and shrink the database.

    A thread that is being run is kept. In a terminal you are asked first.
    """
    screen, named = Screen(json=json), threads or []
    age = _read_age(older_than) if older_than is not None else None
    statuses = _read_statuses(status)
    if force and not named:
        raise BadUsageError("--force deletes threads whose runs have not ended: name them")
    from ..threads.prune import prune_threads
    from .sources import Sources

    database = Sources.read(SourceOptions(db=db)).database

    def carry_out(*, dry: bool) -> PruneReport:
        return prune_threads(
            database.open(),
            named,
            older_than=age,
            statuses=statuses,
            force=force,
            dry_run=dry,
            workspaces=database.workspaces,
        )

    if screen.interactive and not (yes or dry_run):
        plan = carry_out(dry=True)
        if not plan.deleted or not _agreed(screen, plan):
            return _tell(screen, plan if not plan.deleted else None, named)
    return _tell(screen, carry_out(dry=dry_run), named)


def _agreed(screen: Screen, plan: PruneReport) -> bool:
    for thread in plan.deleted:
        screen.data(_line(thread, "would delete"))
    count = len(plan.deleted)
    choices = {"yes": "they cannot be brought back", "no": "keep them"}
    return screen.choose(f"Delete {_threads(count)}?", choices) == "yes"


def _tell(screen: Screen, report: PruneReport | None, named: Collection[str]) -> int:
    if report is None:
        screen.note("Nothing was deleted.")
        return DONE
    if screen.json:
        screen.document(report.as_json())
    else:
        for thread in report.deleted:
            screen.data(_line(thread, "would delete" if report.dry_run else "deleted"))
        for thread in report.kept:
            screen.note(f"{_line(thread, 'kept')}: {thread.kept}")
    screen.note(_summary(report))
    return FAILED if any(thread.thread in named for thread in report.kept) else DONE


def _line(thread: PrunedThread, what: str) -> str:
    return f"{what}  {thread.thread}  {thread.at[:16].replace('T', ' ')}  {thread.status}"


def _summary(report: PruneReport) -> str:
    count = len(report.deleted)
    if report.dry_run:
        return f"{_threads(count)} would be deleted."
    given, left = report.bytes_before - report.bytes_after, report.bytes_after
    said = f"{_threads(count)} deleted; {_size(given)} given back, {_size(left)} in use."
    return f"{said} {report.note[0].upper()}{report.note[1:]}." if report.note else said


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _size(count: int) -> str:
    return f"{count:,} bytes" if abs(count) < 100_000 else f"{count / 1_000_000:,.1f} MB"


def _read_age(text: str) -> timedelta:
    found = re.fullmatch(r"(\d{1,6})([smhdw])", text.strip())
    if found is None:
        units = ", ".join(f"{letter} ({word})" for letter, word in _UNITS.items())
        raise BadUsageError(
            f"--older-than takes a number and a unit such as 30d, not {text!r}; units: {units}"
        )
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _read_statuses(given: list[str] | None) -> frozenset[str]:
    from ..state import FINAL_STATUSES

    words = {word.strip() for text in given or () for word in text.split(",") if word.strip()}
    if unknown := sorted(words - FINAL_STATUSES):
        raise BadUsageError(f"--status takes how a run ended: {known(FINAL_STATUSES)}; not {unknown[0]!r}")
    return frozenset(words) or FINAL_STATUSES
