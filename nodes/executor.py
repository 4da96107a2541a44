"""Run one step's task: wait at the gate, run the attempts, record the result, release the dependents."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphBubbleUp, is_invalid_resume
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from typing_extensions import TypedDict

from ..context import Context
from ..errors import StorageError, ThreadBusyError
from ..execution.attempts import AttemptLoop, Outcome
from ..execution.epoch import Epoch, epoch_of
from ..execution.gate import StepWithheldError
from ..execution.work import StepWork, costs_nothing
from ..models.chat import ChatModels
from ..plan.identity import step_fingerprint
from ..run import Node, Run, Update, emit_end_of_step, run_of, warn_of_budget
from ..safety.expressions import clock_at
from ..state import (
    Failure,
    StepResult,
    new_evaluation,
    new_result,
)
from ..storage.artifacts import ArtifactDamagedError
from ..tools.toolbox import Toolbox

__all__ = ["StepOrder", "make_executor"]


class StepOrder(TypedDict):
    """What the dispatcher sends: only the id, or each checkpoint would hold a copy per step."""

    step_id: str


StepAgent = CompiledStateGraph[Any, Any, Any, Any] | None
"""The inner ReAct subgraph, if there is a model."""


def make_executor(models: ChatModels, toolbox: Toolbox, step_agent: StepAgent) -> Node:
    """Build the executor node.

    A problem with a step becomes a failed result. A fault that stops the run (the storage fails, an answer
    fits no question) is raised only after all other executors of the epoch have stopped.
    """

    async def executor(order: StepOrder, config: RunnableConfig, runtime: Runtime[Context]) -> Update:
        run = run_of(config)
        step_id = str(order.get("step_id", ""))  # Command(goto="executor") names no step, so nothing runs.
        epoch = await epoch_of(run, config, runtime, toolbox, models)
        epoch.begin()
        try:
            execute = partial(_execute, step_id, epoch, models, toolbox, step_agent, config, runtime)
            return await _carry_out(step_id, execute, epoch, run, runtime)
        except (GraphBubbleUp, asyncio.CancelledError) as stopped:
            epoch.gate.publish(step_id, stopped)
            raise
        except Exception as error:
            fault = error
            epoch.gate.halt(f"{step_id} met a fault: {type(error).__name__}")
            epoch.gate.publish(step_id, error)
        finally:
            epoch.end()
        # Raising it now would cancel the siblings, perhaps in the middle of a write.
        await epoch.at_rest()
        raise fault

    return executor


async def _carry_out(
    step_id: str,
    execute: Callable[[], Awaitable[Outcome]],
    epoch: Epoch,
    run: Run,
    runtime: Runtime[Context],
) -> Update:
    """Execute a step, record its result and release its dependents."""
    try:
        with clock_at(epoch.accepted_at):
            outcome = await execute()
        await _record(outcome.result, epoch, run)
        await run.meter.keep()
    except StepWithheldError as withheld:
        epoch.gate.publish(step_id, withheld)
        # LangGraph does not run this task again when the superstep is entered again; the mark says so.
        return {"decisions": {step_id: None}}
    except Exception as error:
        if isinstance(error, GraphBubbleUp) or _stops_the_run(error):
            raise
        outcome = _internal_error(step_id, error, run)
    return _finish(outcome, epoch, run, runtime)


async def _execute(
    step_id: str,
    epoch: Epoch,
    models: ChatModels,
    toolbox: Toolbox,
    step_agent: CompiledStateGraph[Any, Any, Any, Any] | None,
    config: RunnableConfig,
    runtime: Runtime[Context],
) -> Outcome:
    """Wait for the step's dependencies and make its attempts, unless its result is recorded."""
    step = epoch.steps.get(step_id)
    if step is None:
        raise StepWithheldError(f"{step_id} is not a step of the current plan")
    needed = await epoch.gate.dependencies(step)
    if (recorded := epoch.result_of(step)) is not None:
        return Outcome(recorded)
    work = StepWork(
        step=step,
        needed=needed,
        state=epoch.state,
        run=run_of(config),
        epoch=epoch,
        models=models,
        toolbox=toolbox,
        step_agent=step_agent,
        config=config,
        runtime=runtime,
    )
    return await AttemptLoop(work).run_step()


def _stops_the_run(error: Exception) -> bool:
    """Tell whether a fault stops the run; any other one, such as a damaged artifact, fails its step."""
    if isinstance(error, ArtifactDamagedError):
        return False
    return isinstance(error, StorageError | ThreadBusyError) or is_invalid_resume(error)


def _internal_error(step_id: str, error: Exception, run: Run) -> Outcome:
    """Turn a fault of ours into a failed result; raising it would cancel siblings, even during a write."""
    now = run.timestamp()
    message = run.redact(f"internal error: {type(error).__name__}: {error}")
    failure: Failure = {"code": "internal_error", "message": message}
    result = new_result(step_id, "failed", now, error=failure, verdict="failed")
    decision = new_evaluation("abort", message, step_ids=[step_id])
    return Outcome({**result, "started_at": now}, decision)


async def _record(result: StepResult, epoch: Epoch, run: Run) -> None:
    """Record a result, after which the step never runs again."""
    plan, step_id = epoch.state["plan"], result["step_id"]
    if plan is not None and result["status"] in ("done", "skipped"):
        fingerprint = step_fingerprint(epoch.steps[step_id])
        await run.ledger.record_result(
            plan["id"],
            step_id,
            fingerprint,
            dict(result),
            replaceable=costs_nothing(epoch.steps[step_id], result),
        )


def _finish(outcome: Outcome, epoch: Epoch, run: Run, runtime: Runtime[Context]) -> Update:
    """Release the dependents, and write everything into the state."""
    result, decision = outcome.result, outcome.decision
    step_id = result["step_id"]
    if decision is not None and decision["decision"] in ("replan", "abort"):
        epoch.gate.halt(f"{step_id} failed and the decision is to {decision['decision']}")
    epoch.gate.publish(step_id, result)
    emit_end_of_step(runtime, run, result)
    warn_of_budget(runtime, run)
    update: Update = {"results": {step_id: result}, "usage": result["usage"]}
    if outcome.audit:
        update["audit"] = outcome.audit
    return update | ({"decisions": {step_id: decision}} if decision is not None else {})
