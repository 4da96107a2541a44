"""Compute what an approval of a plan allows: tools, effects, and the resources that its calls touch.

A resource that is known is resolved. A resource that depends on a later output is granted as exactly the
reference that the person saw; a revision with another reference needs approval.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from typing import Any

from ..errors import UnresolvedReferenceError
from ..state import Grants, Plan, Step, granted_tools
from .references import expression_roots, references_in, resolve, step_references, strings_in
from .tools import Tools

__all__ = [
    "asks_for_values",
    "changed_tools",
    "covers",
    "filled",
    "is_within",
    "open_resources",
    "plan_grants",
    "resources_of",
    "touched",
]

Values = Mapping[str, Any]
"""The known values of references: inputs, and outputs by step id."""


def plan_grants(plan: Plan, toolbox: Tools, values: Values) -> Grants:
    """Return what approving a plan allows."""
    calls = [(step, name) for step in plan["steps"] for name in granted_tools(step)]
    tools = sorted({name for _, name in calls})
    found = [(step, name, touched(step, name, toolbox, values)) for step, name in calls]
    later = {_as_written(step, name, toolbox) for step, name, resources in found if None in resources}
    return {
        "tools": tools,
        "effects": [str(effect) for effect in toolbox.effects(tools)],
        "resources": sorted({one for _, _, resources in found for one in resources if one is not None}),
        "at_run_time": sorted(later),
        "fingerprints": toolbox.fingerprints(tools),
    }


def is_within(asked: Grants, allowed: Grants) -> bool:
    """Tell whether a plan adds no tool, effect or resource to what was approved."""
    new, old = dict[str, Any](asked), dict[str, Any](allowed)
    parts = ("tools", "effects", "resources", "at_run_time")
    adds_none = all(set(new.get(part, ())) <= set(old.get(part, ())) for part in parts)
    return adds_none and not changed_tools(new.get("fingerprints", {}), old)


def covers(standing: Mapping[str, Any], asked: Grants) -> bool:
    """Tell whether a standing grant covers a plan; its resources are patterns such as ``mail:*``.

    Only ``*`` covers a resource that is known only at run time.
    """
    patterns = standing["resources"]
    return (
        set(asked["tools"]) <= set(standing["tools"])
        and set(asked["effects"]) <= set(standing["effects"])
        and all(any(fnmatchcase(name, each) for each in patterns) for name in asked["resources"])
        and ("*" in patterns or not asked.get("at_run_time"))
    )


def changed_tools(now: Mapping[str, str], approved: Mapping[str, Any]) -> list[str]:
    """List the tools that have changed since the approval; approvals of older versions do not say."""
    then = approved.get("fingerprints", {})
    return sorted(name for name, fingerprint in now.items() if then.get(name, fingerprint) != fingerprint)


def resources_of(
    step: Step, toolbox: Tools, values: Values, tools: Collection[str] | None = None
) -> set[str]:
    """List the known resources that a step's calls (of these tools) will touch."""
    named = granted_tools(step) if tools is None else tools
    return {known for name in named for known in touched(step, name, toolbox, values) if known is not None}


def open_resources(step: Step, toolbox: Tools, values: Values) -> set[str]:
    """List a step's resources that are known only at run time, as written in the plan."""
    return {
        _as_written(step, name, toolbox)
        for name in granted_tools(step)
        if None in touched(step, name, toolbox, values)
    }


def touched(step: Step, tool: str, toolbox: Tools, values: Values) -> set[str | None]:
    """List the resources of a tool's calls in a step; None stands for an unknown one."""
    if toolbox.template(tool) is None:
        return set()
    args = step["call"]["args"] if "call" in step else {}
    return {toolbox.known_resource(tool, _known_part(args, scope)) for scope in _scopes(step, values)}


def _scopes(step: Step, values: Values) -> list[Values]:
    """Return the known values for each run of a step: one, or one per item if the list is known."""
    items = _known(step["for_each"], values) if "for_each" in step else None
    if isinstance(items, list):
        return [{**values, "item": item, "index": at} for at, item in enumerate(items)]
    return [values]


def filled(value: Any, values: Values) -> Any:
    """Write a part of a plan with the known values; the rest stays as it is written."""
    if isinstance(value, Mapping):
        return {key: filled(member, values) for key, member in value.items()}
    if isinstance(value, list):
        return [filled(member, values) for member in value]
    found = _known(value, values)
    return value if found is _UNKNOWN else found


def _known_part(args: Mapping[str, Any], values: Values) -> dict[str, Any]:
    found = {name: _known(value, values) for name, value in args.items()}
    return {name: value for name, value in found.items() if value is not _UNKNOWN}


_UNKNOWN = object()


def _known(value: Any, values: Values) -> Any:
    used = {
        root
        for text in strings_in(value)
        for reference in references_in(text)
        for root in expression_roots(reference.expression)
    }
    if not used <= values.keys():
        return _UNKNOWN
    try:
        return resolve(value, values)
    except UnresolvedReferenceError:
        return _UNKNOWN


def _as_written(step: Step, name: str, toolbox: Tools) -> str:
    template = toolbox.template(name)
    args = step["call"]["args"] if "call" in step else {}
    written = [f"{field} = {args[field]}" for field in toolbox.template_fields(name) if field in args]
    loop = [f"for each of {step['for_each']}"] if "for_each" in step and written else []
    return ", ".join([str(template), *written, *loop])


def asks_for_values(step: Mapping[str, Any], confirm: str, toolbox: Tools) -> bool:
    """Tell whether a person must see the arguments of a step's call before it is made.

    Args:
        step: The step.
        confirm: The setting: ``marked`` or ``computed``.
        toolbox: Knows the tool's effect.
    """
    # A person who approved the step itself saw its final values.
    if "call" not in step or step.get("approve"):
        return False
    if step.get("confirm"):
        return True
    is_write = toolbox.effect(step["call"]["tool"]) == "write"
    return confirm == "computed" and is_write and _is_computed(step)


def _is_computed(step: Mapping[str, Any]) -> bool:
    """Tell whether arguments come from outputs of other steps."""
    roots: dict[str, set[str]] = {"call.args": set(), "for_each": set()}
    for where, expression in step_references(step):
        roots.setdefault(where, set()).update(expression_roots(expression))
    used = roots["call.args"] | (roots["for_each"] if "item" in roots["call.args"] else set())
    return bool(used - {"inputs", "item", "index"})
