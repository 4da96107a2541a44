"""The commands that look at threads: inbox, list, show, history, graph, report."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from .exits import DONE, BadUsageError
from .options import (
    Database,
    Force,
    JsonOutput,
    Picture,
    ReportForm,
    ReportFormatOption,
    ReportOutput,
    SourceOptions,
    Thread,
    complete_threads,
    read_words,
)
from .terminal import Screen

if TYPE_CHECKING:
    from datetime import datetime

    from langchain_core.runnables import RunnableConfig

    from ..report import ReportFormat
    from .overview import Entry, Wanted
    from .sources import Sources

__all__ = ["graph", "history", "inbox", "list_", "overview", "report", "show"]


def overview() -> int:
    """Say what waits, what runs, and what to do next."""
    from datetime import UTC, datetime

    from .overview import entries, overview_lines, window_width
    from .sources import Sources, open_threads

    screen, sources = Screen(json=False), Sources.read()
    found: list[Entry] = []
    if not sources.database.missing():
        with open_threads(sources) as agent:
            found = list(islice(entries(agent), 50))
    width = window_width() or 100
    for line in overview_lines(found, sources.resume_command, width=width, now=datetime.now(UTC)):
        screen.prose(line)
    return DONE


def inbox(db: Database = None, json: JsonOutput = False) -> int:
    """Show what waits for you, over all threads, oldest first.

    Answer with `resume`.
    """
    from datetime import UTC, datetime

    from .overview import entries, inbox_lines
    from .sources import Sources, open_threads

    screen, sources = Screen(json=json), Sources.read(SourceOptions(db=db))
    waiting: list[Entry] = []
    if not sources.database.missing():
        with open_threads(sources) as agent:
            waiting = [entry for entry in entries(agent) if entry.questions][::-1]
    if json:
        screen.document({"waiting": [entry.as_json() for entry in waiting]})
        return DONE
    for line in inbox_lines(waiting, sources.resume_command, now=datetime.now(UTC)):
        screen.prose(line)
    if not waiting:
        screen.note("Nothing waits for you.")
    return DONE


def list_(
    db: Database = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, help="Show at most this many (default: 50).")
    ] = 50,
    status: Annotated[
        list[str] | None,
        typer.Option(
            "--status",
            metavar="STATUS",
            help="Only threads with this status; several separated by commas. May be repeated.",
        ),
    ] = None,
    goal: Annotated[
        str, typer.Option("--goal", metavar="TEXT", help="Only threads whose goal holds this text.")
    ] = "",
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="TIME", help="Only threads that were active within this time, such as 2d."
        ),
    ] = None,
    started: Annotated[
        str | None,
        typer.Option("--started", metavar="TIME", help="Only runs started within this time, such as 7d."),
    ] = None,
    min_cost: Annotated[
        float | None,
        typer.Option(
            "--min-cost", metavar="COST", help="Only runs that cost at least this much, such as 0.5."
        ),
    ] = None,
    json: JsonOutput = False,
) -> int:
    """List threads, newest first: progress, status, goal, and what they wait for."""
    from datetime import UTC, datetime

    from ..storage.thread_names import list_threads
    from .overview import entries, list_lines, window_width
    from .sources import Sources, open_threads

    now = datetime.now(UTC)
    wanted = _wanted(status, goal, since, started, min_cost, now)
    screen, sources = Screen(json=json), Sources.read(SourceOptions(db=db))
    found: list[Entry] = []
    rest = 0
    if not sources.database.missing():
        with open_threads(sources) as agent:
            threads = list_threads(agent.checkpointer)
            matching = entries(agent, wanted, threads)
            found = list(islice(matching, limit))
            rest = sum(1 for _ in (threads if wanted.is_all else matching))
    if json:
        screen.document({"threads": [entry.as_json() for entry in found], "more": rest})
        return DONE
    width = window_width()
    for line in list_lines(found, width, now=now, headings=width is not None and bool(found)):
        screen.data(line)
    if rest:
        screen.note(f"… and {rest} more (--limit)")
    elif not found:
        screen.note("There are no threads yet." if wanted.is_all else "No thread matches.")
    return DONE


def _wanted(
    status: list[str] | None,
    goal: str,
    since: str | None,
    started: str | None,
    min_cost: float | None,
    now: datetime,
) -> Wanted:
    """Read which threads are listed."""
    from .overview import Wanted

    statuses = read_words("--status", status, _statuses())
    return Wanted(statuses, goal, _ago("--since", since, now), _ago("--started", started, now), min_cost)


def _ago(option: str, time: str | None, now: datetime) -> datetime | None:
    """Read since when, from how long ago."""
    if time is None:
        return None
    from ..errors import ConfigurationError
    from ..storage.plan_cache import time_ago

    try:
        return time_ago(time, now)
    except ConfigurationError as error:
        raise BadUsageError(f"{option}: {error}") from error


def _statuses() -> set[str]:
    """Name the statuses that a list can show."""
    from ..state import RunStatus

    return {*get_args(RunStatus), "waiting", "overdue", "queued", "parked", "stopped"}


def show(
    thread: Thread = None,
    *,
    step: Annotated[
        str | None,
        typer.Option("--step", metavar="ID", help="Print the whole output of this step, and nothing else."),
    ] = None,
    source_options: SourceOptions,
    json: JsonOutput = False,
) -> int:
    """Show a thread: status, plan, questions, answer.

    Questions that nobody answered in time get their safe default first. If steps may run after it, this
    needs the run's --tools and --model.
    """
    from ..people.wording import NEED_A_MODEL
    from .commands_worker import queued_now, queued_status, what_keeps
    from .overview import the_thread
    from .sources import Sources, open_agent, open_threads
    from .views import (
        look_up,
        open_questions,
        overdue_questions,
        show_ways_to_answer,
        spent_of,
        thread_lines,
        values_of,
    )

    screen = Screen(json=json)
    sources = Sources.read(source_options)
    thread = the_thread(screen, sources, thread, "show")
    if step is not None:
        return _show_output(screen, sources, thread, step)
    # Only LangGraph reads the messages, which are part of the document.
    with (open_agent if json else open_threads)(sources, existing=True) as agent:
        snapshot, queued = look_up(agent, thread), queued_now(agent, thread)
        reason, spent = what_keeps(agent, queued), spent_of(agent, snapshot)
        if overdue_questions(snapshot):
            from .driving import apply_safe_defaults

            snapshot = apply_safe_defaults(sources, screen, thread) or snapshot
        status = queued_status(agent, queued, snapshot)
    if json:
        questions = [question.as_json() for question in open_questions(snapshot)]
        told = {"status": status, "reason": reason, "questions": questions, "spent": spent}
        screen.document({"thread": thread, **values_of(snapshot), **told})
        return DONE
    for line in thread_lines(thread, snapshot, status, reason, spent):
        screen.markdown(line)
    if asked := open_questions(snapshot):
        has_model = sources.model or snapshot.values.get("usage", {}).get("model_calls")
        resume = sources.resume_command(thread)
        show_ways_to_answer(screen, resume, asked, () if has_model else NEED_A_MODEL)
    elif status == "stopped":
        screen.note(f"It stopped before its end. Go on with: {sources.resume_command(thread)}")
    if snapshot.tasks and not sources.has_tools:
        screen.note("Add the --tools and --model of the run.")
    return DONE


def _show_output(screen: Screen, sources: Sources, thread: str, step: str) -> int:
    from ..plan.references import render
    from .sources import open_threads
    from .views import look_up, results_of

    with open_threads(sources, existing=True) as agent:
        result = results_of(look_up(agent, thread)).get(step) or {}
        output = agent.get_output({"configurable": {"thread_id": thread}}, step)
    if screen.json:
        screen.document({"thread": thread, "step": step, **result, "output": output})
    else:
        screen.data(render(output))
    return DONE


def history(thread: Thread = None, db: Database = None, json: JsonOutput = False) -> int:
    """Print every decision of a thread, and why."""
    from ..tools.threads import run_to_end
    from .overview import the_thread
    from .sources import Sources, open_threads
    from .views import audit_lines, look_up, with_answers

    screen, sources = Screen(json=json), Sources.read(SourceOptions(db=db))
    thread = the_thread(screen, sources, thread, "look at")
    with open_threads(sources, existing=True) as agent:
        audit = look_up(agent, thread).values.get("audit") or []
        audit = run_to_end(with_answers(agent, thread, audit))
    if json:
        screen.document({"thread": thread, "audit": audit})
        return DONE
    for line in audit_lines(audit):
        screen.data(line)
    return DONE


def graph(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[FILE | THREAD]",
            autocompletion=complete_threads,
            help="The plan to draw, of a file or of a thread (default: the graph of the program itself).",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="A .mmd, .svg or .txt file to write (default: stdout)."
        ),
    ] = None,
    format: Annotated[
        Picture | None,
        typer.Option(
            "--format",
            metavar="WHAT",
            help="mermaid, svg or text (default: what the file's name ends in; in a terminal text, else "
            "mermaid).",
        ),
    ] = None,
    force: Force = False,
    db: Database = None,
    json: JsonOutput = False,
) -> int:
    """Draw the plan of a file or a thread, as Mermaid, as an SVG picture, or in the terminal.

    Without either it prints the graph of the program, as Mermaid.
    """
    from .drawing import picture_format, plan_picture, program_picture

    screen = Screen(json=json)
    form = picture_format(output, format, in_a_window=screen.interactive and what is not None)
    if what is None and form != Picture.mermaid:
        raise BadUsageError("the graph of the program is drawn as Mermaid only; name a plan file or a thread")
    picture = program_picture() if what is None else plan_picture(what, form, db)
    if output is not None and str(output) != "-":
        _write_picture(output, picture, force=force)
        screen.note(f"Written to {output}.")
    elif json:
        screen.document({form.value: picture})
    else:
        screen.data(picture.rstrip())
    return DONE


def _write_picture(target: Path, picture: str, *, force: bool) -> None:
    from ..errors import ConfigurationError
    from ..plan.files.whole_files import write_whole

    def check() -> None:
        if target.exists() and not force:
            raise ConfigurationError(f"{target} is there already; --force overwrites it")

    check()
    try:
        write_whole(target.resolve(), picture.rstrip() + "\n", check)
    except OSError as error:
        raise ConfigurationError(f"{target} cannot be written ({error.strerror})") from error


# --- report ---------------------------------------------------------------------------


def report(
    thread: Thread = None,
    output: ReportOutput = None,
    format: ReportFormatOption = None,
    force: Force = False,
    db: Database = None,
    json: JsonOutput = False,
) -> int:
    """Write a report of a thread: plan, time chart, every step and decision.

    The HTML is one file that needs no network. A run that has not ended is shown as
    far as it has come.
    """
    from ..context import run_redactor
    from ..report import read_run, write_report
    from .overview import the_thread
    from .sources import Sources, open_agent
    from .views import look_up, status_of

    target = output if output is not None and str(output) != "-" else None
    form = _form(target, format)
    if target is not None:
        _check_target(target, force=force)
    screen, sources = Screen(json=json), Sources.read(SourceOptions(db=db))
    thread = the_thread(screen, sources, thread, "report")
    with open_agent(sources, existing=True) as agent:
        look_up(agent, thread)
        config: RunnableConfig = {"configurable": {"thread_id": thread}}
        record = read_run(agent, config, lambda snapshot: status_of(agent, snapshot))
    record = run_redactor().value(record)
    if target is not None:
        _write(target, write_report(record, form), force=force)
        screen.note(f"Written to {target}.")
    elif not json:
        screen.data(write_report(record, form).rstrip("\n"))
    if json:
        screen.document(record)
    return DONE


_FORMS: dict[str, ReportFormat] = {
    ".html": "html",
    ".htm": "html",
    ".md": "md",
    ".markdown": "md",
    ".json": "json",
}


def _form(target: Path | None, chosen: ReportForm | None) -> ReportFormat:
    """Tell how the report is to be written: as it was chosen, or as the file's name ends."""
    named = _FORMS.get(target.suffix.lower()) if target is not None else "md"
    if chosen is not None and target is not None and named is not None and named != chosen.value:
        raise BadUsageError(
            f"--format {chosen.value} and a file that is called {target.name} contradict each other"
        )
    if chosen is not None:
        return chosen.value
    if named is None:
        raise BadUsageError(
            f"{target} has an unknown ending; a report can be {', '.join(_FORMS)}. "
            "Or say it with --format html, md or json"
        )
    return named


def _check_target(target: Path, *, force: bool) -> None:
    """Refuse a file that cannot be written, or that is there already and is no report."""
    from ..errors import ConfigurationError
    from ..report import is_report

    if target.is_dir() or not target.parent.is_dir():
        raise ConfigurationError(f"{target} cannot be written: no such folder, or it is one")
    if target.exists() and not force and not is_report(target.read_text(encoding="utf-8", errors="replace")):
        raise ConfigurationError(f"{target} is there already and is no report; --force overwrites it")


def _write(target: Path, text: str, *, force: bool) -> None:
    from ..errors import ConfigurationError
    from ..plan.files.whole_files import write_whole

    place = target.resolve()  # what a link points to is written, the link stays
    try:
        write_whole(place, text, lambda: _check_target(place, force=force))
    except OSError as error:
        raise ConfigurationError(f"{target} cannot be written ({error.strerror})") from error
