"""Name in the answer's first line the results that nobody checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ..plan.trust import unverified_sources
from ..state import TOOLS_CALLED, Evidence, Plan, Step, StepResult

__all__ = ["not_verified", "unverified_results"]

_NAMED = 5


def not_verified(plan: Plan, results: Mapping[str, StepResult]) -> str:
    """Return the line, or "" if every result that matters was checked."""
    found = list(unverified_results(plan, results))
    if not found:
        return ""
    named = ", ".join(found[:_NAMED]) + (f" and {len(found) - _NAMED} more" if len(found) > _NAMED else "")
    return f"Not verified: nobody checked the result{'s' if len(found) > 1 else ''} of {named}."


def unverified_results(plan: Plan, results: Mapping[str, StepResult]) -> Iterator[str]:
    """Name the steps that are done and unverified, and that did more than think.

    A step without tools that only thinks or writes claims nothing that can be checked. It is named only if
    one of its checks could not be made, or a write used its output.
    """
    written = {
        source
        for step_id, sources in unverified_sources(plan).items()
        if any(call["ok"] and call["effect"] != "read" for call in _calls(results.get(step_id)))
        for source in sources
    }
    for step in plan["steps"]:
        result = results.get(step["id"])
        if result is None or (result["status"], result["verdict"]) != ("done", "unverified"):
            continue
        if _acts(step) or step["id"] in written or _has_open_check(result):
            yield step["id"]


def _calls(result: StepResult | None) -> Sequence[Evidence]:
    return result["evidence"] if result else ()


def _acts(step: Step) -> bool:
    return bool(step.get("tools")) or "agent" in step or "plan" in step


def _has_open_check(result: StepResult) -> bool:
    return any(one["passed"] is None and one["type"] != TOOLS_CALLED for one in result["criteria"])
