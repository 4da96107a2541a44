"""Runs per second, and the time that 95 % of them stay under, for 1 to 500 threads at the same time.

Run ``python benchmarks/throughput.py [--threads 1 10 100 500] [--processes 1 2 4] [--postgres]
[--json FILE] [--quick]``. A run is a plan of five bound steps that return at once, on a thread of its own;
all threads keep everything in one SQLite file, in one process or in several that start together. The
baseline, in the same run, makes the same calls from five nodes of plain LangGraph, with the same saver and
the same file, in one process. The third side is our nodes in plain LangGraph, which do nothing but make the
calls: what the wiring alone costs. ``--postgres`` starts a server as the tests do, with commits that wait for
the disk, and measures up to 100 threads on it too; the server's own processor time is not in the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import operator
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send
from measuring import (
    NO_SERVER,
    Promise,
    Report,
    Table,
    measure,
    median,
    options,
    quantile,
    server_or_none,
)
from typing_extensions import TypedDict

from plan_execute import Context, create_plan_execute_agent, local_persistence, postgres_persistence

STEPS = 5
PER_THREAD = {1: 100, 10: 10}
"""Runs one after the other on each thread; few threads need more of them."""
MOST_THREADS_ON_POSTGRES = 100
Once = Callable[[str], Awaitable[Any]]


@tool
async def look_up(label: str) -> str:
    """Look something up."""
    return f"{label} found"


look_up.metadata = {"effect": "read"}


def ours(saver: Any, store: Any) -> Once:
    """Make our side's run of one thread."""
    steps = [
        {
            "id": f"s{n}",
            "depends_on": [f"s{n - 1}"] if n else [],
            "call": {"tool": "look_up", "args": {"label": f"s{n}"}},
        }
        for n in range(STEPS)
    ]
    agent = create_plan_execute_agent(None, [look_up], checkpointer=saver, store=store)

    async def once(thread: str) -> None:
        config: Any = {"configurable": {"thread_id": thread}}
        given = {"plan": {"goal": "look", "steps": steps}}
        result = await agent.ainvoke(given, config, context=Context(approval="never"))
        assert result["status"] == "done", result["final_answer"]

    return once


class BareState(TypedDict, total=False):
    """State of the baseline."""

    last: str


def bare(saver: Any, _store: Any) -> Once:
    """Make the baseline's run of one thread: a chain of nodes."""

    async def node(_state: BareState) -> dict[str, Any]:
        return {"last": await look_up.ainvoke({"label": "s"})}

    builder = StateGraph(BareState)
    names = [f"n{n}" for n in range(STEPS)]
    for name in names:
        builder.add_node(name, node)
    for before, after in zip([START, *names], [*names, END], strict=True):
        builder.add_edge(before, after)
    graph: Any = builder.compile(checkpointer=saver)

    async def once(thread: str) -> None:
        await graph.ainvoke({"last": ""}, {"configurable": {"thread_id": thread}})

    return once


class WiredState(TypedDict, total=False):
    """State of the graph that only has our wiring."""

    last: str
    results: Annotated[dict[str, str], operator.or_]


def wiring(saver: Any, _store: Any) -> Once:
    """Make a run of our nodes, which do nothing but make the calls; no step waits for another."""

    async def node(_state: WiredState) -> dict[str, Any]:
        return {"last": "s"}

    async def executor(order: dict[str, str]) -> dict[str, Any]:
        return {"results": {order["id"]: await look_up.ainvoke({"label": "s"})}}

    builder = StateGraph(WiredState)
    names = ["planner", "validator", "dispatcher", "evaluator", "synthesizer"]
    for name in names:
        builder.add_node(name, node)
    builder.add_node("executor", executor)  # type: ignore[arg-type]
    orders = [Send("executor", {"id": f"s{n}"}) for n in range(STEPS)]
    builder.add_edge(START, "planner")
    builder.add_edge("planner", "validator")
    builder.add_edge("validator", "dispatcher")
    builder.add_conditional_edges("dispatcher", lambda _: orders, ["executor"])
    builder.add_edge("executor", "evaluator")
    builder.add_edge("evaluator", "synthesizer")
    builder.add_edge("synthesizer", END)
    graph: Any = builder.compile(checkpointer=saver)

    async def once(thread: str) -> None:
        await graph.ainvoke({"last": ""}, {"configurable": {"thread_id": thread}})

    return once


def persistence(place: str) -> Any:
    """Open a PostgreSQL server's address or a SQLite file."""
    return postgres_persistence(place) if "://" in place else local_persistence(place)


async def load(side: Any, place: str, threads: int, name: str) -> tuple[list[float], float, float]:
    """Run all threads at the same time: seconds of each run, of everything, and of the processor."""
    spent: list[float] = []
    async with persistence(place) as both:
        once = side(*both)
        await once(f"{name} first")

        async def thread(number: int) -> None:
            for turn in range(PER_THREAD.get(threads, 1)):
                started = time.perf_counter()
                await once(f"{name} {number} {turn}")
                spent.append(time.perf_counter() - started)

        processor, started = time.process_time(), time.perf_counter()
        await asyncio.gather(*(thread(number) for number in range(threads)))
        return spent, time.perf_counter() - started, time.process_time() - processor


def in_processes(processes: int, threads: int, place: str) -> tuple[list[float], float, float]:
    """Divide our side's threads among processes that share the database and start together."""
    asyncio.run(load(ours, place, 1, "made"))  # the tables are there
    children = [
        subprocess.Popen(
            [sys.executable, __file__, "--child", place, str(threads // processes), f"p{n}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(processes)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    started = time.perf_counter()
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    answers = [json.loads(child.communicate()[0]) for child in children]
    wall = time.perf_counter() - started
    assert all(child.returncode == 0 for child in children)
    return [s for spent, _, _ in answers for s in spent], wall, sum(cpu for _, _, cpu in answers)


def child(place: str, threads: int, name: str) -> None:
    """Say that it is ready, wait for the start, run, and print what it took."""
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(asyncio.run(load(ours, place, threads, name))))


def row(name: str, processes: int, threads: int, found: tuple[list[float], float, float]) -> list[Any]:
    """Sum up one case."""
    spent, wall, processor = found
    times = (median(spent) * 1000, quantile(spent, 0.95) * 1000)
    return [name, processes, threads, len(spent), len(spent) / wall, *times, processor / len(spent) * 1000]


def rows_of(
    database: str, new_place: Callable[[], str], counts: list[int], processes: list[int]
) -> list[list[Any]]:
    """Measure a database with every number of threads, and of processes."""
    rows = []
    for threads in counts:
        sides = {"plan_execute": ours, "plain LangGraph": bare, "plain LangGraph, our nodes": wiring}
        for name, side in sides.items():
            found = asyncio.run(load(side, new_place(), threads, "t"))
            rows.append(row(f"{name}, {database}", 1, threads, found))
    threads = max(n for n in counts if n <= 100)
    for number in (n for n in processes if n > 1):
        found = in_processes(number, threads, new_place())
        rows.append(row(f"plan_execute, {database}", number, threads, found))
    return rows


def work(chosen: argparse.Namespace) -> Report:
    """Measure every database."""
    counts = [n for n in chosen.threads if not (chosen.quick and n > 100)]
    with tempfile.TemporaryDirectory() as folder:
        numbers = itertools.count()
        rows = rows_of("SQLite", lambda: f"{folder}/{next(numbers)}.db", counts, chosen.processes)
    note = f"A run is {STEPS} steps one after the other. Several processes share the threads out."
    if chosen.postgres:
        with server_or_none() as server:
            few = [n for n in counts if n <= MOST_THREADS_ON_POSTGRES]
            rows += rows_of("PostgreSQL", server.new_schema, few, chosen.processes) if server else []
            note += "" if server else f" {NO_SERVER}"
    columns = ["", "processes", "threads", "runs", "runs/s", "median ms", "p95 ms", "CPU ms per run"]
    ended = sum(r[3] for r in rows)
    return Report(
        "Throughput",
        [Table("Runs on one database", columns, rows, note)],
        [Promise("every run ended", f"{ended} runs", True)],
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], int(sys.argv[3]), sys.argv[4])
        raise SystemExit
    parser = options(__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 10, 100, 500])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--postgres", action="store_true", help="measure PostgreSQL too")
    raise SystemExit(measure(parser, work))
