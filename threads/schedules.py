"""Run plans on a schedule: rows in the store, and once a minute a look at which are due.

A run has a thread of its own, whose id consists of the schedule's name and the due time. So a look that died
half-way does not start a run twice. The process that looks holds the schedule, as a run holds its thread.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, get_args
from uuid import uuid4
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ..context import run_redactor
from ..errors import ConfigurationError, InvalidInputError, PlanExecuteError, ThreadBusyError, known
from ..graph.control import cancel_run
from ..storage.adapters import AsyncStore
from ..storage.ledger import Ledger
from ..storage.rows import ROOT, decode, encode, load, put, search
from .queue import queued_thread
from .submission import asubmit, queue_of

if TYPE_CHECKING:
    from ..graph.agent import PlanExecuteAgent

__all__ = ["Missed", "Overlap", "Schedule", "Schedules", "new_schedule", "read_grant"]

Overlap = Literal["skip", "queue", "cancel"]
Missed = Literal["skip", "once", "all"]

_ROOT = (ROOT, "schedules")
_LATE_S = 300.0
"""A run that would start later than this after its due time was missed."""
_MOST_MISSED = 100
"""The most runs that wait to be started; if there are more, the last ones are kept."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Schedule:
    """A plan and when to run it.

    Attributes:
        name: Its name; the ids of its threads begin with it.
        cron: Five fields: minute, hour, day of the month, month, day of the week.
        timezone: The time zone of the fields, such as ``Europe/Berlin``.
        plan: The plan.
        inputs: Its inputs.
        context: Settings of the runs; None: the defaults.
        grant: What the runs may do without asking; None if they ask as any run does.
        overlap: If the last run has not ended: skip this one, let it wait, or cancel the last one.
        missed: Which missed runs to start: none, the last one, or all of them.
        priority: The priority of its threads.
        paused: Whether no run starts.
        due: When the next one is due, in seconds since the epoch.
        waiting: The due times of runs that wait for the last one to end.
        thread: The last run's.
        note: Why the last due run did not start, if it did not.
    """

    name: str
    cron: str
    timezone: str
    plan: dict[str, Any]
    inputs: dict[str, Any]
    context: dict[str, Any] | None = None
    grant: dict[str, Any] | None = None
    overlap: Overlap = "skip"
    missed: Missed = "once"
    priority: int = 0
    paused: bool = False
    due: float = 0.0
    waiting: tuple[float, ...] = ()
    thread: str | None = None
    note: str | None = None

    def next_after(self, seconds: float) -> float:
        """Return the next due time after a time."""
        from croniter import croniter  # type: ignore[import-untyped]

        start = datetime.fromtimestamp(seconds, ZoneInfo(self.timezone))
        return float(croniter(self.cron, start).get_next(datetime).timestamp())

    def thread_of(self, due: float) -> str:
        """Return the thread id of the run that is due at a time."""
        return f"{self.name}-{datetime.fromtimestamp(due, UTC):%Y%m%dT%H%M%SZ}"

    def came_due(self, now: float) -> Schedule:
        """Move due runs to the waiting ones, as far as missed runs count."""
        if self.paused or self.due > now:
            return self
        times = self._due_by(now)
        in_time = [each for each in times if now - each <= _LATE_S]
        kept = {"skip": in_time, "once": times[-1:], "all": times}[self.missed]
        note = None if kept else f"the run that was due at {_shown(times[-1])} was not started in time"
        waiting = (*self.waiting, *kept)[-_MOST_MISSED:]
        return replace(self, due=self.next_after(now), waiting=waiting, note=note)

    def _due_by(self, now: float) -> list[float]:
        """List the due times until now, the earliest first; if there are many, the last ones."""
        from croniter import croniter

        # A time that is exactly now counts too.
        backwards = croniter(self.cron, datetime.fromtimestamp(int(now) + 1, ZoneInfo(self.timezone)))
        times: list[float] = []
        while len(times) < _MOST_MISSED:
            before = float(backwards.get_prev(datetime).timestamp())
            if before < self.due:
                break
            times = [before, *times]
        return times or [self.due]


def new_schedule(now: float, **fields: Any) -> Schedule:
    """Make a schedule whose first run is the next due one.

    Raises:
        InvalidInputError: If the name, the times or the time zone are not valid.
    """
    from croniter import CroniterBadDateError, croniter

    made = Schedule(**fields)
    if not made.name.isascii() or not made.name.replace("-", "").replace("_", "").isalnum():
        raise InvalidInputError(f"a schedule's name has letters, digits, - and _, unlike {made.name!r}")
    if len(made.cron.split()) != 5 or not croniter.is_valid(made.cron):
        raise InvalidInputError(
            f"{made.cron!r} is not a time of five fields, such as '0 7 * * 1' for Mondays at seven"
        )
    try:
        ZoneInfo(made.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidInputError(
            f"there is no time zone {made.timezone!r}; an example is Europe/Berlin"
        ) from error
    for given, words in ((made.overlap, get_args(Overlap)), (made.missed, get_args(Missed))):
        if given not in words:
            raise InvalidInputError(f"{given!r} is not one of {known(words)}")
    try:
        return replace(made, due=made.next_after(now))
    except CroniterBadDateError as error:
        raise InvalidInputError(f"{made.cron!r} names a day that does not exist in any year") from error


def read_grant(words: Mapping[str, str], by: Mapping[str, str], now: datetime) -> dict[str, Any]:
    """Read a standing grant: ``tools``, ``effects``, ``resources`` (comma-separated) and ``until`` (a date).

    Raises:
        InvalidInputError: If a part is unknown or missing, or the date is not valid or in the past.
    """
    parts = ("tools", "effects", "resources", "until")
    if unknown := sorted(set(words) - {*parts}):
        raise InvalidInputError(f"a grant's fields are {known(parts)}, not {unknown[0]!r}")
    if missing := [part for part in ("tools", "until") if not words.get(part)]:
        raise InvalidInputError(
            f"a grant needs {missing[0]}=…: it must say what may run unattended, and until when"
        )
    lists = {part: sorted(filter(None, map(str.strip, words.get(part, "").split(",")))) for part in parts[:3]}
    if unknown := sorted({*lists["effects"]} - {"read", "idempotent", "write"}):
        raise InvalidInputError(f"an effect is read, idempotent or write, not {unknown[0]!r}")
    try:
        until = datetime.fromisoformat(words["until"])
    except ValueError as error:
        raise InvalidInputError(f"until={words['until']} is not a date such as 2027-01-31") from error
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    if until <= now:
        raise InvalidInputError(f"until={words['until']} is over")
    effects = lists["effects"] or ["read"]
    return {**lists, "effects": effects, "until": until.isoformat(), "by": dict(by), "at": now.isoformat()}


class Schedules:
    """The schedules of one database.

    Args:
        agent: Submits their runs; needs neither tools nor a model.
    """

    def __init__(self, agent: PlanExecuteAgent) -> None:
        assert isinstance(agent.store, AsyncStore)
        self._agent, self._store = agent, agent.store
        self._redactor = run_redactor()

    @classmethod
    async def of(cls, agent: PlanExecuteAgent) -> Schedules:
        """Return the schedules of an agent's database.

        Raises:
            ConfigurationError: If the database has no queue.
        """
        try:
            await queue_of(agent)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"schedules need a queue, and {error}. Without a queue, a line of cron can start a "
                "plan: 0 7 * * 1  plan-execute run --plan FILE --db PATH --yes --json"
            ) from error
        return cls(agent)

    async def all(self) -> list[Schedule]:
        """List them by name."""
        return sorted((_read(row) for row in await search(self._store, _ROOT)), key=lambda one: one.name)

    async def get(self, name: str) -> Schedule:
        """Return one.

        Raises:
            InvalidInputError: If there is none of this name.
        """
        if (row := await self._store.aget(_ROOT, encode(name))) is None:
            there = [schedule.name for schedule in await self.all()]
            raise InvalidInputError(f"there is no schedule {name!r}; there are {known(there)}")
        return _read(row)

    async def add(self, schedule: Schedule) -> None:
        """Add a new one.

        Raises:
            InvalidInputError: If there is one of this name.
        """
        async with self._held(schedule.name):
            if await self._store.aget(_ROOT, encode(schedule.name)) is not None:
                raise InvalidInputError(f"there is a schedule {schedule.name!r} already: remove it first")
            await self._put(schedule)

    async def pause(self, name: str, now: float, *, paused: bool = True) -> Schedule:
        """Pause or continue its runs; runs that were due meanwhile are skipped."""
        async with self._held(name):
            found = await self.get(name)
            changed = replace(found, paused=paused, due=found.next_after(now), note=None)
            await self._put(changed)
            return changed

    async def remove(self, name: str) -> None:
        """Remove one; its threads stay."""
        async with self._held(name):
            await self.get(name)
            await self._store.adelete(_ROOT, encode(name))

    async def run_now(self, name: str, now: float) -> str:
        """Start a run at once, independent of its times; return its thread."""
        async with self._held(name):
            found = await self.get(name)
            thread = await self._start(found, now)
            await self._put(replace(found, thread=thread, note=None))
            return thread

    async def look(self, now: float) -> None:
        """Start the runs that are due."""
        for schedule in await self.all():
            try:
                async with self._held(schedule.name):
                    await self._put(await self._advance((await self.get(schedule.name)).came_due(now)))
            except ThreadBusyError:
                continue  # Another process is looking at it.
            except PlanExecuteError as error:
                _log.warning("schedule %s: %s", schedule.name, error)

    async def _advance(self, schedule: Schedule) -> Schedule:
        """Start waiting runs, if the last run allows it."""
        while schedule.waiting and not schedule.paused:
            due, *others = schedule.waiting
            later = replace(schedule, waiting=tuple(others), note=None)
            thread = schedule.thread_of(due)
            if schedule.thread not in (None, thread) and await self._is_open(schedule.thread):
                if schedule.overlap == "queue":
                    return schedule
                if schedule.overlap == "skip":
                    note = f"the run of {_shown(due)} was skipped: {schedule.thread} has not ended"
                    schedule = replace(later, note=note)
                    continue
                await cancel_run(self._agent, {"configurable": {"thread_id": schedule.thread}})
            schedule = replace(later, thread=await self._start(schedule, due))
            await self._put(schedule)
        return schedule

    async def _start(self, schedule: Schedule, due: float) -> str:
        thread = schedule.thread_of(due)
        begun = await self._agent.aget_state({"configurable": {"thread_id": thread}})
        # The process that started it died before it recorded that, or before a worker could have it.
        if begun.values:
            is_left = (
                begun.tasks and not begun.interrupts and await queued_thread(self._store, thread) is None
            )
            return await self._submit(schedule, None, thread) if is_left else thread
        plan = schedule.plan
        if schedule.grant is not None:
            # The grant names its plan, so that a later goal on the thread is not covered.
            plan = {**plan, "id": uuid4().hex}
            grant = {**schedule.grant, "schedule": schedule.name, "plan_id": plan["id"]}
            await Ledger(self._store, thread, self._redactor).record_grant(grant)
        return await self._submit(schedule, {"plan": plan, "inputs": schedule.inputs}, thread)

    async def _submit(self, schedule: Schedule, given: Any, thread: str) -> str:
        return await asubmit(self._agent, given, thread, context=schedule.context, priority=schedule.priority)

    async def _is_open(self, thread: str | None) -> bool:
        return bool((await self._agent.aget_state({"configurable": {"thread_id": thread}})).tasks)

    def _held(self, name: str) -> Any:
        saver: Any = self._agent.checkpointer
        return saver.hold_thread(f"plan_execute.schedule:{name}")

    async def _put(self, schedule: Schedule) -> None:
        row = self._redactor.value({k: v for k, v in asdict(schedule).items() if k != "name"})
        await self._store.abatch([put(_ROOT, schedule.name, row)])


def _read(row: Any) -> Schedule:
    fields = load(row)
    return Schedule(decode(row.key), **{**fields, "waiting": tuple(fields["waiting"])})


def _shown(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
