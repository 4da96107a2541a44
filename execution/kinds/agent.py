"""Run an agent step: one bounded ReAct loop with the step's tools only."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import (
    AnyMessage,
    BaseMessage,
    HumanMessage,
    ToolMessage,
)
from langchain_core.runnables import RunnableConfig
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel.protocol import StreamProtocol

from ...errors import CannotError, ModelOutputError, ToolFailedError, known
from ...langgraph_private import REPLAY_STATE, RESUMING, SCRATCHPAD, STREAM
from ...models.json_text import extract_json
from ...models.prompts import quote, render_prompt
from ...plan.criteria import kind_of
from ...run import OUTER_KEY, STEP_KEY, StepScope
from ...safety.schemas import read_schema
from ...state import Criterion, Evidence, Step
from ...tools.texts import as_text, shortened
from ...tools.threads import run_bounded
from ...tools.toolbox import Toolbox
from ...tracing.marks import AGENT, role_config, with_marks
from ..counting import MiddlewareCalls, counting, with_counter
from ..endings import CANNOT_FIELD, Ending, ending_of
from ..evidence import calls_not_in, evidence_of
from ..turns import result_text
from .ask import ask_for_agent

__all__ = ["answer_of", "nested_config", "run_agent_step", "step_messages"]

Json = Any


async def run_agent_step(
    agent: CompiledStateGraph[Any, Any, Any, Any],
    step: Step,
    *,
    messages: Sequence[BaseMessage],
    scope: StepScope,
    evidence: list[Evidence],
    toolbox: Toolbox,
    config: RunnableConfig,
) -> Json:
    """Let the agent do the step and return its last message, as JSON where the step declares a schema.

    Args:
        messages: The messages that it gets.
        evidence: The tool calls it made are appended to it.

    Raises:
        ModelCallError: If the model cannot be used, or ends without an answer, or without parts of it that
            other steps take.
        IterationLimitError: If it uses up its turns.
        CannotError: If the agent says that the step cannot be done.
        UnansweredError: If it asks the person, and gets no answer.
        BudgetExceededError: If a budget is used up.
        langgraph.errors.GraphInterrupt: While a person is being asked.
    """
    nested = _step_config(config, scope)
    said = await _talk(agent, messages, nested, scope, evidence)
    while (ending := _ending(said, toolbox, scope, evidence)).kind == "question":
        answer = await ask_for_agent(scope, str(ending.said), occasion=len(said))
        # The conversation has ended, so this continues it and does not resume it.
        goes_on: RunnableConfig = {**nested, "configurable": {**nested["configurable"], RESUMING: False}}
        said = await _talk(agent, [HumanMessage(answer)], goes_on, scope, evidence)
    if ending.kind == "cannot":
        raise CannotError(f"the agent says that it cannot be done: {ending.said}")
    scope.nothing_to_do = ending.kind == "nothing"
    if "output_schema" not in step and scope.output_schema is not None and ending.kind == "done":
        await run_bounded(_require_parts, scope.output_schema, ending.said)
    return ending.said


def _require_parts(schema: dict[str, Any], output: Json) -> None:
    """Refuse an answer that lacks parts which other steps use; a declared form is checked as a criterion."""
    if problems := read_schema(schema).problems(output):
        taken = known(schema["properties"]) if "properties" in schema else "a list"
        raise ModelOutputError(f"other steps use {taken} from the answer, but {problems[0]}")


async def _talk(
    agent: CompiledStateGraph[Any, Any, Any, Any],
    messages: Sequence[BaseMessage],
    config: RunnableConfig,
    scope: StepScope,
    evidence: list[Evidence],
) -> list[AnyMessage]:
    """Let the agent continue until it ends, and return the whole conversation."""
    # A turn must be on disk before its tools start: asked again after a kill, the model uses new call ids,
    # which the ledger would not know.
    durability: dict[str, Any] = {"durability": "sync"} if scope.run.can_ask else {}
    try:
        with counting(scope.tab):
            final = await agent.ainvoke({"messages": list(messages)}, config, **durability)
    except (Exception, asyncio.CancelledError):
        evidence += calls_not_in(evidence, scope.calls)
        raise
    if scope.unanswered is not None:
        raise scope.unanswered
    said: list[AnyMessage] = final["messages"]
    return said


def _ending(
    said: Sequence[AnyMessage], toolbox: Toolbox, scope: StepScope, evidence: list[Evidence]
) -> Ending:
    """Record the calls of an ended conversation, and read how it ended."""
    found = evidence_of(said, toolbox, scope.run.settings.max_inline_bytes, marked=True)
    # Calls that a middleware removed from the conversation were still made.
    evidence[:] = [*calls_not_in(found, scope.calls), *found]
    return ending_of(answer_of(said, scope.output_schema), scope.output_schema)


def step_messages(
    *,
    task: str,
    goal: str,
    criteria: Sequence[Criterion],
    material: Mapping[str, Json],
    hints: Sequence[str],
    scope: StepScope,
) -> list[BaseMessage]:
    """Write the agent's messages about its step: a system and a human message.

    Args:
        criteria: Its success criteria with references resolved.
        material: What it works on, as data by name: outputs of other steps, an item.
        hints: What an earlier attempt lacked, or what a person asked for.
    """
    mark = scope.run.mark
    return render_prompt(
        "executor",
        instructions=scope.run.settings.instructions,
        goal=quote("goal", goal, mark),
        task=task,
        today=scope.run.today,
        format=_format(scope.output_schema),
        checks=_checks(criteria),
        inputs="\n".join(quote(label, _shown(value), mark) for label, value in material.items()),
        feedback="\n".join(hints),
    )


def _shown(output: Json) -> str:
    """Show an output exactly; cut it only if no prompt can hold it."""
    return shortened(output, 100_000)


def _format(schema: dict[str, Any] | None) -> str:
    if not schema:
        return ""
    return (
        f'Your last message must be JSON: {{"{CANNOT_FIELD}": "why"}} if the step cannot be '
        f"done, otherwise a value that fits this schema:\n{json.dumps(schema)}"
    )


def _checks(criteria: Sequence[Criterion]) -> str:
    """Say how the result will be checked."""
    if not criteria:
        return ""
    told = ((kind_of(one), one) for one in criteria)
    lines = [f"- {kind.told}{as_text(kind.value_of(one))}" for kind, one in told]
    return "Your result will be checked:\n" + "\n".join(lines)


def _step_config(config: RunnableConfig, scope: StepScope) -> RunnableConfig:
    nested = nested_config(config, scope, "step_agent")
    if scope.run.graph.has_middleware:  # LangChain takes a third of an agent step's time to tell a counter.
        nested = with_counter(nested, MiddlewareCalls(scope.tab))
    return {**nested, "configurable": {**nested["configurable"], STEP_KEY: scope}}


_NO_STREAM = StreamProtocol(lambda _: None, set())
"""The config key by which LangGraph 1.2.22 finds a parent graph, whose event writer it then uses."""


def nested_config(
    config: RunnableConfig, scope: StepScope, agent: str | None = None, *, call: str = ""
) -> RunnableConfig:
    """Give an attempt that calls a graph a checkpoint namespace of its own.

    The namespace is that of the work, so that the work continues in any superstep, fork or edit. LangGraph
    numbers subgraph calls within a node by their order; without the node's scratchpad the namespace stays
    unchanged.

    Args:
        config: The attempt's.
        scope: What the attempt may do.
        agent: The agent that does the step, for traces; None for a sub-plan.
        call: Identity of a call within the attempt that is a graph of its own; "": the attempt itself.
    """
    inherited = config["configurable"]
    configurable = {key: value for key, value in inherited.items() if key not in (SCRATCHPAD, REPLAY_STATE)}
    if namespace := inherited.get("checkpoint_ns"):
        of_the_graph, bar, _ = str(namespace).rpartition("|")
        item = "" if scope.item is None else f"_item_{scope.item}"
        part = f"attempt_{scope.attempt}{item}:{scope.step_id}"
        configurable["checkpoint_ns"] = f"{of_the_graph}{bar}executor:{call or scope.work.digest}|{part}"
        configurable[RESUMING] = True  # It continues if a checkpoint exists.
    configurable[OUTER_KEY] = scope
    # Without a stream of its own to pass on, a graph gives its subgraphs a writer that drops everything.
    stream = inherited.get(STREAM, _NO_STREAM)
    # Chat clients that ask for subgraphs show the `messages` of any values as the conversation.
    configurable[STREAM] = StreamProtocol(stream.__call__, stream.modes - {"values"})
    if agent is None:
        return {**with_marks(config, {}), "configurable": configurable}
    done_by = with_marks(role_config(config, "executor"), {AGENT: agent}, name=agent)
    return {**done_by, "configurable": configurable}


def answer_of(said: Sequence[AnyMessage], schema: dict[str, Any] | None) -> Json:
    """Return the last message of a conversation, as JSON if a form is declared.

    Raises:
        ModelCallError: If it was cut off, withheld or refused, or says nothing.
        IterationLimitError: If a middleware ended the agent at its limit.
        ToolFailedError: If the agent ended with a tool's failure.
    """
    last = said[-1]
    text = _direct_result(last) if isinstance(last, ToolMessage) else result_text(last, "the executor")
    if schema is None:
        return text
    try:
        return extract_json(text)
    except ValueError:
        return text  # The schema may want a string; the check will tell.


def _direct_result(result: ToolMessage) -> str:
    """Return the output of a tool whose result ends the agent."""
    if result.status == "error":
        raise ToolFailedError(f"{result.name} failed: {result.text}")
    return str(result.text)
