"""Find which parts of an agent's answer other steps use, if its step declares no form."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from ..state import Plan
from .references import paths_in, references_in, step_references

__all__ = ["forms_wanted"]

_Use = tuple[str, list[str], bool]
"""Where a step's output is used, by which path, and whether the path is the whole expression."""


def forms_wanted(plan: Plan) -> dict[str, dict[str, Any]]:
    """Return the JSON Schemas of the parts of agent steps that others use, for steps without a form, by id.

    A step of which others use all has none. Parts that only conditions and the answer name may be missing.
    So may a part within a larger expression, which may be one of two alternatives, as in ``${a.x || a.y}``.
    """
    open_ids = [
        step["id"]
        for step in plan["steps"]
        if "tools" in step and "output_schema" not in step and "for_each" not in step
    ]
    uses = _uses(plan) if open_ids else {}
    forms = {step_id: _form(uses.get(step_id, ())) for step_id in open_ids}
    return {step_id: form for step_id, form in forms.items() if form is not None}


def _form(uses: Sequence[_Use]) -> dict[str, Any] | None:
    parts, needed, whole_lists = dict[str, Any](), set[str](), False
    for where, path, is_plain in uses:
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


def _uses(plan: Plan) -> dict[str, list[_Use]]:
    """List the uses of each step's output."""
    found = [pair for step in plan["steps"] for pair in step_references(step)]
    found += [("answer", one.expression) for one in references_in(plan.get("answer") or "")]
    uses: defaultdict[str, list[_Use]] = defaultdict(list)
    for where, expression in found:
        for path, is_plain in paths_in(expression):
            uses[path[0]].append((where, path, is_plain))
    return uses
