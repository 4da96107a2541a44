"""Plan files on the command line: the inputs for a plan, and all its issues, each with its place."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..context import Context, run_redactor
from ..errors import InvalidPlanError, nearest
from ..state import STEP_KINDS
from .exits import BadUsageError

if TYPE_CHECKING:
    from ..plan.files.plan_files import PlanFile
    from ..plan.rules import PlanFacts
    from ..plan.tools import Tools
    from ..state import Effect, Plan, PlanIssue

__all__ = [
    "CheckedPlan",
    "GivenInputs",
    "UncheckedToolbox",
    "check_plan",
    "check_plan_file",
    "issue_text",
    "read_plan",
    "refusal",
    "with_places",
]


@dataclass(frozen=True)
class GivenInputs:
    """The given inputs.

    Attributes:
        texts: Texts by name, whose types are not known yet.
        exact: Exact values, from a file.
        text_from: What gave the texts, for messages.
        exact_from: What gave the exact values.
    """

    texts: Mapping[str, str]
    exact: Mapping[str, Any]
    text_from: str = "input"
    exact_from: str = "input"

    @classmethod
    def read(cls, pairs: Sequence[str] | None, file: Path | None) -> GivenInputs:
        """Read ``--input NAME=VALUE`` and ``--inputs FILE``; a single value wins over the file's.

        Raises:
            BadUsageError: If a pair is none, or a name is given twice.
            InvalidPlanError: If the file is no YAML or JSON mapping.
        """
        texts: dict[str, str] = {}
        for pair in pairs or ():
            name, sign, text = pair.partition("=")
            name = name.strip()
            if not (sign and name):
                raise BadUsageError(f"--input takes NAME=VALUE, not {pair!r}")
            if name in texts:
                raise BadUsageError(f"--input {name} is given twice")
            texts[name] = text
        if file is None:
            return cls(texts, {}, "--input")
        from ..plan.files.plan_files import load_mapping

        exact = load_mapping(file, "a file of input values")
        return cls(texts, exact, "--input", f"--inputs {file}:")

    def place_of(self, name: str) -> str:
        """Say where an input's value was given."""
        return f"{self.text_from if name in self.texts else self.exact_from} {name}"

    def values(self, declared: Any = None) -> dict[str, Any]:
        """Read the texts as the plan declares them; without a declaration as JSON if possible, else as text.

        Args:
            declared: The plan's ``inputs``, of whatever form.
        """
        specs = declared if isinstance(declared, Mapping) else {}
        return {
            **self.exact,
            **{name: _understood(text, specs.get(name)) for name, text in self.texts.items()},
        }


def _understood(text: str, spec: Any) -> Any:
    """Read a text; what fits no declaration stays text, for the validator to refuse in the plan's words."""
    if _is_for_text(spec):
        return text
    try:
        # NaN and Infinity are not JSON, though Python reads them.
        value = json.loads(text, parse_constant=_refuse_constant)
    except ValueError:
        return text
    # 1e3 and 2.0 are integers in JSON Schema, and a tool wants an int
    whole = isinstance(value, float) and value.is_integer() and _wants_integer(spec)
    return int(value) if whole else value


def _is_for_text(spec: Any) -> bool:
    """Tell whether only text is declared: then `12`, `true` and `"x"` are texts of these characters."""
    if not isinstance(spec, Mapping):
        return False
    choices = spec.get("enum")
    of_texts = isinstance(choices, list) and bool(choices) and all(isinstance(item, str) for item in choices)
    return spec.get("type") in ("string", ["string"]) or ("type" not in spec and of_texts)


def _wants_integer(spec: Any) -> bool:
    return isinstance(spec, Mapping) and spec.get("type") == "integer"


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


# --- checks ---------------------------------------------------------------------------

_ABOUT_MEANS = ("unknown_tool", "unknown_agent", "missing_model")
"""Issues that come from the place where the plan is checked, and not from the plan."""


def read_plan(
    path: Path, toolbox: Tools, given: GivenInputs, *, has_model: bool, elsewhere: bool = False
) -> CheckedPlan:
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
        raise refusal(checked.plan_file.name, issues, hint=_hints(issues, toolbox))
    return checked


def _hints(issues: Sequence[Mapping[str, Any]], toolbox: Tools) -> str:
    """Say how inputs are given that are missing, and tools, where none of a plan's were."""
    missing = [f"--input {issue['field'][1]}=…" for issue in issues if issue["code"] == "missing_input"]
    about_inputs = f"Give it what is missing: {' '.join(missing)}" if missing else ""
    return "\n".join(filter(None, [about_inputs, _hint_about_tools(issues, toolbox)]))


def _hint_about_tools(issues: Sequence[Mapping[str, Any]], toolbox: Tools) -> str:
    if toolbox.names or not any(issue["code"] == "unknown_tool" for issue in issues):
        return ""
    return "No tools were given: give them with --tools MODULE:ATTRIBUTE, --toolset NAME or --mcp FILE."


def refusal(
    name: str, issues: Sequence[Mapping[str, Any]], end: str = "", *, hint: str = ""
) -> InvalidPlanError:
    """Word the refusal of a plan file: all its issues, each with its place."""
    lines = [f"  {issue_text(name, issue)}" for issue in issues]
    count = "1 issue" if len(issues) == 1 else f"{len(issues)} issues"
    said = [f"{name} cannot run ({count}){end}:", *lines, *([hint] if hint else [])]
    return InvalidPlanError("\n".join(said), issues)


def issue_text(name: str, issue: Mapping[str, Any]) -> str:
    """Write an issue as compilers do: the file, line and column, or the option; its kind; what is wrong."""
    place = f":{issue['line']}:{issue['column']}" if issue.get("line") else ""
    return f"{issue.get('given_by') or name + place}: {issue['code']}: {issue['message']}"


@dataclass(frozen=True)
class CheckedPlan:
    """A plan file, the input values as it declares them, and its issues with their places."""

    plan_file: PlanFile
    inputs: dict[str, Any]
    issues: list[dict[str, Any]]
    understood: Plan | None = None
    """The plan in its normal form; None: it is too malformed."""


def check_plan_file(path: Path, toolbox: Tools, given: GivenInputs, *, has_model: bool) -> CheckedPlan:
    """Read a plan file and list its issues, in the order in which they stand in it.

    Raises:
        InvalidPlanError: If it is no YAML or JSON mapping.
    """
    from ..plan.files.plan_files import load_plan_file

    return check_plan(load_plan_file(path), toolbox, given, has_model=has_model)


def check_plan(plan_file: PlanFile, toolbox: Tools, given: GivenInputs, *, has_model: bool) -> CheckedPlan:
    """List the issues of a plan that was read, in the order in which they stand in its text."""
    from ..plan.rules import PlanFacts

    redactor = run_redactor()
    inputs = given.values(plan_file.plan.get("inputs"))
    facts = PlanFacts(
        toolbox,
        Context().step_limit(by_model=False),
        inputs=redactor.value(inputs),
        has_model=has_model,
        has_planner=has_model,
    )
    plan = redactor.value(plan_file.plan)
    understood, found = _all_issues(plan, facts)
    issues = [*found, *_useless(plan, inputs)]
    return CheckedPlan(plan_file, inputs, with_places(plan_file, issues, given), understood)


def _all_issues(plan: dict[str, Any], facts: PlanFacts) -> tuple[Plan | None, list[PlanIssue]]:
    """List what is wrong with a plan's form, and with the rest of it when what is malformed is left out."""
    from ..plan.rules import validate_plan

    found: list[PlanIssue] = []
    rest: dict[str, Any] | None = plan
    understood: Plan | None = None
    while rest is not None:
        understood, issues = validate_plan(rest, facts)
        found += [issue for issue in issues if not _follows(issue, found)]
        rest = _without_malformed(rest, issues) if understood is None else None
    return understood, found


def _follows(issue: PlanIssue, earlier: Sequence[PlanIssue]) -> bool:
    """Tell whether an issue exists only because a malformed field was left out: that is one mistake."""
    if issue["step_id"] is None:
        return False
    fields = [one["field"][0] for one in earlier if one["step_id"] == issue["step_id"] and one.get("field")]
    if issue["code"] == "malformed_plan" and not issue.get("field"):
        return any(nearest(field, STEP_KINDS) for field in fields)
    return issue["code"] == "unresolved_reference" and any(nearest(field, ["for_each"]) for field in fields)


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
    """Refuse values for a plan that has no inputs: whoever gave them expects it to have some."""
    if plan.get("inputs") or not inputs or "inputs." in json.dumps(plan.get("steps"), default=str):
        return []
    message = f"the plan has no input {next(iter(inputs))!r}; it declares no inputs"
    field = ["inputs", next(iter(inputs))]
    return [{"code": "unresolved_reference", "step_id": None, "message": message, "field": field}]


def with_places(
    plan_file: PlanFile, issues: Iterable[Mapping[str, Any]], given: GivenInputs | None = None
) -> list[dict[str, Any]]:
    """Add to each issue the line and column of the file that it is about (None if none), and sort them.

    One about a given value has what gave it (``given_by``) instead.
    """
    from ..plan.files.plan_files import issue_place
    from ..plan.rules.inputs import wrong_value

    placed: list[dict[str, Any]] = []
    for issue in issues:
        if given is not None and (name := wrong_value(issue)) is not None:
            placed.append({**issue, "line": None, "column": None, "given_by": given.place_of(name)})
            continue
        line, column = issue_place(plan_file, issue) or (None, None)
        placed.append({**issue, "line": line, "column": column})
    return sorted(placed, key=lambda issue: (issue["line"] or 0, issue["column"] or 0))


# --- tools that are not there ---------------------------------------------------------


class _AnyAgents(dict[str, Any]):
    """Holds an agent of every name."""

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str)


class UncheckedToolbox:
    """Holds every tool and named agent, and knows nothing about any: each may write, and take anything."""

    agents: Mapping[str, Any] = _AnyAgents()
    names: list[str] = []  # noqa: RUF012 - nothing is known about any tool

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str)

    def effect(self, _name: str) -> Effect:
        """Take each tool for one that writes."""
        return "write"

    def effects(self, names: Iterable[str]) -> list[Effect]:
        """Take all tools for ones that write."""
        return ["write"] if [*names] else []

    def arguments_schema(self, _name: str) -> dict[str, Any]:
        """Accept any arguments."""
        return {"type": "object", "additionalProperties": True}

    def output_schema(self, _name: str) -> None:
        """Know of no output."""

    def template(self, _name: str) -> None:
        """Know of no resource."""

    def known_resource(self, _name: str, _args: Mapping[str, Any] | None) -> None:
        """Know of no resource."""

    def template_fields(self, _name: str) -> list[str]:
        """Know of no resource."""
        return []

    def missing_state(self, _name: str) -> list[str]:
        """Know of no state."""
        return []

    def fingerprints(self, names: Iterable[str]) -> dict[str, str]:
        """Tell no tool from another of its name."""
        return dict.fromkeys(names, "")
