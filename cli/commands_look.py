"""The commands that look at threads: list, show, history, graph, report."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from .exits import DONE, BadUsageError
from .options import (
    Database,
    Force,
    JsonOutput,
    ReportForm,
    ReportFormatOption,
    ReportOutput,
    SourceOptions,
    Thread,
    read_words,
)
from .terminal import Screen

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from ..graph.agent import PlanExecuteAgent
    from ..report import ReportFormat
    from .sources import Sources

__all__ = ["graph", "history", "list_", "report", "show"]


def list_(
    db: Database = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, help="At most so many (default: 50).")
    ] = 50,
    status: Annotated[
        list[str] | None,
        typer.Option(
            "--status",
            metavar="STATUS",
            help="Only threads with this status; several separated by commas. May be repeated.",
        ),
    ] = None,
    json: JsonOutput = False,
) -> int:
    """List threads, newest first."""
    from ..storage.persistence import list_threads
    from .sources import Sources, open_agent
    from .views import thread_line

    wanted = read_words("--status", status, _statuses())
    screen, sources = Screen(json=json), Sources.read(SourceOptions(db=db))
    found: list[dict[str, Any]] = []
    rest = 0
    if not sources.database.missing():
        with open_agent(sources) as agent:
            threads = list_threads(agent.checkpointer)  # type: ignore[arg-type]
            entries = _entries(agent, threads, wanted)
            found = list(islice(entries, limit))
            rest = sum(1 for _ in (entries if wanted else threads))
    if json:
        screen.document({"threads": found, "more": rest})
        return DONE
    for entry in found:
        screen.data(thread_line(**entry))
    if rest:
        screen.note(f"… and {rest} more (--limit)")
    elif not found:
        screen.note("No thread has this status." if wanted else "There are no threads yet.")
    return DONE


def _statuses() -> set[str]:
    """Name the statuses that a list can show."""
    from ..state import RunStatus

    return {*get_args(RunStatus), "waiting", "overdue", "queued", "parked"}


def _entries(
    agent: PlanExecuteAgent, threads: Iterator[tuple[str, str]], wanted: Collection[str]
) -> Iterator[dict[str, Any]]:
    """Describe the threads that have a wanted status; none named: all."""
    from .commands_worker import queued_now, queued_status, what_keeps
    from .driving import overdue_questions
    from .views import look_up

    for thread, at in threads:
        snapshot, queued = look_up(agent, thread), queued_now(agent, thread)
        status, overdue = queued_status(queued, snapshot), bool(overdue_questions(snapshot))
        if not wanted or status in wanted or (overdue and "overdue" in wanted):
            goal = str(snapshot.values.get("goal") or "")
            entry = {"thread": thread, "at": at, "status": status, "goal": goal}
            yield entry | {"overdue": overdue, "reason": what_keeps(agent, queued)}


def show(
    thread: Thread,
    *,
    step: Annotated[
        str | None,
        typer.Option("--step", metavar="ID", help="Print the whole output of this step, and nothing else."),
    ] = None,
    source_options: SourceOptions,
    json: JsonOutput = False,
) -> int:
    """Show a thread: status, plan, questions, answer.

    Questions that nobody answered in time get their safe default first; where steps
    may run after it, that needs the run's --tools and --model.
    """
    from ..spending.periods import spent_in_words
    from ..tools.threads import run_to_end
    from .commands_worker import queued_now, queued_status, what_keeps
    from .driving import apply_safe_defaults, overdue_questions
    from .sources import Sources, open_agent
    from .views import look_up, open_questions, thread_lines, values_of

    screen = Screen(json=json)
    sources = Sources.read(source_options)
    if step is not None:
        return _show_output(screen, sources, thread, step)
    with open_agent(sources, existing=True) as agent:
        snapshot, queued = look_up(agent, thread), queued_now(agent, thread)
        reason = what_keeps(agent, queued)
        assert agent.store is not None
        spent = run_to_end(spent_in_words(agent.store, snapshot.values.get("settings")))
    if overdue_questions(snapshot):
        snapshot = apply_safe_defaults(sources, screen, thread) or snapshot
    status = queued_status(queued, snapshot)
    if json:
        questions = [question.as_json() for question in open_questions(snapshot)]
        told = {"status": status, "reason": reason, "questions": questions, "spent": spent}
        screen.document({"thread": thread, **values_of(snapshot), **told})
        return DONE
    for line in thread_lines(thread, snapshot, status, reason, spent):
        screen.data(line)
    if snapshot.tasks:
        way = "Answer" if snapshot.interrupts else "If nothing runs it any more, go on"
        screen.note(f"{way} with: {sources.resume_command(thread)} (and the --tools and --model of the run)")
    return DONE


def _show_output(screen: Screen, sources: Sources, thread: str, step: str) -> int:
    from ..plan.references import render
    from .sources import open_agent
    from .views import look_up, results_of

    with open_agent(sources, existing=True) as agent:
        result = results_of(look_up(agent, thread)).get(step) or {}
        output = agent.get_output({"configurable": {"thread_id": thread}}, step)
    if screen.json:
        screen.document({"thread": thread, "step": step, **result, "output": output})
    else:
        screen.data(render(output))
    return DONE


def history(thread: Thread, db: Database = None, json: JsonOutput = False) -> int:
    """Print every decision of a thread, and why."""
    from .sources import Sources, open_agent
    from .views import audit_lines, look_up

    screen, sources = Screen(json=json), Sources.read(SourceOptions(db=db))
    with open_agent(sources, existing=True) as agent:
        audit = look_up(agent, thread).values.get("audit") or []
    if json:
        screen.document({"thread": thread, "audit": audit})
        return DONE
    for line in audit_lines(audit):
        screen.data(line)
    return DONE


def graph(json: JsonOutput = False) -> int:
    """Print the graph as a Mermaid picture."""
    from ..graph import create_plan_execute_agent

    picture = create_plan_execute_agent().get_graph().draw_mermaid()
    screen = Screen(json=json)
    if json:
        screen.document({"mermaid": picture})
    else:
        screen.data(picture.rstrip())
    return DONE


# --- report ---------------------------------------------------------------------------


def report(
    thread: Thread,
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
    from .sources import Sources, open_agent
    from .views import look_up

    target = output if output is not None and str(output) != "-" else None
    form = _form(target, format)
    if target is not None:
        _check_target(target, force=force)
    screen, sources = Screen(json=json), Sources.read(SourceOptions(db=db))
    with open_agent(sources, existing=True) as agent:
        look_up(agent, thread)
        record = read_run(agent, {"configurable": {"thread_id": thread}})
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
            f"{target} does not end in what a report can be: {', '.join(_FORMS)}. "
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
