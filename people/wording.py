"""Name questions and decisions, wherever a person is asked."""

from __future__ import annotations

__all__ = ["DECISIONS", "NEED_A_MODEL", "TITLES"]

TITLES = {
    "approve_plan": "May this plan run?",
    "approve_step": "May this step run?",
    "confirm_call": "May this call be made?",
    "ask_person": "A question to you",
    "handle_step_failure": "A step failed",
    "resolve_unknown_outcome": "Did this take effect?",
    "extend_budget": "A budget is nearly used up",
}
"""What each question asks, in a few words."""

DECISIONS: dict[str, dict[str, str]] = {
    "handle_step_failure": {
        "retry": "try the step again, with a hint if you like",
        "skip": "go on without it",
        "patch": "revise this step and what depends on it",
        "replan": "revise everything that is not done",
        "supply": "give the step's output yourself",
        "abort": "end the run with a report",
    },
    "resolve_unknown_outcome": {
        "happened": "it took effect: give its output",
        "run_again": "it did not take effect: run it again",
        "fail": "treat the step as failed",
    },
    "extend_budget": {
        "extend": "allow more",
        "finish": "stop with what there is",
        "abort": "end the run now",
    },
}
"""What each decision means, by question."""

NEED_A_MODEL = frozenset({"patch", "replan"})
"""Decisions that need a model."""
