"""What goes on across threads: which there are, what each waits for, and which one is meant."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..tools.texts import preview, shortened
from .exits import BadUsageError
from .terminal import Screen

if TYPE_CHECKING:
    from ..storage.latest import ThreadSource
    from .sources import Sources

__all__ = [
    "Entry",
    "Wanted",
    "can_go_on",
    "entries",
    "inbox_lines",
    "list_lines",
    "overview_lines",
    "the_thread",
    "window_width",
]


@dataclass(frozen=True)
class Entry:
    """One thread, as a list shows it.

    Attributes:
        thread: Its id.
        at: When it did something last (ISO 8601, UTC).
        status: Its status; ``stopped`` where it has not ended and nobody runs it.
        goal: What it is for.
        overdue: Whether nobody answered one of its questions in time.
        reason: What keeps the workers from it.
        done: How many of its steps are done.
        steps: How many it has.
        started_at: When its first decision was made (ISO 8601, UTC).
        cost: What it has cost, where there are prices.
        questions: What it waits for: ``id``, ``name``, ``asks``.
    """

    thread: str
    at: str
    status: str
    goal: str
    overdue: bool = False
    reason: str | None = None
    done: int = 0
    steps: int = 0
    started_at: str | None = None
    cost: float | None = None
    questions: tuple[dict[str, str], ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Describe it for a program."""
        return {**asdict(self), "questions": list(self.questions)}

    @property
    def shown_status(self) -> str:
        """The status, or that the time to answer has passed."""
        return "overdue" if self.overdue else self.status

    @property
    def progress(self) -> str:
        """How many of its steps are done."""
        return f"{self.done}/{self.steps}" if self.steps else "-"


@dataclass(frozen=True)
class Wanted:
    """Which threads a list shows; an empty field excludes none."""

    statuses: frozenset[str] = frozenset()
    goal: str = ""
    since: datetime | None = None
    started: datetime | None = None
    cost: float | None = None

    @property
    def is_all(self) -> bool:
        """Whether no thread is left out."""
        return self == ALL

    def takes(self, entry: Entry) -> bool:
        """Tell whether a list shows this thread."""
        return (
            (not self.statuses or bool(self.statuses & {entry.status, entry.shown_status}))
            and self.goal.lower() in entry.goal.lower()
            and (self.started is None or _time(entry.started_at or entry.at) >= self.started)
            and (self.cost is None or (entry.cost is not None and entry.cost >= self.cost))
        )


ALL = Wanted()


def entries(
    agent: ThreadSource, wanted: Wanted = ALL, threads: Iterable[tuple[str, str]] | None = None
) -> Iterator[Entry]:
    """Describe the threads that are wanted, newest first."""
    from ..storage.thread_names import list_threads

    for thread, at in threads if threads is not None else list_threads(agent.checkpointer):
        if wanted.since is not None and _time(at) < wanted.since:
            return
        entry = _entry(agent, thread, at)
        if wanted.takes(entry):
            yield entry


def _entry(agent: ThreadSource, thread: str, at: str) -> Entry:
    from ..state import begun_at
    from .commands_worker import queued_now, queued_status, what_keeps
    from .views import asked, look_up, open_questions, overdue_questions, results_of

    snapshot, queued = look_up(agent, thread), queued_now(agent, thread)
    values, results = snapshot.values, results_of(snapshot)
    steps = (values.get("plan") or {}).get("steps") or ()
    return Entry(
        thread=thread,
        at=at,
        status=queued_status(agent, queued, snapshot),
        goal=str(values.get("goal") or (values.get("plan") or {}).get("goal") or ""),
        overdue=bool(overdue_questions(snapshot)),
        reason=what_keeps(agent, queued),
        done=sum(result["status"] == "done" for result in results.values()),
        steps=len(steps),
        started_at=begun_at(values),
        cost=(values.get("usage") or {}).get("cost"),
        questions=tuple(
            {"id": one.id, "name": one.name, "asks": asked(one)} for one in open_questions(snapshot)
        ),
    )


# --- which thread is meant --------------------------------------------------------------

_OFFERED = 5


def can_go_on(entry: Entry) -> bool:
    """Tell whether `resume` has something to do for a thread."""
    return bool(entry.questions) or entry.status == "stopped"


def the_thread(
    screen: Screen,
    sources: Sources,
    named: str | None,
    command: str,
    fits: Callable[[Entry], bool] = lambda _: True,
) -> str:
    """Return the thread that was named; without a name, let the person choose one of the last ones.

    Args:
        screen: Where the person is, if there is one.
        sources: Where the threads are.
        named: What the command line says.
        command: The command, for messages.
        fits: Which threads the command can do something with.

    Raises:
        BadUsageError: If there is no name and nobody to ask; the message names the last threads.
        ThreadNotFoundError: If there is no thread at all.
    """
    if named is not None:
        return named
    from .sources import open_threads

    with open_threads(sources, existing=True) as agent:
        last = list(islice((entry for entry in entries(agent) if fits(entry)), _OFFERED))
    if not last:
        raise BadUsageError(f"no thread is there to {command}; `plan-execute list` names all")
    listed = list_lines(last, window_width(), now=datetime.now(UTC))
    if not screen.interactive:
        raise BadUsageError("\n".join([f"say which thread to {command}. The last ones:", *listed]))
    return _chosen(screen, last, command)


def _chosen(screen: Screen, last: Sequence[Entry], command: str) -> str:
    now = datetime.now(UTC)
    width = window_width() or 100
    for number, entry in enumerate(last, start=1):
        screen.note(_cut(f"  {number}  {_told(entry, now)}", width))
    while (said := screen.ask_line(f"Which one to {command}? [1-{len(last)}, empty: 1]")) is not None:
        if said in ("", *(str(number + 1) for number in range(len(last)))):
            return last[int(said or 1) - 1].thread
        if named := [entry.thread for entry in last if entry.thread.startswith(said)]:
            return named[0]
        screen.note(f"Please type a number from 1 to {len(last)}.")
    raise BadUsageError(f"no thread was chosen to {command}")


def _told(entry: Entry, now: datetime) -> str:
    asks = f" · {_asks(entry)}" if entry.questions else ""
    goal = preview(" ".join(entry.goal.split()), 40)
    return f"{entry.thread}  {goal} · {entry.shown_status} {entry.progress} · {_ago(entry.at, now)}{asks}"


# --- as text ----------------------------------------------------------------------------

_NARROW = 80
"""Columns below which a thread takes two lines."""


def list_lines(
    found: Sequence[Entry], width: int | None, *, now: datetime, headings: bool = False
) -> Iterator[str]:
    """Write threads in aligned columns, each in one line; in a narrow window in two.

    Args:
        found: The threads.
        width: Columns of the window; None: there is none, and nothing is shortened but the goal.
        now: For times such as "5 min ago", which a window shows.
        headings: Whether a line of headings comes first.
    """
    when = [entry.at[:16].replace("T", " ") if width is None else _ago(entry.at, now) for entry in found]
    rows: list[tuple[str, ...]] = [
        (entry.thread, time, entry.shown_status, entry.progress)
        for entry, time in zip(found, when, strict=True)
    ]
    names: tuple[str, ...] = ("THREAD", "LAST", "STATUS", "STEPS")
    if any(entry.cost is not None for entry in found):
        names = (*names, "COST")
        costs = ["-" if entry.cost is None else f"{entry.cost:.4g}" for entry in found]
        rows = [(*row, cost) for row, cost in zip(rows, costs, strict=True)]
    sizes = [max(map(len, column)) for column in zip(*rows, *([names] if headings else []), strict=True)]
    narrow = width is not None and width < _NARROW
    if headings:
        yield _columns(names, sizes) + ("" if narrow else "  GOAL")
    for row, entry in zip(rows, found, strict=True):
        line, goal, asks = _columns(row, sizes), " ".join(entry.goal.split()), _asks(entry)
        if width is None:  # one line for each, for programs that count or search lines
            yield f"{line}  {preview(goal, 80)}{f'  ? {asks}' if asks else ''}".rstrip()
        elif narrow:
            yield line.rstrip()
            yield f"  {_cut(goal, width - 2)}"
        else:
            yield f"{line}  {_cut(goal, width - len(line) - 2)}".rstrip()
        below = [f"? {asks}"] if asks and width is not None else []
        below += [shortened(" ".join(entry.reason.split()), 300)] if entry.reason else []
        yield from (f"    {said if width is None else _cut_inside(said, width - 4)}" for said in below)


def _asks(entry: Entry) -> str:
    """Say what a thread waits for; empty: nothing."""
    if not entry.questions:
        return ""
    more = f" (and {len(entry.questions) - 1} more)" if len(entry.questions) > 1 else ""
    return entry.questions[0]["asks"] + more


def _columns(cells: Sequence[str], sizes: Sequence[int]) -> str:
    return "  ".join(cell.ljust(size) for cell, size in zip(cells, sizes, strict=True))


def _cut(text: str, width: int) -> str:
    from .cells import cut

    return cut(text, width)


def _cut_inside(text: str, width: int) -> str:
    """Shorten what may be an error, which says most at its end."""
    from .cells import cut_in_the_middle

    return cut_in_the_middle(text, width)


def inbox_lines(waiting: Sequence[Entry], way: Callable[[str], str], *, now: datetime) -> Iterator[str]:
    """Write what waits for a person, and how to answer it."""
    for entry in waiting:
        goal = preview(" ".join(entry.goal.split()), 70)
        yield f"{entry.thread}  {goal}  ({_ago(entry.at, now)})"
        yield from (f"  ? {question['asks']}" for question in entry.questions)
        yield f"  {way(entry.thread)}"


def overview_lines(
    found: Sequence[Entry], way: Callable[[str], str], *, width: int, now: datetime
) -> Iterator[str]:
    """Say what waits, what runs, what stopped, what ended last, and what to do next."""
    groups: Mapping[str, Callable[[Entry], bool]] = {
        "Waiting for you": lambda entry: bool(entry.questions),
        "Running": lambda entry: entry.status in ("planning", "running", "queued"),
        "Stopped before the end": lambda entry: entry.status in ("stopped", "parked"),
        "Ended": lambda entry: entry.status in ("done", "partial", "failed", "rejected"),
    }
    rest = list(found)
    for title, belongs in groups.items():
        members = [entry for entry in rest if belongs(entry)]
        rest = [entry for entry in rest if entry not in members]
        if members:
            shown = members[: _OFFERED - 2 if title == "Ended" else _OFFERED]
            yield f"{title}{f' ({len(members)})' if len(members) > len(shown) else ''}"
            yield from (f"  {line}" for line in list_lines(shown, width - 2, now=now))
            yield ""
    yield from _next(found, way, width)


def _next(found: Sequence[Entry], way: Callable[[str], str], width: int) -> Iterator[str]:
    """Name what is to be done next, the most pressing first."""
    yield "Next"
    steps = dict(_steps_next(found, way))
    room = max(map(len, steps))
    narrow = room + max(map(len, steps.values())) + 4 > width
    for command, what in steps.items():
        yield from (f"  {command}", f"    {what}") if narrow else (f"  {command:<{room}}  {what}",)


def _steps_next(found: Sequence[Entry], way: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    if waiting := [entry for entry in found if entry.questions]:
        yield way(waiting[-1].thread), "answer the question that waits longest"
    if stopped := [entry for entry in found if entry.status == "stopped"]:
        yield way(stopped[0].thread), "go on with what stopped"
    if not found:
        yield "plan-execute demo tour", "see how it works; needs no key"
        yield "plan-execute run FILE.yaml", "run a plan"
        yield "plan-execute run 'GOAL' --model M", "let a model plan and run a goal"
    elif not waiting:
        yield f"plan-execute show {found[0].thread}", "look at the last run"
        yield f"plan-execute report {found[0].thread} -o report.html", "what happened in it, as a page"
    yield "plan-execute --help", "all commands"


def _time(at: str) -> datetime:
    return datetime.fromisoformat(at) if at else datetime.min.replace(tzinfo=UTC)


def _ago(at: str, now: datetime) -> str:
    """Say how long ago something was, in at most ten characters or so."""
    if not at:
        return "-"
    seconds = max((now - _time(at)).total_seconds(), 0)
    if seconds < 60:
        return "just now"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return "just now"


def window_width() -> int | None:
    """Return the columns of the window; None: the output goes to no window."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
