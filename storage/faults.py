"""Faults of the storage that a piece of work meets, whatever they are taken for on their way out.

Between the storage and who started the work stand libraries, and middleware of the embedder's, that turn any
exception into something else: a tool's failure, a model's, an answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ..errors import PlanExecuteError

__all__ = ["is_met", "meet", "met_faults"]

_met: ContextVar[tuple[tuple[object, ...], list[PlanExecuteError]] | None] = ContextVar("met", default=None)


@contextmanager
def met_faults(*storage: object) -> Iterator[list[PlanExecuteError]]:
    """Collect the faults of these adapters that the body and the tasks it starts meet.

    Faults of other storage, such as that of an agent within a tool, are not the body's.
    """
    faults: list[PlanExecuteError] = []
    token = _met.set((storage, faults))
    try:
        yield faults
    finally:
        _met.reset(token)


def meet(storage: object, fault: PlanExecuteError) -> None:
    """Let the work that called this adapter know of its fault."""
    watched = _met.get()
    if watched is not None and any(storage is each for each in watched[0]):
        watched[1].append(fault)


def is_met(error: BaseException) -> bool:
    """Tell whether an error is such a fault, which is nobody's to take for something else."""
    watched = _met.get()
    return watched is not None and any(error is fault for fault in watched[1])
