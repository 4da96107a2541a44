"""Check references against the types of outputs that are known before a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ...errors import known
from ...state import Plan, PlanIssue, Step, steps_by_id
from ..references import field_with, is_single_reference, plain_path, references_in, step_references
from ..tools import Tools

__all__ = ["type_issues"]

Schema = Mapping[str, Any]


def type_issues(plan: Plan, toolbox: Tools) -> Iterator[PlanIssue]:
    """Find references that the declared type of their target rules out."""
    outputs = {step_id: _output_schema(step, toolbox) for step_id, step in steps_by_id(plan).items()}
    declared = {**outputs, "inputs": {"type": "object", "properties": plan["inputs"]}}
    for step in plan["steps"]:
        known_here = {**declared, **_loop_names(step, declared)}
        for problem, field in _problems(step, known_here, toolbox):
            message = f"step {step['id']!r}, {problem}"
            yield {"code": "type_mismatch", "step_id": step["id"], "message": message, "field": [*field]}
    for problem, _ in _problems({"id": "answer", "task": plan.get("answer", "")}, declared, toolbox):
        message = f"answer{problem.removeprefix('task')}"
        yield {"code": "type_mismatch", "step_id": None, "message": message, "field": ["answer"]}


def _output_schema(step: Step, toolbox: Tools) -> Schema:
    """Return the declared type of a step's output, from the step or its tool; ``{}`` allows anything."""
    schema: Schema | None = step.get("output_schema")
    if schema is None:
        schema = (toolbox.output_schema(step["call"]["tool"]) if "call" in step else None) or {}
    return {"type": "array", "items": schema} if "for_each" in step else schema


def _loop_names(step: Step, declared: Mapping[str, Schema]) -> dict[str, Schema]:
    if "for_each" not in step:
        return {}
    items = _declared_as(step["for_each"], declared).get("items")
    return {"item": items if isinstance(items, Mapping) else {}, "index": {"type": "integer"}}


def _problems(
    step: Step, declared: Mapping[str, Schema], toolbox: Tools
) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    """Yield each problem with its place in the step."""
    for where, expression in step_references(step):
        path = plain_path(expression)
        if path and path[0] in declared and (problem := _path_problem(declared[path[0]], path)):
            yield f"{where}: ${{{expression}}}: {problem}", field_with(step, where, expression)
    if "for_each" in step and (kind := _kind(_declared_as(step["for_each"], declared))) not in (
        None,
        "array",
    ):
        yield f"for_each: {step['for_each']} is declared as {kind}, not as a list", ("for_each",)
    for name, problem in _argument_problems(step, declared, toolbox):
        yield f"call.args: {problem}", ("call", "args", name)


def _argument_problems(
    step: Step, declared: Mapping[str, Schema], toolbox: Tools
) -> Iterator[tuple[str, str]]:
    """Compare the declared type of a reference's target with the type of the tool's argument."""
    if "call" not in step:
        return
    properties = toolbox.arguments_schema(step["call"]["tool"]).get("properties", {})
    for name, value in step["call"]["args"].items():
        wanted = _kind(properties.get(name, {}))
        given = _kind(_declared_as(value, declared)) if is_single_reference(value) else None
        if given and wanted and given != wanted and (given, wanted) != ("integer", "number"):
            yield name, f"{value} is declared as {given}, the argument {name!r} wants {wanted}"


def _declared_as(reference: str, declared: Mapping[str, Schema]) -> Schema:
    """Return the schema of a single reference's target; ``{}`` if nothing is known."""
    path = plain_path(references_in(reference)[0].expression)
    if not path or path[0] not in declared or _path_problem(declared[path[0]], path):
        return {}
    schema: Any = declared[path[0]]
    for name in path[1:]:
        schema = (schema.get("properties") or {}).get(name, {})
        if not isinstance(schema, Mapping):
            return {}
    found: Schema = schema
    return found


def _kind(schema: Schema) -> str | None:
    kind = schema.get("type")
    return kind if isinstance(kind, str) else None


def _path_problem(schema: Schema, path: list[str]) -> str | None:
    """Return what a schema rules out along a path; what it leaves open is allowed."""
    for depth, name in enumerate(path[1:], start=1):
        kind = schema.get("type")
        if kind is not None and "object" not in (kind if isinstance(kind, list) else [kind]):
            return f"{'.'.join(path[:depth])} is declared as {kind}, it has no member {name!r}"
        properties = schema.get("properties")
        if not properties:
            return None
        if name not in properties:
            closed = schema.get("additionalProperties") in (None, False) and "patternProperties" not in schema
            known_names = (
                f"{'.'.join(path[:depth])} declares no {name!r}; it has: {known(properties, given=name)}"
            )
            return known_names if closed else None
        schema = properties[name]
        if not isinstance(schema, Mapping):
            return None
    return None
