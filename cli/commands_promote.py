"""The command that keeps what worked: promote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .commands_plan import write_plan
from .exits import DONE
from .option_groups import PromotionOptions
from .options import Force, JsonOutput, PlanOutput, Thread
from .terminal import Screen

if TYPE_CHECKING:
    from langgraph.types import StateSnapshot

    from ..plan.promotion import Promotion
    from ..tools.toolbox import Toolbox

__all__ = ["promote"]


def promote(
    thread: Thread,
    *,
    output: PlanOutput = None,
    lift: Annotated[
        list[str] | None,
        typer.Option(
            "--lift",
            metavar="PATH=NAME",
            help="Make a literal an input, such as weather.city=city. A second literal that has the same "
            "value, or a text that holds it, may get the same name. May be repeated.",
        ),
    ] = None,
    everywhere: Annotated[
        bool, typer.Option("--everywhere", help="Lift a literal wherever else it stands as a whole value.")
    ] = False,
    force: Force = False,
    source_options: PromotionOptions,
    json: JsonOutput = False,
) -> int:
    """Make a reusable plan of a run that succeeded.

    Its final revision, as it was repaired, becomes a plan file that runs without a
    planner. With --tools it is checked against them too.
    """
    from ..plan.files.plan_files import STDIN, check_writable
    from ..plan.literals import Lift
    from ..plan.promotion import promote as promote_plan
    from .snapshots import look_up, results_of
    from .sources import Sources, open_agent
    from .unchecked import UncheckedToolbox

    if output not in (None, STDIN):
        check_writable(output, overwrite=force)
    lifts = [Lift.read(text) for text in lift or ()]
    screen, sources = Screen(json=json), Sources.read(source_options)
    toolbox = sources.toolbox() if sources.has_tools else UncheckedToolbox()
    with open_agent(sources, existing=True) as agent:
        snapshot = look_up(agent, thread)
    _require_done(thread, snapshot)
    values = snapshot.values
    promotion = promote_plan(
        values["plan"],
        results_of(snapshot),
        inputs=values.get("inputs"),
        audit=values.get("audit") or (),
        lifts=lifts,
        everywhere=everywhere,
        argument_schema=toolbox.arguments_schema if sources.has_tools else None,
    )
    _require_valid(promotion.plan, toolbox)
    write_plan(screen, promotion.plan, output, _header(thread, snapshot, promotion), force=force)
    return DONE


def _require_done(thread: str, snapshot: StateSnapshot) -> None:
    from ..errors import NotPromotableError
    from .snapshots import status_of

    if (status := status_of(snapshot)) != "done" or snapshot.next:
        ways = {
            "waiting": "answer its question first (`plan-execute resume`)",
            "partial": "retry or edit what failed, until everything is done",
            "failed": "retry or edit what failed, until everything is done",
        }
        way = ways.get(status, "let it end first" if snapshot.next else "only what worked is worth keeping")
        raise NotPromotableError(
            f"thread {thread!r} is {status}, and only a run that ended done can be promoted; {way}"
        )


def _require_valid(plan: dict[str, Any], toolbox: Toolbox) -> None:
    from ..context import Context
    from ..errors import InvalidPlanError
    from ..plan.rules import PlanFacts, validate_plan

    issues = validate_plan(plan, PlanFacts(toolbox, Context().step_limit(by_model=False)))[1]
    if issues:
        listed = "".join(f"\n  {issue['code']}: {issue['message']}" for issue in issues)
        raise InvalidPlanError(f"the promoted plan could not run, so it was not written:{listed}", issues)


def _header(thread: str, snapshot: StateSnapshot, promotion: Promotion) -> list[str]:
    """Say where the plan is from, and what a new run of it will do otherwise."""
    from datetime import UTC, datetime
    from importlib.metadata import version

    from ..plan.promotion import needs_model

    values = snapshot.values
    ended = max((result["finished_at"] or "" for result in values["results"].values()), default="")
    lines = [
        f"Goal: {values.get('goal') or values['plan'].get('goal') or ''}"[:500],
        f"Promoted from thread {thread}, revision {values['plan'].get('revision', 1)} "
        f"({values.get('replans', 0)} replans), which ended done on {ended[:10]}.",
        f"Written by plan-execute {version('plan-execute')} on {datetime.now(UTC):%Y-%m-%d}.",
    ]
    renamed = [f"{new} (was {old})" for old, new in promotion.renamed.items()]
    lines += _line("Ids cleaned", renamed) + _line("Dropped", promotion.dropped)
    lines += _line("By hand in that run", promotion.by_hand)
    return lines + _line("Steps that need a model", needs_model(promotion.plan))


def _line(title: str, items: Sequence[str]) -> list[str]:
    return [f"{title}: {'; '.join(items)}."] if items else []
