"""Make the JSON Schemas for models, in a form that all providers read in the same way."""

from __future__ import annotations

import re
from typing import Any, cast

from pydantic import BaseModel

__all__ = ["bounded", "closed_schema", "is_strict", "takes_any_keys", "wire_schema"]


def wire_schema(schema: type[BaseModel]) -> dict[str, Any]:
    """Derive the schema for a model from a pydantic class.

    References are inlined, objects are closed and every property is required. Strict and plain modes of all
    providers read this form in the same way.

    Raises:
        ValueError: The class contains itself.
    """
    return closed_schema(schema.model_json_schema())


def closed_schema(full: dict[str, Any]) -> dict[str, Any]:
    """Bring the JSON Schema of a Python type into the form that `wire_schema` describes.

    Raises:
        ValueError: The type contains itself.
    """
    rest = {key: value for key, value in full.items() if key != "$defs"}
    wire = cast(dict[str, Any], _close(_inline(rest, full.get("$defs", {}), ())))
    name = str(full.get("title", "answer"))
    wire["title"] = re.sub(r"\W", "_", name)
    wire.setdefault("description", f"The {name}.")
    return wire


LONGEST_TEXT = 1_000
"""The most characters of a text for us, such as a reason, because a weak model may never end one."""


def bounded(schema: Any) -> Any:
    """Bound the texts of our own schema that have no limit."""
    if isinstance(schema, list):
        return [bounded(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    free = schema.get("type") == "string" and not schema.keys() & {"enum", "const", "maxLength"}
    limit = {"maxLength": LONGEST_TEXT} if free else {}
    return {**{key: bounded(value) for key, value in schema.items()}, **limit}


def _inline(node: Any, definitions: dict[str, Any], inside: tuple[str, ...]) -> Any:
    if isinstance(node, list):
        return [_inline(item, definitions, inside) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" not in node:
        return {key: _inline(value, definitions, inside) for key, value in node.items()}
    name = str(node["$ref"]).rpartition("/")[2]
    if name in inside:
        msg = f"{name} contains itself: such a schema cannot be shown to a model"
        raise ValueError(msg)
    beside = {key: value for key, value in node.items() if key != "$ref"}
    return {**_inline(definitions[name], definitions, (*inside, name)), **beside}


def _close(node: Any, *, is_names: bool = False) -> Any:
    """Close objects, require all properties, and remove titles and defaults, which mean nothing here."""
    if isinstance(node, list):
        return [_close(item) for item in node]
    if not isinstance(node, dict):
        return node
    if is_names:
        return {name: _close(value) for name, value in node.items()}
    kept = {key: value for key, value in node.items() if key not in ("title", "default")}
    closed = {key: _close(value, is_names=key == "properties") for key, value in kept.items()}
    if "properties" in closed:
        closed |= {"required": list(closed["properties"]), "additionalProperties": False}
    return closed


def is_strict(schema: Any) -> bool:
    """Tell whether OpenAI's strict mode accepts this: closed objects, every property required."""
    if isinstance(schema, list):
        return all(is_strict(item) for item in schema)
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties")
    if schema.get("type") == "object" or isinstance(properties, dict):
        closed = schema.get("additionalProperties") is False
        if not closed or set(schema.get("required", [])) != set(properties or {}):
            return False
    return all(is_strict(value) for value in schema.values())


def takes_any_keys(schema: Any) -> bool:
    """Tell whether an object in this schema may have keys that it does not name."""
    if isinstance(schema, list):
        return any(map(takes_any_keys, schema))
    if not isinstance(schema, dict):
        return False
    is_free = schema.get("type") == "object" and not schema.get("properties")
    return (is_free and bool(schema.get("additionalProperties", True))) or any(
        map(takes_any_keys, schema.values())
    )
