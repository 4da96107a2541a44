"""A plan file that a person wrote keeps all that a change is not about, and says what the plan says."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plan_execute.plan.files.kept_text import with_changes
from plan_execute.plan.files.plan_files import load_plan_file, save_plan_file
from plan_execute.plan.files.yaml_places import read_yaml

TEXT = """\
# My plan: for the summer
goal: "Pack for ${inputs.city}"   # quoted on purpose
inputs:
    city: {type: string,   default: Paris}

steps:
  # first, the weather
  - id: weather
    task: 'Look it up'
    call: { tool: get_weather, args: {city: "${inputs.city}"} }

  # then think
  - id: pack        # the work
    task: >-
      Write a list
      for it
    tools: &all [search, buy]
    max_attempts: 2  # twice

  - id: last
    task: Say it
    tools: *all
# the end
answer: yes
"""
PLAN: dict[str, Any] = read_yaml(TEXT).value


def _changed(change: Callable[[Any], Any], text: str = TEXT) -> list[str]:
    """Change the plan, and list the lines that this takes away from its text, and adds."""
    plan = copy.deepcopy(read_yaml(text).value)
    change(plan)
    written = with_changes(text, plan)
    assert written is not None
    assert read_yaml(written).value == plan
    compared = difflib.unified_diff(text.splitlines(), written.splitlines(), n=0, lineterm="")
    return [line for line in compared if not line.startswith(("---", "+++", "@@"))]


def _set(plan: Any, *path: Any) -> None:
    *above, key, value = path
    for part in above:
        plan = plan[part]
    plan[key] = value


def test_a_plan_that_is_the_same_leaves_every_byte() -> None:
    assert with_changes(TEXT, PLAN) == TEXT


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        (
            lambda plan: _set(plan, "steps", 1, "max_attempts", 3),
            ["-    max_attempts: 2  # twice", "+    max_attempts: 3  # twice"],
        ),
        (
            lambda plan: _set(plan, "steps", 0, "task", "It's cold"),
            ["-    task: 'Look it up'", "+    task: 'It''s cold'"],
        ),
        (
            lambda plan: _set(plan, "steps", 2, "task", "2026-01-01"),
            ["-    task: Say it", "+    task: '2026-01-01'"],
        ),
        (lambda plan: _set(plan, "steps", 1, "timeout_s", 5), ["+    timeout_s: 5"]),
        (lambda plan: plan.pop("answer"), ["-answer: yes"]),
        (
            lambda plan: _set(plan, "steps", 2, "tools", ["search"]),
            ["-    tools: *all", "+    tools:", "+      - search"],
        ),
        (
            lambda plan: plan["steps"].pop(0),
            [
                "-  # first, the weather",
                "-  - id: weather",
                "-    task: 'Look it up'",
                '-    call: { tool: get_weather, args: {city: "${inputs.city}"} }',
                "-",
            ],
        ),
        (
            lambda plan: plan["steps"].append({"id": "new", "task": "no", "tools": []}),
            ["+  - id: new", "+    task: 'no'", "+    tools: []"],
        ),
    ],
)
def test_only_the_lines_that_a_change_is_about_change(change: Any, lines: list[str]) -> None:
    assert _changed(change) == lines


def test_the_comments_of_a_step_go_where_it_goes() -> None:
    written = with_changes(TEXT, {**PLAN, "steps": PLAN["steps"][1::-1] + PLAN["steps"][2:]})
    assert written is not None
    assert written.index("# then think") < written.index("id: pack") < written.index("# first, the weather")
    assert written.index("# first, the weather") < written.index("id: weather") < written.index("id: last")


def test_a_file_without_a_line_end_at_its_end_and_with_steps_at_the_margin() -> None:
    text = "steps:\n- id: a\n  task: x # why\n  tools: []\n- id: b\n  task: y\n  tools: []"
    assert _changed(lambda plan: plan["steps"].insert(1, {"id": "c", "task": "z", "tools": []}), text) == [
        "+- id: c",
        "+  task: z",
        "+  tools: []",
    ]


def test_a_text_about_something_else_is_not_kept() -> None:
    assert with_changes(TEXT, {"goal": "other", "steps": [{"id": "other", "task": "t", "tools": []}]}) is None


@pytest.mark.parametrize("text", ["", "steps: [", "- a", "steps: 3", "steps:\n  - id: a\n  - 7\n"])
def test_what_is_no_plan_is_not_kept(text: str) -> None:
    assert with_changes(text, PLAN) is None


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=20)
VALUES = st.recursive(
    TEXTS | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@given(VALUES, st.permutations(range(3)), st.integers(0, 3))
def test_whatever_changes_the_text_says_what_the_plan_says_or_is_not_kept(
    value: Any, order: list[int], count: int
) -> None:
    plan = copy.deepcopy(PLAN)
    plan["steps"][1]["output_schema"] = value
    plan["steps"] = [plan["steps"][at] for at in order][:count]
    written = with_changes(TEXT, plan)
    assert written is None or read_yaml(written).value == plan


def test_a_file_that_is_there_keeps_its_comments_when_a_plan_is_saved_to_it(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(TEXT, encoding="utf-8")
    plan = copy.deepcopy(PLAN)
    plan["steps"][1]["max_attempts"] = 4
    save_plan_file(plan, path, header=["From a thread"])
    assert path.read_text(encoding="utf-8") == TEXT.replace("max_attempts: 2", "max_attempts: 4")
    save_plan_file({"goal": "other", "steps": []}, path, header=["From a thread"])
    assert "My plan" not in path.read_text(encoding="utf-8")
    assert load_plan_file(path).plan == {"goal": "other", "steps": []}


def test_many_lines_that_are_alike_hold_up_nobody() -> None:
    """Looking for the most lines in common takes minutes here: every step has one that all have."""
    many = range(1500)
    steps = "".join(f"  # {n}\n  - id: s{n}\n    task: do {n}\n    tools: []\n" for n in many)
    wanted = [{"id": f"s{n}", "task": f"do {n}" if n % 2 else "else", "tools": []} for n in many]
    written = with_changes(f"goal: x\nsteps:\n{steps}", {"goal": "x", "steps": wanted[::-1]})
    assert written is not None
    assert all(f"  # {n}\n  - id: s{n}\n" in written for n in many)
