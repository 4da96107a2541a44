"""Regular expressions of others: matched under a time limit, JavaScript's understood.

``re`` cannot be stopped, so a pattern that backtracks without end would never come back. ``regex`` can.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from .work import current_work

if TYPE_CHECKING:
    import regex

__all__ = ["PatternError", "compile_pattern", "compile_schema_pattern", "is_found"]

_LONGEST = 10_000


class PatternError(ValueError):
    """A pattern that is none, or that is not understood."""


def compile_pattern(pattern: str) -> regex.Pattern[str]:
    """Read a regular expression as Python has them.

    Raises:
        PatternError: If it is none.
    """
    if not isinstance(pattern, str):
        raise PatternError(f"a pattern is text, not {type(pattern).__name__}")
    if len(pattern) > _LONGEST:
        raise PatternError(f"it has {len(pattern):,} characters; at most {_LONGEST:,} are read")
    return _compiled(pattern)


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> regex.Pattern[str]:
    import regex

    try:
        return regex.compile(pattern)
    except RecursionError as error:
        raise PatternError("it is nested too deep") from error
    except (regex.error, ValueError, OverflowError) as error:
        raise PatternError(str(error)) from error


def compile_schema_pattern(pattern: str) -> regex.Pattern[str]:
    """Read a pattern of a JSON Schema, which has JavaScript's form (ECMA-262).

    Raises:
        PatternError: If it is none, or uses what is not understood.
    """
    return compile_pattern(_in_python(pattern) if isinstance(pattern, str) else pattern)


def is_found(pattern: regex.Pattern[str], text: str) -> bool:
    """Tell whether a pattern is found in a text.

    Raises:
        WorkLimitError: If looking takes too long.
    """
    # concurrent: other threads, and so the event loop, go on meanwhile
    return current_work().match(
        lambda seconds: pattern.search(text, timeout=seconds, concurrent=True) is not None
    )


# --- JavaScript's form -------------------------------------------------------------------

_PARTS = re.compile(
    r"""
    \\u\{(?P<point>[0-9A-Fa-f]{1,6})\}
    | \\u(?P<high>[Dd][89ABab][0-9A-Fa-f]{2})\\u(?P<low>[Dd][C-Fc-f][0-9A-Fa-f]{2})
    | \\c(?P<control>[A-Za-z])
    | \\k<(?P<group>[^>]*)>
    | \\[pP]\{[^}]*\}
    | \\(?P<escaped>.)
    | \{\d+(?:,\d*)?\}
    | \[\^?\]?
    | .
    """,
    re.VERBOSE | re.DOTALL,
)
_SETS = {
    "d": "0-9",
    "D": r"\x00-/:-\U0010FFFF",
    "w": "A-Za-z0-9_",
    "W": r"\x00-/:-@\[-\^`{-\U0010FFFF",
}
"""JavaScript means ASCII where Python means Unicode."""
_MULTILINE = re.compile(r"\(\?[a-zA-Z]*m")


@lru_cache(maxsize=1024)
def _in_python(pattern: str) -> str:
    """Write a pattern of JavaScript as ``regex`` reads it; what both read alike is left alone."""
    written: list[str] = []
    in_set = after_class = False
    end = "$" if _MULTILINE.search(pattern) else r"\Z"
    for found in _PARTS.finditer(pattern):
        part, escaped = found[0], found["escaped"]
        if escaped and escaped in _SETS:
            written.append(_SETS[escaped] if in_set else f"[{_SETS[escaped]}]")
            after_class = in_set
            continue
        written.append(_in_set(part, found, after_class) if in_set else _outside(part, found, end))
        after_class = False
        if not in_set and part in ("[", "[^"):
            in_set = True
        elif part in ("]", "[]", "[^]"):
            in_set = False
    return "".join(written)


def _outside(part: str, found: re.Match[str], end: str) -> str:
    fixed = {"[]": "(?!)", "[^]": r"[\s\S]", "{": r"\{", "}": r"\}", "$": end}
    return fixed.get(part) or _character(found) or part


def _in_set(part: str, found: re.Match[str], after_class: bool) -> str:
    if part == "-" and after_class:
        return r"\-"
    if part.startswith("["):
        return "".join(char if char == "]" else f"\\{char}" for char in part)
    return _character(found) or part


def _character(found: re.Match[str]) -> str:
    """Write a character, or a group, that JavaScript names in its own way; empty if it is none."""
    if found["group"] is not None:
        return f"(?P={found['group']})"
    if found["control"]:
        return f"\\x{ord(found['control']) % 32:02x}"
    if found["high"]:
        return _escaped(0x10000 + ((int(found["high"], 16) & 0x3FF) << 10) + (int(found["low"], 16) & 0x3FF))
    return _escaped(int(found["point"], 16)) if found["point"] else ""


def _escaped(point: int) -> str:
    if point > 0x10FFFF:
        raise PatternError(f"there is no character U+{point:X}")
    return f"\\U{point:08x}"
