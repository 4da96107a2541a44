"""Prepare a run on its way in: read the thread's records, choose its settings, and build it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from itertools import chain
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, Interrupt, StateSnapshot

from ...context import Context, run_redactor, stricter, to_context
from ...errors import (
    ConfigurationError,
    InvalidAnswerError,
    InvalidInputError,
    MissingModelError,
    NotAllowedError,
    QuestionOpenError,
)
from ...events import Progress
from ...langgraph_private import (
    RESUME_MAP,
    RESUMING,
    RUNTIME,
    SAVER,
    SCRATCHPAD,
    is_served,
    sent_at,
    served_run,
)
from ...models.chat import ROLES
from ...people.answers import (
    answers_of_earlier_version,
    bare_answer,
    is_by_id,
    keep_answers,
    refused_questions,
)
from ...people.deciders import Deciders, Use, authenticated_user, person_of, requesters_of, uses_in
from ...people.questions import QUESTIONS, overdue_answers, question_name, read_answer
from ...run import CALL_UNDER_WAY, OUTER_KEY, RUN_KEY, Run, StepScope, StopSignal
from ...safety.redaction import REDACTOR_KEY, Redactor
from ...spending.budget import Meter
from ...spending.list_prices import read_lists
from ...spending.periods import Periods
from ...spending.prices import price_problem
from ...state import By, Usage
from ...storage.adapters import AsyncSaver, async_store
from ...storage.artifacts import Artifacts
from ...storage.effect_log import EffectLog
from ...storage.ids import WorkId
from ...storage.ledger import Ledger, Opening
from ...storage.plan_cache import CachedPlans
from ..compiled import CompiledAgent
from .chat import Words, is_for_an_earlier_question, tell_answers, words_for
from .inputs import check_input, goes_on_without_a_word
from .thread_state import look_at, reopen, reopen_to_settle, stands_before_a_goal, was_edited_after_its_end

T = TypeVar("T")

__all__ = ["Visit", "arrive", "check_new_run"]

_log = logging.getLogger(__name__)


class Checked(NamedTuple):
    """An input in LangGraph's form.

    Attributes:
        input: The input.
        answers: The answers in it, by the id of their question.
        refusals: Why answers were refused, by the id of their question.
        overdue: Questions whose answer is the safe default.
    """

    input: Any
    answers: dict[str, Any]
    refusals: dict[str, str]
    overdue: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Visit:
    """A run on its way in.

    Attributes:
        agent: The graph.
        config: The caller's LangGraph config.
        configurable: The copy of its ``configurable`` that the run gets.
        saver: The checkpointer.
        store: The store of the ledger.
        volatile: Whether that store is only in memory.
        thread_id: The thread.
        nested: Whether another graph runs it as a node.
        parent: The run whose step it is: a sub-plan, or a named agent that plans itself.
        person: Who ordered the run.
        snapshot: The state where it begins; None if nothing is kept.
        words: The message that answers a question; None if there is none.
        input: The input; for a message that answers, the answer.
        forks: Whether the state is an earlier one, from which it forks.
        resumed: Whether it continues a goal that has begun.
        record: The thread's record.
        settings: Its settings.
        redactor: Knows its secrets.
        ledger: The records of its thread.
        uses: The calls that open questions of tools and agents are about, by the id of the question.
    """

    agent: CompiledAgent
    config: RunnableConfig
    configurable: dict[str, Any]
    saver: Any
    store: Any
    volatile: bool
    thread_id: str
    nested: bool
    parent: Run | None
    person: By
    snapshot: StateSnapshot | None
    words: Words | None
    input: Any
    forks: bool
    resumed: bool
    record: Opening
    settings: Context
    redactor: Redactor
    ledger: Ledger
    uses: Mapping[str, Sequence[Use]]

    async def checked(self, refusal: str, *, elsewhere: bool) -> Checked:
        """Check the input against the thread's records.

        Args:
            refusal: Why an answer was not accepted; "" if none was refused.
            elsewhere: Whether another process will run it.
        """
        checked, refusals, overdue = self.input, dict[str, str](), dict[str, Any]()
        if not (self.nested and self.resumed):
            overdue = {} if self.nested else overdue_answers(self.snapshot, self.settings.decision_timeout_s)
            checked, refusals = self._read(overdue)
        if refusal:
            refusals = dict.fromkeys(refused_questions(None, self.snapshot), refusal)
        if self.words is not None and (refusals or self.words.too_early):
            await self._tell_answers({})
        checked = self.redactor.value(checked)
        if not elsewhere:
            await self._require_what_it_needs(checked)
        if self.nested:
            return Checked(checked, await self._answers_from_parent(), refusals)
        if isinstance(checked, Command) and isinstance(checked.resume, Mapping):
            answers = {**checked.resume, **answers_of_earlier_version(checked.resume, self.snapshot)}
            late = frozenset((*overdue, *answers_of_earlier_version(overdue, self.snapshot)))
            await self._tell_answers(checked.resume, late)
            return Checked(await self._kept(checked, late), answers, refusals, late)
        return Checked(checked, {}, refusals)

    async def _require_what_it_needs(self, checked: Any) -> None:
        goal = checked if isinstance(checked, dict) and not self.resumed else None
        if goal is not None and self.parent is None:
            _require_requester(self.settings, self.person)
        if self.settings.spend_limits and self.volatile:
            raise ConfigurationError(
                "spend_limits count over several runs, so they need a store: give the agent a store="
            )
        await _require_models(self.agent, goal, self.settings)
        if self.forks and self.resumed and not self.nested:
            # Questions after that checkpoint are asked again; the outcome of a settled write stays.
            await self.ledger.forget_answers()

    def _read(self, overdue: Mapping[str, Any]) -> tuple[Any, dict[str, str]]:
        """Read the input; a refused input adds the reason to the open question, for a server's client."""
        snapshot, served = self.snapshot, is_served(self.config)
        answer = self.input.resume if isinstance(self.input, Command) else None
        named = answer is None or is_by_id(answer)
        early = served and not named and is_for_an_earlier_question(snapshot, sent_at(self.config))
        if early or (self.words is not None and self.words.too_early):
            return None, dict.fromkeys(refused_questions(self.input, snapshot), _TOO_EARLY)
        try:
            read = check_input(
                self.input,
                snapshot,
                bool(self.saver),
                self.nested,
                overdue,
                forks=self.forks,
                by_chat=served,
            )
            self._require_allowed(read, overdue)
        except (InvalidAnswerError, InvalidInputError, QuestionOpenError) as error:
            refused = refused_questions(self.input, snapshot)
            if not (served and refused):
                raise
            # An error would end the run, and hide the question from clients that look for waiting threads.
            return None, dict.fromkeys(refused, str(error))
        return read, {}

    @property
    def _deciders(self) -> Deciders:
        return Deciders(self.settings.approvers, self._requesters)

    @property
    def _requesters(self) -> frozenset[str]:
        """Who gave the goal, now or earlier."""
        if self.parent is not None:
            return self.parent.requesters
        values = self.snapshot.values if self.snapshot is not None else {}
        return requesters_of(values, self._known_requesters)

    @property
    def _known_requesters(self) -> Mapping[str, Sequence[str]]:
        """Who gave each goal of the conversation, including the current one."""
        known, name = self.record.requesters, self.person.get("id")
        if self.resumed or not name:
            return known
        values = self.snapshot.values if self.snapshot is not None else {}
        number = str(sum(event["event"] == "finished" for event in values.get("audit") or ()))
        return {**known, number: sorted({*known.get(number, ()), name})}

    def _require_allowed(self, read: Any, overdue: Mapping[str, Any]) -> None:
        """Refuse answers of people who may not decide.

        Raises:
            NotAllowedError: If there is one; the message says who may decide.
        """
        answers = read.resume if isinstance(read, Command) and isinstance(read.resume, Mapping) else {}
        for question in self.snapshot.interrupts if self.snapshot is not None else ():
            if question.id in answers and question.id not in overdue and (why := self._refusal(question)):
                raise NotAllowedError(f"{why} The question stays open.")

    def _refusal(self, question: Interrupt) -> str | None:
        uses = [*uses_in(question.value, self.agent.toolbox), *self.uses.get(question.id, ())]
        return self._deciders.refusal(question_name(question.value), uses, self.person)

    async def _tell_answers(self, answers: Mapping[str, Any], overdue: Collection[str] = ()) -> None:
        if isinstance(self.saver, AsyncSaver) and self.snapshot is not None:
            await tell_answers(self.saver, self.snapshot, answers, self.words, self.redactor.value, overdue)

    async def _kept(self, command: Command[Any], overdue: Collection[str]) -> Command[Any] | None:
        """Record answers; LangGraph gets them too if it would otherwise take the run for a fork."""
        assert self.snapshot is not None, "an answer was matched with an open question"
        # Without a store, the open question holds the attempts so far.
        fork = self.configurable.get("checkpoint_id")
        marks = not (command.graph or fork or self.volatile)
        saver = self.saver if isinstance(self.saver, AsyncSaver) and marks else None
        return await keep_answers(
            command,
            self.snapshot,
            self.ledger,
            saver,
            lambda key: {"kind": "timeout"} if key in overdue else self.person,
        )

    async def _answers_from_parent(self) -> dict[str, Any]:
        """Return the answers that came through a parent graph, by the id of their question."""
        by_id = dict(self.configurable.get(RESUME_MAP) or {})
        if self.parent is not None:
            return {**self.parent.given, **by_id}
        open_ = [one for one in self.snapshot.interrupts if one.id not in by_id] if self.snapshot else []
        if len(open_) == 1 and not by_id and self.configurable.get(SCRATCHPAD) is not None:
            by_id |= await bare_answer(self.config, open_[0], self.ledger)
        for question in self.snapshot.interrupts if self.snapshot else ():
            if question.id in by_id and question_name(question.value) in QUESTIONS:
                read_answer(question.value, by_id[question.id])
            elif question.id in by_id and self._refusal(question):
                del by_id[question.id]  # The asking middleware knows no rules, so the question stays open.
        self.configurable[RESUME_MAP] = by_id
        return by_id

    async def run(self, checked: Checked, heard: bool) -> Run:
        """Make the run, including what earlier runs of its goal have spent.

        Args:
            checked: Its input.
            heard: Whether its events are read.
        """
        if self.parent is None and (given := self._known_requesters) != self.record.requesters:
            await self.ledger.record_requesters(given)
        if self.record.settings is None:
            await self.ledger.record_settings(self.settings.model_dump(mode="json", exclude_defaults=True))
        agent, configurable, parent, store = self.agent, self.configurable, self.parent, self.store
        values = self.snapshot.values if self.snapshot is not None else {}
        thread_id = parent.thread_id if parent is not None else self.thread_id
        lasts = _lasts(store, self.saver, self.volatile)
        return Run(
            settings=self.settings,
            ledger=self.ledger,
            effects=parent.effects if parent else self._effects(),
            work=_work(configurable, parent),
            given=checked.answers,
            person=self.person,
            requesters=self._requesters,
            overdue=checked.overdue,
            refusals=checked.refusals,
            begins=not self.resumed,
            clock=asyncio.get_running_loop().time,
            meter=await self._meter(),
            can_ask=bool(self.saver),
            thread_id=thread_id,
            within=_within(configurable, parent),
            heard=heard or self.nested,
            shown=Progress(uuid4().hex) if heard and not self.nested and is_served(self.config) else None,
            about=_plan_of(values) if self.resumed else None,
            artifacts=Artifacts(store if lasts else None, self.thread_id, self.settings.max_inline_bytes),
            volatile=self.volatile,
            follows_up=bool(values) and not self.nested,
            resumed=self.resumed,
            tasks=frozenset(task.id for task in self.snapshot.tasks) if self.snapshot else frozenset(),
            nested=self.nested,
            redactor=self.redactor,
            underway=self.resumed and values.get("status") == "running",
            stop=_stop_signal(parent),
            graph=agent,
            depth=parent.depth + 1 if parent is not None else 0,
            tenant=str(configurable.get("langgraph_auth_user_id") or ""),
            plan_cache=agent.plan_cache,
            cached_plans=_cached_plans(agent, configurable, store, self.volatile),
        )

    def _effects(self) -> EffectLog:
        begun = self.snapshot is not None and bool(self.snapshot.values)
        is_first = not (begun or self.forks or self.nested)
        return EffectLog(self.ledger, is_new=not self.resumed, is_first=is_first)

    async def _meter(self) -> Meter:
        """Continue the count of earlier runs of the goal; a new goal starts at zero.

        A nested run spends from the budget of its parent.
        """
        snapshot, resumed, record = self.snapshot, self.resumed, self.record
        begun = snapshot if snapshot is not None and resumed and not stands_before_a_goal(snapshot) else None
        spent: Usage | None = begun.values.get("usage") if begun is not None else None
        if self.parent is not None:
            if resumed:
                self.parent.meter.spend(spent or {})
            return self.parent.meter
        if record.unbooked_s:
            await self.ledger.leave_unbooked_seconds(0.0)  # They are taken over.
        extensions = record.extensions
        if extensions and not resumed:  # They belong to the previous goal.
            extensions = {}
            await self.ledger.record_budget_extensions(extensions)
        counted: dict[str, Any] = {"prices": self.agent.prices, "extensions": extensions}
        limits = (self.settings.max_tool_calls, self.settings.max_model_calls, self.settings.max_seconds)
        if any(limit is not None for limit in limits):
            counted |= await self._counted_calls()
        if self.settings.spend_limits:
            _warn_of(self.store)
            counted["periods"] = Periods(self.store, self.settings.tenant or "", self.settings.spend_limits)
            await counted["periods"].refresh()
        clock = asyncio.get_running_loop().time  # Time limits use this one.
        unbooked_s = record.unbooked_s if resumed else 0.0
        return Meter(self.settings, spent, clock, unbooked_s=unbooked_s, **counted)

    async def _counted_calls(self) -> dict[str, Any]:
        """Take over the count of the goal's begun calls, and record the next ones."""
        snapshot, row, ledger = self.snapshot, self.record.calls, self.ledger
        here = str(snapshot.config["configurable"].get("checkpoint_id", "")) if snapshot is not None else ""
        # A goal that was interrupted before anything was stored is given again at the same checkpoint.
        going_on = row is not None and (self.resumed or row["since"] == here)
        since = str(row["since"]) if row is not None and going_on else here
        calls = dict(row["calls"]) if row is not None and going_on else None
        if not self.resumed:
            await ledger.record_calls(calls or {}, since)
        return {"calls": calls, "write_calls": lambda made: ledger.record_calls(made, since)}


async def arrive(
    agent: CompiledAgent,
    config: RunnableConfig,
    configurable: dict[str, Any],
    saver: Any,
    thread_id: str,
    given: Any,
    asked: Context | None,
    *,
    nested: bool,
) -> Visit:
    """Read the thread's record, and combine it with the settings of this run.

    A finished run is opened again if its plan was edited in the state, or if it left a write in doubt.
    """
    store, volatile = _store(agent, configurable, bool(saver))
    snapshot, forks = await look_at(agent, configurable, saver, nested)
    words = None if nested or forks else words_for(given, snapshot, sent_at(config))
    given = words.answer if words is not None else given
    if not nested and not forks and goes_on_without_a_word(given, snapshot, served_run(config)):
        given = None
    begun = snapshot is not None and bool(snapshot.values)
    goes_on = bool(configurable.get(RESUMING)) and begun
    record = await Ledger(store, thread_id).opening()
    parent = _parent_of(configurable)
    settings = _settings(record.settings, snapshot, asked, agent.policy)
    redactor = run_redactor(settings.secret_names)
    changed = {
        "instructions": settings.instructions and redactor.text(settings.instructions),
        # If the client's own tenant is known, it cannot choose another.
        "tenant": agent.policy.tenant or authenticated_user(configurable) or settings.tenant,
    }
    settings = settings.model_copy(update=changed)
    ledger = Ledger(store, thread_id, redactor)
    configurable[REDACTOR_KEY] = redactor
    if given is None and snapshot is not None and not snapshot.tasks:
        here = {SAVER: saver, "thread_id": configurable.get("thread_id")}
        if await _reopened(agent, here, snapshot, ledger):
            snapshot, forks = await look_at(agent, configurable, saver, nested)
    return Visit(
        agent=agent,
        config=config,
        configurable=configurable,
        saver=saver,
        store=store,
        volatile=volatile,
        thread_id=thread_id,
        nested=nested,
        parent=parent,
        person=parent.person if parent is not None else person_of(configurable, asked),
        snapshot=snapshot,
        words=words,
        input=given,
        forks=forks,
        resumed=goes_on if nested else not isinstance(given, Mapping),
        record=record,
        settings=settings,
        redactor=redactor,
        ledger=ledger,
        uses=await _uses(snapshot, settings, ledger),
    )


async def _uses(snapshot: StateSnapshot | None, settings: Context, ledger: Ledger) -> dict[str, Any]:
    """Look up the calls of open foreign questions, if rules may apply to them."""
    open_ = snapshot.interrupts if snapshot is not None and settings.approvers else ()
    asked = [one.id for one in open_ if question_name(one.value) not in QUESTIONS]
    return dict(zip(asked, await ledger.uses(asked), strict=True)) if asked else {}


async def _reopened(
    agent: CompiledAgent, here: dict[str, Any], snapshot: StateSnapshot, ledger: Ledger
) -> bool:
    """Open a finished run again if its plan was edited in the state, or if it left a write in doubt."""
    if was_edited_after_its_end(snapshot):
        await reopen(agent, here, snapshot)
        return True
    if not await EffectLog(ledger, is_new=False).doubts_of_thread():
        return False
    await reopen_to_settle(agent, here, snapshot)
    return True


_TOO_EARLY = "you wrote it before this question was asked."


def _parent_of(configurable: Mapping[str, Any]) -> Run | None:
    """Return the run whose step this one is: a sub-plan, or a named agent that plans itself."""
    parent = configurable.get(RUN_KEY)
    return parent if isinstance(parent, Run) else None


def _plan_of(values: Mapping[str, Any]) -> tuple[str, int] | None:
    """Return id and revision of the plan that a run continues."""
    plan = values.get("plan")
    return (plan["id"], plan["revision"]) if plan and "id" in plan and "revision" in plan else None


def _work(configurable: dict[str, Any], parent: Run | None) -> WorkId | None:
    """Return the piece of work of a nested run: that of a step, or of a step's call."""
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


def _stop_signal(parent: Run | None) -> StopSignal:
    """Make the run's request to stop: a nested run stops with its parent."""
    stop = StopSignal()
    if parent is not None:
        stop.follow(parent.stop)
    return stop


def _store(agent: CompiledAgent, configurable: Mapping[str, Any], has_saver: bool) -> tuple[Any, bool]:
    """Return the store of the ledger, and whether it is only in memory."""
    runtime = configurable.get(RUNTIME)
    store = getattr(runtime, "store", None) or agent.store
    if store is None:
        # A run that nothing can resume keeps no records.
        return (agent.memory if has_saver else InMemoryStore()), True
    return async_store(store), False


def _warn_of(store: Any) -> None:
    """Say so where limits over all runs hold in one process only, and others may use the store."""
    kept = getattr(store, "wrapped", store)
    if not hasattr(kept, "change") and not isinstance(kept, InMemoryStore):
        _warn_of_kind(type(kept).__name__)


@cache
def _warn_of_kind(store: str) -> None:
    _log.warning(
        "spend_limits hold in this process only: %s cannot look and write in one step, so runs of several "
        "processes may go over a limit together. local_persistence and postgres_persistence hold them",
        store,
    )


def _cached_plans(
    agent: CompiledAgent, configurable: Mapping[str, Any], store: Any, volatile: bool
) -> CachedPlans | None:
    """Open the plan cache of the run's tenant; without a store it exists as long as the agent."""
    if agent.plan_cache is None:
        return None
    shown = {key: value for key, value in configurable.items() if not key.startswith("__")}
    return CachedPlans(agent.memory if volatile else store, agent.plan_cache.namespace_of(shown))


def _lasts(store: Any, saver: Any, volatile: bool) -> bool:
    """Tell whether the store lasts as long as the checkpoints, so that they may refer to its content."""
    if volatile or not saver:
        return False
    store, saver = getattr(store, "wrapped", store), getattr(saver, "wrapped", saver)
    return not isinstance(store, InMemoryStore) or isinstance(saver, InMemorySaver)


def _settings(
    on_record: Mapping[str, Any] | None,
    snapshot: StateSnapshot | None,
    asked: Context | None,
    policy: Context,
) -> Context:
    """Combine the settings of the agent, the thread's start and this run; protection is never loosened.

    A context that only names the person changes no setting. The name is valid for this run alone.
    """
    if on_record is None and snapshot is not None:
        on_record = snapshot.values.get("settings")
    started = None if on_record is None else to_context(on_record) or Context()
    asks = asked is not None and bool(asked.model_fields_set - {"person"})
    settings = (asked if asks else started) or Context()
    before = [one for one in (started, policy) if one is not None]
    # A missing field of a policy does not mean its default.
    asked_for = [one.approval for one in before if one is started or "approval" in one.model_fields_set]
    names = (*started.secret_names, *settings.secret_names) if started is not None else settings.secret_names
    kept: dict[str, Any] = {
        "person": None,
        "approval": reduce(stricter, asked_for, settings.approval),
        "approvers": _together(one.approvers for one in (*before, settings)),
        "spend_limits": _together(one.spend_limits for one in (*before, settings)),
        "tenant": (started.tenant if started is not None else None) or settings.tenant,
        "secret_names": tuple(dict.fromkeys(names)),
    }
    return settings.model_copy(update=kept)


def _together(rules: Iterable[Iterable[T]]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(chain.from_iterable(rules)))


async def check_new_run(
    agent: CompiledAgent, given: Mapping[str, Any], former: StateSnapshot, context: Any, *, elsewhere: bool
) -> None:
    """Check what a new goal needs, before the thread's open run is ended for it.

    Args:
        agent: The graph.
        given: The input, which has been checked.
        former: The state of the open run.
        context: The settings asked for.
        elsewhere: Whether another process, which has the models, will run it.

    Raises:
        ConfigurationError: If a setting is wrong, or a model or its price is needed and missing.
    """
    settings = _settings(None, former, to_context(context), agent.policy)
    if not elsewhere:
        await _require_models(agent, given, settings)


async def _require_models(agent: CompiledAgent, goal: Mapping[str, Any] | None, settings: Context) -> None:
    """Refuse a new goal that nobody can plan, and a budget that could not be enforced."""
    if goal is not None:
        _require_planner(agent, goal, settings)
    if settings.escalate and (problem := agent.models.problem_with(settings.escalate, settings.models)):
        raise ConfigurationError(f"escalate: {problem}")
    if any(agent.models.has(role, settings.models) for role in ROLES):
        await read_lists()
        _require_prices(agent, settings)


def _require_prices(agent: CompiledAgent, settings: Context) -> None:
    """Refuse a budget that could not be enforced, because some model calls would count as free."""
    used = {
        f" of the {role}": agent.models.get(role, settings.models)
        for role in ROLES
        if agent.models.has(role, settings.models)
    }
    if settings.escalate:
        used[" of escalate"] = agent.models.get("executor", settings.models, settings.escalate)
    for whose, model in used.items():
        if problem := price_problem(model, settings, agent.prices, whose=whose):
            raise ConfigurationError(problem)


def _require_requester(settings: Context, person: By) -> None:
    """Refuse a goal without a known requester if requesters may not decide: anybody could be that one."""
    if not person.get("id") and any(not rule.requester for rule in settings.approvers):
        raise ConfigurationError(
            "approvers does not let the person who started the run decide, but nothing says who that is: "
            "set Context(person=…) (--person), or let the server authenticate its users"
        )


def _require_planner(agent: CompiledAgent, checked: Mapping[str, Any], settings: Context) -> None:
    if checked.get("plan") is None and not agent.models.has("planner", settings.models):
        raise MissingModelError(
            "planning a goal needs a model, but none is configured.",
            "Give the agent one (a server and the command line read PLAN_EXECUTE_MODEL), "
            "name one in the context (`models`, key `planner`), or give a plan of bound steps.",
        )
