"""Read a plan that a model wrote in the format of plan files, instead of in the form it was asked for."""

from __future__ import annotations

from typing import Any

__all__ = ["as_draft", "as_draft_step"]

Json = Any

_OF_THE_RUN = ("id", "revision", "goal")
"""Fields of a plan that the run sets itself."""


def as_draft(plan: dict[str, Json] | list[Json]) -> dict[str, Json]:
    """Give a plan the fields of a draft; without an outcome it is one, if it has steps.

    A plan may also be an object under the key ``plan``, the list of its steps, or its only step.
    """
    if isinstance(plan, list) or ("id" in plan and "steps" not in plan):
        plan = {"steps": plan if isinstance(plan, list) else [plan]}
    elif set(plan) == {"plan"} and isinstance(plan["plan"], dict):
        plan = plan["plan"]
    draft = _without_nulls(plan)
    if draft.get("steps"):
        draft = {"outcome": "plan", **{key: draft[key] for key in draft if key not in _OF_THE_RUN}}
    return draft


def as_draft_step(step: dict[str, Json]) -> dict[str, Json]:
    """Give a step the fields of a draft's step."""
    draft = _without_nulls(step)
    call, ask, plan = draft.get("call"), draft.get("ask"), draft.get("plan")
    if isinstance(call, dict) and "tool" in call and set(call) <= {"tool", "args"}:
        draft |= {"call": call["tool"], "arguments": call.get("args") or {}}
    if isinstance(ask, dict) and "question" in ask and set(ask) <= {"question", "choices"}:
        draft |= {"ask": ask["question"], "choices": ask.get("choices") or []}
    if isinstance(plan, dict) and set(plan) == {"goal"}:
        draft["goal"] = draft.pop("plan")["goal"]
    if "success_criteria" in draft and "success_criterion" not in draft:
        draft["success_criterion"] = draft.pop("success_criteria")
    return draft


def _without_nulls(fields: dict[str, Json]) -> dict[str, Json]:
    """Leave out null, which models write for what they do not use."""
    return {key: value for key, value in fields.items() if value is not None}
