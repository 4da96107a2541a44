"""What keeps a plan from running: a tuple of small pure rules, one issue code or two each.

A plan is first checked against its format, then normalised (dependencies that
references imply are added), then every rule looks at it. A message names the step,
the offending value and what would have been accepted.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from graphlib import CycleError
from typing import Any
from uuid import uuid4

import regex
from jsonschema import FormatChecker
from jsonschema.exceptions import SchemaError, best_match
from jsonschema.exceptions import ValidationError as InstanceError
from jsonschema.validators import validator_for
from pydantic import TypeAdapter, ValidationError

from .errors import known
from .plan_types import type_issues
from .redaction import marks_in
from .references import (
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
from .state import (
    CRITERION_PARAMETER,
    GOAL_CRITERIA,
    RESERVED_IDS,
    STEP_ID_PATTERN,
    STEP_KINDS,
    Call,
    Criterion,
    Plan,
    PlanIssue,
    Step,
    StepResult,
    SubPlan,
    descendants,
    granted_tools,
    input_values,
    is_rolling,
    is_satisfied,
    step_fingerprint,
    step_kind,
    steps_by_id,
    topological_order,
)
from .tools.toolbox import Toolbox

__all__ = ["PlanFacts", "declared_as", "secrets_in_inputs", "validate_plan"]


@dataclass(frozen=True)
class PlanFacts:
    """What a plan is held against.

    Attributes:
        toolbox: The tools there are.
        step_limit: How many steps the plan may have.
        inputs: Input values given for this run.
        has_model: Whether agent steps can run at all.
        has_planner: Whether sub-plans can be planned, and a rolling plan can go on.
        may_nest: Whether sub-plans are within the limit of depth.
        previous: The revision that this one replaces.
        results: Results so far; finished steps must stay as they are.
        finished: What the finished steps were when they ran: fingerprints by step id.
        goal: The goal, where the plan itself does not say.
    """

    toolbox: Toolbox
    step_limit: int
    inputs: Mapping[str, Any] = field(default_factory=dict)
    has_model: bool = True
    has_planner: bool = True
    may_nest: bool = True
    previous: Plan | None = None
    results: Mapping[str, StepResult] = field(default_factory=dict)
    finished: Mapping[str, str] = field(default_factory=dict)
    goal: str = ""


Rule = Callable[[Plan, PlanFacts], Iterator[PlanIssue]]


def validate_plan(raw: Any, facts: PlanFacts) -> tuple[Plan | None, list[PlanIssue]]:
    """Check a plan from anywhere and normalise it.

    Returns:
        The normalised plan (None when it is not even of the right form), and its issues;
        the plan can run when there are none.
    """
    if issues := list(_form_issues(raw)):
        return None, issues
    plan = _normalise(raw, facts)
    issues = [issue for rule in _RULES for issue in rule(plan, facts)]
    if not issues or _is_ordered(plan):
        plan, implied = _with_implied_dependencies(plan)
        issues += implied
    if not issues:
        issues = [issue for rule in _RULES_ON_ORDER for issue in rule(plan, facts)]
    return plan, issues


def _issue(code: str, step: Mapping[str, Any] | None, message: str, *field: str | int) -> PlanIssue:
    """Word an issue of a step, or of the plan; ``field`` is where in it."""
    step_id = step.get("id") if step else None
    issue: PlanIssue = {
        "code": code,
        "step_id": step_id if isinstance(step_id, str) else None,
        "message": message,
    }
    return {**issue, "field": list(field)} if field else issue


# --- the format --------------------------------------------------------------------------

_KNOWN_FIELDS: dict[str, Iterable[str]] = {
    "plan": Plan.__annotations__,
    "step": Step.__annotations__,
    "call": Call.__annotations__,
    "criterion": Criterion.__annotations__,
    "sub-plan": SubPlan.__annotations__,
}


@cache
def _plan_format() -> TypeAdapter[Plan]:
    return TypeAdapter(Plan)


def _form_issues(raw: Any) -> Iterator[PlanIssue]:
    if not isinstance(raw, Mapping):
        yield _issue(
            "malformed_plan", None, f"a plan is a JSON object with a list of steps, not {type(raw).__name__}"
        )
        return
    try:
        _plan_format().validate_python(dict(raw), strict=True)
    except ValidationError as error:
        yield from (_form_issue(raw, item) for item in error.errors())
        return
    for step in raw["steps"]:
        yield from _kind_issues(step)


def _form_issue(raw: Mapping[str, Any], item: Any) -> PlanIssue:
    path: tuple[Any, ...] = item["loc"]
    where = ".".join(map(str, path)) or "plan"
    message = f"{where}: {item['msg']}"
    if item["type"] == "extra_forbidden":
        noun = _noun(path)
        message = (
            f"{where}: unknown field {path[-1]!r} of a {noun}; known fields: {known(_KNOWN_FIELDS[noun])}"
        )
    elif item["type"] == "literal_error":
        message = f"{where}: {item['input']!r} is not one of {item['ctx']['expected']}"
    elif item["type"] == "bool_type" and str(item["input"]).lower() in ("yes", "no", "on", "off"):
        message += f" (got the text {item['input']!r}: in a plan file only true and false are booleans)"
    elif item["type"] != "missing":
        message += f" (got {type(item['input']).__name__} {str(item['input'])[:80]!r})"
    step = _step_at(raw, path)
    named = step is not None and isinstance(step.get("id"), str)
    return _issue("malformed_plan", step, message, *(path[2:] if named else path))


def _noun(path: tuple[Any, ...]) -> str:
    if "success_criteria" in path or (path[0] == "goal_criteria" and len(path) > 1):
        return "criterion"
    if len(path) == 4:
        return "call" if path[2] == "call" else "sub-plan"
    return "step" if len(path) == 3 else "plan"


def _step_at(raw: Mapping[str, Any], path: tuple[Any, ...]) -> Mapping[str, Any] | None:
    if len(path) > 1 and path[0] == "steps" and isinstance(path[1], int):
        step = raw["steps"][path[1]]
        return step if isinstance(step, Mapping) else None
    return None


def _kind_issues(step: Step) -> Iterator[PlanIssue]:
    kinds = [kind for kind in STEP_KINDS if step.get(kind) is not None]
    if len(kinds) != 1:
        found = f"it has {' and '.join(kinds)}" if kinds else "it has none"
        yield _issue(
            "malformed_plan",
            step,
            f"step {step['id']!r} needs exactly one of {', '.join(STEP_KINDS)}; {found}",
            *kinds[-1:],
        )
    if kinds in (["tools"], ["agent"]) and not (step.get("task") or "").strip():
        message = f"step {step['id']!r} needs a task: what its agent is to do"
        yield _issue("malformed_plan", step, message, "task")
    if kinds == ["plan"] and not step["plan"]["goal"].strip():
        message = f"step {step['id']!r}: the goal of its plan is empty"
        yield _issue("malformed_plan", step, message, "plan", "goal")
    for name, least in (("max_attempts", 1), ("max_iterations", 1), ("timeout_s", 0)):
        value = step.get(name)
        if value is not None and (value < least or value == 0):  # type: ignore[operator]
            message = f"step {step['id']!r}: {name} must be positive, not {value}"
            yield _issue("malformed_plan", step, message, name)


def _normalise(raw: Mapping[str, Any], facts: PlanFacts) -> Plan:
    """Fill in what a plan may leave out. Input values given for undeclared names are declared."""
    previous: Mapping[str, Any] = facts.previous or {}
    steps = [
        {
            "task": "",
            **{key: value for key, value in step.items() if value is not None},
            "depends_on": _unique(step),
        }
        for step in raw["steps"]
    ]
    plan: Plan = {
        "id": raw.get("id") or previous.get("id") or uuid4().hex,
        "revision": raw.get("revision") or previous.get("revision", 0) + 1,
        "goal": raw.get("goal") or facts.goal,
        "rationale": raw.get("rationale") or "",
        "complete": raw.get("complete", True) is not False,
        "inputs": dict(raw.get("inputs") or {}),
        "steps": steps,  # type: ignore[typeddict-item]
    }
    given: Any = {name: raw[name] for name in ("goal_criteria", "answer") if raw.get(name)}
    return {**plan, **given}


def _unique(step: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(step.get("depends_on") or ()))


# --- rules on any plan -------------------------------------------------------------------


def _size(plan: Plan, facts: PlanFacts) -> Iterator[PlanIssue]:
    if not plan["steps"]:
        yield _issue("empty_plan", None, "the plan has no steps", "steps")
    if len(plan["steps"]) > facts.step_limit:
        yield _issue(
            "too_many_steps",
            None,
            f"the plan has {len(plan['steps'])} steps; max_steps allows {facts.step_limit}",
            "steps",
        )


def _ids(plan: Plan, _: PlanFacts) -> Iterator[PlanIssue]:
    for step_id, times in Counter(step["id"] for step in plan["steps"]).items():
        if times > 1:
            yield _issue("duplicate_id", {"id": step_id}, f"{times} steps have the id {step_id!r}", "id")
    for step in plan["steps"]:
        if step["id"] in RESERVED_IDS:
            message = f"{step['id']!r} is reserved; reserved words: {known(RESERVED_IDS)}"
            yield _issue("bad_id", step, message, "id")
        elif not re.fullmatch(STEP_ID_PATTERN, step["id"]):
            message = f"{step['id']!r} is not a step id; it must match {STEP_ID_PATTERN}"
            yield _issue("bad_id", step, message, "id")


def _dependencies(plan: Plan, _: PlanFacts) -> Iterator[PlanIssue]:
    ids = steps_by_id(plan)
    for step in plan["steps"]:
        for at, dep in enumerate(step["depends_on"]):
            if dep == step["id"]:
                yield _issue("self_dependency", step, f"step {dep!r} depends on itself", "depends_on", at)
            elif dep not in ids:
                yield _issue(
                    "unknown_dependency",
                    step,
                    f"step {step['id']!r} depends on {dep!r}; known steps: {known(ids)}",
                    "depends_on",
                    at,
                )


def _cycles(plan: Plan, _: PlanFacts) -> Iterator[PlanIssue]:
    without_loops: list[Any] = [
        {**step, "depends_on": [d for d in step["depends_on"] if d != step["id"]]} for step in plan["steps"]
    ]
    try:
        topological_order(without_loops)
    except CycleError as error:
        path = list(reversed(error.args[1]))
        message = f"steps depend on each other in a circle: {' -> '.join(path)}"
        at = next(step["depends_on"].index(path[1]) for step in without_loops if step["id"] == path[0])
        yield _issue("cycle", {"id": path[0]}, message, "depends_on", at)


def _is_ordered(plan: Plan) -> bool:
    facts: Any = None
    return not any(True for rule in (_ids, _dependencies, _cycles) for _ in rule(plan, facts))


def _tools(plan: Plan, facts: PlanFacts) -> Iterator[PlanIssue]:
    for step in plan["steps"]:
        for at, name in enumerate(granted_tools(step) if "agent" not in step else ()):
            if name not in facts.toolbox:
                yield _issue(
                    "unknown_tool",
                    step,
                    f"step {step['id']!r} uses the tool {name!r}; known tools: {known(facts.toolbox.names)}",
                    *(("call", "tool") if "call" in step else ("tools", at)),
                )


def _agents(plan: Plan, facts: PlanFacts) -> Iterator[PlanIssue]:
    for step in plan["steps"]:
        kind = step_kind(step)
        if kind == "agent" and step["agent"] not in facts.toolbox.agents:
            yield _issue(
                "unknown_agent",
                step,
                f"step {step['id']!r} asks for agent {step['agent']!r}; "
                f"known agents: {known(facts.toolbox.agents)}",
                "agent",
            )
        if kind == "tools" and not facts.has_model:
            yield _issue(
                "missing_model",
                step,
                f"step {step['id']!r} needs a model and none is configured; give one, or fix its call",
                "tools",
            )


def _sub_plans(plan: Plan, facts: PlanFacts) -> Iterator[PlanIssue]:
    for step in plan["steps"]:
        if step_kind(step) != "plan":
            continue
        if not facts.may_nest:
            message = "a sub-plan would be deeper than max_depth allows; write its steps here"
            yield _issue("depth_exceeded", step, f"step {step['id']!r}: {message}", "plan")
        if not facts.has_planner:
            message = "a sub-plan needs a model to plan it and none is configured"
            yield _issue("missing_model", step, f"step {step['id']!r}: {message}", "plan")


def _planner(plan: Plan, facts: PlanFacts) -> Iterator[PlanIssue]:
    if is_rolling(plan) and not facts.has_planner:
        message = (
            "the plan is to go on (complete: false), which needs a model to plan, and none is configured"
        )
        yield _issue("missing_model", None, message, "complete")


def _arguments(plan: Plan, facts: PlanFacts) -> Iterator[PlanIssue]:
    for step in plan["steps"]:
        if "call" in step and step["call"]["tool"] in facts.toolbox:
            schema = facts.toolbox.arguments_schema(step["call"]["tool"])
            for problem, path in _argument_problems(schema, step["call"]["args"]):
                message = f"step {step['id']!r}, tool {step['call']['tool']!r}: {problem}"
                yield _issue("bad_arguments", step, message, "call", "args", *path)


def _argument_problems(
    schema: dict[str, Any], args: dict[str, Any]
) -> Iterator[tuple[str, Sequence[str | int]]]:
    properties = schema.get("properties", {})
    if schema.get("additionalProperties") in (None, False):
        for name in args:
            if name not in properties:
                yield f"unknown argument {name!r}; known arguments: {known(properties)}", [name]
    for error in validator_for(schema)(schema).iter_errors(args):
        if error.validator != "additionalProperties" and not _is_open(error):
            where = ".".join(map(str, error.absolute_path)) or "arguments"
            yield f"{where}: {error.message[:200]}", list(error.absolute_path)


_MUST_BE_EXACT = ("call", "success_criteria", "output_schema", "when", "for_each")
"""What of a step cannot be redacted without making it another step."""


def _secrets(plan: Plan, facts: PlanFacts) -> Iterator[PlanIssue]:
    for step in plan["steps"]:
        for name in _MUST_BE_EXACT:
            for secret in marks_in(step.get(name)):
                yield _secret_issue(step, f"step {step['id']!r}", secret, name)
    for secret in marks_in(plan.get("goal_criteria", [])):
        yield _secret_issue(None, "goal_criteria", secret, "goal_criteria")
    yield from secrets_in_inputs(input_values(plan, facts.inputs))


def secrets_in_inputs(inputs: Mapping[str, Any]) -> list[PlanIssue]:
    """List the inputs that were a secret, or held one: no call can be made with the rest."""
    found = ((name, secret) for name, value in inputs.items() for secret in marks_in(value))
    return [_secret_issue(None, f"the input {name!r}", secret) for name, secret in found]


def _secret_issue(step: Step | None, where: str, secret: str, *field: str) -> PlanIssue:
    return _issue(
        "secret_in_plan",
        step,
        f"{where} holds a secret ({secret}), which a plan must not: let the tool read it from its own "
        "environment",
        *field,
    )


_TEXT_RULES = {"pattern", "format", "minLength", "maxLength", "enum", "const"}
"""What can only be told of a text once the references in it have their values."""


def _is_open(error: InstanceError) -> bool:
    """Tell whether an error says something about a value that is only known at run time."""
    if is_reference(error.instance):
        return True
    if error.validator in _TEXT_RULES and isinstance(error.instance, str) and "${" in error.instance:
        return True
    return error.validator in ("anyOf", "oneOf", "allOf", "not", "if", "enum", "const") and _holds_reference(
        error.instance
    )


def is_reference(value: Any) -> bool:
    """Tell whether a value is exactly one reference; an unreadable one is another rule's business."""
    try:
        return is_single_reference(value)
    except BadReferenceError:
        return True


def _holds_reference(value: Any) -> bool:
    found: list[bool] = []
    map_strings(value, lambda text: found.append(is_reference(text)))
    return any(found)


def _criteria(plan: Plan, _: PlanFacts) -> Iterator[PlanIssue]:
    for step in plan["steps"]:
        if (schema := step.get("output_schema")) is not None and (problem := _schema_problem(schema)):
            message = f"step {step['id']!r}: output_schema {problem}"
            yield _issue("bad_criterion", step, message, "output_schema")
        for at, criterion in enumerate(step.get("success_criteria", ())):
            if found := _criterion_problem(step, criterion):
                message = f"step {step['id']!r}, criterion {criterion['type']!r}: {found[1]}"
                yield _issue(found[0], step, message, "success_criteria", at)


def _criterion_problem(step: Step, criterion: Criterion) -> tuple[str, str] | None:
    wanted = CRITERION_PARAMETER[criterion["type"]]
    given = set(criterion) - {"type"}
    if given != ({wanted} if wanted else set()):
        return "bad_criterion", f"takes {wanted or 'no parameter'}, got {known(given)}"
    value = criterion.get(wanted) if wanted else None
    if criterion["type"] == "matches" and (problem := _pattern_problem(criterion["pattern"])):
        return "bad_criterion", problem
    if criterion["type"] == "json_schema" and (problem := _schema_problem(criterion["schema"])):
        return "bad_criterion", problem
    if criterion["type"] == "expression" and (problem := _expression_problem(criterion["expression"])):
        return "bad_expression", problem
    if criterion["type"] == "tool_succeeded" and value not in granted_tools(step):
        return (
            "bad_criterion",
            f"the step does not use the tool {value!r}; its tools: {known(granted_tools(step))}",
        )
    return None


def _goal_criteria(plan: Plan, facts: PlanFacts) -> Iterator[PlanIssue]:
    for at, criterion in enumerate(plan.get("goal_criteria", ())):
        problems = [
            _goal_problem(criterion, facts.toolbox),
            *_goal_reference_problems(criterion, plan, facts),
        ]
        if found := next((problem for problem in problems if problem), None):
            message = f"goal_criteria, {criterion['type']!r}: {found[1]}"
            yield _issue(found[0], None, message, "goal_criteria", at)


def _goal_problem(criterion: Criterion, toolbox: Toolbox) -> tuple[str, str] | None:
    """Hold a criterion of the goal against all tools, as it says something about all steps together."""
    if criterion["type"] not in GOAL_CRITERIA:
        return "bad_criterion", f"it says nothing about a goal; those that do: {known(GOAL_CRITERIA)}"
    tools = [*toolbox.names, *([tool] if (tool := criterion.get("tool")) and tool in toolbox else [])]
    return _criterion_problem({"id": "goal", "tools": tools}, criterion)


def _goal_reference_problems(
    criterion: Criterion, plan: Plan, facts: PlanFacts
) -> Iterator[tuple[str, str] | None]:
    previous: Mapping[str, Any] = facts.previous or {}
    if previous.get("goal_criteria") == plan.get("goal_criteria"):
        return  # a revision may have replaced a step that they name, and its author cannot change them
    names, inputs = {*steps_by_id(plan), "inputs"}, {*plan["inputs"], *facts.inputs}
    try:
        uses = [expression for _, expression in step_references({"success_criteria": [criterion]})]
    except BadReferenceError as error:
        yield "bad_expression", str(error)
        return
    for expression in [*uses, *([criterion["expression"]] if "expression" in criterion else [])]:
        yield _reference_problem(expression, names, inputs)


def _pattern_problem(pattern: str) -> str | None:
    if _holds_reference(pattern) or "${" in pattern:
        return None
    try:
        regex.compile(pattern)
    except regex.error as error:
        return f"{pattern!r} is not a regular expression: {error}"
    return None


_TYPES = "array, boolean, integer, null, number, object, string"


def _schema_problem(schema: dict[str, Any]) -> str | None:
    try:
        validator_for(schema).check_schema(schema)
    except SchemaError as error:
        if error.path and error.path[-1] == "type":
            return f"is not a JSON Schema: {error.json_path}: {error.instance!r} is no type; known: {_TYPES}"
        return f"is not a JSON Schema: {error.json_path}: {error.message[:200]}"
    return None


def _expression_problem(expression: str) -> str | None:
    try:
        expression_roots(expression)
    except BadReferenceError as error:
        return str(error)
    return None


def _references(plan: Plan, facts: PlanFacts) -> Iterator[PlanIssue]:
    everywhere = {*steps_by_id(plan), "inputs"}
    inputs = {*plan["inputs"], *facts.inputs}
    for step in plan["steps"]:
        try:
            uses = step_references(step)
        except BadReferenceError as error:
            yield _issue("bad_expression", step, f"step {step['id']!r}: {error}", *unreadable_field(step))
            continue
        for where, expression in uses:
            in_a_loop = "for_each" in step and where not in ("for_each", "when")
            names = everywhere | {"item", "index"} if in_a_loop else everywhere
            if found := _reference_problem(expression, names, inputs):
                message = f"step {step['id']!r}, {where}: {found[1]}"
                yield _issue(found[0], step, message, *field_with(step, where, expression))
        if "for_each" in step and not is_single_reference(step["for_each"]):
            message = f"step {step['id']!r}: for_each must be one reference to a list, like ${{step.path}}"
            yield _issue("bad_expression", step, f"{message}; not {step['for_each'][:80]!r}", "for_each")


def _answer(plan: Plan, facts: PlanFacts) -> Iterator[PlanIssue]:
    names, inputs = {*steps_by_id(plan), "inputs"}, {*plan["inputs"], *facts.inputs}
    try:
        uses = references_in(plan.get("answer", ""))
    except BadReferenceError as error:
        yield _issue("bad_expression", None, f"answer: {error}", "answer")
        return
    for reference in uses:
        if found := _reference_problem(reference.expression, names, inputs):
            yield _issue(found[0], None, f"answer: {found[1]}", "answer")


def _reference_problem(expression: str, names: set[str], inputs: set[str]) -> tuple[str, str] | None:
    try:
        roots, path = expression_roots(expression), plain_path(expression)
    except BadReferenceError as error:
        return "bad_expression", str(error)
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


def _inputs(plan: Plan, facts: PlanFacts) -> Iterator[PlanIssue]:
    for name, spec in plan["inputs"].items():
        where = ("inputs", name)
        schema = {key: value for key, value in spec.items() if key != "default"}
        if problem := _schema_problem(schema):
            yield _issue("malformed_plan", None, f"input {name!r} {problem}", *where)
            continue
        wanted = declared_as(schema)
        if "default" in spec and (problem := _value_problem(schema, spec["default"])):
            message = f"input {name!r} is declared as {wanted}, but its default {problem}"
            yield _issue("type_mismatch", None, message, *where, "default")
        if name in facts.inputs:
            if problem := _value_problem(schema, facts.inputs[name]):
                message = f"input {name!r} is declared as {wanted}, but the value given {problem}"
                yield _issue("type_mismatch", None, message, *where)
        elif "default" not in spec:
            message = f"the input {name!r} ({wanted}) has no default and was not given"
            yield _issue("missing_input", None, message, *where)
    for name in facts.inputs if plan["inputs"] else ():
        if name not in plan["inputs"]:
            message = f"the plan has no input {name!r}; known inputs: {known(plan['inputs'])}"
            yield _issue("unresolved_reference", None, message, "inputs")


def declared_as(schema: Mapping[str, Any]) -> str:
    """Say in a few words what an input may be."""
    if "enum" in schema:
        return "one of " + ", ".join(json.dumps(value, ensure_ascii=False) for value in schema["enum"])
    kind = schema.get("type", "any value" if not schema else "a JSON Schema")
    named = " or ".join(kind) if isinstance(kind, list) else str(kind)
    return f"{named} ({schema['format']})" if "format" in schema else named


_FORMATS = FormatChecker()


@_FORMATS.checks("date-time", raises=ValueError)
def _is_date_time(value: object) -> bool:
    # jsonschema 4 checks this format only with a further package installed
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


def _value_problem(schema: dict[str, Any], value: Any) -> str | None:
    """Say how an input's value differs from what is declared; formats count, unlike in an output's schema."""
    error = best_match(validator_for(schema)(schema, format_checker=_FORMATS).iter_errors(value))
    if error is None:
        return None
    shown = json.dumps(value, ensure_ascii=False, default=str)
    inside = f"{error.json_path}: " if error.absolute_path else ""
    return f"{shown[:80]} does not fit: {inside}{error.message[:200]}"


def _finished_work(plan: Plan, facts: PlanFacts) -> Iterator[PlanIssue]:
    now, before = steps_by_id(plan), steps_by_id(facts.previous)
    for step_id, result in facts.results.items():
        if result["status"] != "done" or step_id not in before.keys() | facts.finished.keys():
            continue
        then = facts.finished.get(step_id) or step_fingerprint(before[step_id])
        if step_id not in now or step_fingerprint(now[step_id]) != then:
            what = "changes" if step_id in now else "drops"
            message = f"the revision {what} step {step_id!r}, which is done; give the new work a new id"
            yield _issue("done_step_changed", {"id": step_id}, message)


_RULES: tuple[Rule, ...] = (
    _size,
    _ids,
    _dependencies,
    _cycles,
    _tools,
    _agents,
    _sub_plans,
    _planner,
    _arguments,
    _criteria,
    _goal_criteria,
    _references,
    _answer,
    _inputs,
    _secrets,
)


# --- dependencies that references imply --------------------------------------------------


def _with_implied_dependencies(plan: Plan) -> tuple[Plan, list[PlanIssue]]:
    ids = steps_by_id(plan)
    issues: list[PlanIssue] = []
    for step_id in list(ids):
        for used in _used_steps(ids[step_id], ids):
            if used in ids[step_id]["depends_on"]:
                continue
            if _needs(ids, used, step_id):
                message = f"step {step_id!r} refers to {used!r}, which itself needs the output of {step_id!r}"
                issues.append(_issue("reference_not_a_dependency", ids[step_id], message))
                continue
            ids[step_id] = {**ids[step_id], "depends_on": [*ids[step_id]["depends_on"], used]}
    return {**plan, "steps": list(ids.values())}, issues


def _needs(ids: Mapping[str, Step], step_id: str, other: str) -> bool:
    """Tell whether a step is ``other``, or depends on it directly or not."""
    seen, reached = set(), [step_id]
    while reached:
        current = reached.pop()
        if current == other:
            return True
        if current not in seen:
            seen.add(current)
            reached += ids[current]["depends_on"]
    return False


def _used_steps(step: Step, ids: Mapping[str, Step]) -> list[str]:
    try:
        roots = [
            root for _, expression in step_references(step) for root in sorted(expression_roots(expression))
        ]
    except BadReferenceError:
        return []
    return [root for root in dict.fromkeys(roots) if root in ids]


# --- rules on a plan whose order is known ------------------------------------------------


def _types(plan: Plan, facts: PlanFacts) -> Iterator[PlanIssue]:
    yield from type_issues(plan, facts.toolbox)


def _write_conflicts(plan: Plan, facts: PlanFacts) -> Iterator[PlanIssue]:
    writers: dict[str, list[Step]] = {}
    for step in plan["steps"]:
        if is_satisfied(facts.results.get(step["id"])):
            continue  # what has ended runs beside nothing
        for resource in _written_resources(step, facts.toolbox):
            writers.setdefault(resource, []).append(step)
    for resource, steps in writers.items():
        for at, first in enumerate(steps):
            after = descendants(plan["steps"], [first["id"]])
            for second in steps[at + 1 :]:
                if second["id"] not in after and first["id"] not in descendants(
                    plan["steps"], [second["id"]]
                ):
                    message = (
                        f"steps {first['id']!r} and {second['id']!r} may run at the same time and both write "
                        f"{resource!r}; make one depend on the other"
                    )
                    yield _issue("write_conflict", second, message)


def _written_resources(step: Step, toolbox: Toolbox) -> set[str]:
    args = step["call"]["args"] if "call" in step else None
    writing = [name for name in granted_tools(step) if toolbox.effect(name) != "read"]
    found = {toolbox.known_resource(name, args) for name in writing}
    return {resource for resource in found if resource}


_RULES_ON_ORDER: tuple[Rule, ...] = (_finished_work, _types, _write_conflicts)
