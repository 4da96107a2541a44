"""Check whether the inputs are declared correctly and have values that fit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ...errors import known
from ...state import Plan, PlanIssue
from ..schemas import schema_problem, value_problem
from .facts import PlanFacts, Rule, issue

__all__ = ["RULES", "wrong_value"]


def _inputs(plan: Plan, facts: PlanFacts) -> Iterator[PlanIssue]:
    for name, spec in plan["inputs"].items():
        where = ("inputs", name)
        schema = {key: value for key, value in spec.items() if key != "default"}
        if problem := schema_problem(schema):
            yield issue("bad_schema", None, f"input {name!r} {problem}", *where)
            continue
        wanted = _declared_as(schema)
        if "default" in spec and (problem := value_problem(schema, spec["default"])):
            message = f"input {name!r} is declared as {wanted}, but its default {problem}"
            yield issue("type_mismatch", None, message, *where, "default")
        if name in facts.inputs:
            if problem := value_problem(schema, facts.inputs[name]):
                message = f"input {name!r} is declared as {wanted}, but the value given {problem}"
                yield issue("type_mismatch", None, message, *where)
        elif "default" not in spec:
            message = f"the input {name!r} ({wanted}) has no default and was not given"
            yield issue("missing_input", None, message, *where)
    for name in facts.inputs if plan["inputs"] else ():
        if name not in plan["inputs"]:
            message = f"the plan has no input {name!r}; known inputs: {known(plan['inputs'], given=name)}"
            yield issue("unresolved_reference", None, message, "inputs", name)


def wrong_value(issue: Mapping[str, Any]) -> str | None:
    """Name the input whose given value an issue is about; None: it is about the plan."""
    about, *field = issue.get("field") or ("",)
    is_given = issue["code"] in ("type_mismatch", "unresolved_reference") and about == "inputs"
    return str(field[0]) if is_given and issue["step_id"] is None and len(field) == 1 else None


def _declared_as(schema: Mapping[str, Any]) -> str:
    """Describe the allowed values of an input in a few words."""
    if "enum" in schema:
        return "one of " + ", ".join(json.dumps(value, ensure_ascii=False) for value in schema["enum"])
    kind = schema.get("type", "any value" if not schema else "a JSON Schema")
    named = " or ".join(kind) if isinstance(kind, list) else str(kind)
    return f"{named} ({schema['format']})" if "format" in schema else named


RULES: tuple[Rule, ...] = (_inputs,)
