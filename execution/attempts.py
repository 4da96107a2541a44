"""Run the attempts of one step: make one, check it, decide what its failure means, perhaps ask.

The loop replays: recorded attempts are not made again, and the questions between them find the answers that
were given.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import (
    BadArgumentsError,
    BudgetExceededError,
    CannotError,
    ContentFilterError,
    ModelOutputError,
    ModelOverflowError,
    ModelRefusalError,
    ModelTruncatedError,
    NothingDoneError,
    OutcomeUnknownError,
    RejectedError,
    StepStoppedError,
    StepTimeoutError,
    UnansweredError,
    UnresolvedReferenceError,
    WorkLimitError,
)
from ..evaluation.decision import BY_A_PERSON, Choice, advice, decide_with_model, effective_policy
from ..people.asking import ask_person
from ..people.deciders import Use, uses_of
from ..people.plan_text import call_in_words, step_in_words
from ..people.questions import Answer
from ..people.words import said_about_plan
from ..plan.dag import descendants, is_called_for, is_failure_handled, is_released
from ..plan.identity import step_fingerprint
from ..plan.references import holds
from ..run import Run, audit_event
from ..safety.markdown import plain_line
from ..state import (
    Attempt,
    AuditEvent,
    Evaluation,
    Evidence,
    Failure,
    Step,
    StepResult,
    digest,
    failure_of,
    granted_tools,
    kind_of,
    needs_a_model,
    new_evaluation,
    new_result,
    steps_by_id,
)
from ..storage.artifacts import ArtifactDamagedError, shown
from ..storage.effect_log import EffectRecord
from ..storage.ids import Place, path_as_json
from ..tools.texts import shortened
from ..tools.threads import run_bounded
from ..tracing.marks import STEP, TracedPart, plan_marks
from .items import ItemsWork, failure_codes
from .work import StepWork, broken_attempt

__all__ = ["AttemptLoop", "Outcome"]

_AGENT_ENDED = {
    "check_failed",
    CannotError.code,
    NothingDoneError.code,
    UnansweredError.code,
    ModelTruncatedError.code,
    ModelRefusalError.code,
    ContentFilterError.code,
    ModelOutputError.code,
}
"""Failures of an agent after its end, when all its calls are known."""

_NOT_AGAIN = {ArtifactDamagedError.code, CannotError.code, UnansweredError.code}
"""Failures that another attempt at the same step would not change."""

_FINAL_FAILURES = {BadArgumentsError.code, UnresolvedReferenceError.code, WorkLimitError.code}
"""Failures of a bound step that another attempt with the same arguments cannot change."""


_SHOWN_OF_A_RESULT = ("status", "verdict", "output", "attempts", "error")


@dataclass
class Outcome:
    """The end of a step: its result, the decision about its failure, and the audit of the decisions."""

    result: StepResult
    decision: Evaluation | None = None
    audit: list[AuditEvent] = field(default_factory=list)


@dataclass
class AttemptLoop:
    """Carries out one step whose dependencies have ended."""

    work: StepWork
    audit: list[AuditEvent] = field(default_factory=list)
    hint: str = ""
    damage: ArtifactDamagedError | None = None
    """Why the step cannot begin: its input is damaged."""

    @property
    def step(self) -> Step:
        """The step, including a person's edits."""
        return self.work.step

    @property
    def run(self) -> Run:
        """The run of the step."""
        return self.work.run

    # --- the loop ------------------------------------------------------------------------

    async def run_step(self) -> Outcome:
        """Carry out the step.

        Raises:
            StepWithheldError: If it may not run now; it stays pending.
            langgraph.errors.GraphInterrupt: While a person is being asked.
        """
        needed = self.work.needed.items()
        if failed := [step_id for step_id, result in needed if not is_released(self.step, step_id, result)]:
            return self._blocked(failed)
        if not await self._is_wanted():
            return Outcome(self._result("skipped", []), None, self.audit)
        if self.step.get("approve") and (refused := await self._approve_step()):
            return refused
        recorded, gate = self.work.epoch.attempts_of(self.step), self.work.epoch.gate
        gate.admit(self.step, begun=bool(recorded))
        if self.run.ahead is not None and not recorded:
            await self.run.ahead.ended(self.work.plan_id, self.step["id"], self.run.stop.asked())
        # The items of a loop take slots of their own.
        slot = nullcontext() if "for_each" in self.step else gate.slot(self.step, begun=bool(recorded))
        async with slot, self._traced_step() as traced:
            self.work.config = traced.config
            outcome = await self._attempt_until_decided(recorded)
            traced.outputs = {key: outcome.result[key] for key in _SHOWN_OF_A_RESULT}  # type: ignore[literal-required]
            return outcome

    def _traced_step(self) -> TracedPart:
        step = self.step["id"]
        marks = {**plan_marks(self.work.plan), STEP: step}
        return TracedPart(
            self.work.config, "step", f"step {step}", marks, tags=[f"step:{step}"], inputs={"step": self.step}
        )

    async def _is_wanted(self) -> bool:
        """Evaluate the step's condition; if it cannot be evaluated, the attempt fails."""
        epoch = self.work.epoch
        if not is_called_for(self.step, epoch.steps, epoch.gate.finished):
            return False
        try:
            condition = self.step.get("when")
            return condition is None or await run_bounded(holds, condition, await self.work.values("when"))
        except (UnresolvedReferenceError, ArtifactDamagedError):
            return True

    async def _attempt_until_decided(self, recorded: list[Attempt]) -> Outcome:
        for attempt in recorded:
            self.run.meter.spend(attempt["usage"])
        if not recorded:
            self.work.emit("step_started", task=self.step.get("task", ""))
        made: list[Attempt] = []
        attempt_work = ItemsWork(self.work).attempt if "for_each" in self.step else self.work.attempt
        while True:
            replayed = len(made) < len(recorded)
            if made and not replayed and self.work.epoch.gate.closed:
                return Outcome(self._result("failed", made, error=made[-1]["error"]), None, self.audit)
            if replayed:
                attempt = recorded[len(made)]
            else:
                self.work.emit("step_attempt", attempt=len(made) + 1)
                attempt = await self._make(attempt_work, made)
            made.append(attempt)
            if attempt["error"] is None:
                return self._done(made)
            if RejectedError.code in failure_codes(attempt):
                return Outcome(self._result("failed", made, error=attempt["error"]), None, self.audit)
            if attempt["decision"] is None:
                attempt["decision"] = {**await self._decide(made), "at": self.run.timestamp()}
                await self._record_attempt(attempt)
            decision = attempt["decision"]
            assert decision is not None, "each failed attempt has a decision"
            if decision["decision"] == "ask":
                decision = await self._ask_about_failure(made, decision)
                # The next question carries it, because without a store nothing else remembers the answer.
                made[-1] = {**made[-1], "decision": decision}
            self._note(decision)
            if decision["decision"] != "retry":
                return self._ended(made, decision)
            self.hint = advice(decision, self.run.mark)

    async def _make(self, attempt_work: Callable[..., Awaitable[Attempt]], made: list[Attempt]) -> Attempt:
        if self.damage is not None:
            return broken_attempt(len(made) + 1, self.damage, self.run.timestamp())
        return await attempt_work(len(made) + 1, made[-1] if made else None, self.hint)

    async def _record_attempt(self, attempt: Attempt) -> None:
        await self.run.ledger.record_attempt(
            self.work.plan_id, self.step["id"], step_fingerprint(self.step), attempt["number"], attempt
        )

    # --- what a failure means ------------------------------------------------------------

    async def _decide(self, made: list[Attempt]) -> Evaluation:
        """Decide by the rules, else by the policy, else by the evaluator model."""
        attempt, settings = made[-1], self.run.settings
        error, codes = failure_of(attempt), failure_codes(attempt)
        limit = self.step.get("max_attempts") or settings.max_attempts
        left = len(made) < limit
        if BudgetExceededError.code in codes:
            return self._evaluation("abort", error["message"], by="limit")
        if StepStoppedError.code in codes:
            return {**self._evaluation("abort", error["message"], by="person"), "cancelled": True}
        policy = effective_policy(self.step, settings.on_failure, attempts_left=left)
        wrote = self._wrote(attempt)
        timed_out = wrote and StepTimeoutError.code in codes and policy in ("auto", "patch", "replan")
        forgotten = OutcomeUnknownError.code in codes and policy not in ("skip", "abort")
        if timed_out or forgotten:
            # The write may have happened: only a person can know whether to repeat it.
            policy = "ask"
        if left and self._worth_another(attempt) and (not wrote or policy == "retry"):
            return self._evaluation("retry", error["message"])
        if (
            not self.step.get("on_failure")
            and policy != "ask"
            and is_failure_handled(self.work.plan, self.step["id"])
        ):
            return self._evaluation("continue", f"the plan itself handles this failure: {error['message']}")
        if policy == "auto":
            return await self._decide_automatically(made, wrote, exhausted=len(made) > limit)
        if policy == "retry":
            policy = "ask" if self.run.can_ask else "abort"
        if policy == "ask" and not self.run.can_ask:
            return self._evaluation("abort", "a person should decide, but nobody can be asked")
        return self._evaluation(policy, error["message"])

    def _worth_another(self, attempt: Attempt) -> bool:
        codes = failure_codes(attempt)
        if codes & _NOT_AGAIN or codes == {ModelOverflowError.code}:
            return False
        return not ("call" in self.step and codes <= _FINAL_FAILURES)

    def _wrote(self, attempt: Attempt) -> bool:
        """Tell whether the attempt made, or may have made, a call that changes the world."""
        if "call" in self.step:
            return self.work.toolbox.effect(self.step["call"]["tool"]) == "write"
        made = [call for call in attempt["evidence"] if not self._was_refused(call)]
        if any(call["effect"] == "write" for call in made):
            return True
        # An agent that was interrupted leaves no evidence.
        cut_off = failure_of(attempt)["code"] not in _AGENT_ENDED
        return cut_off and "write" in self.work.toolbox.effects(self._may_call(self.step))

    def _was_refused(self, call: Evidence) -> bool:
        """Tell whether a call never happened because the step was not granted the tool."""
        return "tools" in self.step and call["tool"] not in self.step["tools"]

    def _may_call(self, step: Step) -> list[str]:
        """List the tools that a step may call; for a sub-plan nobody knows them yet."""
        return self.work.toolbox.names if "plan" in step else granted_tools(step)

    async def _decide_automatically(self, made: list[Attempt], wrote: bool, *, exhausted: bool) -> Evaluation:
        model = self.work.evaluator()
        error = failure_of(made[-1])
        if model is None:
            decision = "ask" if self.run.can_ask else "abort"
            return self._evaluation(decision, error["message"])
        impossible: set[str] = {"retry"} if wrote or exhausted else set()
        impossible |= set() if self.run.can_ask else {"ask"}
        dependents = sorted(descendants(self.work.plan["steps"], [self.step["id"]]))
        if self._is_awaited_by_a_change(dependents):
            # A model must not allow it, since the failure's text may have influenced the model.
            impossible.add("skip")
        allowed: list[Choice] = [
            c for c in ("retry", "skip", "patch", "replan", "ask", "abort") if c not in impossible
        ]
        tab = self.run.tab(made[-1]["usage"])
        evaluation = await decide_with_model(
            model,
            self.step,
            f"{error['code']}: {error['message']}",
            allowed,
            goal=self.work.state.get("goal") or "",
            evidence=[call for attempt in made for call in attempt["evidence"]],
            output=await self._shown_output(made[-1]),
            words=self._said_by_people(),
            dependents=dependents,
            meter=tab,
            mark=self.run.mark,
            config=self.work.config,
        )
        made[-1]["usage"] = tab.usage
        return self.run.redact(evaluation)

    async def _shown_output(self, attempt: Attempt) -> str:
        output = attempt["output"]
        return "" if output is None else await self.run.artifacts.shown(output, self.step["id"], 8000)

    def _said_by_people(self) -> list[str]:
        """List what people have said about the plan and this attempt."""
        hint = self.hint.removeprefix(BY_A_PERSON) if self.hint.startswith(BY_A_PERSON) else ""
        return [said for said in (*said_about_plan(self.work.state), hint) if said]

    def _is_awaited_by_a_change(self, dependents: Sequence[str]) -> bool:
        """Tell whether a step that changes something depends on this one."""
        steps = steps_by_id(self.work.plan)
        waiting = [name for step_id in dependents for name in self._may_call(steps[step_id])]
        return any(effect != "read" for effect in self.work.toolbox.effects(waiting))

    def _evaluation(self, decision: Any, reason: str, *, by: Any = "policy", hint: str = "") -> Evaluation:
        return new_evaluation(
            decision, reason, by=by, step_ids=[self.step["id"]], hint=hint, evidence=[reason]
        )

    def _note(self, decision: Evaluation) -> None:
        """Write a decision down, when it is replayed too: what a question cut short has left no record."""
        audit = self.work.state.get("audit") or ()
        if any(event["at"] == decision.get("at") and self.step["id"] in _about(event) for event in audit):
            return  # a person has ordered the step again since
        event = audit_event(
            self.run,
            self.work.state,
            "step_failure",
            at=decision.get("at"),
            step_id=self.step["id"],
            decision=decision["decision"],
            by=decision.get("by", "policy"),
            trigger=decision.get("reason", ""),
            evidence=decision.get("evidence", []),
        )
        self.audit.append(event)

    # --- asking a person -----------------------------------------------------------------

    def _decided(self, answer: Answer, decision: Any, reason: str, **more: Any) -> Evaluation:
        """Say what a person has decided, and when."""
        return {
            **self._evaluation(decision, reason, by=answer["by"], **more),
            "at": answer.get("at") or self.run.timestamp(),
        }

    async def _ask_about_failure(self, made: list[Attempt], proposed: Evaluation) -> Evaluation:
        error = failure_of(made[-1])
        happened, lost = await self._made_again_by_retry(made[-1])
        args = {
            "step_id": self.step["id"],
            "error": error,
            # Whoever only says yes must not repeat a write that happened, or may have.
            "decision": "abort" if happened or lost else "retry",
            "instructions": "",
            "output": made[-1]["output"],
        }
        can_revise = self.work.models.has("replanner", self.run.settings.models)
        description = _describe_failure(self.step, made, proposed, happened, lost, can_revise=can_revise)
        answer = await self._ask(
            "handle_step_failure",
            len(made),
            args,
            description,
            asked_at=made[-1].get("ended_at"),
            attempts=made,
        )
        # The message of a rejection is its reason; the result holds the failure itself.
        reason = (answer["message"] if answer["type"] == "reject" else "") or error["message"]
        decided = self._decided(answer, answer["decision"], reason, hint=answer["message"])
        if answer["decision"] == "supply":
            made[-1] = {**made[-1], "output": await self._supplied(answer["args"]["output"], made[-1])}
        return decided

    async def _made_again_by_retry(self, last: Attempt) -> tuple[list[EffectRecord], list[EffectRecord]]:
        """List the writes that another attempt makes again: those that happened, and those that may have.

        An agent's writes that are known to have happened are asked about before they are made again.
        """
        plan = self.run.root_work(self.work.plan_id)
        calls = await self.run.effects.of_step(plan, self.step["id"])
        items = {None, *(item["index"] for item in last.get("failed_items") or ())}
        own = [
            one
            for one in calls
            if one.call.order is None
            and len(one.call.work.path) == len(plan.path) + 1
            and one.call.work.path[-1].item in items
        ]
        happened = [one for one in own if one.effect == "write" and one.succeeded]
        return happened, [one for one in calls if one.counts_as_failed]

    async def _supplied(self, output: Any, attempt: Attempt) -> Any:
        """Return the handle for an output given by hand; the proposed value already has one."""
        return output if output == attempt["output"] else await self.run.artifacts.put_away(output)

    async def _ask(
        self,
        name: str,
        occasion: int,
        args: Mapping[str, Any],
        description: str,
        *,
        shown: str = "",
        **record: Any,
    ) -> Answer:
        """Ask about the step; the occasion and the text distinguish the question from earlier ones."""
        work = self.run.root_work(self.work.plan_id)
        step = Place(self.step["id"], None, occasion, step_fingerprint(self.step) + shown)
        key = [work.plan_id, path_as_json(work.at(step).path)]
        uses = await self._uses()
        return await ask_person(
            self.run, key, name, args, description, step_id=self.step["id"], uses=uses, **record
        )

    async def _uses(self) -> list[Use]:
        """Return what the step may do, if rules say who decides about that."""
        if not self.run.settings.approvers:
            return []
        values: Mapping[str, Any] = {}
        with suppress(ArtifactDamagedError):  # Then its resources count as unknown.
            values = await self.work.values()
        return uses_of([self.step], self.work.toolbox, values)

    async def _approve_step(self) -> Outcome | None:
        try:
            values = await self.work.values()
        except ArtifactDamagedError as error:
            self.damage = error  # What cannot be shown cannot be approved, so the attempt fails.
            return None
        description = f"Step {step_in_words(self.step, self.work.toolbox, values)}"
        shown = digest(values)  # An approval covers only what was shown.
        ordered = sum(_orders(event, self.step["id"]) for event in self.work.state.get("audit") or ())
        answer = await self._ask("approve_step", ordered, {"step": self.step}, description, shown=shown)
        self._note(self._decided(answer, "continue", f"approve_step: {answer['type']}"))
        if answer["type"] == "reject":
            return self._refused(answer)
        if answer["type"] == "edit":
            self.work = replace(self.work, step=_edited(self.step, answer["args"]))
        return None

    def _refused(self, answer: Answer) -> Outcome:
        message = "a person rejected this step" + (f": {answer['message']}" if answer["message"] else "")
        return Outcome(
            self._result("failed", [], error={"code": "rejected", "message": message}), None, self.audit
        )

    # --- results -------------------------------------------------------------------------

    def _done(self, made: list[Attempt]) -> Outcome:
        return Outcome(self._result("done", made), None, self.audit)

    def _ended(self, made: list[Attempt], decision: Evaluation) -> Outcome:
        error = failure_of(made[-1])
        if decision["decision"] == "supply":
            supplied = self._result("done", made)
            # Nobody checked an output given by hand, so it is not `met`.
            supplied["verdict"] = "unverified"
            gap = "a person supplied this output, and nothing has checked it"
            supplied["criteria"] = [{"type": "supplied", "passed": None, "gap": gap}]
            return Outcome(supplied, None, self.audit)
        if decision["decision"] == "skip":
            return Outcome(self._result("skipped", made, error=error), None, self.audit)
        handled = decision["decision"] == "continue"
        return Outcome(self._result("failed", made, error=error), None if handled else decision, self.audit)

    def _blocked(self, failed: list[str]) -> Outcome:
        error: Failure = {
            "code": "blocked",
            "message": f"it depends on {', '.join(failed)}, which did not succeed",
        }
        return Outcome(self._result("blocked", [], error=error), None, self.audit)

    def _result(self, status: Any, made: Sequence[Attempt], *, error: Failure | None = None) -> StepResult:
        ran = status in ("done", "failed")
        # If failed items of a loop are skipped, dependents see the others.
        has_output = bool(made) and (ran or "for_each" in self.step)
        verdict = (made[-1]["verdict"] if made and status == "done" else "failed") if ran else None
        return new_result(
            self.step["id"],
            status,
            self.run.timestamp(),
            made=made,
            error=error,
            output=made[-1]["output"] if has_output else None,
            verdict=verdict,
        )


def _about(event: AuditEvent) -> Sequence[str]:
    """Name the steps that a decision about a failure, or an order to run steps again, is about."""
    return event["evidence"] if event["event"] == "steps_retried" else [event.get("step_id") or ""]


def _orders(event: AuditEvent, step_id: str) -> bool:
    """Tell whether a person ordered a step again from outside the run."""
    return event["event"] == "steps_retried" and step_id in event.get("evidence", ())


def _describe_failure(
    step: Step,
    made: list[Attempt],
    proposed: Evaluation,
    happened: Sequence[EffectRecord],
    lost: Sequence[EffectRecord],
    *,
    can_revise: bool,
) -> str:
    error = failure_of(made[-1])
    lines = [
        f"Step **{step['id']}** failed after {len(made)} attempt{'s' if len(made) > 1 else ''}"
        + (f": {plain_line(step['task'])}" if step.get("task") else "."),
        f"`{error['code']}`: {plain_line(shortened(error['message'], 1000))}",
    ]
    if "call" in step:
        made_with = next((call["args"] for call in made[-1]["evidence"]), step["call"]["args"])
        lines.append(f"It calls {call_in_words(step['call']['tool'], made_with)}")
    for said, records in (("has", happened), ("may have", lost)):
        calls = {call_in_words(record.tool, record.args, record.effect): None for record in records}
        if calls:
            lines.append(f"This {said} happened: {', '.join(calls)}. `retry` makes it again.")
    if not (happened or lost) and error["code"] == StepTimeoutError.code:
        lines.append("It was interrupted: if the call changes something, that may still have happened.")
    if made[-1]["output"] is not None:
        lines.append(f"Its output: {plain_line(shown(made[-1]['output'], 500))}")
    if kind_of(proposed.get("by")) == "model":
        lines.append(f"The evaluator asks you because: {plain_line(proposed.get('reason', ''))}")
    revise = "`patch` (plan this part again), `replan` (plan the rest again), " if can_revise else ""
    hint = " (with instructions)" if needs_a_model(step) else ""
    lines.append(f"Decide: `retry`{hint}, `skip`, {revise}`supply` (give the output by hand), `abort`.")
    return "\n\n".join(lines)


def _edited(step: Step, args: Mapping[str, Any]) -> Step:
    """Apply a person's edit of a step that is about to run: its call's arguments, or its task."""
    edited: Step = {**step}
    if "call" in step and "call" in args:
        edited["call"] = {"tool": step["call"]["tool"], "args": args["call"]["args"]}
    if isinstance(task := args.get("task"), str):
        edited["task"] = task
    return edited
