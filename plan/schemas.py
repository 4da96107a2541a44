"""Find problems with a JSON Schema in a plan, or with a value that it describes.

What evaluates schemas is loaded where there is one: it takes longer than all other checks of a plan.
"""

from __future__ import annotations

import json
from typing import Any

from ..errors import WorkLimitError

__all__ = ["schema_problem", "value_problem"]


def schema_problem(schema: dict[str, Any]) -> str | None:
    """Return why a value cannot be used as a JSON Schema."""
    from ..safety.schemas import BadSchemaError, read_schema

    try:
        notes = read_schema(schema).notes
    except (BadSchemaError, WorkLimitError) as error:
        return f"is not a JSON Schema that can be used: {error}"
    return f"cannot be checked: {notes[0]}" if notes else _allows_anything(schema)


_SAYS_NOTHING = {"title", "description", "default", "examples", "$schema", "$id", "$comment", "$defs"}
_TYPES = {"string", "number", "integer", "boolean", "array", "object", "null"}


def _allows_anything(schema: dict[str, Any]) -> str | None:
    """Find fields in the place of keywords, as in ``{"id": "string"}``: such a schema checks nothing."""
    fields = {name: kind for name, kind in schema.items() if isinstance(kind, str) and kind in _TYPES}
    if fields and set(schema) - _SAYS_NOTHING <= set(fields) and "type" not in fields:
        properties = {name: {"type": kind} for name, kind in fields.items()}
        right = json.dumps({"type": "object", "properties": properties}, ensure_ascii=False)[:300]
        return f"checks nothing: {', '.join(fields)} are not keywords of JSON Schema; write {right}"
    inner = [*_dicts(schema.get("properties", {})), schema.get("items")]
    return next(
        (found for part in inner if isinstance(part, dict) and (found := _allows_anything(part))), None
    )


def _dicts(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else []


def value_problem(schema: dict[str, Any], value: Any) -> str | None:
    """Return how an input's value differs from its declaration; unlike for outputs, formats count."""
    from ..safety.schemas import read_schema

    shown = json.dumps(value, ensure_ascii=False, default=str)[:80]
    try:
        problem = read_schema(schema).best_problem(value)
    except WorkLimitError as error:
        return f"{shown} cannot be checked: {error}"
    if problem is None:
        return None
    inside = f"{problem.json_path}: " if problem.absolute_path else ""
    return f"{shown} does not fit: {inside}{problem.message[:200]}"
