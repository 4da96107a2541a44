"""Run an agent step: one bounded ReAct loop with the step's tools only."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, ToolCall, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel.protocol import StreamProtocol

from ...errors import ModelOutputError
from ...models.json_text import extract_json
from ...models.prompts import quote, render_prompt, unquote
from ...run import OUTER_KEY, STEP_KEY, StepScope
from ...state import CRITERION_PARAMETER, Criterion, Evidence, Step
from ...tools.calls import abridged, as_text, ended_with, shortened
from ...tools.toolbox import Toolbox
from ...tracing.marks import AGENT, marked, role_config

__all__ = ["CALLED_WITH", "answer_of", "evidence_of", "nested_config", "run_agent_step", "step_messages"]

Json = Any
CALLED_WITH = "plan_execute_args"
"""Key in a tool message's metadata: the arguments of the call, where they are not those the model gave."""


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
        messages: What it is told.
        evidence: The tool calls it made are appended to it.

    Raises:
        ModelCallError: If the model cannot be used, or ends without an answer.
        IterationLimitError: If it uses up its turns.
        BudgetExceededError: If a budget is used up.
    """
    # A turn must be on disk before its tools start: asked again after a kill, the model gives its
    # calls new ids, and the ledger would not know them.
    durability: dict[str, Any] = {"durability": "sync"} if scope.run.can_ask else {}
    try:
        final = await agent.ainvoke({"messages": list(messages)}, _step_config(config, scope), **durability)
    except (Exception, asyncio.CancelledError):
        evidence += scope.calls
        raise
    said: list[AnyMessage] = final["messages"]
    evidence += evidence_of(said, toolbox, scope.run.settings.max_inline_bytes)
    return answer_of(said, step)


def step_messages(
    step: Step,
    *,
    task: str,
    goal: str,
    criteria: Sequence[Criterion],
    material: Mapping[str, Json],
    hints: Sequence[str],
    scope: StepScope,
) -> list[BaseMessage]:
    """Write what an agent is told about its step: a system and a human message.

    Args:
        criteria: Its success criteria with references resolved.
        material: What it works on, shown as data: outputs of other steps, an item, by their names.
        hints: What an earlier attempt lacked, or a person asked for.
    """
    mark = scope.run.mark
    return render_prompt(
        "executor",
        instructions=scope.run.settings.instructions,
        goal=quote("goal", goal, mark),
        task=task,
        today=scope.run.today,
        format=_format(step),
        checks=_checks(criteria),
        inputs="\n".join(quote(label, _shown(value), mark) for label, value in material.items()),
        feedback="\n".join(hints),
    )


def _shown(output: Json) -> str:
    """Show an output exactly; only one that no prompt can hold is cut."""
    return shortened(output, 100_000)


def _format(step: Step) -> str:
    schema = step.get("output_schema")
    return f"Your last message must be JSON that fits this schema:\n{json.dumps(schema)}" if schema else ""


def _checks(criteria: Sequence[Criterion]) -> str:
    """Say how the result will be checked."""
    if not criteria:
        return ""
    lines = [
        f"- {_CHECKS[one['type']]}{as_text(one.get(CRITERION_PARAMETER[one['type']] or '', ''))}"
        for one in criteria
    ]
    return "Your result will be checked:\n" + "\n".join(lines)


_CHECKS: dict[str, str] = {
    "not_empty": "it is not empty",
    "matches": "it matches the regular expression ",
    "json_schema": "it is JSON that fits this schema: ",
    "expression": "this JMESPath expression over it is true: ",
    "tool_succeeded": "a call of this tool succeeded: ",
    "file_exists": "this file exists: ",
    "judge": "",
}


def _step_config(config: RunnableConfig, scope: StepScope) -> RunnableConfig:
    nested = nested_config(config, scope, "step_agent")
    return {**nested, "configurable": {**nested["configurable"], STEP_KEY: scope}}


_NO_STREAM = StreamProtocol(lambda _: None, set())
"""Where LangGraph 1.2.22 finds that a graph has a parent, whose event writer it then uses."""


_OF_THE_NODE = ("__pregel_scratchpad", "__pregel_replay_state")
"""What LangGraph 1.2.22 gives a node to tell its subgraph calls, and where a fork takes them from."""


def nested_config(
    config: RunnableConfig, scope: StepScope, agent: str | None = None, *, call: str = ""
) -> RunnableConfig:
    """Give an attempt that calls a graph a checkpoint namespace of its own.

    The namespace is that of the work, so that it goes on from any superstep, fork or edit. LangGraph
    numbers subgraph calls within a node by their order (1.2.22); without the node's scratchpad the namespace
    stays as it is given.

    Args:
        config: The attempt's.
        scope: What the attempt may do.
        agent: Who does the step, for traces; None: nobody, it is planned.
        call: Identity of a call within the attempt that is a graph of its own; "": the attempt itself.
    """
    inherited = config["configurable"]
    configurable = {key: value for key, value in inherited.items() if key not in _OF_THE_NODE}
    if namespace := inherited.get("checkpoint_ns"):
        of_the_graph, bar, _ = str(namespace).rpartition("|")
        item = "" if scope.item is None else f"_item_{scope.item}"
        part = f"attempt_{scope.attempt}{item}:{scope.step_id}"
        configurable["checkpoint_ns"] = f"{of_the_graph}{bar}executor:{call or scope.work.digest}|{part}"
        configurable["__pregel_resuming"] = True  # it goes on if there is something to go on with
    configurable[OUTER_KEY] = scope
    # Without a stream of its own to hand down, a graph gives its subgraphs a writer that drops everything.
    configurable.setdefault("__pregel_stream", _NO_STREAM)
    if agent is None:
        return {**marked(config, {}), "configurable": configurable}
    done_by = marked(role_config(config, "executor"), {AGENT: agent}, name=agent)
    return {**done_by, "configurable": configurable}


def answer_of(said: Sequence[AnyMessage], step: Step) -> Json:
    """Return the last message of a conversation, as JSON where the step declares a schema.

    Raises:
        ModelOutputError: If it says nothing.
    """
    last = said[-1]
    text = unquote(last.text).strip() if isinstance(last, AIMessage) else ""
    if not text:
        raise ModelOutputError("the executor ended without an answer")
    if "output_schema" not in step:
        return text
    try:
        return extract_json(text)
    except ValueError:
        return text  # a string may be what the schema asks for; the check will tell


def evidence_of(said: Sequence[AnyMessage], toolbox: Toolbox, limit: int) -> list[Evidence]:
    """List the tool calls of a conversation with their outcomes; arguments over the limit are abridged.

    A call is answered in its own turn, under its own name: ids are the model's, and one that it
    uses again would lend a failed call the success of another.
    """
    evidence: list[Evidence] = []
    waiting: list[tuple[ToolCall, Evidence]] = []
    for message in said:
        if isinstance(message, AIMessage):
            waiting = [(call, _unanswered(call, toolbox, limit)) for call in message.tool_calls]
            evidence += [seen for _, seen in waiting]
        elif isinstance(message, ToolMessage):
            answered = next((pair for pair in waiting if _answers(message, pair[0])), None)
            if answered is not None:
                waiting.remove(answered)
                _ended(answered[1], message, limit)
    return evidence


def _ended(seen: Evidence, answer: ToolMessage, limit: int) -> None:
    """Write into the evidence of a call how it ended."""
    ok = answer.status != "error"
    made: Any = answer.response_metadata.get(CALLED_WITH, seen["whole"]["args"])
    seen["ok"], seen["args"] = ok, abridged(made, limit)
    seen["output_preview"] = ended_with(answer.text, ok=ok)
    seen["whole"] = {"args": made, "output": answer.text}


def _unanswered(call: ToolCall, toolbox: Toolbox, limit: int) -> Evidence:
    return {
        "tool": call["name"],
        "args": abridged(call["args"], limit),
        "ok": False,
        "output_preview": "",
        "effect": toolbox.effect(call["name"]),
        "call_id": call["id"] or "",
        "whole": {"args": call["args"]},
    }


def _answers(message: ToolMessage, call: ToolCall) -> bool:
    return message.tool_call_id == (call["id"] or "") and message.name in (None, call["name"])
