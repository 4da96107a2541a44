"""Describe the tools, and how to write a plan with them, in a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from ...plan.criteria import examples
from ...state import digest
from . import fill_fragment, quote
from .signatures import signature

__all__ = ["describe_effects", "describe_form", "quoted_tools"]


class Inventory(Protocol):
    """Anything that can list tools as name, description, arguments (JSON Schema) and effect."""

    def inventory(self) -> Sequence[Mapping[str, Any]]:
        """List the tools."""
        ...

    @property
    def agents(self) -> Mapping[str, Any]:
        """The named agents, each with ``effect`` and ``description``."""
        ...


def quoted_tools(tools: Inventory, seen: Mapping[str, Any]) -> str:
    """Describe the inventory: one tool a line, as a call with the types of its arguments.

    The quotation's mark is made from the quoted text, not from the run, so that the prompt begins the same in
    every run and a provider can cache it. Knowing the mark helps nobody, because every occurrence in the text
    is blanked.

    Args:
        tools: The inventory.
        seen: Output forms that earlier runs saw, for tools that declare none.
    """
    lines = [
        signature({**tool, "output": tool["output"] or seen.get(tool["name"])}) for tool in tools.inventory()
    ]
    text = "\n".join(lines) or "(none: every step is thinking or writing)"
    return quote("tools", text, digest(text)[:8])


def describe_effects(tools: Inventory) -> str:
    """Explain the marks next to the tools; nothing if all of them only read."""
    if all(tool["effect"] == "read" for tool in tools.inventory()):
        return ""
    return " Use one that is marked [write], which changes the world, only where the goal asks for it."


def describe_form(
    form: Literal["lines", "fields"],
    inventory: Inventory,
    *,
    model_classes: Sequence[str] = (),
    sub_plans: bool,
) -> str:
    """Describe how to write a plan, with the kinds of steps that this inventory and these models allow."""
    how = {"lines": "plan_lines", "fields": "plan_fields"}[form]
    forms = _kinds(form, inventory, sub_plans=sub_plans)
    if model_classes:
        forms.append(_MODELS[form].format(classes="; ".join(_CLASSES[name] for name in model_classes)))
    return fill_fragment(how, criteria=examples(), forms="\n".join(forms))


_MODELS = {
    "lines": "- `model=…`, at work in words only, says which model does it: {classes}. Without it, the "
    "usual one.",
    "fields": "- `model`, of a step without `call`: which model does it: {classes}. Null: the usual one.",
}
_CLASSES = {
    "fast": "`fast` is quick and cheap, for work that is easy to get right",
    "strong": "`strong` is slow and costly, for work that needs careful thought",
}


_KINDS = {
    "lines": (
        "- `else_of=2`: the step runs exactly when step 2 was skipped by its `if`. `if_failed=[1]`: it runs "
        "only when step 1 fails.",
        "- References and conditions may count: `add($1.price, 2)`, `subtract`, `multiply`, `divide`, "
        "`round`; `upper`, `lower`, `now()`, `add_days(now(), 7)`. `each=[$1, $2]` takes lists side by "
        "side: `$item[0]`, `$item[1]`.",
        '- `name "what to do"`: work for one of these agents instead:',
        '- `goal "…"`: a part too large to plan here, which gets a plan of its own.',
    ),
    "fields": (
        "- `else_of`: the id of a step with `when`; this one runs exactly when that one was skipped by it; "
        "else null. `if_failed`: ids of steps; it runs only when one of them fails; else [].",
        "- References and `when` may count: `${add(a.price, `2`)}`, `subtract`, `multiply`, `divide`, "
        "`round`; `upper`, `lower`, `now()`, `add_days(now(), `7`)`. `for_each` of several lists: "
        "`${zip(a, b)}`, with `${item[0]}`, `${item[1]}`.",
        "- `agent`: hand the step to one of these instead of `call` and `tools`; else null.",
        "- `goal`: for a part too large to plan here, the goal of a plan of its own; else null.",
    ),
}
"""How each form introduces branches, functions, agent steps and sub-plans."""


def _kinds(form: Literal["lines", "fields"], inventory: Inventory, *, sub_plans: bool) -> list[str]:
    branches, functions, for_agents, for_a_goal = _KINDS[form]
    tools = inventory.inventory()
    lines = [branches] if len(tools) > 1 else []
    lines += [functions] if any(map(_takes_numbers, tools)) else []
    lines += [for_agents, *_listed(inventory)] if inventory.agents else []
    return [*lines, for_a_goal] if sub_plans else lines


def _takes_numbers(tool: Mapping[str, Any]) -> bool:
    """Tell whether a tool takes numbers or dates, which a plan may have to compute."""
    arguments = tool["arguments"].get("properties", {}).values()
    return any(
        isinstance(one, Mapping)
        and (one.get("type") in ("number", "integer") or one.get("format") in ("date", "date-time"))
        for one in arguments
    )


def _listed(inventory: Inventory) -> list[str]:
    return [f"  - {a.name} [{a.effect}]: {a.description}" for a in inventory.agents.values()]
