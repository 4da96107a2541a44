"""Input values of the command line become what the plan declares."""

import pytest

from plan_execute.cli.plan_files import GivenInputs
from plan_execute.errors import InvalidPlanError


def value(text, spec=None):
    given = GivenInputs.read([f"x={text}"], None)
    return given.values({"x": spec} if spec is not None else None)["x"]


@pytest.mark.parametrize(
    ("text", "spec", "expected"),
    [
        ("Rome", None, "Rome"),
        ("12", None, 12),
        ('["a"]', None, ["a"]),
        ("NaN", None, "NaN"),
        ("", None, ""),
        ("a=b", None, "a=b"),
        ("12", {"type": "string"}, "12"),
        ("01234", {"type": "string"}, "01234"),
        ("true", {"type": "string"}, "true"),
        ('"quoted"', {"type": "string"}, '"quoted"'),
        ("12", {"enum": ["12", "13"]}, "12"),
        ("12", {"enum": [12, 13]}, 12),
        ("12", {"type": "integer"}, 12),
        ("1e3", {"type": "integer"}, 1000),
        ("2.5", {"type": "integer"}, 2.5),
        ("2", {"type": "number"}, 2),
        ("true", {"type": "boolean"}, True),
        ("yes", {"type": "boolean"}, "yes"),
        ('{"a": 1}', {"type": "object"}, {"a": 1}),
        ("[1, 2]", {"type": "array"}, [1, 2]),
        ("null", {"type": ["string", "null"]}, None),
        ("Rome", {"type": ["string", "null"]}, "Rome"),
        ("12", {}, 12),
        ("12", "no declaration", 12),
    ],
)
def test_a_text_is_read_as_what_is_declared(text, spec, expected):
    found = value(text, spec)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize("pairs", [["x"], ["=1"], [" =1"], ["x=1", "x=2"], ["x=1", " x =2"]])
def test_what_is_no_pair_or_given_twice_is_refused(pairs):
    with pytest.raises(Exception, match="--input"):
        GivenInputs.read(pairs, None)


@pytest.mark.parametrize("name", ["values.yaml", "values.json"])
def test_values_of_a_file_are_exact_and_a_single_value_wins(tmp_path, name):
    file = tmp_path / name
    file.write_text('{"x": "12", "y": [1], "z": 1}')
    given = GivenInputs.read(["z=2"], file)
    assert given.values({"x": {"type": "integer"}}) == {"x": "12", "y": [1], "z": 2}


def test_a_file_that_is_no_mapping_is_refused_with_its_place(tmp_path):
    file = tmp_path / "values.yaml"
    file.write_text("- 1\n")
    with pytest.raises(InvalidPlanError, match=r"values.yaml:1:1: a file of input values must be a mapping"):
        GivenInputs.read(None, file)
