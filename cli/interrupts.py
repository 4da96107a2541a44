"""What Ctrl-C and a request to end do to a run: it stops cleanly, and the terminal is given back.

The first Ctrl-C ends the run as soon as what must not be cut off (a write) has ended; the second ends the
process at once, which is safe as any crash is. Who ends the process otherwise gets the cursor back first.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from .exits import INTERRUPTED

__all__ = ["interruptible"]

_GIVE_BACK = "\x1b[?2026l\x1b[?25h"
"""What a live view may have switched: frames shown at once, and the cursor."""


@contextmanager
def interruptible(stopping: Callable[[], None], way_on: str | None) -> Iterator[None]:
    """Stop what runs within on Ctrl-C, and end at once on the second one.

    Args:
        stopping: Called with the first one, amid whatever the main thread does; it only takes note.
        way_on: The command that goes on with the run, if there is one.

    Raises:
        KeyboardInterrupt: At the first one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed = False

    def interrupt(*_: object) -> None:
        nonlocal pressed
        if pressed:
            _end_at_once(way_on)
        pressed = True
        stopping()
        raise KeyboardInterrupt

    before = {signal.SIGINT: signal.signal(signal.SIGINT, interrupt)}
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # One that is ignored (nohup) stays ignored.
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            before[number] = signal.signal(number, _give_back_and_end)
    try:
        yield
    finally:
        for number, earlier in before.items():
            # After a first Ctrl-C the next one still ends the process, whatever it is doing by then.
            if not (pressed and number == signal.SIGINT):
                signal.signal(number, earlier)


def _end_at_once(way_on: str | None) -> None:
    _write(f"\nStopped at once.{f' Go on with: {way_on}' if way_on else ''}\n")
    os._exit(INTERRUPTED)


def _give_back_and_end(number: int, _: FrameType | None) -> Any:
    _write("")
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _write(text: str) -> None:
    """Write past all buffers and locks: the main thread may hold any of them."""
    with suppress(OSError, ValueError):
        back = _GIVE_BACK if os.isatty(2) else ""
        os.write(2, (back + text).encode(getattr(sys.stderr, "encoding", None) or "utf-8", "replace"))
