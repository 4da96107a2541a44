"""`plan-execute serve` in a process of its own, and a browser-like client of it."""

from __future__ import annotations

import html
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
from cli_server import Programs, Started

__all__ = ["HOSTILE", "PLANS", "TOOLS", "ServedPage", "text_of"]

HOSTILE = "<script>document.title='pwned'</script><img src=x onerror=alert(1)>"

TOOLS = f'''
import os, time
from langchain_core.tools import tool

def log(text):
    with open("calls.txt", "a") as file:
        file.write(text + "\\n")

@tool
def look(q: str) -> dict:
    """Look something up."""
    log(f"look {{q}}")
    if q == "bad" and not os.path.exists("mended"):
        raise RuntimeError("no such thing {HOSTILE}")
    return {{"found": q + "{HOSTILE}"}}

@tool
def hold(q: str) -> str:
    """Wait until somebody says go on."""
    log(f"hold {{q}}")
    while not os.path.exists("go"):
        time.sleep(0.02)
    return "held " + q

@tool
def note(text: str) -> str:
    """Write something down."""
    log(f"note {{text}}")
    return "noted"

@tool
def slow_note(text: str) -> str:
    """Write something down, when somebody says go on."""
    log(f"slow_note {{text}}")
    while not os.path.exists("go"):
        time.sleep(0.02)
    return "noted"

@tool
def count(n: int) -> int:
    """Add one."""
    return n + 1

look.metadata = hold.metadata = count.metadata = {{"effect": "read"}}
ALL = [look, hold, note, slow_note, count]

def authenticate(request):
    """Know whoever sends this header."""
    return request.headers.get("x-user") if request.headers.get("x-user") in ("eve", "bob") else None
'''

PLANS = {
    "write": f"""
goal: "write a thing down {HOSTILE}"
steps:
  - id: a
    task: "look it up {HOSTILE}"
    call: {{tool: look, args: {{q: tea}}}}
  - id: w
    task: write it down
    depends_on: [a]
    call: {{tool: note, args: {{text: "some tea"}}}}
""",
    "hold": """
goal: wait for a word
steps:
  - id: a
    call: {tool: look, args: {q: tea}}
  - id: h
    depends_on: [a]
    call: {tool: hold, args: {q: milk}}
  - id: b
    depends_on: [h]
    call: {tool: look, args: {q: milk}}
""",
    "fails": """
goal: look for what is not there
steps:
  - id: a
    on_failure: ask
    max_attempts: 1
    call: {tool: look, args: {q: bad}}
  - id: b
    depends_on: [a]
    call: {tool: look, args: {q: b}}
""",
    "inputs": """
goal: look up what you like
inputs:
  what: {type: string}
  times: {type: integer, default: 2}
steps:
  - id: a
    call: {tool: look, args: {q: "${inputs.what} ${inputs.times}"}}
""",
    "slow write": """
goal: write slowly
steps:
  - id: w
    call: {tool: slow_note, args: {text: tea}}
""",
    "two": """
goal: look up tea and milk
steps:
  - id: a
    call: {tool: look, args: {q: tea}}
  - id: b
    call: {tool: look, args: {q: milk}}
""",
    "meanwhile": """
goal: ask while something runs
steps:
  - id: h
    call: {tool: hold, args: {q: milk}}
  - id: what
    ask: {question: "What shall be looked up?", choices: [tea, milk]}
  - id: who
    ask: {question: "For whom?"}
  - id: a
    call: {tool: look, args: {q: "${what} for ${who}"}}
""",
    "ask": """
goal: ask what to look up
steps:
  - id: what
    ask: {question: "What shall be looked up?", choices: [tea, milk]}
  - id: a
    call: {tool: look, args: {q: "${what}"}}
""",
}


def text_of(page: str) -> str:
    """Read what a page says."""
    return html.unescape(re.sub(r"<[^>]+>", " ", page))


class ServedPage:
    """The page of a folder's database, in processes that are forked by ``programs``.

    Without them the real program is started.
    """

    def __init__(self, folder: Path, programs: Programs | None = None) -> None:
        self.folder, self.programs = folder, programs
        (folder / "mytools.py").write_text(TOOLS, encoding="utf-8")
        self.process: subprocess.Popen[bytes] | Started | None = None
        self.address, self.client = "", httpx.Client()
        self.variables: dict[str, str] = {}
        self.database = "t.db"

    def command(self, *options: str) -> list[str]:
        program = shutil.which("plan-execute", path=str(Path(sys.executable).parent))
        assert program is not None
        return [program, "serve", "--db", self.database, "--tools", "mytools:ALL", "--port", "0", *options]

    def start(self, *options: str, **client: Any) -> ServedPage:
        """Start it, and sign in with the address that it prints."""
        env = {key: value for key, value in os.environ.items() if not key.startswith("PLAN_EXECUTE_")}
        env |= self.variables
        out, command = self.folder / "out", self.command(*options)
        out.write_bytes(b"")
        if self.programs is None:
            with out.open("ab") as file:
                self.process = subprocess.Popen(command, cwd=self.folder, env=env, stdout=file, stderr=file)
        else:
            self.process = self.programs.start(command, cwd=self.folder, env=env, out=out)
        self.printed = self._printed(self.process, out)
        self.address = self.printed.partition("?")[0].rstrip("/")
        self.client.close()
        self.client = httpx.Client(
            base_url=self.address, headers={"Origin": self.address}, timeout=60, **client
        )
        return self

    def _printed(self, process: subprocess.Popen[bytes] | Started, out: Path) -> str:
        """Wait for the address."""
        until = time.monotonic() + 60
        while (found := re.search(r"^(http\S+)\n", said := out.read_text(), re.MULTILINE)) is None:
            assert process.poll() is None, said
            assert time.monotonic() < until, said
            time.sleep(0.02)
        return found[1]

    def signed_in(self) -> ServedPage:
        """Open the printed address."""
        assert self.client.get(self.printed, follow_redirects=True).status_code == 200
        return self

    def get(self, path: str) -> str:
        """Load a page."""
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.text

    def post(self, path: str, fields: Mapping[str, str], **more: Any) -> httpx.Response:
        """Send a form with the token of the page's own forms."""
        token = re.search(r'name="form_token" value="(\w+)"', self.get("/new"))
        assert token is not None
        return self.client.post(path, data={"form_token": token[1], **fields}, **more)

    def begin(self, plan: str, **fields: str) -> str:
        """Start a run of a plan, and return its path."""
        answer = self.post("/new", {"plan": PLANS[plan], **fields})
        assert answer.status_code == 303, text_of(answer.text)
        return answer.headers["location"]

    def wait(self, path: str, is_so: Callable[[str], object]) -> str:
        """Load a page until it is as it should be."""
        until = time.monotonic() + 60
        while not is_so(page := self.get(path)):
            assert time.monotonic() < until, text_of(page)
            time.sleep(0.05)
        return page

    def wait_for_status(self, path: str, status: str) -> str:
        """Wait until a run stands like this."""
        return self.wait(path, lambda page: f'<p class="status"><span class="badge {status}">' in page)

    def wait_for_call(self, text: str) -> None:
        """Wait until a tool was called."""
        until = time.monotonic() + 60
        while text not in self.calls:
            assert time.monotonic() < until, self.calls
            time.sleep(0.02)

    @property
    def calls(self) -> list[str]:
        """What the tools were called with, in order."""
        log = self.folder / "calls.txt"
        return log.read_text().splitlines() if log.exists() else []

    def question(self, page: str) -> str:
        """Find where the answer to a page's only question goes."""
        (found,) = set(re.findall(r'action="([^"]+/answers/[^"]+)"', page))
        return found

    def kill(self) -> None:
        """End it at once, as a crash does."""
        self.stop(signal.SIGKILL)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it, if it runs."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(timeout=60)
            self.process = None
        self.client.close()
