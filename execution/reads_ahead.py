"""Start reads while their plan is still being written.

A bound step that only reads, and whose arguments are known, is called as soon as its line is there; a loop
is called for each item. The step itself uses the output if the valid plan contains exactly this step;
otherwise nobody sees it. Nothing is recorded before that: after a crash the step reads again.

This is done only if no plan with these tools could need approval (see :func:`may_read_ahead`), because people
who review plans also review reads before they are made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.runtime import Runtime

from ..context import needs_approval
from ..errors import UnresolvedReferenceError
from ..langgraph_private import is_of_a_task
from ..plan.references import BadReferenceError, expression_roots, resolve, step_references
from ..run import Run, StepScope, emit
from ..safety.work import Work, within
from ..spending.budget import Tab
from ..state import Plan, Step, agent_grant, steps_by_id
from ..tools.calls import abridged, call_tool, own_call_id
from ..tools.toolbox import Toolbox
from .gate import Slots, StepWithheldError

__all__ = ["ReadsAhead", "finished_ahead", "may_read_ahead"]

Json = Any
_GATES = ("when", "else_of", "if_failed", "confirm")
_Place = tuple[str, int | None]
"""A step, and the position of an item of its loop."""


def may_read_ahead(run: Run, toolbox: Toolbox) -> bool:
    """Tell whether no plan with these tools needs approval under the run's policy, and some tool reads."""
    granted = [*toolbox.names, *map(agent_grant, toolbox.agents)]
    effects = toolbox.effects(granted)
    return "read" in effects and not needs_approval(run.settings.approval, effects)


@dataclass
class _Read:
    """One read that has begun, or waits for a slot."""

    step: Step
    args: dict[str, Json]
    task: asyncio.Task[Json]
    started_at: str | None = None

    @property
    def output(self) -> Json:
        """Its output; only if it :attr:`succeeded`."""
        return self.task.result()

    @property
    def succeeded(self) -> bool:
        return self.task.done() and not self.task.cancelled() and self.task.exception() is None


class ReadsAhead:
    """The reads that the text of one plan has started.

    Args:
        run: The run; its limits apply here.
        toolbox: The tools.
        inputs: Values of ``${inputs.…}``.
        tab: Counts the calls: they belong to the planner until a step uses them.
        config: The planner's.
        runtime: The planner's.

    Attributes:
        slots: Slots shared with the steps, so that both together respect ``max_parallel``.
    """

    def __init__(
        self,
        run: Run,
        toolbox: Toolbox,
        *,
        inputs: Mapping[str, Json],
        tab: Tab,
        config: RunnableConfig,
        runtime: Runtime[Any],
    ) -> None:
        self._run, self._toolbox, self._inputs, self._tab = run, toolbox, inputs, tab
        self._config, self._runtime = _detached(config), runtime
        self.slots = Slots(run.settings.max_parallel)
        self._steps: list[Step] = []
        self._reads: dict[_Place, _Read] = {}
        self._begun = set[str]()
        self._plan_id: str | None = None
        self._open = True

    # --- while the plan is written -------------------------------------------------------

    def hear(self, steps: Iterable[Step]) -> None:
        """Begin all possible reads among the steps written so far."""
        self._steps = self._run.redact(list(steps))
        self._begin()

    def _begin(self) -> None:
        for step in self._steps:
            if step["id"] in self._begun or not self._may_begin(step):
                continue
            try:
                calls = within(Work.at_once(), self._calls, step)
            except (UnresolvedReferenceError, BadReferenceError):
                continue  # The step itself will report the error.
            self._begun.add(step["id"])
            for item, args in calls:
                place = step["id"], item
                task = asyncio.ensure_future(self._read(place, step, args))
                task.add_done_callback(self._ended)
                self._reads[place] = _Read(step, args, task)

    def _calls(self, step: Step) -> Sequence[tuple[int | None, dict[str, Json]]]:
        """List the arguments of the calls of a step and their items' positions, up to the limit."""
        values, args = self._values(), step["call"]["args"]
        more = max(0, self._run.settings.step_limit(by_model=True) - len(self._reads))
        if "for_each" not in step:
            return [(None, resolve(args, values))][:more]
        items = resolve(step["for_each"], values)
        if not isinstance(items, list):
            return []
        scopes = ({**values, "item": item, "index": index} for index, item in enumerate(items[:more]))
        return [(scope["index"], resolve(args, scope)) for scope in scopes]

    def _may_begin(self, step: Step) -> bool:
        if not self._open or self._must_wait():
            return False
        if "call" not in step or not step.keys().isdisjoint(_GATES):
            return False
        if self._toolbox.effect(step["call"]["tool"]) != "read":
            return False
        try:
            needed = _needed(step)
        except BadReferenceError:
            return False
        loop = {"item", "index"} if "for_each" in step else set()
        return needed - loop <= {*self._values(), "inputs"}

    def _must_wait(self) -> bool:
        """Tell whether the run may start nothing new now."""
        return self._run.stop.is_set() or self._run.soft_limit() is not None

    def _values(self) -> dict[str, Json]:
        """Values for references: outputs that no check can refuse any more, and the inputs."""
        outputs = {
            step_id: read.output
            for (step_id, item), read in self._reads.items()
            if item is None
            and read.succeeded
            and not {"success_criteria", "output_schema"} & read.step.keys()
        }
        return {**outputs, "inputs": dict(self._inputs)}

    async def _read(self, place: _Place, step: Step, args: dict[str, Json]) -> Json:
        run, name = self._run, step["call"]["tool"]
        async with self.slots.take(0.0), asyncio.timeout(_time_limit(run)):
            await self._toolbox.check_arguments(name, args)
            if self._must_wait():
                raise StepWithheldError("nothing new may start")
            self._tab.tool_call()
            self._reads[place].started_at = run.timestamp()  # From here on, it is made if it is kept.
            await self._tab.keep()
            told = abridged(args, run.settings.max_inline_bytes)
            emit(self._runtime, run, "read_ahead", step_id=step["id"], tool=name, args=told, item=place[1])
            return await call_tool(
                self._toolbox.exact(name),
                args,
                call_id=own_call_id(step["id"], 1, place[1]),
                config=self._config,
                runtime=self._runtime,
                redactor=run.redactor,
            )

    def _ended(self, task: asyncio.Task[Json]) -> None:
        # This reads the exception, so that asyncio does not report it: the step makes the call again.
        if not task.cancelled() and task.exception() is None:
            self._begin()

    # --- when it is written --------------------------------------------------------------

    def keep(self, plan: Plan) -> None:
        """Begin nothing more, and drop reads that this plan does not contain or that have not begun."""
        self._open, self._plan_id = False, plan["id"]
        steps, dropped = steps_by_id(plan), set[str]()
        for place, read in list(self._reads.items()):  # Each comes after those that it needs.
            held = steps.get(place[0])
            is_same = held is not None and _same_work(held, read.step) and not dropped & _needed(read.step)
            if read.started_at is None or not is_same:
                dropped.add(place[0])
                read.task.cancel()
                del self._reads[place]

    async def drop(self) -> None:
        """Cancel all reads that no step has taken."""
        self._open = False
        tasks = {read.task for read in self._reads.values()}
        self._reads.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    # --- when a step runs ----------------------------------------------------------------

    async def ended(
        self, plan_id: str, step_id: str, stop: asyncio.Future[None], item: int | None = None
    ) -> None:
        """Wait until the read of a step or item has ended, if there is one, or the run is told to stop.

        A step waits here before it takes a slot, because its read holds one.
        """
        read = self._reads.get((step_id, item)) if plan_id == self._plan_id else None
        if read is not None and not read.task.done():
            await asyncio.wait({read.task, stop}, return_when=asyncio.FIRST_COMPLETED)

    def take(self, scope: StepScope, tool: str, args: Mapping[str, Json]) -> _Read | None:
        """Return the read for the first attempt of a step or item, once, for this call."""
        if scope.plan_id != self._plan_id or scope.attempt != 1:
            return None
        read = self._reads.pop((scope.step_id, scope.item), None)
        if read is None:
            return None
        if read.succeeded and (read.step["call"]["tool"], read.args) == (tool, args):
            return read
        read.task.cancel()
        return None


def finished_ahead(scope: StepScope, tool: str, args: Mapping[str, Json]) -> tuple[Json] | None:
    """Return, in a tuple of one, the output of the step's call if it was made early."""
    ahead: ReadsAhead | None = scope.run.ahead
    read = ahead.take(scope, tool, args) if ahead is not None else None
    if read is None:
        return None
    scope.begun_at = read.started_at
    return (read.output,)


def _needed(step: Step) -> set[str]:
    """Collect the names and steps that a step refers to or waits for."""
    roots = {root for _, said in step_references(step) for root in expression_roots(said)}
    return {*roots, *step["depends_on"]}


def _same_work(step: Step, other: Step) -> bool:
    """Tell whether both make the same calls, and neither waits for something that the other does not."""
    return all(step.get(part) == other.get(part) for part in ("call", "for_each", *_GATES, "depends_on"))


def _time_limit(run: Run) -> float | None:
    limits = (run.settings.step_timeout_s, run.meter.seconds_left())
    return min((limit for limit in limits if limit is not None), default=None)


def _detached(config: RunnableConfig) -> RunnableConfig:
    """Remove what belongs to the planner's task: it ends before the reads do, and asks no questions."""
    configurable = {
        key: value for key, value in config.get("configurable", {}).items() if not is_of_a_task(key)
    }
    return {**config, "configurable": configurable}
