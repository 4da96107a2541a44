"""Turn records into rows of a LangGraph store: values as JSON text, labels that every store accepts."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

from ..errors import StorageDamagedError

if TYPE_CHECKING:
    # Who only looks at rows does not load LangGraph.
    from langgraph.store.base import BaseStore, GetOp, Item, PutOp, SearchItem

__all__ = [
    "ROOT",
    "Change",
    "change",
    "change_alone",
    "changed",
    "decode",
    "deletion",
    "dump",
    "encode",
    "is_replaceable",
    "load",
    "put",
    "read",
    "read_all",
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
    # LangGraph stores refuse labels with dots, NUL and empty ones. No text is written as a lone %.
    return _UNSAFE.sub(_quoted, text) or "%"


_UNSAFE = re.compile(r"[^A-Za-z0-9_~-]+")


def _quoted(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode(errors="surrogatepass"))


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
    return _ENCODER.encode(value).encode("utf-8", "backslashreplace").decode()


_ENCODER = json.JSONEncoder(allow_nan=False, ensure_ascii=False)


_REPLACEABLE = "replaceable"


def put(namespace: tuple[str, ...], key: str, value: Any, *, replaceable: bool = False) -> PutOp:
    """Make a row of a value, with any text as key; it never expires.

    Args:
        namespace: Where it stands.
        key: Its key.
        value: What it holds.
        replaceable: Whether it can be made again without harm; then no call waits for the disk.
    """
    from langgraph.store.base import PutOp

    mark = {_REPLACEABLE: True} if replaceable else {}
    return PutOp(namespace, encode(key), {"json": dump(value), **mark}, index=False, ttl=None)


def deletion(namespace: tuple[str, ...], key: str) -> PutOp:
    """Make what deletes a row; the key is that of the store."""
    from langgraph.store.base import PutOp

    return PutOp(namespace, key, None)


def is_replaceable(op: PutOp) -> bool:
    """Tell whether a row can be made again without harm."""
    return op.value is not None and _REPLACEABLE in op.value


def load(item: Item) -> dict[str, Any]:
    """Read a row.

    Raises:
        StorageDamagedError: If it was changed so that it cannot be read.
    """
    try:
        row: dict[str, Any] = json.loads(item.value["json"])
    except (ValueError, TypeError, LookupError) as error:
        place = "/".join((*item.namespace, item.key))
        reason = f"{type(error).__name__}: {error}"
        raise StorageDamagedError(f"the store's row {place} cannot be read ({reason})") from error
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
    import asyncio

    # Runs may be in several event loops, which cannot share an asyncio lock.
    while not _TURN.acquire(blocking=False):  # noqa: ASYNC110 - no event tells of a lock of threads
        await asyncio.sleep(0.002)
    try:
        before = await read(store, namespace, key)
        made = make(before)
        if made is None:
            return before
        await store.abatch([put(namespace, key, made)])
        return made
    finally:
        _TURN.release()


def changed(store: BaseStore, namespace: tuple[str, ...], key: str, make: Change) -> dict[str, Any] | None:
    """Change a row within the caller's open transaction, and return the result."""
    [before] = _loaded(store.batch([_get(namespace, key)]))
    made = make(before)
    if made is not None:
        store.batch([put(namespace, key, made)])
    return before if made is None else made


async def read(store: BaseStore, namespace: tuple[str, ...], key: str) -> dict[str, Any] | None:
    """Read a row; None if there is none."""
    found = await store.aget(namespace, encode(key))
    return None if found is None else load(found)


async def read_all(
    store: BaseStore, namespace: tuple[str, ...], keys: Iterable[str]
) -> list[dict[str, Any] | None]:
    """Read rows of a namespace in one go, in the order of the keys; None for those that are not there."""
    gets = [_get(namespace, key) for key in keys]
    return _loaded(await store.abatch(gets)) if gets else []


def _get(namespace: tuple[str, ...], key: str) -> GetOp:
    from langgraph.store.base import GetOp

    return GetOp(namespace, encode(key))


def _loaded(found: Iterable[Any]) -> list[dict[str, Any] | None]:
    return [None if row is None else load(row) for row in found]
