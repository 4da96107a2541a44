"""How a model writes a plan, and how that becomes a plan."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from plans import bound, draft, draft_step, plan
from pydantic import ValidationError

from plan_execute.context import Context
from plan_execute.plan.notations.draft import (
    PlanDraft,
    draft_problems,
    draft_schema,
    steps_from_draft,
    tightened,
)
from plan_execute.plan.references import resolve
from plan_execute.plan.revision import revised_plan


def _draft(*steps: Any, **fields: Any) -> PlanDraft:
    return PlanDraft.model_validate(draft(*steps, **fields))


def _schemas(node: Any) -> list[dict[str, Any]]:
    found = [node] if isinstance(node, dict) else []
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        found += _schemas(child)
    return found


@pytest.mark.parametrize("tools", [[], ["look", "wr"]])
def test_the_schema_means_the_same_to_every_kind_of_endpoint(tools: list[str]) -> None:
    schema = draft_schema(tools)
    for part in _schemas(schema):
        assert not {"default", "$ref", "$defs", "minLength", "maxLength", "pattern", "oneOf", "allOf"} & set(
            part
        )
        if part.get("type") == "object":
            assert part["additionalProperties"] is False
            assert sorted(part["required"]) == sorted(part["properties"])
        if "anyOf" in part:
            assert {"type": "null"} in part["anyOf"]
            assert len(part["anyOf"]) == 2
    assert schema["title"] == "write_plan"


def test_tool_names_are_an_enum_of_the_inventory() -> None:
    step = draft_schema(["look", "wr"])["properties"]["steps"]["items"]["properties"]
    assert step["tools"]["items"]["enum"] == ["look", "wr"]
    assert step["call"]["anyOf"][0]["enum"] == ["look", "wr"]
    assert draft_schema([])["properties"]["steps"]["items"]["properties"]["call"] == {"type": "null"}


def test_the_schema_of_one_inventory_does_not_leak_into_the_next() -> None:
    draft_schema(["look"])
    assert "look" not in json.dumps(draft_schema(["other"]))


@pytest.mark.parametrize(
    ("written", "step_id"),
    [
        ("a", "a"),
        ("1", "step_1"),
        ("step-1", "step_1"),
        (" fetch prices ", "fetch_prices"),
        ("a.b/c", "a_b_c"),
        ("_x", "x"),
        ("", "step"),
        ("ünï", None),
        ("x" * 80, "x" * 64),
        ("2nd", "step_2nd"),
        ("!!!", "step"),
    ],
)
def test_ids_are_made_usable(written: str, step_id: str | None) -> None:
    (step,) = steps_from_draft(_draft(draft_step(written)))
    assert (
        re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,63}", step["id"]) if step_id is None else step["id"] == step_id
    )


def test_every_use_of_a_renamed_id_follows() -> None:
    steps = steps_from_draft(
        _draft(
            draft_step("1"),
            draft_step("1-b"),
            draft_step(
                "c",
                "t",
                {"x": "${1} ${1.path} ${ 1-b[0] } $${1} ${1-b}", "y": ["${1}"]},
                "1",
                "1-b",
                task="see ${1}",
            ),
        )
    )
    assert steps[2]["depends_on"] == ["step_1", "step_1_b"]
    assert steps[2]["call"]["args"] == {
        "x": "${step_1} ${step_1.path} ${step_1_b[0] } $${1} ${step_1_b}",
        "y": ["${step_1}"],
    }
    assert steps[2]["task"] == "see ${step_1}"


def test_a_reference_inside_a_richer_expression_follows_a_renaming_too() -> None:
    steps = steps_from_draft(_draft(draft_step("fetch-a"), draft_step("b", "t", {"x": "${length(fetch-a)}"})))
    assert steps[1]["call"]["args"]["x"] == "${length(fetch_a)}"


def test_two_ids_that_would_become_one_stay_two_or_become_an_issue() -> None:
    steps = steps_from_draft(
        _draft(draft_step("a-1"), draft_step("a_1"), draft_step("b", None, None, "a-1", "a_1"))
    )
    ids = [step["id"] for step in steps]
    assert len(set(ids)) == 3 or ids.count("a_1") == 2


def test_a_criterion_becomes_a_judge_and_a_blank_one_nothing() -> None:
    first, second = steps_from_draft(
        _draft(draft_step("a", criterion=" good "), draft_step("b", criterion=" "))
    )
    assert first["success_criteria"] == [{"type": "judge", "criterion": "good"}]
    assert "success_criteria" not in second


def test_a_step_with_a_call_is_bound_and_without_one_an_agents() -> None:
    first, second = steps_from_draft(
        _draft(draft_step("a", "t", {"x": 1}, tools=["u"]), draft_step("b", tools=["u"]))
    )
    assert first["call"] == {"tool": "t", "args": {"x": 1}}
    assert "tools" not in first
    assert second["tools"] == ["u"]


@pytest.mark.parametrize(
    ("written", "reference"),
    [
        (["a", 2], '${[`"a"`, `2`]}'),
        ('["a", {"b": "`}"}]', r'${[`"a"`, `{"b": "\u0060}"}`]}'),
        (["${x.y}", "a"], '${[x.y, `"a"`]}'),
        (["${x}", "${y}"], "${zip(x, y)}"),
        (["${x}"], "${x}"),
        ("${x}", "${x}"),
        (None, None),
    ],
)
def test_a_loop_may_be_given_its_list(written: Any, reference: str | None) -> None:
    (step,) = steps_from_draft(_draft({**draft_step("s", "t", {"x": "${item}"}), "for_each": written}))
    assert step.get("for_each") == reference


def test_a_loop_over_a_written_list_runs_with_the_values_as_they_are() -> None:
    items = ["`}", "it's", {"k": [1, None, "\\"]}, 2.5, "ä"]
    (step,) = steps_from_draft(_draft({**draft_step("s", "t"), "for_each": items}))
    assert resolve(step["for_each"], {}) == items


@pytest.mark.parametrize("step_id", ["1", "step-1", "Schritt ä"])
def test_in_a_written_list_references_follow_a_normalised_id_and_values_stay(step_id: str) -> None:
    items = [f"${{{step_id}.x}}", f"to {step_id}.", f"{step_id}, and on"]
    steps = steps_from_draft(_draft(draft_step(step_id, "t"), {**draft_step("s", "t"), "for_each": items}))
    assert resolve(steps[1]["for_each"], {steps[0]["id"]: {"x": "there"}}) == ["there", *items[1:]]


@pytest.mark.parametrize("written", [[], ["about ${x}"], "[1", [["${x}"]], [2**64], "[1e999]"])
def test_a_list_that_cannot_be_looped_over_is_refused(written: Any) -> None:
    with pytest.raises(ValidationError, match="for_each"):
        _draft({**draft_step("s", "t"), "for_each": written})


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        (draft(), "steps is empty"),
        (draft(outcome="cannot_plan", rationale=" "), "needs the reason"),
        (draft({**draft_step("a", "t"), "arguments": "{"}), "not JSON"),
        (draft({**draft_step("a", "t"), "arguments": "[1]"}), "not a JSON object"),
        (draft(draft_step("a", "t", {"x": 2**64})), "arguments is not JSON: x: the integer 1844"),
        (
            draft({**draft_step("a", "t"), "arguments": '{"x": 1e999}'}),
            "arguments is not JSON: x: JSON has no number inf",
        ),
        (
            draft(draft_step("a", "t", criterion='{"type": "contains", "value": 1e999}')),
            "success_criterion is not JSON: [0].value: JSON has no number inf",
        ),
        (draft({**draft_step("a", "t"), "arguments": None}), None),
        (draft({**draft_step("a"), "arguments": "nonsense"}), None),
        (draft(outcome="cannot_plan", rationale="why"), None),
    ],
)
def test_an_unreadable_draft_is_named_for_the_repair(written: Any, problem: str | None) -> None:
    problems = draft_problems(PlanDraft.model_validate(written))
    assert (problem in problems[0]) if problem else (problems == [])


def test_unknown_fields_are_refused_and_integer_ids_are_taken() -> None:
    with pytest.raises(ValidationError):
        PlanDraft.model_validate({**draft(), "extra": 1})
    assert PlanDraft.model_validate(draft(draft_step(3, None, None, 2))).steps[0].depends_on == ["2"]


def test_a_revision_keeps_what_is_not_replaced_and_gives_new_ids_to_what_is_new() -> None:
    old: Any = plan(bound("a", "t"), bound("b", "t", {}, "a"), id="p", revision=1)
    new: Any = [bound("b", "u"), bound("c", "u", {"x": "${b} ${a}"}, "b", "a")]
    made = revised_plan(old, {"b"}, new, "why", {"a", "b", "c"})
    assert (made["id"], made["revision"], made["rationale"]) == ("p", 2, "why")
    assert [step["id"] for step in made["steps"]] == ["a", "b_r2", "c_r2"]
    assert made["steps"][0] == old["steps"][0]
    assert made["steps"][2]["depends_on"] == ["b_r2", "a"]
    assert made["steps"][2]["call"]["args"]["x"] == "${b_r2} ${a}"


def test_a_revision_drops_a_field_that_plans_of_an_older_version_had() -> None:
    old: Any = plan(bound("a", "t"), id="p", revision=1, goal_criteria=[{"type": "not_empty"}])
    made = revised_plan(old, {"a"}, [bound("a", "u")], "why", {"a"})  # type: ignore[list-item]
    assert "goal_criteria" not in made
    assert made["goal"] == old["goal"]


def test_a_revision_does_not_make_a_call_unseen_that_was_to_be_confirmed() -> None:
    old: Any = plan(bound("a", "send", confirm=True), id="p", revision=1)
    new: Any = [bound("b", "send"), {"id": "c", "task": "send it", "tools": ["send"]}, bound("d", "look")]
    called, agents, other = revised_plan(old, {"a"}, new, "why", {"a"})["steps"]
    assert (called["confirm"], "approve" in called) == (True, False)
    assert (agents["approve"], "confirm" in agents) == (True, False), "only a call can be confirmed"
    assert not {"confirm", "approve"} & other.keys()


def test_every_occasion_offers_the_outcomes_that_fit_it() -> None:
    offered = {o: draft_schema([], occasion=o)["properties"] for o in ("goal", "next_steps", "revision")}
    assert {o: "finished" in p["outcome"]["enum"] for o, p in offered.items()} == {
        "goal": False,
        "next_steps": True,
        "revision": False,
    }
    assert {o: "complete" in p for o, p in offered.items()} == {
        "goal": True,
        "next_steps": True,
        "revision": False,
    }


KEPT: Any = [bound("a", "look", {"q": "x"}, task="do a"), {"id": "t", "task": "do t", "tools": []}]


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (draft(draft_step("b", "look", {"q": "x"}), complete=False), None),
        (draft(draft_step("a", "look", {"q": "other"}), complete=False), None),
        (draft(draft_step("t", task="do something else"), complete=False), None),
        (draft(outcome="finished"), None),
        (draft(outcome="finished", complete=False), None),
        (draft(draft_step("a", "look", {"q": "x"}), outcome="finished"), None),
        (draft(), None),
        (draft(draft_step("a", "look", {"q": "x"}, task="another name")), None),
        (
            draft(draft_step("a", "look", {"q": "x"}), draft_step("t"), complete=False),
            "in the plan already",
        ),
        (draft(complete=False), "in the plan already"),
        (draft(draft_step("b"), outcome="finished"), "finished takes no steps, but there are: b"),
        (draft(outcome="cannot_plan", rationale=" "), "the reason"),
    ],
)
def test_a_round_adds_a_step_or_ends_the_plan(written: Any, words: str | None) -> None:
    problems = draft_problems(PlanDraft.model_validate(written), "next_steps", KEPT)
    assert bool(problems) is bool(words), problems
    assert words is None or words in problems[0]


def test_finished_is_no_answer_to_a_goal() -> None:
    assert "plan, single_step, cannot_plan" in draft_problems(_draft(outcome="finished"))[0]


def test_a_model_that_leaves_complete_out_has_written_a_complete_plan() -> None:
    written = {key: value for key, value in draft(draft_step("a")).items() if key != "complete"}
    assert PlanDraft.model_validate(written).complete


PLAN_FILE = {
    "id": "9f2c",
    "revision": 3,
    "goal": "Pack",
    "rationale": None,
    "inputs": {"city": {"type": "string", "default": "Paris"}},
    "steps": [
        {"id": "a", "call": {"tool": "look", "args": {"city": "${inputs.city}"}}, "depends_on": None},
        {"id": "b", "task": "Pack", "depends_on": ["a"], "tools": [], "max_attempts": 2, "timeout_s": 60},
        {"id": "c", "ask": {"question": "Which?", "choices": ["x", "y"]}, "on_failure": "skip"},
        {"id": "d", "plan": {"goal": "More"}, "approve": True},
        {"id": "e", "tools": ["look"], "success_criteria": [{"type": "not_empty"}], "max_iterations": 3},
    ],
}


def test_a_plan_in_the_format_of_plan_files_is_read_whole() -> None:
    draft = PlanDraft.model_validate(PLAN_FILE)
    assert (draft.outcome, draft.inputs, draft_problems(draft)) == ("plan", PLAN_FILE["inputs"], [])
    assert [
        {key: step[key] for key in step if step[key] not in ("", [])} for step in steps_from_draft(draft)
    ] == [
        {"id": "a", "call": {"tool": "look", "args": {"city": "${inputs.city}"}}},
        {"id": "b", "task": "Pack", "depends_on": ["a"], "max_attempts": 2, "timeout_s": 60},
        {"id": "c", "ask": {"question": "Which?", "choices": ["x", "y"]}, "on_failure": "skip"},
        {"id": "d", "plan": {"goal": "More"}, "approve": True},
        {"id": "e", "tools": ["look"], "success_criteria": [{"type": "not_empty"}], "max_iterations": 3},
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"call": {"tool": "look", "arg": {}}},
        {"call": {"args": {}}},
        {"ask": {"question": "?", "answer": "x"}},
        {"plan": {"goal": "x", "steps": []}},
        {"on_failur": "skip"},
    ],
    ids=repr,
)
def test_a_field_that_no_plan_file_has_is_not_skipped(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PlanDraft.model_validate({"steps": [{"id": "a", **wrong}]})


@pytest.mark.parametrize("wrap", [lambda p: {"plan": p}, lambda p: p["steps"], lambda p: p["steps"][0]])
def test_a_plan_in_an_envelope_or_without_one_is_read(wrap: Any) -> None:
    step = {"id": "a", "call": {"tool": "look"}}
    (read,) = steps_from_draft(PlanDraft.model_validate(wrap({"steps": [step]})))
    assert (read["id"], read["call"]) == ("a", {"tool": "look", "args": {}})


@pytest.mark.parametrize(
    ("settings", "written", "kept"),
    [
        ({"max_attempts": 1}, {"max_attempts": 30}, {"max_attempts": 1}),
        ({"max_attempts": 3}, {"max_attempts": 2}, {"max_attempts": 2}),
        ({"max_iterations": 4}, {"max_iterations": 500}, {"max_iterations": 4}),
        ({"step_timeout_s": 10}, {"timeout_s": 600}, {"timeout_s": 10}),
        ({"step_timeout_s": None}, {"timeout_s": 600}, {"timeout_s": 600}),
        ({"on_failure": "ask"}, {"on_failure": "skip"}, {}),
        ({}, {"on_failure": "retry"}, {}),
        ({}, {"on_failure": "replan"}, {"on_failure": "replan"}),
        ({}, {"approve": True}, {"approve": True}),
        ({}, {"max_attempts": "many"}, {"max_attempts": "many"}),
    ],
    ids=str,
)
def test_a_models_step_has_no_looser_limits_than_the_run(settings: Any, written: Any, kept: Any) -> None:
    (step,) = steps_from_draft(_draft({**draft_step("a", "look", {"q": "x"}), **written}))
    made = tightened(step, Context(**settings))
    assert {name: made[name] for name in made.keys() - {"id", "task", "depends_on", "call"}} == kept
