"""Write a tool as a short signature: everything in its JSON Schema, with far fewer tokens."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["signature"]

Schema = Mapping[str, Any]

_SAID = {
    *("type", "title", "description", "default", "properties", "required", "items", "enum", "const"),
    *("anyOf", "oneOf", "$ref", "$defs"),
}
"""Keywords for which the notation has a place; all others are written out."""
_DEEPEST = 4


def signature(tool: Schema) -> str:
    """Write a tool of the inventory: ``search(query: string, limit: integer = 5) [write]: what it does``.

    The form of its output follows an arrow, if it is known; the effect is left out if the tool only reads.
    Remarks on single arguments follow, one line each.
    """
    schema = tool["arguments"]
    effect = "" if tool["effect"] == "read" else f" [{tool['effect']}]"
    head = f"{tool['name']}({_members(schema, schema.get('$defs', {}), _DEEPEST)}){_output(tool)}{effect}"
    said = " ".join(tool["description"].split())
    return "\n".join([f"{head}: {said}" if said else head, *_explained(schema)])


def _output(tool: Schema) -> str:
    form = tool.get("output")
    return f" -> {_type(form, form.get('$defs', {}), _DEEPEST)}" if form else ""


def _explained(schema: Schema) -> Iterator[str]:
    for name, argument in schema.get("properties", {}).items():
        if isinstance(argument, Mapping) and (said := str(argument.get("description") or "").split()):
            yield f"  {name}: {' '.join(said)}"


def _members(schema: Schema, known: Schema, depth: int) -> str:
    required = set(schema.get("required", ()))
    members = schema.get("properties", {}).items()
    return ", ".join(
        f"{name}{'' if name in required or _has_default(part) else '?'}: "
        f"{_type(part, known, depth)}{_default(part)}"
        for name, part in members
    )


def _has_default(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("default") is not None


def _default(part: Any) -> str:
    return f" = {_json(part['default'])}" if _has_default(part) else ""


def _type(part: Any, known: Schema, depth: int) -> str:
    """Write the type of a value: ``string``, ``number[]``, ``"a"|"b"``, ``{x: number, y?: string}``."""
    if not isinstance(part, Mapping):
        return "any"
    if "$ref" in part:
        part = {**known.get(str(part["$ref"]).rpartition("/")[2], {}), **part}
    rest = {key: value for key, value in part.items() if key not in _SAID and not _is_openness(key, value)}
    further = f" ({', '.join(f'{key} {_json(value)}' for key, value in rest.items())})" if rest else ""
    return _shape(part, known, depth) + further


def _is_openness(key: str, value: Any) -> bool:
    return key == "additionalProperties" and isinstance(value, bool)


def _shape(part: Schema, known: Schema, depth: int) -> str:
    if depth == 0:
        return "any"
    if "enum" in part or "const" in part:
        return "|".join(_json(value) for value in part.get("enum", [part.get("const")]))
    if choices := part.get("anyOf") or part.get("oneOf"):
        return "|".join(dict.fromkeys(_type(choice, known, depth - 1) for choice in choices))
    named = part.get("type", "any")
    if isinstance(named, list):
        return "|".join(_shape({**part, "type": one}, known, depth - 1) for one in named)
    if named == "array":
        items = _type(part.get("items"), known, depth - 1)
        return f"({items})[]" if "|" in items or " (" in items else f"{items}[]"
    if named == "object" and part.get("properties"):
        return f"{{{_members(part, known, depth - 1)}}}"
    return str(named)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
