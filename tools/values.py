"""Turn tools' return values into plain JSON with the same meaning, or say that it cannot be done."""

from __future__ import annotations

import base64
import dataclasses
import math
from collections import deque
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    MappingView,
    Sequence,
    Set,
)
from decimal import Decimal
from enum import Enum
from inspect import isawaitable
from itertools import islice
from typing import Any

from langchain_core.messages import ToolMessage
from langgraph.types import Command
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from ..errors import ToolFailedError
from ..safety.depth import MAX_DEPTH, too_deep_message

__all__ = ["drained", "plain_output", "spoken", "taken", "to_json"]

Json = Any
MOST_ITEMS = 1_000_000
"""Items of one iterator, because one that never ends must not fill the memory."""


def to_json(value: Any) -> Json:
    """Turn any value into plain JSON: models, dates and paths in their usual form, the rest as text.

    Arrays and tables are complete: an array becomes a list, a table a list of rows. A decimal number becomes
    a number if that is exact, else text. Lone surrogates are replaced, because no store and no model accepts
    them.

    Raises:
        ValueError: If a part of it has no JSON form, or it is nested too deeply.
    """
    return _plain(value, 0)


def plain_output(name: str, output: Any) -> Json:
    """Turn a tool's return value into plain JSON.

    Raises:
        ToolFailedError: If that cannot be done.
    """
    try:
        return to_json(output)
    except (ValueError, RecursionError) as error:
        problem = f"{name} returned something that is not JSON: {error}"
        raise ToolFailedError(problem, is_answer=False) from error


async def taken(name: str, output: Any, *, with_artifact: bool) -> Any:
    """Read what a tool's function returned: its message, or plain JSON.

    Args:
        name: The tool.
        output: A value, or an awaitable of one.
        with_artifact: Whether it is a pair of content for models and an artifact, which stays unchanged.

    Raises:
        ToolFailedError: If it is not JSON.
    """
    if isawaitable(output):
        output = await output
    if isinstance(output, AsyncIterator):
        output = await _all_of(output)
    output = spoken(output, name)
    if isinstance(output, ToolMessage):
        return output
    if with_artifact and isinstance(output, tuple) and len(output) == 2:
        return plain_output(name, output[0]), output[1]
    return plain_output(name, output)


async def _all_of(items: AsyncIterator[Any]) -> list[Any]:
    taken: list[Any] = []
    async for item in items:
        taken.append(item)
        if len(taken) > MOST_ITEMS:
            raise ToolFailedError(f"it gives more than {MOST_ITEMS:,} items")
    return taken


def drained(output: Any) -> Any:
    """Return the items of an iterator as a list, and any other value unchanged."""
    return _listed(output) if isinstance(output, Iterator) else output


def spoken(output: Any, name: str) -> Any:
    """Take only the tool's message from a Command, or from several: a tool may not control the graph."""
    if isinstance(output, list) and output and all(isinstance(one, ToolMessage | Command) for one in output):
        return spoken(output[0], name)
    if not isinstance(output, Command):
        return output
    update = output.update if isinstance(output.update, dict) else {}
    said = [message for message in update.get("messages", ()) if isinstance(message, ToolMessage)]
    return said[0] if said else ToolMessage("done", tool_call_id="", name=name)


def _plain(value: Any, depth: int) -> Json:
    if depth > MAX_DEPTH:
        raise ValueError(too_deep_message("it"))
    if type(value) is str and value.isascii():  # Most are, and such a text is plain.
        return value
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return _plain(value.value, depth)
    if isinstance(value, bytearray | memoryview):
        value = bytes(value)
    if isinstance(value, str | bytes | int | float | Decimal):
        return _scalar(value)
    if isinstance(value, Mapping):
        return _object(value.items(), depth)
    if isinstance(value, Sequence | Set | Iterator | MappingView | deque):
        return [_plain(item, depth + 1) for item in _listed(value)]
    return _object_of_a_library(value, depth)


def _scalar(value: str | bytes | int | float | Decimal) -> Json:
    """Write values that checkpoints cannot hold as text: NaN, infinities, integers beyond 64 bits."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, bytes):
        return _text(value)
    if isinstance(value, Decimal):
        return _number(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    return int(value) if -(2**63) <= value < 2**64 else str(int(value))


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.urlsafe_b64encode(value).decode()


def _number(value: Decimal) -> Json:
    if not value.is_finite():
        return str(float(value))
    number: int | float = int(value) if value.as_tuple().exponent == 0 else float(value)
    return _scalar(number) if Decimal(repr(number)) == value else str(value)


def _object(items: Iterable[tuple[Any, Any]], depth: int) -> dict[str, Json]:
    made: dict[str, Json] = {}
    for key, item in items:
        if (name := _key(key)) in made:
            raise ValueError(f"two of its keys are both {name!r} when written")
        made[name] = _plain(item, depth + 1)
    return made


def _key(key: Any) -> str:
    if type(key) is str and key.isascii():
        return key
    if isinstance(key, tuple):
        return ",".join(map(_key, key))
    plain = _plain(key, 0)
    return str(plain).lower() if isinstance(plain, bool) else str(plain)


def _listed(items: Any) -> list[Any]:
    taken = list(islice(items, MOST_ITEMS + 1)) if isinstance(items, Iterator) else list(items)
    if isinstance(items, Iterator) and len(taken) > MOST_ITEMS:
        raise ValueError(f"it gives more than {MOST_ITEMS:,} items")
    return taken


# --- objects that libraries make ---------------------------------------------------------


def _object_of_a_library(value: Any, depth: int) -> Json:
    """Read an object by the methods of its class, without importing its library."""
    kind = type(value)
    if kind.__name__ in ("NaTType", "NAType"):
        return None  # pandas' names for a missing value.
    if isinstance(value, BaseModel) or hasattr(kind, "__pydantic_serializer__"):
        return _plain(to_jsonable_python(value, fallback=lambda part: _plain(part, depth + 1)), depth)
    if dataclasses.is_dataclass(value):
        named = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
        return _object(named, depth)
    if isinstance(value, Coroutine | AsyncIterator):
        raise ValueError(f"it is a {kind.__name__}, which must be awaited")
    for means, read in _READERS.items():
        if all(hasattr(kind, name) for name in means.split()):
            return _plain(read(value), depth)
    plain = to_jsonable_python(value, fallback=_fallback, serialize_unknown=True)
    return _scalar(plain) if isinstance(plain, str) else plain


def _fallback(value: Any) -> str:
    """Return the text of an object; if it has no text of its own, without its memory address."""
    kind: Any = type(value)
    if kind.__str__ is object.__str__ and kind.__repr__ is object.__repr__:
        return f"<{kind.__module__}.{kind.__qualname__} object>"
    return str(value)


def _rows(table: Any) -> list[dict[str, Any]]:
    """Return a pandas table as rows; a set index is a column, as ``reset_index`` makes it."""
    if type(table.index).__name__ != "RangeIndex":
        table = table.reset_index()
    names = [_key(name) for name in table.columns]
    if len(set(names)) < len(names):
        raise ValueError(f"two columns of the table have the same name; there are: {', '.join(names)}")
    return [
        dict(zip(names, map(_present, row), strict=True)) for row in table.itertuples(index=False, name=None)
    ]


def _series(series: Any) -> Any:
    """Return a pandas series as a list, or by the labels of a set index."""
    values = list(map(_present, series.tolist()))
    if type(series.index).__name__ == "RangeIndex":
        return values
    return (
        dict(zip(series.index.tolist(), values, strict=True))
        if series.index.is_unique
        else _rows(series.to_frame("value" if series.name is None else series.name))
    )


def _present(value: Any) -> Any:
    """Return None for NaN, which is pandas' missing value."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _array(array: Any) -> Any:
    """Return a numpy array, or something like it, as Python values."""
    kind = getattr(getattr(array, "dtype", None), "kind", "")
    if kind == "M":  # tolist() returns nanoseconds as a plain number.
        return _dates(array.astype(str).tolist())
    if kind == "m":
        return array.astype("timedelta64[us]").tolist()
    if names := getattr(getattr(array, "dtype", None), "names", None):
        return _records(array.tolist(), names)
    values = array.tolist()
    return float(values) if type(values) is type(array) else values  # A long double returns itself.


def _dates(texts: Any) -> Any:
    if isinstance(texts, list):
        return list(map(_dates, texts))
    return None if texts == "NaT" else texts


def _records(rows: Any, names: tuple[str, ...]) -> Any:
    if isinstance(rows, list):
        return [_records(row, names) for row in rows]
    return dict(zip(names, rows, strict=True))


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "itertuples columns": _rows,
    "reset_index tolist": _series,
    "to_dicts": lambda table: table.to_dicts(),
    "to_pylist": lambda array: array.to_pylist(),
    "tolist": _array,
    "to_list": lambda series: series.to_list(),
    "toarray": lambda matrix: matrix.toarray(),
    "__array__": lambda array: array.__array__(),
}
"""How to read objects, by the names that their class must have; the first that fits."""
