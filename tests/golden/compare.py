"""Golden files: what is written there is what users see; a change has to be looked at and accepted.

Accept changes with ``UPDATE_GOLDEN=1 pytest tests/golden`` and read the difference.
"""

import difflib
import os
from pathlib import Path

__all__ = ["assert_golden"]

FOLDER = Path(__file__).parent


def assert_golden(name: str, text: str) -> None:
    """Compare a text with its golden file; a missing file is a failure."""
    path = FOLDER / name
    if os.environ.get("UPDATE_GOLDEN") == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.exists(), f"there is no golden file {name}: make it with UPDATE_GOLDEN=1"
    golden = path.read_text(encoding="utf-8")
    difference = difflib.unified_diff(golden.splitlines(), text.splitlines(), name, "now", lineterm="", n=1)
    assert text == golden, "accept with UPDATE_GOLDEN=1, if this is meant:\n" + "\n".join(difference)
