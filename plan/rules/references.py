"""Check whether every reference names an existing step or input."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from ...errors import known
from ...state import Plan, PlanIssue, steps_by_id
from ..other_notations import Lookup, other_notations
from ..references import (
    BadReferenceError,
    expression_roots,
    field_with,
    is_rooted,
    is_single_reference,
    looks_at_everything,
    map_strings,
    plain_path,
    reference_fields,
    references_in,
    step_references,
    strings_in,
    unreadable_field,
)
from .facts import PlanFacts, Rule, issue

__all__ = ["RULES", "holds_reference", "is_reference", "reference_problem"]


def _references(plan: Plan, facts: PlanFacts) -> Iterator[PlanIssue]:
    everywhere = {*steps_by_id(plan), "inputs"}
    inputs = {*plan["inputs"], *facts.inputs}
    for step in plan["steps"]:
        try:
            uses = step_references(step)
        except BadReferenceError as error:
            yield issue(error.code, step, f"step {step['id']!r}: {error}", *unreadable_field(step))
            continue
        for where, expression in uses:
            in_a_loop = "for_each" in step and where not in ("for_each", "when")
            names = everywhere | {"item", "index"} if in_a_loop else everywhere
            constant = where == "when" or (where == "for_each" and expression.startswith("["))
            if found := reference_problem(expression, names, inputs, may_be_constant=constant):
                message = f"step {step['id']!r}, {where}: {found[1]}"
                yield issue(found[0], step, message, *field_with(step, where, expression))
        if "for_each" in step and not is_single_reference(step["for_each"]):
            message = f"step {step['id']!r}: for_each must be one reference to a list, like ${{step.path}}"
            yield issue("bad_expression", step, f"{message}; not {step['for_each'][:80]!r}", "for_each")


def _answer(plan: Plan, facts: PlanFacts) -> Iterator[PlanIssue]:
    names, inputs = {*steps_by_id(plan), "inputs"}, {*plan["inputs"], *facts.inputs}
    try:
        uses = references_in(plan.get("answer", ""))
    except BadReferenceError as error:
        yield issue(error.code, None, f"answer: {error}", "answer")
        return
    for reference in uses:
        if found := reference_problem(reference.expression, names, inputs):
            yield issue(found[0], None, f"answer: {found[1]}", "answer")


_WRITTEN_OUT = ("call.args", "plan.goal")
"""Parts of a step that take effect before any model reads them."""


def _notations(plan: Plan, facts: PlanFacts) -> Iterator[PlanIssue]:
    """Find references in other notations, which nobody would resolve."""
    ids, inputs = set(steps_by_id(plan)), {*plan["inputs"], *facts.inputs}
    for step in plan["steps"]:
        loop = {"item", "index"} if "for_each" in step else set()
        lookup = _lookup((ids | loop) - {step["id"]}, inputs)
        for where, value in reference_fields(step):
            for text in strings_in(value) if where in _WRITTEN_OUT else ():
                for words in _notation_problems(text, lookup):
                    message = f"step {step['id']!r}, {where}: {words}"
                    yield issue("bad_reference", step, message, *field_with(step, where, text))
    for words in _notation_problems(plan.get("answer", ""), _lookup(ids, inputs)):
        yield issue("bad_reference", None, f"answer: {words}", "answer")


def _lookup(names: Collection[str], inputs: Collection[str]) -> Lookup:
    """Return what a name in another notation means, if it names something in the plan."""

    def look_up(name: str, path: str) -> str | None:
        plain = re.sub(r"\W", "_", name)
        numbered = f"step_{plain}"
        if found := next((one for one in (name, plain, numbered) if one in names), None):
            return f"${{{found}{path}}}"
        field = re.match(r"\.(\w+)", path)
        if name == "inputs":
            return f"${{inputs{path}}}" if field and field[1] in inputs else None
        return f"${{inputs.{name}{path}}}" if name in inputs else None

    return look_up


def _notation_problems(text: str, lookup: Lookup) -> Iterator[str]:
    for found in other_notations(text, lookup):
        yield (
            f"{found.text!r} is not a reference; write {found.right}, or {found.literal} for these "
            "characters as they are"
        )


def reference_problem(
    expression: str, names: set[str], inputs: set[str], *, may_be_constant: bool = False
) -> tuple[str, str] | None:
    """Return the issue of a reference to nothing, unless it may be a constant."""
    try:
        roots, path = expression_roots(expression), plain_path(expression)
    except BadReferenceError as error:
        return error.code, str(error)
    if looks_at_everything(expression) if may_be_constant else not is_rooted(expression):
        return "bad_reference", (
            f"${{{expression}}} does not begin with a name; a reference begins with one of: "
            f"{known(names)}; write a text or a number without ${{…}}"
        )
    if unknown := sorted(roots - names):
        first, there = unknown[0], known(names, given=unknown[0])
        return "unresolved_reference", (
            f"${{{expression}}} refers to {first!r}, which is neither a step nor inputs; known: {there}"
        )
    if path and path[0] == "inputs" and len(path) > 1 and path[1] not in inputs:
        return (
            "unresolved_reference",
            f"${{{expression}}}: no input {path[1]!r}; known inputs: {known(inputs, given=path[1])}",
        )
    return None


def is_reference(value: Any) -> bool:
    """Tell whether a value is exactly one reference; another rule reports unreadable ones."""
    try:
        return is_single_reference(value)
    except BadReferenceError:
        return True


def holds_reference(value: Any) -> bool:
    """Tell whether a value is a reference, or contains one as a whole value."""
    found: list[bool] = []
    map_strings(value, lambda text: found.append(is_reference(text)))
    return any(found)


RULES: tuple[Rule, ...] = (_references, _answer, _notations)
