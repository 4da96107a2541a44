"""Tools over text files, for plans of bound steps: `plans/summarise_folder.yaml` uses them.

Give them to the command line with ``--tools plan_execute.examples.text_files:TOOLS``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool

__all__ = ["TOOLS", "count_words", "find_files", "list_headings", "summarise", "write_text"]


def find_files(folder: str, pattern: str) -> list[str]:
    """List the files of a folder that match a pattern such as *.md, sorted."""
    if not Path(folder).is_dir():
        raise NotADirectoryError(f"there is no folder {folder!r}")
    return [str(path) for path in sorted(Path(folder).glob(pattern)) if path.is_file()]


def count_words(paths: list[str]) -> dict[str, int]:
    """Count the words of each file."""
    return {path: len(re.findall(r"\w+", _read(path))) for path in paths}


def list_headings(paths: list[str]) -> dict[str, list[str]]:
    """List the Markdown headings of each file."""
    return {path: _headings(_read(path)) for path in paths}


def summarise(words: dict[str, int], headings: dict[str, list[str]]) -> str:
    """Write a Markdown summary: the files, longest first, with their words and headings."""
    lines = [f"{len(words)} files, {sum(words.values())} words."]
    for path, number in sorted(words.items(), key=lambda entry: (-entry[1], entry[0])):
        lines += ["", f"## {Path(path).name} ({number} words)", *(f"- {title}" for title in headings[path])]
    return "\n".join(lines) + "\n"


def write_text(path: str, text: str) -> dict[str, Any]:
    """Write a text file; a file that is there already is overwritten."""
    Path(path).write_text(text, encoding="utf-8")
    return {"path": path, "characters": len(text)}


def _headings(text: str) -> list[str]:
    return [line.lstrip("# ") for line in text.splitlines() if line.startswith("#")]


def _read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")


def _tool(function: Callable[..., Any], effect: str, resource: str | None = None) -> BaseTool:
    return StructuredTool.from_function(function, metadata={"effect": effect, "resource": resource})


TOOLS = [
    _tool(find_files, "read"),
    _tool(count_words, "read"),
    _tool(list_headings, "read"),
    _tool(summarise, "read"),
    _tool(write_text, "write", "{path}"),
]
