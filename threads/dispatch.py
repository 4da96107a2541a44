"""Adapt procrastinate's worker: which jobs it gets, how it restarts, and who takes over from a dead one."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import psycopg
from procrastinate import App, RetryStrategy
from procrastinate.exceptions import ConnectorException, UniqueViolation
from procrastinate.jobs import DeleteJobCondition, Job, Status
from procrastinate.manager import JobManager
from procrastinate.worker import Worker

from ..errors import SchemaVersionError, StorageDamagedError, StorageError, ThreadBusyError
from .queue import LATER, RUN
from .requirements import Needs
from .schedules import Schedules

if TYPE_CHECKING:
    from ..graph.agent import PlanExecuteAgent
    from ..storage.postgres_queue import JobTables

__all__ = ["Jobs", "dispatch"]

_log = logging.getLogger(__name__)
_LONGEST_OUTAGE_PAUSE_S = 30.0
LOOK = "plan_execute.schedules"
"""The task, and its queue, that starts what the schedules say."""
_FOR_ALL = (LATER, LOOK)
"""Queues whose jobs any worker can do; a worker that runs until idle does not wait for them."""
_STALLED_AFTER_S = 24 * 3600.0
"""procrastinate's own limit for a dead worker; its lock shows that much sooner (see `Jobs.rescue`)."""

# The first job of each queue, with an index that jumps from one queue to the next, and active jobs. One
# statement reads both, or it could miss a job that is handed out again in between.
_QUEUES = """
WITH RECURSIVE first AS (
    (SELECT queue_name, args, scheduled_at FROM procrastinate_jobs WHERE status = 'todo'
     ORDER BY queue_name, scheduled_at NULLS FIRST LIMIT 1)
    UNION ALL
    SELECT next.* FROM first, LATERAL (
        SELECT queue_name, args, scheduled_at FROM procrastinate_jobs
        WHERE status = 'todo' AND queue_name > first.queue_name
        ORDER BY queue_name, scheduled_at NULLS FIRST LIMIT 1) AS next
)
SELECT queue_name, args, scheduled_at IS NULL OR scheduled_at <= now() AS is_due FROM first
UNION ALL SELECT queue_name, args, FALSE FROM procrastinate_jobs WHERE status = 'doing'
"""
# The queue, among those with jobs, whose next job is the first.
_ORDER = """
SELECT name FROM unnest(%(queues)s::varchar[]) AS name, LATERAL (
    SELECT priority, id FROM procrastinate_jobs
    WHERE status = 'todo' AND queue_name = name AND (scheduled_at IS NULL OR scheduled_at <= now())
    ORDER BY priority DESC, id LIMIT 1) AS next
ORDER BY priority DESC, id
"""
# Like procrastinate's own query, but for one queue: over several it reads past the jobs of all others.
_TAKE = """
UPDATE procrastinate_jobs SET status = 'doing', worker_id = %(worker_id)s WHERE id = (
    SELECT id FROM procrastinate_jobs
    WHERE status = 'todo' AND queue_name = %(queue)s AND (scheduled_at IS NULL OR scheduled_at <= now())
    ORDER BY priority DESC, id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, status, task_name, priority, lock, queueing_lock, args, scheduled_at, queue_name, attempts,
    worker_id
"""
_IN_HAND = "SELECT worker_id FROM procrastinate_jobs WHERE status = 'doing'"
_RESCUE = """
WITH gone AS (DELETE FROM procrastinate_jobs WHERE status = 'doing' AND worker_id IS NULL RETURNING *)
INSERT INTO procrastinate_jobs (queue_name, task_name, priority, queueing_lock, args)
SELECT queue_name, task_name, priority, queueing_lock, args FROM gone
ON CONFLICT (queueing_lock) WHERE status = 'todo' DO NOTHING
"""


async def dispatch(
    take: Callable[[str], Awaitable[None]],
    tables: JobTables,
    agent: PlanExecuteAgent,
    stop: asyncio.Event,
    *,
    concurrency: int,
    until_idle: bool,
    grace_s: float,
    poll_s: float,
) -> None:
    """Hand out threads until told to stop, or until nothing is left; wait while the database is away.

    Args:
        take: Continues a thread.
        tables: The jobs.
        agent: Its tools and models decide which threads it gets.
        stop: Set it to stop.
        concurrency: Threads at the same time.
        until_idle: Return when no thread is left that could be handed to it, now or later.
        grace_s: How long threads may continue after ``stop``.
        poll_s: How often it looks for due threads and dead workers.

    Raises:
        StorageDamagedError: If the database is damaged.
    """
    stopping, pause = asyncio.create_task(stop.wait()), poll_s
    try:
        while not stop.is_set():
            shift = _Shift(take, tables, agent, concurrency, until_idle, grace_s, poll_s)
            try:
                await shift.run(stopping)
                if shift.found_nothing:
                    return
                pause = poll_s
            except (ConnectorException, psycopg.Error, StorageError) as error:
                known = tables.explained(error)
                if known is None or isinstance(known, StorageDamagedError | SchemaVersionError):
                    raise (known or error) from error
                _log.warning("the queue cannot be reached now: %s", known)
            # Workers that lost the database together must not all come back at the same moment.
            await asyncio.wait({stopping}, timeout=pause * random.uniform(0.5, 1.5))  # noqa: S311
            pause = min(pause * 2, _LONGEST_OUTAGE_PAUSE_S)
    finally:
        stopping.cancel()


class _Shift:
    """One run of procrastinate's worker: until it stops, or the database is away."""

    def __init__(
        self,
        take: Callable[[str], Awaitable[None]],
        tables: JobTables,
        agent: PlanExecuteAgent,
        concurrency: int,
        until_idle: bool,
        grace_s: float,
        poll_s: float,
    ) -> None:
        self._take = take
        self._poll_s = poll_s
        self._until_idle = until_idle
        self._under_way: set[asyncio.Task[Any]] = set()
        self.found_nothing = False
        self._app = App(connector=tables.connector())
        self._app.job_manager = self._jobs = Jobs(self._app.connector, agent, self._look_for_the_end)
        every_minute = self._app.periodic(cron="* * * * *")
        every_minute(self._app.task(name=LOOK, queue=LOOK, queueing_lock=LOOK)(self._look))
        self._schedules = Schedules(agent)
        self._app.task(name=RUN, retry=RetryStrategy(wait=1, retry_exceptions=(Exception,)))(self._run)
        self._worker = Worker(
            self._app,
            concurrency=concurrency,
            fetch_job_polling_interval=poll_s,
            shutdown_graceful_timeout=grace_s,
            delete_jobs=DeleteJobCondition.ALWAYS,  # Our rows record the outcome of a thread.
            install_signal_handlers=False,
            stalled_worker_timeout=_STALLED_AFTER_S,
        )

    async def run(self, stopping: asyncio.Task[Any]) -> None:
        """Work until told to stop, until nothing is left, or until the database is away."""
        async with self._app.open_async(), self._jobs.signed_in:
            running: asyncio.Task[None] = asyncio.create_task(self._worker.run())  # type: ignore[no-untyped-call]
            rescuing = asyncio.create_task(self._rescue())
            try:
                await asyncio.wait({running, rescuing, stopping}, return_when=asyncio.FIRST_COMPLETED)
                self._stop()
                await asyncio.shield(running)
                if rescuing.done():
                    rescuing.result()
            finally:
                await self._cut_off(running)
                rescuing.cancel()
                await asyncio.gather(rescuing, return_exceptions=True)

    def _stop(self) -> None:
        self._worker.stop()  # type: ignore[no-untyped-call]

    async def _cut_off(self, running: asyncio.Task[None]) -> None:
        """End at once what has not ended, because the wait for it was given up."""
        if not running.done():
            self._stop()
            for task in self._under_way:
                task.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _run(self, thread: str, **_: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        try:
            await self._take(thread)
        finally:
            self._under_way.discard(task)

    async def _look(self, timestamp: int) -> None:  # noqa: ARG002
        await self._schedules.look(time.time())

    async def _rescue(self) -> None:
        while True:
            await self._jobs.rescue()
            await asyncio.sleep(self._poll_s * random.uniform(0.5, 1.5))  # noqa: S311

    async def _look_for_the_end(self) -> None:
        """Stop if nothing is left to hand out."""
        if self._until_idle and not self._under_way and not await self._jobs.has_more():
            self.found_nothing = True
            self._stop()


class Jobs(JobManager):
    """Gives procrastinate's worker the queues that the agent can serve, and the jobs of dead workers."""

    def __init__(
        self, connector: Any, agent: PlanExecuteAgent, when_empty: Callable[[], Awaitable[None]]
    ) -> None:
        super().__init__(connector)
        self.signed_in = AsyncExitStack()
        self._agent = agent
        self._when_empty = when_empty
        self._worker_id: int | None = None

    async def register_worker(self) -> int:
        """Register the worker, and hold a lock as long as it lives."""
        self._worker_id = worker_id = await super().register_worker()
        await self.signed_in.enter_async_context(self._hold(worker_id))
        return worker_id

    async def fetch_job(self, queues: Any, worker_id: int) -> Job | None:  # noqa: ARG002
        """Take the next job of a queue that the agent can serve."""
        for queue in await self._due():
            rows = await self.connector.execute_query_all_async(_TAKE, queue=queue, worker_id=worker_id)
            if rows:
                return Job.from_row(rows[0])
        await self._when_empty()
        return None

    async def _due(self) -> list[str]:
        """List the queues with a job for it now, in order of their next jobs."""
        mine = [name for name, is_due in await self._queues() if is_due]
        if len(mine) < 2:
            return mine
        return [row["name"] for row in await self.connector.execute_query_all_async(_ORDER, queues=mine)]

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:
        """Delete a job."""
        await super().finish_job(job, status, delete_job)
        await self._when_empty()

    async def retry_job(self, job: Job, **options: Any) -> None:  # type: ignore[override]
        """Return a job to the queue, unless its thread has another one by now."""
        try:
            await super().retry_job(job, **options)
        except UniqueViolation:
            await super().finish_job(job, Status.FAILED, True)

    async def has_more(self) -> bool:
        """Tell whether there is a thread that the agent could continue, now or later."""
        return any(name not in _FOR_ALL for name, _ in await self._queues())

    async def rescue(self) -> None:
        """Make the jobs of dead workers available again."""
        rows = await self.connector.execute_query_all_async(_IN_HAND)
        others = {row["worker_id"] for row in rows} - {self._worker_id}
        for worker_id in others - {None}:
            try:
                async with self._hold(worker_id):
                    await self.unregister_worker(worker_id)
            except ThreadBusyError:
                others.discard(worker_id)
        if others:
            await self.connector.execute_query_async(_RESCUE)

    async def _queues(self) -> list[tuple[str, bool]]:
        """List the queues that the agent can serve, each with whether a due job is free."""
        rows = await self.connector.execute_query_all_async(_QUEUES)
        return [
            (row["queue_name"], row["is_due"])
            for row in rows
            if row["queue_name"] in _FOR_ALL or self._is_for_me(row["args"])
        ]

    def _is_for_me(self, args: dict[str, Any]) -> bool:
        needs = Needs(tuple(args["tools"]), tuple(args["roles"]))
        return not needs.missing(self._agent.toolbox, self._agent.models)

    def _hold(self, worker_id: int) -> Any:
        """Hold the lock that shows that a worker lives; like a thread's hold, it ends with its process."""
        saver: Any = self._agent.checkpointer
        return saver.hold_thread(f"{RUN}:worker:{worker_id}")
