"""Looks after each step whether the goal is reached, so that what is left need not run."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.runnables import RunnableConfig

from ..evaluation.criteria import Judge
from ..evaluation.goal import GoalCheck, check_goal, done_results
from ..evaluation.judge import make_judge
from ..models.chat import ChatModels
from ..run import Run
from ..state import Evidence, Plan, State, StepResult, Usage, add_usage
from ..tracing.marks import plan_marks, with_marks

__all__ = ["GoalWatch", "goal_watch"]


def goal_watch(state: State, run: Run, models: ChatModels, config: RunnableConfig) -> GoalWatch | None:
    """Build the watch over a plan that has criteria for its goal; None where it has none."""
    plan = state.get("plan")
    if not plan or not plan.get("goal_criteria"):
        return None
    return GoalWatch(plan, state, run, models, with_marks(config, plan_marks(plan)))


@dataclass
class GoalWatch:
    """Looks at results, one look at a time; what judges cost waits in ``spent`` to be booked."""

    plan: Plan
    state: State
    run: Run
    models: ChatModels
    config: RunnableConfig
    spent: Usage = field(default_factory=lambda: Usage())
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def look(self, results: Mapping[str, StepResult]) -> GoalCheck:
        """Tell whether the goal is reached by what is done in ``results``."""
        async with self._turn:
            key = self._key(results)
            known: GoalCheck | None = self.run.goal_checks.get(key)
            if known is None:
                known = self.run.goal_checks[key] = await self._check(results)
            return known

    def _key(self, results: Mapping[str, StepResult]) -> str:
        """Name what a look sees, so that the evaluator does not ask a judge again who has just answered."""
        seen = [(i, result["finished_at"]) for i, result in done_results(self.plan, results).items()]
        return f"{self.plan['id']}/{self.plan['revision']}/{sorted(seen)}"

    async def _check(self, results: Mapping[str, StepResult]) -> GoalCheck:
        tab = self.run.tab()
        overrides = self.run.settings.models
        model = self.models.get("evaluator", overrides) if self.models.has("evaluator", overrides) else None

        def judge_of(outputs: Any, evidence: Sequence[Evidence]) -> Judge:
            return make_judge(
                model,
                {"id": "goal", "task": f"The whole goal: {self.state.get('goal') or ''}"},
                outputs,
                evidence,
                meter=tab,
                mark=self.run.mark,
                config=self.config,
                limit_s=self.run.meter.seconds_left(),
            )

        run, inputs = self.run, self.state.get("inputs")
        found = await check_goal(self.plan, results, inputs, judge_of, run.mark, run.artifacts.value)
        self.spent = add_usage(self.spent, tab.usage)
        return self.run.redact(found)

    def book(self) -> Usage:
        """Return what judges have cost since the last time."""
        spent, self.spent = self.spent, {}
        return spent
