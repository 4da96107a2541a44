"""How many short threads workers run in a second, and how soon one goes on whose worker was killed.

    python benchmarks/workers.py postgresql://user:password@host/database [THREADS]

A thread is a plan of three bound steps that only read. Load is what the machine had to do at the end of each
row, this benchmark included.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import tempfile
import time
from typing import Any

from langchain_core.tools import StructuredTool

from plan_execute import Context, create_plan_execute_agent, postgres_persistence, submit, work

FREE = Context(approval="never")


def look(q: str) -> str:
    """Look something up."""
    return q


def wait(path: str) -> str:
    """Wait for two seconds, having said so."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(f"{time.time()}\n")
    time.sleep(2)
    return "waited"


def agent_on(storage: Any) -> Any:
    """Make the agent that submits and works."""
    tools = [StructuredTool.from_function(tool, metadata={"effect": "read"}) for tool in (look, wait)]
    return create_plan_execute_agent(None, tools=tools, checkpointer=storage[0], store=storage[1])


def run_worker(place: str, barrier: Any, sizes: Any) -> None:
    """Be a worker."""
    with postgres_persistence(place) as storage:
        agent = agent_on(storage)
        barrier.wait()
        before = resource.getrusage(resource.RUSAGE_SELF)
        work(agent, until_idle=True)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    sizes.put((after.ru_maxrss // 1024, cpu_s))


def threads_per_second(place: str, workers: int, threads: int) -> tuple[float, int, float]:
    """Return threads in a second, megabytes of the largest worker, and milliseconds of CPU per thread."""
    with postgres_persistence(place) as storage:
        agent = agent_on(storage)
        for _ in range(threads):
            calls = [("a", "1", []), ("b", "2", []), ("c", "${a} ${b}", ["a", "b"])]
            steps = [
                {"id": i, "task": i, "depends_on": d, "call": {"tool": "look", "args": {"q": q}}}
                for i, q, d in calls
            ]
            submit(agent, {"plan": {"goal": "look", "steps": steps}}, context=FREE)
    start = multiprocessing.get_context("spawn")
    barrier, sizes = start.Barrier(workers + 1), start.Queue()
    crew = [start.Process(target=run_worker, args=(place, barrier, sizes)) for _ in range(workers)]
    for worker in crew:
        worker.start()
    barrier.wait()
    began = time.monotonic()
    ended = [sizes.get() for _ in crew]
    took = time.monotonic() - began
    for worker in crew:
        worker.join()
    return threads / took, max(size for size, _ in ended), 1000 * sum(cpu_s for _, cpu_s in ended) / threads


def seconds_until_taken_over(place: str, log: str) -> float:
    """Kill the worker that has a thread, and return when another's call of the same step begins."""
    with postgres_persistence(place) as storage:
        step = {"id": "a", "task": "a", "call": {"tool": "wait", "args": {"path": log}}}
        thread = submit(agent_on(storage), {"plan": {"goal": "wait", "steps": [step]}}, context=FREE)
    start = multiprocessing.get_context("spawn")
    barrier, sizes = start.Barrier(3), start.Queue()
    crew = [start.Process(target=run_worker, args=(place, barrier, sizes)) for _ in range(2)]
    for worker in crew:
        worker.start()
    barrier.wait()
    while not os.path.exists(log):
        time.sleep(0.01)
    with postgres_persistence(place) as storage:
        runner = _runner_of(storage, thread)
    victim = next(worker for worker in crew if runner.startswith(f"process {worker.pid} "))
    victim.kill()
    killed = time.time()
    for worker in crew:
        worker.join()
    with open(log, encoding="utf-8") as file:
        return float(file.read().split()[-1]) - killed


def _runner_of(storage: Any, thread: str) -> str:
    with storage[0].shared.connection() as connection:
        query = "SELECT runner FROM plan_execute_runners WHERE thread_id = %s"
        return str(connection.execute(query, (thread,)).fetchone()[0])


if __name__ == "__main__":
    where, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 200
    for number in (1, 2, 4):
        rate, megabytes, cpu_ms = threads_per_second(where, number, count)
        print(
            f"{number} workers: {rate:.1f} threads/s, {cpu_ms:.0f} ms of CPU a thread, {megabytes} MB each, "
            f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores",
            flush=True,
        )
    with tempfile.TemporaryDirectory() as folder:
        waits = [seconds_until_taken_over(where, f"{folder}/{number}.log") for number in range(5)]
    print("a killed worker's thread goes on after " + ", ".join(f"{wait:.2f} s" for wait in waits))
