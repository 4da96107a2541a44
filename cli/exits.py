"""What the exit codes mean, and how an error or Ctrl-C becomes one: never a traceback unless asked for."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from .terminal import Screen

__all__ = [
    "DONE",
    "EXIT_CODES",
    "FAILED",
    "INTERRUPTED",
    "USAGE",
    "WAITING",
    "BadUsageError",
    "Stopped",
    "interruptible",
    "report_failure",
]

DONE, FAILED, USAGE, WAITING, PARTIAL, INTERRUPTED = 0, 1, 2, 3, 4, 130

EXIT_CODES = {"done": DONE, "partial": PARTIAL, "waiting": WAITING}
"""Exit codes by status; every other status is a failure."""

WAYS_ON = """There are three ways on:
  - give a model: --model openai:gpt-5-mini with OPENAI_API_KEY set, another provider's with its key,
    or --model NAME --base-url URL for a server of your own
  - use --plan FILE: a plan of bound steps needs no model
  - try `plan-execute demo`: its model is scripted, and needs no key"""


_WAYS_PAST_A_QUESTION = (
    "Answer it with `plan-execute resume`, give its run up with --abandon, or use another --thread."
)


class BadUsageError(typer.TyperException):
    """Options that do not go together, or that cannot be read."""


class Stopped(Exception):
    """A run that its cause (an error, Ctrl-C) has stopped; ``resume`` is the command that goes on."""

    def __init__(self, thread: str, resume: str | None) -> None:
        super().__init__(thread)
        self.thread = thread
        self.resume = resume


def report_failure(error: BaseException, screen: Screen, *, debug: bool) -> int:
    """Say in one clear message what went wrong and return the exit code."""
    stopped = error if isinstance(error, Stopped) else None
    cause = error.__cause__ if stopped and error.__cause__ else error
    code, message, exit_code = _explain(cause, debug=debug)
    if stopped and stopped.resume:
        message += f"\nGo on with: {stopped.resume}"
    if debug:
        screen.note("".join(traceback.format_exception(cause)).rstrip())
    if screen.json:
        screen.document(_error_document(cause, code, message, stopped))
    else:
        screen.note(message if exit_code == INTERRUPTED else f"Error: {message}")
    return exit_code


def _explain(error: BaseException, *, debug: bool) -> tuple[str, str, int]:
    """Return a stable code, a message and the exit code."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", "Interrupted.", INTERRUPTED
    if (usage := _usage_message(error)) is not None:
        return "usage", usage, USAGE
    if (known := _known_error(error)) is not None:
        return known
    hint = "" if debug else " (run `plan-execute --debug …` for the traceback)"
    text = " ".join(str(error).split())
    return "internal_error", f"{type(error).__name__}: {text}{hint}", FAILED


def _usage_message(error: BaseException) -> str | None:
    """Word an error of typer's: which arguments were wrong, and where help is."""
    if not isinstance(error, typer.TyperException):
        return None
    context = getattr(error, "ctx", None)
    where = f"\nTry `{context.command_path} --help`." if context is not None else ""
    return f"{error.format_message()}{where}"


def _known_error(error: BaseException) -> tuple[str, str, int] | None:
    if "plan_execute.errors" not in sys.modules:
        return None
    from .. import errors

    if not isinstance(error, errors.PlanExecuteError):
        return None
    usage = (
        errors.ConfigurationError,
        errors.InvalidInputError,
        errors.InvalidPlanError,
        errors.InvalidAnswerError,
        errors.ThreadNotFoundError,
    )
    message = str(error)
    if isinstance(error, errors.QuestionOpenError):
        message = f"{message.partition(' Answer with Command(')[0]} {_WAYS_PAST_A_QUESTION}"
    if isinstance(error, errors.MissingModelError):
        message = f"{error.what}\n{WAYS_ON}"
    elif _lacks_model(error):
        message = f"{message}\n{WAYS_ON}"
    return error.code, message, USAGE if isinstance(error, usage) else FAILED


def _lacks_model(error: BaseException) -> bool:
    return any(issue["code"] == "missing_model" for issue in getattr(error, "issues", ()))


def _error_document(error: BaseException, code: str, message: str, stopped: Stopped | None) -> dict[str, Any]:
    described: dict[str, Any] = {"code": code, "message": message}
    if issues := getattr(error, "issues", None):
        described["issues"] = issues
    return {"error": described, **({"thread": stopped.thread} if stopped else {})}


# --- Ctrl-C ---------------------------------------------------------------------------

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
