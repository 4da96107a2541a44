"""Count the model calls that others make for a step: middleware, and the embedder's agents.

LangChain reports each call to callbacks, both of decision models and of links of a chain. Our own calls are
counted where they are made, and an agent that runs inside a tool counts for itself.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackManager
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import LLMResult
from langchain_core.runnables import RunnableConfig

from ..errors import BudgetExceededError
from ..spending.budget import Tab

__all__ = ["CallsCounter", "MiddlewareCalls", "counting", "with_counter"]

_log = logging.getLogger(__name__)

_COUNTING: ContextVar[Tab | None] = ContextVar("counting", default=None)
"""The tab for model calls of middleware; None if no middleware makes calls here."""


@contextmanager
def counting(tab: Tab | None) -> Iterator[None]:
    """Count the body's model calls on a tab; None: do not count by callbacks."""
    token = _COUNTING.set(tab)
    try:
        yield
    finally:
        _COUNTING.reset(token)


class CallsCounter(AsyncCallbackHandler):
    """Counts all model calls against the budgets of a tab's run."""

    raise_error = True
    """A spent budget ends the caller."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab
        self._loop = asyncio.get_running_loop()

    def __getattribute__(self, name: str) -> Any:
        """Give a thread what it waits for; refuse a call at once if code blocks the event loop.

        In both cases langchain-core 1.8.3 would lose a coroutine's exception.
        """
        found = super().__getattribute__(name)
        if name in _TOLD and _in_a_thread():
            return partial(self._wait_for, found, begins=name.endswith("_start"))
        if name in _TOLD and (error := self.no_room(name)):
            raise error
        return found

    def _wait_for(
        self, told: Callable[..., Coroutine[Any, Any, None]], *args: Any, begins: bool, **details: Any
    ) -> None:
        """Tell the run's loop, and wait. A blocked loop may itself be waiting for this thread."""
        mine, begun = threading.Lock(), threading.Event()

        async def tell() -> None:
            if mine.acquire(blocking=False):
                begun.set()
                await told(*args, **details)

        done = asyncio.run_coroutine_threadsafe(tell(), self._loop)
        in_time = begun.wait(_PATIENCE_S)
        if not in_time and not begins:
            done.add_done_callback(_log_fault)  # The loop takes in the end when it is free.
        elif not in_time and mine.acquire(blocking=False):
            _log.warning("a thread calls a model or a tool while other code blocks the event loop")
            with _ONE_AT_A_TIME:
                asyncio.run(told(*args, **details))
        else:
            done.result()

    def no_room(self, event: str) -> BudgetExceededError | None:
        """Return why a call that is about to begin may not."""
        return self.tab.exhausted() if event in _MODEL_STARTS and self.counts else None

    def on_its_loop(self) -> bool:
        """Tell whether this is the run's loop; if not, that one is blocked until this returns."""
        return asyncio.get_running_loop() is self._loop

    @property
    def counts(self) -> bool:
        """Whether to count a call that begins now."""
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
        """Allow a call, if it is one: langchain-core 1.8.3 reports decision models in this way."""
        del serialized
        if details.get("run_type") == "llm":
            asked = json.dumps(inputs, default=str, ensure_ascii=False)
            await self._begin(run_id, [HumanMessage(asked)], details)

    async def _begin(self, call: UUID, messages: list[BaseMessage], details: Mapping[str, Any]) -> None:
        if not self.counts:
            return
        name = str((details.get("metadata") or {}).get("ls_model_name") or "")
        if self.on_its_loop():
            await self.tab.begin_call(call, "executor", messages, name)
        else:
            self.tab.begin_blocking_call(call, "executor", name)

    async def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        """Count the call's usage."""
        generations = [one for some in response.generations for one in some]
        said = next((getattr(one, "message", None) for one in generations), None)
        await self.tab.end_call(run_id, said if isinstance(said, AIMessage) else None)

    async def on_chain_end(self, outputs: Any, *, run_id: UUID, **_: Any) -> None:
        """Count a decision model's usage."""
        used, name = getattr(outputs, "usage", None), getattr(outputs, "model", "")
        said = AIMessage("", usage_metadata=used, response_metadata={"model_name": name})
        await self.tab.end_call(run_id, said)

    async def on_llm_error(self, *_: Any, run_id: UUID, **__: Any) -> None:
        """Count a call that failed."""
        await self.tab.end_call(run_id, None)

    async def on_chain_error(self, *_: Any, run_id: UUID, **__: Any) -> None:
        """Count a call that failed."""
        await self.tab.end_call(run_id, None)


_MODEL_STARTS = frozenset({"on_chat_model_start", "on_llm_start"})
_TOLD = frozenset({*(name for name in vars(CallsCounter) if name.startswith("on_")), "on_tool_start"})
_PATIENCE_S = 5.0
"""How long a thread waits for an event loop that does not begin what it is told."""
_ONE_AT_A_TIME = threading.Lock()


def _log_fault(told: Future[None]) -> None:
    if not told.cancelled() and (fault := told.exception()) is not None:
        _log.error("the end of a call could not be counted", exc_info=fault)


def _in_a_thread() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return True
    return False


class MiddlewareCalls(CallsCounter):
    """Counts the calls for a step that nothing else counts: those of middleware."""

    @property
    def counts(self) -> bool:
        """Whether to count a call that begins now; a tool's inner calls inherit the callbacks."""
        return _COUNTING.get() is self.tab


def with_counter(config: RunnableConfig, counter: CallsCounter) -> RunnableConfig:
    """Return a config whose model calls are reported to a counter."""
    callbacks = config.get("callbacks")
    if isinstance(callbacks, BaseCallbackManager):
        manager = callbacks.copy()
        manager.add_handler(counter, inherit=True)
        return {**config, "callbacks": manager}
    return {**config, "callbacks": [*(callbacks or []), counter]}
