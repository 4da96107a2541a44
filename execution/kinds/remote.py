"""Ask a graph on another LangGraph server, so that a crash here does not repeat its work there.

Each attempt has a thread of its own on that server, under an id that every process can derive. On re-entry
the state of this thread decides: the program waits for the run, answers its question or takes its result, but
never starts it twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import httpx
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphInterrupt
from langgraph.pregel.remote import RemoteGraph
from langgraph.types import Command, StateSnapshot

from ...errors import ToolFailedError
from ...langgraph_private import NAMESPACE, STREAM
from ...models.retrying import retry_transient
from ...people.asking import ask_anything
from ...run import StepScope
from ...safety.redaction import Redactor

__all__ = ["ask_remote"]

_UNDER_WAY = ("pending", "running")
_JOINS = 6
"""How often to wait again for a remote run after the connection broke."""


async def ask_remote(
    graph: RemoteGraph,
    messages: Sequence[BaseMessage],
    *,
    key: str,
    name: str,
    scope: StepScope,
    config: RunnableConfig,
) -> dict[str, Any]:
    """Have the remote graph answer ``messages``, and return the values of its state.

    Args:
        key: Names this attempt: the same in every process and after every crash.
        name: The agent's name in plans.

    Raises:
        ToolFailedError: If the run there failed, or the server cannot be used.
        langgraph.errors.GraphInterrupt: While a person is being asked what it asks.
    """
    talk = _Conversation(graph, str(uuid5(NAMESPACE_URL, key)), name, scope, config)
    state = await talk.state()
    if state is None:
        await talk.say({"messages": list(messages)})
    while True:
        state = await talk.settled_state()
        if state.interrupts:
            await talk.pass_on_answers(state)
        elif state.next:
            await talk.say(None)  # The server stopped during the run.
        else:
            return dict(state.values)


class _Conversation:
    """One thread on the other server."""

    def __init__(
        self, graph: RemoteGraph, thread_id: str, name: str, scope: StepScope, config: RunnableConfig
    ) -> None:
        self._graph, self._thread_id, self._name, self._scope = graph, thread_id, name, scope
        inherited = config["configurable"]
        passed = {key: inherited[key] for key in (STREAM, NAMESPACE) if key in inherited}
        self._config: RunnableConfig = {"configurable": {**passed, "thread_id": thread_id}}
        self._address: RunnableConfig = {"configurable": {"thread_id": thread_id}}

    async def state(self) -> StateSnapshot | None:
        """Return the thread's state; None if there is no such thread."""
        try:
            # The client itself tries for eight seconds to connect.
            return await retry_transient(lambda: self._graph.aget_state(self._address), tries=2)
        except httpx.HTTPStatusError as error:
            if error.response.status_code == httpx.codes.NOT_FOUND:
                return None
            raise

    async def say(self, given: Any) -> None:
        """Run the thread with an input or a command until it ends or asks, or the connection breaks."""
        begun: list[Any] = []
        try:
            # If this process dies, that must not stop a write there: the next process waits for it.
            stream = self._graph.astream(
                given,
                self._config,
                stream_mode="values",
                on_disconnect="continue",
                # The client reconnects after a broken connection, and then misses no event.
                stream_resumable=True,
                on_run_created=begun.append,
            )
            async for _ in stream:
                pass
        except GraphInterrupt:
            return  # The state holds the question.
        except httpx.TransportError:
            # The run continues there, so wait for it and do not start another.
            if not begun and not await self._is_under_way():
                raise
        except asyncio.CancelledError:
            await asyncio.shield(self._cancel())
            raise

    async def settled_state(self) -> StateSnapshot:
        """Wait until the thread has no active run, and return its state.

        Raises:
            ToolFailedError: If its last run failed.
        """
        client = self._client()
        runs = await retry_transient(lambda: client.runs.list(self._thread_id, limit=1))
        if runs and runs[0]["status"] in _UNDER_WAY:
            run_id = runs[0]["run_id"]
            try:
                await retry_transient(lambda: client.runs.join(self._thread_id, run_id), tries=_JOINS)
            except asyncio.CancelledError:
                await asyncio.shield(self._cancel())
                raise
            runs = await retry_transient(lambda: client.runs.list(self._thread_id, limit=1))
        state = await self.state()
        if state is None or (runs and runs[0]["status"] in ("error", "timeout")):
            fault = _fault(state, self._scope.run.redactor)
            raise ToolFailedError(f"agent {self._name}: the remote run failed: {fault}")
        return state

    async def pass_on_answers(self, state: StateSnapshot) -> None:
        """Ask a person all questions of the remote graph at once, and send the answers."""
        answers, open_ = {}, []
        for question in sorted(state.interrupts, key=lambda one: one.id):
            key = [self._thread_id, question.id]
            try:
                answers[question.id] = await ask_anything(
                    self._scope.run, key, question.value, None, self._scope.step_id
                )
            except GraphInterrupt as stop:
                open_ += stop.args[0]
        if open_:
            raise GraphInterrupt(tuple(open_))
        await self.say(Command(resume=answers))

    async def _is_under_way(self) -> bool:
        """Tell whether a run of the thread is active there, as far as the server can be asked."""
        client = self._client()
        with suppress(httpx.HTTPError):
            runs = await retry_transient(lambda: client.runs.list(self._thread_id, limit=1))
            return bool(runs) and runs[0]["status"] in _UNDER_WAY
        return False

    async def _cancel(self) -> None:
        client = self._client()
        with suppress(httpx.HTTPError):  # A server that cannot be reached cannot cancel.
            for run in await client.runs.list(self._thread_id, limit=1):
                if run["status"] in _UNDER_WAY:
                    await client.runs.cancel(self._thread_id, run["run_id"])

    def _client(self) -> Any:
        if self._graph.client is None:
            raise ToolFailedError(f"agent {self._name}: its RemoteGraph needs an async client, or a url")
        return self._graph.client


def _fault(state: StateSnapshot | None, redactor: Redactor) -> str:
    faults = [str(task.error) for task in state.tasks if task.error] if state is not None else []
    return redactor.text(faults[0])[:500] if faults else "it gives no reason"
