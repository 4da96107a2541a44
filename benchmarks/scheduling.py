"""Makespan over critical path of random plans, beside a wave schedule of the same plans in the same run.

Run ``python benchmarks/scheduling.py [--steps 20 60 200] [--seeds 3]``. Step times are heavy-tailed (Pareto),
between 50 ms and 1.5 s; SQLite is on for both. The wave schedule is plain LangGraph: all ready steps of a
round go out as one superstep, and the next round waits for the slowest of them.
"""

from __future__ import annotations

import argparse
import asyncio
import operator
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

from langchain_core.tools import tool
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send
from typing_extensions import TypedDict

from plan_execute import Context, create_plan_execute_agent, local_persistence


@tool
async def work(seconds: float, label: str) -> dict[str, str]:
    """Take some time."""
    await asyncio.sleep(seconds)
    return {"label": label, "text": "x" * 200}


work.metadata = {"effect": "read"}


def random_plan(size: int, rng: random.Random) -> dict[str, Any]:
    """Draw a DAG: each step depends on up to three of the twelve before it."""
    steps = []
    for n in range(size):
        earlier = range(max(0, n - 12), n)
        wanted = rng.choice([0, 1, 1, 2, 2, 3]) if n else 0
        seconds = min(1.5, 0.05 * rng.paretovariate(1.1))
        steps.append(
            {
                "id": f"s{n}",
                "task": f"work {n}",
                "depends_on": [f"s{d}" for d in rng.sample(earlier, min(wanted, len(earlier)))],
                "call": {"tool": "work", "args": {"seconds": seconds, "label": f"s{n}"}},
            }
        )
    return {"goal": "benchmark", "steps": steps}


def critical_path(plan: dict[str, Any]) -> float:
    """Sum the step times along the longest path."""
    ends: dict[str, float] = {}
    for step in plan["steps"]:
        start = max((ends[dep] for dep in step["depends_on"]), default=0.0)
        ends[step["id"]] = start + step["call"]["args"]["seconds"]
    return max(ends.values())


async def ours(plan: dict[str, Any], folder: Path) -> float:
    """Run a plan with plan_execute and return the seconds it took."""
    async with local_persistence(folder / "ours.db") as (checkpointer, store):
        agent = create_plan_execute_agent(None, [work], checkpointer=checkpointer, store=store)
        context = Context(approval="never", max_parallel=1000)
        started = time.perf_counter()
        result = await agent.ainvoke({"plan": plan}, {"configurable": {"thread_id": "1"}}, context=context)
        seconds = time.perf_counter() - started
    assert result["status"] == "done", result["final_answer"]
    return seconds


class WaveState(TypedDict, total=False):
    """State of the baseline."""

    outputs: Annotated[dict[str, Any], operator.or_]


async def waves(plan: dict[str, Any], folder: Path) -> float:
    """Run the same plan in waves on plain LangGraph and return the seconds it took."""
    steps = {step["id"]: step for step in plan["steps"]}

    async def execute(order: dict[str, str]) -> dict[str, Any]:
        step = steps[order["id"]]
        return {"outputs": {step["id"]: await work.ainvoke(step["call"]["args"])}}

    def ready(state: WaveState) -> Any:
        done = state.get("outputs") or {}
        now = [s for i, s in steps.items() if i not in done and all(d in done for d in s["depends_on"])]
        return [Send("execute", {"id": step["id"]}) for step in now] or END

    builder = StateGraph(WaveState)
    builder.add_node("schedule", lambda _: {})
    builder.add_node("execute", execute)  # type: ignore[arg-type]
    builder.add_edge(START, "schedule")
    builder.add_conditional_edges("schedule", ready, ["execute", END])
    builder.add_edge("execute", "schedule")
    async with AsyncSqliteSaver.from_conn_string(str(folder / "waves.db")) as saver:
        graph = builder.compile(checkpointer=saver)
        started = time.perf_counter()
        result = await graph.ainvoke({"outputs": {}}, {"configurable": {"thread_id": "1"}})
        seconds = time.perf_counter() - started
    assert len(result["outputs"]) == len(steps)
    return seconds


async def measure(size: int, seeds: int) -> tuple[list[float], list[float], float]:
    """Return the ratios of ours and of waves over several plans of one size, and the mean critical path."""
    eager, wave, paths = [], [], []
    for seed in range(seeds):
        plan = random_plan(size, random.Random(seed))
        path = critical_path(plan)
        with tempfile.TemporaryDirectory() as folder:
            eager.append(await ours(plan, Path(folder)) / path)
            wave.append(await waves(plan, Path(folder)) / path)
        paths.append(path)
    return eager, wave, statistics.mean(paths)


def main() -> None:
    """Print one line per size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=[20, 60, 200])
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    print(f"{'steps':>6} {'critical path s':>16} {'plan_execute':>22} {'waves':>22}")
    for size in options.steps:
        eager, wave, path = asyncio.run(measure(size, options.seeds))
        shown = [f"{statistics.median(r):.3f} (max {max(r):.3f})" for r in (eager, wave)]
        print(f"{size:>6} {path:>16.2f} {shown[0]:>22} {shown[1]:>22}")


if __name__ == "__main__":
    main()
