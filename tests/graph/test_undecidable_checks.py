"""A check that could decide nothing is an issue of the plan, never a check that always passes."""

from __future__ import annotations

from typing import Any

import pytest
from plans import FREE, Thread, agent_with, bound
from toolset import Toolset


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        (
            {"output_schema": {"id": "string", "n": "integer"}},
            "bad_schema",
            'id, n are not keywords of JSON Schema; write {"type": "object", "properties": {"id": ',
        ),
        (
            {"output_schema": {"type": "array", "items": {"name": "string"}}},
            "bad_schema",
            "name are not keywords",
        ),
        (
            {"success_criteria": [{"type": "judge", "criterion": " "}]},
            "bad_criterion",
            "its criterion is empty",
        ),
        ({"success_criteria": [{"type": "matches", "pattern": ""}]}, "bad_criterion", "its pattern is empty"),
        (
            {"success_criteria": [{"type": "expression", "expression": "`1` == `1`"}]},
            "bad_criterion",
            "does not use the output",
        ),
    ],
)
async def test_a_check_that_decides_nothing_is_an_issue(
    fields: dict[str, Any], code: str, words: str
) -> None:
    step = bound("a", "echo", {"value": 1}, **fields)
    result = await Thread(agent_with(Toolset().tools), FREE).run(step)
    (issue,) = result["plan_issues"]
    assert (issue["code"], issue["step_id"]) == (code, "a")
    assert words in issue["message"]


@pytest.mark.parametrize(
    "schema",
    [{}, {"description": "anything"}, {"type": "string"}, {"properties": {"type": {"type": "string"}}}],
)
async def test_a_schema_that_is_meant_to_allow_much_is_none(schema: dict[str, Any]) -> None:
    step = bound("a", "echo", {"value": "x"}, output_schema=schema)
    assert (await Thread(agent_with(Toolset().tools), FREE).run(step))["status"] == "done"
