"""Run a step that is a goal of its own: the same graph plans it and runs the plan."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig

from ...errors import SubPlanError
from ...models.json_text import extract_json
from ...plan.references import (
    expression_roots,
    is_single_reference,
    reference_fields,
    references_in,
    strings_in,
)
from ...run import CALL_UNDER_WAY, StepScope
from ...safety.schemas import read_schema
from ...state import Evidence, Plan, Step, digest, steps_by_id, steps_of
from ...tools.texts import preview
from ...tools.threads import run_bounded
from ...tools.toolbox import Toolbox
from .agent import nested_config

__all__ = ["run_sub_plan"]

Json = Any


async def run_sub_plan(
    goal: str,
    step: Step,
    plan: Plan,
    toolbox: Toolbox,
    *,
    hints: Sequence[str],
    scope: StepScope,
    evidence: list[Evidence],
    config: RunnableConfig,
) -> Json:
    """Plan and run ``goal`` within this run's budgets and return its answer, or its final outputs.

    The final outputs are returned if ``plan`` uses the output as a value or in parts; otherwise the answer
    is, read as JSON if a schema is declared.

    Its plan is approved separately, because nobody could know it when the parent plan was approved.

    Args:
        goal: The goal of the sub-plan.
        step: The step whose goal it is.
        plan: The plan of that step.
        toolbox: Knows which arguments are texts.
        hints: What an earlier attempt lacked, or what a person asked for.
        evidence: The tool calls of its steps are appended to it.

    Raises:
        SubPlanError: If it did not end ``done``; the message is its answer.
        langgraph.errors.GraphInterrupt: While a person is being asked.
    """
    under_way = CALL_UNDER_WAY.set(None)  # The sub-plan is the work of the step, not of a call around it.
    try:
        final = await scope.run.graph.ainvoke(
            {"goal": "\n\n".join([goal, *hints])}, nested_config(config, scope), context=scope.run.settings
        )
    finally:
        CALL_UNDER_WAY.reset(under_way)
    # The shared meter has counted its calls already.
    scope.tab.note(final["usage"])
    evidence += await _calls_within(final, scope)
    answer = final.get("final_answer") or ""
    if final.get("status") != "done":
        raise SubPlanError(f"the sub-plan ended {final.get('status')}: {preview(answer, 2000)}")
    results = final["results"]
    verdicts = {results[step["id"]]["verdict"] for step in steps_of(final["plan"]) if step["id"] in results}
    scope.found_sound = verdicts <= {"met", "met_empty", None}
    if _is_taken_as_value(plan, step["id"], toolbox):
        outputs = await _final_outputs(final, scope)
        if "output_schema" not in step or await run_bounded(_fits, step["output_schema"], outputs):
            return outputs
    if "output_schema" not in step:
        return answer
    try:
        return extract_json(answer)
    except ValueError:
        return answer  # The schema may want a string; the check will tell.


async def _calls_within(final: Mapping[str, Any], scope: StepScope) -> list[Evidence]:
    """Return the calls of a sub-plan's steps for the check of its output, in full length if known.

    This process knows what it has seen itself; of earlier runs it knows only the outputs of bound steps.
    """
    whole = {_identity(call): call["whole"] for call in scope.within if "whole" in call}
    steps, calls = steps_by_id(final.get("plan")), list[Evidence]()
    for step_id, result in (final.get("results") or {}).items():
        for call in result["evidence"]:
            seen = whole.get(_identity(call))
            if seen is None and result["status"] == "done" and _is_one_call(steps.get(step_id)):
                output = await scope.run.artifacts.value(result["output"], step_id)
                seen = {"args": call["args"], "output": output}
            if seen is not None:
                call = call.copy()
                call["whole"] = seen
            calls.append(call)
    return calls


def _identity(call: Evidence) -> tuple[str, str, str]:
    return call["tool"], call["call_id"], digest(call["args"])


def _is_one_call(step: Step | None) -> bool:
    return step is not None and "call" in step and "for_each" not in step


def _fits(schema: dict[str, Any], value: Json) -> bool:
    return not read_schema(schema).problems(value)


async def _final_outputs(final: Mapping[str, Any], scope: StepScope) -> Json:
    """Return the output of the last step; if several steps are last, their outputs by id."""
    steps, results = steps_of(final["plan"]), final["results"]
    needed = {dep for step in steps for dep in step["depends_on"]}
    outputs = {
        step["id"]: await scope.run.artifacts.value(results[step["id"]]["output"], step["id"])
        for step in steps
        if step["id"] not in needed and results[step["id"]]["status"] == "done"
    }
    return next(iter(outputs.values())) if len(outputs) == 1 else outputs


def _is_taken_as_value(plan: Plan, step_id: str, toolbox: Toolbox) -> bool:
    """Tell whether a plan uses parts of a step's output, or the whole output where text does not fit."""
    for step in plan["steps"]:
        if step_id in expression_roots(step.get("when", "`true`")):
            return True
        for where, value in reference_fields(step):
            wanted = _without_texts(step["call"]["tool"], value, toolbox) if where == "call.args" else value
            if any(_takes_value(text, where, step_id) for text in strings_in(wanted)):
                return True
    return _takes_value(plan.get("answer", ""), "answer", step_id)


def _without_texts(tool: str, args: Mapping[str, Json], toolbox: Toolbox) -> Json:
    """Leave out arguments that are texts, unless they refer to parts of the output."""
    properties = toolbox.arguments_schema(tool).get("properties", {})
    return [
        value
        for name, value in args.items()
        if properties.get(name, {}).get("type") != "string"
        or not re.fullmatch(r"\$\{\s*\w+\s*\}", str(value))
    ]


def _takes_value(text: str, where: str, step_id: str) -> bool:
    used = [one.expression for one in references_in(text) if step_id in expression_roots(one.expression)]
    is_whole = where in ("call.args", "for_each") and is_single_reference(text)
    return any(expression != step_id or is_whole for expression in used)
