"""Built-in tool sets by name."""

from __future__ import annotations

from pathlib import Path

from langchain_core.tools import BaseTool

from ..errors import ConfigurationError

__all__ = ["TOOLSETS", "toolset"]

TOOLSETS: dict[str, str] = {
    "files": "list, read, write and find in the files of the workspace",
    "http": "fetch text from public web addresses",
    "command:PROGRAM,…": "run these programs in the workspace, such as command:git,python",
}
"""What each set is for, by the form of its name."""


def toolset(name: str, *, root: Path) -> list[BaseTool]:
    """Make the tools of a set.

    Args:
        name: ``files``, ``http``, or ``command:`` and the programs that may run: ``command:git,python``.
        root: The workspace, which files and commands are confined to; made when it is first used.

    Raises:
        ConfigurationError: If there is no such set; the message names the known ones.
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
