"""Check a step's output against its success criteria, cheapest first, models last."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import WorkLimitError
from ..models.prompts import fill_quoted
from ..plan.references import resolve
from ..safety.expressions import ExpressionError, evaluate
from ..safety.patterns import PatternError, compile_pattern, is_found
from ..safety.schemas import BadSchemaError, read_schema
from ..state import CRITERION_PARAMETER, Criterion, CriterionResult, Evidence, Step, Verdict
from ..tools.threads import run_bounded, run_in_thread

__all__ = [
    "Check",
    "Judge",
    "check_criteria",
    "check_output",
    "is_empty",
    "resolved_criteria",
    "unchecked",
]

Json = Any
Judge = Callable[[str], Awaitable[CriterionResult]]
"""Asks a model whether a criterion is met; ``passed`` is None when it could not tell."""

_ORDER = list(CRITERION_PARAMETER)


class Check(NamedTuple):
    """The verdict on one output, and the outcome of each criterion."""

    verdict: Verdict
    criteria: list[CriterionResult]

    @property
    def gaps(self) -> list[str]:
        """What is missing, one sentence per failed criterion."""
        return [criterion["gap"] for criterion in self.criteria if criterion["passed"] is False]


def resolved_criteria(
    criteria: Sequence[Criterion], values: Mapping[str, Json], mark: str
) -> list[Criterion]:
    """Resolve the references of criteria; what a judge will read is quoted, the rest is exact.

    Raises:
        UnresolvedReferenceError: If a reference has no value.
    """
    return [
        {**criterion, "criterion": fill_quoted(criterion["criterion"], values, mark)}
        if criterion["type"] == "judge"
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
    for criterion in sorted(criteria, key=lambda criterion: _ORDER.index(criterion["type"])):
        if criterion["type"] == "judge":
            if any(outcome["passed"] is False for outcome in outcomes):
                break
            outcomes.append(await judge(criterion["criterion"]))
        else:
            gap = await _gap(criterion, output, evidence)
            outcomes.append({"type": criterion["type"], "passed": gap is None, "gap": gap or ""})
    return outcomes


def unchecked() -> Check:
    """Give the check of a step that has none because a revision by a model dropped it."""
    gap = "the revision that made this step dropped the check of what it replaced"
    return Check("unverified", [{"type": "dropped", "passed": None, "gap": gap}])


async def _gap(criterion: Criterion, output: Json, evidence: Sequence[Evidence]) -> str | None:
    find_gap = _GAPS[criterion["type"]]
    if criterion["type"] == "file_exists":  # a disk may be slow
        return await run_in_thread(find_gap, criterion, output, evidence)
    try:
        return await run_bounded(find_gap, criterion, output, evidence)
    except WorkLimitError as error:
        parameter = CRITERION_PARAMETER[criterion["type"]]
        shown = _text(criterion.get(parameter or ""))[:200]
        return f"whether the output fits {parameter} {shown!r} cannot be checked: {error}"


def _verdict(output: Json, outcomes: Sequence[CriterionResult], *, is_sound: bool) -> Verdict:
    if any(outcome["passed"] is False for outcome in outcomes):
        return "failed"
    if any(outcome["passed"] is None for outcome in outcomes):
        return "unverified"
    if not outcomes and not is_sound:
        return "unverified"
    return "met_empty" if is_empty(output) else "met"


def is_empty(output: Json) -> bool:
    """Tell whether an output is valid but empty: null, "", [] or {}."""
    return output is None or output == "" or output == [] or output == {}


def _text(output: Json) -> str:
    return output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)


# Each returns the gap as a sentence, or None when the criterion is met.


def _not_empty(_: Criterion, output: Json, __: Sequence[Evidence]) -> str | None:
    blank = is_empty(output) or (isinstance(output, str) and not output.strip())
    return "the output is empty" if blank else None


def _matches(criterion: Criterion, output: Json, _: Sequence[Evidence]) -> str | None:
    pattern = criterion["pattern"]
    try:
        found = is_found(compile_pattern(pattern), _text(output))
    except PatternError as error:  # a reference in it is resolved at run time only
        return f"{pattern!r} is not a regular expression: {error}"
    return None if found else f"the output does not match the pattern {pattern!r}"


def _json_schema(criterion: Criterion, output: Json, _: Sequence[Evidence]) -> str | None:
    try:
        problems = read_schema(criterion["schema"]).problems(output)
    except BadSchemaError as error:  # a reference in it is resolved at run time only
        return f"the schema itself is not valid: {error}"
    if not problems:
        return None
    return f"the output does not fit its schema: {problems[0].json_path}: {problems[0].message[:300]}"


def _expression(criterion: Criterion, output: Json, _: Sequence[Evidence]) -> str | None:
    try:
        value = evaluate(criterion["expression"], output)
    except ExpressionError as error:
        return f"the expression {criterion['expression']!r} cannot be evaluated: {error}"
    return None if value else f"the expression {criterion['expression']!r} gives {_text(value)[:100]}"


def _tool_succeeded(criterion: Criterion, _: Json, evidence: Sequence[Evidence]) -> str | None:
    calls = [call for call in evidence if call["tool"] == criterion["tool"]]
    if not calls:
        return f"the tool {criterion['tool']!r} was not called"
    return (
        None
        if calls[-1]["ok"]
        else f"the last call of {criterion['tool']!r} failed: {calls[-1]['output_preview']}"
    )


def _file_exists(criterion: Criterion, _: Json, __: Sequence[Evidence]) -> str | None:
    try:
        exists = Path(criterion["path"]).exists()
    except (OSError, ValueError) as error:
        return f"the path {criterion['path']!r} cannot be looked at: {error}"
    return None if exists else f"there is no file {criterion['path']!r}"


_GAPS: Mapping[str, Callable[[Criterion, Json, Sequence[Evidence]], str | None]] = {
    "not_empty": _not_empty,
    "matches": _matches,
    "json_schema": _json_schema,
    "expression": _expression,
    "tool_succeeded": _tool_succeeded,
    "file_exists": _file_exists,
}
