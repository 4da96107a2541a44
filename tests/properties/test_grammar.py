"""A grammar of plans in lines: whatever it produces can be read, with all that it says."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
from gbnf import Derivations
from hypothesis import given, settings
from hypothesis import strategies as st

from plan_execute.plan.notations.draft import PlanDraft, draft_problems, steps_from_draft
from plan_execute.plan.notations.grammar import Bounds, line_grammar
from plan_execute.plan.notations.lines import Vocabulary, complete_lines, read_lines


def _schema(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


TOOLS: dict[str, dict[str, Any]] = {
    "price_of": _schema(
        "item",
        item={"type": "string"},
        unit={"enum": ["kg", 'a "piece"', 3]},
        on={"type": "string", "format": "date"},
    ),
    "add-up": _schema("numbers", numbers={"type": "array", "items": {"type": "number"}}),
    "mcp.tool": _schema(
        a={"type": ["integer", "null"]},
        b={"anyOf": [_schema("x", x={"type": "number"}, y={}), {"type": "boolean"}]},
    ),
    "free": {"type": "object", "additionalProperties": True},
    "now_then": {"type": "object"},
    "return_it": {**_schema("p", p={"$ref": "#/$defs/P"}), "$defs": {"P": _schema(q={"type": "object"})}},
}
OCCASIONS: list[dict[str, Any]] = [
    {"occasion": "goal"},
    {"occasion": "goal", "agents": ["coder", "to"], "sub_plans": True, "inputs": ["city", "n"]},
    {"occasion": "next_steps", "earlier": ["weather", "hotel_2"]},
    {"occasion": "revision", "earlier": ["weather"], "inputs": ["city"]},
]


@pytest.mark.parametrize("options", OCCASIONS, ids=["goal", "all-kinds", "next-steps", "revision"])
@given(seed=st.integers(0, 2**63))
@settings(max_examples=300)
def test_every_plan_that_it_allows_is_read_with_all_its_steps(options: dict[str, Any], seed: int) -> None:
    grammar = _grammar(**options)
    text = grammar.write(random.Random(seed))
    words = Vocabulary(
        {name: list(schema.get("properties", {})) for name, schema in TOOLS.items()},
        options.get("agents", ()),
        options.get("earlier", ()),
    )
    read = read_lines(text, words)
    assert read is not None, text
    draft = PlanDraft.model_validate(read)
    lines = re.findall(r"^\d+\. ", text, re.MULTILINE)
    assert len(draft.steps) == len(lines) == len(steps_from_draft(draft)), text
    assert len(complete_lines(text, words)) == len(lines)
    assert draft.complete == (not text.endswith("\nmore\n"))
    if lines:
        assert draft_problems(draft) == []


_MADE: dict[str, Derivations] = {}


def _grammar(**options: Any) -> Derivations:
    made = _MADE.get(repr(options))
    return made or _MADE.setdefault(
        repr(options), Derivations(line_grammar(TOOLS, bounds=Bounds(steps=5, text=30), **options))
    )
