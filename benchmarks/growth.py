"""Database bytes, peak memory and time per bound step, as a plan grows, with SQLite and PostgreSQL.

Run ``python benchmarks/growth.py [--steps 10 100 1000 5000] [--postgres] [--json FILE] [--quick]``. Each size
runs in a process and a database of its own, with outputs of 2 KB, which stay in the state, and of 100 KB (up
to 1,000 steps), which go to the store as artifacts. The ratios are to the 100-step plan of the same run;
growth is linear where what a step takes does not grow. Memory is what the process takes at its peak beyond
what it had after one small run. ``--postgres`` starts a server as the tests do, with commits that wait for
the disk, and measures it too, up to 1,000 steps with outputs of 2 KB; the server's own processor time is not
in the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from langchain_core.tools import tool
from measuring import NO_SERVER, Promise, Report, Table, measure, options, server_or_none

from plan_execute import Context, create_plan_execute_agent, local_persistence, postgres_persistence

SMALL, LARGE = 2048, 100 * 1024
MOST_STEPS_OF_LARGE = 1000
MOST_STEPS_ON_POSTGRES = 1000
MOST_BYTES_RATIO = 1.5


@tool
async def produce(label: str, size: int) -> str:
    """Return a text of so many bytes."""
    return f"{label}:" + "x" * (size - len(label) - 1)


produce.metadata = {"effect": "read"}


class Measured(NamedTuple):
    """What one step took."""

    kilobytes: float
    processor_ms: float
    wall_ms: float
    memory_kb: float


def chains(size: int, output: int) -> dict[str, Any]:
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


async def run(persistence: Any, size: int, output: int) -> tuple[float, float]:
    """Return the processor's and the wall's seconds that a plan takes."""
    async with persistence as (checkpointer, store):
        agent = create_plan_execute_agent(None, [produce], checkpointer=checkpointer, store=store)
        config: Any = {"configurable": {"thread_id": "1"}}
        processor, wall = time.process_time(), time.perf_counter()
        plan = {"plan": chains(size, output)}
        result = await agent.ainvoke(plan, config, context=Context(approval="never"))
        spent = time.process_time() - processor, time.perf_counter() - wall
    assert result["status"] == "done", result["final_answer"]
    return spent


# --- the process that runs one plan ------------------------------------------------------


def peak_kb() -> float:
    """Return the most memory that this process has taken."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if sys.platform == "darwin" else float(peak)


def child(size: int, output: int, address: str) -> None:
    """Run one plan and print what a step of it took; without an address in a SQLite file of its own."""
    with tempfile.TemporaryDirectory() as folder:
        # imports and first use are not what is measured
        asyncio.run(run(local_persistence(Path(folder) / "first.db"), 10, SMALL))
        before, place = peak_kb(), Path(folder) / "runs.db"
        persistence = postgres_persistence(address) if address else local_persistence(place)
        spent = asyncio.run(run(persistence, size, output))
        stored = sum(file.stat().st_size for file in Path(folder).glob("runs.db*") if file.is_file())
        per_step = (*(seconds * 1000 / size for seconds in spent), (peak_kb() - before) / size)
        print(json.dumps([stored / 1024 / size, *per_step]))


def in_a_process(size: int, output: int, address: str = "") -> Measured:
    """Run one plan in a process of its own."""
    command = [sys.executable, __file__, "--child", str(size), str(output), address]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Measured(*json.loads(done.stdout.splitlines()[-1]))


def on_postgres(server: Any, size: int, output: int) -> Measured:
    """Measure in a schema of its own."""
    address = server.new_schema()
    schema = address.rpartition("%3D")[2]
    measured = in_a_process(size, output, address)
    counted = "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c JOIN pg_namespace n"
    [(stored,)] = server.execute(
        f"{counted} ON n.oid = c.relnamespace WHERE nspname = %s AND relkind = 'r'", [schema]
    )
    return measured._replace(kilobytes=float(stored) / size / 1024)


# --- the report --------------------------------------------------------------------------


def rows_of(name: str, output: int, sizes: list[int], take: Any) -> list[list[Any]]:
    """Measure a database with outputs of one size."""
    sizes = [size for size in sizes if output == SMALL or size <= MOST_STEPS_OF_LARGE]
    measured: dict[int, Measured] = {size: take(size, output) for size in sizes}
    first = measured.get(100) or measured[sizes[0]]
    return [
        [
            f"{name}, {output // 1024} KB",
            size,
            one.kilobytes,
            one.kilobytes / first.kilobytes,
            one.processor_ms,
            one.processor_ms / first.processor_ms,
            one.wall_ms,
            one.memory_kb,
        ]
        for size, one in measured.items()
    ]


def work(chosen: argparse.Namespace) -> Report:
    """Measure every size."""
    sizes = [size for size in chosen.steps if not (chosen.quick and size > 1000)]
    rows = [row for output in (SMALL, LARGE) for row in rows_of("SQLite", output, sizes, in_a_process)]
    note = ""
    if chosen.postgres:
        with server_or_none() as server:
            take = partial(on_postgres, server)
            few = [size for size in sizes if size <= MOST_STEPS_ON_POSTGRES]
            rows += rows_of("PostgreSQL", SMALL, few, take) if server else []
            note = "" if server else NO_SERVER
    columns = ["outputs", "steps", "KB", "ratio", "CPU ms", "ratio", "ms", "memory KB"]
    worst = max(row[3] for row in rows if row[1] >= 100)
    return Report(
        "Growth",
        [Table("Per step, and beside the 100-step plan", columns, rows, note)],
        [
            Promise(
                f"bytes per step at most {MOST_BYTES_RATIO} × those of 100 steps",
                f"{worst:.2f}",
                worst <= MOST_BYTES_RATIO,
            )
        ],
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
        raise SystemExit
    parser = options(__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 100, 1000, 5000])
    parser.add_argument("--postgres", action="store_true", help="measure PostgreSQL too")
    raise SystemExit(measure(parser, work))
