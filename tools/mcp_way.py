"""Connect to one MCP server, by program or address, and describe what went wrong."""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
import os
import re
import shutil
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from typing import Any

import anyio
import httpx2
from fastmcp.client.transports import ClientTransport, SSETransport, StreamableHttpTransport
from fastmcp.client.transports.base import TransportOptions
from mcp import ClientSession, MCPError, StdioServerParameters, types
from mcp.client.stdio import get_default_environment, stdio_client
from pydantic import ValidationError

from .mcp_file import McpServer
from .threads import run_in_thread

__all__ = ["LastWords", "Way", "short"]

_CONNECT_S = 30.0


class _QuietClient(logging.Filter):
    """Keeps the clients' tracebacks out of the terminal; our errors contain what matters."""

    def filter(self, record: logging.LogRecord) -> bool:
        return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)


for _name in (
    "mcp.client.stdio",
    "mcp.client.streamable_http",
    "mcp.client.sse",
    "client",
    "fastmcp.client.client",
):
    logging.getLogger(_name).addFilter(_QuietClient())


class LastWords:
    """The last lines that a server printed outside of the protocol; they tell why it ended."""

    _LINES, _WIDTH, _WAIT_S = 5, 300, 0.5

    def __init__(self) -> None:
        self._errors: deque[str] = deque(maxlen=self._LINES)
        self._garbage: str | None = None
        self._end = asyncio.Event()
        self._end.set()

    async def take_garbage(self, message: object) -> None:
        """Note text that was not a message, from the client's error about it."""
        if isinstance(message, Exception):
            self._garbage = self._garbage or _garbage_in(message)[: self._WIDTH]

    def open_errors(self) -> Any:
        """Open the server's stderr; a thread reads it to its end."""
        reading, writing = os.pipe()
        self._end.clear()
        work = functools.partial(self._read, reading, asyncio.get_running_loop())
        threading.Thread(target=work, name="plan-execute-mcp-stderr", daemon=True).start()
        return os.fdopen(writing, "w")

    def _read(self, descriptor: int, loop: asyncio.AbstractEventLoop) -> None:
        with os.fdopen(descriptor, "rb") as lines:
            # Bounded, because a server may print megabytes without a line break.
            while line := lines.readline(65_536):
                if text := line.decode(errors="replace").strip():
                    self._errors.append(text[: self._WIDTH])
        loop.call_soon_threadsafe(self._end.set)

    async def spoken(self) -> None:
        """Wait a little for the last words of a server that has ended, which arrive separately."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._WAIT_S):
                await self._end.wait()

    def __str__(self) -> str:
        said = []
        if self._garbage is not None:
            said.append(f"it printed something to stdout that is not MCP: {self._garbage!r}")
        if self._errors:
            said.append(f"its last words: {' | '.join(self._errors)}")
        return "".join(f"; {part}" for part in said)


# --- the way to a server -----------------------------------------------------------------

SESSION_LOST: ContextVar[asyncio.Event | None] = ContextVar("mcp_session_lost", default=None)
"""Set when a restarted server refuses a request; its client runs in the request's context."""


class Way(ClientTransport):
    """The connection to one server; it notes when the session ends, and why."""

    def __init__(self, server: McpServer, words: LastWords) -> None:
        self._server, self._words = server, words
        self.legacy_only = server.transport == "sse"
        self.ended = asyncio.Event()
        self.fault: BaseException | None = None
        self._refusal: httpx2.Response | None = None

    @asynccontextmanager
    async def connect_session(self, **options: Any) -> AsyncIterator[ClientSession]:
        """Open the session; FastMCP's client begins, uses and leaves it in a task of its own."""
        options.pop("transport_options", None)
        opened = self._program if self._server.transport == "stdio" else self._over_http
        try:
            async with opened(options) as session:
                yield session
        except Exception as error:
            self.fault = error
            raise
        finally:
            self.ended.set()

    @asynccontextmanager
    async def _program(self, options: dict[str, Any]) -> AsyncIterator[ClientSession]:
        # Not FastMCP's own, which ends at the first byte on stdout that is not UTF-8.
        with self._words.open_errors() as errors:
            program, *arguments = await run_in_thread(_leashed, self._server)
            parameters = StdioServerParameters(
                command=program,
                args=arguments,
                env=dict(self._server.env),
                cwd=self._server.cwd,
                encoding_error_handler="replace",
            )
            async with (
                stdio_client(parameters, errlog=errors) as (read, write),
                self._session(read, write, **options) as session,
            ):
                errors.close()  # The server's own copy is the last one: the reading thread ends with it.
                yield session

    @asynccontextmanager
    async def _over_http(self, options: dict[str, Any]) -> AsyncIterator[ClientSession]:
        kind = SSETransport if self._server.transport == "sse" else StreamableHttpTransport
        made_by: Any = self._http_client
        inner = kind(self._server.url, dict(self._server.headers), httpx_client_factory=made_by)
        by_session: Any = self._session
        ours = TransportOptions(session_class=by_session)
        async with inner.connect_session(transport_options=ours, **options) as session:
            yield session

    def _session(self, read: Any, write: Any, **options: Any) -> ClientSession:
        return ClientSession(_Watched(read, self.ended), write, **options)

    def _http_client(self, **given: Any) -> httpx2.AsyncClient:
        limit = httpx2.Timeout(_CONNECT_S, read=self._server.call_timeout_s + _CONNECT_S)
        hooks = {"response": [self._look]}
        return httpx2.AsyncClient(**{**given, "timeout": limit, "event_hooks": hooks})

    async def _look(self, response: httpx2.Response) -> None:
        request, lost = response.request, SESSION_LOST.get()
        unknown = response.status_code == 404 and request.method == "POST"
        if unknown and "mcp-session-id" in request.headers and lost is not None:
            lost.set()
        refused = response.status_code in (401, 403) or response.status_code >= 500
        self._refusal = response if refused else None

    def reason(self, error: BaseException) -> str:
        """Say in a few words why the server could not be reached, started, or asked."""
        if self._refusal is not None:
            return _refusal_in_words(self._refusal, self._server)
        return _reason(self.fault or error)


class _Watched:
    """A server's messages: lists of tools in the client's form, and the end of the session.

    The session would report the end only to the next caller.
    """

    def __init__(self, stream: Any, ended: asyncio.Event) -> None:
        self._stream, self._ended = stream, ended

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __aiter__(self) -> _Watched:
        return self

    async def __anext__(self) -> Any:
        try:
            return _with_plain_schemas(await self._stream.__anext__())
        except StopAsyncIteration:
            self._ended.set()
            raise

    async def __aenter__(self) -> _Watched:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *why: Any) -> None:
        await self._stream.__aexit__(*why)


def _with_plain_schemas(item: Any) -> Any:
    """Repair a careless schema, because of which the client would refuse all tools of a server.

    A tool without arguments is often listed with ``{}``; mcp 2.3 wants ``"type": "object"`` in all of them.
    """
    result = _object(getattr(getattr(item, "message", None), "result", None))
    tools = result.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        if isinstance(tool, dict):
            tool["inputSchema"] = {**_object(tool.get("inputSchema")), "type": "object"}
            newer = "resultType" in result  # Before the protocol of 2026, an output is an object.
            if not newer and _object(tool.get("outputSchema")).get("type") != "object":
                tool.pop("outputSchema", None)
    return item


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


_LEASH = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
os.execvp(sys.argv[1], sys.argv[1:])
"""


def _leashed(server: McpServer) -> list[str]:
    """Return the command that starts a server, on Linux so that it does not outlive this process.

    A server sees the end of its input, and ends. A server that hangs does not look. And a process that is
    ended by a signal (uvicorn ends itself so) has no time to kill it.
    """
    path = server.env.get("PATH") or get_default_environment().get("PATH")
    command = os.path.expanduser(server.command)
    # A path is relative to the folder in which the server is started.
    found = shutil.which(os.path.join(server.cwd or "", command) if os.sep in command else command, path=path)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, "not found", server.command)
    found = os.path.abspath(found)
    if sys.platform != "linux":
        return [found, *server.args]
    return [sys.executable, "-I", "-S", "-c", _LEASH, found, *server.args]


# --- words -------------------------------------------------------------------------------


def _garbage_in(error: Exception) -> str:
    """Find text that was not a message in the client's error about it."""
    found = (
        next((item["input"] for item in error.errors() if item.get("input")), None)
        if isinstance(error, ValidationError)
        else None
    )
    return found if isinstance(found, str) else str(error)


def _refusal_in_words(response: httpx2.Response, server: McpServer) -> str:
    """Say what an HTTP error asks for; a server that wants a login differs from one that wants a token."""
    said = f"it answered HTTP {response.status_code}"
    if response.status_code >= 500:
        return said
    has_token = any(name.lower() == "authorization" for name in server.headers)
    wants_login = "resource_metadata" in response.headers.get("www-authenticate", "")
    if wants_login and not has_token:
        return (
            f"{said}: it wants a login with OAuth, which is not supported; "
            "get a token from the server's operator, and give it as "
            '"headers": {"Authorization": "Bearer ${TOKEN}"}'
        )
    return f"{said}: check its headers"


def _reason(error: BaseException) -> str:
    """Say in a few words why a server could not be reached or started."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, FileNotFoundError):
        return f"the program {error.filename!r} was not found"
    if isinstance(error, httpx2.TransportError):
        return f"it cannot be reached at {error.request.url.copy_with(query=None)} ({short(error)})"
    closed = isinstance(error, MCPError) and error.code == types.CONNECTION_CLOSED
    # The second if it was gone before the first request could be written.
    if closed or isinstance(error, anyio.BrokenResourceError):
        return "it ended before it was ready"
    return short(error)


def short(error: BaseException) -> str:
    """Return an error's text in one line that is not too long."""
    text = re.sub(r"\s+", " ", str(error)).strip()
    return text[:300] or type(error).__name__
