"""Translate models' conditions such as ``stock == 0 and name == "x"``, and lists of values, into JMESPath.

JMESPath rejects a bare number, and reads a bare ``true`` or a text in double quotes as a field name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from ..references import is_single_reference, strings_in

__all__ = ["jmespath_condition", "list_reference"]

_PARTS = re.compile(
    r"""
      (?P<kept>`[^`]*`|'(?:[^'\\]|\\.)*')
    | (?P<text>(?<!\.)"(?:[^"\\]|\\.)*")
    | (?P<sign>===|!==|==|!=|<=|>=|<>|<|>|(?<![=!<>])=(?!=))
    | (?P<number>(?<![\w.$\]])-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.]))
    | (?P<constant>(?<![\w.$"])(?:true|false|null|none)\b(?![\w(.]))
    | (?P<joint>(?<![\w.$"])(?:and|or|not)\b(?=\s*[^\s,.)\]]))
    | (?P<other>\\['"]|\w+|\s+|.)
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_SIGNS = {"===": "==", "!==": "!=", "<>": "!=", "=": "=="}
_JOINTS = {"and": "&&", "or": "||", "not": "!"}


def jmespath_condition(said: str) -> str:
    """Write a condition in JMESPath; valid JMESPath stays unchanged."""
    parts = [(found.lastgroup or "", found[0]) for found in _PARTS.finditer(said)]
    words = [at for at, (_, text) in enumerate(parts) if not text.isspace()]
    operands, opened = set[int](), [""]
    for place, at in enumerate(words):
        before, after = (parts[words[n]] if 0 <= n < len(words) else ("", "") for n in (place - 1, place + 1))
        if parts[at][1] in _OPENING:
            opened.append(parts[at][1])
        elif parts[at][1] in _CLOSING and len(opened) > 1:
            opened.pop()
        is_argument = opened[-1] == "(" and before[1] in ("(", ",") and after[1] in (")", ",")
        if is_argument or "sign" in (before[0], after[0]):
            operands.add(at)
    return "".join(_written(kind, text, at in operands) for at, (kind, text) in enumerate(parts))


_OPENING, _CLOSING = ("(", "[", "{"), (")", "]", "}")


def _written(kind: str, text: str, is_operand: bool) -> str:
    if kind == "sign":
        return _SIGNS.get(text, text)
    if kind == "joint":
        return _JOINTS[text.lower()]
    if kind == "constant" and is_operand:
        constant = text.lower()
        return f"`{'null' if constant == 'none' else constant}`"
    if kind == "number" and is_operand:
        return f"`{text}`"
    if kind == "text" and is_operand:
        return "'" + text[1:-1].replace('\\"', '"').replace("'", "\\'") + "'"
    return text


def list_reference(items: Sequence[Any]) -> str:
    """Write the list of a loop as a reference: its values, or several lists side by side.

    Raises:
        ValueError: If there are none, or one is neither a JSON value nor one reference.
    """
    if not items:
        raise ValueError("the list is empty")
    if not all(map(is_single_reference, items)):
        return f"${{[{', '.join(map(_item, items))}]}}"
    return str(items[0]) if len(items) == 1 else f"${{zip({', '.join(map(_item, items))})}}"


def _item(value: Any) -> str:
    if is_single_reference(value):
        return str(value[2:-1])
    if unclear := [text for text in strings_in(value) if "${" in text]:
        raise ValueError(
            f"an item of a list is a value or one reference, not a text with references: {unclear[0]!r}"
        )
    quoted = json.dumps(value, ensure_ascii=False).replace("`", r"\u0060")
    return f"`{quoted}`"
