"""The compiled graph with what an agent was built with; the door and its helpers need only this."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel.protocol import PregelProtocol
from langgraph.store.memory import InMemoryStore
from langgraph.types import StateSnapshot

from ..context import Context
from ..langgraph_private import NAMESPACE, SAVER
from ..models.chat import ChatModels
from ..run import StopSignal
from ..spending.prices import PriceTable
from ..state import InputState, OutputState, State
from ..storage.adapters import async_saver, async_store
from ..storage.ids import thread_id_of
from ..storage.plan_cache import PlanCache
from ..tools.threads import run_to_end
from ..tools.toolbox import Toolbox
from .shown_state import agent_instead_of_task, declared_name, question_last, with_agents

__all__ = ["CompiledAgent"]


class CompiledAgent(CompiledStateGraph[State, Context, InputState, OutputState]):
    """LangGraph's compiled graph, and what an agent was built with.

    Args:
        models: The chat models by role.
        toolbox: The tools, with their effects.
        has_middleware: Whether its agent steps have middleware of the embedder.
        memory: The place of the ledger if the graph has no store.
        running: The active runs: the thread's id, and the request to stop; copies share it.
        plan_cache: How plans that worked are kept and used again; None if they are not.
        prices: What model calls cost; None means list prices.
        policy: Rules for every run, whatever its context says.
        kwargs: LangGraph's arguments of a compiled graph.
    """

    def __init__(
        self,
        *,
        models: ChatModels,
        toolbox: Toolbox,
        has_middleware: bool = False,
        memory: InMemoryStore | None = None,
        running: set[tuple[str, StopSignal]] | None = None,
        plan_cache: PlanCache | None = None,
        prices: PriceTable | None = None,
        policy: Context | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs["checkpointer"] = async_saver(kwargs.get("checkpointer"))
        kwargs["store"] = async_store(kwargs.get("store"))
        super().__init__(**kwargs)
        self.models = models
        self.toolbox = toolbox
        self.has_middleware = has_middleware
        self.memory = memory or InMemoryStore()
        self.running = set() if running is None else running
        self.plan_cache = plan_cache
        self.prices = prices or PriceTable()
        self.policy = policy or Context()

    def with_bound(self, config: RunnableConfig | None) -> RunnableConfig:
        """Return a config with the ``configurable`` that ``with_config`` bound."""
        given: RunnableConfig = config or {}
        if bound := (self.config or {}).get("configurable"):
            given = {**given, "configurable": {**bound, **(given.get("configurable") or {})}}
        return given

    def config_of_thread(self, config: RunnableConfig | None) -> RunnableConfig:
        """Return the same for a config that must name a thread.

        Raises:
            ConfigurationError: If no thread is named.
            InvalidInputError: If no storage could store the thread's id.
        """
        config = self.with_bound(config)
        thread_id_of(config.get("configurable") or {})
        return config

    def get_subgraphs(
        self, *, namespace: str | None = None, recurse: bool = False
    ) -> Iterator[tuple[str, PregelProtocol[Any, Any, Any, Any]]]:
        """Return the subgraphs; every attempt of the inner agent has a namespace of its own.

        Without a namespace the inner agent is shown too, because people look for it in the executor.
        """
        deep = recurse or namespace is None
        return super().get_subgraphs(namespace=declared_name(namespace), recurse=deep)

    def get_state(self, config: RunnableConfig, *, subgraphs: bool = False) -> StateSnapshot:
        """Return the state of the thread, or of an agent in it."""
        config = self.config_of_thread(config)
        if subgraphs or config["configurable"].get(NAMESPACE):
            return run_to_end(self.aget_state(config, subgraphs=subgraphs))
        return question_last(super().get_state(config))

    async def aget_state(self, config: RunnableConfig, *, subgraphs: bool = False) -> StateSnapshot:
        """Return the state of the thread, or of an agent in it."""
        config = self.config_of_thread(config)
        if SAVER in config["configurable"]:
            return question_last(await super().aget_state(config, subgraphs=subgraphs))
        config = await agent_instead_of_task(config, super().aget_state, self.checkpointer)
        snapshot = question_last(await super().aget_state(config))
        return await with_agents(snapshot, self.aget_state) if subgraphs else snapshot

    def get_state_history(self, config: RunnableConfig, **options: Any) -> Iterator[StateSnapshot]:
        """Return the states of the thread, newest first."""
        return map(question_last, super().get_state_history(self.config_of_thread(config), **options))

    async def aget_state_history(
        self, config: RunnableConfig, **options: Any
    ) -> AsyncIterator[StateSnapshot]:
        """Return the states of the thread, newest first."""
        async for snapshot in super().aget_state_history(self.config_of_thread(config), **options):
            yield question_last(snapshot)
