"""What a call may want of the run that makes it: a person's answer, and to be heard while it works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["CALLER", "Caller", "Reply", "ToolQuestion"]

Json = Any
Reply = Mapping[str, Json] | None
"""What a person filled in; empty where nothing was to be filled in. None: they declined."""


@dataclass(frozen=True)
class ToolQuestion:
    """What a server asks the person during a call.

    Attributes:
        message: Its words.
        server: Who asks.
        schema: JSON Schema of the object that is to be filled in.
        url: An address that the person is to open instead; "": none.
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
            questions: All that is asked at this point of the call.
            first: How many questions the call has asked before.

        Raises:
            ToolFailedError: If nobody can be asked.
            langgraph.errors.GraphInterrupt: While an answer is missing; the call is made again with it.
        """

    async def kept(self) -> dict[str, Json] | None:
        """Return where an earlier start of this call stood when it asked; None: it has not asked."""

    async def keep(self, stand: dict[str, Json]) -> None:
        """Keep where the call stands, for the start that follows the answer."""

    def tell(self, progress: float, total: float | None, message: str | None) -> None:
        """Tell how far the call has come."""


CALLER: ContextVar[Caller | None] = ContextVar("caller", default=None)
"""The caller of the call that the running task makes."""
