"""Read the values that a person fills in, as text or in the fields of a form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InvalidAnswerError, known
from ..safety.depth import read_json

__all__ = ["amount_in", "choices_of", "fields_in_words", "filled_in", "json_or_text", "typed"]

Json = Any
_WORDS = {"yes": True, "true": True, "no": False, "false": False}


def amount_in(text: str) -> float:
    """Read how much a budget grows by.

    Raises:
        InvalidAnswerError: If it is no number above zero.
    """
    try:
        amount = float(text.replace("_", "").replace(",", "").removeprefix("$"))
    except ValueError:
        amount = 0.0
    if not 0 < amount < float("inf"):
        raise InvalidAnswerError(f"{text!r} is no amount: give a number above zero")
    return int(amount) if amount.is_integer() else amount


def json_or_text(text: str) -> Json:
    """Read JSON; any other text stands for itself."""
    try:
        return read_json(text)
    except ValueError:
        return text


def filled_in(schema: Mapping[str, Json], given: Json) -> dict[str, Json]:
    """Return the values of a form, with defaults; convert text to each field's type.

    Args:
        schema: JSON Schema of an object of plain values.
        given: An object, the same as JSON text, or the value of the only field.

    Raises:
        ValueError: If they do not fit; the message names the field, or the fields there are.
    """
    from ..safety.schemas import BadSchemaError, read_schema

    fields = _fields(schema)
    form = json_or_text(given) if isinstance(given, str) else given
    # The only field may itself take an object.
    is_form = isinstance(form, Mapping) and (len(fields) != 1 or not form or form.keys() & fields.keys())
    if not is_form:
        if len(fields) != 1:
            raise ValueError(f"it needs a JSON object with these fields: {known(fields)}")
        form = {next(iter(fields)): given}
    defaults = {name: field["default"] for name, field in fields.items() if "default" in field}
    values = defaults | {name: typed(fields.get(name, {}), value) for name, value in form.items()}
    try:
        problem = read_schema(dict(schema)).best_problem(values)
    except BadSchemaError as error:
        raise ValueError(f"the form itself cannot be used: {error}") from error
    if problem is not None:
        where = ".".join(map(str, problem.absolute_path)) or "the answer"
        raise ValueError(f"{where}: {problem.message[:200]}")
    return values


def choices_of(schema: Mapping[str, Json]) -> list[str]:
    """List the values of the form's only field; empty if it can be anything, or there are more fields."""
    fields = [*_fields(schema).values()]
    if len(fields) != 1:
        return []
    if fields[0].get("type") == "boolean":
        return ["yes", "no"]
    return [str(choice) for choice in _choices(fields[0])]


def fields_in_words(schema: Mapping[str, Json]) -> list[str]:
    """Describe each field in a line: name, type, choices and description."""
    required = schema.get("required") or []
    return [_in_words(name, field, name in required) for name, field in _fields(schema).items()]


def _fields(schema: Mapping[str, Json]) -> dict[str, Mapping[str, Json]]:
    given = schema.get("properties")
    fields = given if isinstance(given, Mapping) else {}
    return {str(name): field for name, field in fields.items() if isinstance(field, Mapping)}


def _choices(field: Mapping[str, Json]) -> list[Json]:
    named = [one["const"] for one in field.get("oneOf") or () if isinstance(one, Mapping) and "const" in one]
    return [*(field.get("enum") or named)]


def _in_words(name: str, field: Mapping[str, Json], required: bool) -> str:
    choices = _choices(field)
    kind = f"one of {known(map(str, choices))}" if choices else str(field.get("type") or "any value")
    words = str(field.get("description") or field.get("title") or "")
    return f"{name} ({kind}{'' if required else ', optional'})" + (words and f": {words}")


def typed(field: Mapping[str, Json], value: Json) -> Json:
    """Convert a text to the field's type (JSON Schema); a text that does not fit stays as it is."""
    kind = field.get("type")
    if not isinstance(value, str) or kind == "string":
        return value
    if kind == "boolean":
        return _WORDS.get(value.strip().lower(), value)
    if kind == "array" and not value.lstrip().startswith("["):
        return [part.strip() for part in value.split(",") if part.strip()]
    return json_or_text(value) if kind in ("integer", "number", "array", "object") else value
