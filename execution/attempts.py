"""The attempts of one step: make one, check it, decide what its failure means, perhaps ask.

The loop replays. Attempts on record are not made again, but the questions asked
between them are asked again in the same order, because LangGraph hands out answers
by position when a node is re-entered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphBubbleUp, GraphInterrupt, is_invalid_resume
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.types import interrupt

from ..errors import (
    BadArgumentsError,
    BudgetExceededError,
    ModelCallError,
    StepError,
    StepStoppedError,
    StepTimeoutError,
    UnresolvedReferenceError,
)
from ..evaluation.criteria import Check, check_output
from ..evaluation.decision import Choice, decide_with_model, effective_policy
from ..evaluation.judge import make_judge
from ..models.chat import ChatModels
from ..questions import Answer, ask
from ..references import resolve
from ..run import Run, StepScope, audit_event, emit
from ..state import (
    AuditEvent,
    Criterion,
    Evaluation,
    Evidence,
    Failure,
    State,
    Step,
    StepResult,
    Usage,
    add_usage,
    descendants,
    granted_tools,
    input_values,
    is_satisfied,
    step_fingerprint,
)
from ..tools.calls import preview
from ..tools.toolbox import Toolbox
from .agent_step import run_agent_step
from .bound_step import run_bound_step
from .epoch import Epoch
from .gate import StepWithheldError

__all__ = ["AttemptLoop", "Outcome"]

Attempt = dict[str, Any]
"""``{number, output, verdict, criteria, evidence, error, usage, decision, questions, started_at,
ended_at}``."""

_FINAL_FAILURES = {BadArgumentsError.code, UnresolvedReferenceError.code}
"""Failures of a bound step that another attempt with the same arguments cannot change."""


@dataclass
class Outcome:
    """How a step ended: its result, what its failure means for the plan, and what was decided on the way."""

    result: StepResult
    decision: Evaluation | None = None
    audit: list[AuditEvent] = field(default_factory=list)


@dataclass
class AttemptLoop:
    """Carries out one step whose dependencies have ended."""

    step: Step
    needed: Mapping[str, StepResult]
    state: State
    run: Run
    epoch: Epoch
    models: ChatModels
    toolbox: Toolbox
    step_agent: CompiledStateGraph[Any, Any, Any, Any] | None
    config: RunnableConfig
    runtime: Runtime[Any]
    audit: list[AuditEvent] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)

    # --- the loop ------------------------------------------------------------------------

    async def run_step(self) -> Outcome:
        """Carry out the step.

        Raises:
            StepWithheldError: If it may not run now; it stays pending.
            langgraph.errors.GraphInterrupt: While a person is being asked.
        """
        if failed := [step_id for step_id, result in self.needed.items() if not is_satisfied(result)]:
            return self._blocked(failed)
        if self.step.get("approve") and (refused := self._approve_step()):
            return refused
        recorded = self.epoch.attempts_of(self.step)
        async with self.epoch.gate.slot(self.step, begun=bool(recorded)):
            return await self._attempt_until_decided(recorded)

    async def _attempt_until_decided(self, recorded: list[Attempt]) -> Outcome:
        for attempt in recorded:
            self.run.meter.spend(attempt["usage"])
        if not recorded:
            self._emit("step_started", task=self.step.get("task", ""))
        made: list[Attempt] = []
        while True:
            replayed = len(made) < len(recorded)
            if made and not replayed and self.epoch.gate.closed:
                return Outcome(self._result("failed", made, error=made[-1]["error"]), None, self.audit)
            attempt = _replay(recorded[len(made)]) if replayed else await self._attempt(made)
            made.append(attempt)
            if attempt["error"] is None:
                return self._done(made)
            if attempt["decision"] is None:
                attempt["decision"] = await self._decide(made)
                await self._record_attempt(attempt)
            decision = attempt["decision"]
            if decision["decision"] == "ask":
                decision = self._ask_about_failure(made, decision)
            self._note(decision)
            if decision["decision"] != "retry":
                return self._ended(made, decision)
            self.hints = [hint for hint in (self._gap(attempt), decision.get("hint")) if hint]

    async def _record_attempt(self, attempt: Attempt) -> None:
        await self.run.ledger.record_attempt(
            self._plan_id, self.step["id"], step_fingerprint(self.step), attempt["number"], attempt
        )

    # --- one attempt ---------------------------------------------------------------------

    async def _attempt(self, made: list[Attempt]) -> Attempt:
        if self.epoch.approval is None:
            raise StepWithheldError("no approval of this plan is on record")
        number = len(made) + 1
        self._emit("step_attempt", attempt=number)
        started_at = self.run.timestamp()
        scope = self._scope(number)
        evidence: list[Evidence] = []
        attempt: Attempt = {
            "number": number,
            "output": None,
            "verdict": "failed",
            "criteria": [],
            "decision": None,
        }
        failure: Failure | None = None
        try:
            attempt["output"] = await self._within_time_limit(self._produce(scope, evidence), scope)
            check = await self._check(attempt["output"], evidence, scope)
            attempt |= {"verdict": check.verdict, "criteria": check.criteria}
            if check.verdict == "failed":
                failure = {"code": "check_failed", "message": "; ".join(check.gaps)}
        except (StepError, ModelCallError, BudgetExceededError) as error:
            failure = {"code": error.code, "message": str(error)}
        except GraphBubbleUp:
            raise
        except Exception as error:
            if is_invalid_resume(error):
                raise
            # The embedder's middleware runs inside agent steps and may raise anything.
            failure = {"code": StepError.code, "message": f"{type(error).__name__}: {error}"}
        asked = scope.questions if "call" in self.step else 0
        return attempt | {
            "error": failure,
            "evidence": evidence,
            "usage": scope.tab.usage,
            "questions": asked,
            "started_at": started_at,
            "ended_at": self.run.timestamp(),
        }

    def _scope(self, number: int) -> StepScope:
        lost = bool((self.epoch.approval or {}).get("memory_lost"))
        settings = self.run.settings
        has_model = self.models.has("executor", settings.models)
        return StepScope(
            run=self.run,
            plan_id=self._plan_id,
            step_id=self.step["id"],
            attempt=number,
            tools=frozenset(granted_tools(self.step)),
            max_iterations=self.step.get("max_iterations") or settings.max_iterations,
            tab=self.run.tab(),
            model=self.models.get("executor", settings.models)
            if has_model and "call" not in self.step
            else None,
            doubtful=lost and number == 1 and self.step["id"] in self.epoch.ready_at_start,
        )

    async def _produce(self, scope: StepScope, evidence: list[Evidence]) -> Any:
        if "call" in self.step:
            args = resolve(self.step["call"]["args"], self._values)
            return await run_bound_step(
                self.step, args, scope, evidence, self.toolbox, self.config, self.runtime
            )
        assert self.step_agent is not None, "the validator refuses agent steps without a model"
        return await run_agent_step(
            self.step_agent,
            self.step,
            task=str(resolve(self.step.get("task", ""), self._values)),
            goal=self.state.get("goal") or "",
            needed=self.needed,
            hints=self.hints,
            scope=scope,
            evidence=evidence,
            toolbox=self.toolbox,
            config=self.config,
        )

    async def _within_time_limit(self, work: Coroutine[Any, Any, Any], scope: StepScope) -> Any:
        limit = self._time_limit()
        try:
            async with asyncio.timeout(limit) as deadline:
                return await self._unless_stopped(work, scope)
        except TimeoutError as error:
            if deadline.expired():
                if self.run.meter.seconds_left() == 0 and (spent := self.run.meter.exhausted()):
                    raise spent from error
                raise StepTimeoutError(f"no result within timeout_s={limit:g}") from error
            raise StepError(f"a timeout inside the step: {error}") from error

    def _time_limit(self) -> float | None:
        """Return the seconds that an attempt may take: its own limit, or what the budget leaves."""
        limits = [
            self.step.get("timeout_s") or self.run.settings.step_timeout_s,
            self.run.meter.seconds_left(),
        ]
        return min((limit for limit in limits if limit is not None), default=None)

    async def _unless_stopped(self, work: Coroutine[Any, Any, Any], scope: StepScope) -> Any:
        """Await the work; when the run is told to stop, let a write finish and cancel the rest."""
        working = asyncio.ensure_future(work)
        try:
            await asyncio.wait({working, self.run.stop.asked()}, return_when=asyncio.FIRST_COMPLETED)
            while scope.writing and not working.done():
                await asyncio.wait({working}, timeout=0.05)
            if not working.done():
                raise StepStoppedError("the run was told to stop")
            if working.cancelled():
                raise StepError("the work was cancelled from within")
            return working.result()
        finally:
            if not working.done():
                working.cancel()
                await asyncio.wait({working})

    async def _check(self, output: Any, evidence: list[Evidence], scope: StepScope) -> Check:
        criteria: list[Criterion] = resolve(self.step.get("success_criteria", []), self._values)
        judge = make_judge(
            self._evaluator(),
            self.step,
            output,
            evidence,
            meter=scope.tab,
            mark=self.run.mark,
            config=self.config,
            limit_s=self._time_limit(),
        )
        return await check_output(self.step, criteria, output, evidence, judge)

    # --- what a failure means ------------------------------------------------------------

    async def _decide(self, made: list[Attempt]) -> Evaluation:
        """Decide by the rules, else by the policy, else by the evaluator model."""
        attempt, settings = made[-1], self.run.settings
        error: Failure = attempt["error"]
        limit = self.step.get("max_attempts") or settings.max_attempts
        left = len(made) < limit
        if error["code"] == BudgetExceededError.code:
            return self._evaluation("abort", error["message"], by="limit")
        if error["code"] == StepStoppedError.code:
            return self._evaluation("abort", error["message"], by="person")
        policy = effective_policy(self.step, settings.on_failure, attempts_left=left)
        wrote = self._wrote(attempt)
        if wrote and error["code"] == StepTimeoutError.code and policy in ("auto", "patch", "replan"):
            # The write may have happened: only a person can know whether it may be made again.
            policy = "ask"
        if left and self._worth_another(attempt) and (not wrote or policy == "retry"):
            return self._evaluation("retry", error["message"])
        if policy == "auto":
            return await self._decide_automatically(made, wrote, exhausted=len(made) > limit)
        if policy == "retry":
            policy = "ask" if self.run.can_ask else "abort"
        if policy == "ask" and not self.run.can_ask:
            return self._evaluation("abort", "a person should decide, but nobody can be asked")
        return self._evaluation(policy, error["message"])

    def _worth_another(self, attempt: Attempt) -> bool:
        return not ("call" in self.step and attempt["error"]["code"] in _FINAL_FAILURES)

    def _wrote(self, attempt: Attempt) -> bool:
        """Tell whether the attempt made, or may have made, a call that changes the world."""
        if "call" in self.step:
            return self.toolbox.effect(self.step["call"]["tool"]) == "write"
        if any(call["effect"] == "write" for call in attempt["evidence"]):
            return True
        # An agent that was cut off leaves no evidence behind.
        cut_off = attempt["error"]["code"] != "check_failed"
        return cut_off and "write" in self.toolbox.effects(granted_tools(self.step))

    async def _decide_automatically(self, made: list[Attempt], wrote: bool, *, exhausted: bool) -> Evaluation:
        model = self._evaluator()
        error: Failure = made[-1]["error"]
        if model is None:
            decision = "ask" if self.run.can_ask else "abort"
            return self._evaluation(decision, error["message"])
        impossible: set[str] = {"retry"} if wrote or exhausted else set()
        impossible |= set() if self.run.can_ask else {"ask"}
        allowed: list[Choice] = [
            c for c in ("retry", "skip", "patch", "replan", "ask", "abort") if c not in impossible
        ]
        tab = self.run.tab(made[-1]["usage"])
        dependents = sorted(descendants(self._plan["steps"], [self.step["id"]]))
        evaluation = await decide_with_model(
            model,
            self.step,
            f"{error['code']}: {error['message']}",
            allowed,
            goal=self.state.get("goal") or "",
            dependents=dependents,
            meter=tab,
            mark=self.run.mark,
            config=self.config,
        )
        made[-1]["usage"] = tab.usage
        return evaluation

    def _evaluation(self, decision: Any, reason: str, *, by: Any = "policy", hint: str = "") -> Evaluation:
        return {
            "decision": decision,
            "step_ids": [self.step["id"]],
            "reason": reason,
            "hint": hint,
            "by": by,
            "evidence": [reason],
        }

    def _gap(self, attempt: Attempt) -> str:
        error: Failure = attempt["error"]
        return f"The last attempt failed ({error['code']}): {error['message']}"

    def _note(self, decision: Evaluation) -> None:
        event = audit_event(
            self.run,
            self.state,
            "step_failure",
            step_id=self.step["id"],
            decision=decision["decision"],
            by=decision.get("by", "policy"),
            trigger=decision.get("reason", ""),
            evidence=decision.get("evidence", []),
        )
        self.audit.append(event)

    # --- asking a person -----------------------------------------------------------------

    def _ask_about_failure(self, made: list[Attempt], proposed: Evaluation) -> Evaluation:
        error: Failure = made[-1]["error"]
        args = {
            "step_id": self.step["id"],
            "error": error,
            "decision": "retry",
            "instructions": "",
            "output": made[-1]["output"],
        }
        description = _describe_failure(self.step, made, proposed)
        answer = self._ask(
            "handle_step_failure", args, description, asked_at=made[-1].get("ended_at"), attempts=made
        )
        # A rejection's message is its reason; the failure itself stands in the result.
        reason = (answer["message"] if answer["type"] == "reject" else "") or error["message"]
        decided = self._evaluation(answer["decision"], reason, by=answer["by"], hint=answer["message"])
        if answer["decision"] == "supply":
            made[-1] = {**made[-1], "output": answer["args"]["output"]}
        return decided

    def _ask(self, name: str, args: Mapping[str, Any], description: str, **record: Any) -> Answer:
        try:
            return ask(name, args, description, step_id=self.step["id"], **record)
        except GraphInterrupt:
            self._emit("question_open", question=name)
            raise

    def _approve_step(self) -> Outcome | None:
        tools = (
            ", ".join(f"`{name}` [{self.toolbox.effect(name)}]" for name in granted_tools(self.step))
            or "no tools"
        )
        description = f"Step **{self.step['id']}** is ready: {self.step.get('task') or 'call'} — {tools}"
        answer = self._ask("approve_step", {"step": self.step}, description)
        self._note(self._evaluation("continue", f"approve_step: {answer['type']}", by=answer["by"]))
        if answer["type"] == "reject":
            return self._refused(answer)
        if answer["type"] == "edit":
            self.step = _edited(self.step, answer["args"])
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
        error: Failure = made[-1]["error"]
        if decision["decision"] == "supply":
            supplied = self._result("done", made)
            # Nobody checked what a person handed in, so it is not called met.
            supplied["verdict"] = "unverified"
            return Outcome(supplied, None, self.audit)
        if decision["decision"] == "skip":
            return Outcome(self._result("skipped", made, error=error), None, self.audit)
        return Outcome(self._result("failed", made, error=error), decision, self.audit)

    def _blocked(self, failed: list[str]) -> Outcome:
        error: Failure = {
            "code": "blocked",
            "message": f"it depends on {', '.join(failed)}, which did not succeed",
        }
        return Outcome(self._result("blocked", [], error=error), None, self.audit)

    def _result(self, status: Any, made: list[Attempt], *, error: Failure | None = None) -> StepResult:
        last = made[-1] if made else {}
        ran = status in ("done", "failed")
        return {
            "step_id": self.step["id"],
            "status": status,
            "output": last.get("output") if ran else None,
            "verdict": (last.get("verdict") if status == "done" else "failed") if ran else None,
            "criteria": last.get("criteria", []),
            "evidence": [call for attempt in made for call in attempt["evidence"]],
            "attempts": len(made),
            "error": error,
            "started_at": made[0].get("started_at") if made else None,
            "finished_at": self.run.timestamp(),
            "usage": _sum(attempt["usage"] for attempt in made),
        }

    def _emit(self, kind: str, **details: Any) -> None:
        emit(self.runtime, self.run, kind, step_id=self.step["id"], **details)

    # --- what the step is given ----------------------------------------------------------

    @property
    def _plan(self) -> Any:
        return self.state["plan"]

    @property
    def _plan_id(self) -> str:
        return str(self._plan["id"])

    @property
    def _values(self) -> dict[str, Any]:
        """Outputs by step id, and the input values, for references."""
        outputs = {step_id: result["output"] for step_id, result in self.needed.items()}
        return {**outputs, "inputs": input_values(self._plan, self.state.get("inputs"))}

    def _evaluator(self) -> Any:
        overrides = self.run.settings.models
        return self.models.get("evaluator", overrides) if self.models.has("evaluator", overrides) else None


def _replay(attempt: Attempt) -> Attempt:
    """Take an attempt from the record, and the answers to the questions that were asked within it."""
    for _ in range(attempt.get("questions", 0)):
        interrupt(None)
    return attempt


def _sum(usages: Any) -> Usage:
    total: Usage = {}
    for usage in usages:
        total = add_usage(total, usage)
    return total


def _describe_failure(step: Step, made: list[Attempt], proposed: Evaluation) -> str:
    error: Failure = made[-1]["error"]
    lines = [
        f"Step **{step['id']}** failed after {len(made)} attempt{'s' if len(made) > 1 else ''}: "
        f"{step.get('task') or 'call'}",
        f"`{error['code']}`: {preview(error['message'], 1000)}",
    ]
    if error["code"] == StepTimeoutError.code:
        lines.append("It was cut off: a call that changes the world may have happened all the same.")
    if made[-1]["output"] is not None:
        lines.append(f"Its output: {preview(made[-1]['output'], 500)}")
    if proposed.get("by") == "model":
        lines.append(f"The evaluator asks you because: {preview(proposed.get('reason', ''), 500)}")
    lines.append(
        "Decide: `retry` (with instructions), `skip`, `patch` (plan this part anew), "
        "`replan` (plan the rest anew), `supply` (give the output by hand), `abort`."
    )
    return "\n\n".join(lines)


def _edited(step: Step, args: Mapping[str, Any]) -> Step:
    """Apply a person's edit of a step about to run: the arguments of its call, or its task."""
    edited: Step = {**step}
    if "call" in step and "call" in args:
        edited["call"] = {"tool": step["call"]["tool"], "args": args["call"]["args"]}
    if isinstance(task := args.get("task"), str):
        edited["task"] = task
    return edited
