"""File tools that cannot leave one folder: list, read, write, find."""

from __future__ import annotations

import os
import secrets
import stat
from codecs import getincrementaldecoder
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool

from ..errors import ToolFailedError
from .folder import DEPTH_LIMIT, ConfinedFolder, open_regular

__all__ = ["FileTools", "file_tools"]

_LINE_LIMIT = 300


def file_tools(root: Path) -> list[BaseTool]:
    """Make the file tools of a folder, with the usual limits."""
    return FileTools(ConfinedFolder(root)).tools()


@dataclass(frozen=True)
class FileTools:
    """Operations on the files of one folder.

    Attributes:
        folder: The folder to which they are confined.
        max_bytes: The largest file that is read, searched or written.
        max_entries: The most files that a listing names, and a search looks into.
        max_matches: The most lines that a search returns.
    """

    folder: ConfinedFolder
    max_bytes: int = 1_000_000
    max_entries: int = 2_000
    max_matches: int = 200

    def tools(self) -> list[BaseTool]:
        """Make the tools. Only writing declares a resource, because reads conflict with nothing."""
        write = {"effect": "write", "resource": "file:{path}"}
        return [
            *(
                StructuredTool.from_function(method, metadata={"effect": "read"})
                for method in (self.list_files, self.read_file, self.find_in_files)
            ),
            StructuredTool.from_function(self.write_file, metadata=write),
        ]

    def list_files(self, path: str = ".", pattern: str = "*") -> dict[str, Any]:
        """List the files below a folder whose names match a pattern such as *.md, with their sizes.

        `complete` is false if there are more; `skipped` names entries that are not files or could not be
        opened.
        """
        files: list[dict[str, Any]] = []
        skipped: list[dict[str, str]] = []
        with self.folder.folder(path) as (top, at):
            for shown, name, folder in _entries(top, at, skipped):
                if not fnmatchcase(name, pattern):
                    continue
                if len(files) + len(skipped) >= self.max_entries:
                    return {"files": files, "skipped": skipped, "complete": False}
                try:
                    files.append({"path": shown, "bytes": _size_of_regular(name, folder)})
                except (OSError, ToolFailedError) as error:
                    skipped.append({"path": shown, "reason": _reason(error)})
        return {"files": files, "skipped": skipped, "complete": True}

    def read_file(self, path: str, offset: int = 0, limit: int | None = None) -> str:
        """Read a UTF-8 text file, or a part of it: at most `limit` bytes, from byte `offset` on.

        If the file continues after a part, a last line says so, with the offset to read on from.
        """
        if offset < 0 or (limit is not None and limit < 4):  # A character has up to four bytes.
            raise ToolFailedError(f"offset={offset}, limit={limit}: give an offset from 0 and a limit from 4")
        with self.folder.parent(path) as (folder, name):
            if offset == 0 and limit is None:
                return _as_text(self._bytes_of(name, folder), path)
            return self._part_of(name, folder, path, offset, min(limit or self.max_bytes, self.max_bytes))

    def _part_of(self, name: str, folder: int, path: str, offset: int, limit: int) -> str:
        with os.fdopen(open_regular(name, folder), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if offset > size:
                raise ToolFailedError(f"{path!r} has {size:,} bytes; offset={offset} is after its end")
            file.seek(offset)
            content = file.read(limit)
            further = bool(file.read(1))
        text, end = _whole_characters(content, path, offset, further=further)
        if not further:
            return text
        return f"{text}\n… (bytes {offset:,} to {end:,} of {size:,}; read on with offset={end})"

    def find_in_files(self, text: str, path: str = ".", pattern: str = "*") -> dict[str, Any]:
        """Find the lines that contain a text, in all files below a folder whose names match a pattern.

        `complete` is false if there may be more; `skipped` names files that could not be searched.
        """
        if not text:
            raise ToolFailedError("give a text to find")
        matches: list[dict[str, Any]] = []
        skipped: list[dict[str, str]] = []
        searched = 0
        with self.folder.folder(path) as (top, at):
            for shown, name, folder in _entries(top, at, skipped):
                if not fnmatchcase(name, pattern):
                    continue
                if searched >= self.max_entries or len(matches) > self.max_matches:
                    break
                searched += 1
                try:
                    content = _as_text(self._bytes_of(name, folder), shown)
                except (OSError, ToolFailedError) as error:
                    skipped.append({"path": shown, "reason": _reason(error)})
                    continue
                matches += _matching_lines(content, text, shown, self.max_matches + 1 - len(matches))
            else:
                complete = len(matches) <= self.max_matches
                return {"matches": matches[: self.max_matches], "skipped": skipped, "complete": complete}
        return {"matches": matches[: self.max_matches], "skipped": skipped, "complete": False}

    def write_file(self, path: str, text: str) -> dict[str, Any]:
        """Write a UTF-8 text file, whole or not at all; replace an existing one, create missing folders."""
        if str(PurePosixPath(path)) != path:
            # One spelling per file, so that two steps that write it at the same time are noticed.
            raise ToolFailedError(f"{path!r} must be written as {str(PurePosixPath(path))!r}")
        try:
            content = text.encode()
        except UnicodeEncodeError as error:
            raise ToolFailedError(f"the text for {path!r} cannot be stored as UTF-8: {error}") from error
        if len(content) > self.max_bytes:
            raise ToolFailedError(f"{len(content):,} bytes are more than the limit of {self.max_bytes:,}")
        with self.folder.parent(path, make=True) as (folder, name):
            _replace(name, folder, content)
        return {"path": path, "bytes": len(content)}

    def _bytes_of(self, name: str, folder: int) -> bytes:
        with os.fdopen(open_regular(name, folder), "rb") as file:
            content = file.read(self.max_bytes + 1)
        if len(content) > self.max_bytes:
            raise ToolFailedError(
                f"{name!r} is larger than the limit of {self.max_bytes:,} bytes; "
                "a part of it can be read with offset and limit"
            )
        return content


def _entries(top: int, at: str, skipped: list[dict[str, str]]) -> Iterator[tuple[str, str, int]]:
    """Yield each entry that is not a folder: its path as text, its name, its folder's descriptor."""

    def note(error: OSError) -> None:
        skipped.append({"path": _shown(str(error.filename or "?")), "reason": _reason(error)})

    for below, folders, names, folder in os.fwalk(".", dir_fd=top, onerror=note):
        if below.count("/") >= DEPTH_LIMIT:
            # os.fwalk is recursive until Python 3.12, and holds a descriptor per level.
            skipped.extend(
                {"path": _shown(os.path.normpath(os.path.join(at, below, f))), "reason": "too deep"}
                for f in folders
            )
            folders.clear()
        folders.sort()
        # Links to folders are listed among the folders, and are not followed.
        links = [name for name in folders if _is_link(name, folder)]
        for name in sorted([*names, *links]):
            yield _shown(os.path.normpath(os.path.join(at, below, name))), name, folder


def _is_link(name: str, folder: int) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False  # It has disappeared since it was listed.


def _shown(path: str) -> str:
    """Write a path as text that can be stored; a name that is not UTF-8 gets replacement characters."""
    return os.fsencode(path).decode(errors="replace")


def _size_of_regular(name: str, folder: int) -> int:
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISREG(found.st_mode):
        raise ToolFailedError("not a regular file")
    return found.st_size


def _reason(error: Exception) -> str:
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)


def _as_text(content: bytes, path: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise _no_text(path, error) from error


def _whole_characters(content: bytes, path: str, offset: int, *, further: bool) -> tuple[str, int]:
    """Return a part of a file as text, and where it ends: before a character that would be cut in two."""
    decoder = getincrementaldecoder("utf-8")()
    try:
        text = decoder.decode(content, final=not further)
    except UnicodeDecodeError as error:
        raise _no_text(path, error, offset) from error
    return text, offset + len(content) - len(decoder.getstate()[0])


def _no_text(path: str, error: UnicodeDecodeError, offset: int = 0) -> ToolFailedError:
    at = f"byte 0x{error.object[error.start]:02x} at {offset + error.start}"
    return ToolFailedError(f"{path!r} is not UTF-8 text ({at})")


def _matching_lines(content: str, text: str, path: str, limit: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for number, line in enumerate(content.splitlines(), 1):
        if len(found) >= limit:
            break
        if text in line:
            found.append({"path": path, "line": number, "text": line.strip()[:_LINE_LIMIT]})
    return found


def _replace(name: str, folder: int, content: bytes) -> None:
    """Write next to the file and rename: readers see the old text or the new one, never a part."""
    mode = _mode_of(name, folder)
    beside = f".plan-execute-{secrets.token_hex(8)}.part"
    created = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666, dir_fd=folder)
    try:
        with os.fdopen(created, "wb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.rename(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(beside, dir_fd=folder)
        raise
    os.fsync(folder)


def _mode_of(name: str, folder: int) -> int | None:
    """Return the permissions of the file that is replaced; None if there is none yet."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise ToolFailedError(f"{name!r} is not a regular file")
    return stat.S_IMODE(found.st_mode) & 0o777
