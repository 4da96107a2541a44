"""The door: what is checked and prepared before a run, because no node could do it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, Interrupt, StateSnapshot

from ..budget import Meter
from ..context import Context, run_redactor, stricter, to_context
from ..errors import (
    ConfigurationError,
    MissingModelError,
    SchemaVersionError,
    StorageError,
)
from ..models.chat import ROLES, model_name
from ..models.fallbacks import members_of
from ..redaction import REDACTOR_KEY
from ..run import OUTER_KEY, RUN_KEY, Run, StepScope, StopSignal
from ..state import FINAL_STATUSES, SCHEMA_VERSION, Usage, plan_hash
from ..storage.adapters import AsyncSaver, async_saver, async_store
from ..storage.artifacts import Artifacts
from ..storage.checkpoint_time import checkpoint_time, sort_after
from ..storage.ledger import Ledger
from ..storage.plan_cache import CachedPlans
from ..tracing.entry import watched_entry
from .answers import keep_answers, overdue_answers
from .inputs import check_input

if TYPE_CHECKING:
    from .agent import PlanExecuteAgent

__all__ = ["HOLD_KEY", "Entry", "check_clock", "check_version", "enter"]

HOLD_KEY = "__plan_execute_hold"
"""Key under which who holds the thread already says so: what checks the hold, in ``configurable``."""

_SAVER, _TASK, _RESUMING, _NAMESPACE, _RUNTIME = (
    "__pregel_checkpointer",
    "__pregel_task_id",
    "__pregel_resuming",
    "checkpoint_ns",
    "__pregel_runtime",
)
"""Keys under which LangGraph 1.2.22 hands a parent's run to a graph that is called as its node."""
_READ = "__pregel_read"
"""The parent's function that reads its state."""
_FROM_A_PARENT = (
    _TASK,
    _RESUMING,
    "__pregel_resume_map",
    "__pregel_replay_state",
    "__pregel_scratchpad",
)
"""What a graph believes about the parent that called it."""


@dataclass(frozen=True)
class Entry:
    """A run that may start: its input, its config with the run in it, its settings."""

    input: Any
    config: RunnableConfig
    settings: Context


@asynccontextmanager
async def enter(
    agent: PlanExecuteAgent,
    given: Any,
    config: RunnableConfig,
    context: Any,
    *,
    heard: bool,
    elsewhere: bool = False,
) -> AsyncIterator[Entry]:
    """Check a run and prepare it; hold the thread's lock while it runs.

    Args:
        agent: The graph.
        given: Its input.
        config: LangGraph's config.
        context: The settings asked for.
        heard: Whether anybody listens to the run's events.
        elsewhere: Whether another process will run it, which has the models; here it is only prepared.
    """
    configurable = _configurable(config)
    nested = _TASK in configurable
    if isinstance(configurable.get(_SAVER), BaseCheckpointSaver):
        configurable[_SAVER] = async_saver(configurable[_SAVER])
    saver = configurable.get(_SAVER) or agent.checkpointer
    thread_id = _thread_id(configurable, bool(saver) and not nested)
    asked = to_context(context) or (_inherited(configurable) if nested else None)
    hold = configurable.pop(HOLD_KEY, None)
    async with nullcontext() if nested else _held(agent, saver, thread_id, hold) as check_hold:
        entered = time.time()
        visit = _Visit(agent, configurable, saver, thread_id, nested=nested)
        await visit.look(given, asked)
        checked = await visit.checked(given, elsewhere=elsewhere)
        run = configurable[RUN_KEY] = await visit.run(heard)
        try:
            watched = watched_entry(config, agent.config, thread_id, run.redactor)
            async with nullcontext() if nested else _stoppable(run, entered, check_hold):
                with watched as told:
                    yield Entry(checked, {**told, "configurable": configurable}, run.settings)
        finally:
            if run.ahead is not None:
                await run.ahead.drop()
            if saver and not nested:
                await run.ledger.leave_unbooked_seconds(run.meter.lap())
            if isinstance(saver, AsyncSaver):
                await saver.idle()


class _Visit:
    """A run on its way in: what is on record where it goes, what it may start with, and what it is then."""

    def __init__(
        self,
        agent: PlanExecuteAgent,
        configurable: dict[str, Any],
        saver: Any,
        thread_id: str,
        *,
        nested: bool,
    ) -> None:
        self._agent = agent
        self._configurable = configurable
        self._saver = saver
        self._thread_id = thread_id
        self._nested = nested
        self._parent = _parent_of(configurable)
        self._store, self._volatile = _store(agent, configurable, bool(saver))

    async def look(self, given: Any, asked: Context | None) -> None:
        """Read what is on record, and open a finished run again whose plan was edited in the state."""
        self._snapshot = snapshot = await self._look_at_state()
        begun = snapshot is not None and bool(snapshot.values)
        goes_on = bool(self._configurable.get(_RESUMING)) and begun
        self._resumed = goes_on if self._nested else not isinstance(given, Mapping)
        self._record = await Ledger(self._store, self._thread_id).opening()
        settings = _settings(self._record.settings, snapshot, asked)
        redactor = self._redactor = run_redactor(settings.secret_names)
        instructions = redactor.text(settings.instructions)
        self._settings = settings.model_copy(update={"instructions": instructions})
        self._ledger = Ledger(self._store, self._thread_id, redactor)
        self._configurable[REDACTOR_KEY] = redactor
        if given is None and snapshot is not None and _was_edited_after_its_end(snapshot):
            here = {_SAVER: self._saver, "thread_id": self._configurable["thread_id"]}
            await _reopen(self._agent, here, snapshot)
            self._snapshot = await self._look_at_state()

    async def _look_at_state(self) -> StateSnapshot | None:
        return await _snapshot(self._agent, self._configurable, self._saver, self._nested)

    async def checked(self, given: Any, *, elsewhere: bool) -> Any:
        """Return the input as LangGraph may have it.

        Args:
            given: As the caller gave it.
            elsewhere: Whether another process will run it.
        """
        agent, settings, snapshot, nested = self._agent, self._settings, self._snapshot, self._nested
        checked = given
        if not (nested and self._resumed):
            overdue = {} if nested else overdue_answers(snapshot, settings.decision_timeout_s)
            checked = check_input(given, snapshot, bool(self._saver), nested, overdue)
        checked = self._redactor.value(checked)
        if not elsewhere:
            if isinstance(checked, dict) and not self._resumed:
                _require_planner(agent, checked, settings)
            _require_prices(agent, settings)
        # A parent keeps the answers itself, and LangGraph drops those of a checkpoint that is named.
        kept_by_others = nested or self._volatile or self._configurable.get("checkpoint_id")
        if isinstance(checked, Command) and isinstance(self._saver, AsyncSaver) and not kept_by_others:
            checked = await keep_answers(checked, snapshot, self._saver)
        return checked

    async def run(self, heard: bool) -> Run:
        """Make the run, with what earlier ones of its goal have spent.

        Args:
            heard: Whether anybody listens to its events.
        """
        if self._record.settings is None:
            await self._ledger.record_settings(self._settings.model_dump(mode="json", exclude_defaults=True))
        agent, configurable, parent, store = self._agent, self._configurable, self._parent, self._store
        values = self._snapshot.values if self._snapshot is not None else {}
        thread_id = parent.thread_id if parent is not None else self._thread_id
        lasts = _lasts(store, self._saver, self._volatile)
        return Run(
            settings=self._settings,
            ledger=self._ledger,
            meter=await self._meter(),
            can_ask=bool(self._saver),
            thread_id=thread_id,
            within=_within(configurable, parent),
            heard=heard or self._nested,
            about=_plan_of(values) if self._resumed else None,
            artifacts=Artifacts(store if lasts else None, self._thread_id, self._settings.max_inline_bytes),
            volatile=self._volatile,
            resumed=self._resumed,
            nested=self._nested,
            redactor=self._redactor,
            underway=self._resumed and values.get("status") == "running",
            stop=_stop_signal(configurable, parent),
            graph=agent,
            depth=parent.depth + 1 if parent is not None else 0,
            plan_cache=agent.plan_cache,
            cached_plans=_cached_plans(agent, configurable, store, self._volatile),
        )

    async def _meter(self) -> Meter:
        """Go on counting where earlier runs of the goal stopped; a new goal starts from nothing.

        What is part of another run spends from its budget.
        """
        snapshot, resumed, record = self._snapshot, self._resumed, self._record
        begun = snapshot if snapshot is not None and resumed and not _stands_before_a_goal(snapshot) else None
        spent: Usage | None = begun.values.get("usage") if begun is not None else None
        if self._parent is not None:
            if resumed:
                self._parent.meter.spend(spent or {})
            return self._parent.meter
        if record.unbooked_s:
            await self._ledger.leave_unbooked_seconds(0.0)  # they are taken over
        extensions = record.extensions
        if extensions and not resumed:  # they were for the goal before
            extensions = {}
            await self._ledger.record_budget_extensions(extensions)
        counted: dict[str, Any] = {"prices": self._agent.prices, "extensions": extensions}
        if self._settings.max_tool_calls is not None or self._settings.max_model_calls is not None:
            counted |= await self._counted_calls()
        return Meter(self._settings, spent, unbooked_s=record.unbooked_s if resumed else 0.0, **counted)

    async def _counted_calls(self) -> dict[str, Any]:
        """Take over how many calls the goal has begun, and have the next ones written down."""
        snapshot, row, ledger = self._snapshot, self._record.calls, self._ledger
        here = str(snapshot.config["configurable"].get("checkpoint_id", "")) if snapshot is not None else ""
        # A goal that was cut off before anything of it was on disk is given again at the same checkpoint.
        going_on = row is not None and (self._resumed or row["since"] == here)
        since = str(row["since"]) if row is not None and going_on else here
        calls = dict(row["calls"]) if row is not None and going_on else None
        if not self._resumed:
            await ledger.record_calls(calls or {}, since)
        return {"calls": calls, "write_calls": lambda made: ledger.record_calls(made, since)}


def _parent_of(configurable: Mapping[str, Any]) -> Run | None:
    """Return the run whose step this one is: a sub-plan, or a named agent that plans itself."""
    parent = configurable.get(RUN_KEY)
    return parent if isinstance(parent, Run) else None


def _plan_of(values: Mapping[str, Any]) -> tuple[str, int] | None:
    """Return id and revision of the plan that a run goes on with."""
    plan = values.get("plan")
    return (plan["id"], plan["revision"]) if plan and "id" in plan and "revision" in plan else None


def _within(configurable: Mapping[str, Any], parent: Run | None) -> tuple[str, ...]:
    """Name the steps whose sub-plan this run is, the outermost first."""
    outer = configurable.get(OUTER_KEY)
    return (*parent.within, outer.step_id) if parent is not None and isinstance(outer, StepScope) else ()


def _stop_signal(configurable: Mapping[str, Any], parent: Run | None) -> StopSignal:
    """Make the run's request to stop: a nested one stops with its parent, or when its step is not needed."""
    stop, outer = StopSignal(), configurable.get(OUTER_KEY)
    if parent is not None:
        stop.follow(parent.stop)
    if parent is not None and isinstance(outer, StepScope):
        stop.follow(outer.enough)
    return stop


def _stands_before_a_goal(snapshot: StateSnapshot) -> bool:
    """Tell whether a goal was taken in and not begun: the state is still that of the goal before it."""
    ended = snapshot.values.get("status") in FINAL_STATUSES
    return ended and any(task.name in ("__start__", "planner") for task in snapshot.tasks)


CheckHold = Callable[[], Awaitable[None]]
"""Raises `StorageError` once the thread is not held any more."""

_log = logging.getLogger(__name__)
_STOP_POLL_S = 0.5
"""How often a run looks whether another process asked it to stop."""


@asynccontextmanager
async def _stoppable(run: Run, entered: float, check_hold: CheckHold | None) -> AsyncIterator[None]:
    """Watch for a request to stop that comes after the run was ``entered`` (seconds since the epoch).

    A run that does not hold its thread any more is stopped too: its steps may only end, and nothing of it can
    be written.
    """

    async def watch() -> None:
        # Another process asks through the store, which can only be polled.
        while not run.stop.is_set():
            await asyncio.sleep(_STOP_POLL_S)
            try:
                if await _is_lost(check_hold) or await run.ledger.stop_requested(since=entered):
                    run.stop.set()
            except Exception:
                # The run itself will meet the store's fault where it matters; a later look may succeed.
                _log.warning("cannot look for a request to stop", exc_info=True)

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.wait({watching})


async def _is_lost(check_hold: CheckHold | None) -> bool:
    try:
        if check_hold is not None:
            await check_hold()
    except StorageError:
        _log.error("the run is stopped", exc_info=True)
        return True
    return False


# --- the thread --------------------------------------------------------------------------


def _configurable(config: RunnableConfig) -> dict[str, Any]:
    """Copy it, without a parent that there is not: a server takes these keys from its clients as JSON."""
    given = dict(config.get("configurable") or {})
    has_parent = callable(given.get(_READ))
    return {key: value for key, value in given.items() if has_parent or key not in _FROM_A_PARENT}


def _thread_id(configurable: Mapping[str, Any], required: bool) -> str:
    thread_id = configurable.get("thread_id")
    if thread_id is None and required:
        raise ConfigurationError(
            'a graph with a checkpointer needs {"configurable": {"thread_id": …}} in its config'
        )
    return str(thread_id) if thread_id is not None else uuid4().hex


@asynccontextmanager
async def _held(
    agent: PlanExecuteAgent, saver: Any, thread_id: str, hold: Any
) -> AsyncIterator[CheckHold | None]:
    """Hold the thread where the saver can; a server, or an embedder's own saver, keeps its own order.

    Args:
        agent: Whose run it is.
        saver: Its checkpointer.
        thread_id: The thread.
        hold: What checks a hold that the caller has; what a client sends is JSON, and counts for nothing.
    """
    if callable(hold):
        holding: Any = nullcontext(hold)
    else:
        holding = saver.hold_thread(thread_id) if isinstance(saver, AsyncSaver) else nullcontext()
    async with holding as check_hold:
        with _registered(agent, thread_id):
            yield check_hold


@contextmanager
def _registered(agent: PlanExecuteAgent, thread_id: str) -> Iterator[None]:
    """Let `cancel_run` see the run where no lock shows it."""
    entry = (thread_id, object())
    agent.running.add(entry)
    try:
        yield
    finally:
        agent.running.discard(entry)


async def _snapshot(
    agent: PlanExecuteAgent, configurable: dict[str, Any], saver: Any, nested: bool
) -> StateSnapshot | None:
    if not saver or configurable.get("thread_id") is None:
        return None
    address = {key: configurable[key] for key in ("thread_id", "checkpoint_id") if configurable.get(key)}
    if nested:
        address |= {_NAMESPACE: configurable.get(_NAMESPACE, ""), _SAVER: saver}
    snapshot = await agent.aget_state({"configurable": {_SAVER: saver, **address}})
    check_version(snapshot)
    newest = snapshot
    if "checkpoint_id" in address:
        rest = {key: value for key, value in address.items() if key != "checkpoint_id"}
        newest = await agent.aget_state({"configurable": {_SAVER: saver, **rest}})
    check_clock(newest)
    return snapshot._replace(interrupts=_unanswered(snapshot))


def _unanswered(snapshot: StateSnapshot) -> tuple[Interrupt, ...]:
    """Pick the questions that are open; an older checkpoint shows those too that were answered since.

    A second answer to one of those would not count: LangGraph 1.2.22 goes on with the first.
    """
    return tuple(question for task in snapshot.tasks if task.result is None for question in task.interrupts)


def _was_edited_after_its_end(snapshot: StateSnapshot) -> bool:
    """Tell whether a client changed the plan of a finished run in the state (Studio, ``update_state``)."""
    plan, approval = snapshot.values.get("plan"), snapshot.values.get("approval") or {}
    if snapshot.tasks or not isinstance(plan, Mapping) or "plan_hash" not in approval:
        return False
    return bool(approval["plan_hash"] != plan_hash(plan, snapshot.values.get("inputs")))  # type: ignore[arg-type]


async def _reopen(agent: PlanExecuteAgent, address: dict[str, Any], snapshot: StateSnapshot) -> None:
    """Let a finished run go on with its edited plan: it is validated and, where required, asked about."""
    update = {
        "draft": {"plan": snapshot.values["plan"], "source": "person", "attempt": 1},
        "approval": {**snapshot.values["approval"], "decision": "edited"},
        "evaluation": None,
        "decisions": None,
        "status": "running",
    }
    await agent.aupdate_state({"configurable": address}, update, as_node="approval")


def check_version(snapshot: StateSnapshot) -> None:
    """Refuse a thread that another version wrote.

    Raises:
        SchemaVersionError: If its state has another format.
    """
    version = snapshot.values.get("schema_version")
    if version is not None and version != SCHEMA_VERSION:
        raise SchemaVersionError(
            f"this thread was written with state version {version}; this plan_execute reads version "
            f"{SCHEMA_VERSION}. Nothing was changed; use the version that wrote it."
        )


_CLOCK_TOLERANCE = timedelta(minutes=5)
"""How far ahead of this machine's clock a checkpoint may be dated: clocks are set, and machines differ."""


def check_clock(newest: StateSnapshot) -> None:
    """Refuse a thread whose newest checkpoint is dated in the future; let new ones sort after it.

    Checkpoints are sorted by the times in their ids: what is written with a clock that went back is
    never the newest, and the thread would show none of it.

    Raises:
        StorageError: If it is dated more than five minutes ahead.
    """
    checkpoint_id = str(newest.config["configurable"].get("checkpoint_id") or "")
    made, now = checkpoint_time(checkpoint_id), datetime.now(UTC)
    if made is not None and made > now + _CLOCK_TOLERANCE:
        raise StorageError(
            f"the newest checkpoint of thread {newest.config['configurable'].get('thread_id')!r} is dated "
            f"{made:%Y-%m-%d %H:%M:%S} UTC, but this machine's clock says {now:%Y-%m-%d %H:%M:%S} UTC: it "
            "went back, or was ahead then. What is written now would sort before it and be lost. "
            "Nothing was changed; set the clock right and go on, or wait until that time has come."
        )
    sort_after(checkpoint_id)


def _store(agent: PlanExecuteAgent, configurable: Mapping[str, Any], has_saver: bool) -> tuple[Any, bool]:
    """Return where the ledger is kept, and whether that is memory only."""
    runtime = configurable.get(_RUNTIME)
    store = getattr(runtime, "store", None) or agent.store
    if store is None:
        # A run that nothing can resume leaves nothing behind.
        return (agent.memory if has_saver else InMemoryStore()), True
    return async_store(store), False


def _cached_plans(
    agent: PlanExecuteAgent, configurable: Mapping[str, Any], store: Any, volatile: bool
) -> CachedPlans | None:
    """Open the plan cache of the run's tenant; without a store it lives as long as the agent."""
    if agent.plan_cache is None:
        return None
    shown = {key: value for key, value in configurable.items() if not key.startswith("__")}
    return CachedPlans(agent.memory if volatile else store, agent.plan_cache.namespace_of(shown))


def _lasts(store: Any, saver: Any, volatile: bool) -> bool:
    """Tell whether the store lives as long as the checkpoints, so that these may refer to what it holds."""
    if volatile or not saver:
        return False
    store, saver = getattr(store, "wrapped", store), getattr(saver, "wrapped", saver)
    return not isinstance(store, InMemoryStore) or isinstance(saver, InMemorySaver)


def _inherited(configurable: Mapping[str, Any]) -> Context | None:
    """Return the parent's context, which LangGraph hands down to subgraphs, if it is one of ours."""
    context = getattr(configurable.get(_RUNTIME), "context", None)
    return context if isinstance(context, Context) else None


def _settings(
    on_record: Mapping[str, Any] | None, snapshot: StateSnapshot | None, asked: Context | None
) -> Context:
    """Combine what the thread was started with and what this run asks for; protection is never loosened."""
    if on_record is None and snapshot is not None:
        on_record = snapshot.values.get("settings")
    if on_record is None:
        return asked or Context()
    started = to_context(on_record) or Context()
    settings = asked or started
    kept = {
        "approval": stricter(settings.approval, started.approval),
        "secret_names": tuple(dict.fromkeys((*started.secret_names, *settings.secret_names))),
    }
    return settings.model_copy(update=kept)


def _require_prices(agent: PlanExecuteAgent, settings: Context) -> None:
    """Refuse a budget that could not be held, because calls of a model would count as free."""
    if settings.max_cost is None:
        return
    for role in ROLES:
        if not agent.models.has(role, settings.models):
            continue
        for model in members_of(agent.models.get(role, settings.models)):
            if not agent.prices.knows(model):
                raise ConfigurationError(
                    f"max_cost={settings.max_cost:g} cannot be held: there is no price for the model "
                    f"{model_name(model)!r} of the {role}. Hand one in: prices="
                    f'{{"{model_name(model)}": {{"input": …, "output": …}}}}, per million tokens'
                )


def _require_planner(agent: PlanExecuteAgent, checked: Mapping[str, Any], settings: Context) -> None:
    if checked.get("plan") is None and not agent.models.has("planner", settings.models):
        raise MissingModelError(
            "planning a goal needs a model and none is configured: give one (a name or a chat model), "
            "set Context(models={'planner': …}), or hand in a plan of bound steps"
        )
