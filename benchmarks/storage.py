"""Database bytes and seconds per bound step of 2 KB output, as a plan grows, with SQLite.

Run ``python benchmarks/storage.py [--steps 10 100 1000]``. Each size runs in a database of its own; the ratio
of the time per step to that of the 100-step plan comes from the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

from langchain_core.tools import tool

from plan_execute import Context, create_plan_execute_agent, local_persistence


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


async def measure(size: int) -> tuple[float, float]:
    """Return kilobytes and milliseconds per step."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs.db"
        async with local_persistence(path) as (checkpointer, store):
            agent = create_plan_execute_agent(None, [produce], checkpointer=checkpointer, store=store)
            config: Any = {"configurable": {"thread_id": "1"}}
            started = time.perf_counter()
            result = await agent.ainvoke({"plan": flat_plan(size)}, config, context=Context(approval="never"))
            seconds = time.perf_counter() - started
        assert result["status"] == "done", result["final_answer"]
        stored = sum(file.stat().st_size for file in Path(folder).glob("runs.db*") if file.is_file())
    return stored / size / 1024, seconds / size * 1000


def main() -> None:
    """Print one line per size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 100, 1000])
    sizes = parser.parse_args().steps
    asyncio.run(measure(10))  # imports and first use are not what is measured
    measured = {size: asyncio.run(measure(size)) for size in sizes}
    base = measured.get(100, measured[sizes[0]])[1]
    print(f"{'steps':>6} {'KB per step':>12} {'ms per step':>12} {'time ratio to 100':>18}")
    for size, (kilobytes, milliseconds) in measured.items():
        print(f"{size:>6} {kilobytes:>12.1f} {milliseconds:>12.2f} {milliseconds / base:>18.2f}")


if __name__ == "__main__":
    main()
