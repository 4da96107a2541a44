"""What all benchmarks share: their options, how they report, and what they ran on.

A benchmark measures and returns its tables; ``measure`` prints them, and with ``--json`` writes them down for
``page.py``. Every figure stands beside its baseline of the same run. Times of the processor are preferred,
because other programs do not change them much; where the wall time is the point it is a median.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1] / "tests"
if str(TESTS) not in sys.path:
    sys.path.insert(0, str(TESTS))  # servers and clocks are those of the tests


@dataclass(frozen=True)
class Table:
    """Rows of figures under their columns, with what must be known to read them."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    notes: str = ""


@dataclass(frozen=True)
class Promise:
    """What was asked for, what was measured, and whether that keeps it."""

    what: str
    measured: str
    kept: bool


@dataclass
class Report:
    """What a benchmark found."""

    title: str
    tables: list[Table] = field(default_factory=list)
    promises: list[Promise] = field(default_factory=list)


NO_SERVER = "PostgreSQL was not measured: no server could be had here."


@contextmanager
def server_or_none() -> Iterator[Any]:
    """Start a PostgreSQL server as the tests do, whose commits wait for the disk; None if there is none."""
    from postgres_server import NoServerError, Server, programs

    try:
        server = Server(programs(), durable=True)
    except (NoServerError, OSError, subprocess.SubprocessError) as error:
        print(f"{NO_SERVER} {error}", file=sys.stderr)
        yield None
        return
    try:
        yield server
    finally:
        server.close()


def machine() -> dict[str, Any]:
    """Say where figures were made, and how busy that machine was with other things."""
    return {
        "python": platform.python_version(),
        "langgraph": version("langgraph"),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
    }


def options(description: str | None) -> argparse.ArgumentParser:
    """Make the parser with the options that every benchmark has."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the figures into this file")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller cases: seconds, not minutes")
    return parser


def measure(parser: argparse.ArgumentParser, work: Callable[[argparse.Namespace], Report]) -> int:
    """Run a benchmark, print its report and write it down; 1 if a promise was broken."""
    chosen = parser.parse_args()
    before, started = machine(), time.perf_counter()
    report = work(chosen)
    seconds = round(time.perf_counter() - started, 1)
    print_report(report)
    print(f"\n{seconds:g} s, load {before['load']} at the start")
    if chosen.json is not None:
        ran = {"machine": before, "quick": chosen.quick, "seconds": seconds}
        write_json(chosen.json, {**ran, **asdict(report)})
    return 0 if all(promise.kept for promise in report.promises) else 1


def write_json(file: Path, value: Any) -> None:
    """Write a file that a person can read."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def print_report(report: Report) -> None:
    """Print a report as text."""
    print(f"== {report.title}")
    for table in report.tables:
        print(f"\n{table.title}")
        for row in aligned([table.columns, *table.rows]):
            print(f"  {row}")
    for promise in report.promises:
        print(f"{'kept  ' if promise.kept else 'BROKEN'} {promise.what}: {promise.measured}")


def aligned(rows: Iterable[Sequence[Any]]) -> list[str]:
    """Put cells under each other: the first column to the left, figures to the right."""
    texts = [[text(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    first, *rest = widths
    return [
        "  ".join([row[0].ljust(first), *(c.rjust(w) for c, w in zip(row[1:], rest, strict=True))])
        for row in texts
    ]


def text(cell: Any) -> str:
    """Write a figure with the digits that mean something."""
    if cell is None:
        return "–"
    if isinstance(cell, float):
        return f"{cell:.3f}" if abs(cell) < 10 else f"{cell:,.1f}"
    return f"{cell:,}" if isinstance(cell, int) and not isinstance(cell, bool) else str(cell)


def median(figures: Iterable[float]) -> float:
    """Return the median of some figures."""
    return statistics.median(figures)


def quantile(figures: Iterable[float], share: float) -> float:
    """Return the figure that ``share`` of them do not exceed."""
    ranked = sorted(figures)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]
