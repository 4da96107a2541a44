"""A question, and the form that answers it in place."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..people.forms import choices_of
from ..people.questions import QUESTIONS, RUNNER_STOPPED, OpenQuestion
from ..people.wording import DECISIONS, TITLES
from ..report.html import markdown
from ..report.markup import Markup, element, exact, join
from .answers import form_fields, is_editable
from .frame import Frame, field, note

__all__ = ["question_card"]

_NO_FORM: Mapping[str, str] = {}


def question_card(
    frame: Frame,
    thread: str,
    question: OpenQuestion,
    *,
    impossible: Collection[str] = (),
    about: object = "",
    busy: bool = False,
    kept: bool = False,
    refused: str = "",
    typed: Mapping[str, str] = _NO_FORM,
) -> Markup:
    """Write a question with all the ways to answer it.

    Args:
        frame: The page.
        thread: Who asks.
        question: What is asked.
        impossible: Decisions that could not be carried out, which are not offered.
        about: A line about the run, if the question is not on the run's own page.
        busy: Whether the run still works on other steps.
        kept: Whether an answer has come, and waits until those have ended.
        refused: Why the last answer was not taken.
        typed: What the form held then.
    """
    title = TITLES.get(question.name, question.name or "A question")
    step = question.args.get("step_id")
    head = element(
        "h2" if about else "h3",
        title,
        element("code", step) if isinstance(step, str) else "",
        id=f"title-{question.id}",
    )
    ways: Markup | str = frame.form(
        frame.link("runs", thread, "answers", question.id),
        note(refused) if refused else "",
        element("input", type="hidden", name="back", value="inbox") if about else "",
        *_ways(question, impossible, typed),
        _edit_link(frame, thread, question),
    )
    if kept:
        until = "the steps that run now have ended" if busy else "the run has gone on"
        words = f"Your answer is kept. It is given when {until}."
        other = element("details", element("summary", "Answer differently …"), ways)
        ways = join([element("p", words, class_="kept", role="status"), other])
    elif busy and not frame.read_only:
        words = "Other steps still run. Your answer is kept, and given when they have ended."
        ways = join([element("p", words, class_="muted"), ways])
    # A form that somebody fills in stays as it is while the page changes around it.
    key = f"question-{question.id}{'-kept' if kept else ''}"
    said = element("div", markdown(question.description), class_="asked", dir="auto", tabindex="0")
    return element(
        "article",
        about,
        head,
        said,
        ways,
        class_="panel waiting question",
        id=key,
        aria_labelledby=f"title-{question.id}",
    )


def _ways(question: OpenQuestion, impossible: Collection[str], typed: Mapping[str, str]) -> Sequence[object]:
    known = QUESTIONS.get(question.name)
    if known is not None and known.decisions:
        return _decide(question, impossible, typed)
    if question.name == "ask_person":
        return [*_fields(question, typed), _buttons(("respond", "Answer")), _reject(typed, "Do not answer")]
    if known is not None:
        return [
            _buttons(("approve", "Approve")),
            _reject(typed, "Reject"),
        ]
    ways: list[object] = [
        field("Your answer", "message", typed.get("message", ""), rows=3, hint="JSON, or else text")
    ]
    ways.append(_buttons(("respond", "Answer")))
    if isinstance(question.value, Mapping) and question.value.get("action_requests"):
        ways += [_buttons(("approve", "Approve")), _reject(typed, "Reject")]
    return ways


def _edit_link(frame: Frame, thread: str, question: OpenQuestion) -> Markup | str:
    if not is_editable(question):
        return ""
    return element(
        "p", element("a", "Edit …", href=frame.link("runs", thread, "answers", question.id, "edit"))
    )


def _buttons(*kinds: tuple[str, str]) -> Markup:
    made = [element("button", words, name="type", value=kind, class_=kind) for kind, words in kinds]
    return element("p", join(made, " "), class_="buttons")


def _reject(typed: Mapping[str, str], words: str) -> Markup:
    return element(
        "details",
        element("summary", f"{words} …"),
        field("What should be different, or why not?", "message", typed.get("message", ""), rows=3),
        _buttons(("reject", words)),
        open=typed.get("type") == "reject",
    )


def _decide(
    question: OpenQuestion, impossible: Collection[str], typed: Mapping[str, str]
) -> Sequence[object]:
    offered = [one for one in QUESTIONS[question.name].decisions if one not in impossible]
    chosen = typed.get("decision") or str(question.args.get("decision") or offered[0])
    radios = [_radio("decision", one, one == chosen, DECISIONS[question.name][one]) for one in offered]
    more: list[object] = []
    if {"retry", "patch", "replan"} & set(offered):
        said = typed.get("instructions", "")
        more.append(field("A hint, if you like", "instructions", said, rows=2))
    if {"supply", "happened"} & set(offered):
        label = "Its output, for " + ("supply" if "supply" in offered else "happened")
        more.append(field(label, "output", typed.get("output", ""), rows=2, hint="JSON, or else text"))
    if "extend" in offered:
        by = typed.get("by") or str(question.args.get("by") or "")
        more.append(field("Extend by", "by", by, inputmode="decimal"))
    if isinstance(question.value, Mapping) and question.value.get("former_runner") is not None:
        words = "I have made sure that the process that ran it has stopped"
        box = element("input", type="checkbox", name=RUNNER_STOPPED, value="1")
        more.append(element("label", box, " ", words, class_="choice"))
    legend = element("legend", "What now?")
    return [element("fieldset", legend, *radios), *more, _buttons(("decide", "Decide"))]


def _radio(name: str, value: str, checked: bool, meaning: str = "") -> Markup:
    box = element("input", type="radio", name=name, value=exact(value), checked=checked)
    said = element("span", f" – {meaning}", class_="muted") if meaning else ""
    return element("label", box, " ", element("b", value), said, class_="choice")


def _fields(question: OpenQuestion, typed: Mapping[str, str]) -> Sequence[object]:
    if fields := form_fields(question):
        required = question.args["form"].get("required") or ()
        return [_value(name, one, typed, required=name in required) for name, one in fields.items()]
    choices = [str(choice) for choice in question.args.get("choices") or ()]
    if choices:
        radios = [_radio("choice", choice, choice == typed.get("choice")) for choice in choices]
        return [element("fieldset", element("legend", "Your answer"), *radios)]
    return [field("Your answer", "message", typed.get("message", ""), rows=3)]


def _value(name: str, schema: Mapping[str, Any], typed: Mapping[str, str], *, required: bool) -> Markup:
    """Write a field of a form: a choice if the schema lists the values."""
    default = schema.get("default")
    value = typed.get(f"field.{name}") or ("" if default is None else str(default))
    label = str(schema.get("title") or name) + (" (required)" if required else "")
    hint = str(schema.get("description") or "")
    if choices := choices_of({"properties": {name: schema}}):
        options = [
            element("option", choice, value=exact(choice), selected=choice == value)
            for choice in ["", *choices]
        ]
        box = element("select", *options, name=f"field.{name}")
        return element(
            "label",
            element("span", label, class_="label"),
            element("span", hint, class_="hint"),
            box,
            class_="field",
        )
    return field(label, f"field.{name}", value, hint=hint)
