"""Compare what an agent says that it did with the calls that it made."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import NothingDoneError, known
from ..state import TOOLS_CALLED, CriterionResult, Evidence, Step
from ..tools.toolbox import Toolbox

__all__ = ["require_done", "uncalled"]


def require_done(
    step: Step,
    outcomes: Sequence[CriterionResult],
    evidence: Sequence[Evidence],
    toolbox: Toolbox,
    *,
    declared: bool,
) -> None:
    """Refuse the answer of an agent that should have changed something, but did not.

    Args:
        step: An agent step.
        outcomes: How its checks came out.
        evidence: The calls it made.
        toolbox: Knows the effects of the calls.
        declared: Whether it said that there was nothing to do.

    Raises:
        NothingDoneError: If it made no successful write, no criterion passed, and it did not say so.
    """
    writes = [name for name in step["tools"] if toolbox.effect(name) == "write"]
    wrote = any(call["ok"] and call["effect"] == "write" for call in evidence)
    passed = [outcome["type"] for outcome in outcomes if outcome["passed"]]
    if "output_schema" in step:
        passed.remove("json_schema")  # A fitting output form does not prove that anything was done.
    if not writes or wrote or declared or passed:
        return
    raise NothingDoneError(
        f"no call of {known(writes)} succeeded, so nothing shows that the step was done; its agent did not "
        "say `NOTHING TO DO` either"
    )


def uncalled(step: Step, evidence: Sequence[Evidence]) -> list[CriterionResult]:
    """Add a note if an agent was given tools and called none."""
    if not step["tools"] or evidence:
        return []
    gap = f"its agent called none of its tools ({known(step['tools'])})"
    return [{"type": TOOLS_CALLED, "passed": None, "gap": gap}]
