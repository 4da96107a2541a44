"""Schemas of others: what cannot be evaluated is known at once, the rest is applied within bounds."""

import pytest

from plan_execute.errors import WorkLimitError
from plan_execute.safety.schemas import BadSchemaError, read_schema
from plan_execute.safety.work import Work, within

ENDLESS, LONG = "^(a|a)*$", "a" * 40 + "!"
TREE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "v": {"type": "integer"},
                "kids": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
            "required": ["v"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/node",
}


def messages(schema, value):
    return [f"{problem.json_path}: {problem.message}" for problem in read_schema(schema).problems(value)]


def chain(length, *, twice=False):
    """Write definitions each of which refers to the next one."""
    schemas = {}
    for n in range(length):
        there = {"$ref": f"#/$defs/d{n + 1}"}
        schemas[f"d{n}"] = {"allOf": [there, there]} if twice else there
    return {"$ref": "#/$defs/d0", "$defs": {**schemas, f"d{length}": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "date"}, r"\$\.type: 'date' is no type; known: array"),
        ({"properties": {"d": {"type": "Date (yyyy)"}}}, r"\$\.properties\.d\.type"),
        ({"$ref": "http://127.0.0.1:9/x"}, r"\$\.\$ref: 'http://127.0.0.1:9/x' is not in the schema itself"),
        ({"items": {"$ref": "file:///etc/hostname"}}, r"\$\.items\.\$ref: 'file:"),
        ({"$ref": "other.json", "$id": "http://127.0.0.1:9/"}, "nothing is fetched"),
        ({"$ref": "#/$defs/b", "$defs": {"a": {}}}, r"what it defines: #/\$defs/a"),
        ({"$ref": "#"}, r"without end \(\$ -> \$\)"),
        ({"allOf": [{"$ref": "#"}]}, r"without end"),
        ({"anyOf": [{"type": "string"}, {"not": {"$ref": "#"}}]}, r"without end"),
        (chain(300), "more than 50 schemas in a chain"),
        ({"$ref": "#/x", "x": 5}, "is no schema"),
        ({"$ref": "#/x", "x": {"type": "date"}}, "'date' is no type"),
        ({"$ref": "#/x/y", "x": "text"}, "is not in the schema itself"),
        ({"minimum": "3"}, r"\$\.minimum: '3' is not of type 'number'"),
        ({"enum": "a"}, r"\$\.enum"),
        ({"$schema": 3}, r"schema"),
        (3, "3 is not of type"),
        (None, "None is not of type"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_with_its_place(schema, words):
    with pytest.raises(BadSchemaError, match=words):
        read_schema(schema)


def test_a_schema_that_nests_too_deep_is_refused():
    schema = {}
    for _ in range(3000):
        schema = {"items": schema}
    with pytest.raises(BadSchemaError, match="100 levels"):
        read_schema(schema)


def test_a_schema_may_refer_to_itself_through_parts_of_the_value():
    tree = {"v": 1}
    for _ in range(45):
        tree = {"v": 1, "kids": [tree]}
    assert messages(TREE, tree) == []
    assert messages(TREE, {"v": 1, "kids": [{"v": "x"}]}) == ["$.kids[0].v: 'x' is not of type 'integer'"]
    assert messages({"properties": {"a": {"$ref": "#"}}}, {"a": {"a": {}}}) == []


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"pattern": ENDLESS}, LONG),
        ({"patternProperties": {ENDLESS: {}}}, {LONG: 1}),
        ({"patternProperties": {ENDLESS: {}}, "additionalProperties": False}, {LONG: 1}),
        ({"patternProperties": {ENDLESS: True}, "unevaluatedProperties": False}, {LONG: 1}),
        ({"propertyNames": {"pattern": ENDLESS}}, {LONG: 1}),
        ({"items": {"pattern": ENDLESS}}, [LONG] * 1000),
        # a part that names a dialect is not handed to that dialect's own, unbounded keywords
        (
            {"properties": {"a": {"$schema": "http://json-schema.org/draft-07/schema#", "pattern": ENDLESS}}},
            {"a": LONG},
        ),
        (chain(20, twice=True), 1),
        (
            {"items": {"anyOf": [{"const": n} for n in range(100)]}},
            [None] * 100,
        ),
    ],
)
def test_a_check_comes_to_an_end_within_its_work(schema, value):
    read = read_schema(schema)
    with pytest.raises(WorkLimitError):
        within(Work(steps=20_000, seconds=0.05), read.problems, value)


def test_the_keyword_of_a_pattern_that_is_not_understood_is_left_unchecked_with_a_note():
    schema = {
        "properties": {"a": {"type": "string", "pattern": r"\p{Nope}"}},
        "patternProperties": {"(": {"type": "integer"}},
        "additionalProperties": False,
    }
    read = read_schema(schema)
    assert [note.split(": ")[0] for note in sorted(read.notes)] == [
        "$.patternProperties",
        "$.properties.a.pattern",
    ]
    assert read.problems({"a": "x", "b": 1}) == []
    assert [problem.message for problem in read.problems({"a": 3})] == ["3 is not of type 'string'"]


@pytest.mark.parametrize(
    ("schema", "value", "problems"),
    [
        ({"items": [{"type": "integer"}]}, ["x"], 1),  # draft 7 without its name
        ({"type": "number", "minimum": 0, "exclusiveMinimum": True}, 0, 1),  # draft 4 without its name
        ({"$schema": "urn:unknown", "type": "string"}, 1, 1),
        ({"properties": {"$ref": {"type": "string"}}}, {"$ref": 1}, 1),  # a property of that name
        ({"const": {"$ref": "x"}}, {"$ref": "x"}, 0),  # data, no reference
        ({"$id": "http://e.org/s", "$defs": {"a": {"$id": "b", "type": "string"}}, "$ref": "b"}, 1, 1),
        ({"$dynamicRef": "#n", "$defs": {"x": {"$dynamicAnchor": "n", "type": "string"}}}, 1, 1),
        ({"uniqueItems": True}, [{"a": 1}, {"a": 1.0}], 1),
        ({"uniqueItems": True}, [1, True, "1", [1], {"1": 1}], 0),
        (
            {"additionalProperties": False, "properties": {"a": {}}, "patternProperties": {"^x": {}}},
            {"a": 1, "x1": 2, "y": 3},
            1,
        ),
        ({"additionalProperties": {"type": "string"}}, {"a": 1}, 1),
        ({"multipleOf": 0.1}, float("nan"), 1),
        ({"multipleOf": 0.1}, 10**400, 1),
        (True, 1, 0),
        (False, 1, 1),
    ],
)
def test_values_are_held_against_the_schema(schema, value, problems):
    assert len(messages(schema, value)) == problems
