"""Write files completely or not at all, for everything that a person keeps from a run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

__all__ = ["write_whole"]


def write_whole(target: Path, text: str, check: Callable[[], None] = lambda: None) -> None:
    """Write a text file (UTF-8) next to its place, and move it there when it is complete and on disk.

    Args:
        target: The file; it keeps its permissions, a new one gets the usual ones.
        text: The new content.
        check: Called just before the file takes its place; if it raises, nothing changes.
    """
    mode = _mode_of(target)
    handle, draft = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).chmod(mode)
        check()
        Path(draft).replace(target)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def _mode_of(target: Path) -> int:
    """Return the permissions of the file, or those that a new file would get."""
    if target.exists():
        return target.stat().st_mode & 0o777
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask
