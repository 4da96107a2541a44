"""What is wrong with a JSON Schema in a plan, or with a value that it describes."""

from __future__ import annotations

import json
from typing import Any

from ...errors import WorkLimitError
from ...safety.schemas import BadSchemaError, read_schema

__all__ = ["schema_problem", "value_problem"]


def schema_problem(schema: dict[str, Any]) -> str | None:
    """Say why something cannot be used as a JSON Schema."""
    try:
        notes = read_schema(schema).notes
    except (BadSchemaError, WorkLimitError) as error:
        return f"is not a JSON Schema that can be used: {error}"
    return f"cannot be checked: {notes[0]}" if notes else None


def value_problem(schema: dict[str, Any], value: Any) -> str | None:
    """Say how an input's value differs from what is declared; formats count, unlike in an output's schema."""
    shown = json.dumps(value, ensure_ascii=False, default=str)[:80]
    try:
        problem = read_schema(schema).best_problem(value)
    except WorkLimitError as error:
        return f"{shown} cannot be checked: {error}"
    if problem is None:
        return None
    inside = f"{problem.json_path}: " if problem.absolute_path else ""
    return f"{shown} does not fit: {inside}{problem.message[:200]}"
