"""A run as a person follows it: events go in, rows come out; it knows no terminal.

It reads nothing but the events of :mod:`plan_execute.events` (and, where a thread goes on that
was begun earlier, the ``plan`` and ``results`` of its state), so that any other client could do the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from ..plan.dag import topological_order
from ..safety.terminal_text import one_line
from ..tools.texts import preview, shortened

__all__ = ["Folded", "LivePlan", "Row", "fold"]

Event = Mapping[str, Any]
Path = tuple[str, ...]
State = Literal["pending", "running", "asking", "stopped", "done", "failed", "skipped", "blocked"]

_STOPPING = "stopping (Ctrl-C again: at once)"

_DETAIL = 300
"""Characters of a detail that are worth measuring: no window shows more."""


# --- steps and plans ---------------------------------------------------------------------


@dataclass
class _Step:
    """One step: where it stands, and what it is doing."""

    id: str
    depends_on: Sequence[str] = ()
    task: str = ""
    depth: int = 0
    state: State = "pending"
    verdict: str | None = None
    attempt: int = 0
    progress: tuple[int, int] | None = None
    failed_items: int = 0
    calls: dict[str, tuple[str, Any]] = field(default_factory=dict)
    trouble: str = ""
    error: str = ""
    is_new: bool = False
    began: float | None = None
    began_at: str = ""
    took: float | None = None
    ended: int = 0

    @property
    def is_over(self) -> bool:
        return self.state in ("done", "failed", "skipped", "blocked")

    def begin(self, now: float, at: str) -> None:
        """Set it going, unless it is."""
        if self.state != "running":
            self.state = "running"
            self.began = now if self.began is None else self.began
            self.began_at = self.began_at or at


@dataclass
class _Plan:
    """The steps of a plan, in an order in which they can run."""

    steps: dict[str, _Step] = field(default_factory=dict)
    revision: int | None = None
    goal: str = ""
    dropped: list[str] = field(default_factory=list)

    def step(self, step_id: str) -> _Step:
        """Return a step; one that is not known yet (its plan was validated earlier) is added."""
        return self.steps.setdefault(step_id, _Step(step_id))

    def take(self, plan: Mapping[str, Any]) -> None:
        """Show this revision; what is known of steps that it keeps stays."""
        before, self.steps = self.steps, {}
        is_revision = bool(before) and plan.get("revision") != self.revision
        for step in _in_order(plan["steps"]):
            shown = before.get(step["id"]) or _Step(step["id"], is_new=is_revision)
            shown.depends_on = tuple(step.get("depends_on", ()))
            shown.task = step.get("task") or ""
            above = [self.steps[name].depth + 1 for name in shown.depends_on if name in self.steps]
            shown.depth = max(above, default=0)
            self.steps[shown.id] = shown
        self.revision, self.goal = plan.get("revision"), str(plan.get("goal") or "")
        if is_revision:
            gone = [shown for name, shown in before.items() if name not in self.steps]
            self.dropped = [f"{s.id} (failed)" if s.state == "failed" else s.id for s in gone]

    def waits_for(self, step: _Step) -> list[str]:
        """Name what a step still needs."""
        ready = ("done", "skipped")
        return [n for n in step.depends_on if n in self.steps and self.steps[n].state not in ready]


def _in_order(steps: Sequence[Any]) -> Sequence[Any]:
    try:
        return topological_order(steps)
    except ValueError:  # a person's edit may contain a cycle until it is fixed
        return steps


# --- rows --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One line of the tree, in parts.

    Attributes:
        indent: How deep it stands.
        state: What its mark and colour say.
        name: The step's id.
        detail: What it does, waits for, or came to; one line, harmless for a terminal.
        seconds: How long it takes, or took.
        ended: Its place in the order of endings, from 1; 0 while it is not over.
        verdict: How its output was found, if it was.
        is_error: Whether the detail is an error, whose end says most.
    """

    indent: int
    state: State
    name: str
    detail: str = ""
    seconds: float | None = None
    ended: int = 0
    verdict: str | None = None
    is_error: bool = False


@dataclass(frozen=True)
class Folded:
    """What fits a window: rows, and in words what was left out above and below them."""

    rows: list[Row]
    above: str = ""
    below: str = ""


def fold(rows: Sequence[Row], room: int) -> Folded:
    """Leave rows out until they fit: what ended first, then what waits, then the rest from its end.

    Args:
        rows: All of them, in order.
        room: Lines there are, the lines that say what was left out included.
    """
    if len(rows) <= room:
        return Folded(list(rows))
    order, too_many = _hiding_order(rows), len(rows) - room
    for count in range(too_many, too_many + 3):  # what is left out takes a line or two itself
        hidden = set(order[:count])
        above, below = _without(rows, hidden)
        if above and below and room < _TWO_FOLDS:
            above, below = "", f"{above}, {below}"
        if len(rows) - len(hidden) + bool(above) + bool(below) <= room:
            break
    return Folded([row for at, row in enumerate(rows) if at not in hidden], above, below)


_TWO_FOLDS = 5
"""Lines from which on there is room to say above and below what was left out."""


def _hiding_order(rows: Sequence[Row]) -> list[int]:
    quiet = [at for at, row in enumerate(rows) if row.state in ("done", "skipped")]
    quiet.sort(key=lambda at: rows[at].ended)
    waiting = [at for at, row in enumerate(rows) if row.state in ("pending", "blocked")]
    loud = [at for at, row in enumerate(rows) if row.state in ("failed", "stopped")]
    active = [at for at, row in enumerate(rows) if row.state in ("running", "asking")]
    return [*quiet, *reversed(waiting), *loud, *reversed(active)]


_COUNTED: dict[State, str] = {
    "done": "done",
    "skipped": "skipped",
    "running": "running",
    "asking": "waiting for you",
    "failed": "failed",
    "stopped": "stopped",
    "blocked": "blocked",
    "pending": "waiting",
}


def _without(rows: Sequence[Row], hidden: Iterable[int]) -> tuple[str, str]:
    """Say how many are left out, by state: what is over, and what is not."""
    counts: dict[State, int] = {}
    for at in hidden:
        counts[rows[at].state] = counts.get(rows[at].state, 0) + 1
    said = {state: f"{counts[state]} {word}" for state, word in _COUNTED.items() if state in counts}
    above = [said.pop(state) for state in ("done", "skipped") if state in said]
    return ", ".join(above), ", ".join(said.values())


# --- the model ---------------------------------------------------------------------------


class LivePlan:
    """What a person sees of a run.

    Attributes:
        phase: What goes on between the steps, in a word or two; "" while steps run.
        changes: Counts the events; when it has grown, the view must be drawn again.
        questions: Names of the questions that are open, by id.
        warnings: Soft limits that were reached, by budget.
        approved: The plan that was approved last; None before.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._plans: dict[Path, dict[str, _Plan]] = {}
        self._current: Mapping[str, Any] | None = None
        self._spent: Mapping[str, Any] = {}
        self._told = clock()
        self._over = False
        self._endings = 0
        self._just_extended = False
        self.phase = "planning"
        self.changes = 0
        self.questions: dict[str, str] = {}
        self.warnings: dict[str, str] = {}
        self.approved: Mapping[str, Any] | None = None

    # --- what goes in --------------------------------------------------------------------

    def seed(self, values: Mapping[str, Any]) -> None:
        """Take up a thread that was begun earlier, from the values of its state."""
        plan = values.get("plan")
        if not plan:
            return
        root = self._root_for(str(plan.get("id")))
        root.take(plan)
        self._current, self.phase = plan, ""
        for step_id, result in (values.get("results") or {}).items():
            if step_id in root.steps:
                self._end(root.steps[step_id], result, _seconds(result["started_at"], result["finished_at"]))

    def go_on(self) -> None:
        """The run goes on after questions, or from where it was stopped."""
        # The warning that led to the question is told once more when its node is entered with the answer.
        self._just_extended = "extend_budget" in self.questions.values()
        self.questions.clear()
        self.warnings.clear()  # a budget that is still low is reported again
        self.phase = "" if self.phase == "waiting for you" else self.phase
        self._over, self._told = False, self._clock()
        for plan in self._every_plan():
            for step in plan.steps.values():
                if step.state in ("asking", "stopped"):
                    step.state = "running"
        self.changes += 1

    def stopping(self) -> None:
        """The run was told to stop, and does as soon as it can."""
        self.phase = _STOPPING
        self.changes += 1

    def stop(self) -> None:
        """The run has ended, or was stopped: nothing runs any more."""
        for plan in self._every_plan():
            for step in plan.steps.values():
                if step.state == "running":
                    step.took = self._clock() - step.began if step.began is not None else None
                    step.state, step.calls = "stopped", {}
        self._spent = {**self._spent, "seconds": self.seconds}
        self.phase = "stopped" if self.phase == _STOPPING else self.phase
        self._over = True
        self.changes += 1

    def apply(self, event: Any) -> None:
        """Take an event in; what is no event of ours is skipped."""
        kind = event.get("type") if isinstance(event, Mapping) else None
        if not isinstance(kind, str) or "spent" not in event:
            return
        self._spent, self._told = event["spent"], self._clock()
        self.changes += 1
        if (about_step := _OF_STEPS.get(kind)) and event["step_id"]:
            about_step(self, self._step_of(event), event)
        elif about_run := _OF_RUNS.get(kind):
            about_run(self, event)

    def _step_of(self, event: Event) -> _Step:
        path = tuple(event["within"])
        plans = self._plans.setdefault(path, {})
        return plans.setdefault(str(event["plan_id"]), _Plan()).step(event["step_id"])

    def _root_for(self, plan_id: str) -> _Plan:
        """Return the thread's plan; another id is another goal, and nothing of the one before is shown."""
        if plan_id not in self._plans.get((), {}):
            self._plans = {(): {plan_id: _Plan()}}
        return self._plans[()][plan_id]

    def _every_plan(self) -> Iterator[_Plan]:
        for plans in self._plans.values():
            yield from plans.values()

    # --- events of steps -----------------------------------------------------------------

    def _started(self, step: _Step, event: Event) -> None:
        self._just_extended = False
        step.task = step.task or event["task"]
        step.begin(self._clock(), event["at"])

    def _attempted(self, step: _Step, event: Event) -> None:
        step.begin(self._clock(), event["at"])
        step.attempt, step.calls = event["attempt"], {}
        # A new attempt at a sub-plan plans it anew.
        below = (*event["within"], event["step_id"])
        for path in [path for path in self._plans if path[: len(below)] == below]:
            del self._plans[path]

    def _called(self, step: _Step, event: Event) -> None:
        step.begin(self._clock(), event["at"])
        step.calls[event["call_id"]] = (event["tool"], event["args"])
        step.trouble = ""

    def _returned(self, step: _Step, event: Event) -> None:
        step.calls.pop(event["call_id"], None)
        if not event["ok"]:
            step.trouble = f"{event['tool']} failed: {event['output_preview']}"

    def _progressed(self, step: _Step, event: Event) -> None:
        step.begin(self._clock(), event["at"])
        step.progress = (event["done"], event["total"])
        step.failed_items += not event["ok"]

    def _finished(self, step: _Step, event: Event) -> None:
        self._end(step, event, _seconds(step.began_at, event["at"]))

    def _end(self, step: _Step, result: Mapping[str, Any], took: float | None) -> None:
        self._endings += 1
        step.state, step.verdict, step.took = result["status"], result["verdict"], took
        step.error = result["error"]["message"] if result["error"] else ""
        step.attempt, step.calls, step.ended = result["attempts"], {}, self._endings

    def _asked(self, step: _Step, event: Event) -> None:
        self.questions[event["question_id"]] = event["question"]
        step.begin(self._clock(), event["at"])
        step.state, step.trouble = "asking", event["question"]

    # --- events of the run ---------------------------------------------------------------

    def _validated(self, event: Event) -> None:
        plan = event.get("plan")
        if event["issues"] or plan is None:
            self._say(event, "repairing the plan")
            return
        path = tuple(event["within"])
        if path:
            self._plans.setdefault(path, {}).setdefault(plan["id"], _Plan()).take(plan)
            return
        self._root_for(plan["id"]).take(plan)
        self._current, self.phase = plan, ""

    def _approved(self, event: Event) -> None:
        if not event["within"]:
            self.approved, self.phase = self._current, ""

    def _warned(self, event: Event) -> None:
        if not self._just_extended:
            self.warnings[event["budget"]] = f"{event['used']:,g} of {event['limit']:,g} used"

    def _asked_about_plan(self, event: Event) -> None:
        self.questions[event["question_id"]] = event["question"]
        self._say(event, "waiting for you")
        if path := tuple(event["within"]):
            for plan in self._plans.get(path[:-1], {}).values():
                if path[-1] in plan.steps:
                    self._asked(plan.steps[path[-1]], event)

    def _evaluated(self, event: Event) -> None:
        decided = {"patch": "revising the plan", "replan": "revising the plan", "abort": "giving up"}
        self._say(event, decided.get(event["decision"], "looking at the results"))

    def _ended_run(self, event: Event) -> None:
        self._say(event, event["status"])

    def _say(self, event: Event, phase: str) -> None:
        if not event["within"]:
            self.phase = phase

    # --- what comes out ------------------------------------------------------------------

    @property
    def goal(self) -> str:
        """What the plan is for; "" before there is one."""
        return one_line(preview(str((self._current or {}).get("goal") or ""), _DETAIL))

    @property
    def seconds(self) -> float:
        """How long the goal has taken so far, over all its runs."""
        since = 0.0 if self._over else self._clock() - self._told
        return float(self._spent.get("seconds", 0)) + since

    def facts(self) -> list[str]:
        """Say how far it is and what it has spent, the most important first."""
        steps = [step for plan in self._plans.get((), {}).values() for step in plan.steps.values()]
        done = sum(step.state == "done" for step in steps)
        calls, tokens = self._spent.get("model_calls", 0), self._spent.get("total_tokens", 0)
        revision = next((plan.revision for plan in self._plans.get((), {}).values()), None) or 1
        return [
            *([self.phase] if self.phase else []),
            *([f"{done} of {len(steps)} steps"] if steps else []),
            say_seconds(self.seconds, whole=True),
            *([f"{tokens:,} tokens"] if tokens else []),
            *([f"${self._spent['cost']:.4f}"] if self._spent.get("cost") else []),
            *([f"{calls} model call{'' if calls == 1 else 's'}"] if calls else []),
            *([f"revision {revision}"] if revision > 1 else []),
        ]

    def rows(self) -> list[Row]:
        """List the steps in an order in which they can run, those of sub-plans below theirs."""
        return [row for plan in self._plans.get((), {}).values() for row in self._rows_of(plan, (), 0)]

    def notes(self) -> list[tuple[str, str]]:
        """Say what concerns the whole plan, each with its mark: what a revision dropped, and low budgets."""
        revised = [plan for plan in self._plans.get((), {}).values() if plan.dropped]
        return [
            *(("−", one_line(f"revision {p.revision} dropped {', '.join(p.dropped)}")) for p in revised),
            *(("!", one_line(f"budget {name}: {used}")) for name, used in self.warnings.items()),
        ]

    def _rows_of(self, plan: _Plan, path: Path, indent: int) -> Iterator[Row]:
        for step in list(plan.steps.values()):
            depth = indent + step.depth
            yield self._row(plan, step, depth)
            if not step.is_over:
                below = (*path, step.id)
                for nested in self._plans.get(below, {}).values():
                    yield from self._rows_of(nested, below, depth + 1)

    def _row(self, plan: _Plan, step: _Step, indent: int) -> Row:
        running = step.began is not None and step.state == "running"
        seconds = self._clock() - step.began if running and step.began is not None else step.took
        detail = one_line(shortened(_DETAILS[step.state](plan, step), _DETAIL))
        is_error = step.state == "failed" or (step.state == "running" and bool(step.trouble))
        return Row(indent, step.state, one_line(step.id), detail, seconds, step.ended, step.verdict, is_error)


_OF_STEPS: dict[str, Callable[[LivePlan, _Step, Event], None]] = {
    "step_started": LivePlan._started,
    "step_attempt": LivePlan._attempted,
    "tool_call": LivePlan._called,
    "tool_finished": LivePlan._returned,
    "step_progress": LivePlan._progressed,
    "step_finished": LivePlan._finished,
    "question_open": LivePlan._asked,
}
_OF_RUNS: dict[str, Callable[[LivePlan, Event], None]] = {
    "plan_created": lambda model, event: model._say(event, "checking the plan"),
    "plan_continued": lambda model, event: model._say(event, "checking the plan"),
    "replanned": lambda model, event: model._say(event, "checking the revision"),
    "plan_validated": LivePlan._validated,
    "plan_approved": LivePlan._approved,
    "plan_edited": lambda model, event: model._say(event, "checking the plan"),
    "plan_rejected": lambda model, event: model._say(event, "planning again"),
    "evaluated": LivePlan._evaluated,
    "budget_warning": LivePlan._warned,
    "question_open": LivePlan._asked_about_plan,
    "synthesized": LivePlan._ended_run,
}


# --- the words of a row ------------------------------------------------------------------


def say_seconds(seconds: float, *, whole: bool = False) -> str:
    """Say a time in at most six characters or so: ``3.2s``, ``42s``, ``2m05s``, ``1h02m``."""
    if seconds < 60:
        return f"{int(seconds)}s" if whole or seconds >= 10 else f"{seconds:.1f}s"
    minutes = int(seconds) // 60
    return f"{minutes}m{int(seconds) % 60:02}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02}m"


def _seconds(began_at: str | None, ended_at: str | None) -> float | None:
    if not began_at or not ended_at:
        return None
    return (datetime.fromisoformat(ended_at) - datetime.fromisoformat(began_at)).total_seconds()


def _how_far(step: _Step) -> list[str]:
    """Say the attempt and the items, where they say something."""
    words = [f"attempt {step.attempt}"] if step.attempt > 1 else []
    if step.progress:
        failed = f" ({step.failed_items} failed)" if step.failed_items else ""
        words.append(f"{step.progress[0]}/{step.progress[1]}{failed}")
    return words


def _pending(plan: _Plan, step: _Step) -> str:
    needed = plan.waits_for(step)
    words = ["new"] if step.is_new else []
    words += [f"waits for {', '.join(needed)}"] if needed else []
    return "; ".join(words) or step.task


def _running(_: _Plan, step: _Step) -> str:
    words = _how_far(step)
    if step.calls:
        tool, args = next(reversed(step.calls.values()))
        more = f" and {len(step.calls) - 1} more" if len(step.calls) > 1 else ""
        words.append(f"{tool}({_arguments(args)}){more}")
    else:
        words.append(step.trouble or step.task)
    return " · ".join(word for word in words if word)


def _arguments(args: Any) -> str:
    """Write arguments as short as they can be read: the value alone, where there is but one."""
    if not isinstance(args, Mapping):
        return preview(args, 120)
    if len(args) == 1:
        return preview(next(iter(args.values())), 120)
    return ", ".join(f"{name}={preview(value, 60)}" for name, value in args.items())


def _done(_: _Plan, step: _Step) -> str:
    return " · ".join([_VERDICTS.get(step.verdict or "", step.verdict or "done"), *_how_far(step)])


_VERDICTS = {"met": "met", "met_empty": "met, empty", "unverified": "unverified"}

_DETAILS: dict[State, Callable[[_Plan, _Step], str]] = {
    "pending": _pending,
    "running": _running,
    "asking": lambda _, step: f"waits for you ({step.trouble})",
    "stopped": lambda _, step: " · ".join(["stopped", *_how_far(step)]),
    "done": _done,
    "failed": lambda _, step: " · ".join([*_how_far(step), step.error or "failed"]),
    "skipped": lambda _, step: f"skipped: {step.error}" if step.error else "skipped",
    "blocked": lambda plan, step: f"blocked by {', '.join(plan.waits_for(step)) or 'what it needs'}",
}
