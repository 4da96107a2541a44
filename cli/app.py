"""The commands of ``plan-execute``, and what happens around each of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Annotated, Any

import typer

from .exits import DONE, BadUsageError, report_failure
from .help import Command, Commands
from .options import with_single_options
from .terminal import Screen

__all__ = ["app", "run_command_line"]

_HOMES = {
    "run": "run",
    "resume": "run",
    "plan": "plan",
    "validate": "plan",
    "schema": "plan",
    "inbox": "look",
    "list": "look",
    "show": "look",
    "history": "look",
    "report": "look",
    "edit": "run",
    "retry": "run",
    "cancel": "run",
    "worker": "worker",
    "serve": "page",
    "promote": "plan",
    "prune": "clean",
    "models": "models",
    "graph": "look",
    "demo": "run",
    "cache": "clean",
    "schedule": "schedule",
}
"""The module of each command, and of each group of commands, after ``commands_``."""


class _Loaded(Mapping[str, Any]):
    """The commands by name; each is loaded when it is asked for, as most starts need one of them."""

    def __getitem__(self, name: str) -> Any:
        return _load(name)

    def __iter__(self) -> Iterator[str]:
        return iter(_HOMES)

    def __len__(self) -> int:
        return len(_HOMES)


@cache
def _load(name: str) -> Any:
    module = import_module(f".commands_{_HOMES[name]}", __package__)
    found = getattr(module, name, None) or getattr(module, f"{name}_")
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    if isinstance(found, typer.Typer):
        alone.add_typer(found, name=name)
        group: Any = typer.main.get_command(alone)
        return group.commands[name]
    alone.command(name, cls=Command)(with_single_options(found))
    return typer.main.get_command(alone)


class _Program(Commands):
    """The program with its commands."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**{**given, "commands": _Loaded()})


app = typer.Typer(
    name="plan-execute",
    help="Plan a goal, let a person approve the plan, run it, and resume it after it stopped.",
    epilog="Exit codes: 0 done, 1 failed, 2 usage or invalid plan, 3 waiting for a person, 4 partial, "
    "130 interrupted.",
    # With rich's markup typer would import rich for every --help.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    cls=_Program,
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
        from .commands_look import overview

        return overview()
    return DONE


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
