"""A plan file is checked whole: every issue, in the order of the file, each at its field."""

import json

import pytest

from plan_execute.cli.plan_files import GivenInputs, UncheckedToolbox, check_plan_file
from plan_execute.tools.toolbox import Toolbox

NOTHING = GivenInputs({}, {})


def look(q: str, n: int = 1) -> dict:
    """Look something up."""
    return {"q": q, "n": n}


def now() -> str:
    """Tell the time."""
    return "noon"


def found(tmp_path, text, name="plan.yaml", toolbox=None, given=NOTHING):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    checked = check_plan_file(path, Toolbox([look]) if toolbox is None else toolbox, given, has_model=True)
    return [(issue["code"], issue["line"], issue["column"]) for issue in checked.issues]


EVERYTHING = """\
goal: all that can be wrong
inputs:
  n: {type: int}
  s: {type: string, default: 5}
  city: {type: string}
steps:
  - id: a
    call: {tool: look, args: {q: "${inputs.zz}", m: 1}}
  - id: item
    call: {tool: lok, args: {}}
    depends_on: [a, nowhere, item]
  - id: c
    task: "see ${unclosed"
    tools: [look, teleport]
    success_criteria:
      - {type: not_empty}
      - {type: matches, pattern: "["}
  - id: d
    call: {tool: look, args: {q: ["${a.x ||}"]}}
    when: "a.["
  - id: e
    task: think
    tools: []
    output_schema: {type: strange}
    for_each: everything
    max_attempts: 0
    typo: 1
  - id: f
    call: {tool: look, args: {q: x}}
    tools: []
  - id: a
    agent: nobody
    task: help
"""


def test_every_issue_is_listed_at_its_field_in_one_go(tmp_path):
    assert found(tmp_path, EVERYTHING) == [
        ("bad_schema", 3, 3),
        ("type_mismatch", 4, 21),
        ("missing_input", 5, 3),
        ("unresolved_reference", 8, 31),
        ("bad_arguments", 8, 50),
        ("bad_id", 9, 5),
        ("unknown_tool", 10, 12),
        ("unknown_dependency", 11, 21),
        ("self_dependency", 11, 30),
        ("bad_expression", 13, 5),
        ("unknown_tool", 14, 19),
        ("bad_criterion", 17, 9),
        ("bad_arguments", 19, 31),
        ("bad_expression", 19, 35),
        ("bad_expression", 20, 5),
        ("bad_schema", 24, 5),
        ("bad_expression", 25, 5),
        ("malformed_plan", 26, 5),
        ("malformed_plan", 27, 5),
        ("malformed_plan", 30, 5),
        ("duplicate_id", 31, 5),
        ("unknown_agent", 32, 5),
    ]


def test_json_has_places_too(tmp_path):
    text = json.dumps({"goal": "g", "steps": [{"id": "a", "call": {"tool": "lok", "args": {}}}]}, indent=2)
    assert found(tmp_path, text, "plan.json") == [("unknown_tool", 7, 9)]


CYCLE = """\
steps:
  - {id: a, depends_on: [b], call: {tool: look, args: {q: x}}}
  - {id: b, call: {tool: look, args: {q: x}}, depends_on: [a]}
"""
TYPES = """\
inputs: {n: {type: integer, default: 1}}
steps:
  - {id: a, call: {tool: look, args: {q: x}}, output_schema: {properties: {n: {type: string}}}}
  - {id: b, call: {tool: look, args: {q: "${a.m}", n: "${a.n}"}}, for_each: "${inputs.n}"}
"""


@pytest.mark.parametrize(
    ("text", "places"),
    [
        (CYCLE, [("cycle", 2, 26)]),
        (TYPES, [("type_mismatch", 4, 39), ("type_mismatch", 4, 52), ("type_mismatch", 4, 67)]),
        ("goal: g\nsteps: []\n", [("empty_plan", 2, 1)]),
        ("goal: g\n", [("malformed_plan", 1, 1)]),
        ("goal: g\nsteps:\n- 5\n- {id: 7}\n", [("malformed_plan", 3, 3), ("malformed_plan", 4, 4)]),
        (
            "steps:\n- {id: a}\n- {id: b, typo: 1}\n",
            [*(("malformed_plan", *at) for at in ((2, 3), (3, 3), (3, 11)))],
        ),
        ("steps:\n- id: a\n  call: {tool: look}\n", [("bad_arguments", 3, 3)]),
    ],
)
def test_issues_of_order_types_and_form_have_places(tmp_path, text, places):
    assert sorted(found(tmp_path, text), key=lambda issue: issue[1:]) == places


def test_values_that_no_input_takes_are_refused_also_where_none_is_declared(tmp_path):
    text = "steps:\n- {id: a, call: {tool: look, args: {q: x}}}\n"
    given = GivenInputs({"city": "Rome"}, {})
    assert [code for code, *_ in found(tmp_path, text, given=given)] == ["unresolved_reference"]
    assert found(tmp_path, text.replace("q: x", 'q: "${inputs.city}"'), given=given) == []


def test_without_tools_named_agents_and_arguments_are_not_checked(tmp_path):
    text = "steps:\n- {id: a, agent: coder, task: x}\n- {id: b, call: {tool: y, args: {z: 1}}}\n"
    assert found(tmp_path, text, toolbox=UncheckedToolbox()) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("steps:\n- id: a\n  call: {tool: loook, args: {q: x}}\n", "did you mean 'look'?"),
        ("steps:\n- id: a\n  cal: {tool: look, args: {q: x}}\n", "did you mean 'call'?"),
        ("steps:\n- id: a\n  call: {tool: look, args: {Q: x}}\n", "did you mean 'q'?"),
        (
            "steps:\n- {id: rain, call: {tool: now}}\n- {id: d, depends_on: [rian], call: {tool: now}}\n",
            "'rain'?",
        ),
    ],
)
def test_a_misspelt_name_is_one_issue_that_names_the_one_that_was_meant(tmp_path, text, said):
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    (issue,) = check_plan_file(path, Toolbox([look, now]), NOTHING, has_model=True).issues
    assert said in issue["message"]


def test_a_call_without_arguments_needs_no_args(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text("steps:\n- id: a\n  call: {tool: now}\n")
    checked = check_plan_file(path, Toolbox([look, now]), NOTHING, has_model=False)
    assert (checked.issues, checked.understood["steps"][0]["call"]) == ([], {"args": {}, "tool": "now"})
