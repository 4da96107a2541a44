"""Run a bound step: its one tool call, with no model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.runtime import Runtime

from ...errors import StepError, ToolFailedError
from ...models.client_errors import is_transient
from ...models.retrying import retry_transient
from ...run import StepScope
from ...state import Evidence, Step
from ...storage.ids import CallId
from ...tools.calls import call_tool, failed_call, own_call_id
from ...tools.toolbox import Toolbox
from ...tracing.marks import CALL, with_marks
from ..effects import call_once
from ..reads_ahead import finished_ahead
from ..tool_questions import call_and_let_ask

__all__ = ["run_bound_step"]

Json = Any
_TRIES = 4
"""Tries of a read or idempotent call after transient errors."""


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
    await toolbox.check_arguments(name, args)
    effect = toolbox.effect(name)
    call_id = own_call_id(scope.step_id, scope.attempt, scope.item)
    config = with_marks(config, {CALL: call_id})
    seen = scope.begin_call({"name": name, "args": args, "id": call_id}, effect)
    evidence.append(seen)

    bound = _BoundCall(name, args, call_id, scope, toolbox, runtime)

    async def call(this: CallId) -> Json:
        return await call_and_let_ask(scope, this, config, partial(bound.with_retries, this))

    try:
        output = await call_once(
            scope, name, args, effect, call, call_id=call_id, tell=partial(scope.tell_call, runtime, seen)
        )
    except StepError as error:
        scope.end_call(runtime, seen, ok=False, output=str(error))
        raise
    scope.end_call(runtime, seen, ok=True, output=output)
    return output


@dataclass(frozen=True)
class _BoundCall:
    """The call of a bound step, with everything that is needed to make it."""

    name: str
    args: dict[str, Json]
    call_id: str
    scope: StepScope
    toolbox: Toolbox
    runtime: Runtime[Any]

    async def with_retries(self, this: CallId, config: RunnableConfig) -> Json:
        """Make the call; a call that changes nothing is retried after a transient error."""
        tries = 1 if self.toolbox.effect(self.name) == "write" else _TRIES
        try:
            return await retry_transient(lambda: self._once(this, config), tries=tries)
        except Exception as error:
            if not is_transient(error):
                raise
            raise failed_call(self.name, error, self.scope.run.redactor) from error

    async def _once(self, this: CallId, config: RunnableConfig) -> Json:
        if (ahead := finished_ahead(self.scope, self.name, self.args)) is not None:
            return ahead[0]
        self.scope.tab.tool_call()
        await self.scope.tab.keep()
        try:
            return await call_tool(
                self.toolbox.exact(self.name),
                self.args,
                call_id=self.call_id,
                key=lambda: this.idempotency_key,
                config=config,
                runtime=self.runtime,
                redactor=self.scope.run.redactor,
            )
        except ToolFailedError as failure:
            raised = failure.__cause__
            # The tool's own exception, not our message for it, tells whether the error is transient.
            raise (raised if raised is not None and is_transient(raised) else failure) from None
