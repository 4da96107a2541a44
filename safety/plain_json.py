"""What callers and people hand in must be JSON that every storage keeps and every client can be sent."""

from __future__ import annotations

import json
from math import isfinite
from typing import Any

from .depth import is_too_deep, too_deep_message

__all__ = ["can_be_kept", "copied", "plain_json"]


def plain_json(value: Any) -> Any:
    """Return a copy of a value as plain JSON.

    Raises:
        ValueError: If it is not, nests too deep, or holds what cannot be kept; the message says so.
    """
    if is_too_deep(value):
        raise ValueError(too_deep_message("it"))
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("it holds a lone surrogate, which is not Unicode text") from error
    except TypeError as error:
        raise ValueError(str(error)) from error
    return json.loads(text, parse_int=_storable)


def _storable(digits: str) -> int:
    number = int(digits)
    if not can_be_kept(number):
        raise ValueError(f"the integer {digits[:30]} does not fit 64 bits; give it as text")
    return number


def can_be_kept(number: float) -> bool:
    """Tell whether every storage keeps a number: an integer of 64 bits, or one that is finite."""
    return isfinite(number) if isinstance(number, float) else -(2**63) <= number < 2**64


def copied(value: Any) -> Any:
    """Copy a JSON value; this takes a fraction of the time of ``copy.deepcopy``."""
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [copied(item) for item in value]
    return value
