"""What tools return, as plain JSON that means the same."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime
import enum
import itertools
import os
import uuid
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel, ConfigDict

from plan_execute.errors import ToolFailedError
from plan_execute.tools import values
from plan_execute.tools.values import plain_output, taken, to_json


class Point(BaseModel):
    x: int


class Measured(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    values: Any


@dataclasses.dataclass
class Pair:
    left: Any
    right: Path


class Colour(enum.Enum):
    RED = "red"


class Opaque:
    pass


class Temperature:
    def __str__(self) -> str:
        return "20 °C"


@pytest.mark.parametrize(
    ("value", "json"),
    [
        (Point(x=1), {"x": 1}),
        (Pair(np.int64(1), Path("p")), {"left": 1, "right": "p"}),
        (Colour.RED, "red"),
        ((1, 2), [1, 2]),
        ({1}, [1]),
        (range(3), [0, 1, 2]),
        ({"a": 1}.keys(), ["a"]),
        (MappingProxyType({"a": (1,)}), {"a": [1]}),
        (collections.deque([np.int8(1)]), [1]),
        (array.array("i", [1, 2]), [1, 2]),
        (map(str, [1, 2]), ["1", "2"]),
        ((n * n for n in range(3)), [0, 1, 4]),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (datetime.datetime(2026, 1, 2, 3, tzinfo=datetime.UTC), "2026-01-02T03:00:00Z"),
        (datetime.timedelta(minutes=1), "PT1M"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Decimal("1.50"), 1.5),
        (Decimal("7"), 7),
        (Decimal("0.1234567890123456789"), "0.1234567890123456789"),
        (Decimal("NaN"), "nan"),
        (b"text", "text"),
        ([b"text", b"\xff\xfe"], ["text", "__4="]),
        (float("inf"), "inf"),
        ({"a": [float("nan")]}, {"a": ["nan"]}),
        ({1: {None: 2}}, {"1": {"None": 2}}),
        ({("a", 1): 2, np.int64(3): 4}, {"a,1": 2, "3": 4}),
        (2**70, str(2**70)),
        (True, True),
        (0, 0),
        (1.0, 1.0),
        (None, None),
        (Temperature(), "20 °C"),
        (Opaque(), "<tests.unit.tools.test_values.Opaque object>"),
        (["caf\udce9", {"\ud83d": "\ud83d\ude00"}], ["caf\ufffd", {"\ufffd": "😀"}]),
        (os.fsdecode(b"caf\xe9"), "caf\ufffd"),
    ],
)
def test_any_value_becomes_plain_json(value: Any, json: Any) -> None:
    made = to_json(value)
    assert made == json
    assert type(made) is type(json)


@pytest.mark.parametrize(
    ("value", "json"),
    [
        (np.False_, False),
        (np.int64(7), 7),
        (np.float32(0.5), 0.5),
        (np.longdouble("0.5"), 0.5),
        (np.str_("a"), "a"),
        (np.array(5), 5),
        (np.eye(2), [[1.0, 0.0], [0.0, 1.0]]),
        (np.array([1.5, float("nan")]), [1.5, "nan"]),
        (np.ma.array([1, 2], mask=[0, 1]), [1, None]),
        (np.array([{"a": np.int8(1)}, None], dtype=object), [{"a": 1}, None]),
        (np.datetime64("2026-01-02T03:04:05.000000000"), "2026-01-02T03:04:05.000000000"),
        (np.array(["2026-01-02", "NaT"], dtype="datetime64[D]"), ["2026-01-02", None]),
        (np.timedelta64(60, "s"), "PT1M"),
        (np.array([(1, "a")], dtype=[("n", "i4"), ("t", "U1")]), [{"n": 1, "t": "a"}]),
        ({"deep": [np.arange(2)]}, {"deep": [[0, 1]]}),
        (Measured(values=np.arange(2)), {"values": [0, 1]}),
    ],
)
def test_what_numpy_gives_is_the_value_that_it_stands_for(value: Any, json: Any) -> None:
    made = to_json(value)
    assert made == json
    assert type(made) is type(json)


def test_an_array_comes_whole() -> None:
    assert to_json(np.arange(3000)) == list(range(3000))


TABLE = pd.DataFrame({"name": ["a", None], "n": [1, 2], "x": [0.5, float("nan")]})
DAY = pd.Timestamp("2026-01-02")


@pytest.mark.parametrize(
    ("value", "json"),
    [
        (TABLE, [{"name": "a", "n": 1, "x": 0.5}, {"name": None, "n": 2, "x": None}]),
        (pd.DataFrame({"n": [1]}, index=pd.Index(["k"], name="key")), [{"key": "k", "n": 1}]),
        (TABLE["n"], [1, 2]),
        (TABLE["x"], [0.5, None]),
        (pd.Series([1, 2], index=["a", "b"]), {"a": 1, "b": 2}),
        (pd.Series([1, 2], index=["a", "a"]), [{"index": "a", "value": 1}, {"index": "a", "value": 2}]),
        (pd.Series([pd.NA, 1], dtype="Int64"), [None, 1]),
        (pd.Index([1, 2]), [1, 2]),
        (DAY, "2026-01-02T00:00:00"),
        (pd.Series([DAY, pd.NaT]), ["2026-01-02T00:00:00", None]),
        (pd.NaT, None),
        (TABLE.to_dict("list")["n"], [1, 2]),
    ],
)
def test_what_pandas_gives_comes_whole_with_null_where_a_value_is_missing(value: Any, json: Any) -> None:
    assert to_json(value) == json


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({1: "a", "1": "b"}, "two of its keys are both '1' when written"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "two columns of the table have the same name"),
    ],
)
def test_what_would_be_lost_is_refused_by_name(value: Any, problem: str) -> None:
    with pytest.raises(ToolFailedError, match=f"t returned something that is not JSON: {problem}"):
        plain_output("t", value)


def test_what_never_ends_or_holds_itself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "MOST_ITEMS", 10)
    with pytest.raises(ValueError, match="more than 10 items"):
        to_json(itertools.count())
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ValueError, match="nested more than"):
        to_json(endless)


async def test_what_has_to_be_awaited_is_awaited() -> None:
    async def one() -> int:
        return 1

    async def many() -> Any:
        yield 1
        yield np.int8(2)

    assert await taken("t", one(), with_artifact=False) == 1
    assert await taken("t", many(), with_artifact=False) == [1, 2]
