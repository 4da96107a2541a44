"""Count the calls of models that others than we make for a step: middleware, and agents that are not ours.

LangChain tells callbacks of each call, of decision models as of links of a chain. Our own calls are counted
where they are made, and whoever runs inside a tool counts for itself.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackManager
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import LLMResult
from langchain_core.runnables import RunnableConfig

from ..spending.budget import Tab

__all__ = ["CallsCounter", "MiddlewareCalls", "counting", "with_counter"]

_COUNTING: ContextVar[Tab | None] = ContextVar("counting", default=None)
"""Where calls of models that middleware makes are counted; None: no middleware makes calls here."""


@contextmanager
def counting(tab: Tab | None) -> Iterator[None]:
    """Have the calls of models in the body counted on a tab; None: not by callbacks."""
    token = _COUNTING.set(tab)
    try:
        yield
    finally:
        _COUNTING.reset(token)


class CallsCounter(AsyncCallbackHandler):
    """Counts all calls of models against the budgets of the run that a tab belongs to."""

    raise_error = True
    """A budget that is used up ends who makes the calls."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab
        self._loop = asyncio.get_running_loop()

    def __getattribute__(self, name: str) -> Any:
        """Give a thread what it waits for; where code blocks the event loop, refuse a call at once.

        In both cases langchain-core 1.8.3 would lose what a coroutine raises.
        """
        found = super().__getattribute__(name)
        if name in _TOLD and _in_a_thread():
            return partial(self._wait_for, found)
        if name in _STARTS and self.counts and (error := self.tab.exhausted()):
            raise error
        return found

    def _wait_for(self, told: Callable[..., Coroutine[Any, Any, None]], *args: Any, **details: Any) -> None:
        asyncio.run_coroutine_threadsafe(told(*args, **details), self._loop).result()

    @property
    def counts(self) -> bool:
        """Whether a call that begins now is to be counted."""
        return True

    async def on_chat_model_start(
        self, serialized: dict[str, Any], messages: list[list[BaseMessage]], *, run_id: UUID, **details: Any
    ) -> None:
        """Allow a call."""
        del serialized
        await self._begin(run_id, [one for some in messages for one in some], details)

    async def on_llm_start(
        self, serialized: dict[str, Any], prompts: list[str], *, run_id: UUID, **details: Any
    ) -> None:
        """Allow a call."""
        del serialized
        await self._begin(run_id, [HumanMessage(one) for one in prompts], details)

    async def on_chain_start(
        self, serialized: dict[str, Any], inputs: Any, *, run_id: UUID, **details: Any
    ) -> None:
        """Allow a call, if it is one: langchain-core 1.8.3 tells of decision models in this way."""
        del serialized
        if details.get("run_type") == "llm":
            asked = json.dumps(inputs, default=str, ensure_ascii=False)
            await self._begin(run_id, [HumanMessage(asked)], details)

    async def _begin(self, call: UUID, messages: list[BaseMessage], details: Mapping[str, Any]) -> None:
        if not self.counts:
            return
        name = str((details.get("metadata") or {}).get("ls_model_name") or "")
        if asyncio.get_running_loop() is self._loop:
            await self.tab.begin_call(call, "executor", messages, name)
        else:  # the run's loop is blocked until this returns
            self.tab.begin_blocking_call(call, "executor", name)

    async def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        """Count what it used."""
        generations = [one for some in response.generations for one in some]
        said = next((getattr(one, "message", None) for one in generations), None)
        await self.tab.end_call(run_id, said if isinstance(said, AIMessage) else None)

    async def on_chain_end(self, outputs: Any, *, run_id: UUID, **_: Any) -> None:
        """Count what a decision model used."""
        used, name = getattr(outputs, "usage", None), getattr(outputs, "model", "")
        said = AIMessage("", usage_metadata=used, response_metadata={"model_name": name})
        await self.tab.end_call(run_id, said)

    async def on_llm_error(self, *_: Any, run_id: UUID, **__: Any) -> None:
        """Count a call that failed."""
        await self.tab.end_call(run_id, None)

    async def on_chain_error(self, *_: Any, run_id: UUID, **__: Any) -> None:
        """Count a call that failed."""
        await self.tab.end_call(run_id, None)


_STARTS = frozenset({"on_chat_model_start", "on_llm_start"})
_TOLD = frozenset(name for name in vars(CallsCounter) if name.startswith("on_"))


def _in_a_thread() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return True
    return False


class MiddlewareCalls(CallsCounter):
    """Counts the calls that are made for a step and counted nowhere else: those of middleware."""

    @property
    def counts(self) -> bool:
        """Whether a call that begins now is to be counted; what runs inside a tool inherits callbacks."""
        return _COUNTING.get() is self.tab


def with_counter(config: RunnableConfig, counter: CallsCounter) -> RunnableConfig:
    """Return a config whose calls of models a counter is told of."""
    callbacks = config.get("callbacks")
    if isinstance(callbacks, BaseCallbackManager):
        manager = callbacks.copy()
        manager.add_handler(counter, inherit=True)
        return {**config, "callbacks": manager}
    return {**config, "callbacks": [*(callbacks or []), counter]}
