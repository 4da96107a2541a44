"""Which texts can be the id of a thread in every storage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ConfigurationError, InvalidInputError

__all__ = ["LONGEST_ID", "checked_thread_id", "thread_id_of"]

LONGEST_ID = 512
"""Bytes in UTF-8: PostgreSQL's indexes take some 2,700, and escaping in a store's labels triples them."""


def thread_id_of(configurable: Mapping[str, Any]) -> str:
    """Return the id of the thread that a config names.

    Raises:
        ConfigurationError: If it names none.
        InvalidInputError: If no storage could keep it.
    """
    if configurable.get("thread_id") is None:
        raise ConfigurationError(
            'a graph with a checkpointer needs {"configurable": {"thread_id": …}} in its config'
        )
    return checked_thread_id(configurable["thread_id"])


def checked_thread_id(given: object) -> str:
    """Return a thread's id as text.

    Raises:
        InvalidInputError: If it is blank, too long, or holds what a storage could not keep.
    """
    thread_id = str(given)
    size = len(thread_id.encode(errors="surrogatepass"))
    if not thread_id.strip():
        problem = "is empty"
    elif "\0" in thread_id:
        problem = "holds a NUL character"
    elif any("\ud800" <= sign <= "\udfff" for sign in thread_id):
        problem = "holds a lone surrogate, which is not Unicode text"
    elif size > LONGEST_ID:
        problem = f"has {size:,} bytes in UTF-8; at most {LONGEST_ID} are allowed"
    else:
        return thread_id
    shown = repr(thread_id) if len(thread_id) <= 60 else f"{thread_id[:60]!r}…"
    raise InvalidInputError(f"the thread_id {problem}: {shown}")
