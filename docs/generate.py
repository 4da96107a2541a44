"""Write what is made of something else: ``docs/cli.md``, ``docs/plan-execute.d.ts`` and ``llms.txt``.

``make docs`` runs it; a test fails while a page is not what it would write.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main
from pydantic import TypeAdapter

import plan_execute
from plan_execute.cli.app import app
from plan_execute.events import OpenQuestion, StepUpdate
from plan_execute.state import Plan

__all__ = ["PAGES", "command_line_page", "llms_page", "types_for_typescript"]

CHECKOUT = Path(__file__).resolve().parents[1]


# --- the command line --------------------------------------------------------------------


def command_line_page() -> str:
    """Describe every command of ``plan-execute``, as ``--help`` does."""
    root: Any = typer.main.get_command(app)
    lines = [
        "# The command line",
        "",
        "Every command and option of `plan-execute`. This page is made of the program by `make docs`;",
        "`plan-execute COMMAND --help` says the same in a terminal. New here? [Quick start](quick-start.md).",
        "",
        *_introduction(root),
    ]
    for name, command in root.commands.items():
        lines += _command(f"plan-execute {name}", command)
        for below, one in getattr(command, "commands", {}).items():
            lines += _command(f"plan-execute {name} {below}", one)
    return "\n".join(lines).rstrip() + "\n"


def _introduction(root: Any) -> Iterator[str]:
    yield "Results go to the standard output, progress and messages to the standard error. Without a terminal"
    yield "nothing waits for input. An option wins over the environment variable that is named with it."
    yield ""
    yield "| exit code | |"
    yield "|---|---|"
    for code, meaning in re.findall(r"(\d+) ([^,.]+(?:, [a-z][^,.]*)?)", str(root.epilog)):
        yield f"| {code} | {meaning.strip()} |"
    yield ""
    yield "| command | |"
    yield "|---|---|"
    for name, command in root.commands.items():
        yield f"| [`{name}`](#plan-execute-{name}) | {_first_line(command.help)} |"
    yield ""
    yield from _parameters(root, "option")


def _command(title: str, command: Any) -> Iterator[str]:
    yield f"## {title}"
    yield ""
    yield from _prose(str(command.help or ""))
    yield ""
    yield f"`{' '.join([title, *_usage(command)])}`"
    yield ""
    yield from _parameters(command, "argument")
    yield from _parameters(command, "option")


def _prose(text: str) -> Iterator[str]:
    """Give the paragraphs of a help text, each in one line."""
    for number, paragraph in enumerate(re.split(r"\n\s*\n", text.strip())):
        if number:
            yield ""
        yield _in_a_cell(paragraph)


def _usage(command: Any) -> Iterator[str]:
    if getattr(command, "commands", None):
        yield "COMMAND"
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            yield _argument(parameter)
    yield "[OPTIONS]"


def _argument(parameter: Any) -> str:
    name = str(parameter.metavar or parameter.name.upper()).strip("[]")
    repeated = "..." if parameter.nargs == -1 else ""
    return f"{name}{repeated}" if parameter.required else f"[{name}]{repeated}"


def _parameters(command: Any, kind: str) -> list[str]:
    """Make a table of the arguments, or of the options, of a command."""
    shown = [p for p in command.params if p.param_type_name == kind and p.help]
    if not shown:
        return []
    name = _argument if kind == "argument" else _option
    rows = [f"| `{name(p)}` | {_in_a_cell(p.help)}{_default(p)} |" for p in shown]
    return [f"| {kind} | |", "|---|---|", *rows, ""]


def _option(parameter: Any) -> str:
    names = sorted(parameter.opts, key=len, reverse=True) + list(parameter.secondary_opts)
    value = "" if parameter.is_flag else f" {parameter.metavar or 'TEXT'}"
    return ", ".join(names) + value


def _default(parameter: Any) -> str:
    given = parameter.default
    if given in (None, False, "") or "default" in parameter.help or not isinstance(given, str | int):
        return ""
    return f" Default: {given}."


def _in_a_cell(text: str) -> str:
    plain = " ".join(text.split()).replace("|", "\\|")
    return re.sub(r"\[env: (\w+)\]", r"Environment: `\1`.", plain)


def _first_line(text: str | None) -> str:
    return _in_a_cell(re.split(r"\n\s*\n", (text or "").strip())[0])


# --- llms.txt ----------------------------------------------------------------------------


def llms_page() -> str:
    """Make the index of the pages what coding assistants read (llmstxt.org)."""
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    index = (CHECKOUT / "docs/index.md").read_text(encoding="utf-8")
    summary = " ".join(readme.split("\n\n")[1].split())
    sections = index.partition("\n## ")[2]
    links = re.sub(r"\]\((?!\.\./|https?:)([\w.-]+)", r"](docs/\1", sections).replace("](../", "](")
    return f"# plan_execute\n\n> {_without_links(summary)}\n\n{_ASSISTANTS}\n\n## {links.rstrip()}\n"


def _without_links(text: str) -> str:
    return re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text)


_ASSISTANTS = f"""\
Names to import: `from plan_execute import {", ".join(plan_execute.__all__)}`.
A plan is JSON: `{{"goal", "steps": [{{"id", "task", "depends_on", "call": {{"tool", "args"}}}}]}}`; a step
has exactly one of `call`, `tools`, `agent`, `plan`, and `${{step.path}}` refers to an earlier output. A tool
that declares no effect counts as a write, and a plan that writes waits for approval unless
`Context(approval="never")`."""


# --- types for TypeScript ----------------------------------------------------------------


def types_for_typescript() -> str:
    """Declare what the channels of a run's stream hold, for clients in TypeScript."""
    streams = TypeAdapter(dict[str, Plan | StepUpdate | OpenQuestion]).json_schema()
    lines = [
        "// Types of the streams of a run: client.threads.stream<RunStreams>(…). Made by `make docs`.",
        "",
        "export type RunStreams = { plan: Plan; steps: StepUpdate; questions: OpenQuestion };",
    ]
    for name, schema in sorted(streams["$defs"].items()):
        lines += ["", f"export interface {name} {_typescript(schema)}"]
    return "\n".join(lines) + "\n"


def _typescript(schema: Any, indent: str = "") -> str:
    """Write a JSON Schema, as pydantic makes them, as a type."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if options := schema.get("anyOf"):
        return " | ".join(dict.fromkeys(_typescript(one, indent) for one in options))
    if "enum" in schema or "const" in schema:
        return " | ".join(map(json.dumps, schema.get("enum", [schema.get("const")])))
    if "properties" in schema:
        return _fields(schema, indent)
    if schema.get("type") == "array":
        item = _typescript(schema["items"], indent)
        return f"({item})[]" if " | " in item else f"{item}[]"
    if schema.get("type") == "object":
        value = schema.get("additionalProperties")
        return f"Record<string, {_typescript(value if isinstance(value, dict) else {}, indent)}>"
    names = {"integer": "number", None: "unknown"}
    return str(names.get(schema.get("type"), schema.get("type")))


def _fields(schema: Any, indent: str) -> str:
    deeper, required = f"{indent}  ", schema.get("required", ())
    lines = [
        f"{deeper}{name}{'' if name in required else '?'}: {_typescript(one, deeper)};"
        for name, one in schema["properties"].items()
    ]
    return "\n".join(["{", *lines, f"{indent}}}"])


# --- all of them -------------------------------------------------------------------------

PAGES = {
    "docs/cli.md": command_line_page,
    "docs/plan-execute.d.ts": types_for_typescript,
    "llms.txt": llms_page,
}
"""The files that are made, and of what."""


def _write_pages() -> None:
    for name, make in PAGES.items():
        (CHECKOUT / name).write_text(make(), encoding="utf-8")
        sys.stdout.write(f"wrote {name}\n")


if __name__ == "__main__":
    _write_pages()
