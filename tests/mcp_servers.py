"""Real MCP servers for tests: a well-behaved one (FastMCP), and small ones that misbehave in one way each.

Run as a program: ``python mcp_servers.py KIND [LOG]``. Every server appends its process id to LOG.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["HERE", "gone", "http_server", "server_ids", "stdio"]

HERE = Path(__file__)


def stdio(kind: str, log: Path | None = None, **more: Any) -> dict[str, Any]:
    """Write the entry of a server that a test starts as a program."""
    return {"command": sys.executable, "args": [str(HERE), kind, *([str(log)] if log else [])], **more}


def server_ids(log: Path) -> list[int]:
    """The processes that were started so far; at least one was."""
    return [int(line) for line in log.read_text().split()]


def gone(process: int, within_s: float = 10.0) -> bool:
    """Wait for the end of a process."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        if Path(f"/proc/{process}/stat").exists() and ") Z " in Path(f"/proc/{process}/stat").read_text():
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)


@contextmanager
def http_server(log: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Serve the well-behaved server over streamable HTTP on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, str(HERE), "http", str(log), str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/mcp", process
    finally:
        process.kill()
        process.wait()


# --- the well-behaved one ----------------------------------------------------------------


def well_behaved(port: int = 0) -> Any:
    """Make a server with tools of every effect and every kind of result."""
    import asyncio

    from mcp.server.fastmcp import FastMCP, Image
    from mcp.types import ToolAnnotations

    server = FastMCP("shop", port=port, log_level="ERROR")
    stock = {"tea": 3}

    @server.tool(annotations=ToolAnnotations(readOnlyHint=True))
    def count(item: str) -> int:
        """Count an item."""
        return stock.get(item, 0)

    @server.tool(annotations=ToolAnnotations(readOnlyHint=True))
    def all_items(above: int = 0) -> dict[str, int]:
        """List the stock."""
        return {name: number for name, number in stock.items() if number > above}

    @server.tool(annotations=ToolAnnotations(readOnlyHint=True))
    def find(text: str) -> list[str]:
        """Find items."""
        return [name for name in stock if text in name]

    @server.tool(annotations=ToolAnnotations(idempotentHint=True))
    def put(item: str, number: int) -> str:
        """Set the number of an item."""
        stock[item] = number
        return f"{item}: {number}"

    @server.tool()
    def take(item: str, config: str = "") -> str:
        """Take one."""
        if not stock.get(item):
            raise ValueError(f"there is no {item}")
        stock[item] -= 1
        return f"{stock[item]} left{config}"

    @server.tool(annotations=ToolAnnotations(readOnlyHint=True), structured_output=False)
    def picture() -> list[Any]:
        """Show it."""
        return ["a leaf", Image(data=b"\x89PNG", format="png")]

    @server.tool(annotations=ToolAnnotations(readOnlyHint=True))
    def secret_of(name: str) -> str:
        """Tell a variable of the server's environment."""
        return os.environ.get(name, "")

    @server.tool()
    async def wait(seconds: float, mark: str) -> str:
        """Wait, and write a file unless called off."""
        Path(mark).write_text("begun")
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            Path(mark).write_text("called off")
            raise
        Path(mark).write_text("done")
        return "waited"

    return server


# --- those that misbehave ----------------------------------------------------------------

Answer = Callable[[dict[str, Any]], Any]


def _tools(*names: str) -> list[dict[str, Any]]:
    read = {"annotations": {"readOnlyHint": True}}
    return [
        {
            "name": name,
            "description": name,
            "inputSchema": {"type": "object"},
            **(read if "read" in name else {}),
        }
        for name in names
    ]


def _serve(on_call: Answer, *names: str) -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message:
            continue
        if message["method"] == "initialize":
            result: Any = {
                "protocolVersion": message["params"]["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "odd", "version": "1"},
            }
        elif message["method"] == "tools/list":
            result = {"tools": _tools(*names)}
        elif message["method"] == "tools/call":
            result = on_call(message["params"])
        else:
            result = {}
        _write(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}) + "\n")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _said(text: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}]}


def _die(_: Any) -> Any:
    sys.stderr.write("out of memory\n")
    sys.stderr.flush()
    os._exit(3)


def _die_once(params: Any) -> Any:
    mark = Path(params["arguments"]["mark"])
    if mark.exists():
        return _said("alive")
    mark.write_text("")
    return _die(params)


def _hang(params: Any) -> Any:
    if params["name"] == "hang":
        time.sleep(3600)
    return _said("quick")


def _babble(_: Any) -> Any:
    _write("Traceback: this is not JSON\n{]\n")
    sys.stdout.buffer.write(b"\xff\xfe\x00\n")
    sys.stdout.flush()
    return _said("answered all the same")


def main(kind: str, log: str = "", port: str = "0") -> None:
    """Run one kind of server."""
    if log:
        with open(log, "a", encoding="utf-8") as lines:
            lines.write(f"{os.getpid()}\n")
    if kind == "good":
        well_behaved().run("stdio")
    elif kind == "http":
        well_behaved(int(port)).run("streamable-http")
    elif kind == "dies":
        _serve(_die, "read_dies", "dies")
    elif kind == "dies_once":
        _serve(_die_once, "read_once")
    elif kind == "hangs":
        _serve(_hang, "hang", "quick_read")
    elif kind == "babbles":
        _serve(_babble, "talk_read")
    elif kind == "slow":
        time.sleep(0.4)
        _serve(lambda _: _said("late"), "late_read")
    elif kind == "garbage":
        _write("Hello! I am a web server.\n" * 3)
    elif kind == "silent":
        time.sleep(3600)
    elif kind == "ends":
        sys.exit("cannot find the license file")


if __name__ == "__main__":
    main(*sys.argv[1:])
