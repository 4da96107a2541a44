"""Real MCP servers for tests: made with the SDK, made with FastMCP, and some that misbehave in one way each.

Run as a program: ``python mcp_servers.py KIND [LOG]``. Every server appends its process id to LOG.
"""

from __future__ import annotations

import functools
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
def http_server(
    log: Path, kind: str = "http", port: int = 0
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Serve a server that behaves over streamable HTTP on loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, str(HERE), kind, str(log), str(port)],
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


# --- those that behave -------------------------------------------------------------------


def with_the_sdk(**settings: Any) -> Any:
    """Make a server with the MCP SDK."""
    from mcp.server.mcpserver import Context, Image, MCPServer
    from mcp.server.mcpserver.exceptions import ToolError

    server = MCPServer("shop", log_level="ERROR", **settings)
    _add_plain_tools(server, Image, ToolError)
    _add_asking_tools(server, Context)
    return server


def with_fastmcp(**settings: Any) -> Any:
    """Make the same server with FastMCP."""
    from fastmcp import Context, FastMCP
    from fastmcp.exceptions import ToolError
    from fastmcp.utilities.types import Image

    server = FastMCP("shop", **settings)
    _add_plain_tools(server, Image, ToolError)
    _add_asking_tools(server, Context)
    return server


def guarded_with_the_sdk(url: str) -> Any:
    """Make the server of the SDK ask for a token that some other program gives out."""
    from mcp.server.auth.provider import AccessToken
    from mcp.server.auth.settings import AuthSettings

    class Verifier:
        async def verify_token(self, token: str) -> AccessToken | None:
            known = token == "the-right-one"
            return AccessToken(token=token, client_id="c", scopes=[]) if known else None

    auth = AuthSettings(issuer_url="https://login.example", resource_server_url=url)
    return with_the_sdk(token_verifier=Verifier(), auth=auth)


def guarded_with_fastmcp(url: str) -> Any:
    """Make the server of FastMCP ask for such a token."""
    from fastmcp.server.auth import RemoteAuthProvider
    from fastmcp.server.auth.providers.jwt import StaticTokenVerifier

    verifier = StaticTokenVerifier({"the-right-one": {"client_id": "c", "scopes": []}})
    base = url.removesuffix("/mcp")
    return with_fastmcp(auth=RemoteAuthProvider(verifier, ["https://login.example"], base_url=base))


def _add_plain_tools(server: Any, image: Any, error: Any) -> None:
    """Add tools of every effect and every kind of result."""
    import asyncio

    from mcp.types import ResourceLink, ToolAnnotations

    stock = {"tea": 3}
    read = ToolAnnotations(read_only_hint=True)

    @server.tool(annotations=read)
    def count(item: str) -> int:
        """Count an item."""
        return stock.get(item, 0)

    @server.tool(annotations=read)
    def all_items(above: int = 0) -> dict[str, int]:
        """List the stock."""
        return {name: number for name, number in stock.items() if number > above}

    @server.tool(annotations=read)
    def find(text: str) -> list[str]:
        """Find items."""
        return [name for name in stock if text in name]

    @server.tool(annotations=ToolAnnotations(idempotent_hint=True))
    def put(item: str, number: int) -> str:
        """Set the number of an item."""
        stock[item] = number
        return f"{item}: {number}"

    @server.tool()
    def take(item: str, config: str = "") -> str:
        """Take one."""
        if not stock.get(item):
            raise error(f"there is no {item}")
        stock[item] -= 1
        return f"{stock[item]} left{config}"

    @server.tool(annotations=read)
    def picture():
        """Show it."""
        return ["a leaf", image(data=b"\x89PNG", format="png")]

    @server.tool(annotations=read)
    def leaflet():
        """Name a file and a picture that are elsewhere."""
        return [
            ResourceLink(name="leaflet", uri="https://shop.example/leaflet.pdf", mime_type="application/pdf"),
            ResourceLink(name="leaf", uri="https://shop.example/leaf.png", mime_type="image/png"),
        ]

    @server.tool(annotations=read)
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


def _add_asking_tools(server: Any, context: Any) -> None:
    """Add tools that ask a person, in the way of the older protocol or of the newer one."""
    import asyncio

    from mcp.types import (
        ElicitRequest,
        ElicitRequestFormParams,
        ElicitRequestURLParams,
        InputRequiredResult,
        ToolAnnotations,
    )
    from pydantic import BaseModel, Field

    class Order(BaseModel):
        """What the person fills in."""

        number: int = Field(description="how many", ge=1)
        gift: bool = False

    async def order(item: str, log: str, ctx):
        """Order an item, once the person has said how many."""
        _note(log, f"called {item}")
        said = await ctx.elicit(f"How many of {item}?", Order)
        if said.action != "accept":
            return f"not ordered: {said.action}"
        _note(log, f"ordered {said.data.number} {item}")
        return f"{said.data.number} {item}{' as a gift' if said.data.gift else ''}"

    async def order_both(first: str, second: str, log: str, ctx):
        """Order two items, with both questions at once."""
        said = await asyncio.gather(*(ctx.elicit(f"How many of {item}?", Order) for item in (first, second)))
        return " ".join(one.action for one in said)

    async def note_slowly(log: str, ctx):
        """Write a line, and take a while for the rest."""
        _note(log, "noted")
        await asyncio.sleep(0.5)
        return "noted"

    async def pay(log: str, ctx):
        """Pay, once the person has said yes; the work before the question is done once."""
        if ctx.input_responses is None:
            _note(log, "reserved")
            sure = ElicitRequestFormParams(
                message="Really pay?",
                requested_schema={
                    "type": "object",
                    "properties": {"sure": {"type": "boolean"}},
                    "required": ["sure"],
                },
            )
            signed = ElicitRequestURLParams(
                message="Sign it", url="https://shop.example/sign?at=1", elicitation_id="e1"
            )
            asked = {"sure": ElicitRequest(params=sure), "signed": ElicitRequest(params=signed)}
            return InputRequiredResult(input_requests=asked, request_state="reservation 7")
        said = ctx.input_responses["sure"]
        if said.action != "accept" or not said.content["sure"]:
            return f"not paid: {said.action}"
        _note(log, f"paid {ctx.request_state}")
        return f"paid {ctx.request_state}"

    async def count_slowly(to: int, ctx) -> int:
        """Count, and say how far it has come."""
        for number in range(1, to + 1):
            await ctx.report_progress(number, to, f"at {number}")
            await asyncio.sleep(0)
        return to

    for function in (order, order_both, note_slowly, pay, count_slowly):
        function.__annotations__["ctx"] = context  # each library has a class of its own
    server.tool()(order)
    server.tool()(order_both)
    server.tool()(note_slowly)
    server.tool()(pay)
    server.tool(annotations=ToolAnnotations(read_only_hint=True))(count_slowly)


def _note(log: str, line: str) -> None:
    with open(log, "a", encoding="utf-8") as lines:
        lines.write(line + "\n")


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
            **CARELESS.get(name, {}),
        }
        for name in names
    ]


CARELESS: dict[str, dict[str, Any]] = {
    "nothing": {"inputSchema": {}},
    "nulls": {"inputSchema": {"type": ["object", "null"], "properties": None}, "outputSchema": None},
    "list_out": {"outputSchema": {"type": "array", "items": {}}},
    "any_out": {"outputSchema": {}},
    "no_words": {"description": None, "annotations": {"readOnlyHint": None}},
}
"""Listings of tools that are not as the protocol wants them, and that real servers have."""


def _serve(on_call: Answer, *names: str) -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message or "method" not in message:
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
        if result is None:
            continue
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


def forgetful(log: str, lists: int = 0) -> Any:
    """Make a server that forgets its sessions, as one does that is started again: a call says when.

    ``then`` is what follows the write: "break" ends the answer before it is there, "wait" gives it after
    the next write. So often as ``lists`` says it forgets them when it is asked for its tools.
    """
    import asyncio

    from starlette.applications import Starlette
    from starlette.responses import JSONResponse, Response, StreamingResponse
    from starlette.routing import Route

    sessions: set[str] = set()
    made: list[asyncio.Event] = []
    left = iter(range(lists))

    async def broken() -> Any:
        yield b"id: 1\nretry: 1\ndata: \n\n"  # with an id, the client asks for the rest

    async def call(then: str) -> Any:
        _note(log, f"made {then}")
        for earlier in made:
            earlier.set()
        made.append(asyncio.Event())
        if then:
            sessions.clear()
        if then == "wait":
            await made[-1].wait()
        return _said("bought")

    async def answer(request: Any) -> Any:
        session = request.headers.get("mcp-session-id")
        if b"tools/list" in await request.body() and next(left, None) is not None:
            sessions.clear()
        if session is not None and session not in sessions:  # as the SDK for TypeScript
            error = {"code": -32001, "message": "Session not found"}
            return JSONResponse({"jsonrpc": "2.0", "id": None, "error": error}, 404)
        if request.method != "POST":
            return Response(status_code=405)
        message, headers = await request.json(), {}
        if "id" not in message:
            return Response(status_code=202)
        said: dict[str, Any] = {"result": {"tools": _tools("buy")}}
        if message["method"] == "initialize":
            headers = {"mcp-session-id": f"s{time.monotonic_ns()}"}
            sessions.add(headers["mcp-session-id"])
            version = message["params"]["protocolVersion"]
            info = {"serverInfo": {"name": "odd", "version": "1"}, "capabilities": {"tools": {}}}
            said = {"result": {"protocolVersion": version, **info}}
        elif message["method"] == "tools/call":
            then = message["params"]["arguments"].get("then", "")
            said = {"result": await call(then)}
            if then == "break":
                return StreamingResponse(broken(), media_type="text/event-stream")
        return JSONResponse({"jsonrpc": "2.0", "id": message["id"], **said}, headers=headers)

    return Starlette(routes=[Route("/mcp", answer, methods=["GET", "POST", "DELETE"])])


def _ask_twice(log: str, params: Any) -> None:
    """Begin a write, or ask two questions at once; neither comes to an end."""
    _note(log, params["name"])
    form = {"type": "object", "properties": {"number": {"type": "integer"}}}
    asked = {"method": "elicitation/create", "params": {"message": "How many?", "requestedSchema": form}}
    for number in (1, 2) if params["name"] == "ask" else ():
        _write(json.dumps({"jsonrpc": "2.0", "id": number, **asked}) + "\n")


def main(kind: str, log: str = "", port: str = "0") -> None:
    """Run one kind of server."""
    if log:
        with open(log, "a", encoding="utf-8") as lines:
            lines.write(f"{os.getpid()}\n")
    if kind == "good":
        with_the_sdk().run("stdio")
    elif kind == "http":
        with_the_sdk().run("streamable-http", port=int(port))
    elif kind == "fastmcp":
        with_fastmcp().run("stdio", show_banner=False)
    elif kind == "fastmcp-http":
        with_fastmcp().run("http", port=int(port), show_banner=False, log_level="ERROR")
    elif kind == "guarded":
        guarded_with_the_sdk(f"http://127.0.0.1:{port}/mcp").run("streamable-http", port=int(port))
    elif kind == "fastmcp-guarded":
        server = guarded_with_fastmcp(f"http://127.0.0.1:{port}/mcp")
        server.run("http", port=int(port), show_banner=False, log_level="ERROR")
    elif kind.startswith("forgetful"):
        import uvicorn

        uvicorn.run(forgetful(log, int(kind[len("forgetful") :] or 0)), port=int(port), log_level="error")
    elif kind == "dies":
        _serve(_die, "read_dies", "dies")
    elif kind == "dies_once":
        _serve(_die_once, "read_once")
    elif kind == "hangs":
        _serve(_hang, "hang", "quick_read")
    elif kind == "asks_twice":
        _serve(functools.partial(_ask_twice, log), "ask", "write")
    elif kind == "babbles":
        _serve(_babble, "talk_read")
    elif kind == "careless":
        _serve(lambda params: _said(params["name"]), *CARELESS)
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
