"""Run a step that is a goal of its own: the same graph plans it and runs the plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig

from ...errors import SubPlanError
from ...models.json_text import extract_json
from ...run import CALL_UNDER_WAY, StepScope
from ...state import Evidence, Step
from ...tools.calls import preview
from .agent import nested_config

__all__ = ["run_sub_plan"]

Json = Any


async def run_sub_plan(
    goal: str,
    step: Step,
    *,
    hints: Sequence[str],
    scope: StepScope,
    evidence: list[Evidence],
    config: RunnableConfig,
) -> Json:
    """Plan and run ``goal`` within this run's budgets and return its answer, as JSON if a schema is declared.

    Its plan is approved on its own, because nobody could know it when the parent's was.

    Args:
        hints: What an earlier attempt lacked, or a person asked for.
        evidence: The tool calls of its steps are appended to it.

    Raises:
        SubPlanError: If it did not end ``done``; the message is its answer.
        langgraph.errors.GraphInterrupt: While a person is being asked.
    """
    under_way = CALL_UNDER_WAY.set(None)  # the sub-plan is the work of the step, not of a call around it
    try:
        final = await scope.run.graph.ainvoke(
            {"goal": "\n\n".join([goal, *hints])}, nested_config(config, scope), context=scope.run.settings
        )
    finally:
        CALL_UNDER_WAY.reset(under_way)
    # Its calls were counted on the shared meter already.
    scope.tab.note(final["usage"])
    for result in (final.get("results") or {}).values():
        evidence.extend(result["evidence"])
    answer = final.get("final_answer") or ""
    if final.get("status") != "done":
        raise SubPlanError(f"the sub-plan ended {final.get('status')}: {preview(answer, 2000)}")
    if "output_schema" not in step:
        return answer
    try:
        return extract_json(answer)
    except ValueError:
        return answer  # a string may be what the schema asks for; the check will tell
