"""Run the real `plan-execute`, in a folder of its own, with and without a terminal."""

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from terminals import Terminal

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
        env = {**cli.env, **options}
        size = env.pop("size", None)
        opened.append(Terminal(cli.programs, [PROGRAM, *arguments], cwd=cli.folder, env=env, size=size))
        return opened[-1]

    yield open_terminal
    for one in opened:
        one.close()
