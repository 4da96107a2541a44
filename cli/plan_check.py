"""Check plan files: all their issues, each with its place."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..context import Context, run_redactor
from ..errors import InvalidPlanError

if TYPE_CHECKING:
    from ..plan.files.plan_files import PlanFile
    from ..plan.rules import PlanFacts
    from ..state import PlanIssue
    from ..tools.toolbox import Toolbox
    from .inputs import GivenInputs

__all__ = ["CheckedPlan", "check_plan_file", "issue_text", "read_plan", "refusal", "with_places"]


_ABOUT_MEANS = ("unknown_tool", "unknown_agent", "missing_model")
"""Issues that are not the plan's, but of who looks at it."""


def read_plan(
    path: Path, toolbox: Toolbox, given: GivenInputs, *, has_model: bool, elsewhere: bool = False
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a plan file and its input values, or refuse it with all its issues, each with its place.

    Args:
        path: The file.
        toolbox: The tools.
        given: The input values.
        has_model: Whether there is a model.
        elsewhere: Whether another process will run it, which may have other tools and a model.

    Raises:
        InvalidPlanError: If it is not a plan, or not a valid one.
    """
    checked = check_plan_file(path, toolbox, given, has_model=has_model or elsewhere)
    issues = [issue for issue in checked.issues if not (elsewhere and issue["code"] in _ABOUT_MEANS)]
    if issues:
        raise refusal(checked.plan_file.name, issues)
    return checked.plan_file.plan, checked.inputs


def refusal(name: str, issues: Sequence[Mapping[str, Any]], end: str = "") -> InvalidPlanError:
    """Word the refusal of a plan file: all its issues, each with its place."""
    lines = [f"  {issue_text(name, issue)}" for issue in issues]
    count = "1 issue" if len(issues) == 1 else f"{len(issues)} issues"
    return InvalidPlanError("\n".join([f"{name} cannot run ({count}){end}:", *lines]), issues)


def issue_text(name: str, issue: Mapping[str, Any]) -> str:
    """Write an issue as compilers do: the file, line and column, what kind it is, what is wrong."""
    place = f":{issue['line']}:{issue['column']}" if issue.get("line") else ""
    return f"{name}{place}: {issue['code']}: {issue['message']}"


@dataclass(frozen=True)
class CheckedPlan:
    """A plan file, the input values as it declares them, and its issues with their places."""

    plan_file: PlanFile
    inputs: dict[str, Any]
    issues: list[dict[str, Any]]


def check_plan_file(path: Path, toolbox: Toolbox, given: GivenInputs, *, has_model: bool) -> CheckedPlan:
    """Read a plan file and list its issues, in the order in which they stand in it.

    Raises:
        InvalidPlanError: If it is no YAML or JSON mapping.
    """
    from ..plan.files.plan_files import load_plan_file
    from ..plan.rules import PlanFacts

    plan_file, redactor = load_plan_file(path), run_redactor()
    inputs = given.values(plan_file.plan.get("inputs"))
    facts = PlanFacts(
        toolbox,
        Context().step_limit(by_model=False),
        inputs=redactor.value(inputs),
        has_model=has_model,
        has_planner=has_model,
    )
    plan = redactor.value(plan_file.plan)
    issues = [*_all_issues(plan, facts), *_useless(plan, inputs)]
    return CheckedPlan(plan_file, inputs, with_places(plan_file, issues))


def _all_issues(plan: dict[str, Any], facts: PlanFacts) -> list[PlanIssue]:
    """List what is wrong with a plan's form, and with the rest of it when what is malformed is left out."""
    from ..plan.rules import validate_plan

    found: list[PlanIssue] = []
    rest: dict[str, Any] | None = plan
    while rest is not None:
        understood, issues = validate_plan(rest, facts)
        found += issues
        rest = _without_malformed(rest, issues) if understood is None else None
    return found


def _without_malformed(plan: dict[str, Any], issues: Sequence[PlanIssue]) -> dict[str, Any] | None:
    """Leave out malformed fields; None: the rest would make no sense without them."""
    fields = [_path_of(plan, issue) for issue in issues]
    if not all(fields):
        return None
    rest = copy.deepcopy(plan)
    for *parents, last in fields:
        holder: Any = rest
        for key in parents:
            holder = holder[key]
        if not isinstance(holder, dict) or last not in holder:
            return None
        del holder[last]
    return rest


def _path_of(plan: Mapping[str, Any], issue: PlanIssue) -> list[str | int]:
    """Give the way to a malformed field; empty where there is none."""
    field = issue.get("field") or []
    if issue["step_id"] is None or not field:
        return list(field)
    ids = [step.get("id") if isinstance(step, dict) else None for step in plan["steps"]]
    return ["steps", ids.index(issue["step_id"]), *field]


def _useless(plan: Mapping[str, Any], inputs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Refuse values for a plan that has no inputs: whoever gave them expects something else of it."""
    if plan.get("inputs") or not inputs or "inputs." in json.dumps(plan.get("steps"), default=str):
        return []
    message = f"the plan has no input {next(iter(inputs))!r}; it declares no inputs"
    return [{"code": "unresolved_reference", "step_id": None, "message": message}]


def with_places(plan_file: PlanFile, issues: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Add to each issue the line and column of the file that it is about (None if none), and sort them."""
    from ..plan.files.plan_files import issue_place

    placed = []
    for issue in issues:
        line, column = issue_place(plan_file, issue) or (None, None)
        placed.append({**issue, "line": line, "column": column})
    return sorted(placed, key=lambda issue: (issue["line"] or 0, issue["column"] or 0))
