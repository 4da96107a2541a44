"""Handle the conversation at the door: words that answer a question, and questions written as messages."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any
from uuid import uuid4

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, RemoveMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.types import INTERRUPT
from langgraph.graph.message import add_messages
from langgraph.types import Command, Interrupt, StateSnapshot

from ...langgraph_private import SAVER
from ...models.prompts.attachments import name_of
from ...people.chat import (
    answer_in_words,
    answer_messages,
    asks,
    closing_messages,
    current_question,
    is_said,
    question_message,
    retold,
)
from ...people.questions import question_name
from ...run import Run
from ...state import PROGRESS_ID, QUESTION_ID
from ...storage.adapters import write_beside
from ..compiled import CompiledAgent
from .inputs import read_messages

__all__ = ["LastValues", "Words", "says_something", "tell_answers", "tell_question", "words_for"]

Redact = Callable[[Any], Any]
_ASKED_AT = "asked_at"
"""Key in a question's message: when it was asked, in seconds since the epoch."""
_UI = "ui"
"""The key of LangGraph's generative UI messages among the values."""


# --- in ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Words:
    """What a person wrote while a question was open."""

    message: HumanMessage
    answer: Command[Any]
    too_early: bool
    """Whether it was sent before the question was asked, so that it cannot be meant as the answer."""


def says_something(given: Any) -> bool:
    """Tell whether an input is a person's message, and not a goal or plan from a program."""
    if not isinstance(given, Mapping) or given.get("goal") is not None or given.get("plan") is not None:
        return False
    messages = read_messages(given.get("messages"))
    return bool(messages) and isinstance(messages[-1], HumanMessage)


def words_for(given: Any, snapshot: StateSnapshot | None, sent_at: float | None) -> Words | None:
    """Read a message as the answer to the preceding question; None if it is not one.

    Args:
        given: The input of a run.
        snapshot: The thread's state.
        sent_at: When the input was sent, in seconds since the epoch; a server queues it during another run.
    """
    if snapshot is None or not snapshot.interrupts or not says_something(given):
        return None
    said = snapshot.values.get("messages") or []
    message = _as_one(read_messages(given["messages"]), said)
    question = current_question(snapshot.interrupts, said)
    assert question is not None
    asked_at = _asked_at(question, said)
    answer = answer_in_words(question.value, _all_of(message))
    # A different wish counts whenever it was written.
    wants_another_plan = question_name(question.value) == "approve_plan" and answer["type"] == "reject"
    unasked = sent_at is not None and (asked_at is None or sent_at < asked_at)
    return Words(
        message.model_copy(update={"id": message.id or str(uuid4())}),
        Command(resume={question.id: answer}),
        too_early=unasked and not wants_another_plan,
    )


def _all_of(message: HumanMessage) -> str:
    """Return a person's text with the names of attachments: "yes" to a picture is not a plain yes."""
    blocks = message.content if isinstance(message.content, list) else []
    attached = [one for one in blocks if isinstance(one, dict) and one.get("type") != "text"]
    names = ", ".join(name_of({"type": "an attachment", **one}) for one in attached)
    return f"{message.text}\n\nAttached: {names}" if attached else str(message.text)


def _as_one(given: Sequence[AnyMessage], said: Sequence[AnyMessage]) -> HumanMessage:
    """Join a person's messages: a "yes" does not undo the "no" before it."""
    known = {message.id for message in said if message.id is not None}
    written = [message for message in reversed(given) if message.id not in known]
    together = [*takewhile(lambda message: isinstance(message, HumanMessage), written)][::-1] or [given[-1]]
    last, contents = together[-1], [message.content for message in together]
    assert isinstance(last, HumanMessage)
    if all(isinstance(content, str) for content in contents):
        return last.model_copy(update={"content": "\n\n".join(map(str, contents))})
    return last.model_copy(update={"content": [block for content in contents for block in _blocks(content)]})


def _blocks(content: str | list[Any]) -> list[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def is_for_an_earlier_question(snapshot: StateSnapshot | None, sent_at: float | None) -> bool:
    """Tell whether an answer without a question id was sent before the shown question was asked."""
    if snapshot is None or not snapshot.interrupts or sent_at is None:
        return False
    said = snapshot.values.get("messages") or []
    question = current_question(snapshot.interrupts, said)
    asked_at = _asked_at(question, said) if question is not None else None
    return asked_at is not None and sent_at < asked_at


def _asked_at(question: Interrupt, said: Sequence[AnyMessage]) -> float | None:
    return next((one.response_metadata.get(_ASKED_AT, 0.0) for one in said if asks(one, question)), None)


async def tell_answers(
    saver: Any,
    snapshot: StateSnapshot,
    answers: Mapping[str, Any],
    words: Words | None,
    redact: Redact,
    overdue: Collection[str] = (),
) -> None:
    """Write the decision into the conversation, as pending writes of the checkpoint that continues.

    Args:
        saver: The checkpointer.
        snapshot: The thread's state.
        answers: The answers by the id of their question.
        words: What a person wrote, if the answer came from the chat.
        redact: Keeps secrets out.
        overdue: Questions that got their safe default.
    """
    messages = snapshot.values.get("messages") or []
    answered = [one for one in snapshot.interrupts if one.id in answers]
    answered.sort(key=lambda one: not is_said(one, messages))
    told: list[BaseMessage] = list(_others_in_chat(answers, messages))
    for question in answered:
        if not is_said(question, messages):
            told.append(question_message(question))
        told += answer_messages(
            question,
            answers[question.id],
            words.message.text if words else None,
            by_nobody=question.id in overdue,
        )
    if words is not None:
        told.append(words.message)
    await write_beside(saver, snapshot.config, [("messages", redact(told))] if told else [])


def _others_in_chat(answers: Mapping[str, Any], messages: Sequence[AnyMessage]) -> Iterator[RemoveMessage]:
    """Remove an unanswered question; it is asked again after the answers before it."""
    open_ = {message.tool_call_id for message in closing_messages(messages)}
    for message in messages:
        question = str(message.id or "").removeprefix(QUESTION_ID)
        if question in open_ and question not in answers:
            yield RemoveMessage(id=QUESTION_ID + question)


# --- out ---------------------------------------------------------------------------------


async def tell_question(agent: CompiledAgent, saver: Any, run: Run) -> dict[str, Any] | None:
    """Write the question at which a run stops into the conversation.

    Returns:
        The part of the state that a client should see now; None if no question is open.
    """
    address: RunnableConfig = {"configurable": {SAVER: saver, "thread_id": run.ledger.thread_id}}
    snapshot = await agent.aget_state(address)
    messages: Any = snapshot.values.get("messages") or []
    question = current_question(snapshot.interrupts, messages)
    if question is None:
        return None
    updates: list[Any] = [run.redact(update) for update in retold(question, messages)]
    for message in (one for update in updates for one in update if isinstance(one, AIMessage)):
        message.response_metadata = {_ASKED_AT: run.now().timestamp()}
    await write_beside(saver, snapshot.config, [("messages", update) for update in updates])
    for update in updates:
        messages = add_messages(messages, update)
    others = (one for one in snapshot.interrupts if one.id != question.id)
    return {"messages": messages, INTERRUPT: (question, *others)}


class LastValues:
    """The last values that a run streamed; they are sent again with messages that were added since.

    So is the last checkpoint of the mode ``debug``, which a server keeps as the values of the thread.

    Args:
        modes: The stream modes that were asked for: a name, or a list.
        subgraphs: Whether chunks name the subgraph that they come from.
        served: Whether they go to a client of a server.
    """

    def __init__(self, modes: Any, subgraphs: bool, *, served: bool) -> None:
        self._modes, self._subgraphs = modes, subgraphs
        self._served = served
        self._to_a_chat = served and isinstance(modes, list) and {"values", "messages"} <= {*modes}
        self._last: tuple[dict[str, Any], Callable[[dict[str, Any]], Any]] | None = None
        self._checkpoint: tuple[dict[str, Any], Callable[[dict[str, Any]], Any]] | None = None
        self._ended: dict[str, Any] = {}
        self._questions: list[tuple[str, Any]] = []

    @property
    def make_a_chat(self) -> bool:
        """Tell whether the caller shows a conversation and ignores events, including progress."""
        return self._to_a_chat and "custom" not in self._modes

    def pass_on(self, chunk: Any) -> Iterator[Any]:
        """Yield a chunk if it was requested, and after UI progress the same as a message in words.

        An agent's inner conversation is left out, because a chat would show it. A client of a server gets a
        question when it is written down and can be answered; LangGraph would send it while other steps still
        run.
        """
        mode, inner, payload, wrap = self._opened(chunk)
        to_itself = self._to_a_chat and inner and mode == "messages"
        if self._served and not inner and isinstance(payload, dict) and INTERRUPT in payload:
            self._questions.append((mode, chunk))
            payload = {key: payload[key] for key in payload if key != INTERRUPT}
        elif not to_itself and (mode != "custom" or "custom" in self._modes):
            yield chunk
        if inner or not isinstance(payload, dict):
            return
        if mode == "values":
            self._last = payload, wrap
        elif mode == "debug" and payload["type"] == "checkpoint":
            self._checkpoint, self._ended = (payload, wrap), {}
        elif mode == "debug" and payload["type"] == "task_result":
            self._ended[payload["payload"]["id"]] = payload["payload"]
        elif mode == "custom" and str(payload.get("id")).startswith(PROGRESS_ID) and self._last is not None:
            text = AIMessage(payload["props"]["text"], id=payload["id"])
            messages = [*(self._last[0].get("messages") or []), text]
            # Clients forget the UI from `custom` when values arrive without it.
            yield from self.again({"messages": messages, _UI: [payload]})

    def again(self, told: Mapping[str, Any] | None) -> Iterator[Any]:
        """Yield the values with messages that were added since, if there are any."""
        if self._last is not None and told is not None:
            values, wrap = self._last
            # A caller may have requested only a part of the state.
            shown = {key: told[key] for key in told if key in values or key in (INTERRUPT, _UI)}
            yield wrap({**values, **shown})

    def with_question(self, told: Mapping[str, Any] | None) -> Iterator[Any]:
        """Yield the values and the checkpoint with the question at which the run stops, if there is one."""
        yield from (chunk for mode, chunk in self._questions if told is None or mode != "values")
        yield from self.again(told)
        if self._checkpoint is not None and told is not None:
            said, wrap = self._checkpoint
            kept = said["payload"]
            tasks = [{**task, **self._ended.get(task["id"], {})} for task in kept["tasks"]]
            values = {**kept["values"], "messages": told["messages"]}
            yield wrap({**said, "payload": {**kept, "values": values, "tasks": tasks}})

    def _opened(self, chunk: Any) -> tuple[str, bool, Any, Callable[[dict[str, Any]], Any]]:
        """Return a chunk's mode, whether a subgraph sent it, its content, and how to put values in."""
        if isinstance(chunk, dict) and {"type", "ns", "data"} <= chunk.keys():
            return chunk["type"], bool(chunk["ns"]), chunk["data"], lambda values: _part(chunk, values)
        if not isinstance(self._modes, list) and not self._subgraphs:
            return self._modes, False, chunk, lambda values: values
        mode = chunk[-2] if isinstance(self._modes, list) else self._modes
        inner = bool(self._subgraphs and chunk[0])
        return mode, inner, chunk[-1], lambda values: (*chunk[:-1], values)


def _part(chunk: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Put values into a part of version 2; LangGraph adds up the questions of all parts with values."""
    if chunk["type"] != "values":
        return {**chunk, "data": values}
    given = {one.id for one in chunk.get("interrupts", ())}
    asked = tuple(one for one in values.get(INTERRUPT, ()) if one.id not in given)
    return {**chunk, "data": {key: values[key] for key in values if key != INTERRUPT}, "interrupts": asked}
