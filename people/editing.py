"""Prepare what a person edits of a plan: everything that they may change, and no more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..state import Call, Plan, Step

__all__ = ["editable_plan", "editable_step"]

_MANAGED = ("id", "revision")
_DEFAULTS: tuple[Any, ...] = ("", [], {}, None)


def editable_plan(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return a plan without its id and revision, and without fields that have their default.

    Its fields, and those of its steps, come in the order of `Plan` and `Step`; unknown ones come last.
    """
    kept = _without_defaults(plan, Plan.__annotations__)
    kept = {key: value for key, value in kept.items() if key not in _MANAGED}
    if kept.get("complete") is True:
        del kept["complete"]
    return kept | {"steps": [editable_step(step) for step in plan.get("steps", ())]}


def editable_step(step: Mapping[str, Any]) -> dict[str, Any]:
    """Return a step without fields that have their default, in the field order of `Step`."""
    edited = _without_defaults(step, Step.__annotations__)
    if isinstance(call := edited.get("call"), Mapping):
        edited["call"] = _without_defaults(call, Call.__annotations__)
    return edited


def _without_defaults(value: Mapping[str, Any], order: Iterable[str]) -> dict[str, Any]:
    # `tools: []` marks an agent without tools, and a task is there to be filled in.
    ordered = {key: value[key] for key in (*order, *value) if key in value}
    return {key: part for key, part in ordered.items() if part not in _DEFAULTS or key in ("tools", "task")}
