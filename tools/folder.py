"""A folder that paths cannot leave, for file tools and commands."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from ..errors import ConfigurationError, ToolFailedError

__all__ = ["ConfinedFolder", "open_regular", "resolved_below"]

_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
_FILE = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)

DEPTH_LIMIT = 100
"""The most nested folders. One write could make thousands, which no walk would survive."""


class ConfinedFolder:
    """Opens files and folders below a root folder, and nothing else.

    A path is resolved and must end below the root. Then each component of the resolved path is opened
    relative to the one before it, without following links. A link that is created in between makes the call
    fail, but cannot lead out. Links that stay inside work. Only a hard link or a mount that somebody else has
    put below the root may lead out.

    Args:
        root: The folder; created when it is first used.

    Raises:
        ConfigurationError: If this system cannot open files relative to a folder (Windows).
    """

    def __init__(self, root: Path) -> None:
        if os.open not in os.supports_dir_fd or not hasattr(os, "O_NOFOLLOW"):
            raise ConfigurationError(
                "tools confined to a folder need openat(), which this system does not have"
            )
        self.root = Path(os.path.abspath(root))

    @contextmanager
    def folder(self, path: str) -> Iterator[tuple[int, str]]:
        """Open a folder; return its descriptor and its resolved path relative to the root.

        Raises:
            ToolFailedError: If it is outside the root, missing, or not a folder.
        """
        parts = self._parts(path)
        with _said(path), _closing(self._walk(parts)) as opened:
            yield opened, "/".join(parts) or "."

    @contextmanager
    def parent(self, path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """Open the folder of a file; return its descriptor and the file's own name.

        Args:
            path: The file, which need not exist.
            make: Whether missing folders are created.

        Raises:
            ToolFailedError: If it is outside the root or its folder cannot be opened.
        """
        *folders, name = self._parts(path) or [""]
        if not name:
            raise ToolFailedError(f"{path!r} is a folder, not a file")
        with _said(path), _closing(self._walk(folders, make=make)) as opened:
            yield opened, name

    def _parts(self, path: str) -> tuple[str, ...]:
        return resolved_below(self.root, path).relative_to(os.path.realpath(self.root)).parts

    def _walk(self, folders: Sequence[str], *, make: bool = False) -> int:
        opened = os.open(os.path.realpath(self.root), _FOLDER)
        for name in folders:
            try:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(name, dir_fd=opened)
                inner = os.open(name, _FOLDER, dir_fd=opened)
            finally:
                os.close(opened)
            opened = inner
        return opened


def resolved_below(root: Path, path: str) -> Path:
    """Resolve a relative path, which need not exist; create the root if it is missing.

    Raises:
        ToolFailedError: If it does not end below the root.
    """
    _check(path)
    root.mkdir(parents=True, exist_ok=True)
    real = os.path.realpath(root)
    try:
        target = Path(os.path.realpath(os.path.join(real, path)))
    except (OSError, ValueError) as error:
        raise ToolFailedError(f"{path!r} cannot be looked up: {error}") from error
    if not target.is_relative_to(real):
        raise ToolFailedError(f"{path!r} is outside the folder: a link leads out of it")
    return target


def open_regular(name: str, folder: int) -> int:
    """Open a regular file for reading and return its descriptor; never a link, a device or a pipe.

    Raises:
        OSError: If it cannot be opened.
        ToolFailedError: If it is not a regular file.
    """
    # Check before opening, because opening alone may already do something to a device.
    if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        raise ToolFailedError(f"{name!r} is not a regular file")
    opened = os.open(name, _FILE, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise ToolFailedError(f"{name!r} is not a regular file")
    return opened


def _check(path: str) -> None:
    """Refuse everything but a relative path, before asking the file system."""
    if not path or "\0" in path:
        raise ToolFailedError(f"{path!r} is not a path: it is empty or holds a NUL")
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise ToolFailedError(f"{path!r} is not a path: it is not valid text") from error
    if os.path.isabs(path) or ".." in PurePosixPath(path).parts:
        raise ToolFailedError(f"{path!r} is outside the folder: give a relative path without '..'")
    if len(PurePosixPath(path).parts) > DEPTH_LIMIT:
        raise ToolFailedError(f"a path of more than {DEPTH_LIMIT} nested folders is not opened")


@contextmanager
def _said(path: str) -> Iterator[None]:
    """Describe a system error about a path, without the path of the root."""
    try:
        yield
    except OSError as error:
        raise ToolFailedError(f"{path!r}: {error.strerror or type(error).__name__}") from error


@contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)
