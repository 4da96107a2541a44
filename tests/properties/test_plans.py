"""Laws of plans: order, implied dependencies, pending steps, hashes, revisions."""

from __future__ import annotations

import json
from typing import Any

from generated import dags, json_values, results
from hypothesis import given, settings
from hypothesis import strategies as st
from plans import bound, draft, draft_step, plan
from toolset import Toolset

from plan_execute.plan.dag import descendants, pending_steps, remaining_path, run_status, topological_order
from plan_execute.plan.identity import plan_hash, step_fingerprint, unused_id
from plan_execute.plan.notations.draft import PlanDraft, steps_from_draft
from plan_execute.plan.revision import revised_plan
from plan_execute.plan.rules import PlanFacts, validate_plan
from plan_execute.state import STEP_ID_PATTERN, is_satisfied
from plan_execute.tools.toolbox import Toolbox

TOOLBOX = Toolbox(Toolset().tools)
few = settings(max_examples=60, deadline=None)


@few
@given(dags())
def test_a_topological_order_is_a_permutation_in_which_dependencies_come_first(steps: Any) -> None:
    order = [step["id"] for step in topological_order(steps)]
    assert sorted(order) == sorted(step["id"] for step in steps)
    for step in steps:
        assert all(order.index(dep) < order.index(step["id"]) for dep in step["depends_on"])


@few
@given(dags())
def test_the_order_of_a_plan_that_is_in_order_is_stable(steps: Any) -> None:
    once = topological_order(steps)
    assert [step["id"] for step in topological_order(once)] == [
        step["id"] for step in topological_order(topological_order(once))
    ]


@few
@given(dags(), st.data())
def test_descendants_are_closed_under_depending_and_grow_with_their_roots(steps: Any, data: Any) -> None:
    roots = data.draw(st.sets(st.sampled_from([s["id"] for s in steps]))) if steps else set()
    below = descendants(steps, roots)
    for step in steps:
        if (roots | below) & set(step["depends_on"]):
            assert step["id"] in below
    assert descendants(steps, roots | below) >= below - roots


@few
@given(dags())
def test_the_remaining_path_of_a_step_outlasts_that_of_its_dependents(steps: Any) -> None:
    left = remaining_path(steps, {})
    for step in steps:
        assert left[step["id"]] >= 1
        assert all(left[dep] > left[step["id"]] for dep in step["depends_on"])


@few
@given(dags(), st.data())
def test_pending_steps_are_in_order_and_never_hold_what_has_ended(steps: Any, data: Any) -> None:
    found = data.draw(results(steps))
    pending = [step["id"] for step in pending_steps({"steps": steps}, found)]
    for step_id in pending:
        assert found.get(step_id, {"status": "blocked"})["status"] == "blocked"
    assert [s["id"] for s in topological_order(steps) if s["id"] in pending] == pending
    assert {s["id"] for s in steps if s["id"] not in found} <= set(pending)


@few
@given(dags())
def test_running_what_is_pending_until_nothing_is_ends_every_run(steps: Any) -> None:
    found: Any = {}
    for _ in range(len(steps) + 1):
        pending = pending_steps({"steps": steps}, found)
        for step in pending:
            ready = all(is_satisfied(found.get(dep)) for dep in step["depends_on"])
            found[step["id"]] = {"status": "done" if ready else "blocked", "error": None}
    assert pending_steps({"steps": steps}, found) == []
    assert run_status({"steps": steps}, found) == ("done" if steps else "failed")


@few
@given(dags(), st.data())
def test_a_run_is_done_only_when_every_step_is_satisfied(steps: Any, data: Any) -> None:
    found = data.draw(results(steps))
    if run_status({"steps": steps}, found) == "done":
        assert all(is_satisfied(found.get(step["id"])) for step in steps)


@few
@given(dags())
def test_references_imply_exactly_the_dependencies_that_are_written_out(steps: Any) -> None:
    implied = [
        bound(s["id"], "look", {"q": " ".join(["x", *(f"${{{dep}}}" for dep in s["depends_on"])])})
        for s in steps
    ]
    found, issues = validate_plan(plan(*implied), PlanFacts(TOOLBOX, 50))
    if not steps:
        assert [issue["code"] for issue in issues] == ["empty_plan"]
        return
    assert issues == []
    assert found is not None
    wanted = {s["id"]: set(s["depends_on"]) for s in steps}
    assert {s["id"]: set(s["depends_on"]) for s in found["steps"]} == wanted


@few
@given(dags())
def test_validation_is_idempotent(steps: Any) -> None:
    once, issues = validate_plan(plan(*steps), PlanFacts(TOOLBOX, 50))
    twice, again = validate_plan(once, PlanFacts(TOOLBOX, 50))
    assert (twice, again) == (once, issues)


@few
@given(json_values)
def test_anything_that_is_handed_in_as_a_plan_is_judged_and_never_raises(value: Any) -> None:
    for raw in (
        value,
        {"steps": value},
        {"steps": [value]},
        {"steps": [{"id": "a", "tools": [], "task": value}]},
    ):
        found, issues = validate_plan(raw, PlanFacts(TOOLBOX, 50))
        assert issues or found is not None


@few
@given(st.text(max_size=20), json_values)
def test_any_reference_text_and_any_argument_is_judged_and_never_raises(text: str, value: Any) -> None:
    step = bound(
        "a",
        "echo",
        {"value": [f"${{{text}}}", value]},
        success_criteria=[{"type": "matches", "pattern": text}],
    )
    _, issues = validate_plan(plan(step), PlanFacts(TOOLBOX, 50))
    assert all(set(issue) - {"field"} == {"code", "step_id", "message"} for issue in issues)


@few
@given(dags(), st.dictionaries(st.text(max_size=5), json_values, max_size=3))
def test_a_hash_survives_json_and_the_order_of_keys_and_follows_the_content(steps: Any, inputs: Any) -> None:
    given_plan: Any = plan(*steps)
    first = plan_hash(given_plan, inputs)
    shuffled: Any = {"steps": [dict(reversed(step.items())) for step in steps]}
    assert plan_hash(json.loads(json.dumps(shuffled)), json.loads(json.dumps(inputs))) == first
    assert plan_hash({"steps": [*steps, bound("extra", "look")]}, inputs) != first  # type: ignore[list-item]


@few
@given(json_values, json_values)
def test_steps_of_one_content_have_one_fingerprint_and_of_two_contents_two(left: Any, right: Any) -> None:
    one, two = bound("a", "t", {"x": left}), bound("a", "t", {"x": right})
    same = json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)
    assert (step_fingerprint(one) == step_fingerprint(two)) is same  # type: ignore[arg-type]


@few
@given(st.text(min_size=1, max_size=70), st.integers(1, 10**6), st.sets(st.text(max_size=5)))
def test_a_new_id_is_unused_and_short_enough(wanted: str, revision: int, taken: set[str]) -> None:
    made = unused_id(wanted, revision, {*taken, wanted})
    assert made not in {*taken, wanted}
    assert len(made) <= 64


@few
@given(st.lists(st.text(max_size=8) | st.integers(0, 99), min_size=1, max_size=5, unique_by=str))
def test_whatever_ids_a_model_writes_they_become_valid_or_stay_as_an_issue(written: list[Any]) -> None:
    import re

    steps = steps_from_draft(PlanDraft.model_validate(draft(*(draft_step(i) for i in written))))
    for raw, step in zip(written, steps, strict=True):
        assert re.fullmatch(STEP_ID_PATTERN, step["id"]) or step["id"] == str(raw)


@few
@given(dags(), st.data())
def test_a_revision_keeps_the_rest_and_never_reuses_an_id(steps: Any, data: Any) -> None:
    ids = [step["id"] for step in steps]
    replaced = data.draw(st.sets(st.sampled_from(ids))) if ids else set()
    taken = {*ids, "s90", "s90_r2"}
    new: Any = [
        bound(i, "look", {"q": "x"})
        for i in data.draw(st.lists(st.sampled_from([*ids, "s90", "s91"]), unique=True))
    ]
    made = revised_plan({"id": "p", "revision": 1, "steps": steps}, replaced, new, "", taken)
    kept = [step for step in steps if step["id"] not in replaced]
    assert made["steps"][: len(kept)] == kept
    fresh = [step["id"] for step in made["steps"][len(kept) :]]
    assert len(fresh) == len(new) == len(set(fresh))
    assert not set(fresh) & taken
