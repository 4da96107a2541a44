"""A tool that runs programs carefully: an allow-list, no shell, one folder, limits.

This contains mistakes. It does not contain a hostile program: whoever may run ``python`` (or ``git``, whose
settings can name programs) may do anything that the user may do. Run commands of a model that you do not
trust in a container.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

from langchain_core.tools import BaseTool, StructuredTool

from ..context import expand_variables
from ..errors import ConfigurationError, ToolFailedError, known
from .folder import resolved_below
from .process_group import OWN_GROUP, kill_group
from .threads import run_in_thread, run_to_end

__all__ = ["Commands", "command_tool"]

_REASON_LIMIT = 400
_CHUNK = 65_536
_GRACE_S = 1.0


def command_tool(root: Path, allowed: Sequence[str], *, time_limit_s: float = 60.0) -> BaseTool:
    """Make the tool ``run_command``; its effect is ``write``, because nobody knows what a command does."""
    commands = Commands(root, tuple(allowed), time_limit_s=time_limit_s)

    async def run_command(command: list[str], folder: str = ".") -> str:
        """Run a program in a folder and return its output."""
        return await commands.run(command, folder)

    run_command.__doc__ = (
        "Run a program, without a shell, and return what it printed, errors included. "
        "It is killed after a time limit, together with what it leaves in the background. "
        'The command is a list such as ["python", "-m", "unittest"]; '
        f"allowed programs: {known(commands.allowed)}."
    )
    tool = StructuredTool.from_function(coroutine=run_command, metadata={"effect": "write"})
    # LangChain tools can also be called without an event loop.
    tool.func = lambda command, folder=".": run_to_end(commands.run(command, folder))
    return tool


class _Start(NamedTuple):
    program: str
    folder: str
    environment: dict[str, str]


@dataclass(frozen=True)
class Commands:
    """Runs programs from an allow-list below one folder.

    Attributes:
        root: The folder; no command starts outside it, and it is the command's home folder.
        allowed: Names of the programs that may run; ``python`` is the running interpreter.
        time_limit_s: Seconds until a command is killed, with every process of its group.
        output_limit: How many bytes at the end of the output are kept, where programs say what went wrong.
        environment: Variables in addition to the few that a command gets; only ``PATH`` is inherited.

    Raises:
        ConfigurationError: If no program is allowed, or one is not a plain name.
    """

    root: Path
    allowed: tuple[str, ...]
    time_limit_s: float = 60.0
    output_limit: int = 20_000
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wrong = [name for name in self.allowed if not name or "/" in name or "\\" in name or "\0" in name]
        if wrong or not self.allowed:
            named = f"not {known(map(repr, wrong))}" if wrong else "at least one"
            raise ConfigurationError(f"allowed commands are plain names such as git: {named}")

    async def run(self, command: Sequence[str], folder: str = ".") -> str:
        """Run a command and return its output, including errors.

        Cancelling kills the command. A process that leaves the command's group is not found again.

        Raises:
            ToolFailedError: If it is not allowed, ends with another code than 0, or takes too long.
        """
        process = await _started(await run_in_thread(self._prepare, command, folder), command)
        output = _Output(self.output_limit)
        reading = asyncio.ensure_future(run_in_thread(output.read, process.stdout))
        code = await self._ended(process, command)
        # Only a process that has left the group can still hold the pipe; we do not wait for it.
        await asyncio.wait({reading}, timeout=_GRACE_S)
        if code != 0:
            raise ToolFailedError(f"{_shown(command)} ended with {code}: {_end(output.text())}")
        return output.text()

    async def _ended(self, process: subprocess.Popen[bytes], command: Sequence[str]) -> int:
        try:
            async with asyncio.timeout(self.time_limit_s):
                return await run_in_thread(process.wait)
        except TimeoutError:
            # Without the cause, which would count as a transient failure.
            too_long = f"{_shown(command)} took longer than {self.time_limit_s:g} s"
            raise ToolFailedError(too_long, is_answer=False) from None
        finally:
            # Also after success: nothing that it left in the background may continue unseen.
            await _killed(process)

    def _prepare(self, command: Sequence[str], folder: str) -> _Start:
        """Check a command and find its program; this reads the file system, so not on the event loop."""
        if not command or command[0] not in self.allowed:
            named = repr(command[0]) if command else "an empty command"
            raise ToolFailedError(f"{named} is not allowed; allowed programs: {known(self.allowed)}")
        if wrong := [word for word in command if "\0" in word or not _is_text(word)]:
            raise ToolFailedError(f"{wrong[0]!r} cannot be an argument: it holds a NUL or is not valid text")
        at = resolved_below(self.root, folder)
        if not at.is_dir():
            raise ToolFailedError(f"{folder!r} {'is not a folder' if at.exists() else 'does not exist'}")
        found = self._program(command[0])
        return _Start(found, str(at), {**self._variables(), **self.environment})

    def _program(self, name: str) -> str:
        found = sys.executable if name == "python" else shutil.which(name, path=self._path())
        # Windows also looks in the current folder.
        if not found or not os.path.isabs(found):
            raise ToolFailedError(f"{name!r} is not installed")
        if found.lower().endswith((".bat", ".cmd")):
            raise ToolFailedError(f"{name!r} is a batch file: a shell would read its arguments as commands")
        return found

    def _path(self) -> str:
        """Leave out of the PATH every folder in which a command or a file tool could have written."""
        root = self.root.resolve()
        folders = [Path(name) for name in os.get_exec_path() if os.path.isabs(name)]
        return os.pathsep.join(str(at) for at in folders if not at.resolve().is_relative_to(root))

    def _variables(self) -> dict[str, str]:
        return {
            "PATH": self._path(),
            "HOME": os.path.realpath(self.root),
            "LANG": "C.UTF-8",
            "TMPDIR": tempfile.gettempdir(),
            "PYTHONDONTWRITEBYTECODE": "1",
            "GIT_TERMINAL_PROMPT": "0",
            **(_variables_of_windows() if os.name == "nt" else {}),
        }


def _variables_of_windows() -> dict[str, str]:
    """Return the variables without which programs do not start on Windows."""
    names = ("SYSTEMROOT", "TEMP", "TMP", "PATHEXT")
    return {name: value for name in names if (value := expand_variables(f"${{{name}:-}}"))}


async def _started(start: _Start, command: Sequence[str]) -> subprocess.Popen[bytes]:
    starting = asyncio.ensure_future(run_in_thread(_start, start, command))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        process = await starting
        await _killed(process)
        assert process.stdout is not None
        process.stdout.close()
        raise
    except OSError as error:
        raise ToolFailedError(f"{_shown(command)} cannot be started: {error.strerror}") from error


def _start(start: _Start, command: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - no shell, and a program of the allow-list
        [start.program, *command[1:]],
        cwd=start.folder,
        env=start.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **OWN_GROUP,
    )


async def _killed(process: subprocess.Popen[bytes]) -> None:
    kill_group(process)
    await run_in_thread(process.wait)


class _Output:
    """A command's output: its last bytes, and how many came before them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept = b""
        self._size = 0

    def read(self, pipe: IO[bytes]) -> None:
        """Read until every process that holds the pipe has closed it."""
        with pipe:
            while chunk := os.read(pipe.fileno(), _CHUNK):
                last = self._kept + chunk
                self._kept = last[max(0, len(last) - self._limit) :]
                self._size += len(chunk)

    def text(self) -> str:
        """Return what has been read so far."""
        kept, left_out = self._kept, self._size - len(self._kept)
        said = f"… ({left_out:,} bytes left out)\n" if left_out else ""
        return said + kept.decode(errors="replace")


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(command: Sequence[str]) -> str:
    text = " ".join(command)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _end(output: str) -> str:
    """Keep the last lines, where programs say what went wrong."""
    text = output.strip()[-_REASON_LIMIT:]
    return text.partition("\n")[2] or text if len(text) == _REASON_LIMIT else text
