"""Built-in tool sets by name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool
from langgraph.config import get_config

from ..errors import ConfigurationError, ToolFailedError

__all__ = ["TOOLSETS", "folder_of_tool", "names_of_toolsets", "toolset", "toolset_of_each_thread"]

TOOLSETS: dict[str, str] = {
    "files": "list, read, write and find in the files of the workspace",
    "http": "fetch text from public web addresses",
    "command:PROGRAM,…": "run these programs in the workspace, such as command:git,python",
}
"""The purpose of each set, by the form of its name."""


def toolset(name: str, *, root: Path) -> list[BaseTool]:
    """Make the tools of a set.

    Args:
        name: ``files``, ``http``, or ``command:`` and the programs that may run: ``command:git,python``.
        root: The workspace of files and commands; created when it is first used.

    Raises:
        ConfigurationError: If the set does not exist; the message names the known ones.
    """
    kind, colon, programs = name.strip().partition(":")
    if kind == "files" and not colon:
        from .files import file_tools

        return file_tools(root)
    if kind == "http" and not colon:
        from .http import http_tool

        return [http_tool()]
    if kind == "command" and programs:
        from .command import command_tool

        return [command_tool(root, [program.strip() for program in programs.split(",")])]
    if kind == "command":
        raise ConfigurationError("name the programs that may run, such as command:git,python")
    raise ConfigurationError(f"unknown tool set {name!r}; known tool sets: {', '.join(TOOLSETS)}")


def names_of_toolsets(listed: str) -> list[str]:
    """Read names separated by commas; ``command:`` comes last, as its programs have commas too."""
    plain, colon, programs = listed.partition(":")
    *before, last = plain.split(",")
    names = [*before, f"{last}{colon}{programs}"]
    return [name.strip() for name in names if name.strip()]


def toolset_of_each_thread(name: str, folder_of: Callable[[str], Path]) -> list[BaseTool]:
    """Make the tools of a set for many threads: each call works in the folder of its thread.

    Args:
        name: As for :func:`toolset`.
        folder_of: Returns the folder of a thread by its id.
    """

    # A server has any number of threads, and making tools takes almost no time.
    @functools.lru_cache(maxsize=64)
    def made(thread: str) -> dict[str, BaseTool]:
        return {tool.name: tool for tool in toolset(name, root=folder_of(thread))}

    # A tool's name and arguments do not depend on the folder.
    tools = [_of_calling_thread(tool, made) for tool in toolset(name, root=folder_of(""))]
    for tool in tools:
        for called in (getattr(tool, "func", None), getattr(tool, "coroutine", None)):
            if called is not None:
                setattr(called, _FOLDER_OF, folder_of)
    return tools


_FOLDER_OF = "plan_execute_folder_of"
"""Attribute of a tool's function: the function that returns a thread's folder by its id."""


def folder_of_tool(tool: BaseTool, thread_id: str) -> Path | None:
    """Return the base folder of paths in a built-in file tool; None for any other tool."""
    function = getattr(tool, "func", None)
    if (folder_of := getattr(function, _FOLDER_OF, None)) is not None:
        found: Path = folder_of(thread_id)
        return found
    from .files import FileTools  # Most runs have none.

    owner = getattr(function, "__self__", None)
    return owner.folder.root if isinstance(owner, FileTools) else None


def _of_calling_thread(tool: BaseTool, made: Callable[[str], dict[str, BaseTool]]) -> BaseTool:
    if not isinstance(tool, StructuredTool):
        raise TypeError(f"{tool.name} is no StructuredTool")  # All built-in tools are.

    def own() -> Any:
        thread = (get_config().get("configurable") or {}).get("thread_id")
        if not thread:
            raise ToolFailedError(f"{tool.name} works in the folder of a thread, but this run has no thread")
        return made(str(thread))[tool.name]

    if tool.coroutine is not None:

        @functools.wraps(tool.coroutine)
        async def call(**arguments: Any) -> Any:
            return await own().coroutine(**arguments)

        return tool.model_copy(update={"coroutine": call})

    @functools.wraps(tool.func)  # type: ignore[arg-type]
    def call_blocking(**arguments: Any) -> Any:
        return own().func(**arguments)

    return tool.model_copy(update={"func": call_blocking})
