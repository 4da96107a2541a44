"""A real browser, headless, driven over a pipe with the DevTools protocol; nothing else is needed for it."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

__all__ = ["NAMES", "PROGRAM", "Browser", "NavigatedError"]

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PROGRAM = next((found for name in NAMES if (found := shutil.which(name))), None)
"""The browser; None where the machine has none."""

OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


class NavigatedError(Exception):
    """The page went elsewhere before it answered."""


class Browser:
    """One page of a browser with a fresh profile.

    Attributes:
        requests: The addresses that the page has asked for, the page itself first.
        refused: What the page's own policy has refused to load or to run, as the browser says it.
        dialogs: How often a script has opened a dialog.
    """

    def __init__(self, profile: Path) -> None:
        assert PROGRAM is not None
        reads, self._to = os.pipe()
        self._from, writes = os.pipe()
        # Chromium reads commands from descriptor 3 and answers on 4.
        line = f'exec 3<&{reads} 4>&{writes}; exec "$0" "$@"'
        command = ["bash", "-c", line, PROGRAM, *OPTIONS, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            command, pass_fds=(reads, writes), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(reads)
        os.close(writes)
        self._rest, self._number, self._session = b"", 0, ""
        self._clear()
        targets = self.send("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self.send("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def _clear(self) -> None:
        self.requests: list[str] = []
        self.refused: list[str] = []
        self.dialogs = 0
        self._loaded = False

    # --- the protocol --------------------------------------------------------------------

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its result; what happens meanwhile is noted."""
        self._number += 1
        number = self._number
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            said = self._read()
            if said.get("id") == number:
                if "navigated" in said.get("error", {}).get("message", ""):
                    raise NavigatedError
                assert "error" not in said, said
                return said["result"]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            piece = os.read(self._from, 1 << 20)
            assert piece, "the browser has ended"
            self._rest += piece
        message, _, self._rest = self._rest.partition(b"\0")
        said = json.loads(message)
        self._note(said.get("method"), said.get("params") or {})
        return said

    def _note(self, method: str | None, params: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Log.entryAdded" and params["entry"].get("level") == "error":
            self.refused.append(params["entry"]["text"])
        elif method == "Page.javascriptDialogOpening":
            self.dialogs += 1
        elif method == "Page.loadEventFired":
            self._loaded = True

    # --- the page ------------------------------------------------------------------------

    def open(self, url: str, *, width: int = 1200, height: int = 900, dark: bool = False) -> None:
        """Open a page in a window of a size, in light or dark, and wait until it is loaded."""
        self.resize(width, height)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.send("Page.navigate", url="about:blank")
        self.evaluate("0")
        self._clear()
        self.send("Page.navigate", url=url)
        until = time.monotonic() + 60
        while not self._loaded:
            assert time.monotonic() < until, f"{url} was not loaded"
            self._read()

    def resize(self, width: int, height: int) -> None:
        """Give the window a size."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **size)

    def evaluate(self, expression: str) -> Any:
        """Evaluate JavaScript from outside the page; its own policy does not hold for it."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until something holds in the page once it is loaded whole."""
        until = time.monotonic() + 60
        holds = f"document.readyState === 'complete' && Boolean({expression})"
        while not self._holds(f"(() => {{ try {{ return {holds} }} catch {{ return false }} }})()"):
            assert time.monotonic() < until, expression
            time.sleep(0.05)

    def _holds(self, expression: str) -> bool:
        try:
            return bool(self.evaluate(expression))
        except NavigatedError:
            return False

    def screenshot(self, path: Path) -> None:
        """Save a picture of the whole page."""
        size = self.send("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        taken = self.send("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(taken["data"]))

    def close(self) -> None:
        """End the browser."""
        os.close(self._to)
        os.close(self._from)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
