"""Which of the answers that LangGraph has for a task belong to which question of it.

LangGraph hands out answers by position: the n-th ``interrupt`` of a task gets its n-th answer, in every
entry anew (langgraph 1.2.22). Answers come only between entries, so what a task had in hand when it began
a call was given before that call, and the answer about how the call ended has the position after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from json import dumps
from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import var_child_runnable_config
from langgraph.config import get_config
from langgraph.errors import GraphInterrupt
from langgraph.types import Interrupt

__all__ = ["AnswersInHand", "count_answers"]

_PAD, _SEND, _RESUME = "__pregel_scratchpad", "__pregel_send", "__resume__"


class _Counter:
    """LangGraph's counter of a task's questions, with a face to read it from."""

    def __init__(self, counter: Callable[[], int]) -> None:
        self._counter = counter
        self.taken = 0

    def __call__(self) -> int:
        index = self._counter()
        self.taken = index + 1
        return index


def count_answers(config: RunnableConfig) -> RunnableConfig:
    """Return the config of a node whose answers are counted, for it and for all that it calls."""
    pad = config["configurable"].get(_PAD)
    if pad is None:
        return config
    counted = replace(pad, interrupt_counter=_Counter(pad.interrupt_counter))
    config = {**config, "configurable": {**config["configurable"], _PAD: counted}}
    var_child_runnable_config.set(config)
    return config


class AnswersInHand:
    """The answers of the running task."""

    def __init__(self) -> None:
        self._configurable = get_config()["configurable"]
        self._pad = self._configurable[_PAD]
        # A task of a subgraph makes one call only, and is not counted: nothing was taken before it.
        counter = self._pad.interrupt_counter
        self._counter = counter if isinstance(counter, _Counter) else _Counter(counter)

    def __len__(self) -> int:
        return len(self._pad.resume)

    @property
    def taken(self) -> int:
        """How many of them questions have got already."""
        return self._counter.taken

    def question_of(self, stop: BaseException) -> dict[str, Any] | None:
        """Describe the question that a tool of this task stopped with, as JSON; None where it cannot be."""
        asked: tuple[Interrupt, ...] = (
            tuple(stop.args[0]) if isinstance(stop, GraphInterrupt) and stop.args else ()
        )
        if len(asked) != 1 or asked[0].id != self._id(len(self)):
            return None  # it is that of a graph within the tool, which has answers of its own
        question = {"value": asked[0].value, "schema": asked[0].response_schema, "position": len(self)}
        try:
            dumps(question, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            return None
        return question

    def require(self, question: dict[str, Any]) -> None:
        """Ask the question again unless its answer is in hand.

        Raises:
            langgraph.errors.GraphInterrupt: While there is none.
        """
        if len(self) <= question["position"]:
            self.skip_to(len(self))
            again = Interrupt(question["value"], id=self._id(len(self)), response_schema=question["schema"])
            raise GraphInterrupt((again,))

    def _id(self, position: int) -> str:
        namespace = str(self._configurable["checkpoint_ns"])
        return Interrupt.from_ns(None, f"{namespace}|{position}" if position else namespace).id

    def skip_to(self, position: int) -> None:
        """Take the answers before this position: the next question gets the one that stands there."""
        while self.taken < position:
            self._counter()
        # As `interrupt` does: those in hand are kept with the next question.
        self._configurable[_SEND]([(_RESUME, self._pad.resume[:position])])
