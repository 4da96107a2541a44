"""Run the real `plan-execute`, in a folder of its own, with and without a terminal."""

import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import stat
import struct
import subprocess
import sys
import termios
import time
from dataclasses import dataclass
from pathlib import Path

import pyte
import pytest

PROGRAM = shutil.which("plan-execute", path=str(Path(sys.executable).parent))

TOOLS = '''
import os, time
from langchain_core.tools import tool

def log(text):
    with open("calls.txt", "a") as file:
        file.write(text + "\\n")

@tool
def look(q: str) -> dict:
    """Look something up."""
    log(f"look {q}")
    if q == "bad" and not os.path.exists("mended"):
        raise RuntimeError("no such thing")
    return {"found": q}

@tool
def slow(seconds: float) -> str:
    """Wait."""
    log("slow")
    time.sleep(seconds)
    return "waited"

@tool
def note(text: str) -> str:
    """Write something down."""
    log(f"note {text}")
    return "noted " + text

@tool
def send(text: str) -> str:
    """Send something, once."""
    log(f"send {text}")
    if text.startswith("bad"):
        raise RuntimeError("returned to sender")
    return "sent " + text

@tool
def stall(seconds: float) -> str:
    """Change something, slowly."""
    log("stall")
    time.sleep(seconds)
    return "changed"

@tool
def shout(text: str) -> str:
    """Say something that a terminal should not obey."""
    return "\\x1b[2J\\x1b]0;owned\\x07\\u202etxt\\u2066" + text

look.metadata = slow.metadata = shout.metadata = {"effect": "read"}
ALL = [look, slow, note, send, stall, shout]

def make_all():
    return ALL

def now() -> list[str]:
    """Tell the time, without parameters: a tool, though it returns a list."""
    log("now")
    return ["noon"]
'''

PLANS = {
    "read.yaml": """
goal: look at two things
inputs:
  what: {type: string, default: tea}
steps:
  - id: a
    task: look at it
    call: {tool: look, args: {q: "${inputs.what}"}}
  - id: b
    task: look at another
    depends_on: [a]
    call: {tool: look, args: {q: "x"}}
""",
    "write.yaml": """
goal: write a thing down
steps:
  - id: a
    call: {tool: look, args: {q: tea}}
  - id: w
    task: write it down
    call: {tool: note, args: {text: "${a.found}"}}
""",
    "ask.yaml": """
goal: look something up
steps:
  - id: what
    ask: {question: "What shall be looked up?", choices: [tea, milk]}
  - id: a
    call: {tool: look, args: {q: "${what}"}}
    confirm: true
""",
    "fail.yaml": """
goal: fail
steps:
  - id: a
    call: {tool: look, args: {q: tea}}
  - id: f
    task: this fails
    max_attempts: 1
    call: {tool: look, args: {q: bad}}
  - id: after
    call: {tool: look, args: {q: "${f.found}"}}
""",
    "fail_twice.yaml": """
goal: fail twice
steps:
  - {id: f, max_attempts: 1, on_failure: ask, call: {tool: look, args: {q: bad}}}
  - {id: g, max_attempts: 1, on_failure: ask, call: {tool: look, args: {q: bad}}}
""",
    "fail_all.yaml": """
goal: fail
steps:
  - {id: f, max_attempts: 1, call: {tool: look, args: {q: bad}}}
""",
    "ask_late.yaml": """
goal: ask after a while
steps:
  - {id: s, call: {tool: slow, args: {seconds: 1}}}
  - {id: f, depends_on: [s], max_attempts: 1, on_failure: ask, call: {tool: look, args: {q: bad}}}
""",
    "wide.yaml": """
goal: 大きな計画 🚀 wait for two things at once
steps:
  - {id: a, call: {tool: look, args: {q: tea}}}
  - {id: left, depends_on: [a], call: {tool: slow, args: {seconds: 30}}}
  - {id: right, depends_on: [a], task: 待つ 👩‍👩‍👧 ❤️, call: {tool: slow, args: {seconds: 30.5}}}
  - {id: after, depends_on: [left, right], call: {tool: look, args: {q: x}}}
""",
    "long.yaml": """
goal: wait long
steps:
  - id: a
    call: {tool: look, args: {q: tea}}
  - id: s
    depends_on: [a]
    call: {tool: slow, args: {seconds: 30}}
""",
    "stall.yaml": """
goal: change something slowly
steps:
  - {id: s, call: {tool: stall, args: {seconds: "${inputs.seconds}"}}}
inputs:
  seconds: {type: number, default: 30}
""",
    "bad.yaml": """goal: bad
steps:
  - id: a
    call: {tool: lok, args: {q: tea}}
  - id: w
    depends_on: [z]
    call: {tool: note, args: {txt: hello}}
""",
}

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class Done:
    """How one run of the program ended."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


class Cli:
    """The program in a folder with a module of tools, some plans, and a database."""

    program = PROGRAM

    def __init__(self, folder, programs):
        self.folder = folder
        self.programs = programs
        home = str(folder / "home")
        # pytest-xdist tells its workers a window's LINES, which would count for more than the window.
        ours = ("PLAN_EXECUTE_", "OPENAI_", "ANTHROPIC_", "LANG", "LC_", "XDG_", "EDITOR", "VISUAL", "LINES")
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        self.env |= {"PLAN_EXECUTE_DB": str(folder / "threads.db"), "HOME": home, "COLUMNS": "100"}
        self.env |= {"LANG": "C.UTF-8", "TERM": "xterm"}

    def __call__(self, *arguments, stdin=None, timeout=60, **env):
        command, options = [PROGRAM, *arguments], {"cwd": self.folder, "env": {**self.env, **env}}
        if stdin is None:
            done = self.programs.run(command, timeout=timeout, **options)
        else:
            pipes = {"stdin": stdin, "capture_output": True, "text": True}
            done = subprocess.run(command, timeout=timeout, **pipes, **options)
        assert "Traceback" not in done.stderr or "--debug" in arguments, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    def run_plan(self, plan, *arguments, **options):
        """Run a plan file with all tools on the thread `t`."""
        return self("run", "--plan", plan, "--tools", "mytools:ALL", "--thread", "t", *arguments, **options)

    def editor(self, script):
        """Write an editor: a shell script that gets the file as $1."""
        path = self.folder / "editor.sh"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)

    def start(self, *arguments, **options):
        """Start the program and leave it running."""
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        pipes |= {"text": True, "cwd": self.folder, "env": self.env} | options
        return subprocess.Popen([PROGRAM, *arguments], **pipes)

    def wait_for_call(self, text, timeout=60):
        """Wait until a tool was called."""
        until = time.monotonic() + timeout
        while text not in self.calls:
            assert time.monotonic() < until, f"{text!r} was not called; calls: {self.calls}"
            time.sleep(0.02)

    @property
    def calls(self):
        """What the tools were called with, in order."""
        log = self.folder / "calls.txt"
        return log.read_text().splitlines() if log.exists() else []


class Terminal:
    """The program before a pseudo-terminal, as a person would use it."""

    def __init__(self, cli, *arguments, size=None, **env):
        self._master, slave = pty.openpty()
        rows, columns = size or (50, 100)
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        env = {**cli.env, **env}
        if size:
            # A window has a size of its own, and this is what it is then.
            env.pop("COLUMNS", None)
            self._set_size(rows, columns)
        self.process = cli.programs.open(
            [PROGRAM, *arguments], cwd=cli.folder, env=env, terminal=os.ttyname(slave)
        )
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


@pytest.fixture(scope="session")
def cli_in(forked):
    """Prepare the program in a folder."""

    def prepare(folder):
        (folder / "mytools.py").write_text(TOOLS)
        for name, text in PLANS.items():
            (folder / name).write_text(text)
        return Cli(folder, forked)

    return prepare


@pytest.fixture
def cli(tmp_path, cli_in):
    return cli_in(tmp_path)


@pytest.fixture
def terminal(cli):
    """Open terminals that are closed at the end of the test."""
    opened = []

    def open_terminal(*arguments, **options):
        opened.append(Terminal(cli, *arguments, **options))
        return opened[-1]

    yield open_terminal
    for one in opened:
        one.close()
