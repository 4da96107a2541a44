"""Ask a person, at the terminal, the questions that a run waits for."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import InvalidPlanError
from ..storage.plan_files import dump_plan
from .editor import EditorError, edit_file, parse_plan
from .snapshots import OpenQuestion
from .terminal import Screen

__all__ = ["ask_person"]

Answer = Any
Ask = Callable[[Screen, OpenQuestion], Answer | None]

LATER = "leave the question open and stop here"


def ask_person(screen: Screen, questions: Sequence[OpenQuestion]) -> dict[str, Answer]:
    """Ask every open question.

    Returns:
        Answers by question id, in the shapes that a resume takes; a question left open has none.
    """
    answers: dict[str, Answer] = {}
    for number, question in enumerate(questions, start=1):
        of_many = f" ({number} of {len(questions)})" if len(questions) > 1 else ""
        screen.question(
            _TITLES.get(question.name, question.name or "A question") + of_many, question.description
        )
        answer = _ASK.get(question.name, _ask_anything)(screen, question)
        if answer is not None:
            answers[question.id] = answer
    return answers


# --- plans and steps ---------------------------------------------------------------------


def _approve_plan(screen: Screen, question: OpenQuestion) -> Answer | None:
    choices = {
        "approve": "run this plan",
        "edit": "change the plan in your editor; an edit that is valid counts as approved",
        "reject": "say what should be different",
        "later": LATER,
    }
    text = dump_plan(question.args["plan"], format="yaml")
    while True:
        match screen.choose("What now?", choices):
            case "approve":
                return "approve"
            case "reject":
                return _rejection(screen, "What should be different? (empty: just reject)")
            case "edit":
                text, plan = _edited(screen, text)
                if plan is not None and plan != question.args["plan"]:
                    return {"type": "edit", "args": {"plan": plan}}
                if plan is not None:
                    screen.note("Nothing was changed.")
            case _:
                return None


def _approve_step(screen: Screen, question: OpenQuestion) -> Answer | None:
    choices = {
        "approve": "run this step",
        "edit": "change its task or arguments in your editor, and run it",
        "reject": "do not run it; the step fails",
        "later": LATER,
    }
    text = dump_plan(question.args["step"], format="yaml")
    while True:
        match screen.choose("What now?", choices):
            case "approve":
                return "approve"
            case "reject":
                return _rejection(screen, "Why? (may be empty)")
            case "edit":
                text, step = _edited(screen, text)
                if step is not None:
                    return {"type": "edit", "args": {"step": step}}
            case _:
                return None


def _rejection(screen: Screen, prompt: str) -> Answer | None:
    said = screen.ask_line(prompt)
    return None if said is None else {"type": "reject", "message": said}


def _edited(screen: Screen, text: str) -> tuple[str, dict[str, Any] | None]:
    """Return the text after editing, and the mapping it holds; None while it holds none."""
    try:
        text = edit_file(text, "plan.yaml")
        return text, parse_plan(text).plan
    except EditorError as error:
        screen.note(f"{error}. The question is still open.")
    except InvalidPlanError as error:
        screen.note(f"This cannot be read: {error}. Edit again, your text is kept.")
    return text, None


# --- decisions ---------------------------------------------------------------------------

_DECISIONS: dict[str, dict[str, str]] = {
    "handle_step_failure": {
        "retry": "try the step again, with a hint if you like",
        "skip": "go on without it",
        "patch": "revise this step and what depends on it",
        "replan": "revise everything that is not done",
        "supply": "give the step's output yourself",
        "abort": "end the run with a report",
        "later": LATER,
    },
    "resolve_unknown_outcome": {
        "happened": "it took effect: give its output",
        "run_again": "it did not take effect: run it again",
        "fail": "treat the step as failed",
        "later": LATER,
    },
    "extend_budget": {
        "extend": "allow more",
        "finish": "stop with what there is",
        "abort": "end the run now",
        "later": LATER,
    },
}
_WITH_HINT = {"retry", "patch", "replan"}
_WITH_OUTPUT = {"supply", "happened"}


def _decide(screen: Screen, question: OpenQuestion) -> Answer | None:
    decision = screen.choose("What now?", _DECISIONS[question.name])
    if decision in (None, "later"):
        return None
    args: dict[str, Any] = {"decision": decision}
    prompt, name, read = _MORE.get(str(decision), ("", "", str))
    if prompt:
        said = screen.ask_line(prompt)
        if said is None:
            return None
        if said or name == "output":
            args[name] = read(said)
    return {"type": "edit", "args": args}


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


_MORE: dict[str, tuple[str, str, Callable[[str], Any]]] = {
    **dict.fromkeys(_WITH_HINT, ("A hint for it? (may be empty)", "instructions", str)),
    **dict.fromkeys(_WITH_OUTPUT, ("Its output (JSON, or else text):", "output", _json_or_text)),
    "extend": ("By how much? (empty: as proposed)", "by", _json_or_text),
}
"""What else a decision takes: a prompt, the argument's name, how it is read."""


def _ask_anything(screen: Screen, question: OpenQuestion) -> Answer | None:
    """Ask a question of somebody else's (a tool's, a middleware's), whose answers we do not know."""
    screen.data(json.dumps(question.value, ensure_ascii=False, indent=2, default=str))
    said = screen.ask_line("Your answer (JSON, or else text; empty: leave the question open):")
    return _json_or_text(said) if said else None


_TITLES = {
    "approve_plan": "May this plan run?",
    "approve_step": "May this step run?",
    "handle_step_failure": "A step failed",
    "resolve_unknown_outcome": "Did this take effect?",
    "extend_budget": "A budget is nearly used up",
}
_ASK: dict[str, Ask] = {
    "approve_plan": _approve_plan,
    "approve_step": _approve_step,
    **dict.fromkeys(_DECISIONS, _decide),
}
