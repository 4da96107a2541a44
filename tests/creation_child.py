"""Opens databases in forked children, each killed at one line of the code that makes them."""

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from plan_execute.storage import commit_count
from plan_execute.storage import sqlite as local

_FILES = (local.__file__, commit_count.__file__)


def open_and_die(path: Path, line: int) -> None:
    """Open the database, and be killed before so many lines have run; exit if there are not so many."""
    left = line

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in _FILES:
            return None
        left -= event == "line"
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    local.open_database(path)
    os._exit(0)


def main(path: Path, lines: range) -> None:
    """Write, for each line, how many bytes the killed child left in the file; "whole": it was not killed."""
    for line in lines:
        place = path.parent / str(line) / path.name
        place.parent.mkdir()
        if path.exists():
            place.touch()
        child = os.fork()
        if child == 0:
            open_and_die(place, line)
        _, status = os.waitpid(child, 0)
        left = "whole" if status == 0 else str(place.stat().st_size if place.exists() else 0)
        sys.stdout.write(f"{left}\n")
        sys.stdout.flush()  # or the next child would write it once more


if __name__ == "__main__":
    main(Path(sys.argv[1]), range(*map(int, sys.argv[2:])))
