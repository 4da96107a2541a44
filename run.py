"""What one run of the graph holds in memory: settings, ledger, meter and gates.

The door makes a :class:`Run` for each call of ``stream``/``astream`` and passes it to the nodes in the
config. It is never written to a checkpoint.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal, TypeVar
from uuid import uuid4
from zoneinfo import ZoneInfo

from langchain_core.runnables import RunnableConfig
from langgraph.prebuilt import ToolRuntime
from langgraph.runtime import Runtime

from .context import Context
from .errors import ConfigurationError
from .events import Progress
from .plan.reuse import PlanReuse
from .safety.redaction import Redactor
from .spending.budget import BUDGETS, Meter, Tab
from .spending.periods import SoftLimit
from .state import AuditEvent, By, Effect, Evidence, Plan, State, StepResult, Usage, as_by
from .storage.artifacts import Artifacts
from .storage.effect_log import EffectLog
from .storage.history import History, OutputForms
from .storage.ids import CallId, Place, WorkId
from .storage.ledger import Ledger
from .storage.plan_cache import CachedPlans, PlanCache
from .tools.calls import abridged, ended_with

T = TypeVar("T")
AnyRuntime = Runtime[Any] | ToolRuntime[Any, Any]
Update = dict[str, Any]
"""What a node writes into the state."""
Node = Callable[..., Coroutine[Any, Any, Update]]
"""A node; its parameters are those LangGraph knows by name or type: state, config, runtime."""

__all__ = [
    "CALL_UNDER_WAY",
    "OUTER_KEY",
    "RUN_KEY",
    "STEP_KEY",
    "CallUnderWay",
    "Node",
    "Run",
    "StepScope",
    "Update",
    "audit_event",
    "emit",
    "emit_end_of_step",
    "run_of",
    "step_scope_of",
    "warn_of_budget",
]

RUN_KEY = "__plan_execute_run"
"""Key of the run in ``config["configurable"]``; the underscores keep it out of checkpoint metadata."""


class StopSignal:
    """A request to stop, from any thread; all waiting steps share one future."""

    def __init__(self) -> None:
        self._asked: asyncio.Future[None] | None = None
        self._is_set = False
        self._followers: list[StopSignal] = []

    def follow(self, other: StopSignal) -> None:
        """Be set when ``other`` is."""
        other._followers.append(self)
        if other.is_set():
            self.set()

    def is_set(self) -> bool:
        """Tell whether the run was told to stop."""
        return self._is_set

    def set(self) -> None:
        """Tell the run to stop."""
        self._is_set = True
        if self._asked is not None:
            with suppress(RuntimeError):  # The loop is closed, so nobody waits any more.
                self._asked.get_loop().call_soon_threadsafe(self._tell)
        for follower in self._followers:
            follower.set()

    def _tell(self) -> None:
        if self._asked is not None and not self._asked.done():
            self._asked.set_result(None)

    def asked(self) -> asyncio.Future[None]:
        """Return a future of the running loop that is done after the run was told to stop."""
        if self._asked is None:
            self._asked = asyncio.get_running_loop().create_future()
            if self._is_set:
                self._tell()
        return self._asked


@dataclass(repr=False)
class Run:
    """One run of one thread. Debug streams print the config that contains it, so it hides secrets.

    Attributes:
        settings: The effective settings: what the thread was started with, tightened by this run.
        ledger: The durable record of this thread.
        thread_id: The thread.
        within: Steps whose sub-plan this run is, the outermost first.
        heard: Whether its events are read.
        warned: Budgets for which the run has sent a warning.
        about: Id and revision of the current plan, for events.
        artifacts: Its large outputs.
        meter: What the run has spent, against its budgets.
        can_ask: Whether there is a checkpointer, so that a person can be asked.
        volatile: Whether the ledger is only in memory, and may have lost an earlier run.
        resumed: Whether the run continues from a checkpoint instead of starting a goal.
        tasks: LangGraph's ids of the tasks with which it continues.
        nested: Whether the graph runs inside another one, which stores its answers.
        underway: Whether an earlier run of this goal may have started steps.
        mark: A random word that delimits untrusted text in prompts.
        effects: The calls with an effect of this thread; a nested run shares its parent's.
        work: The run's piece of work if it is a sub-plan; None for the root.
        given: Answers given to this run, by the id of their question.
        person: Who gave the answers and ordered this run.
        requesters: Who gave the goal, in this branch of the conversation or another; empty if nobody knows.
        overdue: Questions among those that got the safe default, because nobody answered.
        refusals: Why the last answer to a question was not accepted, by the id of the question.
        begins: Whether it has a new goal that the planner has not accepted yet.
        answered: Whether it has written its answer, and so stops without a question.
        follows_up: Whether the thread has had a goal before.
        epochs: What the executors of each superstep share, by checkpoint.
        stop: Set when somebody asks the run to stop.
        graph: The agent itself, for sub-plans.
        depth: The number of plans around this one.
        ahead: Reads that began while the plan was written (``execution/reads_ahead.py``); None if none did.
        shown: The progress for people in a front end; None without one.
        tenant: The user that a server has authenticated; "" if there is none.
        plan_cache: How plans that worked are kept; None if this run keeps and recalls none.
        cached_plans: The entries of this run's tenant; None without a ``plan_cache``.
        redactor: Keeps secrets out of what is stored and shown.
        authored: Digests of the drafts that planner and replanner wrote in this run; a draft that
            a client put into the state is not among them.
    """

    settings: Context
    ledger: Ledger
    meter: Meter
    can_ask: bool
    effects: EffectLog
    work: WorkId | None = None
    given: dict[str, Any] = field(default_factory=dict)
    person: By = field(default_factory=lambda: By(kind="person"))
    requesters: frozenset[str] = frozenset()
    overdue: frozenset[str] = frozenset()
    refusals: dict[str, str] = field(default_factory=dict)
    begins: bool = False
    answered: bool = False
    follows_up: bool = False
    thread_id: str = ""
    within: tuple[str, ...] = ()
    heard: bool = True
    warned: set[str] = field(default_factory=set)
    about: tuple[str, int] | None = None
    artifacts: Artifacts = field(default_factory=Artifacts)
    volatile: bool = False
    resumed: bool = False
    tasks: frozenset[str] = frozenset()
    nested: bool = False
    underway: bool = False
    mark: str = field(default_factory=lambda: secrets.token_hex(4))
    new_id: Callable[[], str] = lambda: uuid4().hex
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    clock: Callable[[], float] = time.monotonic
    epochs: dict[str, asyncio.Future[Any]] = field(default_factory=dict)
    stop: StopSignal = field(default_factory=lambda: StopSignal())
    graph: Any = None
    depth: int = 0
    plan_cache: PlanCache | None = None
    cached_plans: CachedPlans | None = None
    redactor: Redactor = field(default_factory=Redactor)
    authored: set[str] = field(default_factory=set)
    ahead: Any = None
    tenant: str = ""
    shown: Progress | None = None
    _show: Callable[[], None] | None = None
    _shown_at: float = 0.0

    def show(self, runtime: AnyRuntime) -> None:
        """Send the progress to clients, and again after each silence from now on."""
        if self.shown is None:
            return
        if self._show is None:
            # LangGraph's writer asks where it is called from.
            here, writer = copy_context(), runtime.stream_writer
            self._show = lambda: here.run(self._write, writer)
        self._show()

    def show_again(self, silent_s: float) -> None:
        """Send the progress if nothing was sent for so many seconds."""
        if self._show is not None and self.clock() - self._shown_at >= silent_s:
            self._show()

    def _write(self, writer: Callable[[Any], None]) -> None:
        assert self.shown is not None
        self._shown_at = self.clock()
        writer(self.shown.as_message())

    @property
    def reuse(self) -> PlanReuse:
        """How plans that worked are found, kept and dropped."""
        note = partial(audit_event, self)
        return PlanReuse(self.plan_cache, self.cached_plans, self.ledger, self.redact, note)

    @property
    def history(self) -> History:
        """What steps took in earlier runs of this store."""
        return History(self.ledger.store)

    @property
    def output_forms(self) -> OutputForms:
        """The forms of tools' outputs in earlier runs of this user."""
        return OutputForms(self.ledger.store, self.tenant)

    def who_answered(self, question_id: str) -> By:
        """Return who gave an answer to this run."""
        return {"kind": "timeout"} if question_id in self.overdue else self.person

    def soft_limit(self) -> SoftLimit | None:
        """Return the budget about which a person must be asked before anything new starts.

        A sub-plan continues up to the limit, because its parent plan asks.
        """
        share = self.settings.soft_share
        return self.meter.soft_limit(share) if share and self.can_ask and not self.within else None

    @property
    def may_nest(self) -> bool:
        """Whether a plan of this run may have sub-plans."""
        return self.depth < self.settings.max_depth

    async def extend_budget(self, budget: str, by: float) -> None:
        """Extend a budget on a person's order; the extension is recorded when this returns."""
        if budget in BUDGETS:
            self.meter.extend(budget, by)
            await self.ledger.record_budget_extensions(self.meter.extensions)
        elif self.meter.periods is not None:
            await self.meter.periods.extend(budget, by)

    def new_plan_id(self) -> str:
        """Return the id of a new plan; a sub-plan's id is that of its work, whoever plans it again."""
        if self.work is not None:
            return self.work.digest
        plan_id = self.new_id()
        self.ledger.begin_plan(plan_id)
        return plan_id

    def root_work(self, plan_id: str) -> WorkId:
        """Return the identity of the work to which a plan of this run belongs."""
        return self.work or WorkId(self.ledger.thread_id, plan_id)

    def find_place(self, state: State) -> None:
        """Find a root run's place in the conversation, so that calls of abandoned plans are known."""
        plan, audit = state.get("plan"), state.get("audit") or ()
        if self.nested or plan is None:
            return
        ended = {event["plan_id"] for event in audit if event["event"] == "finished"}
        line = {str(event["plan_id"]) for event in audit} | {plan["id"]}
        self.effects.stand_in(line, len(ended - {plan["id"], None}))

    def redact(self, value: T) -> T:
        """Return a value without the secrets in it."""
        return self.redactor.value(value)

    def tab(self, earlier: Usage | None = None) -> Tab:
        """Open a tab on the run's meter."""
        return Tab(self.meter, earlier)

    async def tab_of(self, work: WorkId) -> Tab:
        """Open the tab of an attempt in which others may call models, with what they used in earlier runs."""
        tab = Tab(self.meter, write_others=partial(self.ledger.record_spent_by_others, work))
        if self.resumed:
            tab.take_over(await self.ledger.spent_by_others(work))
        return tab

    @property
    def today(self) -> str:
        """The date and the time zone for a prompt."""
        zone = self.settings.time_zone
        now = self.now().astimezone(ZoneInfo(zone) if zone else None)
        written, day = now.isoformat(timespec="minutes"), _DAYS[now.weekday()]
        return f"{day}, {written[:10]}, time zone {zone or now.tzname()} (UTC{written[-6:]})"

    def timestamp(self) -> str:
        """Return the time as ISO 8601 in UTC."""
        return self.now().isoformat(timespec="milliseconds")


_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def run_of(config: RunnableConfig) -> Run:
    """Return the run that a node belongs to.

    Raises:
        ConfigurationError: If the graph was not entered through the agent's own ``stream``/``astream``.
    """
    run = config.get("configurable", {}).get(RUN_KEY)
    if not isinstance(run, Run):
        raise ConfigurationError(
            "this graph runs only through the agent that create_plan_execute_agent returns"
        )
    return run


def audit_event(
    run: Run, state: State | Mapping[str, Any], event: str, *, at: str | None = None, **details: Any
) -> AuditEvent:
    """Record a decision with its plan and what had been spent by then; ``at`` None: now."""
    plan = state.get("plan") or {}
    base: AuditEvent = {
        "at": at or run.timestamp(),
        "event": event,
        "plan_id": plan.get("id"),
        "revision": plan.get("revision"),
        "usage": dict(state.get("usage") or {}),  # type: ignore[typeddict-item]
    }
    if "by" in details:
        details["by"] = as_by(details["by"])
    return {**base, **run.redact(details)}  # type: ignore[typeddict-item]


def emit(
    runtime: AnyRuntime,
    run: Run,
    kind: str,
    *,
    step_id: str | None = None,
    plan: Plan | None = None,
    **details: Any,
) -> None:
    """Send an event on the custom stream; :mod:`plan_execute.events` defines the fields of each kind.

    Args:
        runtime: The runtime with the stream.
        run: The run that it is about.
        kind: One of ``EVENT_TYPES``.
        step_id: The step that it is about.
        plan: The plan that it is about, and shows; None for the current plan.
        details: The fields of this kind of event.
    """
    if not run.heard:
        return
    if plan is not None:
        run.about = (plan["id"], plan["revision"])
        details["plan"] = plan
    plan_id, revision = run.about or (None, None)
    event = {
        "type": kind,
        "at": run.timestamp(),
        "thread_id": run.thread_id,
        "plan_id": plan_id,
        "revision": revision,
        "step_id": step_id,
        "within": list(run.within),
        "spent": run.meter.spent(),
        **run.redact(details),
    }
    runtime.stream_writer(event)
    if run.shown is not None and run.shown.hear(event):
        run.show(runtime)


def emit_end_of_step(runtime: Runtime[Any], run: Run, result: StepResult) -> None:
    """Send the event of a step that has its result."""
    told: dict[str, Any] = {key: result[key] for key in ("status", "verdict", "error", "attempts", "usage")}
    emit(runtime, run, "step_finished", step_id=result["step_id"], **told)


WARNED_SHARE = 0.8
"""Share of a budget at which a run warns if its settings have no soft share."""


def warn_of_budget(runtime: AnyRuntime, run: Run) -> None:
    """Send the event for a budget whose soft share is used up, once per run."""
    soft = run.meter.soft_limit(run.settings.soft_share or WARNED_SHARE) if run.heard else None
    if soft is not None and soft.budget not in run.warned:
        run.warned.add(soft.budget)
        emit(runtime, run, "budget_warning", budget=soft.budget, used=round(soft.used, 6), limit=soft.limit)


OUTER_KEY = "__plan_execute_outer"
"""Key of the scope of the step whose work is a nested plan."""
STEP_KEY = "__plan_execute_step"
"""Key of the step's scope in the config of an agent step; tools and models cannot reach it."""


Repeats = Literal["none", "known", "all"]
"""No writes; those whose success is known; also those that may have happened."""


async def _no_item_stands(_: Place, __: str) -> bool:
    return False


@dataclass(repr=False)
class StepScope:
    """The limits of one attempt of a step, enforced where models and tools are called.

    Attributes:
        run: The run it belongs to.
        plan_id: The plan the step belongs to.
        revision: The plan's revision.
        work: The identity of the attempt's work.
        step_id: The step.
        attempt: Number of this attempt, from 1.
        item: The item of a ``for_each``, from 0; None without one.
        tools: Names of the tools that the approved plan grants.
        max_iterations: Turns of the ReAct loop.
        tab: Where calls are counted.
        model: This run's model for the step; None for the agent's own.
        output_schema: The declared form of its output.
        doubtful: Whether a run with a lost record may have started writes.
        repeats: Which of the step's own writes this attempt may make again without a question.
        writing: The number of active calls that change the world, including those of a sub-plan.
        after_writes: Called when none of them is left; None: nobody waits for that.
        outer: In a sub-plan, the step to which the plan belongs.
        begun_at: When the work began, if that was before the attempt did.
        recovered: Whether the spending of the attempt's earlier entries has been counted.
        calls: The tool calls of this entry, for an interrupted attempt or a shortened conversation.
        turns: The turns that this entry knows of, including those removed from the conversation.
        unanswered: Why the last turn has no answer; a middleware may have put a text in its place.
        still_stands: Tells whether the step of an id is part of the plan and has not failed.
        item_stands: Tells whether the list also asks for this call at another item's position.
        nothing_to_do: Whether the agent declared that nothing needed doing.
        is_given: Tells whether it works with outputs of other steps.
        within: The calls of its sub-plan's steps that this process made, in full length.
        found_sound: Whether it is a sub-plan whose results were all verified.
        untold: Ids of the calls that were begun and not made yet.
    """

    run: Run
    plan_id: str
    revision: int
    work: WorkId
    step_id: str
    attempt: int
    tools: frozenset[str]
    max_iterations: int
    tab: Tab
    model: Any = None
    item: int | None = None
    output_schema: dict[str, Any] | None = None
    doubtful: bool = False
    repeats: Repeats = "none"
    writing: int = 0
    after_writes: Callable[[], None] | None = None
    outer: StepScope | None = None
    begun_at: str | None = None
    recovered: bool = False
    calls: list[Evidence] = field(default_factory=list)
    turns: int = 0
    unanswered: Exception | None = None
    still_stands: Callable[[str], bool] = lambda _: False
    item_stands: Callable[[Place, str], Awaitable[bool]] = _no_item_stands
    nothing_to_do: bool = False
    is_given: Callable[[], bool] = lambda: False
    within: list[Evidence] = field(default_factory=list)
    found_sound: bool = False
    untold: set[str] = field(default_factory=set)

    @contextmanager
    def write(self) -> Iterator[None]:
        """Mark a call that changes the world as active, so that nothing interrupts it at any level."""
        scopes = [self]
        while (outer := scopes[-1].outer) is not None:
            scopes.append(outer)
        for scope in scopes:
            scope.writing += 1
        try:
            yield
        finally:
            for scope in scopes:
                scope.writing -= 1
                if not scope.writing and scope.after_writes is not None:
                    asyncio.get_running_loop().call_soon(scope.after_writes)

    def begin_call(self, call: Mapping[str, Any], effect: Effect) -> Evidence:
        """Return the evidence of a tool call (``{name, args, id}``) that may be made; it is not ok yet."""
        seen: Evidence = {
            "tool": call["name"],
            "args": abridged(call["args"], self.run.settings.max_inline_bytes),
            "ok": False,
            "output_preview": "",
            "effect": effect,
            "call_id": str(call["id"] or ""),
            "whole": {"args": call["args"]},
        }
        self.untold.add(seen["call_id"])
        return seen

    def tell_call(self, runtime: AnyRuntime, seen: Evidence) -> None:
        """Send the event of a call that is made now."""
        self.untold.discard(seen["call_id"])
        told: dict[str, Any] = {key: seen[key] for key in ("tool", "args", "call_id", "effect")}
        self._emit(runtime, "tool_call", **told, attempt=self.attempt, item=self.item)

    def end_call(self, runtime: AnyRuntime, seen: Evidence, *, ok: bool, output: Any) -> None:
        """Write how a call ended into its evidence, and send the event; an earlier call's output has none."""
        seen["ok"], seen["output_preview"] = ok, ended_with(output, ok=ok)
        seen.setdefault("whole", {})["output"] = output
        if seen["call_id"] in self.untold:
            if ok:
                return
            self.tell_call(runtime, seen)  # A call that was refused is told with its reason.
        told: dict[str, Any] = {key: seen[key] for key in ("tool", "call_id", "ok", "output_preview")}
        self._emit(runtime, "tool_finished", **told)

    def _emit(self, runtime: AnyRuntime, kind: str, **details: Any) -> None:
        emit(runtime, self.run, kind, step_id=self.step_id, **details)


@dataclass
class CallUnderWay:
    """A call of a step; its tool may run an agent of ours, whose work belongs to the call."""

    scope: StepScope
    call: CallId
    runs: int = 0

    def work_of_run(self) -> WorkId:
        """Return the identity of the next run that the tool starts."""
        self.runs += 1
        return self.call.run_within(self.runs)


CALL_UNDER_WAY: ContextVar[CallUnderWay | None] = ContextVar("call_under_way", default=None)
"""The innermost call that the running task is part of."""


def step_scope_of(config: RunnableConfig) -> StepScope:
    """Return the scope of the agent step that a model or tool call belongs to.

    Raises:
        ConfigurationError: If the call does not belong to a step; nothing is granted then.
    """
    scope = config.get("configurable", {}).get(STEP_KEY)
    if not isinstance(scope, StepScope):
        raise ConfigurationError("this call does not belong to a step of an approved plan")
    return scope
