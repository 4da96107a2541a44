"""The commands about plans that are kept for goals that recur: cache list, cache clear."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .exits import DONE, BadUsageError
from .option_groups import SourceOptions
from .options import Database, JsonOutput
from .terminal import Screen

if TYPE_CHECKING:
    from ..storage.plan_cache import ListedPlan
    from .sources import Sources

__all__ = ["app"]

app = typer.Typer(
    help="Look at the plans that `run --cache` keeps, or clear them.",
    rich_markup_mode=None,
    add_completion=False,
)

Namespace = Annotated[
    str | None,
    typer.Option("--namespace", metavar="NAME", help="Only the plans of this namespace (default: of all)."),
]


@app.command("list")
def list_(namespace: Namespace = None, db: Database = None, json: JsonOutput = False) -> int:
    """List the plans that are kept, newest first."""
    from ..storage.durations import say_duration
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


@app.command("clear")
def clear(
    goal: Annotated[str | None, typer.Option("--goal", metavar="TEXT", help="Those of this goal.")] = None,
    expired: Annotated[bool, typer.Option("--expired", help="Those whose time is over.")] = False,
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

    doomed = [entry for entry in _listed(sources, namespace) if is_meant(entry)]
    _drop(sources, doomed)
    screen = Screen(json=json)
    if json:
        screen.document({"cleared": len(doomed)})
    else:
        screen.data(f"{len(doomed)} plan{'' if len(doomed) == 1 else 's'} cleared.")
    return DONE


def _listed(sources: Sources, namespace: str | None) -> list[ListedPlan]:
    if sources.database.missing():
        return []
    from ..storage.plan_cache import list_cached_plans
    from ..tools.threads import run_to_end

    with sources.database.open() as (_, store):
        return run_to_end(list_cached_plans(store, namespace))


def _drop(sources: Sources, doomed: list[ListedPlan]) -> None:
    if not doomed:
        return
    from ..storage.plan_cache import CachedPlans
    from ..tools.threads import run_to_end

    with sources.database.open() as (_, store):
        for entry in doomed:
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
    from ..tools.calls import preview

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
