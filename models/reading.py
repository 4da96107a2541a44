"""Read a structured answer from any part of a message and in any of its forms."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from langchain_core.messages import AIMessage, BaseMessage
from pydantic import BaseModel, ValidationError

from ..plan.notations.lines import TextFormError
from .client_errors import filtered_error, one_line, refused_error
from .grammars import AnswerGrammar
from .json_text import BrokenJsonError, extract_json, without_thinking

__all__ = [
    "Check",
    "Reading",
    "TextForm",
    "TextListener",
    "is_malformed_call",
    "parts_of",
    "raise_if_withheld",
    "read_answer",
    "was_cut_off",
]

T = TypeVar("T", bound=BaseModel)
Check = Callable[[T], Sequence[str]]
"""Returns one sentence per problem that a schema cannot express."""
TextListener = Callable[[str], None]
"""Called with all the text so far."""

_TRUNCATED = {
    "length",
    "max_tokens",
    "max_output_tokens",
    "max_length",
    "model_length",
    "model_context_window_exceeded",
    "pause_turn",
}
_FILTERED = {
    "content_filter",
    "content_filtered",
    "safety",
    "prohibited_content",
    "guardrail_intervened",
    "recitation",
    "blocklist",
    "spii",
    "error_toxic",
}
_MALFORMED_CALL = {"malformed_function_call", "malformed_tool_use", "malformed_model_output"}


@dataclass(frozen=True)
class TextForm(Generic[T]):
    """A text form that a model is asked for first, because it is shorter to write than JSON."""

    messages: Sequence[BaseMessage]
    """The prompt that asks for it."""
    read: Callable[[str], T | None]
    """Reads a text; None if it is not in this form; raises ``TextFormError``."""
    reminder: str = ""
    """Explains the form in a sentence with an example, for a model that wrote it wrongly."""
    listen: Callable[[str], None] | None = None
    """Called with all the text so far while the model writes; a new try may start from the beginning."""
    grammar: AnswerGrammar | None = None
    """Enforces the form, if a server can do that."""


@dataclass(frozen=True)
class Reading(Generic[T]):
    """The result of reading an answer: a value, or its problems."""

    value: T | None
    problems: tuple[str, ...] = ()
    has_json: bool = True
    """Whether there was JSON, or text in the requested form."""


def read_answer(
    answer: AIMessage,
    schema: type[T],
    title: str,
    check: Check[T] | None,
    form: TextForm[T] | None = None,
    *,
    asked_for_text: bool = False,
) -> Reading[T]:
    """Return the first part of the answer that fits, else the problems of the answer's own form.

    Args:
        answer: The answer.
        schema: Validates JSON in the answer.
        title: The schema's name, which models put around JSON.
        check: Returns one sentence per problem that a schema cannot express.
        form: A text form, which is accepted too.
        asked_for_text: Whether the text form was requested; problems are then described in its terms.
    """
    in_form = None if form is None else _read_text(answer, check, form)
    if in_form is not None and in_form.value is not None:
        return in_form
    failed: list[Reading[T]] = []
    for part in parts_of(answer):
        reading = _read_part(part, schema, title, check)
        if reading.value is not None:
            return reading
        failed.append(reading)
    with_json = [reading for reading in failed if reading.has_json]
    if in_form is not None or with_json:
        return in_form or with_json[0]
    if asked_for_text and str(answer.text).strip() and not was_cut_off(answer):
        begins = one_line(without_thinking(str(answer.text)).strip(), 160)
        return Reading(None, (f"there is no line of a plan in your answer, which begins: {begins}",))
    return Reading(None, ("the answer is not JSON",), has_json=False)


def _read_text(answer: AIMessage, check: Check[T] | None, form: TextForm[T]) -> Reading[T] | None:
    """Read an answer in the text form; None if it has another form. An answer that was cut off is refused."""
    if answer.tool_calls or answer.invalid_tool_calls:
        return None
    try:
        value = form.read(without_thinking(str(answer.text)))
    except TextFormError as error:
        return Reading(None, error.problems)
    if value is None:
        return None
    cut_off = ("the answer was cut off",) if was_cut_off(answer) else ()
    problems = cut_off or (tuple(check(value)) if check else ())
    return Reading(None, problems) if problems else Reading(value)


def parts_of(answer: AIMessage) -> Iterator[Any]:
    """Where a structured answer may be: tool calls, broken tool calls, text."""
    yield from (call["args"] for call in answer.tool_calls)
    yield from (call["args"] or "" for call in answer.invalid_tool_calls)
    yield str(answer.text)


def _read_part(part: Any, schema: type[T], title: str, check: Check[T] | None) -> Reading[T]:
    try:
        data = _unwrap(extract_json(part) if isinstance(part, str) else part, title)
    except BrokenJsonError as error:
        return Reading(None, (str(error),))
    except ValueError as error:
        return Reading(None, (str(error),), has_json=False)
    try:
        value = _validate(schema, data)
    except ValidationError as error:
        return Reading(None, tuple(_sentences(error)))
    problems = tuple(check(value)) if check else ()
    return Reading(None, problems) if problems else Reading(value)


def _unwrap(data: Any, title: str) -> Any:
    """Undo double encoding and the envelopes that models put around arguments."""
    if isinstance(data, str):
        return _unwrap(extract_json(data), title)
    if isinstance(data, list) and len(data) == 1:
        return _unwrap(data[0], title)
    if isinstance(data, dict):
        if set(data) == {title}:
            return _unwrap(data[title], title)
        if data.get("name") == title and (inner := data.get("arguments") or data.get("parameters")):
            return _unwrap(inner, title)
    return data


def _validate(schema: type[T], data: Any) -> T:
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        mended = _numbers_as_text(data, error)
        if mended is None:
            raise
        return schema.model_validate(mended)


def _numbers_as_text(data: Any, error: ValidationError) -> Any | None:
    """Turn numbers into text where text was expected; ``None`` if that was not the problem."""
    wanted = [
        problem["loc"]
        for problem in error.errors(include_url=False, include_context=False)
        if problem["type"] == "string_type" and type(problem["input"]) in (int, float)
    ]
    mended = copy.deepcopy(data)
    for *path, last in wanted:
        owner = mended
        for key in path:
            owner = owner[key]
        owner[last] = str(owner[last])
    return mended if wanted else None


def _sentences(error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_url=False, include_context=False):
        place = ".".join(str(key) for key in problem["loc"]) or "the answer"
        yield f"{place}: {problem['msg']} (got {one_line(repr(problem['input']), 80)})"


def raise_if_withheld(answer: AIMessage, who: str) -> None:
    """Raise if the model declined to answer, or the provider withheld the answer."""
    reasons = _reasons(answer)
    refusal = _refusal_in(answer, reasons)
    if refusal is not None:
        raise refused_error(who, refusal)
    if reasons & _FILTERED:
        raise filtered_error(who)


def _refusal_in(answer: AIMessage, reasons: set[str]) -> str | None:
    if refusal := answer.additional_kwargs.get("refusal"):
        return str(refusal)
    blocks = answer.content if isinstance(answer.content, list) else []
    for block in blocks:
        if isinstance(block, dict) and block.get("type") == "refusal":
            return str(block.get("refusal") or "")
    return str(answer.text) if "refusal" in reasons else None


def was_cut_off(answer: AIMessage) -> bool:
    """Tell whether the model stopped early: at a token limit, or to be called again."""
    return bool(_reasons(answer) & _TRUNCATED)


def is_malformed_call(answer: AIMessage) -> bool:
    """Tell whether the provider could not read the model's tool call."""
    return bool(_reasons(answer) & _MALFORMED_CALL)


def _reasons(answer: AIMessage) -> set[str]:
    """Collect why the answer ended, from the fields that providers use."""
    metadata = answer.response_metadata
    given = [metadata[name] for name in _ENDINGS if name in metadata]
    if details := metadata.get("incomplete_details"):
        given.append(details.get("reason"))
    # An enum may come as ``FinishReason.MAX_TOKENS``.
    return {str(reason).rpartition(".")[2].lower() for reason in given if reason}


_ENDINGS = ("finish_reason", "stop_reason", "stopReason", "done_reason")
