"""How records become rows of a LangGraph store: values as JSON text, labels that every store takes."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, unquote

from langgraph.store.base import BaseStore, Item, PutOp, SearchItem

__all__ = ["ROOT", "decode", "dump", "encode", "load", "put", "search"]

ROOT = "plan_execute"
"""First label of every namespace of ours."""
_PAGE = 1000


async def search(store: BaseStore, namespace: tuple[str, ...], *, below: bool = False) -> list[SearchItem]:
    """Find the rows of a namespace, or those of the namespaces one label below it."""
    # Widened, not paged: stores sort by a timestamp of whole seconds, so offsets may skip among equals.
    limit = _PAGE
    while len(found := await store.asearch(namespace, limit=limit)) == limit:
        limit *= 4
    # PostgresStore matches prefixes as text: a search for thread "t1" finds "t10" as well.
    depth = len(namespace)
    return [
        item for item in found if item.namespace[:depth] == namespace and len(item.namespace) == depth + below
    ]


def encode(text: str) -> str:
    """Make a label or key of a text."""
    # Labels of LangGraph stores refuse dots, NUL and the empty string. A lone % never comes out of quote.
    return quote(text, safe="", errors="surrogatepass").replace(".", "%2E") or "%"


def decode(label: str) -> str:
    """Return the text that a label or key was made of."""
    return "" if label == "%" else unquote(label, errors="surrogatepass")


def dump(value: Any) -> str:
    """Write a value as JSON text.

    Raises:
        TypeError: If it is not JSON.
        ValueError: If it holds NaN or infinity.
    """
    # Stores encode this text once more; escaping here would make a row of Chinese three times as long.
    # A lone surrogate stays escaped: no store can hold it.
    text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace").decode()


def put(namespace: tuple[str, ...], key: str, value: Any) -> PutOp:
    """Make a row of a value, with a key of any text; it never expires."""
    return PutOp(namespace, encode(key), {"json": dump(value)}, index=False, ttl=None)


def load(item: Item) -> dict[str, Any]:
    """Read a row."""
    row: dict[str, Any] = json.loads(item.value["json"])
    return row
