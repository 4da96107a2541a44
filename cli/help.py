"""How ``--help`` is laid out: the usual commands and options first, the others in groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

__all__ = ["Command", "Commands"]

_USUAL_COMMANDS = (
    "run",
    "resume",
    "inbox",
    "list",
    "show",
    "plan",
    "validate",
    "retry",
    "report",
    "demo",
)
_GROUPS = {
    "Tools and models": (
        "--mcp --workspace --base-url --rate-limit --call-timeout --max-call-tokens --prices "
        "--models --escalate"
    ),
    "Limits": (
        "--budget --soft-share --max-parallel --max-replans --max-cost-per-day --max-cost-per-month --tenant"
    ),
    "Decisions": "--confirm --strict --on-failure --person",
    "Reusing plans": "--cache --cache-ttl --cache-namespace",
    "Where and how": "--db --thread --abandon --queue --priority --plain --inputs --question",
}
"""Options that stand below the usual ones, by what they are for."""
_GROUP_OF = {name: title for title, names in _GROUPS.items() for name in names.split()}
_FEW = 10
"""Options up to which no groups are needed."""


class Command(TyperCommand):
    """A command whose help shows the usual options first."""

    def format_options(self, context: Any, formatter: Any) -> None:
        """Write the options; many of them in groups."""
        records = [(self._group(one), record) for one, record in self._records(context)]
        for title in ("Arguments", "Options", *_GROUPS):
            if rows := [record for group, record in records if group == title]:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def _records(self, context: typer.Context) -> Iterator[tuple[Any, tuple[str, str]]]:
        for one in self.get_params(context):
            if (record := one.get_help_record(context)) is not None:
                yield one, record

    def _group(self, one: Any) -> str:
        if one.param_type_name == "argument":
            return "Arguments"
        names = [name for name in one.opts if name.startswith("--")]
        few = sum(param.param_type_name == "option" for param in self.params) <= _FEW
        return "Options" if few or not names else _GROUP_OF.get(names[0], "Options")


class Commands(TyperGroup):
    """The program, whose help shows the usual commands first."""

    def list_commands(self, context: Any) -> list[str]:  # noqa: ARG002 - typer gives it
        """Name the commands: the usual ones first."""
        names = list(self.commands)
        return [name for name in _USUAL_COMMANDS if name in names] + [
            name for name in names if name not in _USUAL_COMMANDS
        ]

    def format_commands(self, context: Any, formatter: Any) -> None:
        """Write the commands in two groups."""
        names = self.list_commands(context)
        usual = [name for name in names if name in _USUAL_COMMANDS]
        for title, group in (("Commands", usual), ("More commands", names[len(usual) :])):
            commands = [(name, self.get_command(context, name)) for name in group]
            rows = [
                (name, command.get_short_help_str(formatter.width - 20))
                for name, command in commands
                if command is not None and not command.hidden
            ]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)
