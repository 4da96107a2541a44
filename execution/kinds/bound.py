"""Run a bound step: its one tool call, with no model."""

from __future__ import annotations

from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.runtime import Runtime

from ...errors import StepError, ToolFailedError
from ...models.client_errors import is_transient
from ...models.retrying import retry_transient
from ...run import StepScope
from ...state import Evidence, Step
from ...storage.work_id import CallId
from ...tools.calls import call_tool, describe_exception
from ...tools.threads import run_bounded
from ...tools.toolbox import Toolbox
from ...tracing.marks import CALL, marked
from ..effects import call_once
from ..reads_ahead import finished_ahead
from ..tool_questions import call_and_let_ask

__all__ = ["run_bound_step"]

Json = Any
_TRIES = 4
"""Tries of a read or idempotent call that fails in a way that may pass."""


async def run_bound_step(
    step: Step,
    args: dict[str, Json],
    scope: StepScope,
    evidence: list[Evidence],
    toolbox: Toolbox,
    config: RunnableConfig,
    runtime: Runtime[Any],
) -> Json:
    """Call the step's tool with resolved arguments and return its exact output.

    Args:
        evidence: The call is appended to it, whether it succeeds or not.

    Raises:
        StepError: If the call fails.
        BudgetExceededError: If there is no room for it.
    """
    name = step["call"]["tool"]
    await run_bounded(toolbox.check_arguments, name, args)
    tool, effect = toolbox.get(name), toolbox.effect(name)
    call_id = f"{scope.step_id}-{scope.attempt}" + ("" if scope.item is None else f"-{scope.item}")
    redactor, config = scope.run.redactor, marked(config, {CALL: call_id})
    seen = scope.begin_call(runtime, {"name": name, "args": args, "id": call_id}, effect)
    evidence.append(seen)

    async def attempt(this: CallId, config: RunnableConfig) -> Json:
        if (ahead := finished_ahead(scope, name, args)) is not None:
            return ahead[0]
        scope.tab.tool_call()
        await scope.tab.keep()
        try:
            return await call_tool(
                tool,
                args,
                call_id=call_id,
                key=this.idempotency_key,
                config=config,
                runtime=runtime,
                redactor=redactor,
                node=toolbox.node(name),
            )
        except ToolFailedError as failure:
            raised = failure.__cause__
            # What the tool raised, not our word for it, tells whether the failure may pass.
            raise (raised if raised is not None and is_transient(raised) else failure) from None

    async def made(this: CallId, config: RunnableConfig) -> Json:
        try:
            return await retry_transient(
                lambda: attempt(this, config), tries=1 if effect == "write" else _TRIES
            )
        except Exception as error:
            if not is_transient(error):
                raise
            raise ToolFailedError(describe_exception(name, error, redactor)) from error

    async def call(this: CallId) -> Json:
        return await call_and_let_ask(scope, this, config, lambda inner: made(this, inner))

    try:
        output = await call_once(scope, name, args, effect, call, call_id=call_id)
    except StepError as error:
        scope.end_call(runtime, seen, ok=False, output=str(error))
        raise
    scope.end_call(runtime, seen, ok=True, output=output)
    return output
