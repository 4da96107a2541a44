"""Keep one session with one MCP server: start it when it is needed, end it when it is not, start it again."""

from __future__ import annotations

import asyncio
import errno
import functools
import json
import logging
import os
import re
import shutil
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import anyio
import httpx
from langchain_core.tools import BaseTool
from langchain_mcp_adapters.sessions import Connection, create_session
from langchain_mcp_adapters.tools import convert_mcp_tool_to_langchain_tool
from mcp import ClientSession, McpError, StdioServerParameters, types
from mcp.client.stdio import get_default_environment, stdio_client

from ..context import run_redactor
from ..errors import ToolFailedError
from .mcp_file import McpServer
from .output_forms import OUTPUT_SCHEMA
from .threads import run_in_thread

__all__ = ["McpConnection"]

T = TypeVar("T")

_PATIENCE_S = 3.0
"""How long a server may take to show that it lives, after a call was called off."""
_PULSE_S = 5.0
"""How often an HTTP server is asked during a call whether it is there: its end tells the client nothing."""
_SESSION_LOST = 32600
"""What mcp 1.30 makes of HTTP 404: the server does not know the session, and has not made the call."""
_STOPPED = "it was stopped"


class _QuietClient(logging.Filter):
    """Keeps tracebacks of the mcp client from the terminal: what matters of them is in our errors."""

    def filter(self, record: logging.LogRecord) -> bool:
        return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)


for _name in ("stdio", "streamable_http", "sse"):
    logging.getLogger(f"mcp.client.{_name}").addFilter(_QuietClient())


class _LastWords:
    """The last lines that a server printed where no protocol is spoken; they tell why it ended."""

    _LINES, _WIDTH, _WAIT_S = 5, 300, 0.5

    def __init__(self) -> None:
        self._errors: deque[str] = deque(maxlen=self._LINES)
        self._garbage: str | None = None
        self._end = asyncio.Event()
        self._end.set()

    def take_garbage(self, line: str) -> None:
        self._garbage = self._garbage or line[: self._WIDTH]

    def open_errors(self) -> Any:
        """Open what the server gets as its stderr; a thread reads it to its end."""
        reading, writing = os.pipe()
        self._end.clear()
        work = functools.partial(self._read, reading, asyncio.get_running_loop())
        threading.Thread(target=work, name="plan-execute-mcp-stderr", daemon=True).start()
        return os.fdopen(writing, "w")

    def _read(self, descriptor: int, loop: asyncio.AbstractEventLoop) -> None:
        with os.fdopen(descriptor, "rb") as lines:
            # bounded: a server may print megabytes without a line break
            while line := lines.readline(65_536):
                if text := line.decode(errors="replace").strip():
                    self._errors.append(text[: self._WIDTH])
        loop.call_soon_threadsafe(self._end.set)

    async def spoken(self) -> None:
        """Wait a little for what a server that has ended said last: it comes on another way than its end."""
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


class _Live:
    """A session that is open until ``ended`` is done."""

    def __init__(self, session: ClientSession, words: _LastWords) -> None:
        self.session = session
        self.words = words
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.doubt: asyncio.Task[None] | None = None

    def end(self, why: str) -> None:
        if not self.ended.done():
            self.ended.set_result(why)


class McpConnection:
    """One server. Everything here runs on one event loop, that of the servers.

    The session is kept between calls: a server may hold a browser or a database connection, and
    to start one may take seconds. One that has ended is started again by the next call.
    """

    def __init__(self, server: McpServer) -> None:
        self.server = server
        self._live: _Live | None = None
        self._keepers: set[asyncio.Task[None]] = set()
        self._starting: set[asyncio.Task[None]] = set()
        self._lock = asyncio.Lock()

    async def tools(self) -> list[BaseTool]:
        """List the server's tools.

        Raises:
            ToolFailedError: If it does not start, or does not answer in time.
        """
        limit, live = self.server.start_timeout_s, await self._ready()
        return await self._answer(live, _listed(live.session), limit, "list its tools")

    async def call(self, tool: str, args: dict[str, Any]) -> types.CallToolResult:
        """Call a tool by the server's own name for it.

        Raises:
            ToolFailedError: If the server does not start, answer in time, or says that it failed.
            ConnectionError: If it ended during the call.
        """
        try:
            return await self._call(await self._ready(), tool, args)
        except _NotMadeError:
            return await self._call(await self._ready(), tool, args)

    async def close(self) -> None:
        """End the server, if it runs, and return when it is gone, and those that it took the place of."""
        if self._live is not None:
            self._live.end(_STOPPED)
        for keeper in self._starting:
            keeper.cancel()
        if self._keepers:
            await asyncio.wait(self._keepers)

    # --- one session -----------------------------------------------------------------------

    async def _ready(self) -> _Live:
        async with self._lock:
            if self._live is None or self._live.ended.done():
                self._live = await self._start()
            live = self._live
        if live.doubt is not None:
            await asyncio.wait([live.doubt])
            if live.ended.done():
                return await self._ready()
        return live

    async def _start(self) -> _Live:
        started: asyncio.Future[_Live] = asyncio.get_running_loop().create_future()
        # anyio's scopes must be left in the task that has entered them: a session lives in a task of its own.
        keeper = asyncio.create_task(self._keep(started))
        self._keepers.add(keeper)
        keeper.add_done_callback(self._keepers.discard)
        self._starting.add(keeper)
        try:
            return await started
        finally:
            self._starting.discard(keeper)
            if started.cancelled():
                keeper.cancel()

    async def _keep(self, started: asyncio.Future[_Live]) -> None:
        live, words, reason = None, _LastWords(), "it ended"
        limit = asyncio.timeout(self.server.start_timeout_s)
        try:
            async with limit, self._opened(words) as session:
                await session.initialize()
                limit.reschedule(None)
                live = _Live(session, words)
                if not started.done():
                    started.set_result(live)
                await asyncio.wait([live.ended])
        except Exception as error:
            # What the end of the time breaks in the client may hide the TimeoutError.
            late = f"it was not ready within {self.server.start_timeout_s:g} s"
            reason = late if limit.expired() else _reason(error)
            await words.spoken()
        finally:
            if live is not None:
                live.end(reason)
            elif not started.done():
                started.set_exception(self._failed("cannot be used", reason, words))

    @asynccontextmanager
    async def _opened(self, words: _LastWords) -> AsyncIterator[ClientSession]:
        server = self.server
        if server.transport != "stdio":
            connection: Connection = {  # type: ignore[misc, assignment]
                "transport": server.transport,
                "url": server.url,
                "headers": dict(server.headers),
                "timeout": server.start_timeout_s,
                "sse_read_timeout": server.call_timeout_s + _PATIENCE_S,
            }
            async with create_session(connection) as session:
                yield session
            return

        async def notice(message: Any) -> None:
            if isinstance(message, Exception):
                words.take_garbage(_garbage_in(message))

        with words.open_errors() as errors:
            program, *arguments = await run_in_thread(_leashed, server)
            parameters = StdioServerParameters(
                command=program,
                args=arguments,
                env=dict(server.env),
                cwd=server.cwd,
                encoding_error_handler="replace",
            )
            async with (
                stdio_client(parameters, errlog=errors) as (read, write),
                ClientSession(read, write, message_handler=notice) as session,
            ):
                errors.close()  # the server's own copy is the last: the reading thread ends with it
                yield session

    # --- one call --------------------------------------------------------------------------

    async def _call(self, live: _Live, tool: str, args: dict[str, Any]) -> types.CallToolResult:
        async def ask() -> types.CallToolResult:
            # mcp 1.30 says nowhere which id a request gets; the next one is taken before anything is awaited
            request_id = live.session._request_id
            params = types.CallToolRequestParams(name=tool, arguments=args)
            # not session.call_tool: its check of the result would report a write that was made as failed
            request = types.ClientRequest(types.CallToolRequest(params=params))
            try:
                return await live.session.send_request(request, types.CallToolResult)
            except asyncio.CancelledError:
                if not live.ended.done():
                    live.doubt = asyncio.create_task(self._call_off(live, request_id))
                raise

        return await self._answer(live, ask(), self.server.call_timeout_s, f"answer a call of {tool}")

    async def _answer(self, live: _Live, asked: Coroutine[Any, Any, T], limit: float, what: str) -> T:
        """Await an answer, the end of the session, or the end of the time; whichever comes first."""
        answer = asyncio.create_task(asked)
        pulse = asyncio.create_task(self._pulse(live))
        try:
            first: list[asyncio.Future[Any]] = [answer, live.ended]
            await asyncio.wait(first, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return await self._read(live, answer)
            if live.ended.done():
                raise await self._lost(live)
            raise self._failed("gave no answer", f"it did not {what} within {limit:g} s", live.words)
        finally:
            pulse.cancel()
            answer.cancel()

    async def _read(self, live: _Live, answer: asyncio.Task[T]) -> T:
        error = answer.exception()
        if error is None:
            return answer.result()
        code = error.error.code if isinstance(error, McpError) else None
        if code == _SESSION_LOST and "terminated" in str(error):
            live.end("it does not know the session any more")
            raise _NotMadeError
        if code == types.CONNECTION_CLOSED:
            live.end("it closed the connection")
            raise await self._lost(live)
        if isinstance(error, McpError):
            raise self._failed("refused", str(error), live.words) from error
        # anyio's streams raise these before anything was sent: the server had ended between two calls
        live.end(_reason(error))
        if type(error).__name__ in ("ClosedResourceError", "BrokenResourceError"):
            raise _NotMadeError
        raise self._failed("failed", _reason(error), live.words) from error

    async def _pulse(self, live: _Live) -> None:
        if self.server.transport == "stdio":
            return
        while True:
            await asyncio.sleep(_PULSE_S)
            # A server that is busy need not answer. One that is gone ends the session.
            asyncio.create_task(live.session.send_ping()).add_done_callback(_forget)

    async def _call_off(self, live: _Live, request_id: int) -> None:
        """Tell the server that nobody waits any more; end it if it does not listen."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                params = types.CancelledNotificationParams(requestId=request_id, reason="called off")
                note = types.CancelledNotification(params=params)
                await live.session.send_notification(types.ClientNotification(note))
                await live.session.send_ping()
        except Exception as error:
            live.end(f"it did not answer after a call was called off ({_reason(error)})")
        finally:
            live.doubt = None

    async def _lost(self, live: _Live) -> ConnectionError:
        await live.words.spoken()
        why = f"{self.server} ended during the call: {live.ended.result()}{live.words}"
        return ConnectionError(run_redactor().text(why))

    def _failed(self, how: str, reason: str, words: _LastWords) -> ToolFailedError:
        return ToolFailedError(run_redactor().text(f"{self.server} {how}: {reason}{words}"))


async def _tools_with_forms(session: ClientSession) -> list[BaseTool]:
    """List the tools with the forms of their outputs, which langchain-mcp-adapters leaves out."""
    tools: list[BaseTool] = []
    cursor: str | None = None
    for _ in range(_MOST_PAGES):
        page = await session.list_tools(cursor)
        for found in page.tools:
            tool = convert_mcp_tool_to_langchain_tool(session, found)
            if found.outputSchema:
                tool.metadata = {**(tool.metadata or {}), OUTPUT_SCHEMA: _unwrapped_form(found.outputSchema)}
            tools.append(tool)
        cursor = page.nextCursor
        if not cursor:
            return tools
    raise ConnectionError(f"the list of tools has more than {_MOST_PAGES} pages")


_MOST_PAGES = 1000


def _unwrapped_form(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the form of a value that a server wraps into ``{"result": value}``, as the call returns it."""
    fields = schema.get("properties") or {}
    return {**fields["result"], "$defs": schema.get("$defs", {})} if set(fields) == {"result"} else schema


async def _listed(session: ClientSession) -> list[BaseTool]:
    try:
        return await _tools_with_forms(session)
    except McpError as error:
        if error.error.code == types.METHOD_NOT_FOUND:
            return []  # a server of resources or prompts only
        raise


_LEASH = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
os.execvp(sys.argv[1], sys.argv[1:])
"""


def _leashed(server: McpServer) -> list[str]:
    """Return the command that starts a server, on Linux such that it does not outlive this process.

    A server sees the end of its input, and ends. One that hangs does not look; and a process that a
    signal ends (uvicorn ends itself so) has no time to kill it.
    """
    path = server.env.get("PATH") or get_default_environment().get("PATH")
    command = os.path.expanduser(server.command)
    # A path is relative to the folder that the server is started in.
    found = shutil.which(os.path.join(server.cwd or "", command) if os.sep in command else command, path=path)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, "not found", server.command)
    found = os.path.abspath(found)
    if sys.platform != "linux":
        return [found, *server.args]
    return [sys.executable, "-I", "-S", "-c", _LEASH, found, *server.args]


class _NotMadeError(Exception):
    """The call has not reached the server, so it may be made once more."""


def _forget(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()


def _garbage_in(error: Exception) -> str:
    """Find what was no message in the error of the one who could not read it."""
    errors = getattr(error, "errors", None)
    given = [item.get("input") for item in errors()] if callable(errors) else []
    found = next((item for item in given if item), str(error))
    return found if isinstance(found, str) else json.dumps(found, default=str)


def _reason(error: BaseException) -> str:
    """Say in a few words why a server could not be reached or started."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, FileNotFoundError):
        return f"the program {error.filename!r} was not found"
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        hint = ": check its headers" if status in (401, 403) else ""
        return f"it answered HTTP {status}{hint}"
    if isinstance(error, httpx.TransportError):
        return f"it cannot be reached at {error.request.url.copy_with(query=None)} ({_short(error)})"
    closed = isinstance(error, McpError) and error.error.code == types.CONNECTION_CLOSED
    # the second where it was gone before the first request could be written
    if closed or isinstance(error, anyio.BrokenResourceError):
        return "it ended before it was ready"
    return _short(error)


def _short(error: BaseException) -> str:
    text = re.sub(r"\s+", " ", str(error)).strip()
    return text[:300] or type(error).__name__
