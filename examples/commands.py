"""Run programs the careful way: an argument list, an allow-list, no shell, a time limit, one folder.

This keeps mistakes in. It does not keep a hostile program in: whoever may run ``python`` may do
anything. Run commands of a model that you do not trust in a container.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CommandError", "CommandRunner"]

_INHERITED = ("HOME", "LANG", "PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR")
_OUTPUT_LIMIT = 20_000
_TAIL = 300


class CommandError(RuntimeError):
    """A command is not allowed, failed, or took too long."""


@dataclass(frozen=True)
class CommandRunner:
    """Runs commands below one folder.

    Attributes:
        root: The folder; no command starts outside it.
        allowed: Names of the programs that may run; ``python`` is the running interpreter.
        time_limit_s: Seconds until a command is killed, with everything it started.
    """

    root: Path
    allowed: tuple[str, ...] = ("python", "git")
    time_limit_s: float = 60.0

    def run(self, command: Sequence[str], folder: str = ".") -> str:
        """Run a command and return what it printed, errors included.

        Raises:
            CommandError: If it is not allowed, ends with another code than 0, or takes too long.
        """
        program = self._program(command)
        process = subprocess.Popen(  # noqa: S603 - the program is on the allow-list and no shell is involved
            [program, *command[1:]],
            cwd=self.inside(folder),
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=self.time_limit_s)
        except BaseException as error:
            _kill(process)
            if isinstance(error, subprocess.TimeoutExpired):
                raise CommandError(f"{_shown(command)} took longer than {self.time_limit_s:g} s") from error
            raise
        if process.returncode != 0:
            raise CommandError(f"{_shown(command)} ended with {process.returncode}: {_end(output)}")
        return output[-_OUTPUT_LIMIT:]

    def inside(self, path: str) -> Path:
        """Return the real path of something below the root.

        Raises:
            CommandError: If it is outside, also by ``..`` or a link.
        """
        root = self.root.resolve()
        target = (root / path).resolve()
        if not target.is_relative_to(root):
            raise CommandError(f"{path!r} is outside the folder of this run")
        return target

    def _program(self, command: Sequence[str]) -> str:
        if not command or command[0] not in self.allowed:
            named = repr(command[0]) if command else "an empty command"
            raise CommandError(f"{named} is not allowed; allowed programs: {', '.join(self.allowed)}")
        found = sys.executable if command[0] == "python" else shutil.which(command[0])
        if not found:
            raise CommandError(f"{command[0]!r} is not installed")
        return found


def _environment() -> dict[str, str]:
    """Hand a few variables on: no secrets, no ``GIT_DIR``, no personal git settings such as signing."""
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    identity = {
        f"GIT_{role}_{what}": value
        for role in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "plan_execute example"), ("EMAIL", "example@localhost"))
    }
    quiet = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return {**inherited, **identity, **quiet}


def _kill(process: subprocess.Popen[str]) -> None:
    """End a command and its children, which would otherwise keep the pipe open."""
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.communicate()


def _shown(command: Sequence[str]) -> str:
    text = " ".join(command)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _end(output: str) -> str:
    """Keep the last lines, where programs say what went wrong."""
    text = output.strip()
    return text if len(text) <= _TAIL else text[-_TAIL:].partition("\n")[2] or text[-_TAIL:]
