"""Turn a goal into a draft of a plan, or into the reason why no plan is possible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any

from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.runtime import Runtime

from ..context import Context
from ..errors import BudgetExceededError, ModelCallError
from ..execution.account import account_of
from ..execution.effects import settle_doubts
from ..execution.reads_ahead import ReadsAhead, may_read_ahead
from ..models.chat import ChatModels, endpoint_of, model_name
from ..models.plan_writer import DraftForm, write_draft
from ..models.prompts import quote, render_prompt
from ..models.prompts.attachments import attachments_of, with_attachments
from ..models.prompts.conversation import earlier_messages, quoted_conversation
from ..models.prompts.inventory import describe_effects, describe_form, quoted_tools
from ..plan.identity import plan_difference, used_ids
from ..plan.notations.draft import PlanDraft, answer_of, asking_draft, draft_schema, new_steps, tightened
from ..plan.notations.written import written_step
from ..plan.reuse import input_types, plan_key
from ..plan.revision import first_revision, revised_plan, with_answer
from ..plan.rules.secrets import secrets_in_inputs
from ..run import Node, Run, Update, audit_event, emit, run_of
from ..spending.budget import Tab
from ..state import (
    FINAL_STATUSES,
    SCHEMA_VERSION,
    AuditEvent,
    Plan,
    State,
    Step,
    digest,
    draft_attempt,
    feedback_of,
    is_for_people,
    is_settled,
    new_evaluation,
    steps_by_id,
    steps_of,
)
from ..storage.artifacts import shown
from ..tools.texts import preview
from ..tools.toolbox import Toolbox
from ..tracing.marks import plan_marks, with_marks

__all__ = ["make_planner"]


def make_planner(models: ChatModels, toolbox: Toolbox) -> Node:
    """Build the planner node: goal, tools, feedback, earlier issues and results in, a draft out."""
    return _Planner(models, toolbox)


@dataclass(frozen=True, eq=False)
class _Planner:
    """The planner node."""

    models: ChatModels
    toolbox: Toolbox

    async def __call__(self, state: State, config: RunnableConfig, runtime: Runtime[Context]) -> Update:
        run = run_of(config)
        run.show(runtime)
        started = _start(state, run) if run.begins or _is_new_goal(state) else {}
        run.begins = False
        if started and run.follows_up and (doubts := await run.effects.doubts_of_thread()):
            await settle_doubts(run, doubts)  # These belong to earlier goals.
        spoken = [*(state.get("messages") or []), *started.get("messages", ())]
        view: State = {**state, **started, "messages": spoken}  # type: ignore[typeddict-item]
        if started and (given := state.get("plan")) is not None:
            draft = {"plan": await _with_unused_id(given, run), "source": "given", "attempt": 1}
            return {**started, "plan": None, "draft": draft}
        if started and (issues := secrets_in_inputs(state.get("inputs") or {})):
            # No plan could use them, so no model is asked.
            return {**started, **_cannot_plan(view, run, issues[0]["message"]), "plan_issues": issues}
        key = self._key(view, run)
        recall = _recalled(view, runtime, run, key) if started else _withdrawn(state, run)
        recalled, noted = await recall
        planned = recalled or await self._plan(view, config, runtime, run, key)
        planned["audit"] = [*noted, *planned["audit"]]
        if started:
            # It removes what an earlier goal spent. This is LangGraph's Overwrite as plain JSON.
            planned["usage"] = {"__overwrite__": planned["usage"]}
        return {**started, **planned}

    def _key(self, state: State, run: Run) -> str | None:
        """Return the key of the planner's request if a cached plan may answer it; see ``plan/reuse.py``."""
        if run.cached_plans is None or not _stands_alone(state):
            return None
        return plan_key(
            goal=state.get("goal") or "",
            inputs=state.get("inputs") or {},
            prompt=_messages({}, run, self.toolbox, "lines", classes=self._classes(run), mark=""),
            schema=draft_schema(self.toolbox.names, list(self.toolbox.agents), sub_plans=run.may_nest),
            model=self._planner_name(run),
            settings=run.settings,
        )

    def _classes(self, run: Run) -> list[str]:
        return self.models.classes(run.settings.models)

    def _planner_name(self, run: Run) -> str:
        model = self.models.get("planner", run.settings.models)
        return f"{type(model).__name__} {model_name(model)} {endpoint_of(model)}".strip()

    async def _plan(
        self, state: State, config: RunnableConfig, runtime: Runtime[Context], run: Run, key: str | None
    ) -> Update:
        tab = run.tab()
        ahead = await self._reads_ahead(state, run, tab, config, runtime)
        try:
            draft = await self._written(state, config, run, tab, ahead, names_only=key is not None)
        except (ModelCallError, BudgetExceededError) as error:
            await _drop_reads(run)
            reason = run.redact(f"The planner could not answer: {error}")
            return _cannot_plan(state, run, reason) | {"usage": tab.close()}
        if draft.outcome == "question" and run.can_ask:
            draft = asking_draft(draft.rationale)
        if draft.outcome in ("cannot_plan", "question"):
            await _drop_reads(run)
            return _cannot_plan(state, run, run.redact(_why_not(draft))) | {"usage": tab.close()}
        plan = run.redact(_plan_from(draft, state, run))
        run.authored.add(digest(plan))
        if ahead is not None:
            ahead.keep(plan)
        if key is not None:
            await run.reuse.note_origin(plan["id"], key, self._planner_name(run))
        _tell(runtime, run, state, plan)
        written = audit_event(
            run, {**state, "plan": plan}, "plan_written", by="planner", trigger=_trigger(state)
        )
        return {
            "draft": {"plan": plan, "source": "planner", "attempt": draft_attempt(state, "planner")},
            "usage": tab.close(),
            "audit": [written],
            "status": "planning",
        }

    async def _written(
        self,
        state: State,
        config: RunnableConfig,
        run: Run,
        tab: Tab,
        ahead: ReadsAhead | None,
        *,
        names_only: bool,
    ) -> PlanDraft:
        """Have the planner's model write a plan, or the next steps of one."""
        prompt = partial(
            _messages,
            state,
            run,
            self.toolbox,
            classes=self._classes(run),
            mark=run.mark,
            names_only=names_only,
            ended=await _ended_steps(state, run),
            today=run.today,
            seen=await run.output_forms.known(self.toolbox.fingerprints(self.toolbox.names)),
        )
        model, attached = self.models.get("planner", run.settings.models), attachments_of(state)
        return await write_draft(
            model,
            lambda form: with_attachments(prompt(form), attached, model),
            role="planner",
            occasion="next_steps" if _is_next_round(state) else "goal",
            kept=_kept_steps(state),
            taken=_taken_ids(state),
            tools=self.toolbox.argument_schemas,
            inputs=list(state.get("inputs") or {}),
            settings=run.settings,
            agents=list(self.toolbox.agents),
            model_classes=self._classes(run),
            sub_plans=run.may_nest,
            meter=tab,
            config=with_marks(config, plan_marks(state.get("plan"))),
            listen=ahead.hear if ahead is not None else None,
        )

    async def _reads_ahead(
        self, state: State, run: Run, tab: Tab, config: RunnableConfig, runtime: Runtime[Context]
    ) -> ReadsAhead | None:
        """Build the reader that starts reads early, if that is allowed; stop the one of an earlier plan."""
        await _drop_reads(run)
        if not may_read_ahead(run, self.toolbox):
            return None
        inputs = state.get("inputs") or {}
        ahead = ReadsAhead(run, self.toolbox, inputs=inputs, tab=tab, config=config, runtime=runtime)
        run.ahead = ahead
        return ahead


# --- the start of a goal -----------------------------------------------------------------


def _is_new_goal(state: State) -> bool:
    return state.get("status") is None or state["status"] in FINAL_STATUSES


def _start(state: State, run: Run) -> Update:
    """Clear what belongs to an earlier goal on this thread; keep its messages."""
    goal = state.get("goal") or ""
    # A question about the run before, and its answer, may stand between the goal's message and this point.
    spoken = (message for message in reversed(state.get("messages") or []) if not is_for_people(message))
    new = takewhile(lambda message: isinstance(message, HumanMessage), spoken)
    said = any(message.text.strip() == goal.strip() for message in new)
    return {
        "messages": [] if said or not goal else [HumanMessage(goal)],
        "schema_version": SCHEMA_VERSION,
        "settings": run.settings.model_dump(mode="json", exclude_defaults=True),
        "status": "planning",
        "plan_issues": [],
        "approval": None,
        "results": None,
        "evaluation": None,
        "decisions": None,
        "usage": None,
        "replans": 0,
        "rounds": 0,
        "final_answer": "",
        "output": None,
        "draft": None,
    }


async def _with_unused_id(plan: Any, run: Run) -> Any:
    """Give a plan an id that is new on this thread, because results under old ids belong to other goals.

    This happens here and not in the validator, so that a fork from any later checkpoint finds finished steps.
    """
    if not isinstance(plan, Mapping) or not isinstance(plan.get("id", ""), str):
        return plan  # The validator will say what is wrong with it.
    if not plan.get("id") or await run.ledger.approvals(plan["id"]):
        return first_revision(plan, run.new_plan_id())
    return plan


# --- the prompt --------------------------------------------------------------------------


def _messages(
    state: State,
    run: Run,
    toolbox: Toolbox,
    form: DraftForm,
    *,
    classes: Sequence[str],
    mark: str,
    names_only: bool = False,
    ended: Sequence[str] = (),
    today: str = "",
    seen: Mapping[str, Any] | None = None,
) -> list[Any]:
    """Write the prompt: what is the same in every run comes first, so that providers can cache it.

    Args:
        classes: Model classes that a step may name.
        names_only: Whether to leave out the values of inputs.
        ended: How the steps of a rolling plan ended.
        today: The date; "" where the prompt is only the key of a cached plan.
        seen: Output forms that earlier runs saw.
    """
    inputs = state.get("inputs") or {}
    return render_prompt(
        "planner",
        form=describe_form(form, toolbox, model_classes=classes, sub_plans=run.may_nest),
        effects=describe_effects(toolbox),
        tools=quoted_tools(toolbox, seen or {}),
        instructions=run.settings.instructions,
        today=today,
        conversation=quoted_conversation(state, mark),
        goal=state.get("goal") or "",
        inputs=_input_names(inputs, mark) if names_only else _inputs(inputs, mark),
        progress=_progress(state, run, form, ended),
        feedback=_feedback(state, mark, form),
    )


def _inputs(inputs: Mapping[str, Any], mark: str) -> str:
    if not inputs:
        return ""
    return "Inputs (refer to them as ${inputs.name}):\n" + quote("inputs", preview(dict(inputs), 4000), mark)


def _input_names(inputs: Mapping[str, Any], mark: str) -> str:
    """Hide the inputs' values if the plan may serve others: the planner cannot copy what it cannot see."""
    if not inputs:
        return ""
    told = "Inputs, as name: type (their values change from run to run; refer to them as ${inputs.name}):\n"
    return told + quote("inputs", preview(input_types(inputs), 4000), mark)


def _feedback(state: State, mark: str, form: DraftForm) -> str:
    """Tell the planner what was wrong with its last draft, and everything a person has said so far."""
    parts = []
    if rejected := feedback_of(state):
        said = "\n".join(f"{n}. {text}" for n, text in enumerate(rejected, start=1))
        parts.append(
            f"A person rejected your plan. Everything they have said so far, the latest last:\n{said}"
        )
        if plan := _rejected_plan(state):
            parts.append(f"The rejected plan:\n{quote('plan', _steps_text(plan, form), mark)}")
    draft = state.get("draft")
    # The planner does not know a plan from the cache.
    if (issues := state.get("plan_issues")) and not (draft and draft["source"] == "cache"):
        listed = "\n".join(f"- {issue['code']}: {issue['message']}" for issue in issues[:20])
        written = quote("plan", _steps_text(draft["plan"] if draft else {}, form), mark)
        parts.append(
            f"Your last plan cannot run:\n{quote('issues', listed, mark)}\n{written}\nWrite it again."
        )
    if (results := state.get("results")) and not _is_next_round(state):
        done = [
            f"- {r['step_id']}: {shown(r['output'], 600)}" for r in results.values() if r["status"] == "done"
        ]
        parts.append(
            "These steps are finished and stay; refer to them, do not repeat them:\n"
            + quote("finished steps", "\n".join(done), mark)
        )
    return "\n\n".join(parts)


_PROGRESS_CHARACTERS = 24_000
"""Characters for the results of earlier steps, so that a long rolling plan fits the model's context."""


_WORDS: dict[DraftForm, dict[str, str]] = {
    "lines": {
        "next": 'Write only the next steps, under new names: `name = tool(…)`, `name: "what to do"`. They '
        "may refer to steps above, as `$name`.",
        "last": "You are asked for the last time: write no `more`.",
        "ends": "Without `more` these steps reach the goal. If it is reached already, write nothing but "
        "`finished`.",
    },
    "fields": {
        "next": "Write only the next steps, with new ids; they may depend on steps above and refer to their "
        "outputs.",
        "last": "You are asked for the last time: `complete` must be true.",
        "ends": "`complete`: true if they reach the goal. If it is reached already, answer with the outcome "
        "`finished` and no steps.",
    },
}
"""What the planner of a rolling plan is told to write, in each form."""


def _progress(state: State, run: Run, form: DraftForm, ended: Sequence[str]) -> str:
    """Tell the planner of a rolling plan how far the plan is, and how often it may be asked again."""
    if not _is_next_round(state):
        return ""
    left, words = run.settings.max_rounds - state["rounds"], _WORDS[form]
    times = f"You may be asked again {left} more time{'s' if left > 1 else ''}."
    again = times if left > 0 else words["last"]
    return (
        "Your plan so far has run. These steps stay as they are:\n"
        f"{quote('steps so far', chr(10).join(ended) or '(none)', run.mark)}\n"
        f"{words['next']} {words['ends']} {again}"
    )


async def _ended_steps(state: State, run: Run) -> list[str]:
    """Say how each step of a rolling plan ended."""
    if not _is_next_round(state):
        return []
    steps, results = _kept_steps(state), state.get("results") or {}
    room = max(100, min(2000, _PROGRESS_CHARACTERS // max(1, len(steps))))
    return [
        f"- {step['id']} ({preview(step.get('task') or 'call', 200)}): "
        + await account_of(step, results[step["id"]], state, run, room)
        for step in steps
        if step["id"] in results
    ]


def _rejected_plan(state: State) -> Mapping[str, Any] | None:
    approval = state.get("approval")
    return approval.get("rejected_plan") if approval else None


def _steps_text(plan: Mapping[str, Any], form: DraftForm) -> str:
    return preview("\n".join(written_step(step, form) for step in plan.get("steps", [])), 8000)


# --- the plan cache ----------------------------------------------------------------------

Noted = tuple[Update | None, list[AuditEvent]]
"""What the node writes, or None if the model must be asked; and what to note first."""


def _stands_alone(state: State) -> bool:
    """Tell whether the planner sees only the goal: no conversation, attachments or results."""
    said = earlier_messages(state) or feedback_of(state) or attachments_of(state)
    return not (said or state.get("results"))


async def _recalled(state: State, runtime: Runtime[Context], run: Run, key: str | None) -> Noted:
    """Draft a cached plan of an earlier run of this goal, if there is one."""
    found, noted = (
        await run.reuse.recall(key, state.get("goal") or "", run.new_plan_id()) if key else (None, [])
    )
    if found is None:
        return None, noted
    plan = found.plan
    emit(runtime, run, "plan_created", plan=plan, recalled=found.hit)
    draft = {"plan": plan, "source": "cache", "attempt": 1}
    return {"draft": draft, "usage": run.tab().close(), "audit": [], "status": "planning"}, noted


async def _withdrawn(state: State, run: Run) -> Noted:
    """Drop a cached plan that cannot run unchanged: it has issues, or a person rejected it."""
    draft = state.get("draft")
    proposed = draft["plan"] if draft and state.get("plan_issues") else state.get("plan")
    return None, await run.reuse.withdraw(proposed, _trigger(state))


# --- the answer --------------------------------------------------------------------------


def _trigger(state: State) -> str:
    if state.get("plan_issues"):
        draft = state.get("draft")
        recalled = draft is not None and draft["source"] == "cache"
        return "the cached plan can no longer run" if recalled else "the last draft could not run"
    if _rejected_plan(state):
        return "a person rejected the plan"
    return f"round {state['rounds']} of a rolling plan" if _is_next_round(state) else "a goal"


def _is_next_round(state: State) -> bool:
    """Tell whether a rolling plan needs its next steps, and not a new plan."""
    return state.get("plan") is not None and state.get("rounds", 0) > 0


def _kept_steps(state: State) -> list[Step]:
    """List the steps that stay: settled steps, and in a rolling plan every step that has ended."""
    results, rolling = state.get("results") or {}, _is_next_round(state)
    return [
        step
        for step in steps_of(state.get("plan"))
        if step["id"] in results and (rolling or is_settled(results[step["id"]]))
    ]


async def _drop_reads(run: Run) -> None:
    if run.ahead is not None:
        await run.ahead.drop()
        run.ahead = None


def _taken_ids(state: State) -> set[str]:
    """List the ids that new steps must not use: those of a plan from which steps stay."""
    return used_ids(state.get("plan"), state.get("audit") or ()) if _kept_steps(state) else set()


def _tell(runtime: Runtime[Context], run: Run, state: State, plan: Plan) -> None:
    if _is_next_round(state):
        difference = plan_difference(state.get("plan"), plan)
        emit(runtime, run, "plan_continued", round=state["rounds"], difference=difference, plan=plan)
    else:
        emit(runtime, run, "plan_created", plan=plan)


def _plan_from(draft: PlanDraft, state: State, run: Run) -> Plan:
    kept = _kept_steps(state)
    steps = [tightened(step, run.settings) for step in new_steps(draft, kept)]
    asks_only = bool(steps) and all("ask" in step for step in steps)
    # A plan that contains only questions must continue after the answers.
    complete = (draft.complete and not asks_only) or draft.outcome == "finished"
    if current := state.get("plan"):
        replaced = set(steps_by_id(current)) - {step["id"] for step in kept}
        revised = revised_plan(
            current, replaced, steps, draft.rationale, _taken_ids(state), answer=answer_of(draft)
        )
        return {**revised, "complete": complete}
    made = {
        "goal": state.get("goal") or "",
        "rationale": draft.rationale,
        "complete": complete,
        "inputs": {
            **draft.inputs,
            **{name: {} for name in state.get("inputs") or {} if name not in draft.inputs},
        },
        "steps": steps,
    }
    return with_answer(first_revision(made, run.new_plan_id()), answer_of(draft))


def _why_not(draft: PlanDraft) -> str:
    asked = draft.outcome == "question"
    return f"The planner asks before it can plan: {draft.rationale}" if asked else draft.rationale


def _cannot_plan(state: State, run: Run, reason: str) -> Update:
    return {
        "status": "failed",
        "draft": None,
        "evaluation": new_evaluation("abort", reason, by="model"),
        "audit": [audit_event(run, state, "cannot_plan", by="planner", trigger=reason)],
    }
