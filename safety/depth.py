"""How deep values may nest: what walks them is recursive, here and in the libraries."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["MAX_DEPTH", "is_too_deep", "read_json", "too_deep_message"]

MAX_DEPTH = 100
"""Levels of objects and lists. The server's JSON ends at 254, Python's stack at some 300 of them."""


def is_too_deep(value: Any) -> bool:
    """Tell whether a value nests deeper than `MAX_DEPTH`, or holds itself."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        # by identity: a value that holds another one twice must not count it twice on each level
        held = {id(item): item for item in level if type(item) not in _LEAVES}
        level = [part for item in held.values() for part in _parts(item)]
        if not level:
            return False
    return True


_LEAVES = frozenset((str, int, float, bool, type(None)))


def _parts(value: Any) -> Any:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list | tuple) else ()


def too_deep_message(what: str) -> str:
    """Say that something nests too deep."""
    return f"{what} is nested more than {MAX_DEPTH} levels deep"


def read_json(text: str | bytes) -> Any:
    """Read JSON that a model, a person or a tool wrote.

    Raises:
        ValueError: If it is none, or nests too deep.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError(too_deep_message("it")) from error
    if is_too_deep(value):
        raise ValueError(too_deep_message("it"))
    return value
