"""Input values are held against their declarations before anything runs."""

import pytest

from plan_execute import Context, create_plan_execute_agent
from plan_execute.plan.rules import PlanFacts, validate_plan
from plan_execute.tools.toolbox import Toolbox


def issues(declared, **given):
    plan = {"goal": "g", "inputs": declared, "steps": [{"id": "a", "task": "think", "tools": []}]}
    return validate_plan(plan, PlanFacts(Toolbox([]), 10, inputs=given))[1]


def messages(declared, **given):
    return [(issue["code"], issue["message"], issue["field"]) for issue in issues(declared, **given)]


@pytest.mark.parametrize(
    ("spec", "good", "bad"),
    [
        ({"type": "string"}, "x", 5),
        ({"type": "integer"}, 5, "5"),
        ({"type": "integer"}, -1, True),
        ({"type": "number"}, 5, "x"),
        ({"type": "boolean"}, False, "yes"),
        ({"type": "array", "items": {"type": "string"}}, ["x"], [1]),
        ({"type": "object", "required": ["a"]}, {"a": 1}, {}),
        ({"type": ["string", "null"]}, None, 1),
        ({"enum": ["a", 1]}, 1, "b"),
        ({"type": "string", "format": "date"}, "2024-02-29", "2023-02-29"),
        ({"type": "string", "format": "date-time"}, "2024-02-29T10:00:00Z", "2024-02-29 10"),
        ({"type": "string", "format": "date-time"}, "2024-02-29T10:00:00+02:00", "2024-02-29T10:00:00"),
        ({"type": "string", "format": "email"}, "a@b", "ab"),
        ({"type": "string", "pattern": "^[A-Z]{3}$"}, "ROM", "Rome"),
        ({"type": "integer", "minimum": 1}, 1, 0),
    ],
)
def test_a_value_fits_its_declaration_or_is_an_issue(spec, good, bad):
    assert issues({"x": spec}, x=good) == []
    assert issues({"x": {**spec, "default": good}}) == []
    (issue,) = issues({"x": spec}, x=bad)
    assert (issue["code"], issue["field"]) == ("type_mismatch", ["inputs", "x"])
    (issue,) = issues({"x": {**spec, "default": bad}}, x=good)
    assert (issue["code"], issue["field"]) == ("type_mismatch", ["inputs", "x", "default"])


def test_an_issue_names_the_input_the_value_and_the_type():
    assert messages({"n": {"type": "integer"}}, n="five") == [
        (
            "type_mismatch",
            "input 'n' is declared as integer, but the value given \"five\" does not fit: "
            "'five' is not of type 'integer'",
            ["inputs", "n"],
        )
    ]
    ((_, message, _),) = messages({"d": {"type": "string", "format": "date"}}, d="soon")
    assert "declared as string (date)" in message
    ((_, message, _),) = messages({"c": {"enum": ["red", "blue"]}}, c="green")
    assert 'declared as one of "red", "blue"' in message
    ((_, message, _),) = messages({"o": {"type": "array", "items": {"type": "string"}}}, o=["a", 1])
    assert "$[1]: 1 is not of type 'string'" in message


def test_a_missing_value_and_an_unknown_name_are_issues_that_name_what_is_declared():
    assert messages({"city": {"type": "string"}}) == [
        ("missing_input", "the input 'city' (string) has no default and was not given", ["inputs", "city"])
    ]
    ((code, message, field),) = messages({"city": {"default": "Rome"}}, town="Rome")
    assert (code, field) == ("unresolved_reference", ["inputs", "town"])
    assert message == "the plan has no input 'town'; known inputs: city"


def test_a_declaration_that_is_no_json_schema_names_the_types_there_are():
    ((code, message, field),) = messages({"n": {"type": "int", "default": 1}})
    assert (code, field) == ("bad_schema", ["inputs", "n"])
    assert "'int' is no type; known: array, boolean, integer" in message


def test_embedded_a_wrong_value_refuses_the_plan_before_anything_runs():
    ran = []

    def note(n: int) -> str:
        """Note a number."""
        ran.append(n)
        return str(n)

    plan = {
        "goal": "g",
        "inputs": {"n": {"type": "integer"}},
        "steps": [{"id": "a", "call": {"tool": "note", "args": {"n": "${inputs.n}"}}}],
    }
    agent, free = create_plan_execute_agent(None, [note]), Context(approval="never")
    for inputs, code in (({"n": "5"}, "type_mismatch"), ({}, "missing_input")):
        result = agent.invoke({"plan": plan, "inputs": inputs}, context=free)
        assert (result["status"], [issue["code"] for issue in result["plan_issues"]]) == ("failed", [code])
    assert ran == []
    assert agent.invoke({"plan": plan, "inputs": {"n": 5}}, context=free)["status"] == "done"
    assert ran == [5]
