"""Read how an agent says that its step ended: done, nothing to do, cannot be done, or a question."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from ..errors import ModelOutputError

__all__ = ["CANNOT_FIELD", "Ending", "ending_of", "with_cannot"]

Json = Any


class Ending(NamedTuple):
    """What an agent declared, and what it said about it."""

    kind: Literal["done", "nothing", "cannot", "question"]
    said: Json


CANNOT_FIELD = "cannot_be_done"
"""Key of a JSON answer that says why there is no result."""

_LONGEST_WHY = 300

_WORDS: Mapping[str, Literal["nothing", "cannot", "question"]] = {
    "NOTHING TO DO": "nothing",
    "CANNOT BE DONE": "cannot",
    "ASK THE PERSON": "question",
}
_FIELDS: Mapping[str, Literal["nothing", "cannot", "question"]] = {
    "nothing_to_do": "nothing",
    CANNOT_FIELD: "cannot",
    "ask_the_person": "question",
}
_DECLARED = re.compile(rf"[\s*_#>`]*({'|'.join(_WORDS)})[*_`]*\s*:[*_`]*\s*(.*)", re.DOTALL)


def ending_of(output: Json, schema: Mapping[str, Json] | None) -> Ending:
    """Read what an agent's answer declares; an answer without a declaration is the result.

    Args:
        output: The answer, as JSON if the step declares a form.
        schema: What the step's output is declared as.

    Raises:
        ModelOutputError: If it declares that it cannot, or asks, without saying why or what.
    """
    ending = _in_text(output) if isinstance(output, str) else _in_json(output, schema or {})
    if ending.kind in ("cannot", "question") and not str(ending.said).strip():
        raise ModelOutputError(f"the executor answered only {ending.kind!r}, without saying why or what")
    return ending


def _in_text(text: str) -> Ending:
    found = _DECLARED.match(text)
    return Ending(_WORDS[found[1]], found[2].strip()) if found else Ending("done", text)


def _in_json(output: Json, schema: Mapping[str, Json]) -> Ending:
    if not isinstance(output, dict):
        return Ending("done", output)
    extra = [name for name in _FIELDS if name in output and name not in (schema.get("properties") or {})]
    told = next((name for name in extra if output[name]), None)
    if told is not None and (told == CANNOT_FIELD or len(output) == 1):
        return Ending(_FIELDS[told], output[told])
    if CANNOT_FIELD in extra:  # Strict modes require the field, so it may be empty.
        return Ending("done", {key: value for key, value in output.items() if key != CANNOT_FIELD})
    return Ending("done", output)


def with_cannot(schema: Mapping[str, Json], *, is_bounded: bool) -> dict[str, Json]:
    """Extend a schema that a provider enforces, so that the agent can say that the step cannot be done.

    Args:
        schema: The step's own.
        is_bounded: Whether to limit that text, which a weak model may never end; OpenAI's server
            refuses limits.
    """
    properties = schema.get("properties")
    if not isinstance(properties, dict) or CANNOT_FIELD in properties:
        return dict(schema)
    why: dict[str, Json] = {"type": ["string", "null"]}
    why |= {"maxLength": _LONGEST_WHY} if is_bounded else {}
    why["description"] = "Why the step cannot be done; null if it can."
    required = [*schema.get("required", ()), CANNOT_FIELD]
    return {**schema, "properties": {**properties, CANNOT_FIELD: why}, "required": required}
