"""Return the exact output of a step, wherever it is kept."""

from __future__ import annotations

from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.store.base import BaseStore

from ..errors import InvalidInputError, known
from ..people.answers import check_exists
from ..state import steps_by_id
from ..storage.adapters import async_store
from ..storage.artifacts import Artifacts
from .compiled import CompiledAgent

__all__ = ["exact_output", "output_of_step"]

Json = Any


async def output_of_step(agent: CompiledAgent, config: RunnableConfig, step_id: str) -> Json:
    """Look a step's result up in the thread's state and return its exact output.

    Raises:
        ThreadNotFoundError: If there is no such thread.
        InvalidInputError: If the plan has no such step, or the step has no result.
        StorageDamagedError: If the output is missing from the store, or was changed.
    """
    snapshot = await agent.aget_state(config)
    check_exists(snapshot)
    results = snapshot.values.get("results") or {}
    if step_id not in results:
        steps = steps_by_id(snapshot.values.get("plan"))
        problem = "has no result yet" if step_id in steps else "is not a step of the plan"
        raise InvalidInputError(f"{step_id!r} {problem}; steps with a result: {known(results)}")
    return await exact_output(agent, config, results[step_id]["output"], step_id)


async def exact_output(
    agent: CompiledAgent,
    config: RunnableConfig,
    output: Json,
    step_id: str,
    store: BaseStore | None = None,
) -> Json:
    """Return the exact value of an output in a result.

    Args:
        agent: The agent whose store is used, unless one is given.
        config: Names the thread.
        output: The output of a result: a handle, or the value itself.
        step_id: The step, for the error.
        store: The store of the graph that the agent ran in.
    """
    kept = async_store(store or agent.store)
    return await Artifacts(kept, str(config["configurable"]["thread_id"])).value(output, step_id)
