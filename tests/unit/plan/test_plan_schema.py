"""The published JSON Schema is made of the code, and refuses what the validator calls malformed."""

import copy
import json
from importlib.resources import files
from pathlib import Path

import pytest
from golden.compare import assert_golden_file
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from plan_execute.cli.plan_files import UncheckedToolbox
from plan_execute.plan.files.plan_files import load_plan_file
from plan_execute.plan.files.schema import plan_schema, schema_text
from plan_execute.plan.rules import PlanFacts, validate_plan

CHECKOUT = Path(__file__).parents[3]
EXAMPLES = sorted((Path(str(files("plan_execute.examples"))) / "plans").glob("*.yaml"))
SCHEMA = Draft202012Validator(plan_schema())

FULL = {
    "$schema": "plan.schema.json",
    "$comment": ["from nowhere"],
    "id": "x",
    "revision": 1,
    "goal": "g",
    "rationale": "r",
    "complete": True,
    "inputs": {"city": {"type": "string", "default": "Rome"}, "any": {}},
    "steps": [
        {
            "id": "a",
            "call": {"tool": "t", "args": {"x": "${inputs.city}"}},
            "output_schema": {"type": "object"},
            "success_criteria": [
                {"type": "not_empty"},
                {"type": "max_length", "max": 3},
                {"type": "matches", "pattern": "x"},
                {"type": "json_schema", "schema": {}},
                {"type": "expression", "expression": "a"},
                {"type": "tool_succeeded", "tool": "t"},
                {"type": "file_exists", "path": "p"},
                {"type": "judge", "criterion": "good"},
            ],
            "on_failure": "skip",
            "max_attempts": 1,
            "timeout_s": 0.5,
            "max_iterations": 2,
            "approve": False,
        },
        {"id": "b", "task": "think", "tools": [], "depends_on": ["a"], "model": "fast", "escalate": "strong"},
        {"id": "c", "task": "think", "agent": "coder", "for_each": "${a}"},
        {"id": "d", "plan": {"goal": "g"}, "when": "a"},
        {"id": "e", "ask": {"question": "q", "choices": ["x"]}},
        {"id": "f", "call": {"tool": "t", "args": {}}, "confirm": True},
    ],
}


def malformed(plan):
    """Tell what the validator says about the form of a plan in a file."""
    plan = {key: value for key, value in plan.items() if key not in ("$schema", "$comment")}
    issues = validate_plan(plan, PlanFacts(UncheckedToolbox(), 100))[1]
    of_form = {"malformed_plan", "bad_schema", "bad_id", "empty_plan"}
    # The type of a criterion, and its parameters.
    marks = ("steps.", "parameter")
    criteria = [i for i in issues if i["code"] == "bad_criterion" and any(m in i["message"] for m in marks)]
    # What is wrong within the schema of an output, the published schema does not look at.
    of_output = ("output_schema", "criterion 'json_schema'")
    within = [i for i in issues if ": $." in i["message"] and any(name in i["message"] for name in of_output)]
    return [*(issue for issue in issues if issue["code"] in of_form and issue not in within), *criteria]


def test_the_published_schema_is_that_of_the_code():
    assert_golden_file(CHECKOUT / "docs/plan.schema.json", schema_text())


def test_the_schema_is_one_of_draft_2020_12_that_refers_only_to_itself():
    Draft202012Validator.check_schema(plan_schema())
    assert plan_schema()["$schema"].endswith("2020-12/schema")
    references = [line for line in schema_text().splitlines() if '"$ref"' in line]
    assert all('"#/$defs/' in line for line in references)


def test_every_field_says_what_it_is_for():
    schema = plan_schema()
    silent = [
        f"{name}.{field}"
        for name, part in {"Plan": schema, **schema["$defs"]}.items()
        for field, spec in part.get("properties", {}).items()
        if not spec.get("description") and name != "Input"
    ]
    assert silent == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_plan_fits_the_schema(path):
    assert [error.message for error in SCHEMA.iter_errors(load_plan_file(path).plan)] == []


def test_a_plan_that_uses_every_field_fits_the_schema_and_is_well_formed():
    assert [error.message for error in SCHEMA.iter_errors(FULL)] == []
    assert malformed(FULL) == []


SOMETHING_ELSE = [None, True, 0, -1, 2, 0.5, "", " ", "text", "1x", "item", [], ["x"], [1], {}, {"x": 1}]
EXTRA = ["tools", "call", "agent", "ask", "confirm", "plan", "tool", "args", "typo", "pattern", "type"]


def places(value, path=()):
    """Give every place of a plan, but not what any JSON value may stand in."""
    yield path
    if isinstance(value, dict) and (
        not path or path[-1] not in ("args", "output_schema", "schema", "default")
    ):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list) and "$comment" not in path:
        for index, item in enumerate(value):
            yield from places(item, (*path, index))


PLACES = [path for path in places(FULL) if path and path[0] not in ("$schema", "$comment")]


@st.composite
def damaged_plans(draw):
    """Change, remove or add one to three things in a plan that has everything."""
    plan = copy.deepcopy(FULL)
    for _ in range(draw(st.integers(1, 3))):
        *parents, last = draw(st.sampled_from(PLACES))
        holder = plan
        try:
            for key in parents:
                holder = holder[key]
            what = draw(st.sampled_from(["replace", "remove", "add"]))
            if what == "replace":
                holder[last] = copy.deepcopy(draw(st.sampled_from(SOMETHING_ELSE)))
            elif what == "remove":
                del holder[last]
            else:
                holder[last][draw(st.sampled_from(EXTRA))] = copy.deepcopy(
                    draw(st.sampled_from(SOMETHING_ELSE))
                )
        except (KeyError, IndexError, TypeError):
            continue
    return plan


@settings(max_examples=600, deadline=None)
@given(damaged_plans())
def test_the_schema_refuses_a_plan_if_and_only_if_the_validator_calls_it_malformed(plan):
    refused = [f"{error.json_path}: {error.message[:200]}" for error in SCHEMA.iter_errors(plan)]
    found = malformed(plan)
    assert bool(refused) == bool(found), json.dumps({"plan": plan, "schema": refused, "validator": found})
