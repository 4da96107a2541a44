"""Plans in lines: whatever the JSON form can say is read back from lines, and nothing else is."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from plan_lines import write_lines

from plan_execute.plan.notations.draft import PlanDraft, steps_from_draft
from plan_execute.plan.notations.lines import TextFormError, Vocabulary, complete_lines, read_lines
from plan_execute.plan.notations.written import written_step

TOOLS = {"look": ["q", "limit"], "my-tool": ["x"], "do_it2": []}
WORDS = Vocabulary(TOOLS, ["coder"])
NAMES = ["a", "fetch", "b2", "Prices"]

texts = st.text(
    alphabet=st.one_of(st.sampled_from("\"'\\\n\t#{}[]()=,;|`. "), st.characters(exclude_categories=("Cs",))),
    max_size=20,
).filter(lambda text: "$" not in text)
references = st.sampled_from(
    [
        "${a}",
        "${fetch.items[0].name}",
        "${a.b}",
        "${b2.list[?x > `2`].y}",
        "${inputs.city}",
        "${Prices | length(@)}",
    ]
)
values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),  # Others cannot be kept, and are told to the planner.
        st.floats(allow_nan=False, allow_infinity=False),
        texts,
        references,
        st.just("costs ${a.price} or $5.50, not ${b2}"),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
criteria = st.none() | texts.filter(bool)


def step(**fields: Any) -> dict[str, Any]:
    empty = dict.fromkeys(
        ("call", "arguments", "success_criterion", "output_schema", "for_each", "when", "agent", "goal")
    )
    return {"id": "", "task": "", "depends_on": [], "tools": [], **empty, **fields}


@st.composite
def steps(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["call", "work", "agent", "goal"]))
    if kind == "call":
        tool = draw(st.sampled_from(list(TOOLS)))
        names = st.sampled_from(["q", "limit", "any_name"])
        arguments = draw(st.dictionaries(names, values, max_size=3))
        made = step(call=tool, arguments=json.dumps(arguments, ensure_ascii=False))
    elif kind == "goal":
        goal = draw(texts.filter(bool))  # none is no sub-plan
        made = step(goal=goal, task=goal)
    else:
        made = step(task=draw(texts), agent="coder" if kind == "agent" else None)
        made["tools"] = draw(st.lists(st.sampled_from(list(TOOLS)), unique=True)) if kind == "work" else []
    made["depends_on"] = draw(st.lists(st.sampled_from(NAMES), max_size=2, unique=True))
    made["success_criterion"] = draw(criteria)
    made["for_each"] = draw(st.none() | references)
    made["when"] = draw(st.none() | st.sampled_from(["a.ok == `false`", "length(b2) > `0` && !fetch"]))
    made["else_of"] = draw(st.none() | st.sampled_from(NAMES))
    made["if_failed"] = draw(st.lists(st.sampled_from(NAMES), max_size=2, unique=True))
    made["output_schema"] = draw(st.none() | st.just('{"type": "object", "required": ["x"]}'))
    return made


@st.composite
def plans(draw: st.DrawFn) -> dict[str, Any]:
    made = draw(st.lists(steps(), min_size=1, max_size=4))
    named = [{**one, "id": name} for one, name in zip(made, NAMES, strict=False)]
    complete = draw(st.booleans())
    rationale = draw(st.sampled_from(["", "because"]))
    return {"outcome": "plan", "rationale": rationale, "complete": complete, "steps": named}


@given(plans())
@settings(max_examples=60)
def test_what_the_json_form_says_is_read_back_from_lines_with_exact_values(plan: dict[str, Any]) -> None:
    assert PlanDraft.model_validate(read_lines(write_lines(plan), WORDS)) == PlanDraft.model_validate(plan)


@given(plans(), st.booleans())
@settings(max_examples=60)
def test_a_step_that_a_planner_is_shown_can_be_written_again(plan: dict[str, Any], confirmed: bool) -> None:
    asked = step(id="asked", ask="Which?", choices=["a", "b"])
    call = step(id="sure", call="look", arguments='{"q": "x"}', confirm=confirmed)
    shown = steps_from_draft(PlanDraft.model_validate({**plan, "steps": [*plan["steps"], asked, call]}))
    again = read_lines("\n".join(written_step(one, "lines") for one in shown), WORDS)
    told = [{**one, "task": one["task"] if "tools" in one or "agent" in one else ""} for one in shown]
    written = steps_from_draft(PlanDraft.model_validate(again))
    assert [{**one, "task": told[at]["task"] and one["task"]} for at, one in enumerate(written)] == told


@given(
    plans(),
    st.sampled_from(["", "Sure! Here's the plan:\n\n", "```text\n"]),
    st.sampled_from(["", "\n```\nDone."]),
)
@settings(max_examples=25)
def test_fences_and_chatter_around_a_plan_change_nothing(
    plan: dict[str, Any], before: str, after: str
) -> None:
    written = write_lines(plan)
    assert read_lines(f"{before}{written}{after}", WORDS) == read_lines(written, WORDS)


@given(plans(), st.integers(0, 400))
@settings(max_examples=50)
def test_what_is_read_of_a_plan_being_written_is_the_beginning_of_the_whole(
    plan: dict[str, Any], cut: int
) -> None:
    written = write_lines(plan)
    whole, begun = read_lines(written, WORDS), complete_lines(written[:cut], WORDS)
    assert whole is not None
    assert begun == whole["steps"][: len(begun)]


@given(plans())
@settings(max_examples=25)
def test_a_plan_in_json_is_not_taken_for_lines(plan: dict[str, Any]) -> None:
    assert read_lines(json.dumps(plan), WORDS) is None
    assert read_lines(f"Here:\n```json\n{json.dumps(plan, indent=1)}\n```", WORDS) is None


@given(st.text(alphabet=st.sampled_from("1.2) a=look(\"'x$,{}[]\\\n#:"), max_size=60) | st.text(max_size=60))
@settings(max_examples=150)
def test_any_text_is_a_plan_or_none_or_has_its_problems_named(text: str) -> None:
    try:
        read = read_lines(text, WORDS)
    except TextFormError as error:
        read = {"outcome": "plan", "rationale": error.problems[0], "steps": []}
    assert read is None or PlanDraft.model_validate(read)
    assert isinstance(complete_lines(text, WORDS), list)
