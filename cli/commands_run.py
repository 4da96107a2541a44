"""The commands that run something, or change what runs: run, resume, retry, edit, cancel, demo."""

from __future__ import annotations

import re
import shlex
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import typer

from .exits import DONE, BadUsageError
from .options import (
    CacheOptions,
    Database,
    DryRun,
    Inputs,
    InputsFile,
    JsonOutput,
    Person,
    Plain,
    Prices,
    Priority,
    Queued,
    SettingOptions,
    SourceOptions,
    Thread,
    Yes,
)
from .terminal import Screen

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.types import StateSnapshot

    from ..people.questions import OpenQuestion
    from ..tools.toolbox import Toolbox
    from .driving import Session
    from .plan_edit import PlanEdit

__all__ = ["cancel", "demo", "edit", "resume", "retry", "run"]


def run(
    goal: Annotated[
        str | None,
        typer.Argument(metavar="[GOAL | FILE]", help="What to achieve, in your words; or a plan file."),
    ] = None,
    *,
    plan: Annotated[
        Path | None,
        typer.Option("--plan", metavar="FILE", help="Run this plan (YAML or JSON; - for stdin)."),
    ] = None,
    source_options: SourceOptions,
    thread: Annotated[
        str | None,
        typer.Option(
            "--thread", metavar="ID", help="The thread's id (default: a new one, which is printed)."
        ),
    ] = None,
    abandon: Annotated[
        bool, typer.Option("--abandon", help="Give up the run that is open on the thread, if there is one.")
    ] = False,
    inputs: Inputs = None,
    inputs_file: InputsFile = None,
    setting_options: SettingOptions,
    person: Person = None,
    prices: Prices = None,
    cache_options: CacheOptions,
    dry_run: DryRun = False,
    plain: Plain = False,
    queue: Queued = False,
    priority: Priority = 0,
    json: JsonOutput = False,
) -> int:
    """Plan a goal and run it, or run a plan file."""
    if plan is None and goal is not None and _names_a_file(goal):
        plan, goal = Path(goal), None
    if (goal is None) == (plan is None):
        raise BadUsageError("give either a goal or --plan FILE")
    from uuid import uuid4

    from ..storage.ids import checked_thread_id
    from .commands_plan import preview_run
    from .commands_worker import leave_to_workers
    from .driving import Session, drive, note_earlier_run
    from .plan_files import GivenInputs, read_plan
    from .sources import Sources, in_the_name_of, open_agent, read_plan_cache, read_settings, who_is_there

    screen = Screen(json=json, plain=plain)
    sources = Sources.read(source_options, prices=prices)
    kept = read_plan_cache(cache_options, for_goal=goal is not None)
    values = GivenInputs.read(inputs, inputs_file)
    settings = read_settings(**vars(setting_options))
    if goal is not None and thread is None and not queue:
        # A thread may hold models in its settings; a new one has none.
        sources.require_model()
    thread = checked_thread_id(thread) if thread is not None else uuid4().hex[:12]
    if dry_run:
        return preview_run(screen, sources, goal, plan, values, settings)
    toolbox = sources.toolbox(thread)
    if plan is not None:
        checked = read_plan(plan, toolbox, values, has_model=sources.model is not None, elsewhere=queue)
        given: dict[str, Any] = {"plan": checked.plan_file.plan, "inputs": checked.inputs}
    else:
        given = {"goal": goal, "inputs": values.values()}
    given |= {"abandon": True} if abandon else {}
    with open_agent(sources, toolbox, plan_cache=kept) as agent:
        note_earlier_run(screen, agent, thread)
        if queue:
            named = in_the_name_of(settings, who_is_there(person))
            return leave_to_workers(agent, screen, thread, given, named, priority)
        session = Session(agent, thread, screen, sources.resume_command(thread), who_is_there(person))
        screen.note(f"Thread: {thread}")
        return drive(session, given, settings)


def _names_a_file(text: str) -> bool:
    """Tell a plan file from a goal: one word that ends as plan files do."""
    return text.endswith((".yaml", ".yml", ".json")) and (not re.search(r"\s", text) or Path(text).is_file())


def resume(
    thread: Thread = None,
    *,
    approve: Annotated[
        bool, typer.Option("--approve", help="Answer yes, or take the proposed decision.")
    ] = False,
    reject: Annotated[
        str | None,
        typer.Option("--reject", metavar="TEXT", help="Answer no, and say what should be different."),
    ] = None,
    answer: Annotated[
        str | None,
        typer.Option(
            "--answer",
            metavar="JSON",
            help='Any answer: {"decision": "skip"} for a failed step, words for a question.',
        ),
    ] = None,
    question: Annotated[
        str | None,
        typer.Option(
            "--question", metavar="ID", help="Which question, if several are open (its id or its start)."
        ),
    ] = None,
    source_options: SourceOptions,
    person: Person = None,
    prices: Prices = None,
    plain: Plain = False,
    queue: Queued = False,
    json: JsonOutput = False,
) -> int:
    """Go on with a run, or answer what it asks."""
    reply = _reply(approve, reject, answer)
    if question is not None and reply is None:
        raise BadUsageError("--question needs an answer: --approve, --reject TEXT or --answer JSON")
    from langgraph.types import Command

    from ..threads.requirements import check_can_go_on
    from .commands_worker import leave_to_workers
    from .driving import Session, drive, note_overdue
    from .overview import can_go_on, the_thread
    from .sources import Sources, in_the_name_of, open_agent, who_is_there
    from .views import look_up, open_questions, overdue_questions

    screen = Screen(json=json, plain=plain)
    sources = Sources.read(source_options, prices=prices)
    thread = the_thread(screen, sources, thread, "resume", can_go_on)
    toolbox = sources.toolbox(thread)
    with open_agent(sources, toolbox, existing=True) as agent:
        snapshot = look_up(agent, thread)
        if queue:
            chosen = _chosen(snapshot, open_questions(snapshot), question) if reply is not None else None
            answered: Any = Command(resume={chosen: reply[0]}) if reply is not None else None
            return leave_to_workers(
                agent, screen, thread, answered, in_the_name_of(None, who_is_there(person))
            )
        session = Session(agent, thread, screen, sources.resume_command(thread), who_is_there(person))
        overdue = overdue_questions(snapshot)
        if overdue:
            note_overdue(screen, snapshot, overdue)
        if reply is None:
            return _go_on(session, toolbox, snapshot, overdue)
        chosen = _chosen(snapshot, open_questions(snapshot), question)
        if any(late.id == chosen for late in overdue):
            screen.note("This answer comes too late to count.")
        if reject is None:
            check_can_go_on(agent, toolbox, snapshot)
        return drive(session, Command(resume={chosen: reply[0]}))


def _go_on(
    session: Session, toolbox: Toolbox, snapshot: StateSnapshot, overdue: Sequence[OpenQuestion]
) -> int:
    """Go on without an answer from the command line; overdue questions get their safe default."""
    from ..threads.requirements import check_can_go_on
    from .driving import answer_open_questions, check_can_end, drive

    if overdue:
        check_can_end(session.agent, toolbox, snapshot, overdue)
        return drive(session, None)
    if not snapshot.interrupts or session.screen.interactive:
        check_can_go_on(session.agent, toolbox, snapshot)
    return answer_open_questions(session) if snapshot.interrupts else drive(session, None)


def _reply(approve: bool, reject: str | None, answer: str | None) -> tuple[Any] | None:
    """Read the answer from the options, in a tuple because any JSON value can be one; None: there is none."""
    if approve + (reject is not None) + (answer is not None) > 1:
        raise BadUsageError("give only one of --approve, --reject and --answer")
    if approve:
        return ("approve",)
    if reject is not None:
        return ({"type": "reject", "message": reject},)
    if answer is None:
        return None
    import json

    try:
        return (json.loads(answer),)
    except ValueError as error:
        if answer.lstrip()[:1] in ("{", "[", '"'):
            raise BadUsageError(f"--answer is not JSON: {error}") from error
        return (answer,)  # words, for a question in words


def _chosen(snapshot: StateSnapshot, questions: list[OpenQuestion], wanted: str | None) -> str:
    """Find the question that is answered."""
    from ..errors import InvalidAnswerError, NothingToResumeError, known

    if not questions:
        raise NothingToResumeError(
            f"no question is open on this thread (status: {snapshot.values.get('status', 'unknown')})"
        )
    found = [question.id for question in questions if wanted is None or question.id.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    open_ones = known(f"{question.id[:8]} ({question.name})" for question in questions)
    if not found:
        raise InvalidAnswerError(f"no open question has an id that starts with {wanted!r}; open: {open_ones}")
    raise InvalidAnswerError(f"several questions are open, choose one with --question ID; open: {open_ones}")


def retry(
    thread: Thread = None,
    *,
    step: Annotated[
        list[str] | None,
        typer.Option(
            "--step", metavar="ID", help="Run this step again, even if it succeeded. May be repeated."
        ),
    ] = None,
    source_options: SourceOptions,
    person: Person = None,
    prices: Prices = None,
    plain: Plain = False,
    json: JsonOutput = False,
) -> int:
    """Run failed or chosen steps again.

    Steps that depend on them run again, too; you are asked before they repeat a write. Other finished steps
    are kept.
    """
    from ..graph.control import retry_steps
    from ..graph.loop import run as run_now
    from ..threads.requirements import check_can_go_on
    from .driving import Session, drive
    from .overview import the_thread
    from .sources import Sources, open_agent, who_is_there
    from .views import look_up

    screen = Screen(json=json, plain=plain)
    sources = Sources.read(source_options, prices=prices)
    thread = the_thread(screen, sources, thread, "retry")
    toolbox = sources.toolbox(thread)
    with open_agent(sources, toolbox, existing=True) as agent:
        session = Session(agent, thread, screen, sources.resume_command(thread), who_is_there(person))
        check_can_go_on(agent, toolbox, look_up(agent, thread), again=True)
        again = run_now(retry_steps(agent, session.config, step or None, person=session.person))
        screen.note(f"Again: {', '.join(again)}" if again else "The next steps are planned once more.")
        return drive(session, None)


def cancel(
    thread: Thread = None, db: Database = None, person: Person = None, json: JsonOutput = False
) -> int:
    """End a run; what is done is kept and reported."""
    from ..graph.control import cancel_run
    from ..graph.loop import run as run_now
    from ..state import FINAL_STATUSES
    from .overview import the_thread
    from .sources import Sources, open_agent, who_is_there
    from .views import look_up, status_of

    screen, sources = Screen(json=json), Sources.read(SourceOptions(db=db))
    thread = the_thread(screen, sources, thread, "cancel", lambda entry: entry.status not in FINAL_STATUSES)
    with open_agent(sources, existing=True) as agent:
        snapshot = look_up(agent, thread)
        address: RunnableConfig = {"configurable": {"thread_id": thread}}
        outcome = run_now(cancel_run(agent, address, person=who_is_there(person)))
        if outcome == "cancelled":
            snapshot = look_up(agent, thread)
        if json:
            screen.document({"thread": thread, "cancel": outcome, "status": status_of(agent, snapshot)})
        elif outcome == "requested":
            screen.data(f"The process that runs thread {thread} was asked to stop.")
        else:
            screen.markdown(snapshot.values.get("final_answer") or f"Thread {thread} has ended.")
    return DONE


def demo(
    name: Annotated[
        str,
        typer.Argument(
            metavar="[NAME]",
            help="Which example: release (default), scaffold, report; "
            "or tour: a release that is approved, killed, resumed and repaired.",
        ),
    ] = "release",
    ending: Annotated[
        str | None,
        typer.Option("--ending", metavar="NAME", help="How the release example ends: good, smoke or verify."),
    ] = None,
    db: Database = None,
    yes: Yes = False,
    plain: Plain = False,
    json: JsonOutput = False,
) -> int:
    """Run a scripted example with real tools.

    It needs no key and no model, and leaves nothing behind. Only the tour leaves its thread, for you to
    look at.
    """
    from ..context import Environment
    from ..examples import DEMOS, build_demo
    from ..graph import create_plan_execute_agent
    from ..graph.server import watched_by
    from .driving import Session, drive
    from .places import Place
    from .sources import who_is_there

    screen = Screen(json=json, plain=plain)
    if name == "tour":
        return _tour(screen, db, plain=plain, refused=json or yes or ending is not None)
    demo = build_demo(name, ending=ending) if ending is not None else build_demo(name)
    screen.note(f"{name}: {DEMOS[name]}")
    with closing(demo), tempfile.TemporaryDirectory(prefix="plan-execute-demo-") as folder:
        place = Place(db or str(Path(folder) / "threads.db"))
        with place.open() as (checkpointer, store):
            agent = create_plan_execute_agent(**demo.agent_args, checkpointer=checkpointer, store=store)
            agent = watched_by(agent, Environment.read())
            settings = demo.context.model_copy(update={"approval": "never"}) if yes else demo.context
            session = Session(agent, uuid4().hex[:12], screen, person=who_is_there(None), kept=db is not None)
            return drive(session, {"goal": demo.goal}, settings)


def _tour(screen: Screen, db: str | None, *, plain: bool, refused: bool) -> int:
    from ..context import Environment
    from .places import Place
    from .tour import tour

    if refused:
        raise BadUsageError("the tour takes --db and --plain only; `demo release` takes the other options")
    named = db or Environment.read().database
    place = Place(named) if named else Place.default()
    return tour(screen, place, f" --db {shlex.quote(place.shown)}" if db else "", plain=plain)


# --- edit -----------------------------------------------------------------------------


def edit(
    thread: Thread = None,
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
    person: Person = None,
    prices: Prices = None,
    plain: Plain = False,
    json: JsonOutput = False,
) -> int:
    """Change the plan of a paused or finished run, and go on with it.

    Finished steps stay. Changed steps run. Steps that had failed get new ids, and so do the steps that
    depend on them. An edit also approves the plan.
    """
    screen = Screen(json=json, plain=plain)
    if plan is None and not screen.interactive:
        raise BadUsageError("there is no terminal to edit the plan in; give the edited plan with --plan FILE")
    from ..threads.requirements import check_can_go_on
    from .driving import Session, drive
    from .overview import the_thread
    from .plan_edit import PlanEdit, edit_from_file, edit_in_editor, settle
    from .sources import Sources, open_agent, who_is_there
    from .views import look_up

    sources = Sources.read(source_options, prices=prices)
    thread = the_thread(screen, sources, thread, "edit")
    toolbox = sources.toolbox(thread)
    with open_agent(sources, toolbox, existing=True) as agent:
        session = Session(agent, thread, screen, sources.resume_command(thread), who_is_there(person))
        snapshot = look_up(agent, thread)
        if not sources.has_tools:
            check_can_go_on(agent, toolbox, snapshot, again=True)
        change = PlanEdit(session, snapshot)
        stored = edit_from_file(change, plan) if plan is not None else edit_in_editor(change)
        if not stored:
            return _unchanged(session)
        if not no_run:
            return drive(session, None)
        settle(session)
        return _stored(session, change)


def _unchanged(session: Session) -> int:
    from .views import status_of

    if session.screen.json:
        status = status_of(session.agent, session.snapshot())
        session.screen.document({"thread": session.thread, "changed": False, "status": status})
    session.screen.note("Nothing was changed.")
    return DONE


def _stored(session: Session, change: PlanEdit) -> int:
    from ..plan.identity import plan_difference
    from .views import status_of

    snapshot = session.snapshot()
    plan = snapshot.values["plan"]
    if session.screen.json:
        difference = plan_difference(change.current, plan)
        status, thread = status_of(session.agent, snapshot), session.thread
        described = {"thread": thread, "changed": True, "status": status, "difference": difference}
        session.screen.document({**described, "plan": plan})
    session.screen.note(f"Stored as revision {plan['revision']}. Run it with: {session.resume}")
    return DONE
