"""The command that changes the plan of a run: edit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .exits import DONE, BadUsageError
from .option_groups import SourceOptions
from .options import JsonOutput, Plain, Thread
from .terminal import Screen

if TYPE_CHECKING:
    from .driving import Session
    from .plan_edit import PlanEdit

__all__ = ["edit"]


def edit(
    thread: Thread,
    *,
    plan: Annotated[
        Path | None,
        typer.Option(
            "--plan",
            metavar="FILE",
            help="The whole edited plan, YAML or JSON (default: edit it in $VISUAL or $EDITOR).",
        ),
    ] = None,
    no_run: Annotated[
        bool, typer.Option("--no-run", help="Only store the edited plan; `resume` runs it.")
    ] = False,
    source_options: SourceOptions,
    plain: Plain = False,
    json: JsonOutput = False,
) -> int:
    """Change the plan of a paused or finished run, and go on with it.

    Finished steps stay. Changed steps run; those that had failed get new ids,
    and so does what depends on them. Editing a plan is approving it.
    """
    screen = Screen(json=json, plain=plain)
    if plan is None and not screen.interactive:
        raise BadUsageError("there is no terminal to edit the plan in; give the edited plan with --plan FILE")
    from ..threads.requirements import require_means
    from .driving import Session, drive
    from .plan_edit import PlanEdit, edit_from_file, edit_in_editor, settle
    from .snapshots import look_up
    from .sources import Sources, open_agent

    sources = Sources.read(source_options)
    toolbox = sources.toolbox(thread)
    with open_agent(sources, toolbox, existing=True) as agent:
        session = Session(agent, thread, screen, sources.resume_command(thread))
        snapshot = look_up(agent, thread)
        if not sources.has_tools:
            require_means(agent, toolbox, snapshot, again=True)
        change = PlanEdit(session, snapshot)
        stored = edit_from_file(change, plan) if plan is not None else edit_in_editor(change)
        if not stored:
            return _unchanged(session)
        if not no_run:
            return drive(session, None)
        settle(session)
        return _stored(session, change)


def _unchanged(session: Session) -> int:
    from .snapshots import status_of

    if session.screen.json:
        status = status_of(session.snapshot())
        session.screen.document({"thread": session.thread, "changed": False, "status": status})
    session.screen.note("Nothing was changed.")
    return DONE


def _stored(session: Session, change: PlanEdit) -> int:
    from ..plan.identity import plan_difference
    from .snapshots import status_of

    snapshot = session.snapshot()
    plan = snapshot.values["plan"]
    if session.screen.json:
        difference = plan_difference(change.current, plan)
        described = {"thread": session.thread, "changed": True, "status": status_of(snapshot)}
        session.screen.document({**described, "difference": difference, "plan": plan})
    session.screen.note(f"Stored as revision {plan['revision']}. Run it with: {session.resume}")
    return DONE
