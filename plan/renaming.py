"""Rename steps: every use of an id follows, in dependencies and in references."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

from ..state import Step
from .references import BadReferenceError, looked_up, map_strings, references_in

__all__ = ["rename_in_text", "rename_uses"]

_IN_QUOTES = r"""'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`|"(?:[^"\\]|\\.)*\"|\\."""
"""A value or a name in quotes, or an escape, whose quote opens none."""


def rename_uses(step: Step, renamed: Mapping[str, str]) -> Step:
    """Apply a renaming to a step's dependencies and references (not to its own id)."""
    changes = {old: new for old, new in renamed.items() if old != new}
    depends_on = [renamed.get(dep, dep) for dep in step.get("depends_on", ())]
    if not changes:
        return {**step, "depends_on": depends_on}
    followed = {
        key: value if key == "id" else map_strings(value, partial(_follow, changes))
        for key, value in step.items()
    }
    if "when" in step:
        followed["when"] = _follow_expression(changes, step["when"])
    if "if_failed" in step:
        followed["if_failed"] = [renamed.get(one, one) for one in step["if_failed"] or ()]
    if step.get("else_of"):
        followed["else_of"] = renamed.get(step["else_of"], step["else_of"])
    return {**followed, "depends_on": depends_on}  # type: ignore[typeddict-item]


def rename_in_text(text: str, renamed: Mapping[str, str]) -> str:
    """Apply a renaming to the references of a text."""
    return _follow({old: new for old, new in renamed.items() if old != new}, text)


def _follow(changes: Mapping[str, str], text: str) -> str:
    try:
        references = references_in(text)
    except BadReferenceError:
        return text  # The validator will say what is wrong with it.
    for _, start, end in reversed(references):
        inside = _follow_expression(changes, text[start + 2 : end - 1])
        text = f"{text[:start]}${{{inside}}}{text[end:]}"
    return text


def _follow_expression(changes: Mapping[str, str], expression: str) -> str:
    """Rename the steps that an expression uses; names of fields stay."""
    for old, new in changes.items():
        if not (
            old.isascii() and old.isidentifier()
        ):  # In a model's text that is not JMESPath, a word is recognised by its borders.
            borders = r"(?<![\w.'\"`\[&-])" if old[:1].isalpha() else r"^\s*"
            used = rf"{_IN_QUOTES}|({borders}{re.escape(old)}(?=\s*(?:[.,\[|)]|$)))"
            expression = re.sub(used, partial(_renamed, new), expression)
    for start, end, name in reversed(looked_up(expression)):
        if name in changes:
            expression = expression[:start] + changes[name] + expression[end:]
    return expression


def _renamed(new: str, found: re.Match[str]) -> str:
    """Return the new name for an old one; what stands in quotes is a value, and stays."""
    return new if found[1] else found[0]
