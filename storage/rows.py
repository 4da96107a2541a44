"""Turn records into rows of a LangGraph store: values as JSON text, labels that every store accepts."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import quote, unquote

from langgraph.store.base import BaseStore, GetOp, Item, PutOp, SearchItem

__all__ = [
    "ROOT",
    "Change",
    "change",
    "change_alone",
    "changed",
    "decode",
    "dump",
    "encode",
    "is_replaceable",
    "load",
    "put",
    "read",
    "search",
]

ROOT = "plan_execute"
"""First label of all our namespaces."""
_PAGE = 1000


async def search(store: BaseStore, namespace: tuple[str, ...], *, below: bool = False) -> list[SearchItem]:
    """Find the rows of a namespace, or those of the namespaces one label below it."""
    # The limit grows instead of an offset: stores sort by whole seconds, so pages could skip equal ones.
    limit = _PAGE
    while len(found := await store.asearch(namespace, limit=limit)) == limit:
        limit *= 4
    # PostgresStore matches prefixes as text: a search for thread "t1" also finds "t10".
    depth = len(namespace)
    return [
        item for item in found if item.namespace[:depth] == namespace and len(item.namespace) == depth + below
    ]


def encode(text: str) -> str:
    """Turn a text into a label or key."""
    # LangGraph stores refuse labels with dots, NUL and empty ones. quote never returns a lone %.
    return quote(text, safe="", errors="surrogatepass").replace(".", "%2E") or "%"


def decode(label: str) -> str:
    """Return the text of a label or key."""
    return "" if label == "%" else unquote(label, errors="surrogatepass")


def dump(value: Any) -> str:
    """Write a value as JSON text.

    Raises:
        TypeError: If it is not JSON.
        ValueError: If it holds NaN or infinity.
    """
    # Stores encode this text again; escaping here would make a row of Chinese three times as long.
    # A lone surrogate stays escaped, because no store can hold it.
    text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace").decode()


_REPLACEABLE = "replaceable"


def put(namespace: tuple[str, ...], key: str, value: Any, *, replaceable: bool = False) -> PutOp:
    """Make a row of a value, with any text as key; it never expires.

    Args:
        namespace: Where it stands.
        key: Its key.
        value: What it holds.
        replaceable: Whether it can be made again without harm; then no call waits for the disk.
    """
    mark = {_REPLACEABLE: True} if replaceable else {}
    return PutOp(namespace, encode(key), {"json": dump(value), **mark}, index=False, ttl=None)


def is_replaceable(op: PutOp) -> bool:
    """Tell whether a row can be made again without harm."""
    return op.value is not None and _REPLACEABLE in op.value


def load(item: Item) -> dict[str, Any]:
    """Read a row."""
    row: dict[str, Any] = json.loads(item.value["json"])
    return row


# --- a row that many write -----------------------------------------------------------------

Change = Callable[[dict[str, Any] | None], dict[str, Any] | None]
"""Returns the new row for the existing one (None if there is none), or None to keep it. It may run twice."""

_TURN = threading.Lock()


async def change(
    store: BaseStore, namespace: tuple[str, ...], key: str, make: Change
) -> dict[str, Any] | None:
    """Change a row without another change between reading and writing, and return the result.

    This package's stores do it in one transaction, over all processes. Other stores cannot; with them it
    holds only among the runs of this process.
    """
    atomic = getattr(store, "change", None)
    if atomic is not None:
        return cast("dict[str, Any] | None", await atomic(namespace, key, make))
    return await change_alone(store, namespace, key, make)


async def change_alone(
    store: BaseStore, namespace: tuple[str, ...], key: str, make: Change
) -> dict[str, Any] | None:
    """Change a row of a store without transactions; other changes of this process wait."""
    # Runs may be in several event loops, which cannot share an asyncio lock.
    while not _TURN.acquire(blocking=False):  # noqa: ASYNC110 - no event tells of a lock of threads
        await asyncio.sleep(0.002)
    try:
        [found] = await store.abatch([GetOp(namespace, encode(key))])
        before = load(found) if isinstance(found, Item) else None
        made = make(before)
        if made is None:
            return before
        await store.abatch([put(namespace, key, made)])
        return made
    finally:
        _TURN.release()


def changed(store: BaseStore, namespace: tuple[str, ...], key: str, make: Change) -> dict[str, Any] | None:
    """Change a row within the caller's open transaction, and return the result."""
    [found] = store.batch([GetOp(namespace, encode(key))])
    before = load(found) if isinstance(found, Item) else None
    made = make(before)
    if made is not None:
        store.batch([put(namespace, key, made)])
    return before if made is None else made


async def read(store: BaseStore, namespace: tuple[str, ...], key: str) -> dict[str, Any] | None:
    """Read a row; None if there is none."""
    found = await store.aget(namespace, encode(key))
    return None if found is None else load(found)
