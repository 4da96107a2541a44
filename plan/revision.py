"""Make the next revision of a plan: new work gets new ids, everything else stays."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

from ..state import Plan, Step, StepResult, granted_tools
from .dag import descendants
from .identity import step_fingerprints, unused_id
from .renaming import rename_in_text, rename_uses

__all__ = [
    "edited_revision",
    "first_revision",
    "revised_plan",
    "with_answer",
    "with_new_ids_for_reruns",
]


def first_revision(plan: Mapping[str, Any], plan_id: str) -> Plan:
    """Start a new history for a plan."""
    return {**plan, "id": plan_id, "revision": 1}  # type: ignore[typeddict-item]


def edited_revision(plan: Plan, current: Plan) -> Plan:
    """Make a person's plan the next revision of the one that it replaces."""
    return {**plan, "id": current["id"], "revision": current["revision"] + 1}


def with_new_ids_for_reruns(
    plan: Plan,
    before: Mapping[str, str],
    results: Mapping[str, StepResult],
    *,
    taken: Collection[str] = (),
) -> Plan:
    """Give new ids to steps that a person changed after they failed, and to their dependents.

    A step keeps its id as long as its meaning is the same; a step without a result may change freely.

    Args:
        plan: The plan after the person's edit.
        before: Fingerprints of the steps before the edit, by id.
        results: Results so far.
        taken: More ids that must not be used.
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
    """Update the answer's references to steps that were replaced under new ids."""
    # An older version may have stored a plan with a field that no longer exists.
    followed: Any = {key: value for key, value in plan.items() if key in Plan.__annotations__}
    if answer := plan.get("answer"):
        followed["answer"] = rename_in_text(answer, renamed)
    return cast(Plan, followed)


def revised_plan(
    plan: Plan,
    replaced: set[str],
    new_steps: Sequence[Step],
    rationale: str,
    taken: set[str],
    *,
    answer: str = "",
) -> Plan:
    """Make the next revision: ``new_steps`` replace the steps in ``replaced``.

    A new step whose id any revision has used before (``taken``) gets a new id, and the other new steps'
    references follow. All other steps stay unchanged. The planned answer is removed, because it says what the
    replaced steps would have found.
    """
    revision = plan.get("revision", 1) + 1
    renamed: dict[str, str] = {}
    used = set(taken)
    for step in new_steps:
        renamed[step["id"]] = unused_id(step["id"], revision, used)
        used.add(renamed[step["id"]])
    added: list[Any] = [{**rename_uses(step, renamed), "id": renamed[step["id"]]} for step in new_steps]
    asked_about = {tool for step in plan["steps"] if step.get("approve") for tool in granted_tools(step)}
    confirmed = {step["call"]["tool"] for step in plan["steps"] if step.get("confirm")}
    for step in added:
        # If a person wants to see a step before it runs, a revision must not run it unseen. Only a call can
        # be confirmed.
        if "call" in step and step["call"]["tool"] in confirmed:
            step["confirm"] = True
        if (asked_about if "call" in step else asked_about | confirmed).intersection(granted_tools(step)):
            step["approve"] = True
    kept = [step for step in plan["steps"] if step["id"] not in replaced]
    revised = _following(plan, {old: new for old, new in renamed.items() if old in replaced})
    revised |= {"revision": revision, "rationale": rationale, "steps": [*kept, *added]}
    return with_answer(revised, rename_in_text(answer, renamed))


def with_answer(plan: Plan, answer: str) -> Plan:
    """Set this answer in a plan, or remove it if it is empty."""
    changed: Any = {**plan, "answer": answer}
    return {key: value for key, value in changed.items() if key != "answer" or value}  # type: ignore[return-value]
