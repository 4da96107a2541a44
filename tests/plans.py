"""Short ways to write plans, the wire form of a scripted planner, and runs of an agent."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, Interrupt

from plan_execute import Context, create_plan_execute_agent
from plan_execute.graph.agent import PlanExecuteAgent

__all__ = [
    "FREE",
    "Thread",
    "agent_with",
    "bound",
    "codes",
    "draft",
    "draft_step",
    "plan",
    "statuses",
    "think",
]

FREE = Context(approval="never")
"""Settings of a run that needs nobody's approval."""


def bound(
    step_id: str, tool: str, args: Mapping[str, Any] | None = None, *after: str, **fields: Any
) -> dict[str, Any]:
    """Write a bound step."""
    return {
        "id": step_id,
        "call": {"tool": tool, "args": dict(args or {})},
        "depends_on": list(after),
        **fields,
    }


def think(step_id: str, *after: str, tools: Sequence[str] = (), **fields: Any) -> dict[str, Any]:
    """Write an agent step."""
    return {"id": step_id, "task": f"do {step_id}", "tools": list(tools), "depends_on": list(after), **fields}


def plan(*steps: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    """Write a plan."""
    return {"goal": "the goal", "steps": [dict(step) for step in steps], **fields}


def draft_step(
    step_id: Any,
    call: str | None = None,
    args: Mapping[str, Any] | None = None,
    *after: Any,
    tools: Sequence[str] = (),
    criterion: str | None = None,
    task: str = "",
) -> dict[str, Any]:
    """Write a step as a planner model does."""
    return {
        "id": step_id,
        "task": task or f"do {step_id}",
        "depends_on": list(after),
        "call": call,
        "arguments": json.dumps(args or {}) if call else None,
        "tools": list(tools),
        "success_criterion": criterion,
    }


def draft(
    *steps: Mapping[str, Any], outcome: str = "plan", rationale: str = "because", complete: bool = True
) -> dict[str, Any]:
    """Write a planner model's whole answer."""
    return {"outcome": outcome, "rationale": rationale, "complete": complete, "steps": list(steps)}


def agent_with(tools: Sequence[Any] = (), model: Any = None, **options: Any) -> PlanExecuteAgent:
    """Build an agent that keeps everything in memory, unless told otherwise."""
    options = {"checkpointer": InMemorySaver(), "store": InMemoryStore(), **options}
    return create_plan_execute_agent(model, tools=tools, **options)


class Thread:
    """One thread of an agent, driven asynchronously."""

    def __init__(self, agent: PlanExecuteAgent, context: Context | None = None) -> None:
        self.agent = agent
        self.context = context
        self.config: RunnableConfig = {"configurable": {"thread_id": uuid4().hex}}

    async def send(self, given: Any, context: Context | None = None) -> dict[str, Any]:
        """Run with an input, a command or None."""
        result: dict[str, Any] = await self.agent.ainvoke(given, self.config, context=context or self.context)
        return result

    async def run(self, *steps: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
        """Run a given plan of these steps."""
        return await self.send({"plan": plan(*steps, **fields)})

    async def answer(self, answer: Any) -> dict[str, Any]:
        """Answer the open question, or several by id."""
        return await self.send(Command(resume=answer))

    async def questions(self) -> list[Interrupt]:
        """The questions that are open now."""
        return list((await self.agent.aget_state(self.config)).interrupts)

    async def question(self) -> dict[str, Any]:
        """The one open question's action request."""
        (only,) = await self.questions()
        request: dict[str, Any] = only.value["action_requests"][0]
        return request

    async def ids(self) -> dict[str, str]:
        """Ids of the open questions by the step that asks."""
        return {question.value["step_id"]: question.id for question in await self.questions()}


def codes(result: Mapping[str, Any]) -> list[str]:
    """The codes of a run's plan issues."""
    return [issue["code"] for issue in result["plan_issues"]]


def statuses(result: Mapping[str, Any]) -> dict[str, str]:
    """The status of each step."""
    return {step_id: step["status"] for step_id, step in result["results"].items()}
