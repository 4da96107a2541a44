"""Look a product up in three sources of different formats, and write a report."""

from __future__ import annotations

import csv
import json
import re
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool

__all__ = ["report_tools"]


def report_tools(folder: Path, *, latency_s: float = 0.0) -> list[BaseTool]:
    """Make the tools; reports go into ``folder``, and each source takes ``latency_s`` to answer."""

    def write_report(name: str, text: str) -> dict[str, Any]:
        """Write a report to a file."""
        target = (folder / name).resolve()
        if target.parent != folder.resolve():
            raise ValueError(f"{name!r} is not a plain file name")
        target.write_text(text, encoding="utf-8")
        return {"file": name, "characters": len(text)}

    def lookup(look: Callable[[str], Any]) -> BaseTool:
        def slow(product: str) -> Any:
            time.sleep(latency_s)
            return look(product)

        return StructuredTool.from_function(
            slow, name=look.__name__, description=look.__doc__, metadata={"effect": "read"}
        )

    lookups = [lookup(look) for look in (look_up_sales, look_up_stock, look_up_supplier)]
    effect = {"effect": "idempotent", "resource": "{name}"}
    return [*lookups, StructuredTool.from_function(write_report, metadata=effect)]


def look_up_sales(product: str) -> list[dict[str, Any]]:
    """Look up how many pieces of a product were sold, week by week."""
    rows = csv.DictReader(_source("sales.csv").splitlines())
    return [{"week": row["week"], "sold": int(row["sold"])} for row in rows if row["product"] == product]


def look_up_stock(product: str) -> dict[str, int]:
    """Look up how many pieces of a product are on the shelf, and how many of them are reserved."""
    return dict(json.loads(_source("stock.json"))[product])


def look_up_supplier(product: str) -> str:
    """Look up what is known about the supplier of a product."""
    sections = re.split(r"^# (.*)\n", _source("suppliers.md"), flags=re.MULTILINE)[1:]
    return dict(zip(sections[::2], map(str.strip, sections[1::2]), strict=True))[product]


def _source(name: str) -> str:
    return (files(__package__) / "data" / name).read_text(encoding="utf-8")
