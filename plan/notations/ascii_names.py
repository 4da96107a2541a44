"""Write words of any script as step ids, which are ASCII."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection

__all__ = ["in_ascii", "unused"]

_LETTER = re.compile(r"(?:LETTER|SYLLABLE) (?:SHORT |SMALL )?(\w+)")


def in_ascii(text: str) -> str:
    """Spell a text in ASCII: remove accents, and use the Unicode names of letters of other scripts."""
    return text if text.isascii() else "".join(map(_spelled, text))


def _spelled(char: str) -> str:
    plain = "".join(part for part in unicodedata.normalize("NFKD", char) if part.isascii())
    if plain or unicodedata.combining(char):
        return plain
    if not char.isalnum():
        return " "
    found = _LETTER.search(unicodedata.name(char, ""))
    return found[1].lower() if found else f"u{ord(char):x}"


def unused(name: str, used: Collection[str]) -> str:
    """Add a number to a name that is already in use."""
    again = (f"{name[:60]}_{number}" for number in range(2, len(used) + 3))
    return name if name not in used else next(other for other in again if other not in used)
