"""A pseudo-terminal with a program before it, as a person sees and uses it."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time

import pyte

__all__ = ["Terminal"]

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """The program before a pseudo-terminal, as a person would use it."""

    def __init__(self, programs, argv, *, cwd, env, size=None):
        self._master, slave = pty.openpty()
        rows, columns = size or (50, 100)
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        env = dict(env)
        if size:
            # A window has a size of its own, and this is what it is then.
            env.pop("COLUMNS", None)
            self._set_size(rows, columns)
        self.process = programs.open(argv, cwd=cwd, env=env, terminal=os.ttyname(slave))
        os.close(slave)
        self.raw = b""
        self._seen = 0

    def _set_size(self, rows, columns):
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, rows, columns):
        """Give the window another size, as a person does with the mouse."""
        self.screen.resize(rows, columns)
        self._set_size(rows, columns)

    @property
    def lines(self):
        """What the window shows now, as a person sees it."""
        self._read(0)
        return [line.rstrip() for line in self.screen.display]

    @property
    def shown(self):
        """The window's lines that hold something, as one text."""
        return "\n".join(line for line in self.lines if line)

    def expect_shown(self, *texts, timeout=60):
        """Wait until the window shows all of these at once."""
        until = time.monotonic() + timeout
        while not all(text in self.shown for text in texts):
            assert time.monotonic() < until, f"{texts} is not shown in:\n{self.shown}"
            if not self._read(0.1) and self.process.poll() is not None and not self._read(0.1):
                assert all(text in self.shown for text in texts), f"{texts} is not shown in:\n{self.shown}"
        return self.shown

    @property
    def text(self):
        """Everything shown so far, without colours."""
        return ANSI.sub("", self.raw.decode(errors="replace")).replace("\r\n", "\n")

    def expect(self, text, timeout=60):
        """Wait until the program shows a text after what was expected before."""
        until = time.monotonic() + timeout
        while (at := self.text.find(text, self._seen)) < 0:
            assert time.monotonic() < until, f"{text!r} was not shown in:\n{self.text[self._seen :]}"
            if not self._read(0.1) and self.process.poll() is not None and not self._read(0.1):
                assert self.text.find(text, self._seen) >= 0, f"{text!r} was not shown in:\n{self.text}"
        self._seen = at + len(text)

    def _read(self, timeout):
        if not select.select([self._master], [], [], timeout)[0]:
            return False
        try:
            piece = os.read(self._master, 65536)
        except OSError:
            # Linux gives EIO when the other side is closed.
            return False
        self.raw += piece
        self._stream.feed(piece)
        return bool(piece)

    def type(self, text):
        """Type a line."""
        self.press(text + "\n")

    def press(self, keys):
        """Press keys, such as Ctrl-C (\\x03)."""
        os.write(self._master, keys.encode())

    def wait(self, timeout=60):
        """Wait for the end and return the exit code."""
        until = time.monotonic() + timeout
        while self._read(0.05) or self.process.poll() is None:
            assert time.monotonic() < until, f"the program goes on after:\n{self.text}"
        assert "Traceback" not in self.text, self.text
        return self.process.returncode

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        os.close(self._master)
