"""Say which tools there are, in the words of a prompt."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

__all__ = ["describe_forms", "describe_tools"]


class Inventory(Protocol):
    """Anything that can list tools as name, description, arguments (JSON Schema) and effect."""

    def inventory(self) -> Sequence[Mapping[str, Any]]:
        """List the tools."""
        ...

    @property
    def agents(self) -> Mapping[str, Any]:
        """The named agents, each with ``effect`` and ``description``."""
        ...


def describe_tools(tools: Inventory) -> str:
    """Describe the inventory: one tool a line, with its arguments and effect."""
    lines = [
        f"- {tool['name']} [{tool['effect']}]: {' '.join(tool['description'].split())}\n"
        f"  arguments: {json.dumps(_compact(tool['arguments']), ensure_ascii=False)}"
        for tool in tools.inventory()
    ]
    return "\n".join(lines) or "(none: every step is thinking or writing)"


def describe_forms(inventory: Inventory, *, sub_plans: bool) -> str:
    """Describe the kinds of steps that this inventory adds: named agents, and sub-plans if allowed."""
    lines = []
    if inventory.agents:
        lines.append("- `agent`: hand the step to one of these instead of `call` and `tools`; else null.")
        lines += [f"  - {a.name} [{a.effect}]: {a.description}" for a in inventory.agents.values()]
    if sub_plans:
        lines.append("- `goal`: for a part too large to plan here, the goal of a plan of its own; else null.")
    return "\n".join(lines)


def _compact(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out of an argument schema what a planner does not need: titles and the repeated description."""
    kept = {key: schema[key] for key in ("properties", "required", "$defs") if schema.get(key)}
    properties = {
        name: {key: value for key, value in spec.items() if key != "title"}
        if isinstance(spec, Mapping)
        else spec
        for name, spec in kept.pop("properties", {}).items()
    }
    return {"properties": properties, **kept}
