"""The door: what is checked and prepared before a run, because no node could do it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.messages.utils import convert_to_messages
from langchain_core.runnables import RunnableConfig
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, Interrupt, StateSnapshot

from ..budget import Meter
from ..context import Context, stricter, to_context
from ..errors import (
    ConfigurationError,
    InvalidAnswerError,
    InvalidInputError,
    MissingModelError,
    NothingToResumeError,
    QuestionOpenError,
    SchemaVersionError,
    ThreadNotFoundError,
    ThreadUnfinishedError,
    known,
)
from ..questions import QUESTIONS, careful_answer, question_name, read_answer
from ..run import RUN_KEY, Run
from ..state import SCHEMA_VERSION, InputState
from ..storage.adapters import async_saver, async_store
from ..storage.ledger import Ledger

if TYPE_CHECKING:
    from .agent import PlanExecuteAgent

__all__ = ["Entry", "check_version", "enter"]

MAX_GOAL_CHARACTERS = 100_000
"""A longer goal belongs into a file or an input: it would stand in every prompt and checkpoint."""

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
    agent: PlanExecuteAgent, given: Any, config: RunnableConfig, context: Any
) -> AsyncIterator[Entry]:
    """Check a run and prepare it; hold the thread's lock while it runs."""
    configurable = _configurable(config)
    nested = _TASK in configurable
    if isinstance(configurable.get(_SAVER), object) and configurable.get(_SAVER) not in (None, False, True):
        configurable[_SAVER] = async_saver(configurable[_SAVER])
    saver = configurable.get(_SAVER) or agent.checkpointer
    thread_id = _thread_id(configurable, bool(saver) and not nested)
    asked = to_context(context) or (_inherited(configurable) if nested else None)
    lock = nullcontext() if nested else _lock(saver, thread_id)
    with lock, nullcontext() if nested else _registered(agent, thread_id):
        snapshot = await _snapshot(agent, configurable, saver, nested)
        resumed = bool(configurable.get(_RESUMING)) if nested else not isinstance(given, Mapping)
        store, volatile = _store(agent, configurable, bool(saver))
        ledger = Ledger(store, thread_id)
        settings = await _settings(ledger, snapshot, asked)
        if not nested and not isinstance(given, Mapping) and snapshot is not None:
            given = _with_careful_answers(given, snapshot, settings.decision_timeout_s)
        checked = given if nested and resumed else _check(given, snapshot, bool(saver), nested)
        if isinstance(checked, dict) and not resumed:
            _require_planner(agent, checked, settings)
        await ledger.record_settings(settings.model_dump(mode="json", exclude_defaults=True))
        values = snapshot.values if snapshot is not None else {}
        run = Run(
            settings=settings,
            ledger=ledger,
            meter=Meter(settings, values.get("usage") if resumed else None),
            can_ask=bool(saver),
            volatile=volatile,
            resumed=resumed,
            nested=nested,
            underway=resumed and values.get("status") == "running",
        )
        configurable[RUN_KEY] = run
        async with nullcontext() if nested else _stoppable(run):
            yield Entry(checked, {**config, "configurable": configurable}, settings)


_STOP_POLL_S = 0.5
"""How often a run looks whether another process asked it to stop."""


@asynccontextmanager
async def _stoppable(run: Run) -> AsyncIterator[None]:
    """Watch for a request to stop while the run goes on."""
    await run.ledger.clear_stop()

    async def watch() -> None:
        # Another process asks through the store, which can only be polled.
        while not await run.ledger.stop_requested():  # noqa: ASYNC110
            await asyncio.sleep(_STOP_POLL_S)
        run.stop.set()

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.wait({watching})


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


def _lock(saver: Any, thread_id: str) -> Any:
    """Hold the thread where storage is local; servers and databases keep their own order."""
    database = getattr(saver, "database", None) if saver else None
    if database is None:
        return nullcontext()
    from ..storage.local import thread_lock

    return thread_lock(database, thread_id)


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
    return snapshot


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


def _store(agent: PlanExecuteAgent, configurable: Mapping[str, Any], has_saver: bool) -> tuple[Any, bool]:
    """Return where the ledger is kept, and whether that is memory only."""
    runtime = configurable.get(_RUNTIME)
    store = getattr(runtime, "store", None) or agent.store
    if store is None:
        # A run that nothing can resume leaves nothing behind.
        return (agent.memory if has_saver else InMemoryStore()), True
    return async_store(store), False


def _inherited(configurable: Mapping[str, Any]) -> Context | None:
    """Return the parent's context, which LangGraph hands down to subgraphs, if it is one of ours."""
    context = getattr(configurable.get(_RUNTIME), "context", None)
    return context if isinstance(context, Context) else None


async def _settings(ledger: Ledger, snapshot: StateSnapshot | None, asked: Context | None) -> Context:
    """Combine what the thread was started with and what this run asks for; approval is never loosened."""
    on_record = await ledger.settings()
    if on_record is None and snapshot is not None:
        on_record = snapshot.values.get("settings")
    if on_record is None:
        return asked or Context()
    started = to_context(on_record) or Context()
    settings = asked or started
    return settings.model_copy(update={"approval": stricter(settings.approval, started.approval)})


# --- the input ---------------------------------------------------------------------------


def _check(given: Any, snapshot: StateSnapshot | None, has_saver: bool, nested: bool) -> Any:
    if isinstance(given, Command):
        return _check_command(given, snapshot, has_saver)
    if given is None:
        _check_resumable(snapshot, has_saver)
        return None
    if isinstance(given, Mapping):
        if snapshot is not None and not nested:
            _refuse_unfinished(snapshot)
        return _read_input(given, strict=not nested)
    raise InvalidInputError(f"the input must be a mapping, a Command or None, not {type(given).__name__}")


def _check_resumable(snapshot: StateSnapshot | None, has_saver: bool) -> None:
    if not has_saver or snapshot is None:
        raise ConfigurationError("there is nothing to resume from: the graph has no checkpointer=")
    if snapshot.created_at is None:
        raise ThreadNotFoundError(f"there is no thread {_name(snapshot)!r}")
    if not snapshot.tasks:
        status = snapshot.values.get("status", "ended")
        raise NothingToResumeError(
            f"the run of thread {_name(snapshot)!r} has ended ({status}); nothing is open"
        )


def _refuse_unfinished(snapshot: StateSnapshot) -> None:
    if snapshot.interrupts:
        raise QuestionOpenError(
            f"thread {_name(snapshot)!r} waits for an answer, so a new goal cannot start: "
            f"{_open(snapshot.interrupts)}. Answer with Command(resume=…), or use another thread."
        )
    # Not `next`: it leaves out tasks whose writes were saved before the run stopped (langgraph 1.2.22).
    if snapshot.tasks:
        raise ThreadUnfinishedError(
            f"the run of thread {_name(snapshot)!r} has not ended "
            f"(in: {known({task.name for task in snapshot.tasks})}). "
            "Go on with None as input, or use another thread."
        )


def _name(snapshot: StateSnapshot) -> str:
    return str(snapshot.config["configurable"].get("thread_id"))


def _open(interrupts: Sequence[Interrupt]) -> str:
    return known((f"{question_name(i.value) or 'a question'} [{i.id}]" for i in interrupts), limit=10)


_INPUT_KEYS = tuple(InputState.__annotations__)


def _read_input(given: Mapping[str, Any], *, strict: bool) -> dict[str, Any]:
    """Read a new goal. All keys are set, so that nothing of an earlier goal on the thread remains."""
    if strict and (unknown := sorted(set(map(str, given)) - set(_INPUT_KEYS))):
        raise InvalidInputError(f"unknown input {unknown[0]!r}; known inputs: {known(_INPUT_KEYS)}")
    messages = _messages(given.get("messages"))
    plan, inputs = given.get("plan"), given.get("inputs") or {}
    if not isinstance(inputs, Mapping):
        raise InvalidInputError(f"inputs must be a mapping of names to values, not {type(inputs).__name__}")
    # Copies: what a caller later does to its own objects must not reach the run.
    plan, inputs = _as_json("plan", plan), _as_json("inputs", dict(inputs))
    goal = _goal(given.get("goal"), plan, messages)
    return {"goal": goal, "messages": messages, "plan": plan, "inputs": inputs}


def _messages(given: Any) -> list[BaseMessage]:
    if not given:
        return []
    try:
        return convert_to_messages(given if isinstance(given, list | tuple) else [given])
    except (ValueError, NotImplementedError, TypeError) as error:
        raise InvalidInputError(f"messages cannot be read: {str(error).splitlines()[0]}") from error


def _goal(given: Any, plan: Any, messages: Sequence[BaseMessage]) -> str:
    if given is not None and not isinstance(given, str):
        raise InvalidInputError(f"the goal must be text, not {type(given).__name__}")
    said = next((message.text for message in reversed(messages) if isinstance(message, HumanMessage)), "")
    planned = plan.get("goal") if isinstance(plan, Mapping) else None
    goal = given if given is not None else (said or (planned if isinstance(planned, str) else ""))
    if not goal.strip() and plan is None:
        raise InvalidInputError("the goal is empty: give goal=…, a human message, or a plan")
    if len(goal) > MAX_GOAL_CHARACTERS:
        raise InvalidInputError(
            f"the goal has {len(goal):,} characters; at most {MAX_GOAL_CHARACTERS:,} are allowed. "
            "Put long material into inputs or a file that a tool can read."
        )
    return goal


def _as_json(name: str, value: Any) -> Any:
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"{name} must be plain JSON: {error}") from error


def _require_planner(agent: PlanExecuteAgent, checked: Mapping[str, Any], settings: Context) -> None:
    if checked.get("plan") is None and not agent.models.has("planner", settings.models):
        raise MissingModelError(
            "planning a goal needs a model and none is configured: give one (a name or a chat model), "
            "set Context(models={'planner': …}), or hand in a plan of bound steps"
        )


# --- questions that nobody answered ------------------------------------------------------


def _with_careful_answers(given: Any, snapshot: StateSnapshot, waits_s: float | None) -> Any:
    """Answer questions that have waited too long with their careful end; a late answer counts no more."""
    if waits_s is None:
        return given
    overdue = {
        question.id: answer
        for question in snapshot.interrupts
        if _age_s(question, snapshot) > waits_s
        and (answer := careful_answer(question.value, waits_s)) is not None
    }
    if overdue and given is None:
        return Command(resume=overdue)
    if overdue and isinstance(given, Command) and given.resume is not None:
        by_id = isinstance(given.resume, Mapping) and set(given.resume) <= _ids(snapshot)
        resume = {**(given.resume if by_id else {}), **overdue}
        return Command(graph=given.graph, update=given.update, goto=given.goto, resume=resume)
    return given


def _ids(snapshot: StateSnapshot) -> set[str]:
    return {question.id for question in snapshot.interrupts}


def _age_s(question: Interrupt, snapshot: StateSnapshot) -> float:
    """Return for how many seconds a question has been open."""
    asked_at = question.value.get("asked_at") if isinstance(question.value, Mapping) else None
    since = datetime.fromisoformat(asked_at or snapshot.created_at or datetime.now(UTC).isoformat())
    return (datetime.now(UTC) - since).total_seconds()


# --- answers -----------------------------------------------------------------------------


def _check_command(command: Command[Any], snapshot: StateSnapshot | None, has_saver: bool) -> Command[Any]:
    if command.resume is None and (command.goto or command.update):
        return command
    _check_resumable(snapshot, has_saver)
    assert snapshot is not None
    if not snapshot.interrupts:
        raise NothingToResumeError(
            f"no question is open on thread {_name(snapshot)!r}; go on with None as input"
        )
    return Command(
        graph=command.graph,
        update=command.update,
        goto=command.goto,
        resume=_answers(command.resume, {interrupt.id: interrupt for interrupt in snapshot.interrupts}),
    )


def _answers(resume: Any, interrupts: Mapping[str, Interrupt]) -> dict[str, Any]:
    """Match answers with open questions by id, and read each one, so that a bad one never starts the run."""
    if resume is None or resume == {} or resume == []:
        raise InvalidAnswerError(f"the answer is empty. Open: {_open(list(interrupts.values()))}")
    if isinstance(resume, Mapping) and all(isinstance(key, str) and _is_id(key) for key in resume):
        if unknown := sorted(set(resume) - set(interrupts)):
            raise InvalidAnswerError(
                f"no open question has the id {unknown[0]!r}. Open: {_open(list(interrupts.values()))}"
            )
        answers = dict(resume)
    elif len(interrupts) == 1:
        answers = {next(iter(interrupts)): resume}
    else:
        raise InvalidAnswerError(
            f"{len(interrupts)} questions are open, so answers must be given by id: {{id: answer}}. "
            f"Open: {_open(list(interrupts.values()))}"
        )
    return {
        question_id: _read(interrupts[question_id].value, answer) for question_id, answer in answers.items()
    }


def _is_id(key: str) -> bool:
    return len(key) == 32 and all(char in "0123456789abcdef" for char in key)


def _read(question: Any, answer: Any) -> Any:
    name = question_name(question)
    if name in QUESTIONS:
        read_answer(question, answer)
        return answer
    if name:
        return _tool_call_answer(question, answer)
    if answer is None:
        raise InvalidAnswerError("the answer is empty; the question stays open")
    return answer


def _tool_call_answer(question: Mapping[str, Any], answer: Any) -> dict[str, Any]:
    """Check an answer to LangChain's own human-in-the-loop middleware, which takes one shape only."""
    given = answer.get("decisions") if isinstance(answer, Mapping) and "decisions" in answer else answer
    decisions = list(given) if isinstance(given, list | tuple) else [given]
    requests, configs = question["action_requests"], question.get("review_configs") or []
    if len(decisions) != len(requests):
        raise InvalidAnswerError(
            f"{len(requests)} tool calls are waiting ({known(r['name'] for r in requests)}), "
            f"the answer holds {len(decisions)} decisions; the question stays open"
        )
    allowed = {config["action_name"]: config["allowed_decisions"] for config in configs}
    return {
        "decisions": [
            _tool_decision(decision, request, allowed.get(request["name"], ["approve", "edit", "reject"]))
            for decision, request in zip(decisions, requests, strict=True)
        ]
    }


_INBOX = {"accept": "approve", "ignore": "reject", "response": "respond"}


def _tool_decision(decision: Any, request: Mapping[str, Any], allowed: Sequence[str]) -> dict[str, Any]:
    given = {"type": decision} if isinstance(decision, str) else decision
    kind = given.get("type") if isinstance(given, Mapping) else None
    kind = _INBOX.get(str(kind), kind)
    if kind not in allowed or not isinstance(given, Mapping):
        raise InvalidAnswerError(
            f"{decision!r} is no decision on the call of {request['name']!r}; allowed: {known(allowed)}; "
            "the question stays open"
        )
    args = given.get("args")
    if kind == "edit" and "edited_action" not in given:
        inner = args.get("args", args) if isinstance(args, Mapping) else args
        if not isinstance(inner, Mapping):
            raise InvalidAnswerError(
                f"the edit of the call of {request['name']!r} needs its args as an object; "
                "the question stays open"
            )
        return {"type": "edit", "edited_action": {"name": request["name"], "args": dict(inner)}}
    if kind in ("reject", "respond") and isinstance(args, str) and "message" not in given:
        return {"type": kind, "message": args}
    return {**given, "type": kind}
