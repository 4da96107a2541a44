"""Keep a model's reasons short and on one line, because people and later models read them."""

from __future__ import annotations

__all__ = ["short"]

_LIMIT = 400


def short(reason: str) -> str:
    """Fold a reason to one line of at most 400 characters."""
    line = " ".join(reason.split())
    return line if len(line) <= _LIMIT else f"{line[: _LIMIT - 1]}…"
