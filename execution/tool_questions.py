"""Let the tool of a bound step ask a person with LangGraph's ``interrupt``.

LangGraph assigns answers by their position in a task. So a tool that asks is called in a graph of its own,
whose namespace is that of the call. Its answers are only for it, and many items of a loop can ask at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import cache
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphInterrupt, is_invalid_resume
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, Interrupt
from typing_extensions import TypedDict

from ..people.asking import ask_anything
from ..people.questions import question_id
from ..run import StepScope
from ..state import digest
from ..storage.ids import CallId
from ..storage.rows import dump
from .kinds.agent import nested_config

__all__ = ["call_and_let_ask"]

Json = Any
Make = Callable[[RunnableConfig], Awaitable[Json]]
_MAKE_KEY = "__plan_execute_make"


async def call_and_let_ask(scope: StepScope, call: CallId, config: RunnableConfig, make: Make) -> Json:
    """Await ``make(config)``, in a graph of its own if it asks a person.

    Raises:
        langgraph.errors.GraphInterrupt: While a person is being asked.
    """
    asked = await scope.run.ledger.tool_question(call) if scope.run.resumed else None
    if asked is None:
        try:
            return await make(config)
        except GraphInterrupt as stop:
            if not _asked_by_itself(stop, config):
                raise
    return await _Asking(scope, call).output(config, make, asked)


class _Asking:
    """A call whose tool asks: its questions get our ids, and their answers are stored under these."""

    def __init__(self, scope: StepScope, call: CallId) -> None:
        self._scope, self._run, self._call = scope, scope.run, call

    async def output(self, config: RunnableConfig, make: Make, asked: dict[str, Any] | None) -> Json:
        """Call the tool again with one more answer each time, until it returns."""
        artifacts, record = self._run.artifacts, await self._run.effects.find(self._call)
        start = record.starts if record is not None else 0

        async def made(inner: RunnableConfig) -> Json:
            try:
                return await artifacts.put_away(await make(inner))
            except GraphInterrupt as stop:
                # The graph stores the question, so it must not contain a secret.
                asked = stop.args[0] if stop.args else ()
                raise GraphInterrupt(
                    tuple(replace(one, value=self._run.redact(one.value)) for one in asked)
                ) from None

        nested = nested_config(config, self._scope, call=digest([self._call.row_key, start])[:32])
        nested["configurable"][_MAKE_KEY] = made
        durability: dict[str, Any] = {"durability": "sync"} if self._run.can_ask else {}
        # A tool that still waits is not called just to ask again.
        given: Any = (
            {"begun": True} if asked is None or asked["start"] != start else await self._answers(asked)
        )
        while True:
            try:
                final = await _call_graph().ainvoke(given, nested, **durability)
                return await artifacts.value(final["output"], self._scope.step_id)
            except GraphInterrupt as stop:
                # A graph within the tool may ask several at once.
                row = {"start": start, "questions": [_on_record(one) for one in stop.args[0]]}
                await self._record(row)
                given = await self._answers(row)
            except Exception as error:
                if is_invalid_resume(error) and isinstance(given, Command):
                    for native_id in dict(given.resume or {}):
                        own_id = question_id(self._run.ledger.thread_id, self._key(native_id))
                        await self._run.ledger.forget_answer(own_id)
                raise

    async def _answers(self, asked: dict[str, Any]) -> Command[Any]:
        """Return the answers to all questions; while one is missing, ask all unanswered ones."""
        answers, missing = dict[str, Any](), list[Interrupt]()
        for one in asked.get("questions") or [asked]:  # Earlier versions stored one.
            key, step_id = self._key(one["id"]), self._scope.step_id
            try:
                answers[one["id"]] = await ask_anything(self._run, key, one["value"], one["schema"], step_id)
            except GraphInterrupt as stop:
                missing += stop.args[0]
        if missing:
            raise GraphInterrupt(tuple(missing))
        return Command(resume=answers)

    def _key(self, native_id: str) -> list[str]:
        return [self._call.work.plan_id, self._call.row_key, native_id]

    async def _record(self, row: dict[str, Any]) -> None:
        """Record the tool's questions if they are plain JSON; otherwise the tool is called to ask again."""
        try:
            dump(row)
        except (TypeError, ValueError, RecursionError):
            return
        await self._run.ledger.record_tool_question(self._call, row)


def _on_record(question: Interrupt) -> dict[str, Any]:
    return {"id": question.id, "value": question.value, "schema": question.response_schema}


def _asked_by_itself(stop: GraphInterrupt, config: RunnableConfig) -> bool:
    """Tell the tool's questions from those of a graph within it, which finds its own answers."""
    namespace = str(config["configurable"]["checkpoint_ns"])
    own = Interrupt.from_ns(None, namespace).id
    return any(question.id == own for question in (stop.args[0] if stop.args else ()))


class _CallState(TypedDict, total=False):
    begun: bool
    output: Json


async def _call(_: _CallState, config: RunnableConfig) -> _CallState:
    made: Make = config["configurable"][_MAKE_KEY]
    return {"output": await made(config)}


@cache
def _call_graph() -> CompiledStateGraph[Any, Any, Any, Any]:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(_CallState)
    builder.add_node("call", _call)  # type: ignore[call-overload]
    builder.add_edge(START, "call")
    builder.add_edge("call", END)
    return builder.compile(name="asking tool")
