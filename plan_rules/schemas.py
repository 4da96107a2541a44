"""What is wrong with a JSON Schema in a plan, or with a value that it describes."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from jsonschema import FormatChecker
from jsonschema.exceptions import SchemaError, best_match
from jsonschema.validators import validator_for

__all__ = ["schema_problem", "value_problem"]


_TYPES = "array, boolean, integer, null, number, object, string"


def schema_problem(schema: dict[str, Any]) -> str | None:
    """Say why something is no JSON Schema."""
    try:
        validator_for(schema).check_schema(schema)
    except SchemaError as error:
        if error.path and error.path[-1] == "type":
            return f"is not a JSON Schema: {error.json_path}: {error.instance!r} is no type; known: {_TYPES}"
        return f"is not a JSON Schema: {error.json_path}: {error.message[:200]}"
    return None


_FORMATS = FormatChecker()


@_FORMATS.checks("date-time", raises=ValueError)
def _is_date_time(value: object) -> bool:
    # jsonschema 4 checks this format only with a further package installed
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


def value_problem(schema: dict[str, Any], value: Any) -> str | None:
    """Say how an input's value differs from what is declared; formats count, unlike in an output's schema."""
    error = best_match(validator_for(schema)(schema, format_checker=_FORMATS).iter_errors(value))
    if error is None:
        return None
    shown = json.dumps(value, ensure_ascii=False, default=str)
    inside = f"{error.json_path}: " if error.absolute_path else ""
    return f"{shown[:80]} does not fit: {inside}{error.message[:200]}"
