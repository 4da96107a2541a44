"""Check whether two steps may write the same thing at the same time."""

from __future__ import annotations

from collections.abc import Iterator

from ...state import Plan, PlanIssue, Step, granted_tools, is_satisfied
from ..dag import descendants
from ..grants import resources_of
from ..tools import Tools
from .facts import PlanFacts, Rule, issue

__all__ = ["RULES"]


def _write_conflicts(plan: Plan, facts: PlanFacts) -> Iterator[PlanIssue]:
    writers: dict[str, list[Step]] = {}
    for step in plan["steps"]:
        if is_satisfied(facts.results.get(step["id"])):
            continue  # A step that has ended runs at the same time as nothing.
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
                    yield issue("write_conflict", second, message)


def _written_resources(step: Step, toolbox: Tools) -> set[str]:
    writing = [name for name in granted_tools(step) if toolbox.effect(name) != "read"]
    return resources_of(step, toolbox, {}, writing)


RULES: tuple[Rule, ...] = (_write_conflicts,)
