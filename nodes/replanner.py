"""Revise the plan: new steps for what failed, or for everything not yet done. Finished work stays."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
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
from ..plan.notations.draft import answer_of, steps_from_draft
from ..plan.notations.written import written_step
from ..plan.revision import revised_plan
from ..run import Node, Run, Update, audit_event, emit, run_of
from ..state import Evaluation, Plan, State, digest, draft_attempt, is_settled
from ..tools.calls import preview
from ..tools.toolbox import Toolbox
from ..tracing.marks import marked, plan_marks

__all__ = ["make_replanner"]


def make_replanner(models: ChatModels, toolbox: Toolbox) -> Node:
    """Build the replanner node: a failure in; a draft of the next revision out."""

    async def replanner(state: State, config: RunnableConfig, runtime: Runtime[Context]) -> Update:
        run, plan, evaluation = run_of(config), state.get("plan"), state.get("evaluation")
        if plan is None or evaluation is None:
            return {"draft": None}
        replaced = _replaced(plan, evaluation, state)
        taken = used_ids(plan, state.get("audit") or ())
        tab = run.tab()
        accounts, replaced_before = (
            await _accounts(plan, state, run),
            await replaced_accounts(state, run, 1000),
        )
        seen = await run.output_forms.known(toolbox.fingerprints(toolbox.names))
        try:
            draft = await write_draft(
                models.get("replanner", run.settings.models),
                partial(
                    _messages,
                    state,
                    plan,
                    evaluation,
                    accounts,
                    replaced_before,
                    replaced,
                    run,
                    toolbox,
                    seen,
                ),
                role="replanner",
                occasion="revision",
                kept=[step for step in plan["steps"] if step["id"] not in replaced],
                taken=taken,
                tools=toolbox.argument_schemas,
                inputs=list(state.get("inputs") or {}),
                settings=run.settings,
                agents=list(toolbox.agents),
                sub_plans=run.may_nest,
                meter=tab,
                config=marked(config, plan_marks(plan)),
            )
        except (ModelCallError, BudgetExceededError) as error:
            reason = run.redact(f"The plan could not be revised: {error}")
            return _gave_up(state, run, reason) | {"usage": tab.close()}
        if draft.outcome == "cannot_plan":
            return _gave_up(state, run, run.redact(draft.rationale)) | {"usage": tab.close()}
        new = run.redact(steps_from_draft(draft))
        answer = run.redact(answer_of(draft))
        revision = revised_plan(plan, replaced, new, run.redact(draft.rationale), taken, answer=answer)
        run.authored.add(digest(revision))
        difference = plan_difference(plan, revision)
        if unchecked := lost_checks(plan, revision, difference):
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
        return {"draft": written, "audit": [event], "usage": tab.close()}

    return replanner


def _replaced(plan: Plan, evaluation: Evaluation, state: State) -> set[str]:
    """Choose the steps that give way: the failing ones and their descendants, or all that is not done."""
    results = state.get("results") or {}
    done = {step_id for step_id, result in results.items() if is_settled(result)}
    if evaluation["decision"] == "patch":
        failing = set(evaluation.get("step_ids", ()))
        return (failing | descendants(plan["steps"], failing)) - done
    return {step["id"] for step in plan["steps"]} - done


def _messages(
    state: State,
    plan: Plan,
    evaluation: Evaluation,
    accounts: Mapping[str, str],
    replaced_before: Sequence[str],
    replaced: set[str],
    run: Run,
    toolbox: Toolbox,
    seen: Mapping[str, Any],
    form: DraftForm,
) -> list[BaseMessage]:
    mark = run.mark
    told: dict[bool, list[str]] = {True: [], False: []}
    for step in plan["steps"]:
        # A call in lines has no words of its own.
        task = f"({step['task']}) " if "call" in step and step.get("task") else ""
        told[step["id"] in replaced].append(f"{written_step(step, form)}\n{task}{accounts[step['id']]}")
    finished, open_steps = [*told[False], *replaced_before], told[True]
    return render_prompt(
        "replanner",
        instructions=run.settings.instructions,
        form=describe_form(form, toolbox, sub_plans=run.may_nest),
        effects=describe_effects(toolbox),
        tools=quoted_tools(toolbox, seen),
        today=run.today,
        **_WORDS[form],
        goal=state.get("goal") or "",
        finished=quote("finished steps", "\n\n".join(finished) or "(none)", mark),
        open=quote("open steps", "\n\n".join(open_steps) or "(none)", mark),
        reason=quote("reason", _reason(evaluation, "\n".join(open_steps)), mark),
        feedback=_said(state) + _feedback(state, mark, form),
    )


_WORDS: dict[DraftForm, dict[str, str]] = {
    "lines": {"references": "as `$name` or `$name.path`", "names": "under a new name: `name = tool(…)`"},
    "fields": {"references": 'as "${step_id}" or "${step_id.path}"', "names": "with a new id"},
}
"""How the replanner is told what to call steps, in each form."""


_ROOM = 24_000
"""Characters for what all steps did and gave."""


async def _accounts(plan: Plan, state: State, run: Run) -> dict[str, str]:
    """Say of each step how it ended, its calls and its output."""
    results, room = state.get("results") or {}, max(300, _ROOM // (2 * max(1, len(plan["steps"]))))
    return {
        step["id"]: await account_of(step, results.get(step["id"]), state, run, min(room, 4000))
        for step in plan["steps"]
    }


def _reason(evaluation: Evaluation, already: str) -> str:
    """Word why the plan is revised; an error that stands beside its step is not written again."""
    parts = [evaluation.get("reason", ""), evaluation.get("hint", ""), *evaluation.get("evidence", [])]
    new = [
        part for part in dict.fromkeys(parts) if part and not is_said(_CODE.sub("", part, count=1), already)
    ]
    return "\n".join(new) or "a step failed, as said above"


_CODE = re.compile(r"^[a-z_]+: ")
"""The code before an error's message."""


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
    evaluation: Evaluation = {"decision": "abort", "step_ids": [], "reason": reason, "by": "model"}
    event = audit_event(run, state, "cannot_replan", by="replanner", trigger=reason)
    return {"draft": None, "evaluation": evaluation, "audit": [event]}
