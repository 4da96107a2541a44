"""The baseline that most tutorials teach: plan as a list, do one step at a time, replan after every step.

Three nodes of plain LangGraph, each with one job and a short prompt: the planner writes a list of tasks, an
inner ``create_agent`` loop does the first of them with all tools, and the replanner answers with what is
left of the list or with the final answer. It is here to be measured beside this project, in the same run.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Annotated, Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.tools import BaseTool
from langgraph.graph import END, START, StateGraph
from pydantic import BaseModel
from typing_extensions import TypedDict

PLAN = "Make a step by step plan for the objective. Each step is one task; leave none out and add no others."
DO = "You carry out one task of a plan with the tools you have. Answer with its result."
REPLAN = "Update the plan after a step was done: list only the steps that are left, or give the final answer."


class Steps(BaseModel):
    """The planner's answer."""

    steps: list[str]


class Next(BaseModel):
    """The replanner's answer: what is left, or the final answer."""

    steps: list[str]
    response: str | None


class LoopState(TypedDict, total=False):
    """Objective, what is left, what was done, answer."""

    objective: str
    steps: list[str]
    done: Annotated[list[tuple[str, str]], operator.add]
    response: str


def make_loop(model: BaseChatModel, tools: Sequence[BaseTool]) -> Any:
    """Build the loop."""
    worker = create_agent(model, list(tools), system_prompt=DO)
    planner = model.with_structured_output(Steps, method="json_schema")
    replanner = model.with_structured_output(Next, method="json_schema")

    async def plan(state: LoopState) -> dict[str, Any]:
        written: Any = await planner.ainvoke([("system", PLAN), ("human", state["objective"])])
        return {"steps": written.steps}

    async def execute(state: LoopState) -> dict[str, Any]:
        task = state["steps"][0]
        listed = "\n".join(f"{number}. {step}" for number, step in enumerate(state["steps"], start=1))
        known = "\n".join(f"{step}: {result}" for step, result in state.get("done", []))
        asked = f"The plan:\n{listed}\n\nResults so far:\n{known}\n\nYour task: {task}"
        final = await worker.ainvoke({"messages": [("human", asked)]})
        return {"done": [(task, str(final["messages"][-1].text))]}

    async def replan(state: LoopState) -> dict[str, Any]:
        listed = "\n".join(state["steps"])
        known = "\n".join(f"{step}: {result}" for step, result in state["done"])
        asked = f"Objective: {state['objective']}\n\nThe plan was:\n{listed}\n\nDone so far:\n{known}"
        update: Any = await replanner.ainvoke([("system", REPLAN), ("human", asked)])
        return {"response": update.response} if update.response else {"steps": update.steps}

    builder = StateGraph(LoopState)
    builder.add_node("plan", plan)
    builder.add_node("execute", execute)
    builder.add_node("replan", replan)
    builder.add_edge(START, "plan")
    builder.add_edge("plan", "execute")
    builder.add_edge("execute", "replan")
    builder.add_conditional_edges(
        "replan", lambda state: END if state.get("response") else "execute", ["execute", END]
    )
    return builder.compile()
