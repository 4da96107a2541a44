"""Run a step by a named agent: the embedder's own graph or runnable does the work."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any

from langchain_core.messages import AnyMessage, BaseMessage
from langchain_core.messages.utils import convert_to_messages
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphBubbleUp, is_invalid_resume
from langgraph.runtime import Runtime
from pydantic import TypeAdapter

from ...errors import BudgetExceededError, PlanExecuteError, StepError
from ...run import StepScope
from ...state import Effect, Evidence, Step, Usage, agent_grant
from ...storage.ids import CallId
from ...tools.agents import NamedAgent
from ...tools.calls import failed_call, own_call_id
from ...tools.toolbox import Toolbox
from ...tools.values import to_json
from ..counting import CallsCounter, with_counter
from ..effects import call_once
from ..evidence import evidence_of
from .agent import answer_of, nested_config

__all__ = ["run_named_agent"]

Json = Any


async def run_named_agent(
    agent: NamedAgent,
    step: Step,
    *,
    task: str,
    request: BaseMessage,
    scope: StepScope,
    evidence: list[Evidence],
    toolbox: Toolbox,
    config: RunnableConfig,
    runtime: Runtime[Any],
) -> Json:
    """Hand the step to the agent and return its answer as plain JSON.

    The answer is its ``structured_response``, or its last message, or whatever it returned.

    Args:
        request: The message to the agent: task and material.
        evidence: The call of the agent, and the tool calls it made, are appended to it.

    Raises:
        StepError: If the agent fails, or ends without an answer.
        BudgetExceededError: If a budget is used up.
    """
    name, args, limit = agent_grant(agent.name), {"task": task}, scope.run.settings.max_inline_bytes
    call_id = own_call_id(scope.step_id, scope.attempt, scope.item)
    seen = scope.begin_call({"name": name, "args": args, "id": call_id}, agent.effect)
    evidence.append(seen)

    async def call(this: CallId) -> Json:
        # This happens before previews are cut, because half a secret would not be recognised.
        answer = scope.run.redact(await _invoke(agent, request, this.idempotency_key, scope, config))
        said = _messages(answer)
        evidence.extend(evidence_of(said, toolbox, limit))
        return _output(answer, said, step)

    # The other server knows whether a remote call happened, so nobody needs to be asked.
    effect: Effect = "idempotent" if agent.is_remote else agent.effect
    try:
        output = await call_once(
            scope, name, args, effect, call, tell=partial(scope.tell_call, runtime, seen)
        )
    except StepError as error:
        scope.end_call(runtime, seen, ok=False, output=str(error))
        raise
    scope.end_call(runtime, seen, ok=True, output=output)
    return output


async def _invoke(
    agent: NamedAgent, request: BaseMessage, key: str, scope: StepScope, config: RunnableConfig
) -> Any:
    try:
        if agent.is_remote:
            return await _ask_remote(agent, request, key, scope, config)
        counted = with_counter(nested_config(config, scope, agent.name), _Counting(scope.tab))
        # In a task of its own, because it may cancel the one that it runs in.
        return await asyncio.ensure_future(agent.runnable.ainvoke({"messages": [request]}, counted))
    except BudgetExceededError as error:
        error.midway = True
        raise
    except (GraphBubbleUp, PlanExecuteError):
        raise
    except Exception as error:
        if is_invalid_resume(error):
            raise
        raise failed_call(f"agent {agent.name}", error, scope.run.redactor) from error


async def _ask_remote(
    agent: NamedAgent, request: BaseMessage, key: str, scope: StepScope, config: RunnableConfig
) -> Any:
    from .remote import ask_remote  # It needs the client of LangGraph servers, which most runs do not.

    covered, spent = await scope.tab.cover(None, [request]), Usage()
    try:
        values = await ask_remote(
            agent.runnable,  # type: ignore[arg-type]
            [request],
            key=key,
            name=agent.name,
            scope=scope,
            config=config,
        )
        spent = scope.tab.recover("executor", _messages(values))
    finally:
        await scope.tab.settle_usage(covered, spent)
    return values


def _messages(answer: Any) -> list[AnyMessage]:
    if isinstance(answer, BaseMessage):
        return [answer]  # type: ignore[list-item]
    said = answer.get("messages") if isinstance(answer, Mapping) else None
    return [_message(one) for one in said or ()]


def _message(said: Any) -> AnyMessage:
    """Read a message; convert_to_messages (langchain-core 1.7.2) loses the usage of one that is a dict."""
    if isinstance(said, Mapping) and "type" in said:
        return _messages_format().validate_python(dict(said))
    return convert_to_messages([said])[0]  # type: ignore[return-value]


@cache
def _messages_format() -> TypeAdapter[AnyMessage]:
    return TypeAdapter(AnyMessage)


def _output(answer: Any, said: Sequence[AnyMessage], step: Step) -> Json:
    if isinstance(answer, Mapping) and answer.get("structured_response") is not None:
        return to_json(answer["structured_response"])
    return answer_of(said, step.get("output_schema")) if said else to_json(answer)


class _Counting(CallsCounter):
    """Counts the calls of tools, too."""

    def no_room(self, event: str) -> BudgetExceededError | None:
        return self.tab.no_tool_call() if event == "on_tool_start" else super().no_room(event)

    async def on_tool_start(self, *_: Any, **__: Any) -> None:
        self.tab.tool_call()
        if self.on_its_loop():
            await self.tab.keep()
