"""Check the input of a run, and select what reaches the graph."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AnyMessage, HumanMessage, ToolMessage
from langchain_core.messages.utils import convert_to_messages
from langgraph.types import Command, StateSnapshot
from pydantic import ValidationError

from ...errors import InvalidInputError, QuestionOpenError, ThreadUnfinishedError, known
from ...models.prompts.attachments import attachments_in, name_of
from ...people.answers import check_command, check_resumable, open_questions, thread_name
from ...people.chat import closing_messages
from ...safety.plain_json import plain_json
from ...state import QUESTION_ID, InputState, is_for_people

__all__ = ["as_json", "check_input", "goes_on_without_a_word", "read_messages"]

_log = logging.getLogger(__name__)

MAX_GOAL_CHARACTERS = 100_000
"""A longer goal belongs into a file or an input, because it is part of every prompt and checkpoint."""


def check_input(
    given: Any,
    snapshot: StateSnapshot | None,
    has_saver: bool,
    nested: bool,
    overdue: Mapping[str, Any],
    *,
    forks: bool = False,
    by_chat: bool = False,
) -> Any:
    """Check the caller's input, and return the graph's input.

    Args:
        given: A mapping with a new goal, a ``Command``, or None to continue.
        snapshot: The thread's state, if there is a thread.
        has_saver: Whether there is a checkpointer.
        nested: Whether the input is a parent graph's state, which may have other keys.
        overdue: Safe answers to questions that waited too long.
        by_chat: Whether an answer may come without the id of its question.
        forks: Whether an earlier checkpoint is named, from which a goal may always start.

    Raises:
        InvalidInputError: If the input has the wrong form, or no goal.
        ThreadError: If the thread's state does not allow it.
    """
    if isinstance(given, Command):
        return check_command(given, snapshot, has_saver, overdue, by_chat=by_chat)
    if given is None:
        check_resumable(snapshot, has_saver)
        return Command(resume=dict(overdue)) if overdue else None
    if isinstance(given, Mapping):
        if snapshot is not None and not nested and not forks:
            _refuse_unfinished(snapshot)
        before = snapshot.values.get("messages") if snapshot is not None and not nested else None
        return _read_input(given, before or [], strict=not nested)
    raise InvalidInputError(
        f'the input must be a mapping such as {{"goal": "…"}}, a Command or None, not {type(given).__name__}'
    )


def goes_on_without_a_word(given: Any, snapshot: StateSnapshot | None, run_id: str | None) -> bool:
    """Tell whether the input means None for a stopped run.

    An empty input does, because some servers accept no None. So does the input of a run that a server
    restarts after its own death: the checkpoint has the run's id.
    """
    if snapshot is None or not snapshot.tasks or snapshot.interrupts:
        return False
    return given == {} or (run_id is not None and (snapshot.metadata or {}).get("run_id") == run_id)


def _refuse_unfinished(snapshot: StateSnapshot) -> None:
    if snapshot.interrupts:
        raise QuestionOpenError(
            f"thread {thread_name(snapshot)!r} waits for an answer, so a new goal cannot start: "
            f"{open_questions(snapshot.interrupts)}. Answer with Command(resume=…), send "
            '"abandon": True with the goal, or use another thread.'
        )
    # `next` leaves out tasks whose writes were saved before the run stopped (langgraph 1.2.22).
    if snapshot.tasks:
        raise ThreadUnfinishedError(
            f"the run of thread {thread_name(snapshot)!r} has not ended (in: "
            f"{known({task.name for task in snapshot.tasks})}). Continue with None (or {{}}) as "
            "input, or use another thread."
        )


_INPUT_KEYS = tuple(InputState.__annotations__)


def _read_input(given: Mapping[str, Any], before: Sequence[AnyMessage], *, strict: bool) -> dict[str, Any]:
    """Read a new goal. All keys are set, so that nothing of the thread's earlier goal remains.

    Args:
        given: The input.
        before: The conversation so far; its open questions are closed.
        strict: Whether to report unknown keys.
    """
    unknown = sorted(set(map(str, given)) - set(_INPUT_KEYS)) if strict else []
    messages = read_messages(given.get("messages"))
    plan, inputs = given.get("plan"), given.get("inputs") or {}
    if not isinstance(inputs, Mapping):
        raise InvalidInputError(f"inputs must be a mapping of names to values, not {type(inputs).__name__}")
    # Copies, so that later changes by the caller do not reach the run.
    plan, inputs = as_json("plan", plan), as_json("inputs", dict(inputs))
    goal = _goal(given.get("goal"), plan, messages, unknown)
    if unknown:
        _log.warning("unknown input %r is ignored; known inputs: %s", unknown[0], known(_INPUT_KEYS))
    # Agent Chat UI itself answers open calls with "Successfully handled tool call."
    said = [message for message in messages if not _answers_a_question(message, before)]
    return {"goal": goal, "messages": [*closing_messages(before), *said], "plan": plan, "inputs": inputs}


def _answers_a_question(message: AnyMessage, before: Sequence[AnyMessage]) -> bool:
    asked = {str(one.id or "").removeprefix(QUESTION_ID) for one in before if is_for_people(one)}
    return isinstance(message, ToolMessage) and message.tool_call_id.partition("-")[0] in asked


def read_messages(given: Any) -> list[AnyMessage]:
    """Read messages in any form that LangChain accepts.

    Raises:
        InvalidInputError: If they are not messages.
    """
    if not given:
        return []
    try:
        read: list[AnyMessage] = convert_to_messages(given if isinstance(given, list | tuple) else [given])  # type: ignore[assignment]
        return read
    except ValidationError as error:
        wrong = error.errors()[0]
        place = ".".join(map(str, wrong["loc"]))
        raise InvalidInputError(f"messages cannot be read: {place}: {wrong['msg']}") from error
    except (ValueError, NotImplementedError, TypeError) as error:
        raise InvalidInputError(f"messages cannot be read: {str(error).splitlines()[0]}") from error


def _goal(given: Any, plan: Any, messages: Sequence[AnyMessage], unknown: Sequence[str]) -> str:
    if given is not None and not isinstance(given, str):
        raise InvalidInputError(f"the goal must be text, not {type(given).__name__}")
    said = next((_said(message) for message in reversed(messages) if isinstance(message, HumanMessage)), "")
    planned = plan.get("goal") if isinstance(plan, Mapping) else None
    goal = given if given is not None else (said or (planned if isinstance(planned, str) else ""))
    if not goal.strip() and plan is None:
        seen = f" (unknown input {unknown[0]!r}; known inputs: {known(_INPUT_KEYS)})" if unknown else ""
        raise InvalidInputError(f"the goal is empty: give goal=…, a human message, or a plan{seen}")
    if any("\ud800" <= char <= "\udfff" for char in goal):
        raise InvalidInputError("the goal holds a lone surrogate, which is not Unicode text")
    if len(goal) > MAX_GOAL_CHARACTERS:
        raise InvalidInputError(
            f"the goal has {len(goal):,} characters; at most {MAX_GOAL_CHARACTERS:,} are allowed. "
            "Put long texts into inputs or a file that a tool can read."
        )
    return goal


def _said(message: HumanMessage) -> str:
    """Return a person's text, or the names of attachments without text."""
    attached = attachments_in(message)
    if message.text.strip() or not attached:
        return str(message.text)
    return f"See what is attached: {', '.join(map(name_of, attached))}"


def as_json(name: str, value: Any) -> Any:
    """Return a copy of the caller's value as plain JSON.

    Raises:
        InvalidInputError: If it is not plain JSON, or is nested too deeply.
    """
    try:
        return plain_json(value)
    except ValueError as error:
        raise InvalidInputError(f"{name} must be plain JSON: {error}") from error
