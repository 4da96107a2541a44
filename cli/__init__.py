"""The terminal: the command line ``plan-execute``."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line and leave the process with its exit code."""
    import sys

    from .app import run_command_line

    raise SystemExit(run_command_line(sys.argv[1:]))
