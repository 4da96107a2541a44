"""Finding JSON in what models write."""

from __future__ import annotations

import json
from typing import Any

import pytest

from plan_execute.models.json_text import extract_json


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("42", 42),
        ('"hi"', "hi"),
        ("null", None),
        ('{"a": 1}', {"a": 1}),
        ("```\n[1, 2]\n```", [1, 2]),
        ('```json\r\n{"a": 1}\r\n```', {"a": 1}),
        ('Here [1] you are: {"a": {"b": [1, 2]}}. Bye {x}', {"a": {"b": [1, 2]}}),
        ('<think>maybe {"a": 0, "b": 0}?</think>{"a": 1}', {"a": 1}),
        ('{"a": "<think>kept</think>"}', {"a": "<think>kept</think>"}),
        ('```json\n{"a": "```py\\nx\\n```"}\n```', {"a": "```py\nx\n```"}),
        ('{"greeting": "你好 🌍 مرحبا"}', {"greeting": "你好 🌍 مرحبا"}),
    ],
)
def test_the_value_is_found(text: str, value: Any) -> None:
    assert extract_json(text) == value


@pytest.mark.parametrize("text", ["", "no", '{"a": 1', "{'a': 1}", "<think>{}", "NaN", '{"a": Infinity}'])
def test_what_is_no_complete_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no complete JSON"):
        extract_json(text)


def test_half_an_emoji_does_not_survive() -> None:
    value = extract_json('{"a": "\\ud83d"}')
    assert json.dumps(value, ensure_ascii=False).encode()


@pytest.mark.timeout(60)  # quadratic work would take hours
@pytest.mark.parametrize("text", ["[" * 200_000, "{" * 200_000, '{"a":' * 50_000, "<think>" * 50_000])
def test_hostile_text_ends_soon(text: str) -> None:
    with pytest.raises(ValueError, match="no complete JSON"):
        extract_json(text)
