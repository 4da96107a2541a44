"""The compiled graph with what an agent was built with; the door and what stands around it see this of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from langchain_core.messages.utils import convert_to_messages
from langchain_core.runnables import RunnableConfig
from langgraph.graph.state import CompiledStateGraph
from langgraph.store.memory import InMemoryStore
from langgraph.types import Interrupt, StateSnapshot

from ..context import Context
from ..models.chat import ChatModels
from ..people.chat import current_question
from ..run import StopSignal
from ..spending.prices import PriceTable
from ..state import InputState, OutputState, State
from ..storage.adapters import async_saver, async_store
from ..storage.plan_cache import PlanCache
from ..tools.toolbox import Toolbox

__all__ = ["CompiledAgent"]


class CompiledAgent(CompiledStateGraph[State, Context, InputState, OutputState]):
    """LangGraph's compiled graph, and what an agent was built with.

    Args:
        models: The chat models by role.
        toolbox: The tools, with their effects.
        memory: Where the ledger is kept while the graph has no store.
        running: The runs under way: the thread's id, and what tells the run to stop; copies share it.
        plan_cache: How plans that worked are kept and used again; None: they are not.
        prices: What model calls cost; None: what is known of list prices.
        kwargs: What a compiled graph is made of.
    """

    def __init__(
        self,
        *,
        models: ChatModels,
        toolbox: Toolbox,
        memory: InMemoryStore | None = None,
        running: set[tuple[str, StopSignal]] | None = None,
        plan_cache: PlanCache | None = None,
        prices: PriceTable | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs["checkpointer"] = async_saver(kwargs.get("checkpointer"))
        kwargs["store"] = async_store(kwargs.get("store"))
        super().__init__(**kwargs)
        self.models = models
        self.toolbox = toolbox
        self.memory = memory or InMemoryStore()
        self.running = set() if running is None else running
        self.plan_cache = plan_cache
        self.prices = prices or PriceTable()

    def get_state(self, config: RunnableConfig, *, subgraphs: bool = False) -> StateSnapshot:
        """Return the thread's state."""
        return _question_last(super().get_state(config, subgraphs=subgraphs))

    async def aget_state(self, config: RunnableConfig, *, subgraphs: bool = False) -> StateSnapshot:
        """Return the thread's state."""
        return _question_last(await super().aget_state(config, subgraphs=subgraphs))

    def get_state_history(self, config: RunnableConfig, **options: Any) -> Iterator[StateSnapshot]:
        """Return the states of the thread, newest first."""
        return map(_question_last, super().get_state_history(config, **options))

    async def aget_state_history(
        self, config: RunnableConfig, **options: Any
    ) -> AsyncIterator[StateSnapshot]:
        """Return the states of the thread, newest first."""
        async for snapshot in super().aget_state_history(config, **options):
            yield _question_last(snapshot)


def _question_last(snapshot: StateSnapshot) -> StateSnapshot:
    """Put the question that an answer without an id is for where clients of chat look.

    LangGraph's ``useStream`` shows the last interrupt of the last task, and no other.
    """
    if not snapshot.interrupts or not isinstance(snapshot.values, dict):
        return snapshot
    # A server reads messages and interrupts as JSON here.
    messages: list[Any] = convert_to_messages(snapshot.values.get("messages") or [])
    shown = current_question([_interrupt(one) for one in snapshot.interrupts], messages)

    def is_shown(one: Any) -> bool:
        return shown is not None and _interrupt(one).id == shown.id

    tasks = [
        task._replace(interrupts=tuple(sorted(task.interrupts, key=is_shown))) for task in snapshot.tasks
    ]
    tasks.sort(key=lambda task: any(map(is_shown, task.interrupts)))
    return snapshot._replace(tasks=tuple(tasks))


def _interrupt(one: Any) -> Interrupt:
    return Interrupt(value=one.get("value"), id=one["id"]) if isinstance(one, dict) else one
