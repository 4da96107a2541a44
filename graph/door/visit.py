"""A run on its way in: what is on record where it goes, what it may start with, and what it is then."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, StateSnapshot

from ...context import Context, run_redactor, stricter, to_context
from ...errors import ConfigurationError, MissingModelError
from ...langgraph_private import RESUME_MAP, RESUMING, RUNTIME, SAVER, SCRATCHPAD
from ...models.chat import ROLES, model_name
from ...models.fallbacks import members_of
from ...people.answers import answers_of_earlier_version, bare_answer, keep_answers, overdue_answers
from ...people.questions import QUESTIONS, question_name, read_answer
from ...run import CALL_UNDER_WAY, OUTER_KEY, RUN_KEY, Run, StepScope, StopSignal
from ...safety.redaction import REDACTOR_KEY
from ...spending.budget import Meter
from ...state import Usage
from ...storage.adapters import AsyncSaver, async_store
from ...storage.artifacts import Artifacts
from ...storage.effect_log import EffectLog
from ...storage.ledger import Ledger
from ...storage.plan_cache import CachedPlans
from ...storage.work_id import WorkId
from ..compiled import CompiledAgent
from .inputs import check_input
from .thread_state import look_at, reopen, reopen_to_settle, stands_before_a_goal, was_edited_after_its_end

__all__ = ["Visit"]


class Visit:
    """A run on its way in: what is on record where it goes, what it may start with, and what it is then."""

    def __init__(
        self,
        agent: CompiledAgent,
        configurable: dict[str, Any],
        saver: Any,
        thread_id: str,
        *,
        nested: bool,
        config: RunnableConfig,
    ) -> None:
        self._config = config
        self._given: dict[str, Any] = {}
        self._agent = agent
        self._configurable = configurable
        self._saver = saver
        self._thread_id = thread_id
        self._nested = nested
        self._parent = _parent_of(configurable)
        self._store, self._volatile = _store(agent, configurable, bool(saver))

    async def look(self, given: Any, asked: Context | None) -> None:
        """Read what is on record, and open a finished run again whose plan was edited in the state."""
        snapshot = await self._look_at_state()
        begun = snapshot is not None and bool(snapshot.values)
        goes_on = bool(self._configurable.get(RESUMING)) and begun
        self._resumed = goes_on if self._nested else not isinstance(given, Mapping)
        self._record = await Ledger(self._store, self._thread_id).opening()
        settings = _settings(self._record.settings, snapshot, asked)
        redactor = self._redactor = run_redactor(settings.secret_names)
        instructions = redactor.text(settings.instructions)
        self._settings = settings.model_copy(update={"instructions": instructions})
        self._ledger = Ledger(self._store, self._thread_id, redactor)
        self._configurable[REDACTOR_KEY] = redactor
        if given is None and snapshot is not None and not snapshot.tasks and await self._reopened(snapshot):
            await self._look_at_state()

    async def _reopened(self, snapshot: StateSnapshot) -> bool:
        """Open a finished run again whose plan was edited in the state, or that left a write in doubt."""
        here = {SAVER: self._saver, "thread_id": self._configurable.get("thread_id")}
        if was_edited_after_its_end(snapshot):
            await reopen(self._agent, here, snapshot)
            return True
        log = EffectLog(self._ledger, is_new=False)
        if not await log.doubts_of_thread():
            return False
        await reopen_to_settle(self._agent, here, snapshot)
        return True

    async def _look_at_state(self) -> StateSnapshot | None:
        found = await look_at(self._agent, self._configurable, self._saver, self._nested)
        self._snapshot, self._forks = found
        return self._snapshot

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
            if self._forks and self._resumed and not nested:
                # What was asked after that checkpoint is asked anew; a write that was settled stays settled.
                await self._ledger.forget_answers()
        if nested:
            self._given = await self._answers_from_parent()
        elif isinstance(checked, Command) and isinstance(checked.resume, Mapping):
            self._given = {**checked.resume, **answers_of_earlier_version(checked.resume, snapshot)}
            checked = await self._kept(checked)
        return checked

    async def _kept(self, command: Command[Any]) -> Command[Any] | None:
        """Put answers on record; where LangGraph must not take the run for a fork, it gets them too."""
        assert self._snapshot is not None, "an answer was matched with an open question"
        # Without a store, the open question holds the attempts that were made.
        fork = self._configurable.get("checkpoint_id")
        marks = not (command.goto or command.graph or fork or self._volatile)
        saver = self._saver if isinstance(self._saver, AsyncSaver) and marks else None
        return await keep_answers(command, self._snapshot, self._ledger, saver)

    async def _answers_from_parent(self) -> dict[str, Any]:
        """Return the answers that came to a graph around this one, by the id of their question."""
        by_id = dict(self._configurable.get(RESUME_MAP) or {})
        if self._parent is not None:
            return {**self._parent.given, **by_id}
        open_ = [one for one in self._snapshot.interrupts if one.id not in by_id] if self._snapshot else []
        if len(open_) == 1 and not by_id and self._configurable.get(SCRATCHPAD) is not None:
            by_id |= await bare_answer(self._config, open_[0], self._ledger)
        for question in self._snapshot.interrupts if self._snapshot else ():
            if question.id in by_id and question_name(question.value) in QUESTIONS:
                read_answer(question.value, by_id[question.id])
        self._configurable[RESUME_MAP] = by_id
        return by_id

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
            effects=parent.effects if parent else EffectLog(self._ledger, is_new=not self._resumed),
            work=_work(configurable, parent),
            given=self._given,
            clock=asyncio.get_running_loop().time,
            meter=await self._meter(),
            can_ask=bool(self._saver),
            thread_id=thread_id,
            within=_within(configurable, parent),
            heard=heard or self._nested,
            about=_plan_of(values) if self._resumed else None,
            artifacts=Artifacts(store if lasts else None, self._thread_id, self._settings.max_inline_bytes),
            volatile=self._volatile,
            follows_up=bool(values) and not self._nested,
            resumed=self._resumed,
            nested=self._nested,
            redactor=self._redactor,
            underway=self._resumed and values.get("status") == "running",
            stop=_stop_signal(configurable, parent),
            graph=agent,
            depth=parent.depth + 1 if parent is not None else 0,
            tenant=str(configurable.get("langgraph_auth_user_id") or ""),
            plan_cache=agent.plan_cache,
            cached_plans=_cached_plans(agent, configurable, store, self._volatile),
        )

    async def _meter(self) -> Meter:
        """Go on counting where earlier runs of the goal stopped; a new goal starts from nothing.

        What is part of another run spends from its budget.
        """
        snapshot, resumed, record = self._snapshot, self._resumed, self._record
        begun = snapshot if snapshot is not None and resumed and not stands_before_a_goal(snapshot) else None
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
        clock = asyncio.get_running_loop().time  # the one that time limits go by
        unbooked_s = record.unbooked_s if resumed else 0.0
        return Meter(self._settings, spent, clock, unbooked_s=unbooked_s, **counted)

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


def _work(configurable: dict[str, Any], parent: Run | None) -> WorkId | None:
    """Return the piece of work that a nested run is: of a step, or of a call that a step is making."""
    if parent is None:
        return None
    under_way = CALL_UNDER_WAY.get()
    if under_way is not None:
        configurable[OUTER_KEY] = under_way.scope
        return under_way.work_of_run()
    outer = configurable.get(OUTER_KEY)
    return outer.work if isinstance(outer, StepScope) else None


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


def _store(agent: CompiledAgent, configurable: Mapping[str, Any], has_saver: bool) -> tuple[Any, bool]:
    """Return where the ledger is kept, and whether that is memory only."""
    runtime = configurable.get(RUNTIME)
    store = getattr(runtime, "store", None) or agent.store
    if store is None:
        # A run that nothing can resume leaves nothing behind.
        return (agent.memory if has_saver else InMemoryStore()), True
    return async_store(store), False


def _cached_plans(
    agent: CompiledAgent, configurable: Mapping[str, Any], store: Any, volatile: bool
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


def _require_prices(agent: CompiledAgent, settings: Context) -> None:
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


def _require_planner(agent: CompiledAgent, checked: Mapping[str, Any], settings: Context) -> None:
    if checked.get("plan") is None and not agent.models.has("planner", settings.models):
        raise MissingModelError(
            "planning a goal needs a model and none is configured: give one (a name or a chat model), "
            "set Context(models={'planner': …}), or hand in a plan of bound steps"
        )
