"""The command that writes down what a run was and did: report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .exits import DONE, BadUsageError
from .option_groups import SourceOptions
from .options import Database, Force, JsonOutput, ReportForm, ReportFormatOption, ReportOutput, Thread
from .terminal import Screen

if TYPE_CHECKING:
    from ..report import ReportFormat

__all__ = ["report"]


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
    from .snapshots import look_up
    from .sources import Sources, open_agent

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
