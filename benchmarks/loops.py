"""A ``for_each`` of 1,000 calls that take 1 ms, with SQLite: overhead per item, and the resume after a kill.

Run it with ``python benchmarks/loops.py [ITEMS]``. The overhead is the wall time per item less the time
of the call itself divided by the slots; the baseline, in the same run, calls the tool itself by
``asyncio.gather`` in as many slots. A second process is killed with SIGKILL when 70 % of the items have
ended; what counts is the time from the resume (imports done) to its first new item.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from langchain_core.tools import StructuredTool

from plan_execute import Context, create_plan_execute_agent, local_persistence

CALL_S, SLOTS = 0.001, 8
CONFIG: Any = {"configurable": {"thread_id": "loop"}}


def make_tool(log: Path | None) -> StructuredTool:
    """Make the tool of 1 ms; with a log it notes every call that ended."""

    async def one(n: int) -> int:
        """Take a millisecond."""
        await asyncio.sleep(CALL_S)
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


async def run(folder: Path, what: Any, log: Path | None = None) -> float:
    """Run or resume the plan, and return the seconds it took."""
    context = Context(approval="never", max_parallel=SLOTS)
    async with local_persistence(folder / "loop.db") as (saver, store):
        agent = create_plan_execute_agent(tools=[make_tool(log)], checkpointer=saver, store=store)
        started = time.perf_counter()
        result = await agent.ainvoke(what, CONFIG, context=context)
        assert result["status"] == "done", result["final_answer"]
        return time.perf_counter() - started


async def bare(items: int) -> float:
    """Make the same calls with nothing around them, and return the seconds it took."""
    slots, tool = asyncio.Semaphore(SLOTS), make_tool(None)

    async def one(n: int) -> None:
        async with slots:
            await tool.ainvoke({"n": n})

    started = time.perf_counter()
    await asyncio.gather(*(one(n) for n in range(items)))
    return time.perf_counter() - started


def resume_after_kill(folder: Path, items: int) -> tuple[float, int, int]:
    """Kill a run at 70 %; return the seconds to the first new item, what was done, and what ran again."""
    log, kill_at = folder / "log", items * 7 // 10
    log.touch()
    child = subprocess.Popen([sys.executable, __file__, str(items), str(folder)])
    while len(log.read_text().splitlines()) < kill_at:
        assert child.poll() is None, "the run ended before it could be killed"
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()
    before = log.read_text().splitlines()
    started = time.time()
    asyncio.run(run(folder, None, log))
    after = [line.split() for line in log.read_text().splitlines()[len(before) :]]
    seen = {line.split()[0] for line in before}
    first_new = min(float(at) for n, at in after if n not in seen)
    return first_new - started, len(before), sum(n in seen for n, _ in after)


def main() -> None:
    """Print the figures."""
    items = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    if len(sys.argv) > 2:
        folder = Path(sys.argv[2])
        asyncio.run(run(folder, given(items), folder / "log"))
        return
    with tempfile.TemporaryDirectory() as folder:
        baseline, whole = asyncio.run(bare(items)), asyncio.run(run(Path(folder), given(items)))
        print(f"{items} items of {CALL_S * 1000:g} ms, {SLOTS} slots")
        print(f"bare calls      {baseline:7.2f} s  {baseline / items * 1000:6.2f} ms per item")
        print(f"for_each        {whole:7.2f} s  {whole / items * 1000:6.2f} ms per item")
        overhead = (whole - baseline) / items * 1000
        print(f"overhead                   {overhead:6.2f} ms per item (asked: at most 5)")
    with tempfile.TemporaryDirectory() as folder:
        seconds, done, again = resume_after_kill(Path(folder), items)
        print(
            f"killed after {done} items: first new item {seconds:.2f} s after the resume (asked: 2), "
            f"{again} ran again"
        )


if __name__ == "__main__":
    main()
