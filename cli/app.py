"""The commands of ``plan-execute``, and what happens around each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from . import (
    commands_clean,
    commands_look,
    commands_models,
    commands_page,
    commands_plan,
    commands_run,
    commands_schedule,
    commands_worker,
)
from .exits import DONE, BadUsageError, report_failure
from .help import Command, Commands
from .options import with_single_options
from .terminal import Screen

__all__ = ["app", "run_command_line"]

app = typer.Typer(
    name="plan-execute",
    help="Plan a goal, let a person approve the plan, run it, and resume it after it stopped.",
    epilog="Exit codes: 0 done, 1 failed, 2 usage or invalid plan, 3 waiting for a person, 4 partial, "
    "130 interrupted.",
    # With rich's markup typer would import rich for every --help.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"plan-execute {version('plan-execute')}")
        raise typer.Exit(DONE)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
    _debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> int:
    if context.invoked_subcommand is None:
        return commands_look.overview()
    return DONE


for _command in (
    commands_run.run,
    commands_run.resume,
    commands_plan.plan,
    commands_plan.validate,
    commands_plan.schema,
    commands_look.inbox,
    commands_look.list_,
    commands_look.show,
    commands_look.history,
    commands_look.report,
    commands_run.edit,
    commands_run.retry,
    commands_run.cancel,
    commands_worker.worker,
    commands_page.serve,
    commands_plan.promote,
    commands_clean.prune,
    commands_models.models,
    commands_look.graph,
    commands_run.demo,
):
    app.command(_command.__name__.rstrip("_"), cls=Command)(with_single_options(_command))
app.add_typer(commands_clean.cache, name="cache")
app.add_typer(commands_schedule.schedule, name="schedule")


def run_command_line(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; every error ends in a message."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    debug = "--debug" in options
    screen = Screen(json="--json" in options)
    # --debug counts wherever it stands, as the hint cannot know where it will be added.
    given = [word for at, word in enumerate(arguments) if word != "--debug" or at >= len(options)]
    try:
        _check_text(given)
        return int(app(args=given, prog_name="plan-execute", standalone_mode=False) or DONE)
    except (Exception, KeyboardInterrupt) as error:
        return report_failure(error, screen, debug=debug)


def _check_text(arguments: Sequence[str]) -> None:
    """Refuse arguments whose bytes are no text: they could be stored nowhere."""
    for word in arguments:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise BadUsageError(f"{word!a} is not valid text in this terminal's encoding") from None
