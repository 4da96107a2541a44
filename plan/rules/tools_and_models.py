"""Check whether everything that the steps need exists: tools with fitting arguments, agents, models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ...errors import WorkLimitError, known, nearest
from ...state import MODEL_FIELDS, Plan, PlanIssue, granted_tools, step_kind
from ..dag import is_rolling
from .facts import PlanFacts, Rule, issue
from .references import holds_reference, is_reference

if TYPE_CHECKING:
    from ...safety.schemas import Problem

__all__ = ["RULES"]


def _tools(plan: Plan, facts: PlanFacts) -> Iterator[PlanIssue]:
    for step in plan["steps"]:
        for at, name in enumerate(granted_tools(step) if "agent" not in step else ()):
            if name not in facts.toolbox:
                yield issue(
                    "unknown_tool",
                    step,
                    f"step {step['id']!r} uses the tool {name!r}; "
                    f"known tools: {known(facts.toolbox.names, given=name)}",
                    *(("call", "tool") if "call" in step else ("tools", at)),
                )


def _agents(plan: Plan, facts: PlanFacts) -> Iterator[PlanIssue]:
    for step in plan["steps"]:
        kind = step_kind(step)
        if kind == "agent" and step["agent"] not in facts.toolbox.agents:
            yield issue(
                "unknown_agent",
                step,
                f"step {step['id']!r} names the agent {step['agent']!r}; known agents: "
                f"{known(facts.toolbox.agents)}",
                "agent",
            )
        if kind == "tools" and not facts.has_model:
            yield issue(
                "missing_model",
                step,
                f"step {step['id']!r} needs a model, but none is configured; give one, or fix its call",
                "tools",
            )


def _models(plan: Plan, facts: PlanFacts) -> Iterator[PlanIssue]:
    for step in plan["steps"]:
        for name in MODEL_FIELDS:
            if (named := step.get(name)) and (problem := facts.model_problem(named)):
                yield issue("unknown_model", step, f"step {step['id']!r}, {name}: {problem}", name)


def _sub_plans(plan: Plan, facts: PlanFacts) -> Iterator[PlanIssue]:
    for step in plan["steps"]:
        if step_kind(step) != "plan":
            continue
        if not facts.may_nest:
            message = "a sub-plan would be deeper than max_depth allows; write its steps here"
            yield issue("depth_exceeded", step, f"step {step['id']!r}: {message}", "plan")
        if not facts.has_planner:
            message = "a sub-plan needs a model to plan it, but none is configured"
            yield issue("missing_model", step, f"step {step['id']!r}: {message}", "plan")


def _planner(plan: Plan, facts: PlanFacts) -> Iterator[PlanIssue]:
    if is_rolling(plan) and not facts.has_planner:
        message = (
            "the plan is not complete (complete: false), so a model has to plan its next steps, "
            "but none is configured"
        )
        yield issue("missing_model", None, message, "complete")


def _arguments(plan: Plan, facts: PlanFacts) -> Iterator[PlanIssue]:
    tools = facts.toolbox.names
    for step in plan["steps"]:
        if "call" in step and step["call"]["tool"] in tools:
            from ...safety.schemas import BadSchemaError

            who = f"step {step['id']!r}, tool {step['call']['tool']!r}"
            try:
                schema = facts.toolbox.arguments_schema(step["call"]["tool"])
                for problem, path in _argument_problems(schema, step["call"]["args"]):
                    yield issue("bad_arguments", step, f"{who}: {problem}", "call", "args", *path)
            except BadSchemaError as error:
                message = f"{who}: the schema of its arguments cannot be used: {error}"
                yield issue("bad_schema", step, message, "call", "tool")
            except WorkLimitError as error:
                message = f"{who}: its arguments cannot be checked: {error}"
                yield issue("bad_arguments", step, message, "call", "args")


def _state(plan: Plan, facts: PlanFacts) -> Iterator[PlanIssue]:
    tools = facts.toolbox.names
    for step in plan["steps"]:
        if "call" not in step or step["call"]["tool"] not in tools:
            continue
        who = f"step {step['id']!r}, tool {step['call']['tool']!r}"
        for field in facts.toolbox.missing_state(step["call"]["tool"]):
            message = (
                f"{who}: it needs {field!r} of an agent's state, but a bound step has only 'messages'; "
                "let an agent call it (tools)"
            )
            yield issue("bad_arguments", step, message, "call", "tool")


def _argument_problems(
    schema: dict[str, Any], args: dict[str, Any]
) -> Iterator[tuple[str, Sequence[str | int]]]:
    from ...safety.schemas import read_schema

    read = read_schema(schema)
    properties = schema.get("properties", {})
    if schema.get("additionalProperties") in (None, False):
        for name in args:
            if name not in properties:
                yield f"unknown argument {name!r}; known arguments: {known(properties, given=name)}", [name]
    # An argument with a misspelt name is not also missing: that is one mistake.
    meant = {nearest(name, set(properties) - set(args)) for name in args if name not in properties}
    misspelt = tuple(f"{name!r} is a required" for name in meant if name)
    for error in read.problems(args):
        if error.validator == "required" and not error.absolute_path and error.message.startswith(misspelt):
            continue
        if error.validator != "additionalProperties" and not _is_open(error):
            where = ".".join(map(str, error.absolute_path)) or "arguments"
            yield f"{where}: {error.message[:200]}", list(error.absolute_path)


_TEXT_RULES = {"pattern", "format", "minLength", "maxLength", "enum", "const"}
"""Keywords that can be checked on a text only after its references have values."""


def _is_open(error: Problem) -> bool:
    """Tell whether an error is about a value that is known only at run time."""
    if is_reference(error.instance):
        return True
    if error.validator in _TEXT_RULES and isinstance(error.instance, str) and "${" in error.instance:
        return True
    return error.validator in ("anyOf", "oneOf", "allOf", "not", "if", "enum", "const") and holds_reference(
        error.instance
    )


RULES: tuple[Rule, ...] = (_tools, _agents, _models, _sub_plans, _planner, _arguments, _state)
