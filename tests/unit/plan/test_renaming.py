"""A renaming reaches every use of an id and nothing else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plan_execute.plan.identity import step_fingerprint
from plan_execute.plan.references import BadReferenceError, expression_roots, looked_up
from plan_execute.plan.renaming import rename_uses

NEW = {"pack": "bag", "x": "y"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("${pack}", "${bag}"),
        ("${ pack.a } and ${x[0]}", "${ bag.a } and ${y[0]}"),
        ("$${pack} stays", "$${pack} stays"),
        ("${other.pack}", "${other.pack}"),
        ("${{a: pack, pack: other}}", "${{a: bag, pack: other}}"),
        ("${pack.{x: x, y: pack}}", "${bag.{x: x, y: pack}}"),
        ("${other.[x, pack]}", "${other.[x, pack]}"),
        ("${other[?x == pack].pack}", "${other[?x == pack].pack}"),
        ("${sort_by(pack.items, &x)}", "${sort_by(bag.items, &x)}"),
        ("${merge(other, x) | pack}", "${merge(other, y) | pack}"),
        ("${other.length(x)}", "${other.length(x)}"),
        ('${"pack".a}', "${bag.a}"),
        ('${"pack"}', "${bag}"),
        ('${x || ["pack", "a pack", "x" ]}', '${y || [bag, "a pack", y ]}'),
        ("${join('pack', x)}", "${join('pack', y)}"),
        ('${contains(other, `"}pack"`) && pack}', '${contains(other, `"}pack"`) && bag}'),
        ("${pack", "${pack"),
        ("${item.pack} ${index} ${inputs.x}", "${item.pack} ${index} ${inputs.x}"),
    ],
)
def test_references_follow_and_fields_stay(before, after):
    step = {"id": "s", "call": {"tool": "t", "args": {"deep": [{"a": before}]}}}
    assert rename_uses(step, NEW)["call"]["args"] == {"deep": [{"a": after}]}


@pytest.mark.parametrize("old", ["step-1", "step 1", "schön"])
def test_in_quotes_stands_a_value_even_if_it_begins_like_the_name_of_a_step(old):
    values = f"""[`"to {old}."`, ' {old}, and', "the {old}"]"""
    step = {"id": "s", "task": f"${{{old}.x}} ${{{values}}}", "when": f"{old}.x == '{old} | {old}.'"}
    followed = rename_uses(step, {old: "new"})
    assert (followed["task"], followed["when"]) == (f"${{new.x}} ${{{values}}}", f"new.x == '{old} | {old}.'")


def test_every_field_that_uses_a_step_follows():
    step = {
        "id": "pack",
        "task": "see ${pack}",
        "depends_on": ["x", "pack"],
        "plan": {"goal": "use ${x}"},
        "for_each": "${pack.items}",
        "when": "pack.ok && !x",
        "success_criteria": [{"type": "file_exists", "path": "${x.path}"}],
        "call": {"tool": "pack", "args": {"pack": 1}},
        "output_schema": {"required": ["pack"]},
    }
    assert rename_uses(step, NEW) == {
        "id": "pack",
        "task": "see ${bag}",
        "depends_on": ["y", "bag"],
        "plan": {"goal": "use ${y}"},
        "for_each": "${bag.items}",
        "when": "bag.ok && !y",
        "success_criteria": [{"type": "file_exists", "path": "${y.path}"}],
        "call": {"tool": "pack", "args": {"pack": 1}},
        "output_schema": {"required": ["pack"]},
    }


def test_ids_can_change_places():
    step = {"id": "s", "task": "${a} ${b}", "depends_on": ["a", "b"]}
    swapped = rename_uses(step, {"a": "b", "b": "a"})
    assert (swapped["task"], swapped["depends_on"]) == ("${b} ${a}", ["b", "a"])
    assert step_fingerprint(rename_uses(swapped, {"a": "b", "b": "a"})) == step_fingerprint(step)


names = st.sampled_from(["a", "b", "c"])
expressions = st.recursive(
    names,
    lambda inner: st.one_of(
        st.tuples(inner, names).map(".".join),
        st.tuples(inner, inner).map(" || ".join),
        st.tuples(inner, inner).map(" | ".join),
        st.tuples(inner, inner).map(lambda pair: f"[{pair[0]}, {pair[1]}]"),
        st.tuples(inner, inner).map(lambda pair: f"{{a: {pair[0]}, b: {pair[1]}}}"),
        st.tuples(names, inner, inner).map(lambda three: f"{three[0]}.{{x: {three[1]}, y: {three[2]}}}"),
        st.tuples(names, inner, inner).map(lambda three: f"{three[0]}[?{three[1]} == {three[2]}]"),
        st.tuples(inner, inner).map(lambda pair: f"sort_by({pair[0]}, &{pair[1]})"),
        st.tuples(inner, inner).map(lambda pair: f"merge({pair[0]}, {pair[1]})"),
        inner.map(lambda one: f"({one})"),
        inner.map(lambda one: f"!({one})"),
        names.map(lambda one: f"{one}[*].b[0]"),
    ),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(expressions)
def test_the_names_that_follow_are_those_that_an_expression_looks_up(expression):
    try:
        roots = expression_roots(expression)
    except BadReferenceError:
        return
    assert {name for _, _, name in looked_up(expression)} == roots, expression


def test_a_text_that_is_never_closed_is_gone_through_once():
    when = "step-1.x == '" + "\\'" * 200_000  # Looked through again from each quote, this takes minutes.
    followed = rename_uses({"id": "s", "when": when}, {"step-1": "new"})
    assert followed["when"] == when.replace("step-1", "new", 1)
