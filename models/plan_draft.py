"""How a model writes a plan, and how that becomes a plan.

The wire form is small on purpose: every field required, no defaults, no free
dicts, no unions but nullable. Only such a schema means the same in strict
json_schema, strict function calling, plain function calling and JSON mode.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from pydantic import BaseModel, ConfigDict

from ..references import looked_up, map_strings
from ..state import (
    STEP_ID_PATTERN,
    Plan,
    Step,
    StepResult,
    descendants,
    granted_tools,
    step_fingerprints,
    unused_id,
)
from .structured import ModelMeter, call_structured

__all__ = [
    "DraftStep",
    "PlanDraft",
    "draft_problems",
    "draft_schema",
    "revised_plan",
    "steps_from_draft",
    "write_draft",
]


class DraftStep(BaseModel):
    """One step as a model writes it."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    id: str
    task: str
    depends_on: list[str]
    call: str | None
    arguments: str | None
    tools: list[str]
    success_criterion: str | None


class PlanDraft(BaseModel):
    """A plan, a plan of one step, or the reason why there is none."""

    model_config = ConfigDict(extra="forbid")

    outcome: Literal["plan", "single_step", "cannot_plan"]
    rationale: str
    steps: list[DraftStep]


async def write_draft(
    model: BaseChatModel,
    messages: Sequence[BaseMessage],
    *,
    role: str,
    tools: Sequence[str],
    meter: ModelMeter,
    config: RunnableConfig,
) -> PlanDraft:
    """Let a model write a plan with these tools.

    Raises:
        ModelCallError: If it cannot be used, or writes nothing readable after bounded repair.
        BudgetExceededError: If there is no room for the call.
    """
    return await call_structured(
        model,
        PlanDraft,
        messages,
        role=role,
        meter=meter,
        json_schema=draft_schema(tools),
        check=draft_problems,
        config=config,
    )


def draft_schema(tool_names: Sequence[str]) -> dict[str, Any]:
    """Build the JSON Schema that the model sees: tool names are an enum of the inventory.

    Parsing stays lenient about tool names, so that a wrong one becomes an issue that
    names the known tools.
    """
    schema = copy.deepcopy(_inlined(PlanDraft.model_json_schema()))
    schema["title"], schema["description"] = "write_plan", "Write the plan."
    step = schema["properties"]["steps"]["items"]["properties"]
    if tool_names:
        step["call"] = {"anyOf": [{"type": "string", "enum": list(tool_names)}, {"type": "null"}]}
        step["tools"]["items"] = {"type": "string", "enum": list(tool_names)}
    else:
        step["call"] = {"type": "null"}
    return schema


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Inline the step's definition and drop titles: some endpoints know no ``$ref``."""
    step = schema.pop("$defs")["DraftStep"]
    schema["properties"]["steps"]["items"] = step
    for part in (schema, step):
        part.pop("description", None)
        for prop in part["properties"].values():
            prop.pop("title", None)
    step.pop("title", None)
    return schema


def draft_problems(draft: PlanDraft) -> list[str]:
    """Say what makes a draft unreadable as a plan; used in the bounded repair of the call."""
    problems = [problem for step in draft.steps if (problem := _arguments_problem(step))]
    if draft.outcome != "cannot_plan" and not draft.steps:
        problems.append("steps is empty; write at least one step, or answer cannot_plan with the reason")
    if draft.outcome == "cannot_plan" and not draft.rationale.strip():
        problems.append("cannot_plan needs the reason as rationale")
    return problems


def _arguments_problem(step: DraftStep) -> str | None:
    if not step.call:
        return None
    try:
        arguments = json.loads(step.arguments or "{}")
    except ValueError as error:
        return f"step {step.id}: arguments is not JSON: {error}"
    return None if isinstance(arguments, dict) else f"step {step.id}: arguments is not a JSON object"


def steps_from_draft(draft: PlanDraft) -> list[Step]:
    """Turn a model's steps into plan steps; ids are normalised together with every use of them."""
    renamed = {raw.id: _normal_id(raw.id) for raw in draft.steps}
    return [rename_uses(_step(raw, renamed[raw.id]), renamed) for raw in draft.steps]


def _normal_id(raw: str) -> str:
    """Make an id of what a model wrote: ``1`` becomes ``step_1``, ``step-1`` becomes ``step_1``."""
    name = re.sub(r"\W+", "_", raw.strip(), flags=re.ASCII).strip("_")
    if not name[:1].isalpha():
        name = f"step_{name}" if name else "step"
    return name[:64] if re.fullmatch(STEP_ID_PATTERN, name[:64]) else raw


def _step(raw: DraftStep, step_id: str) -> Step:
    step: Step = {"id": step_id, "task": raw.task, "depends_on": list(raw.depends_on)}
    if raw.call:
        step["call"] = {"tool": raw.call, "args": json.loads(raw.arguments or "{}")}
    else:
        step["tools"] = list(raw.tools)
    if raw.success_criterion and raw.success_criterion.strip():
        step["success_criteria"] = [{"type": "judge", "criterion": raw.success_criterion.strip()}]
    return step


def rename_uses(step: Step, renamed: Mapping[str, str]) -> Step:
    """Follow a renaming in a step's dependencies and references (not in its own id)."""
    changes = {old: new for old, new in renamed.items() if old != new}
    depends_on = [renamed.get(dep, dep) for dep in step.get("depends_on", ())]
    if not changes:
        return {**step, "depends_on": depends_on}
    followed = {
        key: value if key == "id" else map_strings(value, partial(_follow, changes))
        for key, value in step.items()
    }
    if "when" in step:
        followed["when"] = _follow_expression(changes, step["when"])
    return {**followed, "depends_on": depends_on}  # type: ignore[typeddict-item]


_REFERENCE = re.compile(r"(?<!\$)\$\{([^}]*)\}")


def _follow(changes: Mapping[str, str], text: str) -> str:
    return _REFERENCE.sub(lambda found: "${" + _follow_expression(changes, found[1]) + "}", text)


def _follow_expression(changes: Mapping[str, str], expression: str) -> str:
    """Rename the steps that an expression looks up; names of fields stay."""
    for old, new in changes.items():
        if not old.isidentifier():  # what a model wrote and no JMESPath reads: a word is told by its borders
            borders = r"(?<![\w.'\"`\[&-])" if old[:1].isalpha() else r"^\s*"
            expression = re.sub(rf"{borders}{re.escape(old)}(?=\s*(?:[.,\[|)]|$))", new, expression)
    for start, end, name in reversed(looked_up(expression)):
        expression = expression[:start] + changes.get(name, name) + expression[end:]
    return expression


def with_new_ids_for_reruns(plan: Plan, before: Mapping[str, str], results: Mapping[str, StepResult]) -> Plan:
    """Give steps that a person changed after they had failed new ids, and so what depends on them.

    A step keeps its id for as long as it means the same; one without a result may change freely.

    Args:
        plan: The plan as the person left it.
        before: Fingerprints of the steps as they were, by id.
        results: Results so far.
    """
    now = step_fingerprints(plan)
    ended = {i for i, result in results.items() if result["status"] != "done" and i in now}
    changed = {step_id for step_id in ended if before.get(step_id) != now[step_id]}
    again = changed | (descendants(plan["steps"], changed) & ended)
    taken = {*before, *results, *now}
    renamed = {step_id: unused_id(step_id, plan["revision"], taken) for step_id in sorted(again)}
    steps: list[Any] = [
        {**rename_uses(step, renamed), "id": renamed.get(step["id"], step["id"])} for step in plan["steps"]
    ]
    return {**plan, "steps": steps}


def revised_plan(
    plan: Plan, replaced: set[str], new_steps: Sequence[Step], rationale: str, taken: set[str]
) -> Plan:
    """Make the next revision: the steps in ``replaced`` give way to ``new_steps``.

    A new step whose id any revision has used before (``taken``) gets a new one, followed in
    the other new steps. Steps that are not replaced stay exactly as they are.
    """
    revision = plan.get("revision", 1) + 1
    renamed: dict[str, str] = {}
    used = set(taken)
    for step in new_steps:
        renamed[step["id"]] = unused_id(step["id"], revision, used)
        used.add(renamed[step["id"]])
    added: list[Any] = [{**rename_uses(step, renamed), "id": renamed[step["id"]]} for step in new_steps]
    asked_about = {tool for step in plan["steps"] if step.get("approve") for tool in granted_tools(step)}
    for step in added:
        # What a person wanted to see before it runs, no revision runs unseen.
        if asked_about.intersection(granted_tools(step)):
            step["approve"] = True
    kept = [step for step in plan["steps"] if step["id"] not in replaced]
    return {**plan, "revision": revision, "rationale": rationale, "steps": [*kept, *added]}
