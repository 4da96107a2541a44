"""Ask a person from within a node, and tell of the question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from langgraph.config import get_stream_writer
from langgraph.errors import GraphInterrupt
from langgraph.runtime import Runtime
from langgraph.types import Interrupt

from ..run import Run, emit
from .questions import Answer, older_question_id, question_id, question_value, read_answer, with_refusal

__all__ = [
    "ask_anything",
    "ask_person",
]


async def ask_person(
    run: Run,
    key: Sequence[Any],
    name: str,
    args: Mapping[str, Any],
    description: str,
    *,
    step_id: str | None = None,
    **record: Any,
) -> Answer:
    """Ask a person from within a node, and return the answer once there is one.

    Args:
        run: The run that asks.
        key: What tells this question from all others of the thread, as JSON: its work and its occasion.
        name: One of :data:`~plan_execute.people.questions.QUESTIONS`.
        args: What is proposed; a person may edit it.
        description: Markdown that a person can decide from.
        step_id: The step that it is about; a client finds it in the question.
        record: What else the question carries; ``asked_at`` (ISO 8601) where it opened before now.

    Raises:
        langgraph.errors.GraphInterrupt: While there is no answer.
        InvalidAnswerError: If the answer on record does not fit.
    """
    if step_id is not None:
        record["step_id"] = step_id
    value = question_value(name, args, description) | record
    return run.redact(read_answer(value, await _answer(run, [name, *key], Interrupt(value), name, step_id)))


async def ask_anything(
    run: Run, key: Sequence[Any], value: Any, schema: dict[str, Any] | None, step_id: str | None = None
) -> Any:
    """Ask a question that a tool or another graph has, and return the answer as it was given.

    Args:
        run: The run that asks.
        key: What tells this question from all others of the thread, as JSON.
        value: What is asked.
        schema: JSON schema of the answer, which the caller holds it to; None: any answer will do.
        step_id: The step that it is about.

    Raises:
        langgraph.errors.GraphInterrupt: While there is no answer.
    """
    return run.redact(await _answer(run, key, Interrupt(value, response_schema=schema), "", step_id))


async def _answer(run: Run, key: Sequence[Any], question: Interrupt, name: str, step_id: str | None) -> Any:
    """Find the answer under the question's id, or stop with the question."""
    found = question_id(run.ledger.thread_id, key)
    answer = run.given.get(found)
    if answer is None:
        answer = run.given.pop(older_question_id(name, step_id), None)
    if answer is not None:
        await run.ledger.record_answer(found, answer)
        return answer
    answer = await run.ledger.answer(found)
    if answer is None:
        runtime = Runtime(stream_writer=get_stream_writer())
        emit(runtime, run, "question_open", step_id=step_id, question=name, question_id=found)
        value = with_refusal(question.value, run.refusals.get(found))
        raise GraphInterrupt((replace(question, id=found, value=value),))
    return answer
