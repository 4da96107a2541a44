"""Database bytes and seconds per bound step of 2 KB output, as a plan grows, with SQLite and PostgreSQL.

Run ``python benchmarks/storage.py [--steps 10 100 1000] [--postgres]``. Each size runs in a database of its
own; the ratio of the time per step to that of the 100-step plan comes from the same run. ``--postgres``
starts a server as the tests do, with commits that wait for the disk, and measures both in turn.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from langchain_core.tools import tool

from plan_execute import Context, create_plan_execute_agent, local_persistence, postgres_persistence

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.insert(0, str(TESTS))  # the server is that of the tests

from postgres_server import Server, own_server  # noqa: E402


@tool
async def produce(label: str) -> str:
    """Return 2 KB of text."""
    return f"{label}:" + "x" * (2048 - len(label) - 1)


produce.metadata = {"effect": "read"}


def flat_plan(size: int) -> dict[str, Any]:
    """Write steps in chains of ten."""
    return {
        "goal": "benchmark",
        "steps": [
            {
                "id": f"s{n}",
                "task": f"produce {n}",
                "depends_on": [f"s{n - 1}"] if n % 10 else [],
                "call": {"tool": "produce", "args": {"label": f"s{n}"}},
            }
            for n in range(size)
        ],
    }


async def run(persistence: Any, size: int) -> float:
    """Return the seconds that a plan takes."""
    async with persistence as (checkpointer, store):
        agent = create_plan_execute_agent(None, [produce], checkpointer=checkpointer, store=store)
        config: Any = {"configurable": {"thread_id": "1"}}
        started = time.perf_counter()
        result = await agent.ainvoke({"plan": flat_plan(size)}, config, context=Context(approval="never"))
        seconds = time.perf_counter() - started
    assert result["status"] == "done", result["final_answer"]
    return seconds


def on_sqlite(size: int) -> tuple[float, float]:
    """Return kilobytes and milliseconds per step."""
    with tempfile.TemporaryDirectory() as folder:
        seconds = asyncio.run(run(local_persistence(Path(folder) / "runs.db"), size))
        stored = sum(file.stat().st_size for file in Path(folder).glob("runs.db*") if file.is_file())
    return stored / size / 1024, seconds / size * 1000


def on_postgres(server: Server, size: int) -> tuple[float, float]:
    """Return kilobytes and milliseconds per step, in a schema of its own."""
    address = server.new_schema()
    schema = address.rpartition("%3D")[2]
    seconds = asyncio.run(run(postgres_persistence(address), size))
    counted = "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c JOIN pg_namespace n"
    [(stored,)] = server.execute(
        f"{counted} ON n.oid = c.relnamespace WHERE nspname = %s AND relkind = 'r'", [schema]
    )
    return float(stored) / size / 1024, seconds / size * 1000


def show(name: str, measure: Callable[[int], tuple[float, float]], sizes: list[int]) -> None:
    """Print one line per size."""
    measure(10)  # imports and first use are not what is measured
    measured = {size: measure(size) for size in sizes}
    base = measured.get(100, measured[sizes[0]])[1]
    for size, (kilobytes, milliseconds) in measured.items():
        print(f"{name:>10} {size:>6} {kilobytes:>12.1f} {milliseconds:>12.2f} {milliseconds / base:>18.2f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--postgres", action="store_true", help="measure PostgreSQL too")
    chosen = parser.parse_args()
    print(f"{'':>10} {'steps':>6} {'KB per step':>12} {'ms per step':>12} {'time ratio to 100':>18}")
    show("SQLite", on_sqlite, chosen.steps)
    if chosen.postgres:
        with own_server() as server:
            show("PostgreSQL", lambda size: on_postgres(server, size), chosen.steps)


if __name__ == "__main__":
    main()
