"""Change a run from outside: run steps again, or end it. Finished work is kept."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal, NamedTuple
from uuid import uuid4

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START
from langgraph.types import Command, StateSnapshot

from ..context import Context, run_redactor, to_context
from ..errors import (
    ConfigurationError,
    InvalidInputError,
    InvalidPlanError,
    NotAllowedError,
    NothingToResumeError,
    ThreadBusyError,
    known,
)
from ..langgraph_private import READ
from ..nodes.dispatcher import recorded_results
from ..people.answers import check_exists, check_resumable
from ..people.approvals import inputs_digest
from ..people.chat import closing_messages
from ..people.deciders import Deciders, person_of, requesters_of, uses_in, uses_of
from ..people.questions import question_name
from ..plan.dag import descendants, next_round_is_due, pending_steps
from ..plan.identity import input_values, plan_difference, step_fingerprint
from ..plan.rules import PlanFacts, validate_plan
from ..state import (
    ORDERED,
    ORDERED_TOO,
    Attempt,
    By,
    Evaluation,
    Failure,
    Plan,
    Step,
    StepResult,
    add_usage,
    digest,
    new_attempt,
    new_evaluation,
    new_result,
    steps_by_id,
    total_usage,
)
from ..storage.adapters import AsyncSaver, async_store
from ..storage.ids import thread_id_of
from ..storage.ledger import Ledger
from ..tools.threads import run_bounded
from .compiled import CompiledAgent
from .door.chat import says_something
from .door.inputs import as_json, check_input
from .door.thread_state import check_clock, check_version, checked_plan, plan_of, stands_before_a_goal
from .door.visit import check_new_run

__all__ = [
    "ABANDON",
    "Outlook",
    "cancel_run",
    "check_may_answer",
    "edit_plan",
    "fork_outlook",
    "is_answered",
    "retry_steps",
    "without_open_run",
]

ABANDON = "abandon"
"""Key of an input that gives up the thread's open run."""


async def retry_steps(
    agent: CompiledAgent,
    config: RunnableConfig,
    step_ids: Sequence[str] | None = None,
    *,
    person: str | None = None,
    seen: Mapping[str, str] | None = None,
) -> list[str]:
    """Make failed or chosen steps and their dependents run again at the next ``astream(None, config)``.

    If no step failed, but the planner of a rolling plan did, it is asked for the next steps again.

    Only a chosen step repeats without a question a write that it is known to have made.

    Args:
        agent: The agent that owns the thread.
        config: Names the thread.
        step_ids: Steps to run again, finished ones too; None means all that did not succeed.
        person: Who orders it; a user whom a server has authenticated takes precedence.
        seen: When chosen steps had ended (``finished_at``), as far as the person saw it; "" if they had not.
            A step that has ended since counts as not chosen.

    Returns:
        The ids of the steps that will run, in the plan's order; none if only the planner is asked.

    Raises:
        ThreadNotFoundError: If there is no such thread.
        ThreadBusyError: If it is being run.
        SchemaVersionError: If another version wrote it.
        InvalidInputError: If a step is unknown, or there is nothing to run again.
        NotAllowedError: If the thread's rules do not let this person decide it.
    """
    config = agent.config_of_thread(config)
    async with _hold(agent, config):
        snapshot = await _existing(agent, config)
        plan = plan_of(snapshot)
        results: dict[str, StepResult] = snapshot.values.get("results") or {}
        again = _affected(plan, results, step_ids)
        ledger, by = _ledger(agent, config), _orderer(config, person)
        steps = [step for step in plan["steps"] if step["id"] in again]
        await _require_allowed(agent, snapshot, ledger, "handle_step_failure", steps, by)
        asked = await _open_failures(ledger, plan, results)
        reason = f"a person ordered {'these' if again else 'the next'} steps again"
        at = _now()
        evaluation: Evaluation = {**new_evaluation("continue", reason, by=by, step_ids=again), "at": at}
        for step in steps:
            result = results.get(step["id"])
            ended = (result["finished_at"] if result else None) or ""
            is_chosen = step["id"] in (step_ids or ()) and (seen or {}).get(step["id"], ended) == ended
            why = ORDERED if is_chosen else ORDERED_TOO
            order: Evaluation = {**new_evaluation("retry", why, by=by, step_ids=[step["id"]]), "at": at}
            await _retire(ledger, plan, step, result, order)
        update = {
            # Of a run that was left early, only a pending write of the old checkpoint has them.
            "plan": plan,
            "approval": snapshot.values.get("approval"),
            "results": {**results, **dict.fromkeys(again)},
            "usage": total_usage(asked[step_id]["usage"] for step_id in again if step_id in asked),
            "status": "running",
            "decisions": None,
        }
        # The dispatcher finds nothing to send, and the evaluator checks a new round against its limits.
        node = "evaluator" if again else "dispatcher"
        await _leave(agent, config, snapshot, node, evaluation, "steps_retried", update)
        return again


def _affected(plan: Plan, results: dict[str, StepResult], step_ids: Sequence[str] | None) -> list[str]:
    steps = steps_by_id(plan)
    if unknown := sorted(set(step_ids or ()) - set(steps)):
        raise InvalidInputError(
            f"the plan has no step {unknown[0]!r}; known steps: {known(steps, given=unknown[0])}"
        )
    failed = [
        i for i, r in results.items() if i in steps and (r["status"] in ("failed", "blocked") or r["error"])
    ]
    chosen = set(step_ids or failed)
    if not chosen and next_round_is_due(plan, results):
        return []
    if not chosen:
        raise InvalidInputError("no step failed, so there is nothing to run again; name one to run it anyway")
    affected = chosen | descendants(plan["steps"], chosen)
    return [step_id for step_id in steps if step_id in affected]


async def _retire(
    ledger: Ledger, plan: Plan, step: Step, result: StepResult | None, order: Evaluation
) -> None:
    """Keep the attempts so far, so that the next one has a number and effects of its own."""
    fingerprint = step_fingerprint(step)
    recorded = await ledger.attempts(plan["id"], step["id"], fingerprint)
    await ledger.forget_result(plan["id"], step["id"])
    made = max(len(recorded), result["attempts"] if result else 0)
    for number in range(1, made + 1):
        base = recorded[number - 1] if number <= len(recorded) else _unrecorded(number, result)
        decided = base["decision"]
        renewed = order["reason"] == ORDERED and _is_order(decided)
        if decided is None or decided["decision"] != "retry" or renewed:
            decided = order
        attempt: Attempt = {**base, "decision": decided, "usage": {}}
        await ledger.record_attempt(plan["id"], step["id"], fingerprint, number, attempt)


def _is_order(decision: Evaluation | None) -> bool:
    return decision is not None and decision.get("reason") in (ORDERED, ORDERED_TOO)


def _unrecorded(number: int, result: StepResult | None) -> Attempt:
    """Describe an attempt that succeeded, which only the result contains."""
    error: Failure = {"code": "ordered_again", "message": "a person ordered this step again"}
    attempt = new_attempt(number, None, None, error)
    return {**attempt, "evidence": result["evidence"] if result else []}


async def cancel_run(
    agent: CompiledAgent, config: RunnableConfig, *, person: str | None = None
) -> Literal["requested", "cancelled"]:
    """End a run: ask the process that runs it to stop, or end a paused one here.

    No rule of ``Context.approvers`` prevents this.

    Args:
        agent: The agent that owns the thread.
        config: Names the thread.
        person: Who orders it; a user whom a server has authenticated takes precedence.

    Returns:
        ``requested`` if another runner was asked; ``cancelled`` if the thread has been ended
        and holds its final report.

    Raises:
        ThreadNotFoundError: If there is no such thread.
        NothingToResumeError: If its run has ended already.
        SchemaVersionError: If another version wrote it.
    """
    config = agent.config_of_thread(config)
    try:
        await _end(agent, config, _orderer(config, person))
    except ThreadBusyError:
        await _ask_to_stop(agent, config)
        return "requested"
    return "cancelled"


async def _end(agent: CompiledAgent, config: RunnableConfig, by: By) -> None:
    """End a run that is not running, and write its final report."""
    async with _hold(agent, config, at_once=True):
        await _cancel(agent, config, "A person cancelled the run.", by)
    async for _ in agent.astream(None, config):
        pass


async def _ask_to_stop(agent: CompiledAgent, config: RunnableConfig) -> None:
    """Tell the run of a thread to stop: directly in this process, elsewhere through the storage."""
    saver, thread_id = agent.checkpointer, thread_id_of(config["configurable"])
    here = [stop for running, stop in set(agent.running) if running == thread_id]
    for stop in here:
        stop.set()
    if not (here or (isinstance(saver, AsyncSaver) and await saver.signal_stop(thread_id))):
        await _ledger(agent, config).request_stop()


async def _cancel(agent: CompiledAgent, config: RunnableConfig, reason: str, by: By) -> None:
    """Prepare the thread so that its run continues to its final report."""
    snapshot = await _existing(agent, config)
    if not snapshot.tasks:
        raise NothingToResumeError(f"the run has ended already ({snapshot.values.get('status', 'ended')})")
    evaluation: Evaluation = {**new_evaluation("abort", reason, by=by), "cancelled": True}
    results, plan = snapshot.values.get("results") or {}, checked_plan(snapshot)
    failed = await _open_failures(_ledger(agent, config), plan, results)
    update = {
        "results": {**results, **failed},
        "usage": total_usage(result["usage"] for result in failed.values()),
        "plan": plan,
        "draft": None,
    }
    await _leave(agent, config, snapshot, "evaluator", evaluation, "cancelled", update)


async def without_open_run(
    agent: CompiledAgent, given: Any, config: RunnableConfig, context: Any = None, *, elsewhere: bool = False
) -> tuple[Any, RunnableConfig]:
    """End the thread's open run, if there is one and the input gives it up; return the rest to run.

    A goal gives it up with ``"abandon": True``. So does a chat message after the run was stopped, if no
    question is open, and a ``Command`` that goes to the end, which front ends send to mark a thread as
    resolved.

    Args:
        agent: Whose run it is.
        given: The input.
        config: Its config.
        context: The settings asked for with it.
        elsewhere: Whether another process, which has the models, will run the rest.

    Returns:
        The rest of the input, and the config to run it with.

    Raises:
        InvalidInputError: If the input has the wrong form; the run then stays open.
        ConfigurationError: If something that the rest needs is missing; the run then stays open.
        ThreadBusyError: If it is being run; its runner was asked to stop if the input says ``abandon``.
    """
    rest = _without_abandon(given)
    here = _at_newest(config)
    if isinstance(given, Command) and _goes_to_end(given):
        config = here  # A run ends at its newest checkpoint: from an earlier one LangGraph would continue it.
    if (given_up := await _given_up(agent, given, config, here)) is None:
        return rest, config
    apart, by = _as_another_run(here), person_of(config.get("configurable") or {}, to_context(context))
    if isinstance(given, Command):
        async with _hold(agent, apart):
            await _cancel(agent, apart, "A person marked the thread as resolved.", by)
        return None, here
    checked = check_input(rest, None, True, False, {})
    await check_new_run(agent, checked, given_up, context, elsewhere=elsewhere)
    if not given.get(ABANDON):
        await _end(agent, apart, by)
    elif await cancel_run(agent, apart, person=by.get("id")) == "requested":
        raise ThreadBusyError(
            "the open run is still running; it was told to stop. Send the goal again when it has stopped"
        )
    return rest, here


def _without_abandon(given: Any) -> Any:
    if not isinstance(given, Mapping) or ABANDON not in given:
        return given
    if not isinstance(abandon := given[ABANDON], bool):
        raise InvalidInputError(f"{ABANDON} must be true or false, not {type(abandon).__name__}")
    return {key: value for key, value in given.items() if key != ABANDON}


async def _given_up(
    agent: CompiledAgent, given: Any, config: RunnableConfig, here: RunnableConfig
) -> StateSnapshot | None:
    """Return the state of the open run that an input gives up; None if it gives up none.

    Args:
        agent: Whose run it is.
        given: The input.
        config: Its config, which may name a checkpoint.
        here: The same for the newest checkpoint.
    """
    if isinstance(given, Command):
        ends = _goes_to_end(given)
    else:
        ends = isinstance(given, Mapping) and bool(given.get(ABANDON) or says_something(given))
    configurable = config.get("configurable") or {}
    if not (ends and agent.checkpointer and configurable.get("thread_id")) or READ in configurable:
        return None
    newest = await agent.aget_state(here)
    named = configurable.get("checkpoint_id")
    if not newest.tasks or (named and named != newest.config["configurable"].get("checkpoint_id")):
        return None
    gives_up = isinstance(given, Command) or given.get(ABANDON) or not newest.interrupts
    return newest if gives_up else None


def _goes_to_end(command: Command[Any]) -> bool:
    goto = command.goto if isinstance(command.goto, list | tuple) else [command.goto]
    return command.resume is None and not command.update and list(goto) == [END]


def _at_newest(config: RunnableConfig) -> RunnableConfig:
    """Name the newest checkpoint of the thread."""
    configurable = config.get("configurable") or {}
    return {**config, "configurable": {k: v for k, v in configurable.items() if k != "checkpoint_id"}}


def _as_another_run(config: RunnableConfig) -> RunnableConfig:
    """Give a config a run id of its own.

    If a checkpoint has the id of the next run, LangGraph 1.2.24 takes that run's input for a resume. Without
    an id, a server's checkpoints get the id of its request.
    """
    run_id = uuid4()
    return {
        **config,
        "run_id": run_id,
        "metadata": {**(config.get("metadata") or {}), "run_id": str(run_id)},
    }


class Outlook(NamedTuple):
    """What a run does that goes on from a checkpoint.

    Attributes:
        kept: Steps whose results are used again.
        runs: Steps that run.
        plans: Whether a model is asked for a plan first.
    """

    kept: list[str]
    runs: list[str]
    plans: bool


async def fork_outlook(agent: CompiledAgent, config: RunnableConfig) -> Outlook:
    """Tell what ``astream(None, config)`` does with a config that names an earlier checkpoint.

    Raises:
        ThreadNotFoundError: If there is no such thread, or no such checkpoint.
        NothingToResumeError: If the run had ended then.
    """
    config = agent.config_of_thread(config)
    snapshot = await _existing(agent, config)
    check_resumable(snapshot, has_saver=True)
    plans = any(task.name in (START, "planner", "replanner") for task in snapshot.tasks)
    plan, known_ = checked_plan(snapshot), snapshot.values.get("results") or {}
    if plan is None or stands_before_a_goal(snapshot):
        return Outlook([], [], plans)
    results = {**await recorded_results(_ledger(agent, config), plan, known_), **known_}
    runs = [step["id"] for step in pending_steps(plan, results)]
    return Outlook([i for i, r in results.items() if r["status"] == "done" and i not in runs], runs, plans)


async def edit_plan(
    agent: CompiledAgent, config: RunnableConfig, edited: Mapping[str, Any], *, person: str | None = None
) -> Plan:
    """Replace the plan of a paused or finished run, which continues at the next ``astream(None, config)``.

    Finished steps stay. Steps that failed and are changed run again under new ids, and so do the steps that
    depend on them. An edit approves the plan and is recorded.

    Args:
        agent: The agent that owns the thread.
        config: Names the thread.
        edited: The whole plan.
        person: Who edits it; a user whom a server has authenticated takes precedence.

    Returns:
        The plan as it was read, before new ids are given.

    Raises:
        ThreadNotFoundError: If there is no such thread.
        ThreadBusyError: If it is being run.
        SchemaVersionError: If another version wrote it.
        InvalidInputError: If the thread has no plan, or one that nobody has checked yet.
        InvalidPlanError: If the edited plan cannot run; nothing is changed then.
        NotAllowedError: If the thread's rules do not let this person approve it.
    """
    config = agent.config_of_thread(config)
    async with _hold(agent, config):
        snapshot = await _existing(agent, config)
        values, current, ledger = snapshot.values, plan_of(snapshot), _ledger(agent, config)
        edited, plan = await _checked_edit(agent, config, snapshot, edited)
        by = _orderer(config, person)
        # It replaces an edit that may be waiting for an answer.
        steps = [*current["steps"], *plan["steps"]]
        await _require_allowed(agent, snapshot, ledger, "approve_plan", steps, by)
        record = {"decision": "edit", "edit": dict(edited), "inputs": inputs_digest(values), "by": by}
        await ledger.record_approval(current["id"], f"edit-{digest(dict(edited))}", record)
        approval = {**(values.get("approval") or {}), "decision": "edited"}
        results: dict[str, StepResult] = values.get("results") or {}
        replaced = await _replaced(ledger, current, plan, results)
        update = {
            "draft": {"plan": dict(edited), "source": "person", "attempt": 1},
            "approval": approval,
            "results": {**results, **replaced},
            "usage": total_usage(result["usage"] for result in replaced.values()),
            "status": "running",
            "decisions": None,
        }
        evaluation = new_evaluation("continue", "a person edited the plan", by=by)
        difference = plan_difference(current, plan)
        await _leave(agent, config, snapshot, "approval", evaluation, "plan_edited", update, difference)
        return plan


async def check_edit(agent: CompiledAgent, config: RunnableConfig, edited: Mapping[str, Any]) -> None:
    """Refuse what `edit_plan` would, except what stands against it only now: a run, or who edits.

    Raises:
        ThreadNotFoundError: If there is no such thread.
        SchemaVersionError: If another version wrote it.
        InvalidInputError: If the thread has no plan, or one that nobody has checked yet.
        InvalidPlanError: If the edited plan cannot run.
    """
    config = agent.config_of_thread(config)
    await _checked_edit(agent, config, await _existing(agent, config), edited)


async def _checked_edit(
    agent: CompiledAgent, config: RunnableConfig, snapshot: StateSnapshot, edited: Mapping[str, Any]
) -> tuple[dict[str, Any], Plan]:
    """Return an edited plan without secrets, and as it is understood."""
    values, current = snapshot.values, plan_of(snapshot)
    settings = to_context(values.get("settings")) or Context()
    cleaned = run_redactor(settings.secret_names).value(as_json("the edited plan", dict(edited)))
    facts = await _facts(agent, values, current, _ledger(agent, config))
    plan, issues = await run_bounded(validate_plan, cleaned, facts)
    if plan is None or issues:
        listed = "; ".join(f"{issue['code']}: {issue['message']}" for issue in issues)
        raise InvalidPlanError(f"the edited plan cannot run, nothing was changed: {listed}", issues)
    return cleaned, plan


async def _replaced(
    ledger: Ledger, current: Plan, plan: Plan, results: Mapping[str, StepResult]
) -> dict[str, StepResult]:
    """Give changed steps with failed attempts a failed result, so that they get new ids.

    While a person is asked about its failure, a step has attempts but no result.
    """
    now, before = steps_by_id(plan), steps_by_id(current)
    failed = await _open_failures(ledger, current, results)
    return {step_id: result for step_id, result in failed.items() if now.get(step_id) != before[step_id]}


async def _open_failures(
    ledger: Ledger, plan: Plan | None, results: Mapping[str, StepResult]
) -> dict[str, StepResult]:
    """Find steps with failed attempts but no result, because a person is being asked about them."""
    if plan is None:
        return {}
    begun = await ledger.attempts_of_plan(plan["id"])
    found = {}
    for step_id in steps_by_id(plan):
        attempts = [attempt for (owner, _), made in begun.items() if owner == step_id for attempt in made]
        if attempts and step_id not in results:
            last = attempts[-1]
            ended_at = last.get("ended_at")
            found[step_id] = new_result(
                step_id, "failed", ended_at, made=attempts, error=last["error"], verdict="failed"
            )
    return found


async def _facts(agent: CompiledAgent, values: dict[str, Any], current: Plan, ledger: Ledger) -> PlanFacts:
    settings = to_context(values.get("settings")) or Context()
    recorded = await ledger.results(current["id"])
    return PlanFacts(
        toolbox=agent.toolbox,
        step_limit=settings.step_limit(by_model=False),
        inputs=values.get("inputs") or {},
        has_model=agent.models.has("executor", settings.models),
        has_planner=agent.models.has("planner", settings.models),
        model_problem=partial(agent.models.problem_with, overrides=settings.models),
        may_nest=settings.max_depth > 0,
        previous=current,
        results=values.get("results") or {},
        finished={step_id: row["fingerprint"] for step_id, row in recorded.items()},
        goal=values.get("goal") or "",
    )


# --- shared ------------------------------------------------------------------------------


def _orderer(config: RunnableConfig, person: str | None) -> By:
    return person_of(config["configurable"], Context(person=person))


async def _require_allowed(
    agent: CompiledAgent,
    snapshot: StateSnapshot,
    ledger: Ledger,
    question: str,
    steps: Sequence[Step],
    by: By,
) -> None:
    """Refuse an order that decides an open question about these steps.

    Raises:
        NotAllowedError: If the thread's rules do not let this person decide it.
    """
    known_ = {"inputs": input_values(snapshot.values.get("plan") or {}, snapshot.values.get("inputs"))}
    uses = uses_of(steps, agent.toolbox, known_)
    if why := (await _deciders(agent, snapshot, ledger)).refusal(question, uses, by):
        raise NotAllowedError(f"{why} Nothing was changed.")


async def _deciders(agent: CompiledAgent, snapshot: StateSnapshot, ledger: Ledger) -> Deciders:
    record = await ledger.opening()
    started = to_context(record.settings or snapshot.values.get("settings")) or Context()
    rules = list(dict.fromkeys([*agent.policy.approvers, *started.approvers]))
    return Deciders(rules, requesters_of(snapshot.values, record.requesters))


async def check_may_answer(
    agent: CompiledAgent, config: RunnableConfig, question_id: str, *, person: str | None = None
) -> None:
    """Refuse an answer of somebody who may not decide, while the run cannot take an answer yet.

    Raises:
        ThreadNotFoundError: If there is no such thread.
        NotAllowedError: If the thread's rules do not let this person decide it.
    """
    config = agent.config_of_thread(config)
    snapshot, ledger = await _existing(agent, config), _ledger(agent, config)
    deciders, [on_record] = await _deciders(agent, snapshot, ledger), await ledger.uses([question_id])
    for value in [one.value for one in snapshot.interrupts if one.id == question_id]:
        uses: Any = [*uses_in(value, agent.toolbox), *on_record]
        if why := deciders.refusal(question_name(value), uses, _orderer(config, person)):
            raise NotAllowedError(f"{why} The question stays open.")


async def is_answered(agent: CompiledAgent, config: RunnableConfig, question_id: str) -> bool:
    """Tell whether the answer to a question is on record."""
    return await _ledger(agent, agent.config_of_thread(config)).answer(question_id) is not None


@asynccontextmanager
async def _hold(
    agent: CompiledAgent, config: RunnableConfig, *, at_once: bool = False
) -> AsyncIterator[None]:
    saver, thread_id = agent.checkpointer, thread_id_of(config["configurable"])
    if not isinstance(saver, AsyncSaver):
        raise ConfigurationError("an agent without a checkpointer keeps no threads that could be changed")
    async with saver.hold_thread(thread_id, at_once=at_once) as held:
        # A server's runs hold no thread if its saver has no locks.
        if not saver.locks_threads and any(running == thread_id for running, _ in set(agent.running)):
            raise ThreadBusyError(f"thread {thread_id!r} is being run by this agent")
        if held.former is not None:
            await _ledger(agent, config).record_lost_runner(held.former)
        yield


async def _existing(agent: CompiledAgent, config: RunnableConfig) -> StateSnapshot:
    snapshot = await agent.aget_state(config)
    check_exists(snapshot)
    check_version(snapshot)
    check_clock(snapshot)
    return snapshot


def _ledger(agent: CompiledAgent, config: RunnableConfig) -> Ledger:
    store = async_store(agent.store) if agent.store is not None else agent.memory
    return Ledger(store, thread_id_of(config["configurable"]))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


async def _leave(
    agent: CompiledAgent,
    config: RunnableConfig,
    snapshot: StateSnapshot,
    node: str,
    evaluation: Evaluation,
    event: str,
    update: dict[str, Any],
    difference: dict[str, list[str]] | None = None,
) -> None:
    """Write a decision as if ``node`` had made it, so that routing continues from there.

    The update repeats all results: those of finished siblings are pending writes of the old checkpoint, which
    the new one does not include.
    """
    plan: Mapping[str, Any] = checked_plan(snapshot) or {}
    audit = {
        "at": evaluation.get("at") or _now(),
        "event": event,
        "plan_id": plan.get("id"),
        "revision": plan.get("revision"),
        "decision": evaluation["decision"],
        "by": evaluation["by"],
        "trigger": evaluation.get("reason", ""),
        "evidence": evaluation.get("step_ids", []),
        "usage": snapshot.values.get("usage") or {},
    } | ({"difference": difference} if difference else {})
    spent = add_usage(snapshot.values.get("usage"), update.pop("usage", {}))
    earlier, said = snapshot.values.get("audit") or [], snapshot.values.get("messages") or []
    values = {
        **update,
        # All of them, because LangGraph does not carry over a checkpoint's pending writes.
        "messages": [*said, *closing_messages(said)],
        "evaluation": evaluation,
        "plan_issues": [],
        "audit": {"__overwrite__": [*earlier, audit]},
        "usage": {"__overwrite__": spent},
    }
    await agent.aupdate_state(config, values, as_node=node)
