"""Check whether a revision leaves finished work alone."""

from __future__ import annotations

from collections.abc import Iterator

from ...state import Plan, PlanIssue, steps_by_id
from ..identity import step_fingerprint
from .facts import PlanFacts, Rule, issue

__all__ = ["RULES"]


def _finished_work(plan: Plan, facts: PlanFacts) -> Iterator[PlanIssue]:
    now, before = steps_by_id(plan), steps_by_id(facts.previous)
    for step_id, result in facts.results.items():
        if result["status"] != "done" or step_id not in before.keys() | facts.finished.keys():
            continue
        then = facts.finished.get(step_id) or step_fingerprint(before[step_id])
        if step_id not in now or step_fingerprint(now[step_id]) != then:
            what = "changes" if step_id in now else "drops"
            message = f"the revision {what} step {step_id!r}, which is done; give the new work a new id"
            yield issue("done_step_changed", {"id": step_id}, message)


RULES: tuple[Rule, ...] = (_finished_work,)
