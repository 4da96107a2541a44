"""Three tools that build a project: write a file, read a file, run a command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool

from ..commands import CommandRunner

__all__ = ["project_tools"]


def project_tools(root: Path, *, time_limit_s: float = 60.0) -> list[BaseTool]:
    """Make tools that work below one folder; a command is killed after ``time_limit_s``."""
    commands = CommandRunner(root, allowed=("python",), time_limit_s=time_limit_s)

    def write_file(path: str, text: str) -> dict[str, Any]:
        """Write a text file below the project's folder; folders are made."""
        target = commands.inside(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        return {"path": path, "lines": len(text.splitlines())}

    def read_file(path: str) -> str:
        """Read a text file below the project's folder."""
        return commands.inside(path).read_text(encoding="utf-8")

    def run_command(command: list[str]) -> str:
        """Run a program in the project's folder, as a list of arguments: ["python", "-m", "unittest"]."""
        return commands.run(command)

    return [
        StructuredTool.from_function(write_file, metadata={"effect": "idempotent", "resource": "{path}"}),
        StructuredTool.from_function(read_file, metadata={"effect": "read"}),
        # What a command does to the world is not known, so it counts as a write: it is approved
        # before it runs, and never repeated by itself.
        StructuredTool.from_function(run_command, metadata={"effect": "write"}),
    ]
