"""Write the answer: it always says what was done, what was not done, and what was not verified."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.constants import TAG_NOSTREAM
from langgraph.runtime import Runtime

from ..context import Context
from ..errors import BudgetExceededError, ModelCallError, WorkLimitError
from ..evaluation.planned_answer import handed_in, planned_answer
from ..evaluation.unverified import not_verified
from ..execution.account import account_of, forms_seen, replaced_accounts, with_this_goal
from ..execution.effects import describe_doubt, settle_doubts
from ..models.chat import ChatModels
from ..models.final_output import OutputForm
from ..models.plain import call_message
from ..models.prompts import quote, render_prompt
from ..models.prompts.conversation import quoted_conversation
from ..plan.dag import is_rolling, run_status
from ..plan.references import strings_in
from ..run import Node, Run, Update, audit_event, emit, run_of
from ..safety.markdown import as_code, link_targets, neutralise_links, without_html
from ..spending.budget import Tab
from ..spending.estimates import sample_of, samples_of
from ..state import (
    TOOLS_CALLED,
    AuditEvent,
    CriterionResult,
    RunStatus,
    State,
    Step,
    StepResult,
    reason_of,
    steps_of,
)
from ..storage.artifacts import ArtifactDamagedError, shown
from ..tools.texts import shortened
from ..tools.threads import run_bounded
from ..tools.toolbox import Toolbox
from ..tracing.marks import plan_marks, with_marks

__all__ = ["make_synthesizer", "report_text"]

Json = Any


def make_synthesizer(models: ChatModels, toolbox: Toolbox, form: OutputForm | None = None) -> Node:
    """Build the synthesizer node: results in; final status and answer out.

    Args:
        models: The chat models by role.
        toolbox: The tools; the forms of their outputs are recorded.
        form: The form of the structured output, if there is one.
    """
    return _Synthesizer(models, toolbox, form)


@dataclass(frozen=True, eq=False)
class _Synthesizer:
    """The synthesizer node."""

    models: ChatModels
    toolbox: Toolbox
    form: OutputForm | None

    async def __call__(self, state: State, config: RunnableConfig, runtime: Runtime[Context]) -> Update:
        run, tab = run_of(config), run_of(config).tab()
        doubts, settled = await _doubts(state, run)
        started = run.clock()
        config = with_marks(config, plan_marks(state.get("plan")))
        status, output, unused = _status(state, strict=run.settings.strict), None, ""
        if self.form is not None and status == "done":
            status, output, message = await self._structured_answer(self.form, state, run, tab, config)
        else:
            message, unused = await self._answer(state, status, run, tab, config)
        if run.settings.neutralise_links:
            message = _with_safe_links(message, state, run, is_json=output is not None)
        if doubts and output is None:
            title = _SETTLED if settled else _IN_DOUBT
            message = _with_note(message, f"{title}:\n" + "\n".join(f"- {line}" for line in doubts))
        answer = str(message.text)
        emit(runtime, run, "synthesized", status=status, answer=answer)
        await self._remember(state, run, tab, run.clock() - started)
        settled_plan = await run.reuse.settle(state, status)
        run.answered = True
        return {
            "status": status,
            "final_answer": answer,
            "output": output,
            "messages": [message],
            "draft": None,
            "earlier": run.redact(await with_this_goal(state, run)),
            "usage": tab.close(),
            "audit": [
                *settled_plan,
                *settled,
                audit_event(
                    run,
                    state,
                    "finished",
                    decision=status,
                    trigger=reason_of(state),
                    evidence=[*doubts, *([unused] if unused else [])],
                ),
            ],
        }

    async def _remember(self, state: State, run: Run, tab: Tab, seconds: float) -> None:
        """Record what the run took, for estimates of later runs."""
        if (plan := state.get("plan")) is None:
            return
        model_of = self.models.names(run.settings.models)
        samples = samples_of(plan, state.get("results") or {}, model_of)
        if tab.usage.get("model_calls"):
            samples[f"role:synthesizer {model_of('synthesizer')}"] = [sample_of(tab.usage, seconds)]
        forms = await forms_seen(state, run)
        tools = self.toolbox.fingerprints(name for name in forms if name in self.toolbox)
        seen = {name: forms[name] for name in tools}
        await run.output_forms.keep(tools, seen, beside=run.history.rows(plan["id"], samples))

    async def _structured_answer(
        self, form: OutputForm, state: State, run: Run, tab: Tab, config: RunnableConfig
    ) -> tuple[RunStatus, Json, AIMessage]:
        """Write the output in the requested form; an output in another form does not count as done."""
        try:
            output = await _fitting_output(form, state, run)
            if output is None:
                model = self.models.get("synthesizer", run.settings.models)
                messages = await _messages(state, "done", run)
                output = await form.ask(model, messages, meter=tab, config=config)
        except (ModelCallError, BudgetExceededError, ArtifactDamagedError) as error:
            report = report_text(state, "partial")
            missing = run.redact(f"(The structured output is missing: {error})")
            return "partial", None, AIMessage(f"{report}\n\n{missing}")
        output = run.redact(output)
        return "done", output, AIMessage(json.dumps(output, ensure_ascii=False, indent=2))

    async def _answer(
        self, state: State, status: RunStatus, run: Run, tab: Tab, config: RunnableConfig
    ) -> tuple[AIMessage, str]:
        """Return the answer, and why it is not the planned one, if there is one."""
        if status != "done":
            return await self._written_answer(state, status, run, tab, config), ""
        try:
            direct, unused = await _direct_answer(state, run)
        except ArtifactDamagedError as error:
            return AIMessage(f"{report_text(state, status)}\n\n({error})"), ""
        if direct is None:
            return await self._written_answer(state, status, run, tab, config, unused), unused
        first = _not_verified(state, run)
        return _with_note(AIMessage(direct), _checks_nobody_made(state), first=first), unused

    async def _written_answer(
        self, state: State, status: RunStatus, run: Run, tab: Tab, config: RunnableConfig, unused: str = ""
    ) -> AIMessage:
        """Return a model's answer, else the report and why the planned answer is unused."""
        report = report_text(state, status)
        if status in ("failed", "rejected") and not state.get("results"):
            return AIMessage(report)
        if not self.models.has("synthesizer", run.settings.models):
            return _with_note(AIMessage(report), run.redact(unused))
        try:
            written = await call_message(
                self.models.get("synthesizer", run.settings.models),
                await _messages(state, status, run),
                role="synthesizer",
                meter=tab,
                config=_unstreamed(config) if run.settings.neutralise_links else config,
            )
        except (ModelCallError, BudgetExceededError) as error:
            return AIMessage(run.redact(f"{report}\n\n(The answer could not be written by a model: {error})"))
        if status != "done":
            first, _, rest = report.partition("\n\n")
            return _with_note(run.redact(written), rest, first=first)
        return _with_note(run.redact(written), _checks_nobody_made(state), first=_not_verified(state, run))


_IN_DOUBT = "May have happened, but nobody knows (resume the thread to say whether it did)"


_SETTLED = "Was in doubt; a person has said whether it happened"


async def _doubts(state: State, run: Run) -> tuple[list[str], list[AuditEvent]]:
    """Ask about writes in doubt before the run ends; name them, and what was said about them.

    A sub-plan leaves this to the root. If the run was cancelled, nobody is asked; the writes are only named.

    Raises:
        langgraph.errors.GraphInterrupt: While an answer is missing.
    """
    plan: Mapping[str, Any] = state.get("plan") or {}
    plan_id = plan.get("id")
    if run.work is not None or not (run.follows_up or isinstance(plan_id, str)):
        return [], []
    # Another goal of the thread may have left doubts, before a fork or before the goal has a plan.
    doubts = await (run.effects.doubts_of_thread() if run.follows_up else run.effects.doubts(str(plan_id)))
    evaluation = state.get("evaluation")
    cancelled = evaluation is not None and evaluation.get("cancelled", False)
    if doubts and run.can_ask and not cancelled:
        lines, by = await settle_doubts(run, doubts)
        return lines, [audit_event(run, state, "outcomes_settled", by=by, evidence=lines)]
    return [describe_doubt(record) for record in doubts], []


def _status(state: State, *, strict: bool) -> RunStatus:
    if state.get("status") == "rejected":
        return "rejected"
    if state.get("plan_issues") and not state.get("results"):
        return "failed"
    return run_status(state.get("plan"), state.get("results") or {}, strict=strict)


def _with_note(written: AIMessage, note: str, *, first: str = "") -> AIMessage:
    """Add our own remarks about the run: a model may forget them, or hide what follows its answer."""
    if not note and not first:
        return written
    text = without_html(written.text) if note else written.text
    return AIMessage("\n\n".join(part for part in (first, text, note) if part), id=written.id)


def _not_verified(state: State, run: Run) -> str:
    """Warn at the start of an answer that uses unchecked results, unless it goes to a parent's step."""
    plan = state.get("plan")
    return not_verified(plan, state.get("results") or {}) if plan and run.work is None else ""


def _unstreamed(config: RunnableConfig) -> RunnableConfig:
    """Do not stream the model's tokens before the text is made harmless."""
    return {**config, "tags": [*(config.get("tags") or []), TAG_NOSTREAM]}


def _with_safe_links(message: AIMessage, state: State, run: Run, *, is_json: bool) -> AIMessage:
    safe = neutralise_links(message.text, _own_links(state, run))
    if is_json and safe != message.text:
        safe = as_code(message.text)  # JSON stays JSON; shown as code, it is not rendered.
    return AIMessage(safe, id=message.id)


def _own_links(state: State, run: Run) -> set[str]:
    """Collect the links that came from the person, and not from a tool or a model."""
    said = [message.text for message in state.get("messages") or [] if message.type == "human"]
    given = [state.get("inputs") or {}, handed_in(state)]
    return link_targets([state.get("goal") or "", run.settings.instructions, *said, *strings_in(given)])


def _checks_nobody_made(state: State) -> str:
    """Name a finished run's steps with a check that nobody could make; a model may leave them out."""
    results = state.get("results") or {}
    lines = [
        f"- {step['id']}: {'; '.join(gaps)}"
        for step in steps_of(state.get("plan"))
        if (result := results.get(step["id"]))
        and (gaps := [one["gap"] for one in result["criteria"] if one["passed"] is None and _is_check(one)])
    ]
    return f"{_SECTIONS['unverified']}:\n" + "\n".join(lines) if lines else ""


def _is_check(outcome: CriterionResult) -> bool:
    return outcome["type"] != TOOLS_CALLED


async def _only_output(state: State, run: Run) -> Json:
    """Return the exact output of a plan of one step; None if there are more."""
    steps = steps_of(state.get("plan"))
    if len(steps) != 1:
        return None
    step_id = steps[0]["id"]
    return await run.artifacts.value((state.get("results") or {})[step_id]["output"], step_id)


async def _direct_answer(state: State, run: Run) -> tuple[str | None, str]:
    """Return an answer that needs no model: the planned one, or a step's output; and why not the former."""
    planned = await planned_answer(state, run)
    unused = f"The plan's own answer is not used: {planned.why_not}." if planned.why_not else ""
    return planned.text if planned.text is not None else await _only_answer(state, run), unused


async def _only_answer(state: State, run: Run) -> str | None:
    """Return the output of a plan of one agent step, which is already the answer."""
    if any("call" in step for step in steps_of(state.get("plan"))):
        return None
    output = await _only_output(state, run)
    return output if isinstance(output, str) else None


async def _fitting_output(form: OutputForm, state: State, run: Run) -> Json:
    """Return the output of a plan of one step if it already has the form; otherwise None."""
    output = await _only_output(state, run)
    try:
        return await run_bounded(form.read, output) if isinstance(output, dict) else None
    except (ValueError, WorkLimitError):
        return None


async def _messages(state: State, status: RunStatus, run: Run) -> list[Any]:
    results = state.get("results") or {}
    listed = [
        await _for_prompt(step, results.get(step["id"]), state, run) for step in steps_of(state.get("plan"))
    ]
    listed += await replaced_accounts(state, run, _ROOM)
    return render_prompt(
        "synthesizer",
        instructions=run.settings.instructions,
        conversation=quoted_conversation(state, run.mark),
        goal=state.get("goal") or "",
        status=status,
        reason=quote("reason", reason_of(state), run.mark) if status != "done" else "",
        results=quote("results", "\n\n".join(listed), run.mark),
    )


async def _for_prompt(step: Step, result: StepResult | None, state: State, run: Run) -> str:
    title = f"[{step['id']}] {step['task']}".rstrip()
    return f"{title}: {await account_of(step, result, state, run, _ROOM)}"


_ROOM = 20_000
"""Characters of each step's output for writing the answer."""


# --- the report, with no model -----------------------------------------------------------

_SECTIONS = {
    "done": "Done",
    "unverified": "Done, not verified",
    "failed": "Failed",
    "skipped": "Skipped",
    "blocked": "Not done (something they need did not succeed)",
    "open": "Not started",
}


def report_text(state: State, status: RunStatus) -> str:
    """Write the report of a run without a model: list every step by how it ended, claim nothing unchecked."""
    parts = [_headline(state, status)]
    if issues := state.get("plan_issues"):
        parts.append("\n".join(f"- {issue['code']}: {issue['message']}" for issue in issues))
    sections: dict[str, list[str]] = {}
    results = state.get("results") or {}
    steps = steps_of(state.get("plan")) if results else []
    room = max(40, min(500, _REPORT_CHARACTERS // max(1, len(steps))))
    for step in steps:
        result = results.get(step["id"])
        sections.setdefault(_section(result), []).append(_line(step, result, room))
    parts += [f"{title}:\n" + "\n".join(sections[key]) for key, title in _SECTIONS.items() if key in sections]
    return "\n\n".join(part for part in parts if part)


_NOT_VERIFIED = "All steps have run, but not every result could be verified."


def _headline(state: State, status: RunStatus) -> str:
    is_strict = (state.get("settings") or {}).get("strict", False)
    unverified = is_strict and run_status(state.get("plan"), state.get("results") or {}) == "done"
    words = {
        "done": "All steps are done.",
        "partial": _NOT_VERIFIED if unverified else "The run ended before everything was done.",
        "failed": _NOT_VERIFIED if unverified else "The run failed.",
        "rejected": "The plan was rejected.",
    }
    evaluation = state.get("evaluation")
    if evaluation and evaluation.get("cancelled"):
        # The reason comes first: a cancelled run has not failed.
        done = words["partial"] if status == "partial" else "No step was done." if status == "failed" else ""
        return f"{reason_of(state)} {done}".strip()
    cut_short = is_rolling(state.get("plan")) and bool(state.get("results"))
    parts = [
        words.get(status, status),
        "The plan was not complete: more steps were to follow." if cut_short else "",
        reason_of(state) if status != "done" else "",
    ]
    return " ".join(part for part in parts if part)


def _section(result: StepResult | None) -> str:
    if result is None:
        return "open"
    if result["status"] == "done":
        return "unverified" if result["verdict"] == "unverified" else "done"
    return result["status"]


_REPORT_CHARACTERS = 20_000
"""Characters for outputs in a report; the results hold the whole outputs."""


def _line(step: Step, result: StepResult | None, room: int) -> str:
    title = f"- {step['id']}" + (f" ({step['task']})" if step["task"] else "")
    if result is None:
        return title
    if result["status"] == "done":
        return f"{title}: {shown(result['output'], room)}"
    return f"{title}: {_outcome(result)}"


def _outcome(result: StepResult | Mapping[str, Any]) -> str:
    error = result["error"]
    status = result["status"] if result["status"] != "done" else f"done, {result['verdict']}"
    return f"{status}: {shortened(error['message'], 500)}" if error else status
