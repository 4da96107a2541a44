"""Chat front ends of others, built from their sources and driven in a browser as a person does.

Nothing of theirs stands in this tree: they are copied to a cache folder and built there, once per state of
their sources.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlencode

import httpx
from browser import Browser
from dev_server import Server
from platformdirs import user_cache_path

__all__ = ["CLIENTS", "PICTURES", "SOURCES", "AgentChatUI", "AgentInbox", "Client", "DeepAgentsUI", "start"]

SOURCES = Path(
    os.environ.get("PLAN_EXECUTE_CLIENTS") or Path(__file__).resolve().parents[2] / "shared" / "clients"
)
"""Where the clients' sources are."""

PICTURES = Path(folder) if (folder := os.environ.get("PLAN_EXECUTE_PICTURES")) else None
"""Where pictures are kept; None: nowhere for long."""

BUILDS = user_cache_path("plan-execute") / "clients"
TOOLS = BUILDS / "tools"
PACKAGE_TOOLS = ("pnpm@10.5.1", "yarn@1.22.22")

_LOCKED = r'^"?(?P<name>@?[^@\s"]+)@[^\n]*:\n  version "(?P<version>[^"]+)"\n(?!  resolved)'

WAIT_S = 60
BUILD_S = 1800

_HELPERS = """
window.drive = {
  visible: (node) => node.getClientRects().length > 0,
  all(selector) { return [...document.querySelectorAll(selector)].filter(this.visible) },
  named(selector, name, last) {
    const said = (node) => [node.innerText, node.getAttribute('aria-label'), node.textContent]
      .map((text) => (text || '').trim())
    const found = this.all(selector).filter((node) => said(node).includes(name) && !node.disabled)
    return last ? found[found.length - 1] : found[0]
  },
}
"""


# --- building ----------------------------------------------------------------------------


def build(folder: str, *commands: str) -> Path:
    """Copy a client's sources to the cache and build them, unless this has been done; return the folder."""
    source, built = SOURCES / folder, BUILDS / folder
    stamp, wanted = built / ".built", _fingerprint(source)
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return built
    _run(["cp", "-rT", "--no-preserve=mode", str(source), str(built)], BUILDS)
    _run(["npm", "install", "--no-audit", "--no-fund", "--prefix", str(TOOLS), *PACKAGE_TOOLS], BUILDS)
    if (built / "yarn.lock").exists():
        _write_addresses(built / "yarn.lock")
    for command in commands:
        _run(command.split(), built)
    stamp.write_text(wanted, encoding="utf-8")
    return built


def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _write_addresses(lock: Path) -> None:
    """Say where each locked package is; yarn ignores the lines of those of which a lock file does not."""
    registry = _run(["npm", "config", "get", "registry"], lock.parent).strip().rstrip("/")

    def with_address(entry: re.Match[str]) -> str:
        name, version = entry["name"], entry["version"]
        address = f"{registry}/{name}/-/{name.rpartition('/')[2]}-{version}.tgz"
        return f'{entry[0]}  resolved "{address}"\n'

    text = lock.read_text(encoding="utf-8")
    lock.write_text(re.sub(_LOCKED, with_address, text, flags=re.MULTILINE), encoding="utf-8")


def _run(command: list[str], folder: Path) -> str:
    path = os.pathsep.join([str(TOOLS / "node_modules" / ".bin"), os.environ["PATH"]])
    variables = {**os.environ, "PATH": path, "NEXT_TELEMETRY_DISABLED": "1", "CI": "1"}
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["nice", *command], cwd=folder, env=variables, timeout=BUILD_S, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{' '.join(command)} in {folder} failed:\n{done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def _serving(folder: Path) -> Iterator[str]:
    """Serve a built client and yield its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["node", "node_modules/next/dist/bin/next", "start", "-p", str(port), "-H", "127.0.0.1"]
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + WAIT_S
        while True:
            assert process.poll() is None, (folder / "serve.log").read_text(encoding="utf-8")
            assert time.monotonic() < deadline, f"{folder.name} did not start within {WAIT_S} s"
            try:
                httpx.get(url, timeout=20)
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield url
    finally:
        process.kill()
        process.wait()


@contextmanager
def start(kind: type[Client], server: Server, pictures: Path, profile: Path) -> Iterator[Client]:
    """Build a client where needed, serve it, and open a browser for it."""
    with _serving(build(kind.folder, *kind.commands)) as url:
        browser = Browser(profile)
        try:
            yield kind(browser, url, server, pictures)
        finally:
            browser.close()


# --- driving -----------------------------------------------------------------------------


class Client:
    """A client in a browser: what a person sees of it and can do in it."""

    folder: ClassVar[str]
    commands: ClassVar[tuple[str, ...]]
    submit: ClassVar[str] = "Submit"
    """The button that sends an edit."""
    stops: ClassVar[bool] = True
    """Whether its button to stop ends the run; else it only closes the stream."""

    def __init__(self, browser: Browser, url: str, server: Server, pictures: Path) -> None:
        self.browser, self.url, self.server = browser, url, server
        self._pictures, self._number, self._test = pictures, 0, ""
        self._assistant, self._thread = "plan_execute", ""

    # --- what stands there ---------------------------------------------------------------

    def text(self) -> str:
        """What a person can read on the page now, what stands in text fields included."""
        said: str = self.evaluate(
            "document.body.innerText + drive.all('textarea').map((one) => '\\n' + one.value).join('')"
        )
        return said

    def read(self) -> str:
        """What a person can read outside of text fields."""
        return str(self.evaluate("document.body.innerText"))

    def drawn(self) -> str:
        """What components of the server have drawn."""
        roots = "document.querySelectorAll('[id^=child-shadow]')"
        items = f"[...{roots}].flatMap((one) => [...(one.shadowRoot || one).querySelectorAll('li')])"
        return str(self.evaluate(f"{items}.map((item) => item.innerText).join('\\n')"))

    def shows(self, *words: str) -> str:
        """Wait until all of these can be read, and return the text of the page."""
        self.until(lambda: all(word in self.text() for word in words), f"the page does not show {words}")
        return self.text()

    def evaluate(self, expression: str) -> Any:
        """Evaluate JavaScript in the page."""
        return self.browser.evaluate(
            f"(() => {{ if (!window.drive) {{ {_HELPERS} }} return {expression} }})()"
        )

    def until(self, true: Any, complaint: str) -> None:
        """Wait until the condition holds; a text is JavaScript."""
        deadline = time.monotonic() + WAIT_S
        while not (self.evaluate(true) if isinstance(true, str) else true()):
            if time.monotonic() > deadline:
                raise AssertionError(f"{complaint}; it shows:\n{self.text()}")
            time.sleep(0.1)

    def begin(self, test: str) -> None:
        """Name what the pictures of now on belong to."""
        self._test, self._number = test, 0

    def picture(self, name: str) -> None:
        """Keep a picture of the page."""
        self._number += 1
        self._pictures.mkdir(parents=True, exist_ok=True)
        self.browser.screenshot(self._pictures / f"{self.folder}-{self._test}-{self._number}-{name}.png")

    # --- what a person does --------------------------------------------------------------

    def click(self, name: str, selector: str = "button", *, last: bool = False) -> None:
        """Click what bears this name, once it is there and enabled."""
        found = f"drive.named({json.dumps(selector)}, {json.dumps(name)}, {json.dumps(last)})"
        self.until(f"!!{found}", f"there is no {selector} {name!r} to click")
        self.evaluate(f"{found}.click()")

    def offers(self, name: str) -> bool:
        """Tell whether a button of this name can be clicked."""
        return bool(self.evaluate(f"!!drive.named('button', {json.dumps(name)})"))

    def fill(self, field: str, text: str, button: str) -> None:
        """Write into a field, given as JavaScript, in place of what stands there, and click the button.

        A client that draws its form anew forgets what was written, and a person writes it again.
        """

        def written() -> bool:
            if not self.evaluate(f"!!{field}"):
                return False
            if self.evaluate(f"({field}).value === {json.dumps(text)}"):
                return self.offers(button)
            self.evaluate(f"({field}).focus() || ({field}).select()")
            self.browser.send("Input.insertText", text=text)
            return False

        self.until(written, f"{field} does not take {text}")
        self.click(button)

    def open(self, thread: str = "", assistant: str = "") -> None:
        """Open the page on a thread, or on none yet."""
        self._assistant, self._thread = assistant or "plan_execute", thread
        self.browser.open(self.address(), width=1200, height=1100)

    def look(self, width: int, is_dark: bool) -> None:
        """Change the window's width, and between light and dark as the client's own styles have it."""
        self.browser.resize(width, 1100)
        self.evaluate(f"document.documentElement.classList.toggle('dark', {json.dumps(is_dark)})")
        fading = "document.getAnimations().filter((one) => one instanceof CSSTransition)"
        self.evaluate(f"Promise.allSettled({fading}.map((one) => one.finished))")

    def address(self) -> str:
        """The page's address for the thread."""
        raise NotImplementedError

    def say(self, text: str) -> None:
        """Send a message."""
        self.fill("drive.all('textarea').pop()", text, "Send")

    def begin_run(self, text: str) -> None:
        """Send a message; a client that cannot has another program start the run."""
        self.say(text)

    def approve(self) -> None:
        """Say yes to the question that is open."""
        raise NotImplementedError

    def edit(self, before: str, after: str) -> None:
        """Answer the open question with changed arguments."""
        self._edit(f"one.value.includes({json.dumps(before)})", before, after)

    def decide(self, before: str, after: str) -> None:
        """Answer the open question with another decision than the one it proposes."""
        self._edit(f"one.value === {json.dumps(before)}", before, after)

    def _edit(self, wanted: str, before: str, after: str) -> None:
        """Change a part of what stands in a field, and send the form."""
        find = f"drive.all('textarea').find((one) => {wanted})"
        self.until(f"!!(drive.old = {find}?.value)", f"no field holds {before}")
        whole = self.evaluate("drive.old").replace(before, after)
        same = f"drive.all('textarea').find((one) => [drive.old, {json.dumps(whole)}].includes(one.value))"
        self.fill(same, whole, self.submit)

    def reject(self, words: str) -> None:
        """Say no to the question that is open, and why."""
        raise NotImplementedError

    def respond(self, words: str) -> None:
        """Answer the question that is open in words."""
        self.say(words)

    def resolve(self) -> None:
        """Put the open question away unanswered."""
        self.click("Mark as Resolved")

    def asks(self, name: str) -> str:
        """Wait until a question of this name can be answered here, and return the text of the page."""
        raise NotImplementedError

    @property
    def thread(self) -> str:
        """The id of the thread that the page is on."""
        found = httpx.URL(self.evaluate("location.href")).params.get("threadId", "")
        return found or self._thread


class AgentChatUI(Client):
    """LangChain's Agent Chat UI."""

    folder = "agent-chat-ui"
    commands = ("pnpm install --frozen-lockfile", "pnpm build")
    stops = False

    def address(self) -> str:
        parts = {"apiUrl": self.server.url, "assistantId": self._assistant, "threadId": self._thread}
        return f"{self.url}/?{urlencode({name: value for name, value in parts.items() if value})}"

    def asks(self, name: str) -> str:
        self.until(
            f"!!drive.all('p').find((one) => one.innerText.split(' (')[0] === {json.dumps(name)})",
            f"the page does not ask {name}",
        )
        self.until("!!drive.named('button', 'Submit rejection')", f"{name} cannot be answered")
        return self.text()

    def approve(self) -> None:
        self.click("Approve")

    def reject(self, words: str) -> None:
        self.fill("drive.all('textarea[placeholder^=Share]')[0]", words, "Submit rejection")

    def stop(self) -> None:
        """Stop what runs."""
        self.click("Cancel")

    def edit_message(self, before: str, after: str) -> None:
        """Change a message that was sent, and send it again."""
        self.click("Edit", last=True)
        self._edit(f"one.value === {json.dumps(before)}", before, after)

    def regenerate(self) -> None:
        """Ask for the last message of the agent once more."""
        self.click("Refresh", last=True)

    def upload(self, path: Path) -> None:
        """Attach a file to the message that is written."""
        self.until("!!document.querySelector('#file-input')", "files cannot be attached")
        answer = self.browser.send("Runtime.evaluate", expression="document.querySelector('#file-input')")
        self.browser.send("DOM.setFileInputFiles", files=[str(path)], objectId=answer["result"]["objectId"])


class DeepAgentsUI(Client):
    """LangChain's deep-agents-ui."""

    folder = "deep-agents-ui"
    commands = ("yarn install --frozen-lockfile --ignore-engines", "yarn build")
    submit = "Save & Approve"

    def open(self, thread: str = "", assistant: str = "") -> None:
        kept = {"deploymentUrl": self.server.url, "assistantId": assistant or "plan_execute"}
        self.browser.open(f"{self.url}/favicon.ico")
        self.browser.evaluate(
            f"localStorage.setItem('deep-agent-config', {json.dumps(json.dumps(kept))}) || true"
        )
        super().open(thread, assistant)

    def address(self) -> str:
        parts = {"assistantId": self._assistant, "threadId": self._thread}
        return f"{self.url}/?{urlencode({name: value for name, value in parts.items() if value})}"

    def asks(self, name: str) -> str:
        self.until(
            f"!!drive.all('p.font-mono').find((one) => one.innerText === {json.dumps(name)})",
            f"the page does not ask {name}",
        )
        self.until("!!drive.named('button', 'Approve')", f"{name} cannot be answered")
        return self.text()

    def approve(self) -> None:
        self.click("Approve")

    def _edit(self, wanted: str, before: str, after: str) -> None:
        self.click("Edit")
        super()._edit(wanted, before, after)

    def reject(self, words: str) -> None:
        self.click("Reject")
        self.fill("drive.all('textarea[placeholder^=Explain]')[0]", words, "Confirm Reject")

    def stop(self) -> None:
        """Stop what runs."""
        self.click("Stop")


class AgentInbox(Client):
    """LangChain's Agent Inbox, which answers threads that others have started."""

    folder = "agent-inbox"
    commands = ("yarn install --frozen-lockfile --ignore-engines", "yarn build")

    def open(self, thread: str = "", assistant: str = "") -> None:
        inbox = {
            "id": "1", "graphId": "plan_execute", "deploymentUrl": self.server.url, "name": "plan_execute",
            "selected": True, "createdAt": "2026-01-01T00:00:00Z",
        }  # fmt: skip
        self.browser.open(f"{self.url}/favicon.ico")
        kept = json.dumps(json.dumps([inbox]))
        self.browser.evaluate(f"localStorage.setItem('inbox:agent_inboxes', {kept}) || true")
        super().open(thread, assistant)

    def address(self) -> str:
        parts = {"agent_inbox": "1", "offset": "0", "limit": "10", "inbox": "interrupted"}
        if self._thread:
            parts["view_state_thread_id"] = self._thread
        return f"{self.url}/?{urlencode(parts)}"

    def say(self, text: str) -> None:
        """Have another program start a run, and look at its thread when the run has ended."""
        self.begin_run(text)
        self.server.client.runs.join(self._thread, self._run)
        self.open(self._thread, self._assistant)

    def begin_run(self, text: str) -> None:
        self._thread = self._thread or self.server.new_thread()
        given = {"messages": [{"type": "human", "content": text}]}
        self._run = self.server.client.runs.create(self._thread, self._assistant, input=given)["run_id"]

    def asks(self, name: str) -> str:
        self.until(
            f"!!drive.all('p.text-2xl').find((one) => one.innerText === {json.dumps(name)})",
            f"the page does not ask {name}",
        )
        self.until("!!drive.named('button', 'Send Response')", f"{name} cannot be answered")
        return self.text()

    def approve(self) -> None:
        self.click("Accept")

    def reject(self, words: str) -> None:
        self.fill("drive.all('textarea[placeholder^=Your]')[0]", words, "Send Response")

    def respond(self, words: str) -> None:
        self.reject(words)


CLIENTS = (AgentChatUI, AgentInbox, DeepAgentsUI)
