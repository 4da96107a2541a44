"""How a model writes a plan, and how that becomes a plan.

It is asked for lines (``plan_lines.py``), which cost a fifth of the tokens and can be read while they are
written, and for JSON where that fails; either is taken, whatever was asked for.

The JSON form is small on purpose: in its schema every field is required, with no defaults, no free
dicts, no unions but nullable. Only such a schema means the same in strict
json_schema, strict function calling, plain function calling and JSON mode.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from pydantic import BaseModel, ConfigDict, field_validator

from ...models.metered import ModelMeter
from ...models.reading import TextForm
from ...models.structured import call_structured
from ...safety.depth import read_json
from ...state import (
    STEP_ID_PATTERN,
    Plan,
    Step,
    StepResult,
    descendants,
    granted_tools,
    step_fingerprints,
    unused_id,
)
from ..renaming import rename_in_goal, rename_in_text, rename_uses
from .lines import Vocabulary, complete_lines, read_lines

__all__ = [
    "DraftForm",
    "DraftStep",
    "Listener",
    "Occasion",
    "PlanDraft",
    "answer_of",
    "draft_problems",
    "draft_schema",
    "new_steps",
    "revised_plan",
    "steps_from_draft",
    "with_answer",
    "write_draft",
]


class DraftStep(BaseModel):
    """One step as a model writes it; the schema asks for some of it only where it can be of use."""

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

    @field_validator("arguments", "output_schema", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        """Take an object as the text of one: many models write it so, whatever the schema says."""
        return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value


class PlanDraft(BaseModel):
    """A plan, a plan of one step, or the reason why there is none."""

    model_config = ConfigDict(extra="forbid")

    outcome: Literal["plan", "single_step", "finished", "cannot_plan"]
    rationale: str = ""
    complete: bool = True
    steps: list[DraftStep]
    answer: str | None = None


Occasion = Literal["goal", "next_steps", "revision"]
"""What a model writes steps for: a goal, the next round of a rolling plan, a plan that has to change."""

_OUTCOMES: dict[Occasion, list[str]] = {
    "goal": ["plan", "single_step", "cannot_plan"],
    "next_steps": ["plan", "finished", "cannot_plan"],
    "revision": ["plan", "single_step", "cannot_plan"],
}


DraftForm = Literal["lines", "fields"]
"""How a plan is asked for: in lines, or as the fields of a JSON object."""
Listener = Callable[[list[Step]], None]
"""Is told the steps of a plan that is being written, as far as they are complete."""


async def write_draft(
    model: BaseChatModel,
    prompt: Callable[[DraftForm], Sequence[BaseMessage]],
    *,
    role: str,
    tools: Mapping[str, Sequence[str]],
    agents: Sequence[str] = (),
    sub_plans: bool = False,
    meter: ModelMeter,
    config: RunnableConfig,
    occasion: Occasion,
    kept: Sequence[Step] = (),
    taken: Collection[str] = (),
    listen: Listener | None = None,
) -> PlanDraft:
    """Let a model write a plan, or more steps of one: with tools, named agents, sub-plans if allowed.

    Args:
        prompt: Asks for it, in either form.
        tools: Names of the arguments of each tool, in order.
        occasion: What it is to write.
        kept: Steps that stay, whatever it writes.
        taken: Ids that new steps are not to have.
        listen: Is told what it writes while it writes.

    Raises:
        ModelCallError: If it cannot be used, or writes nothing readable after bounded repair.
        BudgetExceededError: If there is no room for the call.
    """
    words = Vocabulary(tools, agents, taken)
    return await call_structured(
        model,
        PlanDraft,
        prompt("fields"),
        role=role,
        meter=meter,
        json_schema=draft_schema(list(tools), agents, sub_plans=sub_plans, occasion=occasion),
        check=partial(draft_problems, occasion=occasion, kept=kept),
        form=TextForm(
            prompt("lines"),
            read=partial(_draft_in_lines, words=words),
            listen=None if listen is None else _line_by_line(listen, words),
        ),
        config=config,
    )


def _draft_in_lines(text: str, words: Vocabulary) -> PlanDraft | None:
    written = read_lines(text, words)
    return None if written is None else PlanDraft.model_validate(written)


def _line_by_line(listen: Listener, words: Vocabulary) -> Callable[[str], None]:
    """Make of a listener to steps one to the text as it grows."""
    seen = 0

    def hear(text: str) -> None:
        nonlocal seen
        lines = text.count("\n")
        if lines != seen:
            seen = lines
            written = complete_lines(text, words)
            listen(steps_from_draft(PlanDraft(outcome="plan", steps=written)))  # type: ignore[arg-type]

    return hear


def draft_schema(
    tool_names: Sequence[str],
    agents: Sequence[str] = (),
    *,
    sub_plans: bool = False,
    occasion: Occasion = "goal",
) -> dict[str, Any]:
    """Build the JSON Schema that the model sees: names are enums of the inventory.

    What nothing in the inventory makes useful is left out, and everything else is required.

    Parsing stays lenient about tool names, so that a wrong one becomes an issue that
    names the known tools. Whether a plan is complete is the planner's to say.
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
    for name in ([] if agents else ["agent"]) + ([] if sub_plans else ["goal"]):
        del step[name]
    schema["properties"]["steps"]["items"]["required"] = list(step)
    return schema


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Inline the step's definition and drop titles: some endpoints know no ``$ref``."""
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
    """Say what makes a draft unreadable as a plan; used in the bounded repair of the call."""
    problems = [problem for step in draft.steps for problem in _json_problems(step)]
    if draft.outcome == "cannot_plan" and not draft.rationale.strip():
        problems.append("cannot_plan needs the reason as rationale")
    if problems or draft.outcome == "cannot_plan":
        return problems
    if occasion == "next_steps":
        return _next_steps_problems(draft, kept)
    if draft.outcome == "finished":
        return [f"finished does not fit here; the outcome is one of {', '.join(_OUTCOMES[occasion])}"]
    if not draft.steps:
        return ["steps is empty; write at least one step, or answer cannot_plan with the reason"]
    return []


def _next_steps_problems(draft: PlanDraft, kept: Sequence[Step]) -> list[str]:
    """A round either adds a step or says that the plan is complete: else it would be asked for ever."""
    new = new_steps(draft, kept)
    if draft.outcome == "finished" and new:
        names = ", ".join(step["id"] for step in new)
        return [f"finished takes no steps, but there are: {names}; answer plan if they are still needed"]
    if draft.outcome != "finished" and not new and not draft.complete:
        return [
            "there is no step that is not in the plan already; write the next steps, each with a new id, "
            "or answer finished when the goal is reached"
        ]
    return []


def _json_problems(step: DraftStep) -> Iterator[str]:
    written = {"arguments": step.arguments if step.call else None, "output_schema": step.output_schema}
    for name, text in written.items():
        try:
            value = read_json(text or "{}")
        except ValueError as error:
            yield f"step {step.id}: {name} is not JSON: {error}"
        else:
            if not isinstance(value, dict):
                yield f"step {step.id}: {name} is not a JSON object"


def steps_from_draft(draft: PlanDraft) -> list[Step]:
    """Turn a model's steps into plan steps; ids are normalised together with every use of them."""
    renamed = _normal_ids(draft)
    return [rename_uses(_step(raw, renamed[raw.id]), renamed) for raw in draft.steps]


def answer_of(draft: PlanDraft) -> str:
    """Return the answer that a model planned, with normalised ids; empty where it planned none.

    Models that may write null write its name, too.
    """
    said = (draft.answer or "").strip()
    return "" if said.lower() in ("null", "none") else rename_in_text(said, _normal_ids(draft))


def _normal_ids(draft: PlanDraft) -> dict[str, str]:
    return {raw.id: _normal_id(raw.id) for raw in draft.steps}


def new_steps(draft: PlanDraft, kept: Sequence[Step]) -> list[Step]:
    """Turn a model's steps into plan steps, without those that only say again what stays.

    Models like to write the whole plan once more. Under the same id and with the same work,
    a step is the one that is there already; taken for a new one, it would run again.
    """
    staying = {step["id"]: step for step in kept}
    return [
        step
        for step in steps_from_draft(draft)
        if step["id"] not in staying or not _same_work(step, staying[step["id"]])
    ]


_WORK = ("call", "tools", "agent", "plan", "for_each", "when")


def _same_work(left: Step, right: Step) -> bool:
    """Tell whether two steps do the same; a fixed call says what is done whatever the task is called."""
    same = all(left.get(key) == right.get(key) for key in _WORK)
    return same and ("call" in left or left.get("task", "").strip() == right.get("task", "").strip())


def _normal_id(raw: str) -> str:
    """Make an id of what a model wrote: ``1`` becomes ``step_1``, ``step-1`` becomes ``step_1``."""
    name = re.sub(r"\W+", "_", raw.strip(), flags=re.ASCII).strip("_")
    if not name[:1].isalpha():
        name = f"step_{name}" if name else "step"
    return name[:64] if re.fullmatch(STEP_ID_PATTERN, name[:64]) else raw


def _step(raw: DraftStep, step_id: str) -> Step:
    step: Step = {"id": step_id, "task": raw.task, "depends_on": list(raw.depends_on)}
    # One kind of step is meant; where a model gives several, the validator says so.
    if raw.call:
        step["call"] = {"tool": raw.call, "args": read_json(raw.arguments or "{}")}
    if raw.agent:
        step["agent"] = raw.agent
    if raw.goal and raw.goal.strip():
        step["plan"] = {"goal": raw.goal}
    if not (raw.call or raw.agent or "plan" in step):
        step["tools"] = list(raw.tools)
    if raw.for_each and raw.for_each.strip():
        step["for_each"] = raw.for_each.strip()
    if raw.when and raw.when.strip():
        step["when"] = raw.when.strip()
    if raw.output_schema and (schema := read_json(raw.output_schema)):
        step["output_schema"] = schema
    if raw.success_criterion and raw.success_criterion.strip():
        step["success_criteria"] = [{"type": "judge", "criterion": raw.success_criterion.strip()}]
    return step


def with_new_ids_for_reruns(
    plan: Plan,
    before: Mapping[str, str],
    results: Mapping[str, StepResult],
    *,
    taken: Collection[str] = (),
) -> Plan:
    """Give steps that a person changed after they had failed new ids, and so what depends on them.

    A step keeps its id for as long as it means the same; one without a result may change freely.

    Args:
        plan: The plan as the person left it.
        before: Fingerprints of the steps as they were, by id.
        results: Results so far.
        taken: More ids that new ones are not to be.
    """
    now = step_fingerprints(plan)
    ended = {i for i, result in results.items() if result["status"] != "done" and i in now}
    changed = {step_id for step_id in ended if before.get(step_id) != now[step_id]}
    again = changed | (descendants(plan["steps"], changed) & ended)
    used = {*before, *results, *now, *taken}
    renamed = {step_id: unused_id(step_id, plan["revision"], used) for step_id in sorted(again)}
    steps: list[Any] = [
        {**rename_uses(step, renamed), "id": renamed.get(step["id"], step["id"])} for step in plan["steps"]
    ]
    return _following({**plan, "steps": steps}, renamed)


def _following(plan: Plan, renamed: Mapping[str, str]) -> Plan:
    """Let the goal's criteria and the answer follow steps that were replaced under new ids."""
    followed: Plan = {**plan}
    if criteria := plan.get("goal_criteria"):
        followed["goal_criteria"] = rename_in_goal(criteria, renamed)
    if answer := plan.get("answer"):
        followed["answer"] = rename_in_text(answer, renamed)
    return followed


def revised_plan(
    plan: Plan,
    replaced: set[str],
    new_steps: Sequence[Step],
    rationale: str,
    taken: set[str],
    *,
    answer: str = "",
) -> Plan:
    """Make the next revision: the steps in ``replaced`` give way to ``new_steps``.

    A new step whose id any revision has used before (``taken``) gets a new one, followed in
    the other new steps. Steps that are not replaced stay exactly as they are; the answer that was
    planned before does not, as it says what other steps would have found.
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
    revised = _following(plan, {old: new for old, new in renamed.items() if old in replaced})
    revised |= {"revision": revision, "rationale": rationale, "steps": [*kept, *added]}
    return with_answer(revised, rename_in_text(answer, renamed))


def with_answer(plan: Plan, answer: str) -> Plan:
    """Let a plan hold this answer, or none where it is empty."""
    changed: Any = {**plan, "answer": answer}
    return {key: value for key, value in changed.items() if key != "answer" or value}  # type: ignore[return-value]
