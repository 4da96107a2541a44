"""What a form says about a plan: its text, and the values of its inputs."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ..plan.files.plan_files import read_plan_text
from ..report.markup import Markup, element
from .frame import field

__all__ = ["declared_inputs", "input_fields", "plan_field", "typed_inputs"]

_PREFIX = "input."

Declared = tuple[str, str, str]
"""An input's name, its description, and the text to begin with."""


def declared_inputs(form: Mapping[str, str]) -> list[Declared]:
    """List the inputs that the plan of a form declares.

    Raises:
        InvalidPlanError: If the text is no plan.
    """
    text = form.get("plan", "").strip()
    declared = read_plan_text(text, "the plan").plan.get("inputs") if text else None
    found = []
    for name, spec in declared.items() if isinstance(declared, Mapping) else ():
        about = spec if isinstance(spec, Mapping) else {}
        default = about.get("default")
        begin = default if isinstance(default, str) else "" if default is None else json.dumps(default)
        hint = ", ".join(str(about[key]) for key in ("type", "description") if key in about)
        found.append((str(name), hint, form.get(f"{_PREFIX}{name}", begin)))
    return found


def typed_inputs(form: Mapping[str, str]) -> dict[str, str]:
    """Return the values that were typed, by the input's name."""
    return {key.removeprefix(_PREFIX): text for key, text in form.items() if key.startswith(_PREFIX) and text}


def input_fields(inputs: list[Declared]) -> Markup | str:
    """Write a field for each input; "" where there is none."""
    given = [field(name, f"{_PREFIX}{name}", value, hint=hint) for name, hint, value in inputs]
    return element("fieldset", element("legend", "Inputs of the plan"), *given) if given else ""


def plan_field(plan: str, hint: str) -> Markup:
    """Write the field for the text of a plan file."""
    rows = max(10, min(30, plan.count("\n") + 2))
    return field("Plan file", "plan", plan, rows=rows, hint=hint, class_="code", spellcheck="false")
