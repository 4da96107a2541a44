"""Find the form of a tool's output: as declared, or as seen in an output."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_type_hints

from langchain_core.tools import BaseTool, StructuredTool
from pydantic import PydanticUserError, TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema

__all__ = ["OUTPUT_SCHEMA", "declared_form", "is_telling", "seen_form"]

Json = Any
OUTPUT_SCHEMA = "output_schema"
"""Key in a tool's metadata: the JSON Schema of its output."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,40}")
_MOST_FIELDS = 30
_DEEPEST = 4


def declared_form(tool: BaseTool) -> Mapping[str, Any] | None:
    """Return the JSON Schema of a tool's output, from its metadata or its function's annotation."""
    if isinstance(declared := (tool.metadata or {}).get(OUTPUT_SCHEMA), Mapping):
        return declared
    if not isinstance(tool, StructuredTool) or tool.response_format != "content":
        return None
    try:
        gives = get_type_hints(tool.func or tool.coroutine).get("return", Any)
        schema = TypeAdapter(gives).json_schema(mode="serialization")
    except (NameError, TypeError, PydanticUserError, PydanticInvalidForJsonSchema):
        return None  # An annotation that says nothing about JSON.
    return schema if is_telling(schema) else None


def is_telling(schema: Mapping[str, Any]) -> bool:
    """Tell whether a form says more than that it is a list, an object or anything."""
    kind = schema.get("type")
    if kind == "array":
        return is_telling(schema.get("items") or {})
    return bool(schema.get("properties")) if kind == "object" else bool(schema) and kind != "null"


def seen_form(output: Json, depth: int = _DEEPEST) -> dict[str, Any]:
    """Return the form of an output: names and types, no values; no names for an object that is a table."""
    if isinstance(output, dict):
        named = len(output) <= _MOST_FIELDS and all(_NAME.fullmatch(key) for key in output)
        if not named or not depth:
            return {"type": "object"}
        fields = {key: seen_form(value, depth - 1) for key, value in output.items()}
        return {"type": "object", "properties": fields, "required": list(fields)}
    if isinstance(output, list):
        return {"type": "array", "items": seen_form(output[0], depth - 1) if output and depth else {}}
    if output is None:
        return {"type": "null"}
    return {"type": next(name for kind, name in _TYPES if isinstance(output, kind))}


_TYPES = ((str, "string"), (bool, "boolean"), (int, "integer"), (float, "number"))
