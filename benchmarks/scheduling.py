"""Makespan over critical path of random and layered plans, beside a wave schedule of the same plans.

Run ``python benchmarks/scheduling.py [--steps 10 100 1000] [--slots 4 8 16 0] [--json FILE] [--quick]``; 0
slots stand for as many as there are steps. Step times are heavy-tailed (Pareto, 1 s to 10 min). Everything
runs under a virtual clock (``tests/virtual_clock.py``): the program is the real one, only its sleeps take no
time, so hours of work are scheduled in seconds and every figure is exact and the same on any machine.

The baseline is plain LangGraph: all ready steps of a round go out as one superstep, with the same slots, and
the next round waits for the slowest of them. No schedule can be shorter than the critical path CP, nor than
the work W over the slots K. A schedule that never leaves a slot idle while a step is ready takes at most
W/K + (1 - 1/K) CP (Graham 1966): this is asserted of every plan.
"""

from __future__ import annotations

import argparse
import asyncio
import operator
import random
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, NamedTuple

from dags import FAMILIES, LONGEST_S, critical_path, random_dag, times, work_tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send
from measuring import Promise, Report, Table, measure, median, options
from typing_extensions import TypedDict
from virtual_clock import run_virtually

from plan_execute import Context, create_plan_execute_agent

CONFIG: Any = {"configurable": {"thread_id": "1"}}
ROUNDING = 1e-6
PLANS = {10: 10, 100: 4, 1000: 1}
"""Plans drawn per family, by their size."""

Plan = dict[str, Any]
Schedule = Callable[[Plan, int], Awaitable[float]]


async def ours(plan: Plan, slots: int) -> float:
    """Run a plan with plan_execute and return the seconds that passed."""
    agent = create_plan_execute_agent(None, [work_tool(asyncio.sleep)], checkpointer=InMemorySaver())
    context = Context(approval="never", max_parallel=slots, step_timeout_s=2 * LONGEST_S)
    clock = asyncio.get_running_loop().time
    started = clock()
    result = await agent.ainvoke({"plan": plan}, CONFIG, context=context)
    assert result["status"] == "done", result["final_answer"]
    return clock() - started


class WaveState(TypedDict, total=False):
    """State of the baseline."""

    outputs: Annotated[dict[str, Any], operator.or_]


async def waves(plan: Plan, slots: int) -> float:
    """Run the same plan in waves on plain LangGraph and return the seconds that passed."""
    steps = {step["id"]: step for step in plan["steps"]}
    free, work = asyncio.Semaphore(slots), work_tool(asyncio.sleep)

    async def execute(order: dict[str, str]) -> dict[str, Any]:
        step = steps[order["id"]]
        async with free:
            return {"outputs": {step["id"]: await work.ainvoke(step["call"]["args"])}}

    async def schedule(_state: WaveState) -> dict[str, Any]:
        return {}

    def ready(state: WaveState) -> Any:
        done = state.get("outputs") or {}
        now = [s for i, s in steps.items() if i not in done and all(d in done for d in s["depends_on"])]
        return [Send("execute", {"id": step["id"]}) for step in now] or END

    builder = StateGraph(WaveState)
    builder.add_node("schedule", schedule)
    builder.add_node("execute", execute)  # type: ignore[arg-type]
    builder.add_edge(START, "schedule")
    builder.add_conditional_edges("schedule", ready, ["execute", END])
    builder.add_edge("execute", "schedule")
    graph: Any = builder.compile(checkpointer=InMemorySaver())
    clock = asyncio.get_running_loop().time
    started = clock()
    result = await graph.ainvoke({"outputs": {}}, {**CONFIG, "recursion_limit": 10_000})
    assert len(result["outputs"]) == len(steps)
    return clock() - started


class Case(NamedTuple):
    """One plan and how long it took."""

    path: float
    work: float
    slots: int
    ours: float
    waves: float

    @property
    def graham(self) -> float:
        """The most that a schedule without idle slots takes."""
        return self.work / self.slots + (1 - 1 / self.slots) * self.path

    @property
    def least(self) -> float:
        """What no schedule can go below."""
        return max(self.path, self.work / self.slots)


def run_case(plan: Plan, slots: int) -> Case:
    """Schedule one plan both ways."""
    spent = [run_virtually(schedule(plan, slots)) for schedule in (ours, waves)]  # type: ignore[arg-type]
    return Case(critical_path(plan), sum(times(plan).values()), slots, *spent)


def rows_of(family: str, size: int, slots: list[int], count: int) -> tuple[list[list[Any]], list[Case]]:
    """Measure plans of one family and size, with each number of slots."""
    plans = [FAMILIES[family](size, random.Random(f"{family} {size} {seed}")) for seed in range(count)]
    rows, all_cases = [], []
    for slot in slots:
        cases = [run_case(plan, slot or max(size, 2)) for plan in plans]
        ratios = {name: [getattr(c, name) / c.path for c in cases] for name in ("ours", "waves", "least")}
        cells = [f(ratios[name]) for name in ("ours", "waves") for f in (median, max)]
        bound = max(case.ours / case.graham for case in cases)
        rows.append([family, size, slot or "unlimited", count, median(ratios["least"]), *cells, bound])
        all_cases += cases
    return rows, all_cases


def beside_the_real_clock() -> Table:
    """Run one small plan under both clocks."""
    plan = random_dag(20, random.Random("clock"))
    for step in plan["steps"]:
        step["call"]["args"]["seconds"] /= 20
    virtual = run_virtually(ours(plan, 4))
    started = time.perf_counter()
    asyncio.run(ours(plan, 4))
    real = time.perf_counter() - started
    row = [len(plan["steps"]), virtual, real, real / virtual]
    return Table(
        "The clock itself: one plan under both", ["steps", "virtual s", "real s", "real / virtual"], [row]
    )


def work(chosen: argparse.Namespace) -> Report:
    """Measure every case."""
    sizes = [size for size in chosen.steps if not (chosen.quick and size > 100)]
    rows, cases = [], []
    for family in FAMILIES:
        for size in sizes:
            count = 2 if chosen.quick else PLANS.get(size, 2)
            more_rows, more_cases = rows_of(family, size, chosen.slots, count)
            rows, cases = rows + more_rows, cases + more_cases
    columns = ["plans", "steps", "slots", "drawn", "least", "ours", "ours, worst", "waves", "waves, worst"]
    over = max(case.ours / case.graham for case in cases)
    free = [case for case in cases if case.slots >= case.work / case.path and case.least == case.path]
    straight = max((case.ours / case.path for case in free if case.slots > 16), default=1.0)
    hours = sum(case.ours + case.waves for case in cases) / 3600
    return Report(
        "Scheduling",
        [
            Table(
                "Makespan / critical path (medians; least: what no schedule can go below)",
                [*columns, "of Graham's bound"],
                rows,
                f"{hours:,.0f} hours of work were scheduled under the virtual clock.",
            ),
            beside_the_real_clock(),
        ],
        [
            Promise("makespan within Graham's bound, of every plan", f"{over:.6f}", over <= 1 + ROUNDING),
            Promise("unlimited slots: the critical path", f"{straight:.6f}", straight <= 1 + ROUNDING),
        ],
    )


if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--slots", type=int, nargs="+", default=[4, 8, 16, 0])
    raise SystemExit(measure(parser, work))
