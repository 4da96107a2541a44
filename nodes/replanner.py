"""Revise the plan: write new steps for what failed, or for everything not done. Finished work stays."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.runtime import Runtime

from ..context import Context
from ..errors import BudgetExceededError, ModelCallError
from ..execution.account import account_of, replaced_accounts
from ..models.chat import ChatModels
from ..models.plan_writer import DraftForm, write_draft
from ..models.prompts import quote, render_prompt
from ..models.prompts.calls import is_said
from ..models.prompts.inventory import describe_effects, describe_form, quoted_tools
from ..people.words import said_about_plan
from ..plan.dag import descendants, is_rolling
from ..plan.identity import lost_checks, plan_difference, used_ids
from ..plan.notations.draft import PlanDraft, answer_of, new_steps, tightened
from ..plan.notations.written import written_step
from ..plan.revision import revised_plan
from ..run import Node, Run, Update, audit_event, emit, run_of
from ..state import Evaluation, Plan, State, Step, digest, draft_attempt, is_settled, new_evaluation
from ..tools.texts import preview
from ..tools.toolbox import Toolbox
from ..tracing.marks import plan_marks, with_marks

__all__ = ["make_replanner"]


def make_replanner(models: ChatModels, toolbox: Toolbox) -> Node:
    """Build the replanner node: a failure in, a draft of the next revision out."""
    return _Replanner(models, toolbox)


@dataclass(frozen=True, eq=False)
class _Replanner:
    """The replanner node."""

    models: ChatModels
    toolbox: Toolbox

    async def __call__(self, state: State, config: RunnableConfig, runtime: Runtime[Context]) -> Update:
        run, plan, evaluation = run_of(config), state.get("plan"), state.get("evaluation")
        if plan is None or evaluation is None:
            return {"draft": None}
        brief = await self._brief(state, plan, evaluation, run)
        tab = run.tab()
        try:
            draft = await write_draft(
                self.models.get("replanner", run.settings.models),
                brief.messages,
                role="replanner",
                occasion="revision",
                kept=brief.kept,
                taken=brief.taken,
                tools=self.toolbox.argument_schemas,
                inputs=list(state.get("inputs") or {}),
                settings=run.settings,
                agents=list(self.toolbox.agents),
                model_classes=brief.classes,
                sub_plans=run.may_nest,
                meter=tab,
                config=with_marks(config, plan_marks(plan)),
            )
        except (ModelCallError, BudgetExceededError) as error:
            reason = run.redact(f"The plan could not be revised: {error}")
            return _gave_up(state, run, reason) | {"usage": tab.close()}
        if draft.outcome == "cannot_plan":
            return _gave_up(state, run, run.redact(draft.rationale)) | {"usage": tab.close()}
        revision = brief.revision(draft)
        return _proposed(revision, brief, runtime) | {"usage": tab.close()}

    async def _brief(self, state: State, plan: Plan, evaluation: Evaluation, run: Run) -> _Brief:
        return _Brief(
            state=state,
            plan=plan,
            evaluation=evaluation,
            run=run,
            toolbox=self.toolbox,
            classes=self.models.classes(run.settings.models),
            replaced=_replaced(plan, evaluation, state),
            taken=used_ids(plan, state.get("audit") or ()),
            accounts=await _accounts(plan, state, run),
            replaced_before=await replaced_accounts(state, run, 1000),
            seen=await run.output_forms.known(self.toolbox.fingerprints(self.toolbox.names)),
        )


@dataclass(frozen=True, kw_only=True)
class _Brief:
    """What a revision is for, and what it starts from.

    Attributes:
        classes: Model classes that a step may name.
        replaced: The steps that are replaced.
        taken: Ids that new steps must not use.
        accounts: How each step ended, by its id.
        replaced_before: How the steps ended that earlier revisions replaced.
        seen: Output forms of tools in earlier runs.
    """

    state: State
    plan: Plan
    evaluation: Evaluation
    run: Run
    toolbox: Toolbox
    classes: Sequence[str]
    replaced: set[str]
    taken: set[str]
    accounts: Mapping[str, str]
    replaced_before: Sequence[str]
    seen: Mapping[str, Any]

    @property
    def kept(self) -> list[Step]:
        """The steps that stay."""
        return [step for step in self.plan["steps"] if step["id"] not in self.replaced]

    def messages(self, form: DraftForm) -> list[BaseMessage]:
        """Ask the model for the revision."""
        run, mark = self.run, self.run.mark
        finished, open_steps = self._told(form)
        return render_prompt(
            "replanner",
            instructions=run.settings.instructions,
            form=describe_form(form, self.toolbox, model_classes=self.classes, sub_plans=run.may_nest),
            effects=describe_effects(self.toolbox),
            tools=quoted_tools(self.toolbox, self.seen),
            today=run.today,
            **_WORDS[form],
            goal=self.state.get("goal") or "",
            finished=quote("finished steps", "\n\n".join(finished) or "(none)", mark),
            open=quote("open steps", "\n\n".join(open_steps) or "(none)", mark),
            reason=quote("reason", _reason(self.evaluation, "\n".join(open_steps)), mark),
            feedback=_said(self.state) + _feedback(self.state, mark, form),
        )

    def _told(self, form: DraftForm) -> tuple[list[str], list[str]]:
        """Say how the steps ended, both those that stay and those that are replaced."""
        told: dict[bool, list[str]] = {True: [], False: []}
        for step in self.plan["steps"]:
            # A call in lines has no description.
            task = f"({step['task']}) " if "call" in step and step.get("task") else ""
            account = f"{written_step(step, form)}\n{task}{self.accounts[step['id']]}"
            told[step["id"] in self.replaced].append(account)
        return [*told[False], *self.replaced_before], told[True]

    def revision(self, draft: PlanDraft) -> Plan:
        """Make the next revision from what the model wrote."""
        redact, settings = self.run.redact, self.run.settings
        new = redact([tightened(step, settings) for step in new_steps(draft, self.kept)])
        answer = redact(answer_of(draft))
        rationale = redact(draft.rationale)
        return revised_plan(self.plan, self.replaced, new, rationale, self.taken, answer=answer)


def _proposed(revision: Plan, brief: _Brief, runtime: Runtime[Context]) -> Update:
    """Hand the revision to the validator, and record what it changes."""
    state, run, evaluation = brief.state, brief.run, brief.evaluation
    run.authored.add(digest(revision))
    difference = plan_difference(brief.plan, revision)
    if unchecked := lost_checks(brief.plan, revision, difference):
        difference["unchecked"] = unchecked
    emit(runtime, run, "replanned", difference=difference, plan=revision)
    event = audit_event(
        run,
        {**state, "plan": revision},
        "plan_revised",
        decision=evaluation["decision"],
        by="replanner",
        trigger=evaluation.get("reason", ""),
        difference=difference,
    )
    written = {"plan": revision, "source": "replanner", "attempt": draft_attempt(state, "replanner")}
    return {"draft": written, "audit": [event]}


def _replaced(plan: Plan, evaluation: Evaluation, state: State) -> set[str]:
    """Choose the steps to replace: the failed ones and their descendants, or all that are not done."""
    results = state.get("results") or {}
    done = {step_id for step_id, result in results.items() if is_settled(result)}
    if evaluation["decision"] == "patch":
        failing = set(evaluation.get("step_ids", ()))
        return (failing | descendants(plan["steps"], failing)) - done
    return {step["id"] for step in plan["steps"]} - done


_WORDS: dict[DraftForm, dict[str, str]] = {
    "lines": {"references": "as `$name` or `$name.path`", "names": "under a new name: `name = tool(…)`"},
    "fields": {"references": 'as "${step_id}" or "${step_id.path}"', "names": "with a new id"},
}
"""What the replanner is told about naming steps, in each form."""


_ROOM = 24_000
"""Characters for the calls and outputs of all steps."""


async def _accounts(plan: Plan, state: State, run: Run) -> dict[str, str]:
    """Describe each step: how it ended, its calls and its output."""
    results, room = state.get("results") or {}, max(300, _ROOM // (2 * max(1, len(plan["steps"]))))
    return {
        step["id"]: await account_of(step, results.get(step["id"]), state, run, min(room, 4000))
        for step in plan["steps"]
    }


def _reason(evaluation: Evaluation, already: str) -> str:
    """Say why the plan is revised; an error that is shown with its step is not repeated."""
    parts = [evaluation.get("reason", ""), evaluation.get("hint", ""), *evaluation.get("evidence", [])]
    new = [
        part for part in dict.fromkeys(parts) if part and not is_said(_CODE.sub("", part, count=1), already)
    ]
    return "\n".join(new) or "a step failed, as said above"


_CODE = re.compile(r"^[a-z_]+: ")
"""The code in front of an error's message."""


def _said(state: State) -> str:
    said = said_about_plan(state)
    return (
        "People have said about the plan:\n" + "\n".join(f"- {one}" for one in said) + "\n\n" if said else ""
    )


def _feedback(state: State, mark: str, form: DraftForm) -> str:
    issues = state.get("plan_issues")
    draft = state.get("draft")
    if not issues or draft is None:
        return _ROLLING if is_rolling(state.get("plan")) else ""
    listed = "\n".join(f"- {issue['code']}: {issue['message']}" for issue in issues[:20])
    written = preview("\n".join(written_step(step, form) for step in draft["plan"]["steps"]), 8000)
    return (
        f"Your last revision cannot run:\n{quote('issues', listed, mark)}\n"
        f"{quote('revision', written, mark)}\nWrite it again."
    )


_ROLLING = "Write only what replaces the open steps: what comes after them is planned when they are done."


def _gave_up(state: State, run: Run, reason: str) -> Update:
    evaluation = new_evaluation("abort", reason, by="model")
    event = audit_event(run, state, "cannot_replan", by="replanner", trigger=reason)
    return {"draft": None, "evaluation": evaluation, "audit": [event]}
