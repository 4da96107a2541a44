"""Find which parts of an agent's answer other steps use, if its step declares no form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..state import Plan, Step
from .references import paths_in, references_in, step_references

__all__ = ["form_wanted"]


def form_wanted(plan: Plan, step: Step) -> dict[str, Any] | None:
    """Return the JSON Schema of the parts of an agent step that others use; None if they use all of it.

    Parts that only conditions and the answer name may be missing. So may a part within a larger expression,
    which may be one of two alternatives, as in ``${a.x || a.y}``.
    """
    if "tools" not in step or "output_schema" in step or "for_each" in step:
        return None
    parts, needed, whole_lists = dict[str, Any](), set[str](), False
    for where, path, is_plain in _uses(plan, step["id"]):
        is_list = where == "for_each" and is_plain
        if len(path) == 1:
            whole_lists = whole_lists or is_list
            continue
        found = {"type": "array"} if is_list and len(path) == 2 else {}
        parts[path[1]] = parts.get(path[1]) or found
        if is_plain and where not in ("when", "answer"):
            needed.add(path[1])
    if whole_lists:
        return None if parts else {"type": "array"}
    return {"type": "object", "properties": parts, "required": sorted(needed)} if parts else None


def _uses(plan: Plan, step_id: str) -> Iterator[tuple[str, list[str], bool]]:
    """Yield each use of a step's parts: where, the path, and whether the path is the whole expression.

    In a valid plan, the steps that use an output depend on its step.
    """
    users = [other for other in plan["steps"] if step_id in other["depends_on"]]
    found = [pair for other in users for pair in step_references(other)]
    found += [("answer", one.expression) for one in references_in(plan.get("answer") or "")]
    for where, expression in found:
        paths = list(paths_in(expression))
        for path, is_plain in paths:
            if path[0] == step_id:
                yield where, path, is_plain
