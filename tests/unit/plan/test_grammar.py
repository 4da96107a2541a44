"""The grammar of plans in lines: what it is made of, and what it bounds."""

from __future__ import annotations

import json
import random
import re
from typing import Any

from gbnf import Derivations

from plan_execute.plan.notations.grammar import Bounds, line_grammar
from plan_execute.plan.notations.lines import Vocabulary, read_lines
from plan_execute.safety.expressions import FUNCTIONS

TOOL = {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}


def _plans(tools: dict[str, Any], **options: Any) -> list[str]:
    grammar = Derivations(line_grammar(tools, **options), longest=12)
    return [grammar.write(random.Random(seed)) for seed in range(400)]


def test_a_reference_names_a_step_before_its_own_or_one_that_is_there_already() -> None:
    words = Vocabulary({"look": ["q"]}, taken=["seen"])
    for plan in _plans({"look": TOOL}, earlier=["seen"], bounds=Bounds(steps=4, text=10)):
        before = {"seen", "item"}
        for step in (read_lines(plan, words) or {"steps": []})["steps"]:
            told = json.dumps([step["arguments"], step["task"], step["for_each"], step["choices"]])
            named = {*re.findall(r"(?<!\$)\$\{(\w+)", told), *step["depends_on"], *step["if_failed"]}
            assert {name for name in named if name not in FUNCTIONS} <= before, plan
            before.add(step["id"])


def test_the_first_step_of_a_plan_refers_to_no_other_and_runs_for_written_lists_only() -> None:
    words, lists = Vocabulary({"look": ["q"]}), set[str]()
    for plan in _plans({"look": TOOL}, bounds=Bounds(steps=1, text=10)):
        for step in (read_lines(plan, words) or {"steps": []})["steps"]:
            told = json.dumps([step["arguments"], step["task"], step["choices"]])
            assert set(re.findall(r"(?<!\$)\$\{(\w+)", told)) <= {"item"}, plan
            lists.add(step["for_each"] or "")
    assert {one[:4] for one in lists} == {"", "${[`"}


def test_only_a_step_that_runs_for_each_of_a_list_knows_its_item() -> None:
    for plan in _plans({"look": TOOL}, bounds=Bounds(steps=3, text=10)):
        for line in plan.splitlines():
            assert " each=" in line or ("$item" not in line and "${item" not in line), line


def test_enums_names_of_arguments_and_tools_are_those_of_the_inventory() -> None:
    schema = {"type": "object", "properties": {"unit": {"enum": ["kg", 2]}}, "required": ["unit"]}
    plans = _plans({"weigh": schema}, bounds=Bounds(steps=1, text=10))
    calls = {call for plan in plans for call in re.findall(r"^1\. (\w+\([^)]*\))", plan) if call[:3] != "ask"}
    assert {call for call in calls if "=$item" not in call} == {'weigh(unit="kg")', "weigh(unit=2)"}


def test_what_is_required_is_given_and_the_rest_may_be_left_out() -> None:
    flags = {name: {"type": "boolean"} for name in ("a", "b", "c")}
    schema = {"type": "object", "properties": flags, "required": ["b"]}
    plans = _plans({"t": schema}, bounds=Bounds(steps=1, text=5))
    given = {
        tuple(re.findall(r"(\w)=", call)) for plan in plans for call in re.findall(r"^1\. t\((.*?)\)", plan)
    }
    assert given == {("b",), ("a", "b"), ("b", "c"), ("a", "b", "c")}


def test_a_tool_with_a_name_that_no_line_could_hold_is_no_call() -> None:
    odd = {"type": "object", "properties": {"a b": {}}, "required": ["a b"]}
    grammar = line_grammar({"look": TOOL, "odd": odd})
    assert '"look(" ' in grammar
    assert '"odd(" ' not in grammar


def test_texts_steps_and_lists_are_bounded() -> None:
    grammar = line_grammar({"look": TOOL}, bounds=Bounds(steps=3, text=60, items=5))
    assert "chunk ::= character{0,60}\n" in grammar
    assert "plan-3 ::= step-3 (" in grammar
    assert "plan-4" not in grammar
    numbers = [int(most) for most in re.findall(r"\{\d+,(\d+)\}", grammar)]
    assert max(numbers) == 60
    assert not re.search(r"[)\]\w\"][*+](?:\s|$)", re.sub(r"\[[^\]]*\]|\"(?:[^\"\\]|\\.)*\"", "x", grammar))


def test_every_rule_that_is_named_is_there() -> None:
    grammar = line_grammar({"look": TOOL, "none": {}}, agents=["coder"], sub_plans=True, inputs=["city"])
    bodies = " ".join(line.split(" ::= ", 1)[1] for line in grammar.splitlines())
    plain = re.sub(r"\"(?:[^\"\\]|\\.)*\"|\[(?:[^\]\\]|\\.)*\]", " ", bodies)
    assert set(re.findall(r"[a-z][a-z0-9-]*", plain)) <= Derivations(grammar).names


def test_the_grammar_lets_work_in_words_ask_for_the_classes_of_models_that_there_are() -> None:
    assert "model=" not in line_grammar({"look": TOOL})
    grammar = line_grammar({"look": TOOL}, model_classes=["fast", "strong"])
    assert '(" model=" ("fast" | "strong"))?' in grammar
