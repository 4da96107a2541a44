"""A tool's signature says what its JSON Schema says."""

from __future__ import annotations

from enum import Enum
from typing import Any, Literal

import pytest
from langchain_core.tools import StructuredTool
from pydantic import BaseModel, Field

from plan_execute.models.prompts.signatures import signature
from plan_execute.tools.toolbox import Toolbox


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


class Place(BaseModel):
    city: str
    zip: str | None = None


def shown(function: Any, effect: str = "read") -> str:
    tool = StructuredTool.from_function(function, description=function.__doc__ or "Does it.")
    tool.metadata = {"effect": effect}
    (described,) = Toolbox([tool]).inventory()
    return signature(described)


def plain(item: str, count: int = 1, ratio: float | None = None) -> str:
    """Do it.

    More of it.
    """
    return item


def nested(
    place: Place, sizes: list[Size], mode: Literal["a", "b"] = "a", ids: list[int | str] | None = None
) -> str:
    """Nest."""
    return ""


def few(
    limit: int = Field(ge=1, le=10, description="How many,\n at most."), extra: dict[str, Any] | None = None
) -> str:
    """Bound."""
    return ""


@pytest.mark.parametrize(
    ("function", "effect", "text"),
    [
        (
            plain,
            "read",
            "plain(item: string, count: integer = 1, ratio?: number|null) -> string: Do it. More of it.",
        ),
        (
            plain,
            "write",
            "plain(item: string, count: integer = 1, ratio?: number|null) -> string [write]: "
            "Do it. More of it.",
        ),
        (
            nested,
            "idempotent",
            'nested(place: {city: string, zip?: string|null}, sizes: ("small"|"large")[], mode: "a"|"b" = '
            '"a", ids?: (integer|string)[]|null) -> string [idempotent]: Nest.',
        ),
        (
            few,
            "read",
            "few(limit: integer (maximum 10, minimum 1), extra?: object|null) -> string: Bound.\n"
            "  limit: How many, at most.",
        ),
    ],
)
def test_a_signature_names_types_defaults_bounds_and_effects(function: Any, effect: str, text: str) -> None:
    assert shown(function, effect) == text


def test_a_schema_that_contains_itself_ends_somewhere() -> None:
    tree = {"type": "object", "properties": {"left": {"$ref": "#/$defs/tree"}}}
    schema = {"properties": {"tree": {"$ref": "#/$defs/tree"}}, "$defs": {"tree": tree}}
    said = signature({"name": "walk", "effect": "read", "description": "", "arguments": schema})
    assert said == "walk(tree?: {left?: {left?: {left?: {left?: any}}}})"


def test_a_schema_of_a_server_may_say_anything() -> None:
    odd = {
        "properties": {
            "a": True,
            "b": {},
            "c": {"type": ["string", "null"], "format": "date"},
            "d": {"const": 1},
        }
    }
    said = signature({"name": "odd", "effect": "read", "description": "x", "arguments": odd})
    assert said == 'odd(a?: any, b?: any, c?: string|null (format "date"), d?: 1): x'
