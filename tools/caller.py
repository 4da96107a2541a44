"""What a call may need from its run: a person's answer, and a way to report progress."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["CALLER", "Caller", "Reply", "ToolQuestion"]

Json = Any
Reply = Mapping[str, Json] | None
"""A person's completed form; empty if there was nothing to fill in; None if they declined."""


@dataclass(frozen=True)
class ToolQuestion:
    """A server's question to the person during a call.

    Attributes:
        message: The text.
        server: The asking server.
        schema: JSON Schema of the object to fill in.
        url: An address for the person to open instead; "" if there is none.
    """

    message: str
    server: str
    schema: Mapping[str, Json]
    url: str = ""


class Caller(Protocol):
    """The run that makes a call."""

    async def ask(self, questions: Sequence[ToolQuestion], first: int) -> list[Reply]:
        """Ask a person, and return the replies in the same order.

        Args:
            questions: All questions at this point of the call.
            first: The number of earlier questions of the call.

        Raises:
            ToolFailedError: If nobody can be asked.
            langgraph.errors.GraphInterrupt: While an answer is missing; the call is made again with it.
        """

    async def kept(self) -> dict[str, Json] | None:
        """Return the state that an earlier start of this call had when it asked; None if it has not asked."""

    async def keep(self, stand: dict[str, Json]) -> None:
        """Keep the state of the call, for the start after the answer."""

    def tell(self, progress: float, total: float | None, message: str | None) -> None:
        """Report the progress of the call."""


CALLER: ContextVar[Caller | None] = ContextVar("caller", default=None)
"""The caller of the running task's call."""
