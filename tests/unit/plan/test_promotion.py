"""A plan that is promoted does the work of the run it is from, and only that."""

import pytest
from plans import bound, plan, think

from plan_execute.errors import InvalidInputError, NotPromotableError
from plan_execute.plan.literals import NewInput, declared_inputs
from plan_execute.plan.promotion import needs_model, promote


def result(step_id, status="done", **fields):
    error = None if status in ("done", "skipped") else {"code": status, "message": "m"}
    return {"step_id": step_id, "status": status, "error": error, "evidence": [], **fields}


def done(*ids, **others):
    return {**{i: result(i) for i in ids}, **{i: result(i, status) for i, status in others.items()}}


def revised(*steps, **fields):
    """A plan as a run leaves it."""
    return plan(*steps, id="p", revision=2, rationale="", complete=True, inputs={}) | fields


def changed(**difference):
    return {"event": "plan_accepted", "plan_id": "p", "difference": difference}


# --- which steps -------------------------------------------------------------------------


def test_a_plan_loses_what_belongs_to_its_run_and_what_says_nothing():
    steps = [bound("a", "t", {"x": 1}, task=""), bound("b", "t", {"x": "${a}"}, "a", approve=True)]
    made = promote(revised(*steps), done("a", "b")).plan
    assert made == {
        "goal": "the goal",
        "steps": [
            {"id": "a", "call": {"tool": "t", "args": {"x": 1}}},
            {"id": "b", "depends_on": ["a"], "call": {"tool": "t", "args": {"x": "${a}"}}, "approve": True},
        ],
    }
    assert [*made["steps"][1]] == ["id", "depends_on", "call", "approve"]


@pytest.mark.parametrize("status", ["failed", "blocked"])
def test_a_run_that_did_not_end_done_is_refused(status):
    with pytest.raises(NotPromotableError, match="partial"):
        promote(revised(bound("a", "t"), bound("b", "t")), done("a", b=status))
    with pytest.raises(NotPromotableError, match="failed"):
        promote(revised(bound("a", "t")), {})
    skipped = {**done("a"), "b": {**result("b", "skipped"), "error": {"code": "x", "message": "gave up"}}}
    with pytest.raises(NotPromotableError, match="partial"):
        promote(revised(bound("a", "t"), bound("b", "t")), skipped)


def test_a_step_that_its_condition_skipped_stays_and_results_of_replaced_steps_are_dropped():
    steps = [bound("a", "t"), bound("b", "t", {}, "a", when="a.ok")]
    promotion = promote(revised(*steps), done("a", b="skipped", old="failed"))
    assert [step["id"] for step in promotion.plan["steps"]] == ["a", "b"]
    assert promotion.plan["steps"][1]["when"] == "a.ok"
    assert promotion.dropped == ["old"]


def test_a_plan_that_was_to_go_on_is_not_done():
    with pytest.raises(NotPromotableError):
        promote(revised(bound("a", "t"), complete=False), done("a"))
    assert "complete" not in promote(revised(bound("a", "t")), done("a")).plan


# --- ids ---------------------------------------------------------------------------------


def test_ids_of_revisions_are_cleaned_with_every_use_of_them():
    steps = [
        bound("pack_r2", "t", {"x": "${a.y}"}),
        bound("a", "t"),
        think("b", "pack_r2", task="see ${pack_r2.z} and $${pack_r2}"),
        bound(
            "c", "t", {"x": ["${{k: pack_r2}}"]}, "pack_r2", for_each="${pack_r2.items}", when="pack_r2.ok"
        ),
        {"id": "d", "plan": {"goal": "use ${pack_r2}"}, "depends_on": ["pack_r2"]},
    ]
    promotion = promote(
        revised(*steps), done("pack_r2", "a", "b", "c", "d"), audit=[changed(removed=["pack"])]
    )
    first, _, b, c, d = promotion.plan["steps"]
    assert promotion.renamed == {"pack_r2": "pack"}
    assert first["id"] == "pack"
    assert (b["depends_on"], b["task"]) == (["pack"], "see ${pack.z} and $${pack_r2}")
    assert (c["for_each"], c["when"]) == ("${pack.items}", "pack.ok")
    assert c["call"]["args"] == {"x": ["${{k: pack}}"]}
    assert (d["plan"], d["depends_on"]) == ({"goal": "use ${pack}"}, ["pack"])


def test_an_id_is_cleaned_only_to_one_that_an_earlier_revision_had_and_that_is_free():
    ids = ["go_r2", "pack_r2", "pack_r3", "a", "a_r2", "x_r2_r3", "y_r2_2"]
    audit = [
        changed(removed=["pack"]),
        {"event": "plan_accepted", "plan_id": "another", "difference": {"removed": ["go"]}},
        changed(added=["x", "x_r2", "y"]),
    ]
    promotion = promote(revised(*(bound(i, "t") for i in ids)), done(*ids), audit=audit)
    assert [s["id"] for s in promotion.plan["steps"]] == ["go_r2", "pack", "pack_r3", "a", "a_r2", "x", "y"]


# --- people ------------------------------------------------------------------------------


def test_what_people_did_by_hand_is_said():
    audit = [
        {"event": "step_failure", "plan_id": "p", "step_id": "a", "decision": "supply", "by": "person"},
        {"event": "step_failure", "plan_id": "other", "step_id": "z", "decision": "supply"},
        {"event": "plan_edited", "plan_id": "p"},
        {"event": "plan_edited", "plan_id": "p"},
    ]
    said = promote(revised(bound("a", "t")), done("a"), audit=audit).by_hand
    assert said == [
        "the output of a was supplied; a new run tries the step itself",
        "the plan was edited",
    ]


def test_a_call_that_a_person_edited_when_it_was_approved_is_kept_as_it_was_made():
    call = {"tool": "t", "args": {"x": "for ${y} and you", "n": 3, "r": "read"}, "ok": True}
    step = bound("a", "t", {"x": "for me", "n": 2, "r": "${b}"}, "b")
    audit = [{"event": "step_failure", "plan_id": "p", "step_id": "a", "trigger": "approve_step: edit"}]
    results = done("b") | {"a": result("a", evidence=[{**call, "ok": False, "args": {}}, call])}
    made = promote(revised(step, bound("b", "t")), results, audit=audit)
    assert made.plan["steps"][0]["call"]["args"] == {"x": "for $${y} and you", "n": 3, "r": "${b}"}
    assert made.by_hand == ["a was changed when it was approved"]
    unedited = promote(revised(step, bound("b", "t")), results)
    assert unedited.plan["steps"][0]["call"]["args"]["x"] == "for me"


# --- inputs ------------------------------------------------------------------------------


def test_the_input_values_of_the_run_become_defaults():
    step = bound("a", "t", {"x": "${inputs.city}", "y": "${inputs.n}"})
    declared = {"city": {"type": "string", "default": "Paris"}, "free": {}}
    values = {"city": "Rome", "n": 3, "unused": 1}
    assert promote(revised(step, inputs=declared), done("a"), inputs=values).plan["inputs"] == {
        "city": {"type": "string", "default": "Rome"},
        "free": {},
        "n": {"type": "integer", "default": 3},
    }


@pytest.mark.parametrize(
    ("value", "kind"),
    [(True, "boolean"), (1, "integer"), (1.5, "number"), ("x", "string"), ([1], "array"), ({}, "object")],
)
def test_an_input_without_a_declaration_is_declared_by_its_value(value, kind):
    assert declared_inputs({"x": {}}, {"x": value}) == {"x": {"type": kind, "default": value}}
    assert declared_inputs({}, {"x": None}) == {"x": {"default": None}}


# --- lifting -----------------------------------------------------------------------------

STEPS = [
    bound("w", "t", {"city": "Rome", "deep": {"list": [1, {"k": 2.5}], "a.b": "dots"}, "ref": "${inputs.z}"}),
    bound("n", "t", {"text": "$${x} for Rome, ${w.Rome}, not Romeo", "same": "Rome", "price": "$Rome"}, "w"),
    think("p", "n", task="Write about Rome", success_criteria=[{"type": "matches", "pattern": "Rome"}]),
    {"id": "s", "plan": {"goal": "See Rome"}, "depends_on": []},
]
ALL = done("w", "n", "p", "s")


def lifted(*lifts, **options):
    return promote(
        revised(*STEPS, inputs={"z": {"default": "zz"}}),
        ALL,
        new_inputs=[NewInput.read(text) for text in lifts],
        **options,
    ).plan


@pytest.mark.parametrize(
    ("path", "value", "kind"),
    [
        ("w.city", "Rome", "string"),
        ("w.call.args.city", "Rome", "string"),
        ("steps.w.call.args.city", "Rome", "string"),
        ("w.deep.list.0", 1, "integer"),
        ("w.deep.list[1].k", 2.5, "number"),
        ("w.deep.list", [1, {"k": 2.5}], "array"),
        ("w.deep", {"list": [1, {"k": 2.5}], "a.b": "dots"}, "object"),
        ("w.deep.a.b", "dots", "string"),
        ("p.task", "Write about Rome", "string"),
        ("p.success_criteria[0].pattern", "Rome", "string"),
        ("s.plan.goal", "See Rome", "string"),
    ],
)
def test_a_literal_becomes_an_input_of_its_type_with_the_literal_as_default(path, value, kind):
    made = lifted(f"{path}=x")
    assert made["inputs"]["x"] == {"type": kind, "default": value}
    assert str(made["steps"]).count("${inputs.x}") == 1


def test_a_second_literal_of_the_same_value_or_a_text_that_holds_it_gets_the_same_input():
    made = lifted("w.city=city", "n.same=city", "n.text=city", "p.task=city")
    w, n, p, _ = made["steps"]
    assert w["call"]["args"]["city"] == n["call"]["args"]["same"] == "${inputs.city}"
    assert n["call"]["args"]["text"] == "$${x} for ${inputs.city}, ${w.Rome}, not Romeo"
    assert p["task"] == "Write about ${inputs.city}"
    assert made["inputs"]["city"] == {"type": "string", "default": "Rome"}


def test_everywhere_lifts_whole_values_elsewhere_too_and_no_parts_of_texts():
    w, n, p, s = lifted("w.city=city", everywhere=True)["steps"]
    assert n["call"]["args"]["same"] == p["success_criteria"][0]["pattern"] == "${inputs.city}"
    assert (p["task"], s["plan"]["goal"]) == ("Write about Rome", "See Rome")
    assert w["call"]["args"]["city"] == "${inputs.city}"


def test_an_input_that_is_there_already_takes_literals_of_its_value():
    steps = [bound("a", "t", {"x": "zz", "y": "${inputs.z}"})]
    made = promote(
        revised(*steps, inputs={"z": {"default": "old"}}),
        done("a"),
        inputs={"z": "zz"},
        new_inputs=[NewInput("a.x", "z")],
    ).plan
    assert made["steps"][0]["call"]["args"] == {"x": "${inputs.z}", "y": "${inputs.z}"}


def test_an_escaped_literal_becomes_what_it_stands_for():
    made = promote(
        revised(bound("a", "t", {"x": "$${b}"})), done("a"), new_inputs=[NewInput("a.x", "x")]
    ).plan
    assert made["inputs"]["x"]["default"] == "${b}"


def test_an_argument_is_declared_as_its_tool_declares_it():
    schema = {
        "properties": {
            "seconds": {"type": "number", "description": "how long", "title": "Seconds", "default": 1},
            "flag": {"type": "number"},
        }
    }
    plan = revised(bound("a", "t", {"seconds": 5, "flag": True}))
    lifts = [NewInput("a.seconds", "s"), NewInput("a.flag", "f")]
    made = promote(plan, done("a"), new_inputs=lifts, argument_schema=lambda _: schema).plan
    assert made["inputs"]["s"] == {"type": "number", "description": "how long", "default": 5}
    assert made["inputs"]["f"] == {"type": "boolean", "default": True}


@pytest.mark.parametrize(
    ("lifts", "says"),
    [
        (["q.city=x"], "there is no step 'q'; known steps: n, p, s, w"),
        (["steps.q=x"], "there is no step 'q'"),
        (["w.town=x"], "nothing to lift; literals of 'w': w.city, w.deep.a.b, w.deep.list.0"),
        (["w=x"], "nothing to lift"),
        (["w.id=x"], "nothing to lift"),
        (["w.call.tool=x"], "nothing to lift"),
        (["w.call=x"], "nothing to lift"),
        (["p.tools=x"], "nothing to lift"),
        (["p.success_criteria=x"], "nothing to lift"),
        (["p.success_criteria.0.type=x"], "nothing to lift"),
        (["p.success_criteria.7.pattern=x"], "nothing to lift"),
        (["w.ref=x"], "w.ref is not a literal"),
        (["n.text=x"], "n.text is not a literal"),
        (["w.city=x", "w.deep.list=x"], "the input 'x' already has the value \"Rome\", but w.deep.list is"),
        (["w.city=x", "w.deep.a.b=x"], "which neither equals nor contains it"),
        (["w.city=x", "w.city=x"], "which neither equals nor contains it"),
        (["w.city=x", "n.price=x"], "'Rome' follows a $"),
    ],
)
def test_what_cannot_be_lifted_is_refused_with_what_is_known(lifts, says):
    with pytest.raises(InvalidInputError) as caught:
        lifted(*lifts)
    assert says in str(caught.value)


@pytest.mark.parametrize("text", ["", "w.city", "=x", "w.city=", "w.city=1x", "w.city=a-b", "w.city=a.b"])
def test_a_wish_that_is_no_path_and_name_is_refused(text):
    with pytest.raises(InvalidInputError, match=r"STEP\.ARGUMENT=NAME"):
        NewInput.read(text)


def test_a_lift_names_a_step_by_its_cleaned_or_its_old_id():
    for path in ("a.x", "a_r2.x"):
        made = promote(
            revised(bound("a_r2", "t", {"x": 1})),
            done("a_r2"),
            audit=[changed(removed=["a"])],
            new_inputs=[NewInput(path, "x")],
        ).plan
        assert made["steps"][0]["call"]["args"] == {"x": "${inputs.x}"}


def test_steps_that_a_model_runs_or_judges_are_named():
    judged = bound("j", "t", success_criteria=[{"type": "judge", "criterion": "good"}])
    assert needs_model(plan(bound("a", "t"), judged, think("b"))) == ["j", "b"]


# --- the answer --------------------------------------------------------------------------


def test_the_planned_answer_stays_with_the_ids_and_inputs_it_refers_to():
    ran = revised(bound("a_r2", "t"), answer="${a_r2} in ${inputs.place}.")
    made = promote(
        ran, done("a_r2", a="failed"), inputs={"place": "Rome", "unused": 1}, audit=[changed(removed=["a"])]
    )
    assert made.plan["answer"] == "${a} in ${inputs.place}."
    assert {name: each["default"] for name, each in made.plan["inputs"].items()} == {"place": "Rome"}


def test_an_answer_about_what_was_not_done_or_is_an_input_now_does_not_stay():
    ran = revised(bound("a", "t", {"x": "bread"}), bound("b", "t"), answer="Bread: ${a}, ${b}.")
    edit = {"event": "step_failure", "plan_id": "p", "step_id": "a", "trigger": "approve_step: edit"}
    assert "answer" in promote(ran, done("a", "b")).plan
    assert "answer" not in promote(ran, done("a", "b"), audit=[edit]).plan
    assert "answer" not in promote(ran, done("a", "b"), new_inputs=[NewInput("a.x", "what")]).plan
    assert "answer" not in promote(ran | {"answer": "Bread costs 3 euros."}, done("a", "b")).plan


def test_an_answer_that_holds_the_value_of_an_input_in_its_own_words_does_not_stay():
    ran = revised(bound("a", "t", {"x": "${inputs.place}"}), answer="In rome: ${a}.")
    assert "answer" not in promote(ran, done("a"), inputs={"place": "Rome"}).plan
    assert "answer" not in promote(ran, done("a"), inputs={"place": {"names": ["Rome"]}}).plan
    assert "answer" in promote(ran, done("a"), inputs={"place": "Oslo"}).plan
