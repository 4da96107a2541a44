"""Lengths of time as people write and read them: ``7d``, ``2 days``."""

from __future__ import annotations

import re

from ..errors import ConfigurationError

__all__ = ["read_duration", "say_duration"]

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_NAMES = {"d": "day", "h": "hour", "m": "minute", "s": "second"}


def read_duration(text: str) -> float:
    """Read a length of time such as ``90s``, ``1.5h`` or ``7d`` and return it in seconds.

    Raises:
        ConfigurationError: If it is none, or not above zero.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd])\s*", text, re.ASCII)
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 0.0 < seconds < float("inf"):
        raise ConfigurationError(f"{text!r} is not a length of time: write a number above 0 and s, m, h or d")
    return seconds


def say_duration(seconds: float) -> str:
    """Say a length of time in its largest whole unit: ``2 days``; below a second: ``0 seconds``."""
    unit = next((unit for unit, size in _UNITS.items() if seconds >= size), "s")
    count = int(max(seconds, 0.0) // _UNITS[unit])
    return f"{count} {_NAMES[unit]}{'' if count == 1 else 's'}"
