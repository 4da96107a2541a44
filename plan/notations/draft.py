"""Turn what a model writes into a plan.

The model is asked for lines (``lines.py``), which cost a sixth of the tokens and can be read while they are
written, and for JSON if that fails. Either is accepted, whatever was asked for, and so is the format of plan
files.

The JSON form is deliberately small: in its schema every field is required, with no defaults, no free-form
objects, and no unions except nullable. Only such a schema means the same in strict json_schema, strict
function calling, plain function calling and JSON mode.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, field_validator, model_validator
from pydantic.json_schema import SkipJsonSchema

from ...context import Context
from ...safety.depth import read_json
from ...safety.plain_json import plain_json
from ...state import STEP_ID_PATTERN, Step
from ..criteria import read_criteria
from ..renaming import rename_in_text, rename_uses
from .ascii_names import in_ascii, unused
from .conditions import jmespath_condition, list_reference
from .plan_format import as_draft, as_draft_step

__all__ = [
    "DraftStep",
    "Occasion",
    "PlanDraft",
    "answer_of",
    "asking_draft",
    "draft_problems",
    "draft_schema",
    "new_steps",
    "steps_from_draft",
    "tightened",
]


class DraftStep(BaseModel):
    """One step as a model writes it; the schema asks only for fields that can be useful."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    id: str
    task: str = ""
    depends_on: list[str] = []
    call: str | None = None
    arguments: str | None = None
    tools: list[str] = []
    success_criterion: str | None = None
    output_schema: str | None = None
    for_each: str | None = None
    when: str | None = None
    agent: str | None = None
    goal: str | None = None
    ask: str | None = None
    choices: list[str] = []
    confirm: bool = False
    else_of: str | None = None
    if_failed: list[str] = []
    model: str | None = None
    # A model is not asked for these, but it may know them from plan files. The validator checks them.
    on_failure: SkipJsonSchema[Any] = None
    max_attempts: SkipJsonSchema[Any] = None
    timeout_s: SkipJsonSchema[Any] = None
    max_iterations: SkipJsonSchema[Any] = None
    escalate: SkipJsonSchema[Any] = None
    approve: SkipJsonSchema[Any] = None

    @model_validator(mode="before")
    @classmethod
    def _in_either_form(cls, value: Any) -> Any:
        return as_draft_step(value) if isinstance(value, dict) else value

    @field_validator("for_each", mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:
        """Accept the list itself, also as text."""
        value = json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value
        if isinstance(value, str) and _is_list(value):
            list_reference(plain_json(read_json(value)))  # It raises if this cannot be one.
        return value

    @field_validator("arguments", "output_schema", "success_criterion", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        """Accept JSON as text in place of JSON: many models write it so, whatever the schema says."""
        return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


def _is_list(for_each: str) -> bool:
    return for_each.lstrip().startswith("[")


class PlanDraft(BaseModel):
    """A plan, a plan of one step, or the reason why there is none."""

    model_config = ConfigDict(extra="forbid")

    outcome: Literal["plan", "single_step", "finished", "cannot_plan", "question"]
    """``question`` is never offered; it asks the person the ``rationale`` before there can be a plan."""
    rationale: str = ""
    complete: bool = True
    steps: list[DraftStep]
    answer: str | None = None
    inputs: SkipJsonSchema[dict[str, dict[str, Any]]] = {}
    """Never offered: the caller declares inputs. A plan in the format of plan files may declare its own."""

    @model_validator(mode="before")
    @classmethod
    def _in_either_form(cls, value: Any) -> Any:
        return as_draft(value) if isinstance(value, dict | list) else value


def asking_draft(question: str) -> PlanDraft:
    """Return a plan that only asks the person; the planner continues with the answer."""
    step = DraftStep(id="asked", task=question, ask=question)
    return PlanDraft(outcome="plan", complete=False, steps=[step])


Occasion = Literal["goal", "next_steps", "revision"]
"""Why a model writes steps: for a goal, the next round of a rolling plan, or a plan that must change."""

_OUTCOMES: dict[Occasion, list[str]] = {
    "goal": ["plan", "single_step", "cannot_plan"],
    "next_steps": ["plan", "finished", "cannot_plan"],
    "revision": ["plan", "single_step", "cannot_plan"],
}


def draft_schema(
    tool_names: Sequence[str],
    agents: Sequence[str] = (),
    *,
    model_classes: Sequence[str] = (),
    sub_plans: bool = False,
    occasion: Occasion = "goal",
) -> dict[str, Any]:
    """Build the JSON Schema that the model sees: names are enums of the inventory.

    Fields that are useless with this inventory are left out; all others are required.

    Parsing stays lenient about tool names, so that a wrong one becomes an issue that names the known tools.
    The planner says whether a plan is complete.
    """
    schema = copy.deepcopy(_inlined(PlanDraft.model_json_schema()))
    schema["title"], schema["description"] = "write_plan", "Write the plan."
    schema["properties"]["outcome"]["enum"] = _OUTCOMES[occasion]
    if occasion == "revision":
        del schema["properties"]["complete"]
    schema["required"] = list(schema["properties"])
    step = schema["properties"]["steps"]["items"]["properties"]
    if tool_names:
        step["call"] = {"anyOf": [{"type": "string", "enum": list(tool_names)}, {"type": "null"}]}
        step["tools"]["items"] = {"type": "string", "enum": list(tool_names)}
    else:
        step["call"] = {"type": "null"}
    if agents:
        step["agent"] = {"anyOf": [{"type": "string", "enum": list(agents)}, {"type": "null"}]}
    if model_classes:
        step["model"] = {"anyOf": [{"type": "string", "enum": list(model_classes)}, {"type": "null"}]}
    useful = {
        "agent": agents,
        "goal": sub_plans,
        "model": model_classes,
        **dict.fromkeys(("else_of", "if_failed"), len(tool_names) > 1),
    }
    for name in [name for name, use in useful.items() if not use]:
        del step[name]
    schema["properties"]["steps"]["items"]["required"] = list(step)
    return schema


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Inline the step's definition and remove titles, because some endpoints do not support ``$ref``."""
    step = schema.pop("$defs")["DraftStep"]
    schema["properties"]["steps"]["items"] = step
    for part in (schema, step):
        part.pop("description", None)
        for prop in part["properties"].values():
            prop.pop("title", None)
            prop.pop("default", None)
    step.pop("title", None)
    return schema


def draft_problems(draft: PlanDraft, occasion: Occasion = "goal", kept: Sequence[Step] = ()) -> list[str]:
    """Return why a draft cannot be read as a plan, for the bounded repair of the call."""
    problems = [problem for step in draft.steps for problem in _json_problems(step)]
    if draft.outcome == "cannot_plan" and not draft.rationale.strip():
        problems.append("cannot_plan needs the reason as rationale")
    if problems or draft.outcome in ("cannot_plan", "question"):
        return problems
    if occasion == "next_steps":
        return _next_steps_problems(draft, kept)
    if draft.outcome == "finished":
        return [f"finished does not fit here; the outcome is one of {', '.join(_OUTCOMES[occasion])}"]
    if not draft.steps:
        return ["steps is empty; write at least one step, or answer cannot_plan with the reason"]
    if not new_steps(draft, kept):
        return ["all these steps are in the plan already; write the steps that replace the open ones"]
    return []


def _next_steps_problems(draft: PlanDraft, kept: Sequence[Step]) -> list[str]:
    """Require a round to add a step or to say that the plan is complete, or it would go on forever."""
    new = new_steps(draft, kept)
    if draft.outcome == "finished" and new:
        names = ", ".join(step["id"] for step in new)
        return [f"finished takes no steps, but there are: {names}; answer plan if they are still needed"]
    if draft.outcome != "finished" and not new and not draft.complete:
        return [
            "all these steps are in the plan already; write the next steps, each with a new id, or "
            "answer finished when the goal is reached"
        ]
    return []


def _json_problems(step: DraftStep) -> Iterator[str]:
    written = {"arguments": step.arguments if step.call else None, "output_schema": step.output_schema}
    for name, text in written.items():
        try:
            value = plain_json(read_json(text or "{}"))
        except ValueError as error:
            yield f"step {step.id}: {name} is not JSON: {error}"
        else:
            if not isinstance(value, dict):
                yield f"step {step.id}: {name} is not a JSON object"
    try:
        plain_json(read_criteria(step.success_criterion or ""))
    except ValueError as error:
        yield f"step {step.id}: success_criterion is not JSON: {error}"


def steps_from_draft(draft: PlanDraft) -> list[Step]:
    """Turn a model's steps into plan steps; ids and all their uses are normalised together."""
    renamed = _normal_ids(draft)
    return [_looped(rename_uses(_step(raw, renamed[raw.id]), renamed)) for raw in draft.steps]


def _looped(step: Step) -> Step:
    """Write the list of a loop as a reference; before, the ids that its items refer to are normalised."""
    items: Any = step.get("for_each")
    return {**step, "for_each": list_reference(items)} if isinstance(items, list) else step


def answer_of(draft: PlanDraft) -> str:
    """Return the answer that a model planned, with normalised ids; empty if there is none.

    Models that may write null also write the word "null".
    """
    said = (draft.answer or "").strip()
    return "" if said.lower() in ("null", "none") else rename_in_text(said, _normal_ids(draft))


def _normal_ids(draft: PlanDraft) -> dict[str, str]:
    """Give every step a valid id; ids that differ stay different."""
    normal: dict[str, str] = {}
    for raw in draft.steps:
        if raw.id not in normal:
            normal[raw.id] = unused(_normal_id(raw.id), set(normal.values()))
    return normal


def new_steps(draft: PlanDraft, kept: Sequence[Step]) -> list[Step]:
    """Turn a model's steps into plan steps, without those that only repeat finished ones.

    Models like to write the whole plan again. A step with the same id and the same work is the existing one;
    as a new step, it would run again.
    """
    staying = {step["id"]: step for step in kept}
    return [
        step
        for step in steps_from_draft(draft)
        if step["id"] not in staying or not _same_work(step, staying[step["id"]])
    ]


def tightened(step: Step, settings: Context) -> Step:
    """Apply the run's limits to a step that a model wrote: its own may be tighter, and never looser.

    What follows from a failure stays the caller's choice, if the run has one; a write is not repeated
    because a model wrote ``retry``.
    """
    limits = {
        "max_attempts": settings.max_attempts,
        "max_iterations": settings.max_iterations,
        "timeout_s": settings.step_timeout_s,
    }
    made: dict[str, Any] = {**step}
    for name, limit in limits.items():
        if _is_looser(made.get(name), limit):
            made[name] = limit
    if settings.on_failure != "auto" or made.get("on_failure") == "retry":
        made.pop("on_failure", None)
    return cast("Step", made)


def _is_looser(given: Any, limit: float | None) -> bool:
    """Tell whether a number exceeds a limit; the validator names what is no number."""
    return limit is not None and isinstance(given, int | float) and given > limit


_WORK = ("call", "tools", "agent", "ask", "plan", "for_each", "when", "else_of", "if_failed")


def _same_work(left: Step, right: Step) -> bool:
    """Tell whether two steps do the same; for a fixed call, the task's wording does not matter."""
    same = all(left.get(key) == right.get(key) for key in _WORK)
    return same and ("call" in left or left.get("task", "").strip() == right.get("task", "").strip())


def _normal_id(raw: str) -> str:
    """Turn a model's id into a valid one: ``1`` becomes ``step_1``, ``step-1`` becomes ``step_1``."""
    name = re.sub(r"\W+", "_", in_ascii(raw.strip()), flags=re.ASCII).strip("_")
    if not name[:1].isalpha():
        name = f"step_{name}" if name else "step"
    return name[:64] if re.fullmatch(STEP_ID_PATTERN, name[:64]) else raw


def _step(raw: DraftStep, step_id: str) -> Step:
    step: Step = {"id": step_id, "task": raw.task, "depends_on": list(raw.depends_on)}
    # One kind of step is meant; if a model gives several, the validator reports it.
    if raw.call:
        step["call"] = {"tool": raw.call, "args": read_json(raw.arguments or "{}")}
    if raw.agent:
        step["agent"] = raw.agent
    if raw.goal and raw.goal.strip():
        step["plan"] = {"goal": raw.goal}
    if raw.ask and raw.ask.strip():
        step["ask"] = {"question": raw.ask}
        if raw.choices:
            step["ask"]["choices"] = list(raw.choices)
    if raw.confirm and raw.call:
        step["confirm"] = True
    if not (raw.call or raw.agent or "plan" in step or "ask" in step):
        step["tools"] = list(raw.tools)
        if raw.model and raw.model.strip():
            step["model"] = raw.model.strip()
    if raw.for_each and raw.for_each.strip():
        said = raw.for_each.strip()
        step["for_each"] = read_json(said) if _is_list(said) else said
    if raw.when and raw.when.strip():
        step["when"] = jmespath_condition(raw.when.strip())
    if raw.else_of and raw.else_of.strip():
        step["else_of"] = raw.else_of.strip()
    if raw.if_failed:
        step["if_failed"] = list(raw.if_failed)
    if raw.output_schema and (schema := read_json(raw.output_schema)):
        step["output_schema"] = schema
    if criteria := read_criteria(raw.success_criterion or ""):
        step["success_criteria"] = criteria
    settings: Any = {name: getattr(raw, name) for name in _SETTINGS if getattr(raw, name) is not None}
    return {**step, **settings}


_SETTINGS = ("on_failure", "max_attempts", "timeout_s", "max_iterations", "escalate", "approve")
