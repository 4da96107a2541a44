"""Do the work of a step, or of one item: make the output within its limits, and check it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphBubbleUp, is_invalid_resume
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime

from ..errors import (
    BudgetExceededError,
    CannotError,
    IterationLimitError,
    ModelCallError,
    ModelOutputError,
    ModelTruncatedError,
    NothingDoneError,
    PlanExecuteError,
    StepError,
    StepStoppedError,
    StepTimeoutError,
    StorageError,
    ThreadBusyError,
)
from ..evaluation.criteria import Check, check_output, resolved_criteria, unchecked
from ..evaluation.decision import BY_A_PERSON
from ..evaluation.judge import make_judge
from ..langgraph_private import SAVER
from ..models.chat import ChatModels
from ..models.prompts import fill_quoted, quote
from ..models.prompts.attachments import attachments_of, with_attachments
from ..models.prompts.calls import describe_calls
from ..plan.criteria import located
from ..plan.identity import input_values, lost_its_check, step_fingerprint
from ..plan.references import expression_roots, resolve, search, step_references
from ..plan.trust import outputs_used
from ..run import OUTER_KEY, Repeats, Run, StepScope, emit
from ..safety.plain_json import copied
from ..state import (
    ORDERED,
    ORDERED_TOO,
    Attempt,
    Criterion,
    CriterionResult,
    Evidence,
    Failure,
    State,
    Step,
    StepResult,
    digest,
    granted_tools,
    kind_of,
    new_attempt,
)
from ..storage.artifacts import ArtifactDamagedError
from ..storage.calls import collect_faults
from ..storage.ids import Place, WorkId
from ..tools.texts import shortened
from ..tools.threads import run_bounded, run_in_thread
from ..tools.toolbox import Toolbox
from ..tracing.marks import ATTEMPT, ITEM, TracedPart
from .account import with_items
from .doing import require_done, uncalled
from .effects import content_of, settle_doubts_of_step
from .epoch import Epoch
from .gate import StepWithheldError
from .granted import confirmed_arguments
from .kinds.agent import run_agent_step, step_messages
from .kinds.ask import run_ask_step
from .kinds.bound import run_bound_step
from .kinds.named import run_named_agent
from .kinds.sub_plan import run_sub_plan

__all__ = ["Item", "StepWork", "broken_attempt", "costs_nothing"]

Json = Any


@dataclass(frozen=True)
class Item:
    """One item of a ``for_each``: its position in the list, from 0, its value, and the list."""

    index: int
    value: Json
    listed: Sequence[Json] = ()

    @property
    def total(self) -> int:
        """The length of the list."""
        return len(self.listed)


class _Stop:
    """Cancels an attempt's work when the run is told to stop, but no write that has begun.

    Attributes:
        cancelled: Whether it has cancelled the work.
    """

    def __init__(self, scope: StepScope, *, is_bound: bool) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._before = task, task.cancelling()
        self._scope, self._is_bound = scope, is_bound
        self._has_ended = self.cancelled = False

    def hear(self, _: object = None) -> None:
        """Take in that the run was told to stop."""
        if self._has_ended or self.cancelled or self.is_cancelled_by_others:
            return  # Else it would cut short what tidies up.
        if not self._scope.writing:
            self.cancelled = True
            self._task.cancel()
        elif not self._is_bound:  # The only call of a bound step ends it.
            self._scope.after_writes = self.hear

    def end(self) -> None:
        """Take in that the work has ended."""
        self._has_ended, self._scope.after_writes = True, None
        if self.cancelled:
            self._task.uncancel()

    @property
    def is_cancelled_by_others(self) -> bool:
        """Whether somebody else wants the step's task to end."""
        return self._task.cancelling() > self._before


@dataclass
class StepWork:
    """Everything needed to attempt one step whose dependencies have ended."""

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
    confirmed: Mapping[int, dict[str, Json]] = field(default_factory=dict)
    """The arguments of a loop's calls that a person has seen, by item."""
    repeats: Repeats = "none"
    """Which writes this attempt at the whole loop may make again."""

    # --- one attempt ---------------------------------------------------------------------

    async def attempt(
        self, number: int, before: Attempt | None, hint: str, item: Item | None = None
    ) -> Attempt:
        """Make attempt ``number`` at the step, or at one item of it; a failure becomes its ``error``.

        Args:
            number: From 1.
            before: The previous attempt, whose gap is fed back.
            hint: The hint of a person or the evaluator, worded by ``advice``.
            item: The item, of a ``for_each``.

        Raises:
            StepWithheldError: If no approval of the plan is recorded.
            StorageError: If the storage failed: that says nothing about the step.
            ThreadBusyError: If another runner has taken the thread over.
            langgraph.errors.GraphInterrupt: While a person is being asked.
        """
        if self.epoch.approval is None:
            raise StepWithheldError("no approval of this plan is recorded")
        of_item = {} if item is None else {ITEM: item.index}
        name = f"attempt {number}" if item is None else f"item {item.index}, attempt {number}"
        inputs = {"attempt": number} if item is None else {"attempt": number, "item": item.value}
        marks = {ATTEMPT: number, **of_item}
        async with TracedPart(self.config, "attempt", name, marks, inputs=inputs) as traced:
            with collect_faults(self.run.ledger.store, self._saver) as faults:
                attempt = await replace(self, config=traced.config)._attempt(number, before, hint, item)
            if faults:  # Whatever exception it became on its way here.
                raise faults[0]
            traced.outputs = {key: attempt[key] for key in ("verdict", "output", "criteria", "error")}
        return attempt

    async def _attempt(self, number: int, before: Attempt | None, hint: str, item: Item | None) -> Attempt:
        started_at = self.run.timestamp()
        named = self._model_named(before)
        scope = self._scope(number, item, hint, named)
        scope.repeats = self.repeats if item is not None else self.may_repeat(before)
        if "call" not in self.step:  # A bound step makes no model calls but its own.
            scope.tab = await self.run.tab_of(scope.work)
        evidence: list[Evidence] = []
        attempt = new_attempt(number, started_at, None, None)
        if named is not None:
            attempt["model"] = self.run.redact(named)
        kept: Json = None
        failure: Failure | None = None
        try:
            values = await self.values(item=item)
            hints = [said for said in (await self._told_of(before), hint) if said]
            work = self._produce(scope, evidence, values, hints, item)
            output = await self._output_of(work, scope, evidence)
            kept = await self.run.artifacts.put_away(output)
            check = await self._check(output, evidence, scope, values, item, hint)
            attempt["verdict"], attempt["criteria"] = check.verdict, check.criteria
            if check.verdict == "failed":
                failure = {"code": "check_failed", "message": "; ".join(check.gaps)}
            elif "tools" in self.step:
                require_done(self.step, check.criteria, evidence, self.toolbox, declared=scope.nothing_to_do)
                attempt["criteria"] = check.criteria + uncalled(self.step, evidence)
        except (StepError, ModelCallError, BudgetExceededError, ArtifactDamagedError) as error:
            attempt["verdict"] = "failed"
            failure = {"code": error.code, "message": str(error)}
        except (GraphBubbleUp, StorageError, ThreadBusyError):
            raise
        except Exception as error:
            if is_invalid_resume(error):
                raise
            # The embedder's middleware runs inside agent steps and may raise anything.
            failure = {"code": StepError.code, "message": f"{type(error).__name__}: {error}"}
        finally:
            await scope.tab.end_calls()
        if scope.outer is not None:
            scope.outer.within += evidence
        return {
            **attempt,
            "criteria": self.run.redact(attempt["criteria"]),
            "error": self.run.redact(failure),
            "output": kept,
            "evidence": [_for_the_record(call) for call in evidence],
            "usage": scope.tab.usage,
            "started_at": scope.begun_at or started_at,
            "ended_at": self.run.timestamp(),
        }

    def _work_id(self, number: int, item: Item | None, hint: str) -> WorkId:
        """Return the attempt's id, from its place and from what an agent or a planner is asked in it."""
        index = item.index if item is not None else None
        place = Place(self.step["id"], index, number, self._fingerprint(item, hint))
        return self.run.root_work(self.plan_id).at(place)

    def _asked(self, item: Item | None, hint: str) -> list[Json]:
        given = {step_id: result["output"] for step_id, result in self.needed.items()}
        inputs = input_values(self.plan, self.state.get("inputs"))
        return [step_fingerprint(self.step), given, inputs, item.value if item is not None else None, hint]

    def _stands(self, step_id: str) -> bool:
        """Tell whether a step is part of the plan and has not failed."""
        ended = self.epoch.gate.finished.get(step_id)
        return step_id in self.epoch.steps and (ended is None or ended["status"] != "failed")

    async def _item_stands(self, place: Place, content: str, item: Item | None, hint: str) -> bool:
        """Tell whether the list still holds, at another position, an item that makes or asks for the same."""
        if item is None or place.item is None or place.item >= len(item.listed):
            return False
        other = replace(item, index=place.item, value=item.listed[place.item])
        if "call" in self.step:
            args = await run_bounded(resolve, self.step["call"]["args"], await self.values(item=other))
            return content_of(self.step["call"]["tool"], args) == content
        return any(place.asked == self._fingerprint(other, said) for said in ("", hint))

    def _fingerprint(self, item: Item | None, hint: str) -> str:
        return "" if "call" in self.step else digest(self._asked(item, hint))[:16]

    def _model_named(self, before: Attempt | None) -> str | None:
        """Return the class or model for an attempt; the stronger one once a result was not good enough."""
        if "tools" not in self.step:
            return None
        stronger = self.step.get("escalate") or self.run.settings.escalate
        if stronger and before is not None and (before.get("model") == stronger or _fell_short(before)):
            return stronger
        return self.step.get("model")

    def may_repeat(self, before: Attempt | None) -> Repeats:
        """Tell which of the step's own writes may be made again after this attempt.

        An order counts only where the run's history holds it: a fork may have left it behind, or a kill may
        have cut it off. A person who answered the question about the failure knew what may have happened.
        """
        decision = before["decision"] if before is not None else None
        if decision is None or decision.get("reason") == ORDERED_TOO:
            return "none"
        if decision.get("reason") == ORDERED:
            orders = [one["at"] for one in self.state.get("audit") or () if one["event"] == "steps_retried"]
            return "known" if decision.get("at") in orders else "none"
        return "all" if kind_of(decision.get("by")) == "person" else "known"

    def _scope(self, number: int, item: Item | None, hint: str, named: str | None) -> StepScope:
        settings = self.run.settings
        model = None
        if "tools" in self.step and self.models.has("executor", settings.models):
            model = self.models.get("executor", settings.models, named)
        outer = self.config["configurable"].get(OUTER_KEY)
        return StepScope(
            run=self.run,
            plan_id=self.plan_id,
            revision=self.plan["revision"],
            work=self._work_id(number, item, hint),
            step_id=self.step["id"],
            attempt=number,
            item=item.index if item is not None else None,
            tools=frozenset(granted_tools(self.step)),
            max_iterations=self.step.get("max_iterations") or settings.max_iterations,
            tab=self.run.tab(),
            model=model,
            output_schema=self.step.get("output_schema") or self.epoch.forms.get(self.step["id"]),
            doubtful=number == 1 and self.memory_lost,
            outer=outer if isinstance(outer, StepScope) else None,
            still_stands=self._stands,
            item_stands=partial(self._item_stands, item=item, hint=hint),
            is_given=lambda: bool(outputs_used(self.step) - {"inputs", "item", "index"}),
        )

    async def _produce(
        self,
        scope: StepScope,
        evidence: list[Evidence],
        values: Mapping[str, Json],
        hints: Sequence[str],
        item: Item | None,
    ) -> Json:
        if "when" in self.step:
            # A reference that cannot be evaluated fails the step.
            await run_bounded(search, self.step["when"], values)
        if "ask" in self.step:
            return await run_ask_step(await run_bounded(resolve, self.step["ask"], values), scope)
        if "call" in self.step:
            if (seen := self.confirmed.get(item.index) if item is not None else None) is not None:
                args = copied(seen)
            else:
                args = await run_bounded(resolve, self.step["call"]["args"], values)
                args = await confirmed_arguments(self.step, args, scope, self.toolbox, self.epoch.approval)
            return await run_bound_step(
                self.step, args, scope, evidence, self.toolbox, self.config, self.runtime
            )
        if self.run.resumed:
            await settle_doubts_of_step(scope)
        if "plan" in self.step:
            goal = str(await run_bounded(resolve, self.step["plan"]["goal"], values))
            return await run_sub_plan(
                goal,
                self.step,
                self.plan,
                self.toolbox,
                hints=hints,
                scope=scope,
                evidence=evidence,
                config=self.config,
            )
        return await self._delegate(scope, evidence, values, hints, item)

    async def _delegate(
        self,
        scope: StepScope,
        evidence: list[Evidence],
        values: Mapping[str, Json],
        hints: Sequence[str],
        item: Item | None,
    ) -> Json:
        """Have an agent do the step: a named one, or the ReAct agent with the step's tools."""
        task, goal = self.step.get("task", ""), self.state.get("goal") or ""
        messages = step_messages(
            task=await run_bounded(fill_quoted, task, values, self.run.mark),
            goal=goal,
            criteria=await self._criteria(values),
            material=await self._material(item),
            hints=hints,
            scope=scope,
        )
        if "agent" in self.step:
            return await run_named_agent(
                self.toolbox.agents[self.step["agent"]],
                self.step,
                task=str(await run_bounded(resolve, task, values)),
                request=messages[-1],
                scope=scope,
                evidence=evidence,
                toolbox=self.toolbox,
                config=self.config,
                runtime=self.runtime,
            )
        assert self.step_agent is not None, "the validator refuses agent steps without a model"
        messages = with_attachments(messages, attachments_of(self.state), scope.model)
        return await run_agent_step(
            self.step_agent,
            self.step,
            messages=messages,
            scope=scope,
            evidence=evidence,
            toolbox=self.toolbox,
            config=self.config,
        )

    async def _output_of(self, work: Awaitable[Json], scope: StepScope, evidence: list[Evidence]) -> Json:
        """Await the output within the attempt's limits, and take the secrets out of it and the evidence."""
        try:
            return self.run.redact(await self._within_limits(work, scope))
        finally:
            evidence[:] = self.run.redact(evidence)

    async def _within_limits(self, work: Awaitable[Json], scope: StepScope) -> Json:
        """Await the work within its time; on a request to stop, let a write finish and cancel the rest."""
        limit, asked = self._time_limit(), self.run.stop.asked()
        stop = _Stop(scope, is_bound="call" in self.step)
        asked.add_done_callback(stop.hear)
        output: Json = None
        try:
            try:
                async with asyncio.timeout(limit) as deadline:
                    output = await work
            finally:
                asked.remove_done_callback(stop.hear)
                stop.end()
        except asyncio.CancelledError:
            if not (stop.cancelled or stop.is_cancelled_by_others):
                raise StepError("the work was cancelled from within") from None
        except Exception as error:
            # Whatever the work makes of being cancelled, it was.
            if not (stop.cancelled or stop.is_cancelled_by_others or deadline.expired()):
                if isinstance(error, TimeoutError):
                    raise StepError(f"a timeout inside the step: {error}") from error
                raise
        if stop.is_cancelled_by_others:
            raise asyncio.CancelledError
        if stop.cancelled:
            raise StepStoppedError("the run was told to stop")
        if deadline.expired():
            if self.run.meter.seconds_left() == 0 and (spent := self.run.meter.exhausted()):
                raise spent
            raise StepTimeoutError(f"no result within timeout_s={limit:g}")
        return output

    def _time_limit(self) -> float | None:
        """Return the seconds for an attempt: its own limit, or what the budget leaves."""
        limits = [
            self.step.get("timeout_s") or self.run.settings.step_timeout_s,
            self.run.meter.seconds_left(),
        ]
        return min((limit for limit in limits if limit is not None), default=None)

    async def _check(
        self,
        output: Json,
        evidence: list[Evidence],
        scope: StepScope,
        values: Mapping[str, Json],
        item: Item | None,
        hint: str,
    ) -> Check:
        if lost_its_check(self.step, self.plan_id, self.state.get("audit") or ()):
            return unchecked()

        async def judge(criterion: str) -> CriterionResult:
            ask = make_judge(
                self.evaluator(),
                self.step,
                output,
                evidence,
                given=await self._given(item, hint),
                meter=scope.tab,
                mark=self.run.mark,
                config=self.config,
                limit_s=self._time_limit(),
            )
            return await ask(criterion)

        criteria = await self._located(await self._criteria(values))
        return await check_output(self.step, criteria, output, evidence, judge, sound=scope.found_sound)

    async def _told_of(self, before: Attempt | None) -> str:
        """Tell the next attempt why this one failed, what it changed, and what it answered."""
        if before is None or (error := before["error"]) is None:
            return ""
        mark, failed = self.run.mark, f"{error['code']}: {error['message']}"
        told = [f"The last attempt failed:\n{quote('failure', failed, mark)}"]
        changed = [call for call in before["evidence"] if call["ok"] and call["effect"] != "read"]
        if changed and "call" not in self.step:
            calls = describe_calls(changed, _ROOM)
            told.append(f"It made these calls, and what they did stays:\n{quote('calls', calls, mark)}")
        if before["output"] is not None and "tools" in self.step:
            output = await self.run.artifacts.value(before["output"], self.step["id"])
            told.append(f"Its answer was:\n{quote('answer', shortened(output, _ROOM), mark)}")
        return "\n".join(told)

    async def _located(self, criteria: list[Criterion]) -> list[Criterion]:
        """Resolve paths of checks from the file tools' folder, because a planner knows no other place."""
        if all(one["type"] != "file_exists" for one in criteria):
            return criteria
        folders = self.toolbox.folders(self.run.thread_id)
        return await run_in_thread(lambda: [located(one, folders) for one in criteria])

    async def _criteria(self, values: Mapping[str, Json]) -> list[Criterion]:
        stated = self.step.get("success_criteria")
        return await run_bounded(resolved_criteria, stated, values, self.run.mark) if stated else []

    # --- what the step is given ----------------------------------------------------------

    @property
    def plan(self) -> Any:
        """The plan that the step belongs to."""
        return self.state["plan"]

    @property
    def _saver(self) -> Any:
        return self.config["configurable"].get(SAVER)

    @property
    def plan_id(self) -> str:
        """The plan's id."""
        return str(self.plan["id"])

    @property
    def memory_lost(self) -> bool:
        """Whether an earlier run may have started the step, but its record is lost."""
        approval = self.epoch.approval or {}
        return bool(approval.get("memory_lost")) and self.step["id"] in self.epoch.ready_at_start

    async def values(self, part: str | None = None, *, item: Item | None = None) -> dict[str, Json]:
        """Return the values of references: exact outputs by step id, the input values, and the item.

        Only the values that the step uses are loaded. All are copies, because a tool may change them.

        Args:
            part: Load only for this part of the step, such as ``when``; None for all but ``for_each``.
            item: The item, of a ``for_each``.
        """
        named = _named(self.step, part)
        scope = {i: await self._output(i) for i in self.needed if i in named}
        if "inputs" in named:
            scope["inputs"] = copied(input_values(self.plan, self.state.get("inputs")))
        return scope if item is None else {**scope, "item": copied(item.value), "index": item.index}

    async def _output(self, step_id: str) -> Json:
        return await self.run.artifacts.value(self.needed[step_id]["output"], step_id)

    async def _material(self, item: Item | None) -> dict[str, Json]:
        """Return an agent's data by name; for a list that the step loops over, only the item."""
        hidden = _only_looped_over(self.step) if item is not None else set()
        steps, ended = self.epoch.steps, self.epoch.gate.finished
        outputs = {
            f"output of {i}": await with_items(steps[i], await self._output(i), self.state, ended, self.run)
            for i in self.needed
            if i not in hidden
        }
        for i in self.step.get("if_failed", ()):
            if error := self.needed[i]["error"]:
                outputs[f"failure of {i}"] = error["message"]
        return outputs if item is None else {**outputs, f"item {item.index + 1} of {item.total}": item.value}

    async def _given(self, item: Item | None, hint: str) -> dict[str, Json]:
        """Return what a judge sees of the step's input."""
        given = await self._material(item)
        if inputs := input_values(self.plan, self.state.get("inputs")):
            given["inputs"] = inputs
        if hint.startswith(BY_A_PERSON):
            given["what a person said"] = hint.removeprefix(BY_A_PERSON)
        return self.run.redact(given)

    def evaluator(self) -> Any:
        """Return the model that judges and decides; None if there is none."""
        overrides = self.run.settings.models
        return self.models.get("evaluator", overrides) if self.models.has("evaluator", overrides) else None

    def emit(self, kind: str, **details: Any) -> None:
        """Send a progress event about the step."""
        emit(self.runtime, self.run, kind, step_id=self.step["id"], **details)


_FELL_SHORT = {
    "check_failed",
    CannotError.code,
    IterationLimitError.code,
    ModelOutputError.code,
    ModelTruncatedError.code,
    NothingDoneError.code,
}
"""Failures that a better model might avoid; a lost connection is not one of them."""


def _fell_short(attempt: Attempt) -> bool:
    """Tell whether an attempt ended without a result, or with one that was not good enough."""
    return attempt["error"] is not None and attempt["error"]["code"] in _FELL_SHORT


def broken_attempt(number: int, error: PlanExecuteError, started_at: str) -> Attempt:
    """Return an attempt that could not begin."""
    return new_attempt(number, started_at, started_at, {"code": error.code, "message": str(error)})


def costs_nothing(step: Step, made: Attempt | StepResult) -> bool:
    """Tell whether a bound step only read, without a model: if a power failure loses it, it is read again."""
    reads = all(call["effect"] == "read" for call in made["evidence"])
    return "call" in step and reads and not made["usage"].get("model_calls")


def _for_the_record(call: Evidence) -> Evidence:
    """Leave out what only the check of the attempt needs."""
    return {key: value for key, value in call.items() if key != "whole"}  # type: ignore[return-value]


_ROOM = 4_000
"""Characters of the previous attempt that the next one is told."""


def _named(step: Step, part: str | None) -> set[str]:
    """Collect the step ids, and ``inputs``, that the references in a part of a step name."""
    found: set[str] = set()
    for where, expression in step_references(step):
        if where == part or (part is None and where != "for_each"):
            found |= expression_roots(expression)
    return found


def _only_looped_over(step: Step) -> set[str]:
    roots: dict[bool, set[str]] = {True: set(), False: set()}
    for where, expression in step_references(step):
        roots[where == "for_each"] |= expression_roots(expression)
    return roots[True] - roots[False]
