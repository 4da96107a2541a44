"""Show questions in ``messages``, and read a person's words as an answer.

Chat clients draw a question only below a message with a tool call of its name. The messages have ids made
from the question's id, so that a repeated question is not shown twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, RemoveMessage, ToolCall, ToolMessage
from langgraph.types import Interrupt

from ..state import ANSWER_ID, QUESTION_ID
from .assent import is_approval
from .questions import QUESTIONS, question_name, read_answer

__all__ = [
    "answer_in_words",
    "answer_messages",
    "asks",
    "closing_messages",
    "current_question",
    "is_said",
    "question_message",
    "retold",
]

Json = Any


# --- what is said ------------------------------------------------------------------------


def question_message(question: Interrupt) -> AIMessage:
    """Write a question as a chat message with a tool call for each of its actions."""
    calls = list(_calls(question))
    texts = [str(request.get("description") or "") for request in _requests(question.value)]
    said = "\n\n".join(filter(None, texts)) or _in_words(question.value)
    return AIMessage(said, tool_calls=calls, id=QUESTION_ID + question.id)


def answer_messages(
    question: Interrupt, answer: Json, said: str | None = None, *, by_nobody: bool = False
) -> list[AnyMessage]:
    """Write the decision on a question as the results of its tool calls.

    Args:
        question: The question.
        answer: The answer, which has been checked.
        said: What a person wrote, if the answer came from the chat.
        by_nobody: Whether it is the safe default.
    """
    text = _decided(question.value, answer, None if by_nobody else said)
    return [_result(call, text) for call in _calls(question)]


def closing_messages(messages: Sequence[AnyMessage]) -> list[ToolMessage]:
    """Answer the calls of questions that nobody will answer, because each call needs a result."""
    return [_result(call, "The question was not answered.") for call in _unanswered_calls(messages)]


def retold(question: Interrupt, messages: Sequence[AnyMessage]) -> list[list[BaseMessage]]:
    """Return the updates that put a question into the conversation as it is asked now."""
    message = question_message(question)
    before = next((one for one in messages if one.id == message.id), None)
    if before is None:
        return [[message]]
    answered = {one.id for one in messages} & {ANSWER_ID + _id_of(call) for call in _calls(question)}
    if answered:  # It is asked again, after a fork.
        return [[RemoveMessage(id=str(old)) for old in (message.id, *answered)], [message]]
    return [] if (before.content, getattr(before, "tool_calls", [])) == _said(message) else [[message]]


def is_said(question: Interrupt, messages: Sequence[AnyMessage]) -> bool:
    """Tell whether the conversation holds the question."""
    return any(asks(message, question) for message in messages)


def asks(message: AnyMessage, question: Interrupt) -> bool:
    """Tell whether a message asks the question."""
    return message.id == QUESTION_ID + question.id


def current_question(questions: Sequence[Interrupt], messages: Sequence[AnyMessage]) -> Interrupt | None:
    """Return the question for an answer without an id: the one in the conversation, else the first.

    Args:
        questions: The open questions, in order.
        messages: The conversation.
    """
    waiting = {call["id"] for call in _unanswered_calls(messages)}
    in_chat = (one for one in questions if any(call["id"] in waiting for call in _calls(one)))
    return next(in_chat, next(iter(questions), None))


def _said(message: AIMessage) -> tuple[Any, Any]:
    return message.content, message.tool_calls


def _requests(value: Json) -> list[Mapping[str, Any]]:
    requests = value.get("action_requests") if isinstance(value, Mapping) else None
    return [one for one in requests or () if isinstance(one, Mapping)]


def _calls(question: Interrupt) -> Iterator[ToolCall]:
    for number, request in enumerate(_requests(question.value)):
        call_id = question.id + (f"-{number}" if number else "")
        args = dict(request.get("args") or {})
        yield ToolCall(name=str(request.get("name") or "question"), args=args, id=call_id, type="tool_call")


def _id_of(call: ToolCall) -> str:
    return str(call["id"])


def _in_words(value: Json) -> str:
    """Write the question of a foreign tool."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str, indent=2)


def _result(call: ToolCall, text: str) -> ToolMessage:
    return ToolMessage(text, tool_call_id=_id_of(call), name=call["name"], id=ANSWER_ID + _id_of(call))


def _unanswered_calls(messages: Sequence[AnyMessage]) -> list[ToolCall]:
    answered = {message.tool_call_id for message in messages if isinstance(message, ToolMessage)}
    asked = [
        one for one in messages if isinstance(one, AIMessage) and str(one.id or "").startswith(QUESTION_ID)
    ]
    return [call for message in asked for call in message.tool_calls if call["id"] not in answered]


def _decided(value: Json, answer: Json, said: str | None) -> str:
    """Describe the decision in a sentence, and how a person's words were read."""
    if question_name(value) not in QUESTIONS:
        return "Answered."
    read = read_answer(value, answer)
    if question_name(value) == "ask_person" and read["type"] == "edit":
        return f"Answered: {_in_words(read['args']['answer'])}"
    decided = f"Decided: {read['decision']}" if "decision" in read else _DECIDED[read["type"]]
    if said is not None:
        return f'{decided}, because you wrote: "{said}"'
    message = read.get("message")
    return f"{decided}: {message}" if message else f"{decided}."


_DECIDED = {
    "approve": "Approved",
    "edit": "Approved with changes, if they can run",
    "reject": "Rejected",
    "respond": "Answered",
}


# --- what a person says ------------------------------------------------------------------


def answer_in_words(value: Json, text: str) -> Json:
    """Read a person's message during an open question as the answer to it.

    Only a fixed list of words approves (``people/assent.py``), and the name of a decision is that decision.
    Any other text rejects, and is the reason; it is no answer to a question whether a write happened. If the
    question asks for words, the text is the answer.
    """
    name = question_name(value)
    if name == "ask_person":
        return {"type": "respond", "message": text}
    if not name:
        return text
    said = text.strip()
    approved = {"type": "approve"} if is_approval(said) else {"type": "reject", "message": said}
    if name not in QUESTIONS:
        return {"decisions": [approved for _ in _requests(value)]}
    decision = said.casefold()
    # Whether a write happened must be said explicitly: "yes" could mean that it did.
    if decision in QUESTIONS[name].decisions or name == "resolve_unknown_outcome":
        return {"type": "edit", "args": {"decision": decision}}
    return approved
