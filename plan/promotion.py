"""Make a reusable plan from a run that succeeded: its last revision, cleaned, with inputs for values."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import NotPromotableError
from ..state import AuditEvent, Plan, Step, StepResult, needs_a_model, steps_by_id
from ..tools.calls import ABRIDGED
from .criteria import is_judged
from .dag import run_status
from .identity import used_ids
from .literals import ArgumentSchema, InputMaker, NewInput, declared_inputs, holds_references, stands_for
from .references import (
    escaped,
    expression_roots,
    map_strings,
    references_in,
    roots_in,
    step_references,
    strings_in,
)
from .renaming import rename_in_text, rename_uses

__all__ = ["Promotion", "needs_model", "promote"]

Json = Any


@dataclass(frozen=True)
class Promotion:
    """A reusable plan, and what was changed to make it.

    Attributes:
        plan: The plan, without what belongs to its run.
        dropped: Ids of the steps that were left out.
        renamed: Cleaned ids by original id.
        by_hand: What people did by hand, which a run of this plan will not repeat.
    """

    plan: dict[str, Any]
    dropped: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    by_hand: list[str] = field(default_factory=list)


def promote(
    plan: Plan,
    results: Mapping[str, StepResult],
    *,
    inputs: Mapping[str, Json] | None = None,
    audit: Sequence[AuditEvent] = (),
    new_inputs: Iterable[NewInput] = (),
    everywhere: bool = False,
    argument_schema: ArgumentSchema | None = None,
) -> Promotion:
    """Make a reusable plan of the final revision of a run.

    Args:
        plan: The final revision.
        results: The results of the run.
        inputs: The input values of the run; they become defaults, so that a new run does the same.
        audit: The decisions of the run.
        new_inputs: Literals that become inputs.
        everywhere: Whether the input replaces the literal everywhere else too, where it is a whole value.
        argument_schema: Returns the tools' schemas, from which a lifted argument is declared.

    Raises:
        NotPromotableError: If the run did not end ``done``, or what it ran was not recorded completely.
        InvalidInputError: If a literal cannot be lifted.
    """
    if (status := run_status(plan, results)) != "done":
        raise NotPromotableError(f"only a run that ended as done can be promoted; this one is {status}")
    alive, dropped = _alive(plan, results)
    edited = _edited_calls(plan, audit)
    kept = [_as_it_ran(step, results[step["id"]]) if step["id"] in edited else step for step in alive]
    renamed = _clean_ids(kept, used_ids(plan, audit))
    steps = [_tidy(rename_uses(step, renamed), renamed.get(step["id"], step["id"])) for step in kept]
    used = _used_inputs(plan, inputs or {})
    declared = declared_inputs(plan.get("inputs") or {}, used)
    maker = InputMaker(steps, declared, renamed, everywhere, argument_schema)
    for wanted in new_inputs:
        maker.make(wanted)
    made: dict[str, Any] = {
        "goal": plan.get("goal", ""),
        "rationale": plan.get("rationale", ""),
        "inputs": declared,
        "answer": "" if new_inputs or edited else _answer(plan, used, dropped, renamed),
    }
    made = {key: value for key, value in made.items() if value} | {"steps": maker.steps}
    return Promotion(made, dropped, renamed, _by_hand(plan, audit))


# --- which steps -------------------------------------------------------------------------


def _alive(plan: Plan, results: Mapping[str, StepResult]) -> tuple[list[Step], list[str]]:
    """Separate steps that failed or were given up."""
    dead = [step["id"] for step in plan["steps"] if not _may_work(results.get(step["id"]))]
    alive: list[Any] = []
    for step in plan["steps"]:
        if step["id"] not in dead:
            for where, expression in step_references(step):
                if missing := sorted(expression_roots(expression) & set(dead)):
                    raise NotPromotableError(
                        f"step {step['id']!r}, {where}, refers to {missing[0]!r}, which did not succeed"
                    )
            if missing := [one for one in _branches_on(step) if one in dead]:
                raise NotPromotableError(
                    f"step {step['id']!r} runs only because of how {missing[0]!r} ended, and {missing[0]!r} "
                    "did not succeed"
                )
            alive.append({**step, "depends_on": [dep for dep in step["depends_on"] if dep not in dead]})
    gone = [step_id for step_id in results if step_id not in steps_by_id(plan)]
    return alive, [*dead, *gone]


def _branches_on(step: Step) -> list[str]:
    return [*filter(None, [step.get("else_of")]), *(step.get("if_failed") or ())]


def _answer(
    plan: Plan, inputs: Mapping[str, Json], dropped: Collection[str], renamed: Mapping[str, str]
) -> str:
    """Keep the planned answer, unless it mentions a removed step or this run's inputs.

    An answer that names no step may be a planner's guess; no run returned it, but every run of the file
    would. If literals were lifted, no answer is kept, because its words may contain what is now an input. If
    a person edited a call when approving it, none is kept either, because its words are about the planned
    call.
    """
    answer = words = plan.get("answer", "")
    for reference in reversed(references_in(answer)):
        words = f"{words[: reference.start]} {words[reference.end :]}"
    of_this_run = any(_is_said(value, words) for value in inputs.values())
    named = roots_in(answer) - {"inputs"}
    return "" if of_this_run or not named or named & set(dropped) else rename_in_text(answer, renamed)


def _is_said(value: Json, words: str) -> bool:
    """Tell whether words contain a value, or a text within it."""
    named = strings_in(str(value) if isinstance(value, int | float) else value)
    return any(re.search(rf"(?<!\w){re.escape(text)}(?!\w)", words, re.I) for text in named if text.strip())


def _may_work(result: StepResult | None) -> bool:
    if result is None:
        return False
    return result["status"] == "done" or (result["status"] == "skipped" and result["error"] is None)


def _edited_calls(plan: Plan, audit: Iterable[AuditEvent]) -> set[str]:
    """List the bound steps whose arguments a person changed when approving the step."""
    ids = steps_by_id(plan)
    return {
        step_id
        for event in audit
        if event.get("plan_id") == plan.get("id") and event.get("trigger") == "approve_step: edit"
        if (step_id := event.get("step_id")) in ids and "call" in ids[step_id]
    }


def _as_it_ran(step: Step, result: StepResult) -> Step:
    """Take literal arguments from the call that was made; references stay references."""
    made = next((call["args"] for call in reversed(result["evidence"]) if call["ok"]), None)
    if made is None:
        return step
    planned = step["call"]["args"]
    for name, value in made.items():
        if isinstance(value, dict) and ABRIDGED in value and not holds_references(planned.get(name)):
            raise NotPromotableError(
                f"the argument {name!r} of step {step['id']!r} was edited before it ran, and is too "
                "long to be recorded"
            )
    args = {
        name: planned[name]
        if name in planned and (holds_references(planned[name]) or stands_for(planned[name], value))
        else map_strings(value, escaped)
        for name, value in made.items()
    }
    return {**step, "call": {**step["call"], "args": args}}


def _clean_ids(steps: Iterable[Step], used: set[str]) -> dict[str, str]:
    """Give steps their ids from before revisions: ``pack_r2`` becomes ``pack`` if that is free."""
    ids = [step["id"] for step in steps]
    taken, renamed = set(ids), {}
    for step_id in ids:
        clean = step_id
        while (found := re.fullmatch(r"(.+?)_r\d+(_\d+)?", clean)) and found[1] in used:
            clean = found[1]
        if clean not in taken:
            taken.add(clean)
            renamed[step_id] = clean
    return renamed


def _tidy(step: Mapping[str, Any], step_id: str) -> dict[str, Any]:
    """Put the fields into their usual order, without empty ones."""
    ordered = {key: step[key] for key in Step.__annotations__ if key in step} | {"id": step_id}
    return {
        key: value
        for key, value in ordered.items()
        if not (key in ("task", "depends_on", "success_criteria") and not value)
    }


def _by_hand(plan: Plan, audit: Iterable[AuditEvent]) -> list[str]:
    said: list[str] = []
    for event in audit:
        if event.get("plan_id") != plan.get("id"):
            continue
        step_id = event.get("step_id")
        if event.get("decision") == "supply":
            said.append(f"the output of {step_id} was supplied; a new run tries the step itself")
        elif event.get("trigger") == "approve_step: edit":
            said.append(f"{step_id} was changed when it was approved")
        elif event["event"] == "plan_edited":
            said.append("the plan was edited")
    return list(dict.fromkeys(said))


def _used_inputs(plan: Plan, values: Mapping[str, Json]) -> dict[str, Json]:
    """Return the values of declared inputs, and of undeclared inputs that are referred to."""
    text = json.dumps([plan["steps"], plan.get("answer", "")])
    declared = plan.get("inputs") or {}
    return {
        name: value
        for name, value in values.items()
        if name in declared or re.search(rf"\binputs\.{re.escape(name)}\b", text)
    }


def needs_model(plan: Mapping[str, Any]) -> list[str]:
    """List the steps of a plan that a model runs or judges."""
    return [
        step["id"]
        for step in plan["steps"]
        if needs_a_model(step) or is_judged(step.get("success_criteria", ()))
    ]
