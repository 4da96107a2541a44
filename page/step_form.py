"""The form of one step beside the text of its plan: changes in the form go into the text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InvalidInputError, InvalidPlanError, known
from ..plan.files.kept_text import with_changes
from ..plan.files.plan_files import dump_plan, read_plan_text
from ..report.markup import Markup, element
from ..state import step_kind
from .frame import field

__all__ = ["step_form", "with_fields"]

Json = Any

_NEVER = "`false`"
"""A condition that never holds: its step is skipped."""
_WAS = "was"
"""The field with the form's first values: only what differs from them goes into the text."""


def with_fields(text: str, form: Mapping[str, str]) -> tuple[str, str]:
    """Put what was changed in the form into the text; comments and order are kept where possible.

    Args:
        text: The plan.
        form: The fields, and what is to be done with the step: ``remove`` it, ``add`` one after it.

    Returns:
        The text, and the id of the step whose form is shown next.

    Raises:
        InvalidPlanError: If the text cannot be read.
        InvalidInputError: If it has no such step any more.
    """
    was = _read_was(form)
    changed = {name: form.get(f"f.{name}", "") for name in was if form.get(f"f.{name}", "") != was[name]}
    order = form.get("type")
    if not changed and order not in ("remove", "add"):
        return text, form.get("step", "")
    plan = read_plan_text(text, "the plan").plan
    steps, at = _place(plan, form.get("shown", ""))
    step = steps[at]
    if gone := changed.keys() - _texts(step).keys():
        raise InvalidInputError(f"the step has no {min(gone)!r} any more: show it again")
    for name, value in changed.items():
        step = _with(step, name, value)
    steps[at] = step
    shown = form.get("step", "")
    if order == "remove":
        del steps[at]
    elif order == "add":
        shown = _new_id(steps)
        steps.insert(at + 1, {"id": shown, "task": "", "tools": []})
    new = {**plan, "steps": steps}
    return with_changes(text, new) or dump_plan(new, format="yaml"), shown


def _read_was(form: Mapping[str, str]) -> dict[str, str]:
    try:
        was = json.loads(form.get(_WAS) or "{}")
    except ValueError:
        was = None
    if not isinstance(was, dict) or not all(isinstance(value, str) for value in was.values()):
        raise InvalidInputError(f"the field {_WAS!r} of this form is not as the page wrote it")
    return was


def _place(plan: Mapping[str, Json], step_id: str) -> tuple[list[Any], int]:
    steps = _steps(plan)
    ids = [str(step.get("id")) for step in steps]
    if step_id not in ids:
        raise InvalidInputError(f"the plan has no step {step_id!r}; it has {known(ids, given=step_id)}")
    return steps, ids.index(step_id)


def _steps(plan: Mapping[str, Json]) -> list[Any]:
    steps = plan.get("steps")
    return [step for step in steps if isinstance(step, Mapping)] if isinstance(steps, list) else []


def _new_id(steps: Sequence[Mapping[str, Json]]) -> str:
    ids = {step.get("id") for step in steps}
    return next(name for number in range(1, len(steps) + 2) if (name := f"new_{number}") not in ids)


# --- a step as texts -----------------------------------------------------------------------


def _texts(step: Mapping[str, Json]) -> dict[str, str]:
    """Write the parts of a step that the form has, each as a text."""
    kind = step_kind(step)
    found = {"task": _text(step.get("task"))}
    call = step.get("call")
    if kind == "call" and isinstance(call, Mapping):
        args = call.get("args")
        found["tool"] = _text(call.get("tool"))
        found |= (
            {f"arg.{name}": _text(value) for name, value in args.items()} if isinstance(args, Mapping) else {}
        )
    elif kind in _INNER and isinstance(step[kind], Mapping):
        found[kind] = _text(step[kind].get(_INNER[kind]))
    elif kind == "tools":
        found["tools"] = _listed(step["tools"])
    elif kind == "agent":
        found["agent"] = _text(step["agent"])
    return found | {
        "depends_on": _listed(step.get("depends_on")),
        "when": _text(step.get("when")),
        "skip": "yes" if step.get("when") == _NEVER else "",
        "approve": "yes" if step.get("approve") is True else "",
    }


_INNER = {"ask": "question", "plan": "goal"}
"""The part of a step of this kind that the form has."""


def _text(value: Json) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _listed(value: Json) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else _text(value)


def _with(step: Mapping[str, Json], name: str, text: str) -> dict[str, Json]:
    """Return a step with one part as the form has it."""
    first, _, rest = name.partition(".")
    if first == "arg":
        call = step["call"]
        return {
            **step,
            "call": {**call, "args": {**call["args"], rest: _value(text, call["args"].get(rest))}},
        }
    if first == "tool":
        return {**step, "call": {**step["call"], "tool": text.strip()}}
    if first in _INNER:
        return {**step, first: {**step[first], _INNER[first]: text}}
    if first == "skip":
        first, text = "when", _NEVER if text else ""
    value: Json = {
        "depends_on": [part.strip() for part in text.split(",") if part.strip()],
        "tools": [part.strip() for part in text.split(",") if part.strip()],
        "approve": bool(text),
    }.get(first, text)
    rest_of_it = {key: part for key, part in step.items() if key != first}
    return {**step, first: value} if value or first in ("task", "tools") else rest_of_it


def _value(text: str, before: Json) -> Json:
    """Read an argument: a text stays one, anything else is JSON where it can be."""
    if isinstance(before, str):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


# --- the form ------------------------------------------------------------------------------


def step_form(text: str, chosen: str, tools: Sequence[str]) -> Markup:
    """Write the form of a step of a plan.

    Args:
        text: The plan.
        chosen: The step's id; another one is shown where there is no such step.
        tools: The tools that there are.
    """
    try:
        steps = _steps(read_plan_text(text, "the plan").plan)
    except InvalidPlanError:
        return _fields(element("p", "The form comes back when the text can be read.", class_="muted"))
    if not steps:
        return _fields(element("p", "The plan has no steps.", class_="muted"))
    ids = [str(step.get("id")) for step in steps]
    shown = chosen if chosen in ids else ids[0]
    texts = _texts(steps[ids.index(shown)])
    options = [element("option", one, selected=one == shown) for one in ids]
    choose = element(
        "p",
        element("label", "Step ", element("select", *options, name="step")),
        " ",
        element("button", "Show", name="type", value="check"),
        class_="buttons",
    )
    boxes = [_box(name, value) for name, value in texts.items() if name != "skip"]
    listed = [element("option", value=name) for name in tools]
    return _fields(
        choose,
        element("input", type="hidden", name="shown", value=shown),
        element("input", type="hidden", name=_WAS, id="was", value=json.dumps(texts, ensure_ascii=False)),
        *boxes,
        _check_box("skip", texts, "Skip this step; steps that need it get null"),
        element("datalist", *listed, id="tools"),
        element(
            "p",
            element("button", "Remove this step", name="type", value="remove"),
            " ",
            element("button", "Add a step after it", name="type", value="add"),
            class_="buttons",
        ),
    )


def _fields(*parts: object) -> Markup:
    return element("fieldset", element("legend", "One step"), *parts, id="fields")


_LABELS = {
    "task": "What to do",
    "tool": "Tool",
    "tools": "Tools (with commas)",
    "agent": "Agent",
    "ask": "Question",
    "plan": "Goal of its own plan",
    "depends_on": "After which steps (with commas)",
    "when": "Only when",
}
_LONG = ("task", "ask", "plan")


def _box(name: str, value: str) -> Markup:
    if name == "approve":
        return _check_box(name, {name: value}, "Ask before it runs")
    label = f"Argument {name.removeprefix('arg.')}" if name.startswith("arg.") else _LABELS[name]
    more = {"list": "tools", "autocomplete": "off"} if name == "tool" else {}
    rows = 2 if name in _LONG else min(8, value.count("\n") + 1) if "\n" in value else 0
    return field(label, f"f.{name}", value, rows=rows, **more)


def _check_box(name: str, texts: Mapping[str, str], words: str) -> Markup:
    box = element("input", type="checkbox", name=f"f.{name}", value="yes", checked=bool(texts[name]))
    return element("label", box, " ", words, class_="choice")
