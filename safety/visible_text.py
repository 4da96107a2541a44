"""Text that models and tools wrote, with nothing in it that hides, turns or steers what is shown."""

from __future__ import annotations

import re

__all__ = ["cut", "one_line", "visible", "width"]

_ENGLAND_AND_OTHERS = "\U0001f3f4[\U000e0020-\U000e007e]{1,8}\U000e007f"
"""Flags that are written with tag characters: the one visible thing that is made of them."""
_INVISIBLE = re.compile(
    f"(?P<flag>{_ENGLAND_AND_OTHERS})"
    "|[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff"
    "\ud800-\udfff\U000e0000-\U000e0fff]"
)
_WIDE = re.compile(
    "[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\U0001f300-\U0003fffd]"
)


def visible(text: str) -> str:
    """Show characters that hide, turn or steer as their number: control characters, overrides, halves.

    Line ends and tabs stay, and so do the joiners that emoji and some scripts are written with.
    """
    return _INVISIBLE.sub(_number, text.replace("\r\n", "\n"))


def _number(found: re.Match[str]) -> str:
    return found["flag"] or f"⟨U+{ord(found[0]):04X}⟩"


def one_line(text: str) -> str:
    """Write a text as one line."""
    return " ".join(visible(text).split())


def cut(text: str, limit: int) -> tuple[str, int]:
    """Cut a text after ``limit`` characters; also return how many were left out."""
    return (text, 0) if len(text) <= limit else (text[:limit], len(text) - limit)


def width(text: str) -> int:
    """Estimate how many columns a text takes; East Asian characters and emoji take two."""
    return len(text) + len(_WIDE.findall(text))
