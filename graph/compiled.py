"""The compiled graph with what an agent was built with; the door and what stands around it see this of it."""

from __future__ import annotations

from typing import Any

from langgraph.graph.state import CompiledStateGraph
from langgraph.store.memory import InMemoryStore

from ..context import Context
from ..models.chat import ChatModels
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
        running: The runs under way, as pairs of a thread's id and a mark; copies share it.
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
        running: set[tuple[str, object]] | None = None,
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
