"""A tool that runs programs carefully: an allow-list, no shell, one folder, limits.

This contains mistakes. It does not contain a hostile program: whoever may run ``python`` (or ``git``, whose
settings can name programs) may do anything that the user may do. Run commands of a model that you do not
trust in a container.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from langchain_core.tools import BaseTool, StructuredTool

from ..errors import ConfigurationError, ToolFailedError, known
from .folder import ConfinedFolder
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
        "Run a program, without a shell, and return what it printed, errors included. It is "
        "killed after a time limit, together with what it leaves in the background. The "
        'command is a list such as ["python", "-m", "unittest"]; allowed programs: '
        f"{known(commands.allowed)}."
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
        start = await run_in_thread(self._prepare, command, folder)
        reader = asyncio.StreamReader()
        reading, writing = os.pipe()
        with ExitStack() as held:
            with ExitStack() as until_started:
                until_started.callback(os.close, writing)
                # A pipe of our own: with asyncio's, we would wait for every process that has inherited it.
                pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
                    lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", 0)
                )
                held.callback(pipe.close)
                process = await _started(start, command, writing)
            output = asyncio.ensure_future(_last_part(reader, self.output_limit))
            code = await self._ended(process, command)
            # Only a process that has left the group can still hold the pipe.
            await asyncio.wait({output}, timeout=_GRACE_S)
        text = (await output).decode(errors="replace")
        if code != 0:
            raise ToolFailedError(f"{_shown(command)} ended with {code}: {_end(text)}")
        return text

    async def _ended(self, process: asyncio.subprocess.Process, command: Sequence[str]) -> int:
        try:
            async with asyncio.timeout(self.time_limit_s):
                return await process.wait()
        except TimeoutError:
            # Without the cause, which would count as a transient failure.
            too_long = f"{_shown(command)} took longer than {self.time_limit_s:g} s"
            raise ToolFailedError(too_long, is_answer=False) from None
        finally:
            # Also after success: nothing that it left in the background may continue unseen.
            _kill(process)
            await process.wait()

    def _prepare(self, command: Sequence[str], folder: str) -> _Start:
        """Check a command and find its program; this reads the file system, so not on the event loop."""
        if not command or command[0] not in self.allowed:
            named = repr(command[0]) if command else "an empty command"
            raise ToolFailedError(f"{named} is not allowed; allowed programs: {known(self.allowed)}")
        if wrong := [word for word in command if "\0" in word or not _is_text(word)]:
            raise ToolFailedError(f"{wrong[0]!r} cannot be an argument: it holds a NUL or is not valid text")
        with ConfinedFolder(self.root).folder(folder) as (_, below):
            at = os.path.join(os.path.realpath(self.root), below)
        found = sys.executable if command[0] == "python" else shutil.which(command[0], path=self._path())
        if not found:
            raise ToolFailedError(f"{command[0]!r} is not installed")
        return _Start(found, at, {**self._variables(), **self.environment})

    def _path(self) -> str:
        """Leave out of the PATH every folder in which a command or a file tool could have written."""
        root = os.path.realpath(self.root)
        folders = [name for name in os.get_exec_path() if os.path.isabs(name)]
        return os.pathsep.join(
            name for name in folders if os.path.commonpath([root, os.path.realpath(name)]) != root
        )

    def _variables(self) -> dict[str, str]:
        return {
            "PATH": self._path(),
            "HOME": os.path.realpath(self.root),
            "LANG": "C.UTF-8",
            "TMPDIR": tempfile.gettempdir(),
            "PYTHONDONTWRITEBYTECODE": "1",
            "GIT_TERMINAL_PROMPT": "0",
        }


async def _started(start: _Start, command: Sequence[str], output: int) -> asyncio.subprocess.Process:
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            start.program,
            *command[1:],
            cwd=start.folder,
            env=start.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    )
    try:
        # Cancelled at this point, asyncio 3.11 would kill the program but not its children.
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        _kill(process := await starting)
        await process.wait()
        raise
    except OSError as error:
        raise ToolFailedError(f"{_shown(command)} cannot be started: {error.strerror}") from error


async def _last_part(reader: asyncio.StreamReader, limit: int) -> bytes:
    """Read to the end, keeping only the last bytes."""
    kept, left_out = bytearray(), 0
    while chunk := await reader.read(_CHUNK):
        kept += chunk
        if (over := len(kept) - limit) > 0:
            left_out += over
            del kept[:over]
    return (f"… ({left_out:,} bytes left out)\n".encode() if left_out else b"") + bytes(kept)


def _kill(process: asyncio.subprocess.Process) -> None:
    """End every process of the command's group; the command leads a group of its own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


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
