"""Share data between the executors of one superstep, and restore it when the superstep is entered again.

On a resume, LangGraph does not run finished siblings again, and their results are not in the node's state:
they are pending writes of the checkpoint. They are read from there, so that a graph with only a checkpointer
also resumes correctly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.types import INTERRUPT
from langgraph.runtime import Runtime

from ..langgraph_private import SAVER, read_channels
from ..models.chat import ChatModels
from ..people.approvals import standing_approval
from ..plan.dag import pending_steps
from ..plan.identity import step_fingerprint
from ..plan.wanted_forms import forms_wanted
from ..run import Run
from ..spending.estimates import expected_seconds
from ..state import Attempt, State, Step, StepResult, accepted_at, steps_by_id
from ..tools.toolbox import Toolbox
from .gate import Gate, StepWithheldError

__all__ = ["Epoch", "Siblings", "epoch_of"]

_STEP_CHANNELS = ["messages", "plan", "results", "goal", "inputs", "audit"]


@dataclass
class Siblings:
    """What executors of this superstep had done before the run stopped."""

    results: dict[str, StepResult] = field(default_factory=dict)
    """Results of the executors that had finished."""
    decisions: dict[str, Any] = field(default_factory=dict)
    """Decisions of those that failed; None if the step was withheld."""
    attempts: dict[str, list[Attempt]] = field(default_factory=dict)
    """Attempts of those that wait for a person, taken from their question."""


@dataclass
class Epoch:
    """The state, the gate, the approval and the history that the executors of one superstep share."""

    state: State
    accepted_at: str
    """``now()`` of its steps' expressions."""
    gate: Gate
    approval: dict[str, Any] | None
    siblings: Siblings
    ready_at_start: frozenset[str]
    """Steps that an earlier run may have started, because all their dependencies had finished."""
    steps: dict[str, Step]
    """The plan's steps by id."""
    forms: dict[str, dict[str, Any]]
    """What other steps use of an agent's answer, as a JSON Schema by step id."""
    recorded: dict[str, dict[str, Any]]
    """Recorded results, as rows of the ledger by step id: a finished step never runs again."""
    attempts: dict[tuple[str, str], list[Attempt]]
    """Recorded attempts, by step id and fingerprint."""
    _working: int = 0
    _rest: asyncio.Event = field(default_factory=asyncio.Event)

    def begin(self) -> None:
        """Count one more working executor."""
        self._working += 1
        self._rest.clear()

    def end(self) -> None:
        """Count one less."""
        self._working -= 1
        if self._working == 0:
            self._rest.set()

    async def at_rest(self) -> None:
        """Wait until no executor is working."""
        await self._rest.wait()

    def result_of(self, step: Step) -> StepResult | None:
        """Return the step's result if the ledger holds one for this exact step."""
        row = self.recorded.get(step["id"])
        return row["result"] if row is not None and row["fingerprint"] == step_fingerprint(step) else None

    def attempts_of(self, step: Step) -> list[Attempt]:
        """Return the attempts before this entry: from the ledger, else from the open question."""
        recorded = self.attempts.get((step["id"], step_fingerprint(step)), []) if self.attempts else []
        asked = self.siblings.attempts.get(step["id"], [])
        return list(recorded if len(recorded) >= len(asked) else asked)


async def epoch_of(
    run: Run,
    config: RunnableConfig,
    runtime: Runtime[Any],
    toolbox: Toolbox,
    models: ChatModels,
) -> Epoch:
    """Return what the executors of this superstep share; the first executor creates it."""
    namespace = _graph_namespace(config)
    checkpoint = runtime.execution_info.checkpoint_id if runtime.execution_info else ""
    key = f"{namespace}/{checkpoint}"
    if key not in run.epochs:
        first_after_resume = run.resumed and not run.epochs
        reentered = checkpoint if first_after_resume else None
        run.epochs[key] = asyncio.ensure_future(_open(run, config, reentered, toolbox, models))
    opened = run.epochs[key]
    epoch: Epoch = opened.result() if opened.done() else await asyncio.shield(opened)
    return epoch


async def _open(
    run: Run, config: RunnableConfig, reentered: str | None, toolbox: Toolbox, models: ChatModels
) -> Epoch:
    state: State = read_channels(config, _STEP_CHANNELS)
    plan, known = state.get("plan"), state.get("results") or {}
    assert plan is not None, "the dispatcher sends steps of a plan only"
    run.find_place(state)
    siblings = await _siblings(config, reentered, run.tasks) if reentered else Siblings()
    pending = pending_steps(plan, known)
    open_ids = {step["id"] for step in pending} - set(siblings.results)
    finished = {i: result for i, result in {**known, **siblings.results}.items() if i not in open_ids}
    approval = await standing_approval(run, state, toolbox)
    ready = frozenset(step["id"] for step in pending if finished.keys() >= set(step["depends_on"]))
    slots = run.settings.max_parallel
    seconds: Mapping[str, float] = {}
    if len(open_ids) > slots:  # With enough slots, the order does not matter.
        seconds = expected_seconds(plan, await run.history.samples(), models.names(run.settings.models))
    shared = slots if run.ahead is None else run.ahead.slots
    gate = Gate(plan, finished, shared, stop=run.stop, pause=lambda: _pause(run), seconds=seconds)
    for step_id, decision in siblings.decisions.items():
        if decision is None:
            gate.publish(step_id, StepWithheldError("it was withheld before the run stopped"))
        elif decision["decision"] in ("replan", "abort"):
            gate.halt(f"{step_id} failed and the decision is to {decision['decision']}")
    # On the first entry, the dispatcher has read them.
    recorded = await run.ledger.results(plan["id"]) if reentered else {}
    attempts = await run.ledger.attempts_of_plan(plan["id"])
    epoch = Epoch(
        state=state,
        accepted_at=accepted_at(state),
        gate=gate,
        approval=approval,
        siblings=siblings,
        ready_at_start=ready,
        steps=steps_by_id(plan),
        forms=forms_wanted(plan),
        recorded=recorded,
        attempts=attempts,
    )
    if reentered:
        # A write in doubt is asked about even if nothing new may start.
        gate.unsettled = await _unsettled(run, plan["id"])
    return epoch


async def _unsettled(run: Run, plan_id: str) -> frozenset[str]:
    """Name the steps with a write in doubt, here or in their sub-plans."""
    work = run.root_work(plan_id)
    doubts = await run.effects.doubts(work.plan_id, work.path)
    return frozenset(record.call.work.path[len(work.path)].step_id for record in doubts)


def _pause(run: Run) -> str | None:
    """Return why nothing new may start before a person was asked about a budget."""
    soft = run.soft_limit()
    return f"the soft share of {soft.budget} is used up" if soft else None


async def _siblings(config: RunnableConfig, checkpoint_id: str, tasks: Collection[str]) -> Siblings:
    """Read what these tasks wrote after the checkpoint from which the run continues.

    LangGraph 1.2.24 also keeps an update of the state there, before it makes the update's own checkpoint.
    """
    configurable = config["configurable"]
    saver = configurable.get(SAVER)
    if saver is None:
        return Siblings()
    address = {
        "thread_id": configurable["thread_id"],
        "checkpoint_ns": _graph_namespace(config),
        "checkpoint_id": checkpoint_id,
    }
    saved = await saver.aget_tuple({"configurable": address})
    found = Siblings()
    for task, channel, value in (saved.pending_writes or ()) if saved else ():
        if task not in tasks:
            continue
        if channel == "results":
            found.results |= value
        elif channel == "decisions":
            found.decisions |= value
        elif channel == INTERRUPT:
            for question in value:
                if isinstance(question.value, dict) and "attempts" in question.value:
                    found.attempts[question.value["step_id"]] = question.value["attempts"]
    return found


def _graph_namespace(config: RunnableConfig) -> str:
    """Return the namespace of the graph that an executor task belongs to."""
    namespace: str = config["configurable"].get("checkpoint_ns", "")
    return namespace.rpartition("|")[0]
