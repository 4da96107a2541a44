"""Let a person edit a text in the editor of their choice."""

from __future__ import annotations

import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..context import Environment
from ..plan.files.plan_files import PlanFile, read_plan_text

__all__ = ["EditorError", "edit_file", "parse_plan"]

_FALLBACKS = ("nano", "vi")


class EditorError(Exception):
    """The editor could not be used; the message says why."""


def edit_file(text: str, name: str) -> str:
    """Return what a person saved after editing ``text`` in ``$VISUAL``, ``$EDITOR``, nano or vi.

    Raises:
        EditorError: If there is no editor, it fails, or what it saved cannot be read.
    """
    command = _editor()
    with tempfile.TemporaryDirectory(prefix="plan-execute-") as folder:
        path = Path(folder) / name
        path.write_text(text, encoding="utf-8")
        try:
            with _deaf_to_interrupts():
                ended = subprocess.run([*command, str(path)], check=False)  # noqa: S603 - the person's own
        except OSError as error:
            raise EditorError(f"the editor {command[0]!r} cannot be started ({error.strerror})") from error
        if ended.returncode != 0:
            raise EditorError(
                f"the editor {command[0]!r} failed (exit code {ended.returncode}); nothing was changed"
            )
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise EditorError(f"what the editor saved cannot be read: {error}") from error


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Leave Ctrl-C to the editor, which a terminal sends it to as well."""
    # A handler, not SIG_IGN: the editor would inherit that.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _editor() -> list[str]:
    chosen = Environment.read().editor
    if chosen:
        try:
            return shlex.split(chosen)
        except ValueError as error:
            raise EditorError(f"EDITOR={chosen!r} cannot be read as a command: {error}") from error
    for name in _FALLBACKS:
        if found := shutil.which(name):
            return [found]
    raise EditorError("no editor is set: set EDITOR to one")


def parse_plan(text: str) -> PlanFile:
    """Read what a person wrote as a plan file is read.

    Raises:
        InvalidPlanError: If it is no YAML mapping; each issue has its line where that is known.
    """
    return read_plan_text(text, "the edited plan")
