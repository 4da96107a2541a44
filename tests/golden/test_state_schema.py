"""The formats that users store and send stay as they are: a change shows in the golden file."""

import json
import re
from typing import NotRequired, get_args, get_origin, get_type_hints

from golden.compare import assert_golden
from pydantic import TypeAdapter

from plan_execute.context import Context
from plan_execute.state import InputState, OutputState, State


def schema_of(kind):
    """Give the JSON Schema of a state, without LangChain's own messages, which follow LangChain's version."""
    schema = TypeAdapter(kind).json_schema()
    schema["properties"]["messages"] = {"description": "LangChain messages"}
    definitions, wanted = schema.pop("$defs"), {}
    queue = references_in(schema)
    while queue:
        name = queue.pop()
        if name not in wanted:
            wanted[name] = definitions[name]
            queue |= references_in(definitions[name])
    return {**schema, "$defs": dict(sorted(wanted.items()))}


def references_in(schema):
    return set(re.findall(r"#/\$defs/(\w+)", json.dumps(schema)))


def written(schema):
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def test_the_states_format_stays_as_it_is():
    assert_golden("state_schema.json", written(schema_of(State)))


def test_the_settings_stay_as_they_are():
    assert_golden("context_schema.json", written(Context.model_json_schema()))


def test_input_and_output_are_part_of_the_state():
    state = get_type_hints(State, include_extras=True)
    for part in (InputState, OutputState):
        hints = get_type_hints(part, include_extras=True)
        given = {
            name: get_args(hint)[0] if get_origin(hint) is NotRequired else hint
            for name, hint in hints.items()
        }
        assert {name: state[name] for name in given} == given
