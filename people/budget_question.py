"""Ask when the soft share of a budget is used up, and apply the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..run import Run, audit_event
from ..spending.periods import SoftLimit
from ..state import AuditEvent, Evaluation, State, new_evaluation
from .asking import ask_person
from .questions import Answer

__all__ = ["ask_about_budget"]

_ANSWERED = "budget_answered"
"""The event for an answer; a run that continues after it asks again at the next limit."""


async def ask_about_budget(
    soft: SoftLimit, decided: Evaluation, left: Sequence[str], state: State, run: Run
) -> tuple[Evaluation, list[AuditEvent]]:
    """Ask whether to extend the budget; return the decision, and the answer for the record.

    Args:
        soft: The budget.
        decided: The decision so far, if the budget has room for it.
        left: Ids of the steps that have not run.
        state: The graph's state.
        run: The run; its budget is extended here and recorded before the answer counts.

    Raises:
        langgraph.errors.GraphInterrupt: While there is no answer.
    """
    args, description = _proposal(soft, left or [decided["decision"]])
    plan = state.get("plan")
    occasion = sum(event["event"] == _ANSWERED for event in state.get("audit") or ())
    key = [plan["id"] if plan else None, soft.budget, soft.limit, occasion]
    answer = await ask_person(run, key, "extend_budget", args, description)
    amount = answer["args"]["by"] if answer["decision"] == "extend" else None
    event = audit_event(
        run,
        state,
        _ANSWERED,
        at=answer.get("at"),
        decision=answer["decision"] + (f" by {amount:g}" if amount is not None else ""),
        by=answer["by"],
        trigger=answer["message"],
        evidence=[f"{soft.budget}: {soft.used:g} of {soft.limit:g}"],
    )
    if amount is None:
        return _ended(soft, answer), [event]
    await run.extend_budget(soft.budget, amount)
    return decided, [event]


def _proposal(soft: SoftLimit, left: Sequence[str]) -> tuple[dict[str, Any], str]:
    limit = int(soft.limit) if float(soft.limit).is_integer() else soft.limit
    args = {
        "budget": soft.budget,
        "spent": round(soft.used, 6),
        "limit": limit,
        "decision": "extend",
        "by": limit,
    }
    description = (
        f"**{soft.used:g} of {soft.limit:g}** of the budget `{soft.budget}` are used up. Still "
        f"to do: {', '.join(left)}.\n- `extend`: continue with `by` more of it (proposed: "
        f"{limit:g})\n- `finish`: end with what there is\n- `abort`: end the run"
    )
    return args, description


def _ended(soft: SoftLimit, answer: Answer) -> Evaluation:
    ending = "finish with what there is" if answer["decision"] == "finish" else "end the run"
    said = f": {answer['message']}" if answer["message"] else ""
    reason = f"At {soft.used:g} of {soft.budget}={soft.limit:g} it was decided to {ending}{said}."
    return new_evaluation("abort", reason, by=answer["by"])
