"""Keep one session with one MCP server: start it when needed, end it, and start it again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar

from fastmcp.client import Client
from fastmcp.client.elicitation import ElicitResult
from langchain_core._api import suppress_langchain_beta_warning
from langchain_core.tools import BaseTool
from mcp import MCPError, types
from pydantic import TypeAdapter, ValidationError

from ..context import run_redactor
from ..errors import ToolFailedError
from .caller import Reply, ToolQuestion
from .mcp_file import McpServer
from .mcp_way import SESSION_LOST, LastWords, Way, short
from .output_forms import OUTPUT_SCHEMA

with suppress_langchain_beta_warning():
    from langchain.mcp import as_langchain_tool

__all__ = ["Asker", "McpConnection"]

T = TypeVar("T")
Json = Any

_PATIENCE_S = 3.0
"""How long a program may take to show that it lives after a call was cancelled."""
_PACE_S = 0.25
"""How long to wait before asking a server again that is not ready yet (as the SDK's own driver does)."""
_MOST_PAGES = 1000
_MOST_TAKEN_BACK = 3
_STOPPED = "it was stopped"
_RESULT: TypeAdapter[types.CallToolResult | types.InputRequiredResult] = TypeAdapter(
    types.CallToolResult | types.InputRequiredResult
)


# --- one call ----------------------------------------------------------------------------

Ask = Callable[[Sequence[ToolQuestion], int, dict[str, Json] | None], Awaitable[list[Reply]]]


class Asker:
    """What a call gets from its caller.

    Attributes:
        ask: Asks a person. The others are how many questions the call has asked before, and what the
            server is to be sent with the answers, where it can go on from there.
        tell: Takes progress; None if nobody listens.
        kept: What an earlier start of the call had to send with the answers.
    """

    def __init__(
        self, ask: Ask, tell: Any = None, kept: dict[str, Json] | None = None, asked: int = 0
    ) -> None:
        self.tell, self.kept = tell, kept
        self._ask, self._asked = ask, asked

    async def ask(
        self, questions: Sequence[ToolQuestion], kept: dict[str, Json] | None = None
    ) -> list[Reply]:
        """Ask all of these at once."""
        before, self._asked = self._asked, self._asked + len(questions)
        return await self._ask(questions, before, kept)

    def begin_anew(self) -> None:
        """Forget the state of an earlier start."""
        self.kept, self._asked = None, 0


class _Call:
    """An active call. A server of the older protocol asks while it waits for the call's result."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self.stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.over = asyncio.Event()

    async def reply(self, question: ToolQuestion) -> Reply:
        """Return a person's answer; if there is none yet, stop the call first."""
        try:
            [reply] = await self._asker.ask([question])
        except Exception as error:
            await self.stop(error)
            return None
        return reply

    async def stop(self, error: Exception) -> None:
        if not self.stopped.done():
            self.stopped.set_exception(error)
        await self.over.wait()  # The server learns that the call is cancelled before it gets a reply.


_CALL: ContextVar[_Call | None] = ContextVar("mcp_call", default=None)
"""The call of an HTTP server's message; its client runs in the call's context."""


class _RefusedError(ToolFailedError):
    """The server knows the call, but will not make it."""


class _AnewError(Exception):
    """The call was taken back before it did anything, and must be made once more."""


class _AskFirstError(Exception):
    """The server makes the call only after the person has opened an address."""

    def __init__(self, questions: Sequence[ToolQuestion]) -> None:
        self.questions = questions


class _Live:
    """A session that is open until its connection has ended."""

    def __init__(self, client: Client[Any], way: Way, words: LastWords) -> None:
        self.client, self.way, self.words = client, way, words
        self.doubt: asyncio.Task[None] | None = None
        self.calls: set[_Call] = set()
        self.why = ""

    @property
    def is_over(self) -> bool:
        return bool(self.why) or self.way.ended.is_set()

    async def close(self, after: Iterable[_Call]) -> None:
        """End the session after these calls are over."""
        for call in after:
            await call.over.wait()
        await self.client.close()  # type: ignore[no-untyped-call]

    def standing(self) -> list[_Call]:
        """List the calls that have not been stopped."""
        return [call for call in self.calls if not call.stopped.done()]


class McpConnection:
    """One server. Everything here runs on the servers' event loop.

    The session is kept between calls, because a server may hold a browser or a database connection, and
    starting one may take seconds. If it has ended, the next call starts it again.
    """

    def __init__(self, server: McpServer) -> None:
        self.server = server
        self._live: _Live | None = None
        self._lock = asyncio.Lock()
        self._turn = asyncio.Lock()
        # A program that is known to ask does not say which call it asks about.
        self._one_at_a_time = server.transport == "stdio" and server.protocol == "legacy"
        self._asking: asyncio.Condition = asyncio.Condition()
        self._undecided = 0
        self._ending: set[asyncio.Task[None]] = set()
        self._starting: set[asyncio.Task[_Live]] = set()

    async def tools(self) -> list[BaseTool]:
        """List the server's tools.

        Raises:
            ToolFailedError: If it does not start, or does not answer in time.
        """
        for _ in range(1 + _MOST_TAKEN_BACK):
            live = await self._ready()
            listing, limit = _listed(live.client), self.server.start_timeout_s
            with suppress(_AnewError):  # The server has forgotten the session, and gets another one.
                return await self._answer(live, listing, limit, "list its tools")
        raise ToolFailedError(f"{self.server} loses its session again and again")

    async def call(self, tool: str, args: dict[str, Json], asker: Asker) -> types.CallToolResult:
        """Call a tool by the server's name for it.

        Raises:
            ToolFailedError: If the server does not start, answer in time, or says that it failed.
            ConnectionError: If it ended during the call.
            Exception: What ``asker`` raises if there is no answer yet; the call is then cancelled.
        """
        kept = asker.kept
        result = None if kept is None else _RESULT.validate_python(kept)
        while not isinstance(result, types.CallToolResult):
            answers: dict[str, Any] = {}
            if isinstance(result, types.InputRequiredResult):
                responses = await self._fill_in(tool, result, asker)
                answers = {"input_responses": responses, "request_state": result.request_state}
            try:
                result = await self._made(tool, args, asker, answers)
            except _RefusedError:
                if asker.kept is None:
                    raise
                asker.begin_anew()  # The server was restarted, and does not know its own state any more.
                result = None
        return result

    async def close(self) -> None:
        """End the server, if it runs, and return when it and its predecessors are gone."""
        for start in self._starting:
            start.cancel()
        if self._live is not None:
            self._end(self._live, _STOPPED)
        if waited := [*self._ending, *self._starting]:
            await asyncio.wait(waited)

    # --- one session -----------------------------------------------------------------------

    async def _ready(self) -> _Live:
        async with self._lock:
            if self._live is None or self._live.is_over:
                if self._live is not None:
                    self._end(self._live, "it ended")
                start = asyncio.create_task(self._start())
                self._starting.add(start)
                start.add_done_callback(self._starting.discard)
                self._live = await start
            live = self._live
        if live.doubt is not None:
            await asyncio.wait([live.doubt])
            if live.is_over:
                return await self._ready()
        return live

    async def _start(self) -> _Live:
        words = LastWords()
        way = Way(self.server, words)
        mode = "legacy" if self.server.protocol == "legacy" else "auto"
        client: Client[Any] = Client(
            way,
            mode=mode,
            client_info=types.Implementation(name="plan-execute", version="1"),
            message_handler=words.take_garbage,
            log_handler=_drop,
            elicitation_handler=self._elicited,
        )
        live = _Live(client, way, words)
        try:
            async with asyncio.timeout(self.server.start_timeout_s):
                await client.__aenter__()  # type: ignore[no-untyped-call]
        except TimeoutError:
            reason = f"it was not ready within {self.server.start_timeout_s:g} s"
        except asyncio.CancelledError:
            self._end(live, _STOPPED)
            raise
        except Exception as error:
            reason = way.reason(error)
        else:
            return live
        self._end(live, reason)
        await words.spoken()
        raise self._failed("cannot be used", reason, words)

    def _end(self, live: _Live, why: str, after: Iterable[_Call] = ()) -> None:
        if not live.why:
            live.why = why
            task = asyncio.create_task(live.close(list(after)))
            self._ending.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        if not task.cancelled():
            task.exception()  # The error at a session's end has been reported where it mattered.

    # --- one call --------------------------------------------------------------------------

    async def _made(
        self, tool: str, args: dict[str, Json], asker: Asker, answers: Mapping[str, Any]
    ) -> types.CallToolResult | types.InputRequiredResult:
        """Make the call; again if it was not made, or must be made later."""
        taken_back = 0
        while True:
            try:
                if not self._one_at_a_time:
                    return await self._call(await self._ready(), tool, args, asker, answers)
                async with self._turn:
                    return await self._call(await self._ready(), tool, args, asker, answers)
            except _AnewError:
                taken_back += 1
                if taken_back > _MOST_TAKEN_BACK:
                    raise ToolFailedError(
                        f"{tool}: {self.server} loses its session again and again"
                    ) from None
                if not answers:
                    asker.begin_anew()
            except _AskFirstError as first:
                if None in await asker.ask(first.questions):
                    raise ToolFailedError(f"{tool}: the person did not do what {self.server} asks") from None

    async def _call(
        self, live: _Live, tool: str, args: dict[str, Json], asker: Asker, answers: Mapping[str, Any]
    ) -> types.CallToolResult | types.InputRequiredResult:
        call, session = _Call(asker), live.client.session
        params = types.CallToolRequestParams(name=tool, arguments=args, **answers)
        # Not session.call_tool: its check of the result would report a completed write as failed.
        sent = session.send_request(
            types.CallToolRequest(params=params), _RESULT, progress_callback=asker.tell
        )
        live.calls.add(call)
        token = _CALL.set(call)
        try:
            what = f"answer a call of {tool}"
            return await self._answer(live, sent, self.server.call_timeout_s, what, call.stopped)
        finally:
            _CALL.reset(token)
            live.calls.discard(call)
            call.over.set()
            if call.stopped.done():
                call.stopped.exception()
            async with self._asking:
                self._asking.notify_all()

    async def _answer(
        self,
        live: _Live,
        asked: Coroutine[Any, Any, T],
        limit: float,
        what: str,
        stopped: asyncio.Future[None] | None = None,
    ) -> T:
        """Await an answer, a stop of the call, or the time limit; whichever is first."""
        lost, context = asyncio.Event(), copy_context()
        context.run(SESSION_LOST.set, lost)
        answer = asyncio.create_task(asked, context=context)
        first: list[asyncio.Future[Any]] = [answer] if stopped is None else [answer, stopped]
        try:
            await asyncio.wait(first, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return await self._read(live, answer, lost)
            if stopped is not None and stopped.done():
                stopped.result()
            late = f"it did not {what} within {limit:g} s"
            raise self._failed("gave no answer", late, live.words, is_answer=False)
        finally:
            if not answer.done():
                answer.cancel()  # The client tells the server.
                if self.server.transport == "stdio" and live.doubt is None:
                    live.doubt = asyncio.create_task(self._look_after(live))
                await asyncio.wait([answer])

    async def _read(self, live: _Live, answer: asyncio.Task[T], lost: asyncio.Event) -> T:
        error = answer.exception()
        if error is None:
            return answer.result()
        code = error.code if isinstance(error, MCPError) else None
        if code == types.URL_ELICITATION_REQUIRED:
            raise _AskFirstError(self._addresses(error.data))  # type: ignore[attr-defined]
        # An accepted call may have been made, even if a later message came too late.
        if lost.is_set() and code != types.CONNECTION_CLOSED:
            self._end(live, "it does not know the session any more", after=live.calls)
            raise _AnewError
        if code == types.CONNECTION_CLOSED:
            await live.words.spoken()
            closed = "it closed the connection" if live.way.fault is None else live.way.reason(error)
            reason = live.why or closed
            self._end(live, reason)
            said = f"{self.server} ended during the call: {reason}{live.words}"
            raise ConnectionError(run_redactor().text(said))
        if isinstance(error, MCPError):
            refused = self._failed("refused", live.way.reason(error), live.words)
            raise _RefusedError(str(refused)) from error
        odd = "gave an answer that is not MCP"
        raise self._failed(odd, short(error), live.words, is_answer=False) from error

    async def _look_after(self, live: _Live) -> None:
        """End a program that does not react after a call was cancelled."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await live.client.session.list_tools()
        except Exception as error:
            self._end(live, f"it did not answer after a call was cancelled ({short(error)})")
        finally:
            live.doubt = None

    def _failed(self, how: str, reason: str, words: LastWords, *, is_answer: bool = True) -> ToolFailedError:
        said = run_redactor().text(f"{self.server} {how}: {reason}{words}")
        return ToolFailedError(said, is_answer=is_answer)

    # --- servers that ask ------------------------------------------------------------------

    async def _fill_in(
        self, tool: str, result: types.InputRequiredResult, asker: Asker
    ) -> dict[str, types.ElicitResult] | None:
        """Answer a server of the newer protocol, which ends the call with its question."""
        wanted = result.input_requests or {}
        if not wanted:
            await asyncio.sleep(_PACE_S)
            return None
        if others := [one for one in wanted.values() if not isinstance(one, types.ElicitRequest)]:
            raise ToolFailedError(
                f"{tool}: {self.server} asks for {others[0].method}, which is not supported"
            )
        questions = [self._question(one.params) for one in wanted.values()]
        replies = await asker.ask(questions, result.model_dump(mode="json", by_alias=True, exclude_none=True))
        return {name: _as_result(reply) for name, reply in zip(wanted, replies, strict=True)}

    async def _elicited(self, *asked: Any) -> ElicitResult[Any]:
        """Answer a server of the older protocol, which asks during the call."""
        _, _, params, _ = asked
        call = _CALL.get() or await self._asking_call()
        reply = None if call is None else await call.reply(self._question(params))
        return ElicitResult(**_as_result(reply).model_dump())

    async def _asking_call(self) -> _Call | None:
        """Find the call that a program asks about: over stdio nothing says which one.

        Calls that do not ask come to their end. If as many questions as calls remain, they fail: one that
        asks twice looks like two that ask, and one that does not ask may be in the middle of a write.
        """
        live = self._live
        assert live is not None
        async with self._asking:
            self._undecided += 1
            try:
                self._asking.notify_all()
                await self._asking.wait_for(lambda: self._undecided >= len(live.standing()))
                standing = live.standing()
                if len(standing) == 1:
                    return standing[0]
                self._one_at_a_time = self._one_at_a_time or bool(standing)
                why = (
                    f"{self.server} asked a question during {len(standing)} calls, but did not say which of "
                    'them it is about; with "protocol": "legacy" calls are made one at a time'
                )
                for call in standing:
                    call.stopped.set_exception(ConnectionError(why))
            finally:
                self._undecided -= 1
        await asyncio.gather(*(call.over.wait() for call in live.calls))
        return None

    def _question(self, params: Any) -> ToolQuestion:
        schema = getattr(params, "requested_schema", None) or {}
        return ToolQuestion(
            params.message, str(self.server), dict(schema), str(getattr(params, "url", "") or "")
        )

    def _addresses(self, data: Any) -> list[ToolQuestion]:
        try:
            named = types.ElicitationRequiredErrorData.model_validate(data).elicitations
        except ValidationError as error:
            raise self._failed("refused", "it wants an address opened but names none", LastWords()) from error
        return [self._question(params) for params in named]


async def _drop(_: object) -> None:
    """Take a server's log messages, which are for the server's operator."""


def _as_result(reply: Reply) -> types.ElicitResult:
    if reply is None:
        return types.ElicitResult(action="decline")
    return types.ElicitResult(action="accept", content=dict(reply))


async def _listed(client: Client[Any]) -> list[BaseTool]:
    """List the tools with the forms of their outputs, which langchain.mcp leaves out."""
    tools: list[BaseTool] = []
    params: types.PaginatedRequestParams | None = None
    for _ in range(_MOST_PAGES):
        try:
            page = await client.session.list_tools(params=params)
        except MCPError as error:
            if error.code == types.METHOD_NOT_FOUND:
                return []  # A server with only resources or prompts.
            raise
        for found in page.tools:
            tool = await as_langchain_tool(found, client)
            if found.output_schema:
                tool.metadata = {**(tool.metadata or {}), OUTPUT_SCHEMA: _unwrapped_form(found.output_schema)}
            tools.append(tool)
        if not page.next_cursor:
            return tools
        params = types.PaginatedRequestParams(cursor=page.next_cursor)
    raise ConnectionError(f"the list of tools has more than {_MOST_PAGES} pages")


def _unwrapped_form(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the form of a value that a server wraps into ``{"result": value}``, as the call returns it."""
    fields = schema.get("properties") or {}
    return {**fields["result"], "$defs": schema.get("$defs", {})} if set(fields) == {"result"} else schema
