"""Check whether a plan or its inputs contain a secret."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ...safety.redaction import marks_in
from ...state import Plan, PlanIssue, Step
from ..identity import input_values
from .facts import PlanFacts, Rule, issue

__all__ = ["RULES", "secrets_in_inputs"]


_MUST_BE_EXACT = ("call", "success_criteria", "output_schema", "when", "for_each")
"""Parts of a step that cannot be redacted without changing the step."""


def _secrets(plan: Plan, facts: PlanFacts) -> Iterator[PlanIssue]:
    for step in plan["steps"]:
        for name in _MUST_BE_EXACT:
            for secret in marks_in(step[name]) if name in step else ():  # type: ignore[literal-required]
                yield _secret_issue(step, f"step {step['id']!r}", secret, name)
    yield from secrets_in_inputs(input_values(plan, facts.inputs))


def secrets_in_inputs(inputs: Mapping[str, Any]) -> list[PlanIssue]:
    """List the inputs that were, or contained, a secret: no call can be made with the redacted value."""
    found = ((name, secret) for name, value in inputs.items() for secret in marks_in(value))
    return [_secret_issue(None, f"the input {name!r}", secret) for name, secret in found]


def _secret_issue(step: Step | None, where: str, secret: str, *field: str) -> PlanIssue:
    return issue(
        "secret_in_plan",
        step,
        f"{where} contains a secret ({secret}), which a plan must not: let the tool read it "
        "from its own environment",
        *field,
    )


RULES: tuple[Rule, ...] = (_secrets,)
