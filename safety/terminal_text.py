"""Text of models and tools for a terminal: it may say anything, and steer nothing."""

from __future__ import annotations

import re

__all__ = ["one_line", "plain"]

# Control characters have pictures of their own: ␛ for an escape.
_PICTURES = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"} | {0x7F: "␡"}
# C1 controls; marks, embeddings, overrides and isolates of writing directions; what breaks lines or is
# never seen (Unicode's tags, in which text can be hidden from whoever reads it).
_UNSEEN = [
    *range(0x80, 0xA0),
    0x061C,
    *range(0x200E, 0x2010),
    *range(0x2028, 0x202F),
    *range(0x2066, 0x206A),
    0xFEFF,
    *range(0xE0000, 0xE0080),
]
_ESCAPED = _PICTURES | {code: f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}" for code in _UNSEEN}

# What joins or varies the characters next to it: terminals disagree about how wide the result is.
_UNCERTAIN = re.compile("[\u200c\u200d\ufe00-\ufe0f\U0001f3fb-\U0001f3ff]")


def plain(text: str) -> str:
    """Make control characters visible: what a model or a tool wrote must not steer the terminal."""
    return text.replace("\r\n", "\n").translate(_ESCAPED)


def one_line(text: str) -> str:
    """Write a text as one line whose width every terminal agrees about."""
    return _UNCERTAIN.sub("", plain(" ".join(text.split())))
