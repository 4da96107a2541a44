"""The terminal: the command line ``plan-execute``."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line and leave the process with its exit code."""
    import gc
    import sys

    # What the imports make lives until the end: looking it through again and again finds nothing.
    gc.set_threshold(20_000, 10, 10)
    try:
        from .app import run_command_line

        code = run_command_line(sys.argv[1:])
    except KeyboardInterrupt:  # amid the imports, or while another one is being told of
        code = 130
    # At its end Python looks through everything once more, which took a third of the time of `list`.
    gc.freeze()
    raise SystemExit(code)
