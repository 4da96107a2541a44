"""What a reference gives at run time is held to the schema of any kind of tool before the call."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.tools import StructuredTool
from plans import FREE, Thread, agent_with, bound, think
from pydantic import BaseModel

from plan_execute import Context, ScriptedModel

FOUND = {"n": 5, "none": None, "list": ["a"], "obj": {"to": "a"}, "word": "c", "good": "a", "users": [{}]}
SCHEMA = {"type": "object", "properties": {"to": {"type": "string", "enum": ["a", "b"]}}, "required": ["to"]}


class To(BaseModel):
    """Where to."""

    to: str


def _tools(kind: str, sent: list[Any]) -> list[Any]:
    def find() -> Any:
        """Find."""
        return FOUND

    def send(**args: Any) -> str:
        sent.append(args["to"])
        return "sent"

    def send_typed(to: str) -> str:
        sent.append(to)
        return "sent"

    found = StructuredTool.from_function(find, metadata={"effect": "read"})
    if kind == "pydantic":
        made = StructuredTool.from_function(send_typed, name="send", description="Send.", args_schema=To)
    else:
        made = StructuredTool(name="send", description="Send.", func=send, args_schema=SCHEMA)
    return [found, made]


@pytest.mark.parametrize("kind", ["json_schema", "pydantic"])
@pytest.mark.parametrize("path", ["n", "none", "list", "obj"])
async def test_a_value_of_a_wrong_type_fails_the_step_before_the_call(kind: str, path: str) -> None:
    sent: list[Any] = []
    context = Context(approval="never", on_failure="abort")
    result = await Thread(agent_with(_tools(kind, sent)), context).run(
        bound("f", "find"), bound("s", "send", {"to": f"${{f.{path}}}"})
    )
    assert sent == []
    assert result["results"]["s"]["error"]["code"] == "bad_arguments"
    assert "to" in result["results"]["s"]["error"]["message"]


@pytest.mark.parametrize(
    ("reference", "code"),
    [
        ("${f.word}", "bad_arguments"),
        ("x ${f.good}", "bad_arguments"),
        ("${f.users[0].id}", "unresolved_reference"),
    ],
)
async def test_a_value_that_the_schema_rules_out_is_never_sent(reference: str, code: str) -> None:
    sent: list[Any] = []
    context = Context(approval="never", on_failure="abort")
    result = await Thread(agent_with(_tools("json_schema", sent)), context).run(
        bound("f", "find"), bound("s", "send", {"to": reference})
    )
    assert (sent, result["results"]["s"]["error"]["code"]) == ([], code)


@pytest.mark.parametrize("kind", ["json_schema", "pydantic"])
async def test_a_value_that_fits_is_sent(kind: str) -> None:
    sent: list[Any] = []
    result = await Thread(agent_with(_tools(kind, sent)), FREE).run(
        bound("f", "find"), bound("s", "send", {"to": "${f.good}"})
    )
    assert (result["status"], sent) == ("done", ["a"])


async def test_a_model_is_told_what_does_not_fit_a_json_schema_tool() -> None:
    sent: list[Any] = []
    turns = [
        ScriptedModel.tool_calls(("send", {"to": None})),
        ScriptedModel.tool_calls(("send", {"to": "b"})),
        "Sent.",
    ]
    model = ScriptedModel({"executor": turns})
    result = await Thread(agent_with(_tools("json_schema", sent), model), FREE).run(
        think("s", tools=["send"])
    )
    assert sent == ["b"]
    assert [call["ok"] for call in result["results"]["s"]["evidence"]] == [False, True]
