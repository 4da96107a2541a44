"""Refuse a plan that cannot run, and find out whether a person must approve one that can."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.runtime import Runtime

from ..context import Context
from ..errors import ApprovalImpossibleError
from ..models.chat import ChatModels
from ..people.approvals import (
    approval_state,
    grants_of,
    inputs_digest,
    maker_of,
    record_approval,
    standing_approval,
)
from ..plan.grants import is_within
from ..plan.identity import plan_difference, plan_hash, step_fingerprints
from ..plan.revision import edited_revision, with_new_ids_for_reruns
from ..plan.rules import PlanFacts, validate_plan
from ..run import Node, Run, Update, audit_event, emit, run_of
from ..spending.prices import price_problem
from ..state import Approval, By, Draft, Grants, Plan, PlanIssue, State, digest, feedback_of, new_evaluation
from ..tools.threads import run_bounded
from ..tools.toolbox import Toolbox

__all__ = ["make_validator"]


def make_validator(models: ChatModels, toolbox: Toolbox) -> Node:
    """Build the validator node: a draft in, a plan with its approval or the issues out."""
    return _Validator(models, toolbox)


@dataclass(frozen=True, eq=False)
class _Validator:
    """The validator node."""

    models: ChatModels
    toolbox: Toolbox

    async def __call__(self, state: State, config: RunnableConfig, runtime: Runtime[Context]) -> Update:
        run, draft = run_of(config), state.get("draft")
        if draft is None:
            return {}
        # A client may have written the draft into the state, so the rules look for the marks of secrets.
        draft = run.redact(draft)
        facts = await self._facts(state, draft, run)
        plan, issues = await run_bounded(self._judged, draft, facts)
        if issues or plan is None:
            emit(runtime, run, "plan_validated", source=draft["source"], issues=issues)
            return _refused(state, draft, run, issues)
        update = await self._accepted(state, draft, plan, run)
        emit(runtime, run, "plan_validated", source=draft["source"], issues=[], plan=update["plan"])
        if update["approval"]["decision"] != "needed":
            emit(runtime, run, "plan_approved", by={"kind": "policy"})
        return update

    def _judged(self, draft: Draft, facts: PlanFacts) -> tuple[Plan | None, list[PlanIssue]]:
        """Validate a plan; remove a model's planned answer if it could not be filled in, and say so.

        The answer is then written from the results, which costs less than another plan. But if the answer
        refers to a step that does not exist, the plan may lack that step.
        """
        plan, issues = validate_plan(draft["plan"], facts)
        only_its_answer = bool(issues) and all(_is_form_of_answer(issue) for issue in issues)
        if only_its_answer and draft["source"] in ("planner", "replanner"):
            note = f"The planned answer was left out: {issues[0]['message']}."
            rationale = f"{draft['plan'].get('rationale') or ''} {note}".strip()
            return validate_plan({**draft["plan"], "answer": "", "rationale": rationale}, facts)
        return plan, issues

    async def _facts(self, state: State, draft: Draft, run: Run) -> PlanFacts:
        by_model = draft["source"] in ("planner", "replanner")
        previous = None if draft["source"] == "given" else state.get("plan")
        return PlanFacts(
            toolbox=self.toolbox,
            step_limit=run.settings.step_limit(by_model=by_model, kept=_kept(previous, draft["plan"])),
            inputs=state.get("inputs") or {},
            has_model=self.models.has("executor", run.settings.models),
            has_planner=self.models.has("planner", run.settings.models),
            model_problem=partial(self._model_problem, run=run, by_model=by_model),
            may_nest=run.may_nest,
            previous=previous,
            results=state.get("results") or {},
            finished=await _fingerprints(previous, run),
            goal=state.get("goal") or "",
        )

    def _model_problem(self, named: str, *, run: Run, by_model: bool) -> str:
        overrides = run.settings.models
        if problem := self.models.problem_with(named, overrides, classes_only=by_model):
            return problem
        model = self.models.get("executor", overrides, named)
        return price_problem(model, run.settings, run.meter.prices)

    async def _accepted(self, state: State, draft: Draft, plan: Plan, run: Run) -> Update:
        if not run.can_ask and (asking := [step["id"] for step in plan["steps"] if step.get("approve")]):
            raise ApprovalImpossibleError(
                f"step {asking[0]!r} says approve: true, but nobody can be asked: give a checkpointer="
            )
        if draft["source"] == "person" and (current := state.get("plan")):
            plan = await _with_new_ids(edited_revision(plan, current), current, state, run)
        event = audit_event(
            run,
            {**state, "plan": plan},
            "plan_accepted",
            trigger=draft["source"],
            difference=plan_difference(state.get("plan") if draft["source"] != "given" else None, plan),
        )
        replans = state.get("replans", 0) + (draft["source"] == "replanner")
        return {
            "plan": plan,
            "plan_issues": [],
            "approval": await self._approval(state, draft, plan, run),
            "replans": replans,
            "audit": [event],
        }

    async def _approval(self, state: State, draft: Draft, plan: Plan, run: Run) -> Approval:
        """Find or record what allows this plan to run; return ``needed`` if only a person can."""
        said = feedback_of(state)
        state = {**state, "plan": plan}
        if (record := await standing_approval(run, state, self.toolbox)) is not None:
            return approval_state(record, said)
        grants = await grants_of(run, state, self.toolbox)
        if implied := await self._implied_decision(draft, state, grants, run):
            await record_approval(run, state, self.toolbox, *implied)
            # An edit by somebody who may not approve this plan does not approve it.
            if (record := await standing_approval(run, state, self.toolbox)) is not None:
                return approval_state(record, said)
        fingerprint = plan_hash(plan, state.get("inputs"))
        return {"decision": "needed", "plan_hash": fingerprint, "grants": grants, "feedback": said}

    async def _implied_decision(
        self, draft: Draft, state: State, grants: Grants, run: Run
    ) -> tuple[str, By] | None:
        """Return what already approves the plan, and who did: an edit, or an earlier approval that covers it.

        Each is for the inputs of that time; approvals of earlier versions do not name them.
        """
        plan, inputs = state["plan"], inputs_digest(state)
        assert plan is not None, "only a plan can be approved"
        recorded = await run.ledger.approvals(plan["id"])
        earlier = [record for record in recorded if record.get("inputs", inputs) == inputs]
        edits = [one for one in earlier if one.get("edit") == draft["plan"] and "inputs" in one]
        if draft["source"] == "person" and edits:
            return "edited", maker_of(edits[-1])
        if digest(draft["plan"]) not in run.authored:
            return None
        # A standing grant expires, and was already checked for this revision.
        lasting = [record for record in earlier if "until" not in record]
        given = [record for record in lasting if record["decision"] in ("approved", "edited")]
        covering = [record for record in given if is_within(grants, record["grants"])]
        return ("approved", maker_of(covering[-1])) if covering else None


def _is_form_of_answer(issue: PlanIssue) -> bool:
    return issue.get("field") == ["answer"] and issue["code"] in (
        "bad_expression",
        "bad_reference",
        "type_mismatch",
    )


def _refused(state: State, draft: Draft, run: Run, issues: list[Any]) -> Update:
    update: Update = {
        "plan_issues": issues,
        "audit": [
            audit_event(
                run,
                state,
                "plan_refused",
                trigger=draft["source"],
                evidence=[f"{issue['code']}: {issue['message']}" for issue in issues],
            )
        ],
    }
    spent = draft.get("attempt", 1) >= run.settings.max_plan_attempts
    if draft["source"] == "given" or (draft["source"] in ("planner", "replanner") and spent):
        codes = ", ".join(dict.fromkeys(issue["code"] for issue in issues))
        reason = f"The plan cannot run ({codes})."
        update["evaluation"] = new_evaluation("abort", reason, by="limit")
    return update


def _kept(previous: Plan | None, drafted: Any) -> int:
    """Count the steps that a draft, which may have any form, leaves unchanged."""
    before = set(step_fingerprints(previous).values())
    steps = drafted.get("steps") if before and isinstance(drafted, Mapping) else None
    return sum(digest(step) in before for step in steps) if isinstance(steps, list) else 0


async def _fingerprints(plan: Plan | None, run: Run) -> dict[str, str]:
    """Find the finished steps as they were when they ran, since the state's plan may have been edited."""
    rows = await run.ledger.results(plan["id"]) if plan else {}
    return {step_id: row["fingerprint"] for step_id, row in rows.items()}


async def _with_new_ids(plan: Plan, current: Plan, state: State, run: Run) -> Plan:
    """Give new ids to the steps of an edit that must run again.

    They are compared with the revision that ran last in this fork, because the plan in the state may have
    been edited since, and another fork may have run another one. A later revision on record is either this
    edit, which a crash interrupted, or one of another fork, whose ids have other meanings.
    """
    results, approval = state.get("results") or {}, state.get("approval")
    approved = approval.get("plan_hash") if approval else None
    records = [record for record in await run.ledger.approvals(plan["id"]) if "steps" in record]
    is_later = [record.get("revision", 0) > current["revision"] for record in records]
    later = [record["steps"] for record, late in zip(records, is_later, strict=True) if late]
    ran = [record for record, late in zip(records, is_later, strict=True) if not late]
    ran.sort(key=lambda record: record["plan_hash"] == approved)
    before = ran[-1]["steps"] if ran else step_fingerprints(current)
    renamed = with_new_ids_for_reruns(plan, before, results)
    if not later or step_fingerprints(renamed) in later:
        return renamed
    return with_new_ids_for_reruns(plan, before, results, taken={name for steps in later for name in steps})
