"""Database bytes and seconds per bound step, as a plan grows, with SQLite and PostgreSQL.

Run ``python benchmarks/storage.py [--steps 10 100 1000 5000] [--postgres]``. Each size runs in a database of
its own, with outputs of 2 KB, which stay in the state, and of 100 KB, which go to the store as artifacts. The
ratios are to the 100-step plan of the same run; growth is linear where the bytes per step do not grow.
``--postgres`` starts a server as the tests do, with commits that wait for the disk, and measures both.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from langchain_core.tools import tool

from plan_execute import Context, create_plan_execute_agent, local_persistence, postgres_persistence

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.insert(0, str(TESTS))  # the server is that of the tests

from postgres_server import Server, own_server  # noqa: E402

SMALL, LARGE = 2048, 100 * 1024


@tool
async def produce(label: str, size: int) -> str:
    """Return a text of so many bytes."""
    return f"{label}:" + "x" * (size - len(label) - 1)


produce.metadata = {"effect": "read"}


class Measured(NamedTuple):
    """What one step took: kilobytes on disk, milliseconds."""

    kilobytes: float
    milliseconds: float


def flat_plan(size: int, output: int) -> dict[str, Any]:
    """Write steps in chains of ten."""
    return {
        "goal": "benchmark",
        "steps": [
            {
                "id": f"s{n}",
                "task": f"produce {n}",
                "depends_on": [f"s{n - 1}"] if n % 10 else [],
                "call": {"tool": "produce", "args": {"label": f"s{n}", "size": output}},
            }
            for n in range(size)
        ],
    }


async def run(persistence: Any, size: int, output: int) -> float:
    """Return the seconds that a plan takes."""
    async with persistence as (checkpointer, store):
        agent = create_plan_execute_agent(None, [produce], checkpointer=checkpointer, store=store)
        config: Any = {"configurable": {"thread_id": "1"}}
        started = time.perf_counter()
        plan = {"plan": flat_plan(size, output)}
        result = await agent.ainvoke(plan, config, context=Context(approval="never"))
        seconds = time.perf_counter() - started
    assert result["status"] == "done", result["final_answer"]
    return seconds


def on_sqlite(size: int, output: int) -> Measured:
    """Measure in a file of its own."""
    with tempfile.TemporaryDirectory() as folder:
        seconds = asyncio.run(run(local_persistence(Path(folder) / "runs.db"), size, output))
        stored = sum(file.stat().st_size for file in Path(folder).glob("runs.db*") if file.is_file())
    return Measured(stored / size / 1024, seconds / size * 1000)


def on_postgres(server: Server, size: int, output: int) -> Measured:
    """Measure in a schema of its own."""
    address = server.new_schema()
    schema = address.rpartition("%3D")[2]
    seconds = asyncio.run(run(postgres_persistence(address), size, output))
    counted = "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c JOIN pg_namespace n"
    [(stored,)] = server.execute(
        f"{counted} ON n.oid = c.relnamespace WHERE nspname = %s AND relkind = 'r'", [schema]
    )
    return Measured(float(stored) / size / 1024, seconds / size * 1000)


def show(name: str, measure: Callable[[int, int], Measured], sizes: list[int]) -> None:
    """Print one line per size."""
    measure(10, SMALL)  # imports and first use are not what is measured
    measured = {size: [measure(size, output) for output in (SMALL, LARGE)] for size in sizes}
    base = measured.get(100, measured[sizes[0]])
    for size, each in measured.items():
        cells = [
            f" {one.kilobytes:>8.1f} {one.kilobytes / first.kilobytes:>6.2f}"
            f" {one.milliseconds:>8.2f} {one.milliseconds / first.milliseconds:>6.2f}"
            for one, first in zip(each, base, strict=True)
        ]
        print(f"{name:>10} {size:>6}" + "".join(cells))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 100, 1000, 5000])
    parser.add_argument("--postgres", action="store_true", help="measure PostgreSQL too")
    chosen = parser.parse_args()
    print(f"{'':>17} {'outputs of 2 KB':^31} {'outputs of 100 KB':^31}")
    print(f"{'':>10} {'steps':>6}" + f" {'KB/step':>8} {'ratio':>6} {'ms/step':>8} {'ratio':>6}" * 2)
    show("SQLite", on_sqlite, chosen.steps)
    if chosen.postgres:
        with own_server() as server:
            show("PostgreSQL", lambda size, output: on_postgres(server, size, output), chosen.steps)


if __name__ == "__main__":
    main()
