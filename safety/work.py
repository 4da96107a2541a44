"""How much one check may do: a count of steps, and seconds for matching patterns.

The allowance is ambient, so that all patterns and expressions of one check share it, however deep in the
check they stand.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar

from ..errors import WorkLimitError

__all__ = ["PATTERN_SECONDS", "Work", "current_work", "within"]

T = TypeVar("T")

PATTERN_SECONDS = 2.0
"""Seconds that the patterns of one check may take together."""
_STEPS = 5_000_000
"""Steps of one check: visited nodes, values made, keywords looked at. Some seconds."""


class Work:
    """What one check may still do.

    Args:
        steps: Steps that are left.
        seconds: Seconds for patterns that are left.
    """

    def __init__(self, steps: int = _STEPS, seconds: float = PATTERN_SECONDS) -> None:
        self.steps, self.seconds, self._all_seconds = steps, seconds, seconds
        self._seen: dict[int, Any] = {}

    @classmethod
    def at_once(cls) -> Work:
        """Return what may be done on an event loop: some 20 ms."""
        return cls(20_000, 0.02)

    @classmethod
    def of_a_plan(cls) -> Work:
        """Return what the check of a whole plan may do, in a thread of its own."""
        return cls(4 * _STEPS)

    @property
    def is_spent(self) -> bool:
        """Whether something was left undone because nothing was left."""
        return self.steps < 0 or self.seconds <= 0

    def spend(self, steps: int) -> None:
        """Count steps.

        Raises:
            WorkLimitError: If there are not as many left.
        """
        self.steps -= steps
        if self.steps < 0:
            raise WorkLimitError("it takes more work than one check may do")

    def is_new(self, value: Any) -> bool:
        """Tell whether a value is met for the first time: what is used once costs nothing."""
        if id(value) in self._seen:
            return False
        self._seen[id(value)] = value  # kept, so that nothing else gets its id
        return True

    def match(self, found: Callable[[float], T]) -> T:
        """Match a pattern, within the seconds that are left.

        Args:
            found: Matches, given its time limit in seconds.

        Raises:
            WorkLimitError: If they have passed.
        """
        begun = time.thread_time()
        try:
            if self.seconds <= 0:
                raise TimeoutError
            return found(self.seconds)
        except (TimeoutError, MemoryError) as error:
            self.seconds = 0.0
            message = f"matching the patterns takes longer than {self._all_seconds:g} seconds"
            raise WorkLimitError(message) from error
        finally:
            self.seconds -= time.thread_time() - begun


_current: ContextVar[Work | None] = ContextVar("plan_execute_work", default=None)


def current_work() -> Work:
    """Return the allowance of the check that is being made; a new one outside of any."""
    return _current.get() or Work()


def within(work: Work, check: Callable[..., T], *args: Any) -> T:
    """Make a check all parts of which share one allowance: that of the check around it, if there is one.

    Raises:
        WorkLimitError: If it takes more.
    """
    token = _current.set(_current.get() or work)
    try:
        return check(*args)
    finally:
        _current.reset(token)
