"""Identify plans and steps: hashes of their content, ids, and differences between revisions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..state import AuditEvent, Json, Plan, Step, digest, steps_by_id, steps_of

__all__ = [
    "input_values",
    "lost_checks",
    "lost_its_check",
    "plan_difference",
    "plan_hash",
    "step_fingerprint",
    "step_fingerprints",
    "unused_id",
    "used_ids",
]


def input_values(plan: Plan | Mapping[str, Any], given: Mapping[str, Json] | None) -> dict[str, Json]:
    """Merge the given input values over the declared defaults."""
    declared = plan.get("inputs") or {}
    defaults = {name: spec["default"] for name, spec in declared.items() if "default" in spec}
    return {**defaults, **(given or {})}


def plan_hash(plan: Plan, inputs: Mapping[str, Json] | None) -> str:
    """Hash what a plan would do: steps, inputs and answer (SHA-256, hex)."""
    answer = {"answer": plan["answer"]} if plan.get("answer") else {}
    return digest({"steps": plan["steps"], "inputs": input_values(plan, inputs), **answer})


def step_fingerprint(step: Step) -> str:
    """Hash a step's content, so that a result is never assigned to another step."""
    return digest(step)


def step_fingerprints(plan: Mapping[str, Any] | None) -> dict[str, str]:
    """Hash the content of every step of a plan, by id."""
    return {step["id"]: step_fingerprint(step) for step in steps_of(plan)}


def plan_difference(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> dict[str, list[str]]:
    """List the steps that were added, removed and changed from one revision to the next."""
    before, after = steps_by_id(old), steps_by_id(new)
    return {
        "added": [i for i in after if i not in before],
        "removed": [i for i in before if i not in after],
        "changed": [i for i in after if i in before and after[i] != before[i]],
    }


def lost_checks(
    old: Mapping[str, Any] | None, new: Mapping[str, Any] | None, difference: Mapping[str, Sequence[str]]
) -> list[str]:
    """List the new steps of a revision that replace steps with a check, if none of them has one."""
    before, after = steps_by_id(old), steps_by_id(new)
    had = any(_is_checked(before[step_id]) for step_id in difference["removed"])
    has = any(_is_checked(after[step_id]) for step_id in difference["added"])
    return list(difference["added"]) if had and not has else []


def _is_checked(step: Step) -> bool:
    return bool(step.get("success_criteria")) or "output_schema" in step


def lost_its_check(step: Step, plan_id: str, audit: Iterable[AuditEvent]) -> bool:
    """Tell whether nothing checks a step because a model's revision dropped its check."""
    return not _is_checked(step) and any(
        step["id"] in (event.get("difference") or {}).get("unchecked", ())
        for event in audit
        if event.get("plan_id") == plan_id
    )


def used_ids(plan: Mapping[str, Any] | None, audit: Iterable[AuditEvent]) -> set[str]:
    """Collect every step id that any revision of this plan has used."""
    used = set(steps_by_id(plan))
    for event in audit:
        difference: Mapping[str, list[str]] = event.get("difference") or {}
        if plan and event.get("plan_id") == plan.get("id"):
            used.update(*difference.values())
    return used


def unused_id(wanted: str, revision: int, taken: set[str]) -> str:
    """Derive an id that no revision has used: ``pack`` becomes ``pack_r2``."""
    if wanted not in taken:
        return wanted
    suffix = f"_r{revision}"
    candidate, n = wanted[: 64 - len(suffix)] + suffix, 2
    while candidate in taken:
        tail = f"{suffix}_{n}"
        candidate, n = wanted[: 64 - len(tail)] + tail, n + 1
    return candidate
