"""Collect what people have said about a plan, for the models that continue it."""

from __future__ import annotations

from ..state import State, kind_of

__all__ = ["said_about_plan"]

_ANSWERS = ("plan_rejected", "plan_approved", "plan_edited")


def said_about_plan(state: State) -> list[str]:
    """List what people said when they decided about the current plan, in order."""
    plan = state.get("plan")
    plan_id = plan["id"] if plan else None
    return [
        event["trigger"]
        for event in state.get("audit") or ()
        if event["event"] in _ANSWERS
        and kind_of(event.get("by")) == "person"
        and event.get("plan_id") == plan_id
        and event.get("trigger")
    ]
