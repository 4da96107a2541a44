"""Check a step's output against its success criteria, cheapest first, models last."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import WorkLimitError
from ..models.prompts import fill_quoted
from ..plan.criteria import KINDS, is_empty, kind_of
from ..plan.references import resolve
from ..state import Criterion, CriterionResult, Evidence, Step, Verdict
from ..tools.texts import as_text
from ..tools.threads import run_bounded, run_in_thread

__all__ = [
    "Check",
    "Judge",
    "check_criteria",
    "check_output",
    "resolved_criteria",
    "unchecked",
]

Json = Any
Judge = Callable[[str], Awaitable[CriterionResult]]
"""Asks a model whether a criterion is met; ``passed`` is None when it could not tell."""

_BY_COST = list(KINDS)


class Check(NamedTuple):
    """The verdict on one output, and the outcome of each criterion."""

    verdict: Verdict
    criteria: list[CriterionResult]

    @property
    def gaps(self) -> list[str]:
        """Say what is missing, one sentence per failed criterion."""
        return [criterion["gap"] for criterion in self.criteria if criterion["passed"] is False]


def resolved_criteria(
    criteria: Sequence[Criterion], values: Mapping[str, Json], mark: str
) -> list[Criterion]:
    """Resolve the references of criteria; what a judge will read is quoted, all others stay exact values.

    Raises:
        UnresolvedReferenceError: If a reference has no value.
    """
    return [
        kind.criterion(fill_quoted(kind.value_of(criterion), values, mark))
        if (kind := kind_of(criterion)).by_model
        else resolve(criterion, values)
        for criterion in criteria
    ]


async def check_output(
    step: Step,
    criteria: Sequence[Criterion],
    output: Json,
    evidence: Sequence[Evidence],
    judge: Judge,
    *,
    sound: bool = False,
) -> Check:
    """Judge one output.

    Args:
        step: The step, for its kind and its ``output_schema``.
        criteria: Its success criteria with references resolved.
        output: What it produced, plain JSON.
        evidence: The tool calls it made.
        judge: Called for ``judge`` criteria, and only when everything cheaper has passed.
        sound: Whether it is a sub-plan of which each result was verified.
    """
    implied: list[Criterion] = []
    if (schema := step.get("output_schema")) is not None:
        implied.append({"type": "json_schema", "schema": schema})
    outcomes = await check_criteria([*implied, *criteria], output, evidence, judge)
    verdict = _verdict(output, outcomes, is_sound=sound or "call" in step or "ask" in step)
    return Check(verdict, outcomes)


async def check_criteria(
    criteria: Sequence[Criterion], output: Json, evidence: Sequence[Evidence], judge: Judge
) -> list[CriterionResult]:
    """Check criteria with references resolved, cheapest first; no judge is asked once one has failed."""
    outcomes: list[CriterionResult] = []
    for criterion in sorted(criteria, key=lambda one: _BY_COST.index(one["type"])):
        if kind_of(criterion).by_model:
            if any(outcome["passed"] is False for outcome in outcomes):
                break
            outcomes.append(await judge(kind_of(criterion).value_of(criterion)))
        else:
            gap = await _gap(criterion, output, evidence)
            outcomes.append({"type": criterion["type"], "passed": gap is None, "gap": gap or ""})
    return outcomes


def unchecked() -> Check:
    """Return the check of a step that has none because a model's revision dropped it."""
    gap = "the revision dropped the check of the step that this one replaces"
    return Check("unverified", [{"type": "dropped", "passed": None, "gap": gap}])


async def _gap(criterion: Criterion, output: Json, evidence: Sequence[Evidence]) -> str | None:
    kind = kind_of(criterion)
    value = kind.value_of(criterion)
    if kind.on_disk:  # A disk may be slow.
        return await run_in_thread(kind.gap, value, output, evidence)
    try:
        return await run_bounded(kind.gap, value, output, evidence)
    except WorkLimitError as error:
        shown = as_text(value)[:200]
        return f"whether the output fits {kind.parameter} {shown!r} cannot be checked: {error}"


def _verdict(output: Json, outcomes: Sequence[CriterionResult], *, is_sound: bool) -> Verdict:
    if any(outcome["passed"] is False for outcome in outcomes):
        return "failed"
    if any(outcome["passed"] is None for outcome in outcomes):
        return "unverified"
    if not outcomes and not is_sound:
        return "unverified"
    return "met_empty" if is_empty(output) else "met"
