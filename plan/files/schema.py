"""Make the JSON Schema of plan files from the types in `state`, so that editors know the same rules."""

from __future__ import annotations

import ast
import inspect
import json
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from ... import state
from ...state import MODEL_CLASSES, MODEL_FIELDS, RESERVED_IDS, STEP_ID_PATTERN, STEP_KINDS, Plan
from ..criteria import KINDS, criteria_format

__all__ = ["SCHEMA_ID", "plan_schema", "schema_text"]

SCHEMA_ID = "urn:plan-execute:plan:1"

_KINDS_WITH_A_TASK = ("tools", "agent")
_TYPE_NAMES = ["array", "boolean", "integer", "null", "number", "object", "string"]


def schema_text() -> str:
    """Write the schema as the file that is published."""
    return json.dumps(plan_schema(), indent=2, ensure_ascii=False) + "\n"


@cache
def plan_schema() -> dict[str, Any]:
    """Build the JSON Schema (draft 2020-12) of a plan file.

    It refuses what `plan/rules/` calls malformed, as far as a schema can: it does not check that ids are
    unique, that references resolve, or that arguments fit their tools.
    """
    schema = TypeAdapter(Plan).json_schema()
    definitions = schema.pop("$defs")
    definitions = dict(sorted({**definitions, **criteria_format().json_schema()["$defs"]}.items()))
    for name, definition in {"Plan": schema, **definitions}.items():
        _describe(name, definition)
    _narrow_plan(schema)
    _narrow_step(definitions["Step"])
    _narrow_criterion(definitions["Criterion"])
    definitions["SubPlan"]["properties"]["goal"]["pattern"] = r"\S"
    definitions["Ask"]["properties"]["question"]["pattern"] = r"\S"
    definitions["Input"] = _input()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        **schema,
        "title": "A plan of plan-execute",
        "$defs": definitions,
    }


# --- descriptions ------------------------------------------------------------------------


def _describe(name: str, definition: dict[str, Any]) -> None:
    """Remove titles, which only repeat names, and add the documentation of fields from the type."""
    definition.pop("title", None)
    said = _field_docstrings().get(name, {})
    for field, spec in definition.get("properties", {}).items():
        spec.pop("title", None)
        if field in said:
            spec["description"] = said[field]


@cache
def _field_docstrings() -> dict[str, dict[str, str]]:
    """Read the text under each field of the types in `state`, which only the source contains."""
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(inspect.getsource(state)).body:
        if isinstance(node, ast.ClassDef):
            pairs = zip(node.body, node.body[1:], strict=False)
            found[node.name] = {
                field.target.id: _plain(text.value.value)
                for field, text in pairs
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
                if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
                if isinstance(text.value.value, str)
            }
    return found


def _plain(text: str) -> str:
    return " ".join(text.replace("``", "`").split())


# --- what the types cannot say -----------------------------------------------------------


def _narrow_plan(plan: dict[str, Any]) -> None:
    properties = plan["properties"]
    properties["inputs"]["additionalProperties"] = {"$ref": "#/$defs/Input"}
    properties["steps"]["minItems"] = 1
    plan["properties"] = {
        "$schema": {
            "type": "string",
            "description": "The schema of this file, for editors; no part of the plan.",
        },
        "$comment": {"description": "Notes for readers; no part of the plan."},
        **properties,
    }


def _narrow_step(step: dict[str, Any]) -> None:
    properties = step["properties"]
    properties["success_criteria"]["items"] = {"$ref": "#/$defs/Criterion"}
    properties["id"] |= {"pattern": f"^{STEP_ID_PATTERN}$", "not": {"enum": sorted(RESERVED_IDS)}}
    for name in ("max_attempts", "max_iterations"):
        properties[name]["minimum"] = 1
    properties["timeout_s"]["exclusiveMinimum"] = 0
    step["oneOf"] = [{"required": [kind]} for kind in STEP_KINDS]
    step["if"] = {"anyOf": [{"required": [kind]} for kind in _KINDS_WITH_A_TASK]}
    step["then"] = {"required": ["task"], "properties": {"task": {"pattern": r"\S"}}}
    confirmed = {"properties": {"confirm": {"const": True}}, "required": ["confirm"]}
    step["allOf"] = [{"if": confirmed, "then": {"required": ["call"]}}]
    for name in MODEL_FIELDS:
        properties[name] |= {"minLength": 1, "examples": list(MODEL_CLASSES)}
    step["dependentRequired"] = {name: ["tools"] for name in MODEL_FIELDS}


def _narrow_criterion(criterion: dict[str, Any]) -> None:
    """Give each type of criterion its own parameter and no other."""
    said = criterion["properties"]
    said["type"]["description"] = "How it is checked; the cheapest criteria are checked first, models last."
    for kind in KINDS.values():
        for parameter in kind.parameters:
            said[parameter]["description"] = f"Of `{kind.type}`: {kind.meaning}."
    criterion["oneOf"] = [
        {
            "properties": {"type": {"const": kind.type}, **dict.fromkeys(kind.parameters, True)},
            "required": ["type", *kind.parameters],
            "additionalProperties": False,
        }
        for kind in KINDS.values()
    ]
    # The branches are stricter; editors offer these for completion.
    criterion["properties"] = said


def _input() -> dict[str, Any]:
    """Describe the declaration of an input with keywords of JSON Schema; others are allowed too."""
    one_type = {"enum": _TYPE_NAMES}
    return {
        "description": "A parameter: a JSON Schema for its values, and a default value.",
        "type": "object",
        "properties": {
            "type": {
                "description": "The type of the values.",
                "anyOf": [one_type, {"type": "array", "items": one_type, "minItems": 1, "uniqueItems": True}],
            },
            "default": {
                "description": "The value if none is given. Without a default, a run must give a value."
            },
            "description": {"type": "string", "description": "What it is for."},
            "enum": {"type": "array", "description": "The allowed values."},
            "format": {"type": "string", "description": "For example date, date-time, email or uuid."},
            "pattern": {"type": "string", "description": "A regular expression over text."},
            "minimum": {"type": "number"},
            "maximum": {"type": "number"},
            "items": {"type": ["object", "boolean"], "description": "What the items of an array must be."},
            "properties": {"type": "object", "description": "What the members of an object must be."},
            "required": {"type": "array", "items": {"type": "string"}},
        },
    }
