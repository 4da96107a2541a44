"""The commands that delete: prune, and the cache of plans."""

from __future__ import annotations

import re
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .exits import DONE, FAILED, BadUsageError
from .options import Database, JsonOutput, SourceOptions, read_words
from .terminal import Screen

if TYPE_CHECKING:
    from collections.abc import Collection

    from ..storage.plan_cache import ListedPlan
    from ..threads.prune import PrunedThread, PruneReport
    from .sources import Sources

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
            "--older-than",
            metavar="AGE",
            help="Only threads last written to at least this long ago: 30d, 12h.",
        ),
    ] = None,
    status: Annotated[
        list[str] | None,
        typer.Option(
            "--status",
            metavar="WORDS",
            help="Only runs with these final statuses, separated by commas: done, partial, failed, rejected.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Delete the named threads even if their runs have not ended.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
    db: Database = None,
    json: JsonOutput = False,
) -> int:
    """Delete threads whose runs have ended, with everything that is kept of them, and shrink the database.

    A thread that is being run is kept. In a terminal you are asked first.
    """
    from ..state import FINAL_STATUSES

    screen, named = Screen(json=json), threads or []
    age = _read_age(older_than) if older_than is not None else None
    statuses = read_words("--status", status, FINAL_STATUSES) or FINAL_STATUSES
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


# --- cache ----------------------------------------------------------------------------

cache = typer.Typer(
    help="Look at the plans that `run --cache` keeps, or clear them.",
    rich_markup_mode=None,
    add_completion=False,
)

Namespace = Annotated[
    str | None,
    typer.Option("--namespace", metavar="NAME", help="Only the plans of this namespace (default: of all)."),
]


@cache.command("list")
def list_(namespace: Namespace = None, db: Database = None, json: JsonOutput = False) -> int:
    """List the plans that are kept, newest first."""
    from ..storage.plan_cache import say_duration
    from .sources import Sources

    screen, now = Screen(json=json), time.time()
    found = _listed(Sources.read(SourceOptions(db=db)), namespace)
    if json:
        screen.document({"plans": [_as_json(entry, now) for entry in found]})
        return DONE
    for entry in found:
        for line in _lines(entry, now, say_duration):
            screen.data(line)
    if not found:
        screen.note("No plans are kept.")
    return DONE


@cache.command("clear")
def clear(
    goal: Annotated[str | None, typer.Option("--goal", metavar="TEXT", help="Those of this goal.")] = None,
    expired: Annotated[bool, typer.Option("--expired", help="Those that have expired.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    namespace: Namespace = None,
    db: Database = None,
    json: JsonOutput = False,
) -> int:
    """Forget plans: those of a goal, the expired ones, or all."""
    if (goal is not None) + expired + everything != 1:
        raise BadUsageError("say what to clear: one of --goal TEXT, --expired and --all")
    from ..plan.reuse import normalised_goal
    from .sources import Sources

    sources, now = Sources.read(SourceOptions(db=db)), time.time()

    def is_meant(entry: ListedPlan) -> bool:
        if everything or entry.plan is None:
            return everything
        if expired:
            return entry.plan.expires_at <= now
        return normalised_goal(entry.plan.goal) == normalised_goal(goal or "")

    meant = [entry for entry in _listed(sources, namespace) if is_meant(entry)]
    _drop(sources, meant)
    screen = Screen(json=json)
    if json:
        screen.document({"cleared": len(meant)})
    else:
        screen.data(f"{len(meant)} plan{'' if len(meant) == 1 else 's'} cleared.")
    return DONE


def _listed(sources: Sources, namespace: str | None) -> list[ListedPlan]:
    if sources.database.missing():
        return []
    from ..storage.plan_cache import list_cached_plans
    from ..tools.threads import run_to_end

    with sources.database.open() as (_, store):
        return run_to_end(list_cached_plans(store, namespace))


def _drop(sources: Sources, meant: list[ListedPlan]) -> None:
    if not meant:
        return
    from ..storage.plan_cache import CachedPlans
    from ..tools.threads import run_to_end

    with sources.database.open() as (_, store):
        for entry in meant:
            run_to_end(CachedPlans(store, entry.namespace).drop(entry.key))


def _as_json(entry: ListedPlan, now: float) -> dict[str, Any]:
    place = {"namespace": entry.namespace, "key": entry.key, "hits": entry.hits}
    if entry.plan is None:
        return place | {"problem": entry.problem}
    plan = entry.plan
    return place | {
        "goal": plan.goal,
        "steps": len(plan.plan["steps"]),
        "model": plan.model,
        "thread": plan.thread_id,
        "age_s": round(now - plan.stored_at, 3),
        "expires_in_s": round(plan.expires_at - now, 3),
        "plan": plan.plan,
    }


def _lines(entry: ListedPlan, now: float, say: Any) -> list[str]:
    if entry.plan is None:
        return [f"(unreadable: {entry.problem})", f"    namespace {entry.namespace} · key {entry.key[:12]}"]
    from ..tools.texts import preview

    plan = entry.plan
    count, left = len(plan.plan["steps"]), plan.expires_at - now
    facts = [
        f"{count} step{'' if count == 1 else 's'}",
        f"{say(now - plan.stored_at)} old",
        f"expires in {say(left)}" if left > 0 else "expired",
        f"used {entry.hits} time{'' if entry.hits == 1 else 's'}",
        f"from thread {plan.thread_id}",
        f"namespace {entry.namespace}",
    ]
    return [preview(" ".join(plan.goal.split()), 100), "    " + " · ".join(facts)]
