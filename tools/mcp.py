"""Use the tools of MCP servers, configured in the common ``mcpServers`` JSON, from any event loop.

The servers have an event loop of their own, in a daemon thread. A server that hangs delays nobody else, and
calls from any loop can use the same session.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import re
import weakref
from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from langchain_core.tools import BaseTool
from pydantic import PrivateAttr

from ..errors import ConfigurationError, PlanExecuteError, ToolFailedError, known
from ..state import Effect, digest
from .caller import CALLER, Caller, Reply, ToolQuestion
from .mcp_file import McpServer, Source, read_mcp_servers
from .threads import called_here, loop_in_thread

if TYPE_CHECKING:
    from mcp import types

    from .mcp_session import Asker, McpConnection

__all__ = ["McpTools", "amcp_tools", "mcp_tools"]

T = TypeVar("T")
Json = Any

_LOOP = "plan-execute-mcp"
_CLOSE_S = 8.0
"""How long the end of the process waits for the servers to end; each has been killed by then."""
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")
"""Characters that no model provider accepts in the name of a tool."""
_LONGEST_NAME = 64


class McpTools(list[BaseTool]):
    """The tools, as a list; closing it ends the servers, and so does the end of the process.

    Use it as a context manager where the process goes on long after the last call::

        with mcp_tools("mcp.json") as tools:
            ...
    """

    def __init__(self, tools: Sequence[BaseTool], servers: Sequence[_Server]) -> None:
        super().__init__(tools)
        self._servers = servers

    def __enter__(self) -> McpTools:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the servers, and return when they are gone; a later call would start them again."""
        _await_all([server.submit_close() for server in self._servers])


def mcp_tools(
    *sources: Source,
    effects: Mapping[str, Effect] | None = None,
    prefix: bool = False,
    start_timeout_s: float | None = None,
    call_timeout_s: float | None = None,
) -> McpTools:
    """Start the MCP servers of files and return their tools.

    The effect of a tool is read from its annotations: ``readOnlyHint`` means ``read``, ``idempotentHint``
    means ``idempotent``, anything else ``write``. They are the server's own words: override those of a server
    that you do not trust, here or with ``effects`` in the file.

    Args:
        sources: JSON files, or the content of one: ``{"mcpServers": {name: {"command": …} | {"url": …}}}``.
        effects: Effects of single tools, by their returned names; ``*`` for all others. Takes precedence.
        prefix: Put each server's name before its tools' names, as ``"prefix": true`` does for one.
        start_timeout_s: How long a server may take until it has listed its tools (default: the file's
            ``startTimeout``, else 60).
        call_timeout_s: How long one call may take (default: the file's ``timeout``, else 120).

    Raises:
        ConfigurationError: If the file is wrong, a server cannot be used, or two tools share a name.
    """
    _require_extra()
    from dataclasses import replace

    limits = {"start_timeout_s": start_timeout_s, "call_timeout_s": call_timeout_s}
    given = {name: value for name, value in limits.items() if value is not None}
    if wrong := [f"{name}={value}" for name, value in given.items() if not value > 0]:
        raise ConfigurationError(f"a time limit must be more than 0 seconds: {wrong[0]}")
    named = [
        replace(server, prefix=server.prefix or prefix, **given)  # type: ignore[arg-type]
        for source in sources
        for server in read_mcp_servers(source)
    ]
    servers = [_Server(server) for server in named]
    try:
        made = _tools_of(servers)
        tools = McpTools([tool for tools in made for tool in tools], servers)
        _part_names([tool for tool in tools if isinstance(tool, McpTool)])
        _refuse_shared_names(servers, made)
        _override({tool.name: tool for tool in tools}, effects or {}, "effects=")
    except BaseException:
        _await_all([server.submit_close() for server in servers])
        raise
    return tools


async def amcp_tools(*sources: Source, **options: Any) -> McpTools:
    """Return the tools without blocking the event loop; see :func:`mcp_tools`."""
    return await asyncio.to_thread(mcp_tools, *sources, **options)


def _require_extra() -> None:
    from langchain_core._api import suppress_langchain_beta_warning

    try:
        with suppress_langchain_beta_warning():
            import langchain.mcp  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(
            f"MCP servers need an extra that is not installed: pip install 'plan-execute[mcp]' ({error})"
        ) from error


# --- the servers -------------------------------------------------------------------------


def _on_the_loop(work: Coroutine[Any, Any, T]) -> Future[T]:
    return asyncio.run_coroutine_threadsafe(work, loop_in_thread(_LOOP))


class _Server:
    """A server for callers in other event loops; its process ends with this object, and at exit."""

    def __init__(self, server: McpServer) -> None:
        self.server = server
        self._connect()

    def _connect(self) -> None:
        from .mcp_session import McpConnection

        self._process = os.getpid()
        self._connection = McpConnection(self.server)
        # Without waiting, because garbage collection may run on any event loop.
        weakref.finalize(self, _submit_close, self._connection, self._process).atexit = False
        _SERVERS.add(self)

    def submit_list(self) -> Future[list[BaseTool]]:
        return _on_the_loop(self._connection.tools())

    def submit_call(self, tool: str, args: dict[str, Json], asker: Asker) -> Future[types.CallToolResult]:
        if self._process != os.getpid():
            self._connect()  # In a forked process the session belongs to the parent.
        return _on_the_loop(self._connection.call(tool, args, asker))

    def submit_close(self) -> Future[None] | None:
        return _submit_close(self._connection, self._process)


_SERVERS: weakref.WeakSet[_Server] = weakref.WeakSet()


def _submit_close(connection: McpConnection, process: int) -> Future[None] | None:
    return _on_the_loop(connection.close()) if process == os.getpid() else None


def _await_all(ends: Sequence[Future[None] | None]) -> None:
    for end in ends:
        with suppress(TimeoutError):  # A server that cannot be killed must not delay the end of the program.
            if end is not None:
                end.result(_CLOSE_S)


@atexit.register
def _close_all() -> None:
    _await_all([server.submit_close() for server in _SERVERS])


def _tools_of(servers: Sequence[_Server]) -> list[list[BaseTool]]:
    """Start all servers at the same time; report the reason of each that fails."""
    listings = [server.submit_list() for server in servers]
    made, problems = [], []
    for server, listing in zip(servers, listings, strict=True):
        try:
            made.append([McpTool.of(server, found) for found in listing.result()])
        except (PlanExecuteError, ConnectionError) as error:
            problems.append(str(error))
    if problems:
        raise ConfigurationError("; ".join(problems))
    for server, tools in zip(servers, made, strict=True):
        wanted = server.server
        _refuse_unknown(wanted, "disabledTools", wanted.without, [tool.original for tool in tools])
        tools[:] = [tool for tool in tools if tool.original not in wanted.without]
        _override({tool.original: tool for tool in tools}, wanted.effects, f"{wanted}: effects")
    return [[*tools] for tools in made]


def _refuse_unknown(server: McpServer, key: str, named: Any, there: Sequence[str]) -> None:
    if missing := sorted(set(named) - set(there)):
        raise ConfigurationError(
            f"{server}: {key}: there is no tool {missing[0]!r}; there are: {known(there)}"
        )


def _part_names(tools: Sequence[McpTool]) -> None:
    """Distinguish names that are equal after shortening, by a hash of the whole name at their end."""
    count = Counter(tool.name for tool in tools)
    for tool in tools:
        if count[tool.name] > 1 and tool.name != tool.whole_name:
            mark = digest(tool.whole_name)[:8]
            tool.name = f"{tool.name[: _LONGEST_NAME - len(mark) - 1]}_{mark}"


def _refuse_shared_names(servers: Sequence[_Server], made: Sequence[Sequence[BaseTool]]) -> None:
    count = Counter(tool.name for tools in made for tool in tools)
    shared = next((name for name, times in count.items() if times > 1), None)
    if shared is not None:
        owners = [
            str(server.server)
            for server, tools in zip(servers, made, strict=True)
            for tool in tools
            if tool.name == shared
        ]
        if len(set(owners)) == 1:
            raise ConfigurationError(f"{owners[0]} lists {len(owners)} tools named {shared!r}")
        raise ConfigurationError(
            f"two tools are named {shared!r}, one of {' and one of '.join(owners)}: "
            'give a server "prefix": true'
        )


def _override(tools: Mapping[str, BaseTool], effects: Mapping[str, Effect], where: str) -> None:
    for name, effect in effects.items():
        if name != "*" and name not in tools:
            raise ConfigurationError(f"{where}: there is no tool {name!r}; there are: {known(tools)}")
        if effect not in get_args(Effect):
            accepted = ", ".join(get_args(Effect))
            raise ConfigurationError(f"{where}: {effect!r} is no effect for {name!r}; known: {accepted}")
    for name, tool in tools.items():
        if said := effects.get(name) or effects.get("*"):
            tool.metadata = {**(tool.metadata or {}), "effect": said}


# --- the tools ---------------------------------------------------------------------------


class McpTool(BaseTool):
    """A tool of an MCP server, which returns plain JSON."""

    original: str
    """Its name at the server."""
    whole_name: str
    """The same, after the server's name if that is configured: of any length, with any characters."""
    _server: _Server = PrivateAttr()

    @classmethod
    def of(cls, server: _Server, found: BaseTool) -> McpTool:
        """Make a tool from what langchain.mcp read: name, description, arguments, annotations."""
        name = f"{server.server.name}_{found.name}" if server.server.prefix else found.name
        tool = cls(
            name=_NOT_IN_NAMES.sub("_", name)[:_LONGEST_NAME],
            description=found.description,
            args_schema=found.args_schema,
            metadata=found.metadata,
            original=found.name,
            whole_name=name,
        )
        tool._server = server
        return tool

    # Not a StructuredTool, whose parameter `config` would replace an argument of that name.
    def _run(self, /, *_: Any, **arguments: Any) -> Json:
        call = self._server.submit_call(self.original, arguments, _alone(self.original))
        return _plain(self.original, call.result())

    async def _arun(self, /, *_: Any, **arguments: Any) -> Json:
        caller = CALLER.get()
        asker = _alone(self.original) if caller is None else await _asker_of(caller)
        # Cancelling the await cancels the call on the servers' loop, which tells the server.
        result = await asyncio.wrap_future(self._server.submit_call(self.original, arguments, asker))
        return _plain(self.original, result)


# --- one call ----------------------------------------------------------------------------


def _alone(tool: str) -> Asker:
    """Return the asker of a call outside a run: nobody can be asked."""
    from .mcp_session import Asker

    async def refuse(questions: Sequence[ToolQuestion], *_: object) -> list[Reply]:
        raise ToolFailedError(
            f"{tool}: {questions[0].server} asks the person, but this call is not part of a run"
        )

    return Asker(refuse)


async def _asker_of(caller: Caller) -> Asker:
    """Let the servers' loop ask the caller, which runs on this one."""
    from .mcp_session import Asker

    stand = await caller.kept() or {"asked": 0, "kept": None}

    async def ask(questions: Sequence[ToolQuestion], asked: int, kept: Json | None) -> list[Reply]:
        if kept is not None:
            await caller.keep({"asked": asked, "kept": kept})
        return await caller.ask(questions, asked)

    async def tell(progress: float, total: float | None, message: str | None) -> None:
        caller.tell(progress, total, message)

    return Asker(called_here(ask), called_here(tell), stand["kept"], stand["asked"])


def _plain(name: str, result: types.CallToolResult) -> Json:
    """Return a call's result as plain JSON: structured content first, else text, else all blocks.

    Raises:
        ToolFailedError: If the server says that the call failed.
    """
    blocks = [_block(content.model_dump(mode="json", exclude_none=True)) for content in result.content]
    texts = [block["text"] for block in blocks if block["type"] == "text"]
    if result.is_error:
        raise ToolFailedError(f"{name}: {' '.join(texts) or 'the server says that it failed, but not why'}")
    if result.structured_content is not None:
        return _unwrapped(result.structured_content, texts)
    if not blocks:
        return None
    return texts[0] if len(blocks) == len(texts) == 1 else blocks


def _unwrapped(structured: dict[str, Json], texts: Sequence[str]) -> Json:
    """Take a value out of ``{"result": value}`` if the server put it there only to have an object.

    The answer's text tells, because it shows only the value. Otherwise an empty list would not count as
    empty.
    """
    if set(structured) != {"result"}:
        return structured
    with suppress(ValueError):
        if len(texts) == 1 and json.loads(texts[0]) == structured:
            return structured
    return structured["result"]


def _block(content: dict[str, Json]) -> dict[str, Json]:
    """Convert a content block to LangChain's form, in which models see images; without a random id."""
    held = content.get("resource") or {}
    if content["type"] == "text":
        return {"type": "text", "text": content["text"]}
    if "text" in held:
        return {"type": "text", "text": held["text"], "uri": held["uri"]}
    media = content.get("mime_type") or held.get("mime_type")
    block = {
        "type": kind if (kind := str(media).split("/")[0]) in ("image", "audio", "video") else "file",
        "base64": content.get("data") or held.get("blob"),
        "url": content.get("uri") or held.get("uri"),
        "mime_type": media,
    }
    return {key: value for key, value in block.items() if value is not None}
