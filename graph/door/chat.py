"""The conversation at the door: words that answer a question, and questions that go out as messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from langchain_core.messages import AnyMessage, BaseMessage, HumanMessage, RemoveMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.types import INTERRUPT
from langgraph.graph.message import add_messages
from langgraph.types import Command, StateSnapshot

from ...langgraph_private import SAVER
from ...people.chat import (
    answer_in_words,
    answer_messages,
    closing_messages,
    current_question,
    is_said,
    question_message,
    retold,
)
from ...run import Run
from ...state import QUESTION_ID
from ...storage.adapters import write_beside
from ..compiled import CompiledAgent
from .inputs import read_messages

__all__ = ["LastValues", "Words", "says_something", "tell_answers", "tell_question", "words_for"]

Redact = Callable[[Any], Any]


# --- in ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Words:
    """What a person wrote while a question was open."""

    message: HumanMessage
    answer: Command[Any]


def says_something(given: Any) -> bool:
    """Tell whether an input is a message of a person, and no goal or plan that a program hands in."""
    if not isinstance(given, Mapping) or given.get("goal") is not None or given.get("plan") is not None:
        return False
    messages = read_messages(given.get("messages"))
    return bool(messages) and isinstance(messages[-1], HumanMessage)


def words_for(given: Any, snapshot: StateSnapshot | None) -> Words | None:
    """Read a message as the answer to the question that it comes after; None where it is none."""
    if snapshot is None or not snapshot.interrupts or not says_something(given):
        return None
    message = read_messages(given["messages"])[-1]
    question = current_question(snapshot.interrupts, snapshot.values.get("messages") or [])
    assert isinstance(message, HumanMessage)
    assert question is not None
    answer = answer_in_words(question.value, message.text)
    return Words(
        message.model_copy(update={"id": message.id or str(uuid4())}), Command(resume={question.id: answer})
    )


async def tell_answers(
    saver: Any, snapshot: StateSnapshot, answers: Mapping[str, Any], words: Words | None, redact: Redact
) -> None:
    """Write into the conversation what was decided, beside the checkpoint that is gone on from.

    Args:
        saver: The checkpointer.
        snapshot: The thread's state.
        answers: The answers by the id of their question.
        words: What a person wrote, if the answer came like that.
        redact: Keeps secrets out.
    """
    messages = snapshot.values.get("messages") or []
    answered = [one for one in snapshot.interrupts if one.id in answers]
    answered.sort(key=lambda one: not is_said(one, messages))
    told: list[BaseMessage] = list(_others_in_chat(answers, messages))
    for question in answered:
        if not is_said(question, messages):
            told.append(question_message(question))
        told += answer_messages(question, answers[question.id], words.message.text if words else None)
    if words is not None:
        told.append(words.message)
    await write_beside(saver, snapshot.config, [("messages", redact(told))] if told else [])


def _others_in_chat(answers: Mapping[str, Any], messages: Sequence[AnyMessage]) -> Iterator[RemoveMessage]:
    """Take back a question that is not answered yet; it is asked again after what was answered before it."""
    open_ = {message.tool_call_id for message in closing_messages(messages)}
    for message in messages:
        question = str(message.id or "").removeprefix(QUESTION_ID)
        if question in open_ and question not in answers:
            yield RemoveMessage(id=QUESTION_ID + question)


# --- out ---------------------------------------------------------------------------------


async def tell_question(agent: CompiledAgent, saver: Any, run: Run) -> dict[str, Any] | None:
    """Write the question that a run stops with into the conversation.

    Returns:
        What of the state a client is to see now; None where no question is open.
    """
    address: RunnableConfig = {"configurable": {SAVER: saver, "thread_id": run.ledger.thread_id}}
    snapshot = await agent.aget_state(address)
    messages: Any = snapshot.values.get("messages") or []
    question = current_question(snapshot.interrupts, messages)
    if question is None:
        return None
    updates: list[Any] = [run.redact(update) for update in retold(question, messages)]
    await write_beside(saver, snapshot.config, [("messages", update) for update in updates])
    for update in updates:
        messages = add_messages(messages, update)
    others = (one for one in snapshot.interrupts if one.id != question.id)
    return {"messages": messages, INTERRUPT: (question, *others)}


class LastValues:
    """The last values that a run streamed: with the question in them they are sent once more.

    Args:
        modes: The stream modes that were asked for: a name, or a list.
        subgraphs: Whether chunks name the subgraph that they come from.
    """

    def __init__(self, modes: Any, subgraphs: bool) -> None:
        self._modes, self._subgraphs = modes, subgraphs
        self._last: tuple[dict[str, Any], Callable[[dict[str, Any]], Any]] | None = None

    def see(self, chunk: Any) -> None:
        """Keep a chunk if it holds the values of the graph itself."""
        if isinstance(chunk, dict) and {"type", "ns", "data"} <= chunk.keys():
            if chunk["type"] == "values" and not chunk["ns"] and isinstance(chunk["data"], dict):
                self._last = chunk["data"], lambda values: {**chunk, "data": values}
            return
        parts = chunk if isinstance(self._modes, list) or self._subgraphs else (chunk,)
        if not isinstance(parts, tuple) or not isinstance(parts[-1], dict):
            return
        mode = parts[-2] if isinstance(self._modes, list) else self._modes
        if mode == "values" and not (self._subgraphs and parts[0]):
            whole = len(parts) > 1
            self._last = parts[-1], lambda values: (*parts[:-1], values) if whole else values

    def again(self, told: Mapping[str, Any] | None) -> Iterator[Any]:
        """Give the values with what was told since, if anything was."""
        if self._last is not None and told is not None:
            values, wrap = self._last
            yield wrap({**values, **told})
