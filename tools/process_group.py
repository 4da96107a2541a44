"""Start a program as a process group, and kill it with everything that it started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import Any, Final

from ..context import expand_variables

__all__ = ["OWN_GROUP", "kill_group"]

OWN_GROUP: Final[dict[str, Any]] = {
    "start_new_session": True,
    "creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
}
"""Options of ``Popen``: POSIX uses the first and Windows the second."""

# macOS reports "not permitted" for a group in which only ended processes are left.
_NOBODY_LEFT = (ProcessLookupError, PermissionError) if sys.platform == "darwin" else (ProcessLookupError,)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill every process of a group that was started with ``OWN_GROUP``.

    On Windows it kills the program's children, which it finds by their parents. It cannot find the children
    of a program that has already ended.
    """
    if hasattr(os, "killpg"):
        with suppress(*_NOBODY_LEFT):
            os.killpg(process.pid, signal.SIGKILL)
    elif process.poll() is None:
        taskkill = os.path.join(expand_variables("${SYSTEMROOT}"), "System32", "taskkill.exe")
        command = [taskkill, "/F", "/T", "/PID", str(process.pid)]
        subprocess.run(command, check=False, capture_output=True)  # noqa: S603 - a program of Windows
        process.kill()  # If taskkill could not.
