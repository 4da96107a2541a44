"""A ``for_each`` of 10,000 calls that take 1 ms, with SQLite: rate, memory, and the resume after a kill.

Run ``python benchmarks/loops.py [--items 1000 10000] [--json FILE] [--quick]``. Each loop runs in a process
of its own. The overhead is the processor's time per item beyond that of the same calls with nothing around
them (``asyncio.gather`` in as many slots), in the same run. The rate over time is that of the slowest tenth
of the items beside the median tenth; memory is the peak beyond what the process had after a loop of 100.
Another process is killed with SIGKILL when 70 % of the items have ended; what counts is the time from the
resume (imports done) to its first new item, and that what had ended does not run again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from langchain_core.tools import StructuredTool
from measuring import Promise, Report, Table, measure, median, options

from plan_execute import Context, create_plan_execute_agent, local_persistence

CALL_S, SLOTS, TENTHS = 0.001, 8, 10
CONFIG: Any = {"configurable": {"thread_id": "loop"}}
MOST_OVERHEAD_MS, MOST_RESUME_S = 5.0, 2.0
MOST_MEMORY_RATIO, MOST_SLOWDOWN = 1.5, 2.0


def make_tool(log: Path | None, ends: list[float] | None = None) -> StructuredTool:
    """Make the tool of 1 ms; it notes when every call ended, and in a log also which."""

    async def one(n: int) -> int:
        """Take a millisecond."""
        await asyncio.sleep(CALL_S)
        if ends is not None:
            ends.append(time.process_time())
        if log is not None:
            handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(handle, f"{n} {time.time()}\n".encode())
            os.close(handle)
        return n

    return StructuredTool.from_function(coroutine=one, metadata={"effect": "read"})


def given(items: int) -> dict[str, Any]:
    """Write the plan."""
    step = {"id": "each", "call": {"tool": "one", "args": {"n": "${item}"}}, "for_each": "${inputs.all}"}
    plan = {"goal": "count", "steps": [step], "inputs": {"all": {"type": "array"}}}
    return {"plan": plan, "inputs": {"all": list(range(items))}}


async def run(file: Path, what: Any, tool: StructuredTool) -> None:
    """Run or resume the plan."""
    context = Context(approval="never", max_parallel=SLOTS)
    async with local_persistence(file) as (saver, store):
        agent = create_plan_execute_agent(tools=[tool], checkpointer=saver, store=store)
        result = await agent.ainvoke(what, CONFIG, context=context)
        assert result["status"] == "done", result["final_answer"]


async def bare(items: int) -> None:
    """Make the same calls with nothing around them."""
    slots, tool = asyncio.Semaphore(SLOTS), make_tool(None)

    async def one(n: int) -> None:
        async with slots:
            await tool.ainvoke({"n": n})

    await asyncio.gather(*(one(n) for n in range(items)))


# --- the process that runs one loop ------------------------------------------------------


class Measured(NamedTuple):
    """What one loop took: the processor's milliseconds per item, the kilobytes, the wall's seconds."""

    bare_ms: float
    ours_ms: float
    slowest: float
    memory_kb: float
    stored_kb: float
    wall_s: float


def peak_kb() -> float:
    """Return the most memory that this process has taken."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if sys.platform == "darwin" else float(peak)


def child(items: int) -> None:
    """Run one loop, and the bare calls, and print what they took."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder) / "first.db", given(100), make_tool(None)))
        started = time.process_time()
        asyncio.run(bare(items))
        baseline, memory, ends = time.process_time() - started, peak_kb(), []
        started, wall = time.process_time(), time.perf_counter()
        asyncio.run(run(Path(folder) / "loop.db", given(items), make_tool(None, ends)))
        took, wall = time.process_time() - started, time.perf_counter() - wall
        stored = sum(file.stat().st_size for file in Path(folder).glob("loop.db*") if file.is_file())
    size = items // TENTHS
    marks = [ends[0], *ends[size - 1 :: size]]
    tenths = [after - before for before, after in pairwise(marks)]
    slowest = max(tenths) / median(tenths)
    figures = (baseline / items * 1000, took / items * 1000, slowest)
    print(json.dumps([*figures, peak_kb() - memory, stored / 1024, wall]))


def in_a_process(items: int) -> Measured:
    """Run one loop in a process of its own."""
    command = [sys.executable, __file__, "--child", str(items)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Measured(*json.loads(done.stdout.splitlines()[-1]))


# --- the kill ----------------------------------------------------------------------------


class Resumed(NamedTuple):
    """What a resume found and did."""

    seconds: float
    done: int
    again: int


def resume_after_kill(folder: Path, items: int) -> Resumed:
    """Kill a run at 70 % of its items and resume it."""
    log, kill_at = folder / "log", items * 7 // 10
    log.touch()
    killed = subprocess.Popen([sys.executable, __file__, "--victim", str(items), str(folder)])
    while len(log.read_text().splitlines()) < kill_at:
        assert killed.poll() is None, "the run ended before it could be killed"
        time.sleep(0.1)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    before = log.read_text().splitlines()
    started = time.time()
    asyncio.run(run(folder / "loop.db", None, make_tool(log)))
    after = [line.split() for line in log.read_text().splitlines()[len(before) :]]
    seen = {line.split()[0] for line in before}
    first_new = min(float(at) for n, at in after if n not in seen)
    assert len(seen | {n for n, _ in after}) == items
    return Resumed(first_new - started, len(before), sum(n in seen for n, _ in after))


# --- the report --------------------------------------------------------------------------


def work(chosen: argparse.Namespace) -> Report:
    """Measure every number of items."""
    sizes = [size for size in chosen.items if not (chosen.quick and size > 1000)]
    measured = {size: in_a_process(size) for size in sizes}
    with tempfile.TemporaryDirectory() as folder:
        resumed = resume_after_kill(Path(folder), sizes[-1])
    rows = [
        [
            items,
            one.bare_ms,
            one.ours_ms,
            one.ours_ms - one.bare_ms,
            items / one.wall_s,
            one.slowest,
            one.memory_kb / items,
            one.stored_kb / items,
        ]
        for items, one in measured.items()
    ]
    columns = ["items", "bare calls, CPU ms", "for_each, CPU ms", "over, CPU ms", "items/s"]
    columns += ["slowest tenth / median", "memory KB", "stored KB"]
    most, slowest = max(row[3] for row in rows), rows[-1][5]
    memory = [row[6] for row in rows]
    promises = [
        Promise(
            f"overhead at most {MOST_OVERHEAD_MS:g} ms per item", f"{most:.2f} ms", most <= MOST_OVERHEAD_MS
        ),
        Promise(
            f"steady rate: the slowest tenth at most {MOST_SLOWDOWN:g} × the median one",
            f"{slowest:.2f}",
            slowest <= MOST_SLOWDOWN,
        ),
        Promise(
            f"first new item within {MOST_RESUME_S:g} s of a resume",
            f"{resumed.seconds:.2f} s",
            resumed.seconds <= MOST_RESUME_S,
        ),
        Promise(
            "what had ended and was recorded does not run again",
            f"{resumed.again} of {resumed.done}",
            resumed.again <= SLOTS,
        ),
    ]
    if len(memory) > 1:
        ratio = memory[-1] / memory[0]
        promises.append(
            Promise(
                f"memory per item at most {MOST_MEMORY_RATIO:g} × that of {sizes[0]:,} items",
                f"{ratio:.2f}",
                ratio <= MOST_MEMORY_RATIO,
            )
        )
    killed = [sizes[-1], resumed.done, resumed.seconds, resumed.again]
    return Report(
        "Loops",
        [
            Table(f"Per item, in {SLOTS} slots; a call takes {CALL_S * 1000:g} ms", columns, rows),
            Table(
                "Killed by SIGKILL and resumed",
                ["items", "done before", "s to the first new item", "ran again"],
                [killed],
                f"Up to {SLOTS} items are under way when the process dies: those run again, as reads may.",
            ),
        ],
        promises,
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(int(sys.argv[2]))
        raise SystemExit
    if sys.argv[1:2] == ["--victim"]:
        place = Path(sys.argv[3])
        asyncio.run(run(place / "loop.db", given(int(sys.argv[2])), make_tool(place / "log")))
        raise SystemExit
    parser = options(__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=[1000, 10_000])
    raise SystemExit(measure(parser, work))
