"""Forms of questions: which fields each has, and how they become an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InvalidAnswerError
from ..people.editing import editable_plan, editable_step
from ..people.forms import amount_in, json_or_text
from ..people.questions import QUESTIONS, RUNNER_STOPPED, OpenQuestion, read_answer
from ..plan.files.plan_files import dump_plan, read_plan_text

__all__ = ["answer_of", "editable", "form_fields", "is_editable"]

Json = Any

_EDITED = {"approve_plan": "plan", "approve_step": "step", "confirm_call": "tool_args"}
"""The argument that a person may edit."""


def is_editable(question: OpenQuestion) -> bool:
    """Tell whether a person may edit what was proposed."""
    return _EDITED.get(question.name, "") in question.args


def editable(question: OpenQuestion) -> str:
    """Return the text in which a person changes what was proposed."""
    name = _EDITED[question.name]
    value = question.args[name]
    if name != "tool_args":
        value = editable_plan(value) if name == "plan" else editable_step(value)
    # The calls of a loop are a list.
    return dump_plan(value if isinstance(value, dict) else {name: value}, format="yaml")


def form_fields(question: OpenQuestion) -> dict[str, Mapping[str, Json]]:
    """Return the fields of a question that asks for values, by name, each as JSON Schema."""
    form = question.args.get("form")
    fields = form.get("properties") if isinstance(form, Mapping) else None
    return {name: field for name, field in fields.items() if isinstance(field, Mapping)} if fields else {}


def answer_of(question: OpenQuestion, form: Mapping[str, str]) -> Json:
    """Make an answer from a form, and check that it fits.

    Raises:
        InvalidAnswerError: If it does not.
        InvalidPlanError: If an edited text cannot be read; the issues name its lines.
    """
    kind = form.get("type", "")
    make = {"approve": _approval, "reject": _rejection, "edit": _edit, "decide": _decision}.get(kind, _words)
    answer = make(question, form)
    if question.name in QUESTIONS:
        read_answer(question.value, answer)
    return answer


def _approval(question: OpenQuestion, _: Mapping[str, str]) -> Json:
    return _of_all(question, {"type": "approve"})


def _rejection(question: OpenQuestion, form: Mapping[str, str]) -> Json:
    return _of_all(question, {"type": "reject", "message": form.get("message", "").strip()})


def _of_all(question: OpenQuestion, decision: dict[str, str]) -> Json:
    """Give one decision to our question, and one for each action to a question of a middleware."""
    if question.name in QUESTIONS:
        return decision
    return {"decisions": [decision for _ in question.value["action_requests"]]}


def _edit(question: OpenQuestion, form: Mapping[str, str]) -> Json:
    edited = read_plan_text(form.get("edited", ""), "your edit").plan
    name = _EDITED[question.name]
    return {"type": "edit", "args": edited if name in edited else {name: edited}}


def _decision(question: OpenQuestion, form: Mapping[str, str]) -> Json:
    args: dict[str, Json] = {"decision": form.get("decision", "")}
    if instructions := form.get("instructions", "").strip():
        args["instructions"] = instructions
    if args["decision"] in ("supply", "happened"):
        args["output"] = json_or_text(form.get("output", ""))
    if args["decision"] == "extend":
        args["by"] = amount_in(form.get("by", "")) if form.get("by", "").strip() else question.args.get("by")
    if form.get(RUNNER_STOPPED):
        args[RUNNER_STOPPED] = True
    return {"type": "edit", "args": args}


def _words(question: OpenQuestion, form: Mapping[str, str]) -> Json:
    if fields := form_fields(question):
        given = {name: form[f"field.{name}"] for name in fields if form.get(f"field.{name}", "").strip()}
        return {"type": "edit", "args": {"answer": given}}
    said = form.get("choice") or form.get("message", "")
    if not said.strip():
        raise InvalidAnswerError("this answer is empty. The question stays open.")
    return {"type": "respond", "message": said} if question.name in QUESTIONS else json_or_text(said)
