"""Ask a model for one JSON object, and have it repaired a bounded number of times."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.constants import TAG_NOSTREAM
from pydantic import BaseModel

from ..errors import ModelCallError, ModelOutputError, WorkLimitError
from ..tools.threads import run_bounded
from ..tracing.marks import role_config, with_marks
from .client_errors import one_line, rejects_mode, truncated_error
from .fallbacks import first_that_answers
from .grammars import grammar_settings, refuses_grammar
from .json_modes import (
    BindError,
    Mode,
    bind,
    modes_after,
    modes_for,
    refuses_bounds,
    remember,
    takes_bounds,
    with_schema_shown,
)
from .metered import MeteredModel, ModelMeter
from .reading import (
    Check,
    Reading,
    TextForm,
    TextListener,
    parts_of,
    raise_if_withheld,
    read_answer,
    was_cut_off,
)
from .retrying import BACKOFF, Backoff
from .wire_schema import bounded, wire_schema

__all__ = ["call_structured"]

T = TypeVar("T", bound=BaseModel)

_QUOTED_ANSWER = 400
_NAMED_PROBLEMS = 12


async def call_structured(
    model: BaseChatModel,
    schema: type[T],
    messages: Sequence[BaseMessage],
    *,
    role: str,
    meter: ModelMeter,
    json_schema: dict[str, Any] | None = None,
    check: Check[T] | None = None,
    form: TextForm[T] | None = None,
    max_repairs: int = 2,
    config: RunnableConfig | None = None,
    backoff: Backoff = BACKOFF,
) -> T:
    """Ask for one JSON object and return it validated.

    If there is a text form, it is requested first. Both the text form and JSON are accepted, whatever was
    requested. A model that writes neither, or fails twice at the text form, is asked for JSON.

    Args:
        model: Any chat model; the way to ask it for JSON is found out and remembered.
        schema: Validates the answer; numbers in place of texts are accepted.
        messages: The prompt.
        role: The asking role; callbacks and traces see it.
        meter: Counts every attempt.
        json_schema: The schema for the model, with ``title``; by default ``wire_schema(schema)``.
        check: Returns one sentence per problem that a schema cannot express.
        form: A shorter text form of the same.
        max_repairs: How often problems are sent back.
        config: Contains callbacks, tags and metadata.
        backoff: How long to wait before transient failures are tried again.

    Raises:
        ModelCallError: One of its kinds; ``ModelOutputError`` if no repair helped.
        BudgetExceededError: The meter allowed no further attempt.
    """
    # Text for a program is not part of the conversation that clients show.
    asking = with_marks(role_config(config, role), {}, tags=[TAG_NOSTREAM])
    wire = json_schema or wire_schema(schema)

    async def ask(member: BaseChatModel, tries: int) -> T:
        asked = MeteredModel(member, role, meter, asking, backoff, tries)
        return await _repaired_answer(
            asked, _Question(schema, wire, messages, check, form, json_schema is None), max_repairs
        )

    return await first_that_answers(model, ask)


@dataclass
class _Question(Generic[T]):
    """The request to a model, in whichever mode, with the repairs so far."""

    schema: type[T]
    wire: dict[str, Any]
    messages: Sequence[BaseMessage]
    check: Check[T] | None
    form: TextForm[T] | None
    bounds: bool
    """Whether its texts may be bounded: a reason may, text for tools may not."""
    repairs: list[BaseMessage] = field(default_factory=list)
    held: Literal["", "wide", "tight"] = ""
    """The bounds of the grammar under which the last answer was written, if there were any."""

    def in_mode(self, mode: Mode) -> list[BaseMessage]:
        if mode == "text" and self.form is not None:
            return [*self.form.messages, *self.repairs]
        asked = [*self.messages, *self.repairs]
        return with_schema_shown(asked, self.wire) if mode == "prompted" else asked

    def listener(self, mode: Mode) -> TextListener | None:
        return self.form.listen if mode == "text" and self.form is not None else None

    def read(self, answer: AIMessage, mode: Mode) -> Reading[T]:
        title = str(self.wire.get("title", self.schema.__name__))
        in_text = mode == "text"
        return read_answer(answer, self.schema, title, self.check, self.form, asked_for_text=in_text)

    def reminder(self, mode: Mode) -> str:
        """Explain the form that is requested next."""
        return self.form.reminder if mode == "text" and self.form is not None else ""


async def _repaired_answer(asked: MeteredModel, question: _Question[T], max_repairs: int) -> T:
    modes = modes_for(asked.model, question.form)
    cut_off = False
    reading: Reading[T] = Reading(None)
    for number in range(max_repairs + 1):
        with asked.errors_in_our_words():
            mode, answer = await _ask_in_a_mode(asked, question, modes)
        raise_if_withheld(answer, asked.who)
        try:
            reading = await run_bounded(question.read, answer, mode)
        except WorkLimitError as error:
            reading = Reading(None, (f"it cannot be checked: {error}",))
        if reading.value is not None:
            remember(asked.model, mode)
            return reading.value
        cut_off_before, cut_off = cut_off, was_cut_off(answer)
        if cut_off and cut_off_before and mode != "text":
            break
        # Under its grammar, only the texts need tighter bounds.
        modes = (
            modes_for(asked.model, question.form)
            if cut_off and question.held == "wide"
            else modes_after(mode, answer, reading, again=number > 0, model=asked.model)
        )
        question.repairs += _repair(answer, reading.problems, question.reminder(modes[0]), cut_off=cut_off)
    limit = asked.meter.call_limits().tokens_by
    raise _no_answer(asked.who, reading.problems, cut_off=cut_off, answers=max_repairs + 1, limit=limit)


async def _ask_in_a_mode(
    asked: MeteredModel, question: _Question[T], modes: Sequence[Mode]
) -> tuple[Mode, AIMessage]:
    """Ask in the first mode that the model accepts, and remember it."""
    rejection: Exception | None = None
    for mode in modes:
        try:
            answer = await _ask_in_mode(asked, question, mode)
        except Exception as error:
            if not isinstance(error, BindError) and not rejects_mode(error):
                raise
            rejection = error
            continue
        if rejection is not None:
            remember(asked.model, mode)
        return mode, answer
    raise rejection or ValueError("no way of asking for JSON is left")


def _no_answer(
    who: str, problems: Sequence[str], *, cut_off: bool, answers: int, limit: str
) -> ModelCallError:
    if cut_off:
        return truncated_error(who, limit)
    return ModelOutputError(
        f"{who} gave no usable answer in {answers} tries: {one_line('; '.join(problems), 600)}"
    )


async def _ask_in_mode(asked: MeteredModel, question: _Question[T], mode: Mode) -> AIMessage:
    if mode == "text" and (answer := await _ask_under_grammar(asked, question)):
        return answer
    question.held = ""
    messages, listener = question.in_mode(mode), question.listener(mode)
    if question.bounds and takes_bounds(asked.model, mode):
        try:
            return await asked.ask(bind(asked.model, bounded(question.wire), mode), messages, listener)
        except Exception as error:
            if not refuses_bounds(asked.model, error):
                raise
    return await asked.ask(bind(asked.model, question.wire, mode), messages, listener)


async def _ask_under_grammar(asked: MeteredModel, question: _Question[T]) -> AIMessage | None:
    """Ask for the text form under its grammar; None if the server does not support one."""
    grammar = None if question.form is None else question.form.grammar
    tight = bool(question.held)
    settings = await grammar_settings(asked.model, grammar, tight=tight)
    if not settings:
        return None
    try:
        answer = await asked.ask(
            asked.model.bind(**settings), question.in_mode("text"), question.listener("text")
        )
    except Exception as error:
        if not refuses_grammar(asked.model, error):
            raise
        return None
    question.held = "tight" if tight else "wide"
    return answer


def _repair(answer: AIMessage, problems: Sequence[str], reminder: str, *, cut_off: bool) -> list[BaseMessage]:
    """Show the model its answer and its problems as text, so that no tool result is needed."""
    parts = (part if isinstance(part, str) else json.dumps(part) for part in parts_of(answer))
    given = "\n".join(parts).strip()
    quoted = given if len(given) <= _QUOTED_ANSWER else f"{given[:_QUOTED_ANSWER]}\n… (shortened)"
    return [
        AIMessage(quoted or "(empty answer)"),
        HumanMessage(_feedback(problems, reminder, cut_off=cut_off)),
    ]


def _feedback(problems: Sequence[str], reminder: str, *, cut_off: bool) -> str:
    if cut_off:
        return "Your answer was cut off at the token limit. Give the whole answer again, much shorter."
    named = [f"- {one_line(problem, 400)}" for problem in problems[:_NAMED_PROBLEMS]]
    if len(problems) > _NAMED_PROBLEMS:
        named.append(f"- and {len(problems) - _NAMED_PROBLEMS} more")
    again = " ".join(filter(None, ["Give the whole answer again, corrected.", reminder]))
    return "\n".join(["Your answer cannot be used:", *named, again])
