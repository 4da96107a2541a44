"""One key from a person, without Enter, where the terminal can give it."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

__all__ = ["END_OF_INPUT", "Keys", "keys_of", "single_keys"]

END_OF_INPUT = "\x04"
"""Ctrl-D, or a terminal that went away."""

_PREFERRED = {"abort": "b", "replan": "n"}
"""Keys of words whose first letter means something else elsewhere: A for approve must not abort a run."""


def keys_of(words: Mapping[str, str]) -> dict[str, str]:
    """Give each word a key: its first letter that is free.

    Args:
        words: The words, each with what it means.

    Returns:
        Words by key, in their order.
    """
    keys: dict[str, str] = {}
    for word in words:
        letters = [_PREFERRED.get(word, word[0]), *word]
        keys[next(letter for letter in letters if letter.isalpha() and letter not in keys)] = word
    return keys


@dataclass(frozen=True)
class Keys:
    """Where keys come from.

    Attributes:
        read: Waits for a key and returns it.
        echoed: Whether the person sees what they type, so that it need not be repeated.
    """

    read: Callable[[], str]
    echoed: bool = False


@contextmanager
def single_keys(stream: TextIO) -> Iterator[Keys]:
    """Let a terminal give single keys; what was typed before is not taken for an answer.

    Ctrl-C stays Ctrl-C. Where there are no single keys (no POSIX terminal), lines are read, and the first
    character of each counts.
    """
    try:
        import termios
        import tty
    except ImportError:
        yield Keys(lambda: _first_of_line(stream), echoed=True)
        return
    try:
        terminal = stream.fileno()
        before = termios.tcgetattr(terminal)
        tty.setcbreak(terminal, termios.TCSAFLUSH)
    except (termios.error, OSError, ValueError):
        yield Keys(lambda: _first_of_line(stream), echoed=True)
        return
    try:
        yield Keys(lambda: _read_key(terminal))
    finally:
        # The rest of a word that somebody typed is dropped too: it answers nothing that comes next.
        termios.tcsetattr(terminal, termios.TCSAFLUSH, before)


def _first_of_line(stream: TextIO) -> str:
    line = stream.readline()
    return line.strip()[:1] or "\n" if line else END_OF_INPUT


def _read_key(terminal: int) -> str:
    """Read what one press sends: a character, or the sequence of an arrow or function key."""
    try:
        sent = os.read(terminal, 1)
        while sent and select.select([terminal], [], [], 0)[0]:
            more = os.read(terminal, 64)
            if not more:
                break
            sent += more
    except OSError:  # the terminal went away
        return END_OF_INPUT
    text = sent.decode(errors="replace")
    # An arrow key is no letter, and of a word that was typed or pasted the first letter counts.
    return END_OF_INPUT if not text else "" if text[0] == "\x1b" else text[0]
