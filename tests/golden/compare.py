"""Golden files: what is written there is what users see; a change has to be looked at and accepted.

Accept changes with ``UPDATE_GOLDEN=1 pytest tests/golden`` and read the difference.
"""

import difflib
import os
from pathlib import Path

__all__ = ["assert_golden", "assert_golden_file"]

FOLDER = Path(__file__).parent


def assert_golden(name: str, text: str) -> None:
    """Compare a text with its golden file; a missing file is a failure."""
    assert_golden_file(FOLDER / name, text)


def assert_golden_file(path: Path, text: str) -> None:
    """Compare a text with a file that is published somewhere else."""
    if os.environ.get("UPDATE_GOLDEN") == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.exists(), f"there is no golden file {path.name}: make it with UPDATE_GOLDEN=1"
    golden = path.read_text(encoding="utf-8")
    difference = difflib.unified_diff(
        golden.splitlines(), text.splitlines(), path.name, "now", lineterm="", n=1
    )
    assert text == golden, "accept with UPDATE_GOLDEN=1, if this is meant:\n" + "\n".join(difference)
