"""The tools that build a project, all built in: those for files, and one that runs ``python``."""

from __future__ import annotations

from pathlib import Path

from langchain_core.tools import BaseTool

from ...tools.command import command_tool
from ...tools.files import file_tools

__all__ = ["project_tools"]


def project_tools(root: Path, *, time_limit_s: float = 60.0) -> list[BaseTool]:
    """Make tools that work below one folder; a command is killed after ``time_limit_s``."""
    return [*file_tools(root), command_tool(root, ["python"], time_limit_s=time_limit_s)]
