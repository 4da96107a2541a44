"""Whether every reference names a step or an input that there is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import known
from ..references import (
    BadReferenceError,
    expression_roots,
    field_with,
    is_single_reference,
    map_strings,
    plain_path,
    references_in,
    step_references,
    unreadable_field,
)
from ..state import Plan, PlanIssue, steps_by_id
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
            if found := reference_problem(expression, names, inputs):
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


def reference_problem(expression: str, names: set[str], inputs: set[str]) -> tuple[str, str] | None:
    """Give the code and the words for a reference that nothing answers to."""
    try:
        roots, path = expression_roots(expression), plain_path(expression)
    except BadReferenceError as error:
        return error.code, str(error)
    if unknown := sorted(roots - names):
        return "unresolved_reference", (
            f"${{{expression}}} refers to {unknown[0]!r}, neither a step nor inputs; known: {known(names)}"
        )
    if path and path[0] == "inputs" and len(path) > 1 and path[1] not in inputs:
        return (
            "unresolved_reference",
            f"${{{expression}}}: no input {path[1]!r}; known inputs: {known(inputs)}",
        )
    return None


def is_reference(value: Any) -> bool:
    """Tell whether a value is exactly one reference; an unreadable one is another rule's business."""
    try:
        return is_single_reference(value)
    except BadReferenceError:
        return True


def holds_reference(value: Any) -> bool:
    """Tell whether a value is a reference, or one stands as a whole value within it."""
    found: list[bool] = []
    map_strings(value, lambda text: found.append(is_reference(text)))
    return any(found)


RULES: tuple[Rule, ...] = (_references, _answer)
