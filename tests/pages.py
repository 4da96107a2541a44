"""Run what a page of the documentation shows, in a temporary folder, from top to bottom.

What becomes of a block follows from its language:

- ``python``: one program per page, unless the block is a file.
- ``yaml``, ``json``, ``toml``: read; a plan that is no file fits the schema of plan files.
- ``sh``: each line is run; ``# exit code N`` says how it ends, if not with 0.
- ``console``: lines after ``$`` are run, and what they print is shown below them.
- ``text``: what the block before has printed.
- ``cron``: the command of the line is run.
- ``mermaid``: the files that are named in it exist.

A block is a file where its first line is a comment with a name (``# tools.py``), or the line before it
ends in one (```langgraph.json`:``).

In what is shown as printed, ``…`` stands for anything. Where a person types at a prompt, the page shows
it: the command is run in a pseudo-terminal, and the page shows what the window shows at the end.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from cli_server import Programs
from dev_server import serve
from terminals import Terminal

__all__ = [
    "CHECKOUT",
    "LANGUAGES",
    "PROGRAMS",
    "Block",
    "PageRun",
    "blocks_of",
    "commands_in",
    "page_names",
    "text_of",
]

CHECKOUT = Path(__file__).parents[1]
KILLED = 137
"""The exit code that a shell gives for a process that was killed."""

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAME_INSIDE = re.compile(r"# ([\w./-]+\.(?:py|yaml|toml))\n")
NAME_BEFORE = re.compile(r"`([\w./-]+\.\w+)`:\n+\Z")
FILES = ("python", "yaml", "json", "toml")
TYPED = re.compile(r"^(.*[?:] (?:\[[^\]]+\]|\([^)]+\)):?) (\S.*)$")
"""A line with a prompt and what a person types there."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the line of the page it begins in, the file it is."""

    language: str
    text: str
    line: int
    file_name: str | None


def page_names() -> list[str]:
    """List the pages: the README and every page of docs."""
    return ["README.md", *sorted(f"docs/{path.name}" for path in (CHECKOUT / "docs").glob("*.md"))]


def text_of(page: str) -> str:
    """Read a page."""
    return (CHECKOUT / page).read_text(encoding="utf-8")


def blocks_of(page: str) -> list[Block]:
    """Read the fenced blocks of a page."""
    text = text_of(page)
    found = [_block(text, match) for match in FENCE.finditer(text)]
    fences = len(re.findall(r"^\s*```", text, re.MULTILINE))
    assert fences == 2 * len(found), f"{page}: a fence is indented or not closed"
    return found


def _block(text: str, match: re.Match[str]) -> Block:
    named = NAME_INSIDE.match(match[2]) or NAME_BEFORE.search(text, 0, match.start())
    name = named[1] if named and match[1] in FILES else None
    return Block(match[1], match[2], text.count("\n", 0, match.start()) + 2, name)


def commands_in(block: Block) -> list[tuple[str, int, str | None]]:
    """List (command, exit code, what is shown below it or None) of a block of commands."""
    if block.language == "sh":
        return [(*_with_exit_code(line), None) for line in _joined(block.text).splitlines() if line.strip()]
    if block.language != "console":
        return []
    pieces = re.split(r"^\$ ", _joined(block.text), flags=re.MULTILINE)
    assert not pieces[0].strip(), f"line {block.line}: a console block begins with a command"
    heads = [piece.partition("\n") for piece in pieces[1:]]
    return [(*_with_exit_code(command), shown) for command, _, shown in heads]


def _joined(text: str) -> str:
    return re.sub(r"\\\n\s*", "", text)


def _with_exit_code(line: str) -> tuple[str, int]:
    command, _, comment = line.partition("  #")
    code = re.search(r"exit code (\d+)", comment)
    return command.strip(), int(code[1]) if code else 0


# --- what is printed ---------------------------------------------------------------------


class _Out(io.TextIOWrapper):
    """Standard output and error of what a page runs, in one text."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)

    @property
    def text(self) -> str:
        return self.buffer.getvalue().decode()  # type: ignore[attr-defined,no-any-return]


@contextlib.contextmanager
def _streams() -> Iterator[_Out]:
    out = _Out()
    before = sys.stdin
    sys.stdin = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            yield out
    finally:
        sys.stdin = before


def _tidy(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


def matches(shown: str, printed: str) -> bool:
    """Tell whether what is shown is what was printed; ``…`` stands for anything."""
    parts = (re.escape(part) for part in _tidy(shown).split("…"))
    return re.fullmatch(".*".join(parts), _tidy(printed), re.DOTALL) is not None


# --- running a page ----------------------------------------------------------------------


class PageRun:
    """One page in its folder.

    Args:
        page: The page's path in the checkout.
        folder: Where it is run; the current folder meanwhile.
        programs: Run what stands before a terminal.
        elsewhere: Commands that are not run here.
    """

    def __init__(self, page: str, folder: Path, programs: Programs, *, elsewhere: Mapping[str, str]) -> None:
        self.page, self.folder, self._programs = page, folder, programs
        self._elsewhere = elsewhere
        self._stands_for: dict[str, str] = {}  # texts of the page, and what takes their place here
        self._module = types.ModuleType("page")
        sys.modules["page"] = self._module
        self._printed: str | None = None
        self._until_the_end = contextlib.ExitStack()

    def run(self) -> None:
        """Run every block."""
        with self._until_the_end:
            for block in blocks_of(self.page):
                assert block.language in LANGUAGES, f"{self._at(block)}: nothing runs {block.language!r}"
                LANGUAGES[block.language](self, block)

    def _at(self, block: Block) -> str:
        return f"{self.page}:{block.line}"

    def _here(self, text: str) -> str:
        for shown, real in self._stands_for.items():
            text = text.replace(shown, real)
        return text

    def _write(self, block: Block) -> bool:
        if (name := block.file_name) is None:
            return False
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._here(block.text), encoding="utf-8")
        return True

    def python(self, block: Block) -> None:
        """Run a block of the page's program, or write a file."""
        if self._write(block):
            return
        # Empty lines before it, so that a traceback names the line of the page.
        source = "\n" * (block.line - 1) + self._here(block.text)
        with _streams() as out:
            exec(compile(source, str(CHECKOUT / self.page), "exec"), vars(self._module))
        self._printed = out.text

    def data(self, block: Block) -> None:
        """Read YAML, JSON or TOML, and write it where it has a name."""
        named = self._write(block)
        read = {"yaml": yaml.safe_load, "json": json.loads, "toml": tomllib.loads}[block.language]
        value = read(block.text)
        if not named and isinstance(value, Mapping) and "steps" in value:
            schema = json.loads((CHECKOUT / "docs/plan.schema.json").read_text(encoding="utf-8"))
            jsonschema.validate(value, schema)

    def commands(self, block: Block) -> None:
        """Run the commands of a block, and hold what they print against what is shown."""
        printed = ""
        for command, expected, shown in commands_in(block):
            if command in self._elsewhere:
                continue
            typed = [found for line in (shown or "").splitlines() if (found := TYPED.match(line))]
            if typed:
                code, out = self._at_a_terminal(self._here(command), typed)
            else:
                code, out = (_in_a_process if expected == KILLED else self._command)(self._here(command))
            assert code == expected, f"{self._at(block)}: {command}: exit code {code}\n{out}"
            if shown is not None:
                assert matches(self._here(shown), out), f"{self._at(block)}: {command} printed\n{out}"
            printed += out
        self._printed = printed

    def _at_a_terminal(self, line: str, typed: list[re.Match[str]]) -> tuple[int, str]:
        """Type what the page shows as typed, and return what the window shows at the end."""
        program, *words = shlex.split(line)
        argv = [_path_of(program), *words]
        env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        env["TERM"] = "xterm"
        terminal = Terminal(self._programs, argv, cwd=self.folder, env=env, size=(200, 80))
        try:
            for prompt, said in (found.groups() for found in typed):
                terminal.expect(prompt)
                # A choice is made by its key.
                terminal.press(said[0] if prompt.endswith("]") else f"{said}\n")
            return terminal.wait(), "\n".join(terminal.lines)
        finally:
            terminal.close()

    def _command(self, line: str) -> tuple[int, str]:
        program, *words = shlex.split(line)
        if words[:1] == ["dev"]:
            return self._serve()
        assert program in PROGRAMS, f"{self.page}: nothing runs {line!r} and no other place is named for it"
        with _streams() as out:
            code = PROGRAMS[program](words)
        return code, out.text

    def _serve(self) -> tuple[int, str]:
        """Run `langgraph dev` in the page's folder until the page ends, on a port that is free."""
        ours = {name: value for name, value in os.environ.items() if name.startswith("PLAN_EXECUTE_")}
        server = self._until_the_end.enter_context(serve(self.folder, "--no-reload", **ours))
        self._stands_for["http://127.0.0.1:2024"] = server.url
        return 0, server.log

    def text(self, block: Block) -> None:
        """Hold what is shown against what the block before has printed."""
        assert self._printed is not None, f"{self._at(block)}: nothing was printed before"
        assert matches(self._here(block.text), self._printed), f"{self._at(block)}: printed\n{self._printed}"

    def cron(self, block: Block) -> None:
        """Run the command of each line of a crontab, as cron does: by a shell, with % escaped."""
        program = Path(_path_of("plan-execute")).parent
        env = {**os.environ, "PATH": f"{program}{os.pathsep}{os.environ['PATH']}"}
        for line in block.text.splitlines():
            command = line.split(maxsplit=5)[5].replace("\\%", "%")
            command = re.sub(r"/srv/\w+|/var/log", str(self.folder), command)
            done = subprocess.run(["sh", "-c", command], cwd=self.folder, env=env, timeout=60)
            assert done.returncode == 0, f"{self._at(block)}: {command}"

    def picture(self, block: Block) -> None:
        """Hold the files that a picture names against the checkout."""
        named = re.findall(r"[\w/]+\.(?:py|md|json)\b", block.text)
        assert [name for name in named if not (CHECKOUT / name).exists()] == [], self._at(block)


LANGUAGES: dict[str, Callable[[PageRun, Block], None]] = {
    "python": PageRun.python,
    "yaml": PageRun.data,
    "json": PageRun.data,
    "toml": PageRun.data,
    "sh": PageRun.commands,
    "console": PageRun.commands,
    "text": PageRun.text,
    "cron": PageRun.cron,
    "mermaid": PageRun.picture,
}
"""What is done with a block, by its language."""


def _path_of(program: str) -> str:
    return str(shutil.which(program, path=str(Path(sys.executable).parent)))


def _in_a_process(line: str) -> tuple[int, str]:
    """Run a command that kills its own process."""
    program, *words = shlex.split(line)
    command = [_path_of(program), *words]
    pipes: Any = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(command, **pipes, text=True, timeout=60)
    return (KILLED if done.returncode < 0 else done.returncode), done.stdout


# --- the programs ------------------------------------------------------------------------


def _export(words: list[str]) -> int:
    os.environ.update(word.split("=", 1) for word in words)
    return 0


def _plan_execute(words: list[str]) -> int:
    from plan_execute.cli.app import run_command_line

    return run_command_line(words)


def _langgraph(words: list[str]) -> int:
    from langgraph_cli.cli import cli

    try:
        return int(cli.main(words, prog_name="langgraph", standalone_mode=False) or 0)
    except SystemExit as stop:
        return int(stop.code or 0)


def _python(words: list[str]) -> int:
    before = sys.argv
    sys.argv = words
    try:
        runpy.run_path(words[0], run_name="__main__")
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = before
    return 0


def _cat(words: list[str]) -> int:
    for name in words:
        sys.stdout.write(Path(name).read_text(encoding="utf-8"))
    return 0


def _echo(words: list[str]) -> int:
    said, _, file = " ".join(words).partition(" > ")
    Path(file).write_text(f"{said}\n", encoding="utf-8") if file else sys.stdout.write(f"{said}\n")
    return 0


PROGRAMS: dict[str, Callable[[list[str]], int]] = {
    "export": _export,
    "plan-execute": _plan_execute,
    "langgraph": _langgraph,
    "python": _python,
    "cat": _cat,
    "echo": _echo,
}
"""Programs that a page may run; each takes its arguments and returns its exit code."""
