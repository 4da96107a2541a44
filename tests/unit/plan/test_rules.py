"""How a plan is normalised before it is judged, and what the rules leave alone."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from plans import bound, plan, think
from toolset import Toolset, make_tool

from plan_execute.plan.rules import PlanFacts, validate_plan
from plan_execute.tools.toolbox import Toolbox


def _facts(**facts: Any) -> PlanFacts:
    return PlanFacts(**{"toolbox": Toolbox(Toolset().tools), "step_limit": 50, **facts})


def _codes(raw: Any, **facts: Any) -> list[str]:
    return [issue["code"] for issue in validate_plan(raw, _facts(**facts))[1]]


def test_what_a_plan_leaves_out_is_filled_in() -> None:
    found, issues = validate_plan(
        {"steps": [{"id": "a", "call": {"tool": "look", "args": {"q": "x"}}}]}, _facts(goal="g")
    )
    assert issues == []
    assert found is not None
    assert len(found["id"]) == 32
    assert {**found, "id": ""} == {
        "id": "",
        "revision": 1,
        "goal": "g",
        "rationale": "",
        "complete": True,
        "inputs": {},
        "steps": [{"id": "a", "task": "", "call": {"tool": "look", "args": {"q": "x"}}, "depends_on": []}],
    }


def test_validating_a_valid_plan_again_changes_nothing() -> None:
    raw = plan(
        bound("b", "look", {"q": "${a}"}), bound("a", "look", {"q": "x"}), think("c", "b", tools=["look"])
    )
    once, _ = validate_plan(raw, _facts())
    twice, issues = validate_plan(once, _facts())
    assert (twice, issues) == (once, [])


def test_the_given_plan_itself_is_never_changed() -> None:
    raw = plan(bound("b", "look", {"q": "${a}"}), bound("a", "look", {"q": "x"}))
    before = repr(raw)
    validate_plan(raw, _facts())
    assert repr(raw) == before


def test_dependencies_that_references_imply_are_added_once() -> None:
    raw = plan(
        bound("a", "look", {"q": "x"}),
        bound("b", "look", {"q": "${a} ${a.x || a}"}),
        think("c", task="use ${b}"),
        bound("d", "look", {"q": "x"}, success_criteria=[{"type": "matches", "pattern": "${c}"}]),
    )
    found, issues = validate_plan(raw, _facts())
    assert issues == []
    assert found is not None
    assert [step["depends_on"] for step in found["steps"]] == [[], ["a"], ["b"], ["c"]]


def test_a_repeated_dependency_counts_once() -> None:
    found, issues = validate_plan(
        plan(bound("a", "look", {"q": "x"}), bound("b", "look", {"q": "x"}, "a", "a")), _facts()
    )
    assert (found or {})["steps"][1]["depends_on"] == ["a"]
    assert issues == []


def test_the_path_of_a_cycle_is_named_in_its_order() -> None:
    steps = [
        bound("a", "look", {"q": "x"}, "c"),
        bound("b", "look", {"q": "x"}, "a"),
        bound("c", "look", {"q": "x"}, "b"),
    ]
    (issue,) = validate_plan(plan(*steps), _facts())[1]
    path = issue["message"].rpartition(": ")[2].split(" -> ")
    needs = {step["id"]: step["depends_on"] for step in steps}
    assert path[0] == path[-1]
    assert set(path) == {"a", "b", "c"}
    forward = all(needs[x] == [y] for x, y in pairwise(path))
    backward = all(needs[y] == [x] for x, y in pairwise(path))
    assert forward or backward


def test_a_field_that_is_null_is_malformed_and_not_taken_as_absent() -> None:
    raw = plan({"id": "a", "task": "t", "call": None, "tools": [], "timeout_s": None})
    assert _codes(raw) == ["malformed_plan", "malformed_plan"]


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("${a}", None),
        ("text ${a}", "bad_arguments"),
        (3, None),
        ("3", "bad_arguments"),
        ("${a.seconds}", None),
    ],
)
def test_an_argument_only_known_at_run_time_is_not_held_against_its_type(
    value: Any, code: str | None
) -> None:
    raw = plan(bound("a", "echo", {"value": 1}), bound("b", "slow", {"name": "x", "seconds": value}))
    assert _codes(raw) == ([code] if code else [])


def test_an_integer_fits_where_a_number_is_wanted_and_text_does_not() -> None:
    def declared(kind: str) -> list[str]:
        first = bound("a", "echo", {"value": 1}, output_schema={"type": kind})
        return _codes(plan(first, bound("b", "slow", {"name": "x", "seconds": "${a}"})))

    assert (declared("integer"), declared("number"), declared("string")) == ([], [], ["type_mismatch"])


def test_an_open_output_schema_rules_nothing_out() -> None:
    for schema in (
        {"type": "object"},
        {"type": "object", "properties": {"t": {}}, "additionalProperties": True},
        {},
    ):
        first = bound("a", "echo", {"value": 1}, output_schema=schema)
        assert _codes(plan(first, bound("b", "look", {"q": "${a.u}"}))) == [], schema


def test_finished_steps_must_stay_exactly_as_they_are() -> None:
    first = plan(bound("a", "look", {"q": "x"}), bound("b", "look", {"q": "y"}))
    previous, _ = validate_plan(first, _facts())
    facts = {"previous": previous, "results": {"a": {"status": "done"}, "b": {"status": "failed"}}}
    assert _codes(plan(bound("a", "look", {"q": "x"}), bound("c", "look", {"q": "y"})), **facts) == []
    assert _codes(plan(bound("a", "look", {"q": "changed"})), **facts) == ["done_step_changed"]
    assert _codes(plan(bound("c", "look", {"q": "y"})), **facts) == ["done_step_changed"]


def test_a_finished_step_whose_dependency_only_its_reference_names_is_the_same_step() -> None:
    steps = (bound("a", "look", {"q": "x"}), bound("b", "look", {"q": "${a}"}))
    previous, _ = validate_plan(plan(*steps), _facts())
    facts = {"previous": previous, "results": {"b": {"status": "done"}}}
    assert _codes(plan(*steps), **facts) == []


def test_a_revision_keeps_the_plans_id_and_counts_on() -> None:
    previous, _ = validate_plan(plan(bound("a", "look", {"q": "x"}), id="p", revision=4), _facts())
    found, _ = validate_plan(plan(bound("b", "look", {"q": "x"})), _facts(previous=previous))
    assert ((found or {})["id"], (found or {})["revision"]) == ("p", 5)


def test_inputs_that_a_plan_does_not_declare_are_refused_only_where_it_declares_some() -> None:
    step = bound("a", "look", {"q": "${inputs.x}"})
    assert _codes(plan(step), inputs={"x": "1"}) == []
    assert _codes(plan(step, inputs={"x": {"type": "string"}}), inputs={"x": "1", "y": 2}) == [
        "unresolved_reference"
    ]
    assert _codes(plan(step, inputs={"x": {"type": "string"}}), inputs={"x": 1}) == ["type_mismatch"]


def test_read_only_tools_of_one_resource_do_not_conflict() -> None:
    def get(path: str) -> str:
        """Get."""
        return path

    toolbox = Toolbox([make_tool(get, effect="read", resource="file:{path}")])
    raw = plan(bound("a", "get", {"path": "f"}), bound("b", "get", {"path": "f"}))
    assert _codes(raw, toolbox=toolbox) == []


def test_writers_that_are_ordered_through_others_do_not_conflict() -> None:
    def put(path: str) -> str:
        """Put."""
        return path

    toolbox = Toolbox([make_tool(put, effect="write", resource="the disk")])
    a, b, c = (bound(i, "put", {"path": i}, *after) for i, after in (("a", []), ("b", ["a"]), ("c", ["b"])))
    assert _codes(plan(a, b, c), toolbox=toolbox) == []
    assert _codes(plan(a, b, bound("d", "put", {"path": "d"}, "a")), toolbox=toolbox) == ["write_conflict"]


@pytest.mark.parametrize(
    "raw",
    [None, 1, "x", [], {"steps": None}, {"steps": [None]}, {"steps": [{}]}, {"steps": [{"id": None}]}, {}],
)
def test_anything_at_all_gives_issues_and_never_an_exception(raw: Any) -> None:
    found, issues = validate_plan(raw, _facts())
    assert found is None
    assert {issue["code"] for issue in issues} == {"malformed_plan"}


def test_a_regular_expression_with_a_reference_is_left_to_run_time() -> None:
    raw = plan(
        bound("a", "look", {"q": "x"}),
        bound("b", "look", {"q": "x"}, success_criteria=[{"type": "matches", "pattern": "(${a}"}]),
    )
    assert _codes(raw) == []


@pytest.mark.parametrize(
    ("named", "codes"), [("fast", []), ("openai:gpt-5", []), ("gpt-5", []), ("clever", ["unknown_model"])]
)
def test_a_class_that_no_run_could_have_is_an_issue_even_where_no_model_is_known(
    named: str, codes: list[str]
) -> None:
    assert _codes(plan(think("a", model=named))) == codes
