"""How long a worker waits for a thread, and what an idle one costs, with few and with many threads waiting.

    python benchmarks/queues.py postgresql://user:password@host/database [THREADS …]

The threads that wait are of three kinds: a worker could run them, it lacks their tool, or they wait for a
person whose time is limited. The rows are written as `submit` writes them; the threads have no checkpoints,
so the worker that measures does not run them. They come in one statement, and the database has not looked
at its tables since (autovacuum is off): so the planner knows nothing of them.
"""

from __future__ import annotations

import asyncio
import os
import resource
import statistics
import sys
import time
from typing import Any

from psycopg.types.json import Jsonb

from plan_execute import create_plan_execute_agent, postgres_persistence
from plan_execute.threads.dispatch import Jobs, dispatch
from plan_execute.threads.queue import QueuedThread
from plan_execute.threads.submission import queue_of

IDLE_S = float(os.environ.get("IDLE_S", "20"))
CLAIMS = 50


def look(q: str) -> str:
    """Look something up."""
    return q


COPY = """
INSERT INTO procrastinate_jobs (queue_name, task_name, priority, queueing_lock, args, scheduled_at)
SELECT %s, %s, %s, %s || n, %s, %s FROM generate_series(1, %s) AS n
"""


async def fill(queue: Any, kind: str, threads: int) -> None:
    """Put threads of a kind into the queue."""
    one = QueuedThread("", tools=("look",))
    if kind == "lacking":
        one = QueuedThread("", tools=("another tool",))
    elif kind == "asking":
        one = QueuedThread("", asks=True, due=time.time() + 86_400)

    def write() -> None:
        from plan_execute.threads.queue import _job

        job = _job(one)
        row = [job.queue, job.task_name, job.priority, kind, Jsonb(job.task_kwargs), job.scheduled_at]
        with queue.tables.transaction("none") as cursor:
            cursor.execute(COPY, (*row, threads))

    await asyncio.to_thread(write)


def clear(queue: Any) -> None:
    """Empty the queue, and have the planner know that it is empty."""
    with queue.tables.database.connect() as connection:
        jobs = f"{queue.tables.schema}.procrastinate_jobs"
        connection.execute(f"ALTER TABLE {jobs} SET (autovacuum_enabled = false)")
        connection.execute(f"TRUNCATE {jobs} CASCADE")
        connection.execute(f"VACUUM ANALYZE {jobs}")


async def claim_ms(agent: Any, queue: Any) -> tuple[float, float]:
    """Return the median and the longest time that a worker waits for the next thread."""
    times: list[float] = []

    async def when_empty() -> None:
        raise AssertionError("the queue is empty")

    connector = queue.tables.connector()
    await connector.open_async()
    jobs = Jobs(connector, agent, when_empty)
    worker_id = await jobs.register_worker()
    for _ in range(CLAIMS):
        began = time.perf_counter()
        job = await jobs.fetch_job(None, worker_id)
        times.append(1000 * (time.perf_counter() - began))
        assert job is not None
    await jobs.signed_in.aclose()
    await connector.close_async()
    return statistics.median(times), max(times)


async def idle_share(agent: Any, queue: Any) -> float:
    """Return the share of a core that a worker needs which has nothing to do, in percent."""
    stop = asyncio.Event()

    async def take(thread_id: str) -> None:
        raise AssertionError(f"{thread_id} was handed out")

    options = {"concurrency": 4, "until_idle": False, "grace_s": 5.0, "poll_s": 1.0}
    task = asyncio.create_task(dispatch(take, queue.tables, agent, stop, **options))  # type: ignore[arg-type]
    await asyncio.sleep(2)  # starting is not idling
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    await asyncio.sleep(IDLE_S)
    after, took = resource.getrusage(resource.RUSAGE_SELF), time.monotonic() - began
    stop.set()
    await task
    return 100 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / took


async def measure(place: str, sizes: list[int]) -> None:
    """Print a line for each size."""
    async with postgres_persistence(place) as (saver, store):
        agent = create_plan_execute_agent(None, tools=[look], checkpointer=saver, store=store)
        queue = await queue_of(agent)
        for threads in sizes:
            clear(queue)
            await fill(queue, "ready", threads)
            median, longest = await claim_ms(agent, queue)
            print(f"{threads} ready: a claim takes {median:.1f} ms (longest {longest:.1f})", flush=True)
            clear(queue)
            await fill(queue, "lacking", threads)
            await fill(queue, "ready", CLAIMS)
            median, longest = await claim_ms(agent, queue)
            print(f"{threads} lacking before it: {median:.1f} ms (longest {longest:.1f})", flush=True)
            for kind in ("lacking", "asking"):
                clear(queue)
                await fill(queue, kind, threads)
                print(f"{threads} {kind}: idle {await idle_share(agent, queue):.2f} % of a core", flush=True)


if __name__ == "__main__":
    asyncio.run(measure(sys.argv[1], [int(word) for word in sys.argv[2:]] or [100, 20_000]))
