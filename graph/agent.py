"""The compiled agent: LangGraph's graph with a door in front of it.

Every run enters through ``stream`` or ``astream`` (``invoke`` and ``ainvoke`` call them, and so does
``langgraph dev``). The door refuses what a node could not refuse, takes the thread's lock, and gives the run
what it holds in memory.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager
from typing import TYPE_CHECKING, Any, Literal, overload

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config
from langgraph.store.base import BaseStore
from langgraph.types import All, Command, Durability, GraphOutput, StreamMode, StreamPart
from typing_extensions import TypedDict, Unpack

from ..context import Context
from ..errors import InvalidAnswerError
from ..events import Event
from ..langgraph_private import READ, SAVER, is_served, keeps_subgraphs_apart
from ..people.answers import wrong_answers_named
from ..run import run_of
from ..safety.stream import RedactedStream
from ..state import InputState, OutputState, State
from ..storage.adapters import AsyncSaver, AsyncStore, HeldThread
from ..tools.threads import run_to_end
from .compiled import CompiledAgent
from .control import without_open_run
from .door.chat import LastValues, tell_question
from .door.enter import Entry, enter
from .loop import iterate
from .outputs import exact_output, output_of_step
from .streams import AsyncPlanRun, PlanRun

__all__ = ["PlanExecuteAgent"]

Input = InputState | Mapping[str, Any] | Command[Any] | None
"""A goal, a conversation or a plan; answers; or None to continue."""
Settings = Context | Mapping[str, Any] | None
"""Settings, or their fields; None means the settings that the thread was started with."""
Config = RunnableConfig | None


class StreamOptions(TypedDict, total=False):
    """Options that do not change the types of a stream's parts."""

    context: Settings
    subgraphs: Literal[False]
    version: Literal["v1"]
    durability: Durability | None
    interrupt_before: All | Sequence[str] | None
    interrupt_after: All | Sequence[str] | None
    print_mode: StreamMode | Sequence[StreamMode]
    debug: bool | None


class PlanExecuteAgent(CompiledAgent):
    """A plan-and-execute agent; use it as any compiled LangGraph graph, sync or async."""

    if TYPE_CHECKING:
        # LangGraph declares the return types of these as Any.

        @overload  # type: ignore[override]  # one way less: a list of parts
        def invoke(
            self,
            input: Input,
            config: RunnableConfig | None = None,
            *,
            context: Settings = None,
            version: Literal["v2"],
            **kwargs: Any,
        ) -> GraphOutput[OutputState]: ...
        @overload
        def invoke(
            self,
            input: Input,
            config: RunnableConfig | None = None,
            *,
            context: Settings = None,
            **kwargs: Any,
        ) -> OutputState: ...
        def invoke(self, *args: Any, **kwargs: Any) -> Any:
            """Run the graph to its end, or to its next question; see :meth:`astream`."""

        @overload  # type: ignore[override]  # one way less: a list of parts
        async def ainvoke(
            self,
            input: Input,
            config: RunnableConfig | None = None,
            *,
            context: Settings = None,
            version: Literal["v2"],
            **kwargs: Any,
        ) -> GraphOutput[OutputState]: ...
        @overload
        async def ainvoke(
            self,
            input: Input,
            config: RunnableConfig | None = None,
            *,
            context: Settings = None,
            **kwargs: Any,
        ) -> OutputState: ...
        async def ainvoke(self, *args: Any, **kwargs: Any) -> Any:
            """Run the graph to its end, or to its next question; see :meth:`astream`."""

    if TYPE_CHECKING:

        @overload  # type: ignore[override]  # LangGraph's own knows nothing of plans
        def stream_events(
            self,
            input: Input,
            config: Config = None,
            *,
            version: Literal["v3"],
            context: Settings = None,
            **kwargs: Any,
        ) -> PlanRun: ...
        @overload
        def stream_events(self, input: Any, config: Config = None, **kwargs: Any) -> Iterator[Any]: ...
        def stream_events(self, *args: Any, **kwargs: Any) -> Any:
            """Follow a run by its plan, its steps and its questions."""

        @overload  # type: ignore[override]
        def astream_events(
            self,
            input: Input,
            config: Config = None,
            *,
            version: Literal["v3"],
            context: Settings = None,
            **kwargs: Any,
        ) -> Awaitable[AsyncPlanRun]: ...
        @overload
        def astream_events(self, input: Any, config: Config = None, **kwargs: Any) -> AsyncIterator[Any]: ...
        def astream_events(self, *args: Any, **kwargs: Any) -> Any:
            """Follow a run by its plan, its steps and its questions."""

    @overload  # type: ignore[override]  # LangGraph calls the parts of values outputs
    def astream(
        self,
        input: Input,
        config: Config = None,
        *,
        stream_mode: Literal["custom"],
        **kwargs: Unpack[StreamOptions],
    ) -> AsyncIterator[Event]: ...
    @overload
    def astream(
        self,
        input: Input,
        config: Config = None,
        *,
        stream_mode: Literal["values"],
        **kwargs: Unpack[StreamOptions],
    ) -> AsyncIterator[State]: ...
    @overload
    def astream(
        self,
        input: Input,
        config: Config = None,
        *,
        stream_mode: Literal["updates"] | None = None,
        **kwargs: Unpack[StreamOptions],
    ) -> AsyncIterator[dict[str, Any]]: ...
    @overload
    def astream(
        self, input: Input, config: Config = None, *, version: Literal["v2"], **kwargs: Any
    ) -> AsyncIterator[StreamPart[State, State]]: ...
    @overload
    def astream(self, input: Input, config: Config = None, **kwargs: Any) -> AsyncIterator[Any]: ...
    async def astream(
        self, input: Any, config: RunnableConfig | None = None, *, context: Any = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """Run the graph, or continue a run.

        Args:
            input: ``{"goal": …}``, ``{"messages": […]}``, ``{"plan": …, "inputs": …}``; a
                ``Command(resume=…)`` with answers; or None to continue after a stop. A message that comes
                while a question is open is its answer. A new goal is refused while a run is open, unless
                it says ``"abandon": True`` or is a message after a stop: then that run is ended first, as
                ``cancel_run`` does.
            config: LangGraph's config; ``thread_id`` names the thread.
            context: A :class:`~plan_execute.Context` or its fields; None and ``{}`` mean the
                settings the thread was started with.
            kwargs: LangGraph's ``stream_mode``, ``subgraphs``, ``durability`` and so on. Parts of the mode
                ``custom`` are `Event`s and what tools write there. The durability ``async`` is treated as
                ``sync``; only ``exit`` gives up the promises about crashes.

        Raises:
            ThreadError: If the thread is busy, unknown, unfinished or finished, or an answer does not fit.
            InvalidInputError: If the input has no goal or the wrong form.
            ConfigurationError: If a setting is wrong, or a model is needed and missing.
        """
        input, config = await without_open_run(self, input, ensure_config(self.with_bound(config)), context)
        modes: Any = kwargs.get("stream_mode") or self.stream_mode
        to_chat = is_served(config) and not keeps_subgraphs_apart(config)
        values = LastValues(modes, bool(kwargs.get("subgraphs")), served=to_chat)
        if values.make_a_chat:
            modes = kwargs["stream_mode"] = [*modes, "custom"]
        given, refusal = input, ""
        while True:
            entering = enter(self, given, config, context, heard="custom" in _listed(modes), refusal=refusal)
            try:
                async with aclosing(self._entered(entering, values, kwargs)) as chunks:
                    async for chunk in chunks:
                        yield chunk
                return
            except InvalidAnswerError as error:
                if refusal or not is_served(config) or READ in (config.get("configurable") or {}):
                    raise
                # An error would hide the open question from clients, so it is asked again.
                given, refusal = None, str(error)

    async def _entered(
        self, entering: AbstractAsyncContextManager[Entry], values: LastValues, kwargs: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        """Run the graph once, from the door to the final question or answer."""
        async with entering as entry:
            # A plan must be on disk before its steps act: after a kill, a new plan would have another id,
            # under which the ledger finds no earlier work.
            if run_of(entry.config).can_ask and kwargs.get("durability") in (None, "async"):
                kwargs["durability"] = "sync"
            chunks: Any = super().astream(entry.input, entry.config, context=entry.settings, **kwargs)
            redacted = RedactedStream(run_of(entry.config).redactor)
            # This closes it while the lock and the storage exist, not later in garbage collection.
            async with aclosing(chunks) as stream:
                with wrong_answers_named(), _noticing_leave(entry.hold):
                    async for chunk in stream:
                        for cleaned in redacted.cleaned(chunk):
                            for shown in values.pass_on(cleaned):
                                yield shown
            for chunk in redacted.rest():
                yield chunk
            for chunk in values.with_question(await self._told_question(entry.config)):
                yield chunk

    async def _told_question(self, config: RunnableConfig) -> dict[str, Any] | None:
        """Write the run's final question into the conversation, and return what is new."""
        run, saver = run_of(config), config["configurable"].get(SAVER) or self.checkpointer
        may_ask = run.can_ask and not run.nested and not run.answered
        return await tell_question(self, saver, run) if may_ask else None

    @overload  # type: ignore[override]  # LangGraph calls the parts of values outputs
    def stream(
        self,
        input: Input,
        config: Config = None,
        *,
        stream_mode: Literal["custom"],
        **kwargs: Unpack[StreamOptions],
    ) -> Iterator[Event]: ...
    @overload
    def stream(
        self,
        input: Input,
        config: Config = None,
        *,
        stream_mode: Literal["values"],
        **kwargs: Unpack[StreamOptions],
    ) -> Iterator[State]: ...
    @overload
    def stream(
        self,
        input: Input,
        config: Config = None,
        *,
        stream_mode: Literal["updates"] | None = None,
        **kwargs: Unpack[StreamOptions],
    ) -> Iterator[dict[str, Any]]: ...
    @overload
    def stream(
        self, input: Input, config: Config = None, *, version: Literal["v2"], **kwargs: Any
    ) -> Iterator[StreamPart[State, State]]: ...
    @overload
    def stream(self, input: Input, config: Config = None, **kwargs: Any) -> Iterator[Any]: ...
    def stream(
        self, input: Any, config: RunnableConfig | None = None, *, context: Any = None, **kwargs: Any
    ) -> Iterator[Any]:
        """Run the graph from synchronous code, with the same parallelism as :meth:`astream`."""
        self.check_sync()
        config = ensure_config(self.with_bound(config))
        yield from iterate(self.astream(input, config, context=context, **kwargs))

    async def aget_output(
        self,
        config: RunnableConfig,
        step_id: str,
        *,
        result: Mapping[str, Any] | None = None,
        store: BaseStore | None = None,
    ) -> Any:
        """Return the exact output of a step, for which ``results`` may hold an artifact's handle.

        Args:
            config: Names the thread, or one of its checkpoints.
            step_id: The step.
            result: Its result, if this agent ran as a node of another graph, whose state holds it.
            store: The store of that graph.

        Raises:
            ThreadNotFoundError: If there is no such thread.
            InvalidInputError: If the plan has no such step, or the step has no result.
            ConfigurationError: If no thread is named.
            StorageDamagedError: If the output is missing from the store, or was changed.
        """
        config = self.config_of_thread(config)
        if result is not None:
            return await exact_output(self, config, result["output"], step_id, store)
        return await output_of_step(self, config, step_id)

    def get_output(self, config: RunnableConfig, step_id: str, **options: Any) -> Any:
        """Return the exact output of a step from synchronous code; see :meth:`aget_output`."""
        self.check_sync()
        return run_to_end(self.aget_output(config, step_id, **options))

    def check_sync(self) -> None:
        """Raise `ConfigurationError` if a sync call in this thread would wait for the loop that it blocks."""
        for part in (self.checkpointer, self.store):
            if isinstance(part, AsyncSaver | AsyncStore):
                part.check_sync()


@contextmanager
def _noticing_leave(hold: HeldThread | None) -> Iterator[None]:
    """Note that nobody reads the stream any more, so that who wants the thread waits until it is free."""
    try:
        yield
    except GeneratorExit:
        if hold is not None:
            hold.leaving = True
        raise


def _listed(modes: Any) -> Any:
    return [modes] if isinstance(modes, str) else modes
