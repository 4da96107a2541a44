"""The threat model names the tests that hold it, and they are there."""

from __future__ import annotations

import re
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]


def test_every_path_that_the_threat_model_names_exists() -> None:
    text = (CHECKOUT / "docs" / "threat-model.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w/.-]+)`", text))
    paths = {name for name in named if "/" in name and not name.startswith("/")}
    assert len(paths) > 10
    assert [name for name in sorted(paths) if not (CHECKOUT / name).exists()] == []
