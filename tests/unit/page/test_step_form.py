"""What is put into the form of a step goes into the text of its plan, and nothing else does."""

import html
import json
import re

import pytest

from plan_execute.errors import InvalidInputError, InvalidPlanError
from plan_execute.page.step_form import step_form, with_fields

TEXT = """\
goal: shop
steps:
  # what to buy
  - id: a
    task: "look it up"   # by name
    call: {tool: look, args: {q: tea, n: 3, deep: {x: [1]}}}
  - id: b
    depends_on: [a]
    ask: {question: "How much?", choices: [one, two]}
  - id: c
    when: a.found
    tools: [look, count]
"""


def shown(text, step):
    """Read the form as a browser does: the text of each field by its name."""
    written = str(step_form(text, step, ["look"]))
    form = {"step": step}
    for tag in re.findall(r"<(?:input|textarea)[^>]*>(?:\n[^<]*)?", written):
        name = re.search('name="([^"]+)"', tag)[1]
        value = re.search('value="([^"]*)"', tag)
        if 'type="checkbox"' not in tag or " checked" in tag:
            form[name] = html.unescape(value[1] if value else tag.partition(">\n")[2])
    return form


@pytest.mark.parametrize("step", ["a", "b", "c"])
def test_what_is_not_changed_changes_nothing(step):
    assert with_fields(TEXT, shown(TEXT, step)) == (TEXT, step)


@pytest.mark.parametrize(
    ("step", "field", "value", "before", "after"),
    [
        ("a", "task", "look at it", '"look it up"', '"look at it"'),
        ("a", "arg.q", "3", "q: tea", "q: '3'"),
        ("a", "arg.n", "4", "n: 3", "n: 4"),
        ("a", "arg.n", "many", "n: 3", "n: many"),
        ("a", "arg.deep", '{"x": [2]}', "x: [1]", "x: [2]"),
        ("a", "tool", "count", "tool: look,", "tool: count,"),
        ("b", "ask", "How many?", '"How much?"', '"How many?"'),
        ("b", "depends_on", "", "    depends_on: [a]\n", ""),
        ("c", "tools", "look", "[look, count]", "[look]"),
        ("c", "when", "", "    when: a.found\n", ""),
        ("c", "skip", "yes", "when: a.found", "when: '`false`'"),
    ],
)
def test_a_change_changes_its_place_alone(step, field, value, before, after):
    form = shown(TEXT, step) | {f"f.{field}": value}
    assert before in TEXT
    assert with_fields(TEXT, form)[0] == TEXT.replace(before, after)


def test_what_the_text_got_meanwhile_stays_beside_what_the_form_changed():
    form = shown(TEXT, "a") | {"f.task": "look at it"}
    newer = TEXT.replace("goal: shop", "goal: shop well").replace("q: tea", "q: milk")
    assert with_fields(newer, form)[0] == newer.replace('"look it up"', '"look at it"')


def test_a_step_is_skipped_and_no_more():
    text = with_fields(TEXT, shown(TEXT, "b") | {"f.skip": "yes"})[0]
    assert "when: '`false`'" in text
    form = {name: value for name, value in shown(text, "b").items() if name != "f.skip"}
    assert "when" not in with_fields(text, form)[0].partition("id: c")[0]


def test_a_step_is_removed_and_another_one_added():
    text, step = with_fields(TEXT, shown(TEXT, "b") | {"type": "remove"})
    assert "How much?" not in text
    assert "# what to buy" in text
    text, step = with_fields(text, shown(text, "a") | {"type": "add"})
    assert step == "new_1"
    assert text.index("id: a") < text.index("id: new_1") < text.index("id: c")
    assert with_fields(text, shown(text, "a") | {"type": "add"})[1] == "new_2"


def test_a_text_that_cannot_be_read_has_no_form():
    assert "The form comes back" in step_form("steps: [", "a", [])
    with pytest.raises(InvalidPlanError):
        with_fields("steps: [", shown(TEXT, "a") | {"f.task": "x"})


def test_a_step_that_the_text_has_no_more_is_named():
    form = shown(TEXT, "a") | {"f.task": "x"}
    with pytest.raises(InvalidInputError, match="no step 'a'; it has b, c, z"):
        with_fields(TEXT.replace("id: a", "id: z"), form)
    for was in ("[", "[1]", json.dumps({"task": 1})):
        with pytest.raises(InvalidInputError, match="'was'"):
            with_fields(TEXT, {**shown(TEXT, "a"), "was": was})


@pytest.mark.parametrize(
    ("step", "part", "now"),
    [
        ("a", "arg.q", ("call: {tool: look, args: {q: tea, n: 3, deep: {x: [1]}}}", "tools: [look]")),
        ("a", "arg.q", ("q: tea, ", "")),
        ("a", "tool", ("call: {tool: look, args: {q: tea, n: 3, deep: {x: [1]}}}", "call: look")),
        ("b", "ask", ('ask: {question: "How much?", choices: [one, two]}', "plan: {goal: g}")),
    ],
)
def test_a_part_that_the_text_has_no_more_is_named(step, part, now):
    form = shown(TEXT, step) | {f"f.{part}": "x"}
    with pytest.raises(InvalidInputError, match=f"no '{part}' any more"):
        with_fields(TEXT.replace(*now), form)
