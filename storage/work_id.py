"""The identity of a piece of work: where it stands in the plan, whoever carries it out and whenever."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from .rows import dump

__all__ = ["CallId", "Place", "WorkId", "path_as_json"]


@dataclass(frozen=True)
class Place:
    """One step on the way from the root plan down to a piece of work.

    Attributes:
        step_id: The step.
        item: Which item of a ``for_each``, from 0; None where there is none.
        attempt: The number of the attempt, from 1.
        asked: Fingerprint of what an agent or a planner was asked; "" for a step that makes its call itself.
    """

    step_id: str
    item: int | None
    attempt: int
    asked: str = ""

    def as_json(self) -> list[Any]:
        """Return it as plain JSON, for the key of a row."""
        return [self.step_id, self.item, self.attempt, self.asked]


@dataclass(frozen=True)
class WorkId:
    """Names one piece of work: the same in every process, superstep, fork and revision.

    Attributes:
        thread_id: The thread.
        plan_id: The root plan.
        path: The steps on the way to it, the outermost first.
    """

    thread_id: str
    plan_id: str
    path: tuple[Place, ...] = ()

    def at(self, place: Place) -> WorkId:
        """Return the identity of the work at a place within this work."""
        return replace(self, path=(*self.path, place))

    @property
    def digest(self) -> str:
        """SHA-256 over all of it, as 32 hexadecimal digits."""
        return _digest([self.thread_id, self.plan_id, path_as_json(self.path)])[:32]


@dataclass(frozen=True)
class CallId:
    """Names one call of a tool that has an effect.

    Attributes:
        work: The work that makes it.
        content: Fingerprint of the tool and its arguments.
        order: Which of the calls with this content in an agent's conversation, from 0; None: the step's own.
    """

    work: WorkId
    content: str
    order: int | None = None

    def run_within(self, number: int) -> WorkId:
        """Return the identity of a run that the tool starts, counted from 1."""
        return self.work.at(Place(self._as_step, self.order, number))

    def encloses(self, other: CallId) -> bool:
        """Tell whether the other call is made in a run that the tool of this one started."""
        depth, path = len(self.work.path), other.work.path
        return path[:depth] == self.work.path and len(path) > depth and path[depth].step_id == self._as_step

    @property
    def _as_step(self) -> str:
        return f"call {self.content}"

    @property
    def row_key(self) -> str:
        """The key of the call's row among those of its root plan."""
        return dump([path_as_json(self.work.path), self.content, self.order])

    @property
    def idempotency_key(self) -> str:
        """SHA-256 in hexadecimal over all of it: the same in every process and after every crash."""
        return _digest([self.work.thread_id, self.work.plan_id, self.row_key])


def path_as_json(path: Iterable[Place]) -> list[Any]:
    """Return a path as plain JSON."""
    return [place.as_json() for place in path]


def _digest(value: Any) -> str:
    return hashlib.sha256(dump(value).encode()).hexdigest()
