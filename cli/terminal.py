"""Where text goes and keys come from: stdout for what was asked for, stderr for what happens meanwhile."""

from __future__ import annotations

import json as json_format
import os
import re
import select
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ..safety.terminal_text import plain

if TYPE_CHECKING:
    from markdown_it.token import Token
    from rich.console import RenderableType
    from rich.markdown import Markdown
    from rich.text import Text

__all__ = ["END_OF_INPUT", "Keys", "Screen", "keys_of", "single_keys"]

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
        # The rest of a typed word is dropped too, so that it does not answer the next question.
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


# --- the screen -----------------------------------------------------------------------

_DIFFERENCE_STYLES = {"+": "green", "-": "red", "@": "cyan"}


class Screen:
    """The process's output, and the person before it if there is one.

    Attributes:
        json: Whether stdout carries exactly one JSON document.
        interactive: Whether a person can be asked: stdin and stdout are terminals, and no JSON is wanted.
    """

    def __init__(self, *, json: bool, plain: bool = False) -> None:
        self.json = json
        _open_closed_streams()
        self.interactive = not json and _is_terminal(sys.stdin) and _is_terminal(sys.stdout)
        self._may_draw = not (json or plain) and _is_terminal(sys.stdout) and _is_terminal(sys.stderr)

    @property
    def live(self) -> bool:
        """Whether a run is drawn live; a terminal that cannot draw gets lines."""
        if not self._may_draw:
            return False
        from .live_screen import can_draw

        return can_draw(sys.stderr)

    # --- stdout ------------------------------------------------------------------------------

    def data(self, text: str) -> None:
        """Write a line of what was asked for to stdout."""
        _write(sys.stdout, (plain(text) if _is_terminal(sys.stdout) else text) + "\n")

    def prose(self, text: str) -> None:
        """Write what was asked for in words to stdout; a window's lines end between words."""
        if not _is_terminal(sys.stdout):
            self.data(text)
            return
        width = shutil.get_terminal_size().columns
        self.data("\n".join(_wrapped(line, width) for line in text.split("\n")))

    def markdown(self, text: str) -> None:
        """Write Markdown to stdout; in a window, headings and strong words are bold, all else is as it is."""
        if not _is_terminal(sys.stdout):
            self.data(text)
            return
        shown = _in_bold(plain(text), shutil.get_terminal_size().columns)
        _write(sys.stdout, _rendered(shown, sys.stdout, wrapped=True))

    def document(self, value: Any) -> None:
        """Write a JSON document to stdout."""
        narrow = "utf" not in (sys.stdout.encoding or "").lower()
        _write(sys.stdout, json_format.dumps(value, ensure_ascii=narrow, indent=2, default=str) + "\n")

    def show(self, renderable: RenderableType) -> None:
        """Write something of rich's to stdout."""
        _write(sys.stdout, _rendered(renderable, sys.stdout))

    def question(self, title: str, markdown: str) -> None:
        """Show a person what they are asked, on the terminal."""
        from rich.panel import Panel

        shown = _shown_markdown(plain(markdown))
        self.show(Panel(shown, title=plain(title), title_align="left", border_style="cyan"))

    # --- stderr ------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """Write a line about what happens to stderr."""
        _write(sys.stderr, (plain(text) if _is_terminal(sys.stderr) else text) + "\n")

    def progress(self, mark: str, style: str, text: str) -> None:
        """Write a line of progress to stderr, its mark in colour on a terminal."""
        if not _is_terminal(sys.stderr):
            self.note(f"{mark} {text}")
            return
        from rich.text import Text

        _write(sys.stderr, _rendered(Text.assemble((mark, style), " ", plain(text)), sys.stderr))

    def difference(self, lines: Iterable[str]) -> None:
        """Write a unified difference to stderr, in colour on a terminal."""
        for line in lines:
            if _is_terminal(sys.stderr):
                from rich.text import Text

                style = _DIFFERENCE_STYLES.get(line[:1], "")
                _write(sys.stderr, _rendered(Text(plain(line), style), sys.stderr))
            else:
                self.note(line)

    # --- the person --------------------------------------------------------------------------

    def ask_line(self, prompt: str) -> str | None:
        """Read a line from the person; None at the end of input."""
        _write(sys.stdout, plain(prompt) + " ")
        line = sys.stdin.readline()
        if not line:
            _write(sys.stdout, "\n")
            return None
        return line.strip()

    def choose(self, prompt: str, choices: Mapping[str, str]) -> str | None:
        """Let the person choose a word by its key.

        Args:
            prompt: What to choose.
            choices: Words, each with what it means.

        Returns:
            The word; None at the end of input.
        """
        keys = keys_of(choices)
        menu = "".join(f"  [{key}] {word:<10} {choices[word]}\n" for key, word in keys.items())
        with single_keys(sys.stdin) as person:
            _write(sys.stdout, f"{menu}{prompt} [{'/'.join(keys)}] ")
            while (key := person.read().lower()) != END_OF_INPUT:
                if key in keys:
                    _write(sys.stdout, "" if person.echoed else f"{keys[key]}\n")
                    return keys[key]
                _write(sys.stdout, f"\nPlease press one of: {', '.join(keys)} ")
        _write(sys.stdout, "\n")
        return None


_HANGING = re.compile(r"\s*(?:[-*•>]|\d+[.)])?\s*")
"""What stands before the words of a line: the lines that follow it begin below its first word."""


def _wrapped(line: str, width: int) -> str:
    lead = _HANGING.match(line)
    indent = " " * len(lead[0]) if lead and len(lead[0]) < width // 2 else ""
    # Long words stay whole: paths and commands are copied.
    wrapper = textwrap.TextWrapper(
        width,
        subsequent_indent=indent,
        replace_whitespace=False,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return wrapper.fill(line)


_AS_IT_IS = re.compile(r"((?<!`)`++[^`]++`+)")
_MARK = re.compile(r"(?<!\*)\*\*(?!\*)")
_HEADING = re.compile(r" {0,3}#{1,6} +([^ ].*)")
_CLOSING = re.compile(r"(?<! ) +#+$")
_BEGIN, _END = "\x02", "\x03"
"""Where bold begins and ends, until lines are broken; a harmless text holds no such characters."""


def _in_bold(markdown: str, width: int) -> Text:
    """Break lines, and make headings and strong words bold; code and tables stay as they are."""
    code = {
        at
        for block in _parsed(markdown)
        if block.type in ("fence", "code_block")
        for at in range(*(block.map or ()))
    }
    lines = [
        line if at in code or line.lstrip().startswith("|") else _wrapped(_marked(line), width)
        for at, line in enumerate(markdown.split("\n"))
    ]
    from rich.text import Text

    pieces = re.split(f"[{_BEGIN}{_END}]", "\n".join(lines))
    return Text.assemble(*((piece, "bold" if at % 2 else "") for at, piece in enumerate(pieces)))


def _marked(line: str) -> str:
    pieces = _AS_IT_IS.split(line)
    pieces[::2] = map(_strong, pieces[::2])
    strong = "".join(pieces)
    heading = _HEADING.fullmatch(strong)
    if heading is None:
        return strong
    words = _CLOSING.sub("", heading[1].rstrip(" "))
    return f"{_BEGIN}{words.replace(_BEGIN, '').replace(_END, '')}{_END}"


def _strong(text: str) -> str:
    """Make words between marks bold: a mark that can begin some is paired with the next that can end them."""
    pieces = _MARK.split(text)
    marks = ["", *["**"] * (len(pieces) - 1)]
    begun = 0
    for at in range(1, len(pieces)):
        before, after = pieces[at - 1][-1:], pieces[at][:1]
        if not begun:
            begun = at if after.strip() and not _is_of_word(before) else 0
        elif before.strip() and not _is_of_word(after):
            marks[begun], marks[at], begun = _BEGIN, _END, 0
    return "".join(mark + piece for mark, piece in zip(marks, pieces, strict=True))


def _is_of_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _open_closed_streams() -> None:
    """Make stdin, stdout and stderr usable, also where a parent closed them."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # It takes the closed descriptor, so that no database can get it and be written to as stdout.
            stream = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115 - open until the end
            setattr(sys, name, stream)
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        # Text in any script must not end in a UnicodeError under a narrow locale.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and not stream.closed and stream.isatty()


def _shown_markdown(text: str) -> Markdown:
    """Read Markdown so that nothing of it is left out: a person decides from what they see."""
    from rich.markdown import Markdown

    shown = Markdown(text, hyperlinks=False)
    shown.parsed = _parsed(text)
    return shown


def _parsed(markdown: str) -> list[Token]:
    from markdown_it import MarkdownIt

    # rich 14 drops HTML, comments and link definitions, and shows images by their caption only.
    return MarkdownIt("commonmark", {"html": False}).disable(["reference", "image"]).parse(markdown)


def _rendered(renderable: RenderableType, stream: TextIO, *, wrapped: bool = False) -> str:
    from rich.console import Console

    console = Console(file=stream)
    with console.capture() as captured:
        console.print(renderable, soft_wrap=wrapped or not _is_terminal(stream))
    return captured.get()


def _write(stream: TextIO, text: str) -> None:
    """Write at once, without secrets. A reader who has gone away ends the output, not the run."""
    from ..context import run_redactor

    try:
        stream.write(run_redactor().text(text))
        stream.flush()
    except BrokenPipeError:
        # What is still buffered is flushed at exit: that must find somewhere to go.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
