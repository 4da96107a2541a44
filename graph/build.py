"""Wire the nodes into the graph: docs/architecture.md has the picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import BaseTool
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph

from ..context import Context, read_policy
from ..errors import ConfigurationError
from ..execution.step_agent import as_subgraph, make_step_agent
from ..langgraph_private import made_into, read_by_their_routes, read_written
from ..models.chat import ChatModels
from ..models.final_output import OutputForm, output_form
from ..nodes.approval import make_approval
from ..nodes.dispatcher import make_dispatcher
from ..nodes.evaluator import make_evaluator
from ..nodes.executor import StepOrder, make_executor
from ..nodes.planner import make_planner
from ..nodes.replanner import make_replanner
from ..nodes.synthesizer import make_synthesizer
from ..nodes.validator import make_validator
from ..spending.prices import PriceTable, read_prices
from ..state import InputState, OutputState, State
from ..storage.plan_cache import PlanCache, to_plan_cache
from ..tools.toolbox import Toolbox
from .agent import PlanExecuteAgent
from .routing import (
    RouteState,
    route_after_approval,
    route_after_dispatcher,
    route_after_evaluator,
    route_after_planner,
    route_after_validator,
)
from .streams import PlanTransformer

if TYPE_CHECKING:
    from langchain.agents.middleware import AgentMiddleware
    from langchain_core.language_models import BaseChatModel
    from langgraph.graph.state import CompiledStateGraph
    from langgraph.store.base import BaseStore

__all__ = ["create_plan_execute_agent"]


def create_plan_execute_agent(
    model: str | BaseChatModel | None = None,
    tools: Iterable[BaseTool | Callable[..., Any]] = (),
    *,
    models: Mapping[str, str | BaseChatModel] | None = None,
    agents: Mapping[str, Any] | None = None,
    middleware: Sequence[AgentMiddleware[Any, Any]] = (),
    response_format: Any = None,
    checkpointer: BaseCheckpointSaver[Any] | bool | None = None,
    store: BaseStore | None = None,
    plan_cache: PlanCache | timedelta | float | None = None,
    prices: Mapping[str, Any] | str | Path | None = None,
    base_url: str | None = None,
    rate_limit: float | None = None,
    policy: Context | Mapping[str, Any] | str | Path | None = None,
    name: str = "plan_execute",
) -> PlanExecuteAgent:
    """Build a plan-and-execute agent.

    Args:
        model: A model's name (``provider:name``, fallbacks after a ``|``) or a chat model; None: only plans
            of bound steps can run.
        tools: LangChain tools or plain functions with docstrings. A tool's effect is its
            ``metadata={"effect": "read" | "idempotent" | "write"}``, ``write`` if undeclared.
        models: Models for single roles: planner, executor, evaluator, replanner, synthesizer; and for the
            classes that steps may name: fast, strong.
        agents: Graphs, runnables or functions that steps can name with ``agent``. They get
            ``{"messages": […]}``; ``graph.with_config(metadata={"effect": "read", "description": …})``
            declares its effect (``write`` if undeclared) and its purpose.
        middleware: LangChain agent middleware for agent steps.
        response_format: The form of ``result["output"]``: a pydantic class, a dataclass, a TypedDict
            or a JSON Schema of an object. A run whose output has another form is ``partial``.
        checkpointer: Any LangGraph saver, sync or async; without one, nobody can be asked.
        store: Any LangGraph store; without one, approvals and the ledger are kept in memory.
        plan_cache: Keep plans of runs that ended as done, and use them again for the same goal: a time
            (timedelta or seconds), or a ``PlanCache``. Kept in the store; None turns it off.
        prices: What models cost per million tokens, ``{model: {"input", "output", "cached_input"}}``, or a
            YAML or JSON file of that; in addition to list prices. A model without a price has no cost.
        base_url: Base URL of an OpenAI-protocol endpoint for models given by name.
        rate_limit: Requests per second that each model given by name may be sent; None: any number.
        policy: Rules for every run, whatever its context says, since that may come from a client:
            ``approval``, ``approvers``, ``spend_limits``, ``tenant``; or a YAML or JSON file of that. A
            context can only add to it.
        name: The graph's name.

    Returns:
        A compiled LangGraph graph: ``invoke``, ``ainvoke``, ``stream``, ``astream``, ``get_state``…

    Raises:
        ConfigurationError: If two tools share a name, a role is unknown, or something is not supported.
    """
    _refuse_other_kinds(tools, models, agents, middleware, checkpointer, prices)
    form = output_form(response_format)
    toolbox = Toolbox(tools, agents)
    chat = ChatModels(model, models, base_url=base_url, rate_limit=rate_limit)
    if form is not None and not chat.has("synthesizer"):
        raise ConfigurationError(
            "response_format= needs a model that writes the output, and none is configured"
        )
    step_agent = make_step_agent(chat.get("executor"), toolbox, middleware) if chat.has("executor") else None
    builder = _wired(chat, toolbox, step_agent, form)
    compiled = builder.compile(
        checkpointer=checkpointer, store=store, name=name, transformers=[PlanTransformer]
    )
    if step_agent is not None:
        compiled.nodes["executor"].subgraphs = [as_subgraph(step_agent)]
    return made_into(
        PlanExecuteAgent,
        compiled,
        models=chat,
        toolbox=toolbox,
        has_middleware=bool(middleware),
        plan_cache=to_plan_cache(plan_cache),
        prices=read_prices(prices),
        policy=read_policy(policy),
    )


def _refuse_other_kinds(
    tools: Any, models: Any, agents: Any, middleware: Any, checkpointer: Any, prices: Any
) -> None:
    is_list = isinstance(tools, Iterable) and not isinstance(tools, str | Mapping | BaseTool)
    is_sequence = isinstance(middleware, Sequence) and not isinstance(middleware, str)
    is_saver = checkpointer is None or isinstance(checkpointer, BaseCheckpointSaver | bool)
    is_table = prices is None or isinstance(prices, Mapping | str | Path | PriceTable)
    for name, given, fits, wanted in (
        ("tools", tools, is_list, "a list of tools"),
        ("models", models, models is None or isinstance(models, Mapping), "models by role"),
        ("agents", agents, agents is None or isinstance(agents, Mapping), "agents by name"),
        ("middleware", middleware, is_sequence, "a list of LangChain's agent middleware"),
        ("checkpointer", checkpointer, is_saver, "a LangGraph saver"),
        ("prices", prices, is_table, "prices by model, or a file of them"),
    ):
        if not fits:
            raise ConfigurationError(f"{name}= takes {wanted}, not {type(given).__name__}")


def _wired(
    chat: ChatModels,
    toolbox: Toolbox,
    step_agent: CompiledStateGraph[Any, Any, Any, Any] | None,
    form: OutputForm | None,
) -> StateGraph[State, Context, InputState, OutputState]:
    """Put the nodes into the graph, and the edges between them."""
    builder = StateGraph(State, Context, input_schema=InputState, output_schema=OutputState)
    builder.add_node("planner", make_planner(chat, toolbox))
    builder.add_node("validator", make_validator(chat, toolbox))
    builder.add_node("approval", make_approval(chat, toolbox))
    builder.add_node("dispatcher", make_dispatcher(toolbox))
    builder.add_node("executor", make_executor(chat, toolbox, step_agent), input_schema=StepOrder)
    builder.add_node("evaluator", make_evaluator(chat))
    builder.add_node("replanner", make_replanner(chat, toolbox))
    builder.add_node("synthesizer", make_synthesizer(chat, toolbox, form))
    builder.add_edge(START, "planner")
    builder.add_conditional_edges("planner", _Route(route_after_planner))
    builder.add_conditional_edges("validator", _Route(route_after_validator))
    builder.add_conditional_edges("approval", _Route(route_after_approval))
    after_dispatch = ["approval", "executor", "evaluator"]
    builder.add_conditional_edges("dispatcher", _Route(route_after_dispatcher), after_dispatch)
    builder.add_edge("executor", "evaluator")
    builder.add_conditional_edges("evaluator", _Route(route_after_evaluator))
    builder.add_edge("replanner", "validator")
    builder.add_edge("synthesizer", END)
    read_by_their_routes(builder)
    return builder


class _Route(RunnableLambda[Any, Any]):
    """A route that runs in the event loop: LangGraph 1.2.22 would run a plain function in a thread."""

    def __init__(self, route: Callable[[RouteState], Any]) -> None:
        super().__init__(route)
        self._route = route

    def invoke(self, *given: Any, **_: Any) -> Any:
        """Call the route, without a run of its own in traces."""
        config: RunnableConfig = given[1]  # After what the node wrote, which is only a part of the state.
        return self._route(read_written(config, _ROUTE_CHANNELS))

    async def ainvoke(self, *given: Any, **_: Any) -> Any:
        """Call the route."""
        return self.invoke(*given)


_ROUTE_CHANNELS = tuple(RouteState.__annotations__)
