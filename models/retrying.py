"""Retry a call after transient failures, after the wait that the server asks for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_exponential, wait_random

from ..tools.threads import is_being_cancelled
from .client_errors import is_transient

__all__ = ["BACKOFF", "Backoff", "retry_transient"]

R = TypeVar("R")


@dataclass(frozen=True)
class Backoff:
    """How long to wait before a retry (times in seconds)."""

    first_s: float = 0.5
    """The first wait; each further one doubles."""
    longest_s: float = 20.0
    """The longest wait from doubling."""
    jitter_s: float = 0.5
    """Up to this much is added at random, so that parallel steps do not return together."""
    longest_retry_after_s: float = 60.0
    """A server's ``Retry-After`` is respected up to this."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    """How to wait."""
    now: Callable[[], float] = time.time
    """Seconds since the epoch, to read a ``Retry-After`` that is a date."""

    def wait(self, state: RetryCallState) -> float:
        """Choose the next wait: the server's, else exponential with jitter."""
        error = state.outcome.exception() if state.outcome else None
        asked = _retry_after(error, self.now) if error else None
        if asked is not None:
            return min(asked, self.longest_retry_after_s)
        own = wait_exponential(multiplier=self.first_s, max=self.longest_s)
        return own(state) + wait_random(0, self.jitter_s)(state)


BACKOFF = Backoff()


async def retry_transient(
    call: Callable[[], Awaitable[R]], *, tries: int = 4, backoff: Backoff = BACKOFF
) -> R:
    """Await ``call()``, and again after transient failures; raise the last failure unchanged.

    A caller that is being cancelled gets no other try, whatever the call makes of that.

    Args:
        call: Makes one attempt.
        tries: Attempts in all.
        backoff: How long to wait between them.
    """
    try:
        return await call()  # Most calls end here, without the retry library.
    except Exception as error:
        if tries == 1 or not _is_worth_another(error):
            raise
        failed = [error]
    retrying = AsyncRetrying(
        stop=stop_after_attempt(tries),
        retry=retry_if_exception(_is_worth_another),
        wait=backoff.wait,
        sleep=backoff.sleep,
        reraise=True,
    )

    # tenacity 9.2 awaits only functions that are visibly coroutine functions, so not every callable.
    async def attempt() -> R:
        if failed:
            raise failed.pop()
        return await call()

    return await retrying(attempt)


def _is_worth_another(error: BaseException) -> bool:
    """Tell whether a failure is transient, and not what the call made of being cancelled."""
    return is_transient(error) and not is_being_cancelled()


def _retry_after(error: BaseException, now: Callable[[], float]) -> float | None:
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    value = headers.get("retry-after")
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        return _seconds_until(value, now)


def _seconds_until(date: str, now: Callable[[], float]) -> float | None:
    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - now())
    except ValueError:  # Neither seconds nor a date: ignore it.
        return None
