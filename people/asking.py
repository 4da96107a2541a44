"""Ask a person from within a node, and send an event about the question."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from langgraph.config import get_stream_writer
from langgraph.errors import GraphInterrupt
from langgraph.runtime import Runtime
from langgraph.types import Interrupt

from ..run import Run, emit
from ..safety.markdown import plain_line
from ..state import By
from ..storage.ledger import GivenAnswer
from .deciders import Use, deciders_of
from .questions import (
    QUESTIONS,
    Answer,
    older_question_id,
    question_id,
    question_name,
    question_value,
    read_answer,
    with_refusal,
)

__all__ = [
    "ask_anything",
    "ask_person",
    "note_uses",
]


async def ask_person(
    run: Run,
    key: Sequence[Any],
    name: str,
    args: Mapping[str, Any],
    description: str,
    *,
    step_id: str | None = None,
    uses: Sequence[Use] = (),
    **record: Any,
) -> Answer:
    """Ask a person from within a node, and return the answer of somebody who may give it.

    Args:
        run: The run that asks.
        key: Distinguishes this question from all others of the thread, as JSON: its work and its occasion.
        name: One of :data:`~plan_execute.people.questions.QUESTIONS`.
        args: The proposal, which a person may edit.
        description: Markdown with what a person needs to decide.
        step_id: The step that it is about; a client finds it in the question.
        uses: What the decision allows; rules may say who decides about it.
        record: More fields of the question; ``asked_at`` (ISO 8601) where it opened before now.

    Raises:
        langgraph.errors.GraphInterrupt: While there is no answer.
        InvalidAnswerError: If the answer on record does not fit.
    """
    if step_id is not None:
        record["step_id"] = step_id
    deciders = deciders_of(run)
    if who := deciders.in_words(name, uses):
        description += f"\n\n{plain_line(who)}"
        record["uses"] = list(uses)
    value = question_value(name, args, description) | record
    given = await _answer(
        run, [name, *key], Interrupt(value), name, step_id, lambda by: deciders.refusal(name, uses, by)
    )
    answer = read_answer(value, given.answer, given.by)
    if given.at is not None:
        answer["at"] = given.at
    return run.redact(answer)


async def ask_anything(
    run: Run, key: Sequence[Any], value: Any, schema: dict[str, Any] | None, step_id: str | None = None
) -> Any:
    """Ask a question of a tool or another graph, and return the answer unchanged.

    Args:
        run: The run that asks.
        key: Distinguishes this question from all others of the thread, as JSON.
        value: The question.
        schema: JSON schema of the answer, which the caller checks; None accepts any answer.
        step_id: The step that it is about.

    Raises:
        langgraph.errors.GraphInterrupt: While there is no answer.
    """
    question, deciders = Interrupt(value, response_schema=schema), deciders_of(run)
    uses: Any = await run.ledger.uses([question_id(run.ledger.thread_id, key)]) if deciders.rules else [[]]
    given = await _answer(run, key, question, "", step_id, lambda by: deciders.refusal("", uses[0], by))
    return run.redact(given.answer)


async def note_uses(run: Run, stop: GraphInterrupt, use: Use) -> None:
    """Put on record that questions which a tool or an agent asks itself are about this call of it."""
    open_ = stop.args[0] if stop.args else ()
    asked = [one.id for one in open_ if question_name(one.value) not in QUESTIONS]
    for question, known in zip(asked, await run.ledger.uses(asked), strict=True):
        if use not in known:
            await run.ledger.record_uses(question, [*known, use])


async def _answer(
    run: Run,
    key: Sequence[Any],
    question: Interrupt,
    name: str,
    step_id: str | None,
    refusal: Callable[[By], str | None],
) -> GivenAnswer:
    """Find the answer and who gave it by the question's id, or stop with the question."""
    found = question_id(run.ledger.thread_id, key)
    answered = await _given(run, found, older_question_id(name, step_id)) or await run.ledger.answer(found)
    if answered is not None and (why := refusal(answered.by)):
        # It came through a parent graph, or before a rule was added.
        await run.ledger.forget_answer(found)
        run.given.pop(found, None)
        run.refusals[found] = why
        answered = None
    if answered is None:
        await run.ledger.record_question(found, name, next(iter(run.within), step_id))
        runtime = Runtime(stream_writer=get_stream_writer())
        emit(runtime, run, "question_open", step_id=step_id, question=name, question_id=found)
        value = with_refusal(question.value, run.refusals.get(found))
        raise GraphInterrupt((replace(question, id=found, value=value),))
    return answered


async def _given(run: Run, found: str, older: str) -> GivenAnswer | None:
    """Take the answer that was handed to this run, and record it."""
    key = found if run.given.get(found) is not None else older
    answer = run.given.get(found) if key == found else run.given.pop(older, None)
    if answer is None:
        return None
    return await run.ledger.record_answer(found, answer, run.who_answered(key))
