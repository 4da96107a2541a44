"""What a run of a plan would do: its steps, their effects, its questions, and an estimate."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..context import Context, needs_approval
from ..plan.criteria import is_judged
from ..plan.grants import asks_for_values
from ..spending.estimates import Estimate, Samples, describe_estimate, estimate_plan
from ..state import Plan, granted_tools, needs_a_model, step_kind
from ..tools.texts import preview
from .plan_tree import branches

if TYPE_CHECKING:
    from ..plan.tools import Tools
    from ..storage.history import Sample
    from .sources import Sources

__all__ = ["Preview", "samples_of_earlier_runs", "what_it_does"]


@dataclass(frozen=True)
class Preview:
    """A plan before it runs.

    Attributes:
        plan: The plan, in its normal form.
        toolbox: For the tools' effects.
        settings: The run's settings.
        inputs: The input values.
        samples: What earlier runs took.
        model: The model's name; empty: there is none.
        tools_known: Whether the tools were given, so that their effects are known.
    """

    plan: Plan
    toolbox: Tools
    settings: Context = field(default_factory=Context)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    samples: Samples = field(default_factory=dict)
    model: str = ""
    tools_known: bool = True

    @property
    def estimate(self) -> Estimate:
        """What it will take."""
        return estimate_plan(
            self.plan,
            {},
            self.samples,
            inputs=self.inputs,
            slots=self.settings.max_parallel,
            model_of=self._model_of,
        )

    def _model_of(self, role: str, named: str | None = None) -> str:
        chosen = self.settings.models.get(named or role)
        return str(chosen or named or self.model)

    def writes(self) -> list[str]:
        """Name the steps that may change the world."""
        return [step["id"] for step in self.plan["steps"] if "write" in self._effects(step)]

    def asks(self) -> list[str]:
        """Say what a person would be asked, in the order of the steps."""
        effects = [effect for step in self.plan["steps"] for effect in self._effects(step)]
        asked = []
        if needs_approval(self.settings.approval, effects):
            why = f": {', '.join(self.writes())} may write" if self.writes() else ""
            asked.append(f"before anything runs, whether this plan may run{why}")
        elif not self.tools_known and self.settings.approval == "writes":
            asked.append("before anything runs, if one of its tools writes")
        for step in self.plan["steps"]:
            asked += [f"{step['id']}: {what}" for what in self._asked_of(step)]
        return asked

    def _asked_of(self, step: Mapping[str, Any]) -> Iterator[str]:
        if "ask" in step:
            yield preview(step["ask"]["question"], 100)
        if step.get("approve"):
            yield "whether this step may run"
        if asks_for_values(step, self.settings.confirm, self.toolbox):
            yield "whether its call may be made, once its arguments are known"
        if step.get("on_failure", self.settings.on_failure) == "ask":
            yield "what to do, if it fails"
        if "plan" in step and self.settings.approval != "never":
            yield "whether its own plan may run, once it is made"

    def _effects(self, step: Mapping[str, Any]) -> list[str]:
        return [self.toolbox.effect(name) for name in granted_tools(step)] if self.tools_known else []

    def needs_model(self) -> list[str]:
        """Name the steps that a model carries out or judges."""
        return [
            step["id"]
            for step in self.plan["steps"]
            if needs_a_model(step) or is_judged(step.get("success_criteria", ()))
        ]

    def lines(self, width: int) -> Iterator[str]:
        """Write it for a person."""
        yield f"Goal: {preview(str(self.plan.get('goal') or ''), 300)}"
        yield f"\nSteps ({len(self.plan['steps'])}, at most {self.settings.max_parallel} at a time):"
        yield from (f"  {line}" for line in self._tree(width - 2))
        yield ""
        yield from self._facts()

    def _tree(self, width: int) -> Iterator[str]:
        drawn = list(branches(self.plan["steps"]))
        room = min(max((len(one.lines) + len(one.step["id"]) for one in drawn), default=0), width // 2)
        for one in drawn:
            name = one.lines + one.step["id"]
            also = f" (also after {', '.join(one.also)})" if one.also else ""
            line = f"{name:<{room}}  {self._does(one.step)}{also}"
            yield line if len(line) <= width else line[: width - 1] + "…"

    def _does(self, step: Mapping[str, Any]) -> str:
        effects = sorted(set(self._effects(step)))
        marked = f"[{', '.join(effects)}] " if effects else ""
        return f"{marked}{what_it_does(step)}" + "".join(f"; {word}" for word in _circumstances(step))

    def _facts(self) -> Iterator[str]:
        if not self.tools_known:
            yield "Effects: not known without the tools (--tools, --toolset or --mcp)"
        elif writes := self.writes():
            yield f"May change the world: {', '.join(writes)}"
        else:
            yield "Reads only."
        if asks := self.asks():
            yield "You would be asked:"
            yield from (f"  {one}" for one in asks)
        else:
            yield "You would be asked nothing."
        if needed := self.needs_model():
            yield f"Needs a model for: {', '.join(needed)}"
        yield describe_estimate(self.estimate).replace("**", "")

    def as_json(self) -> dict[str, Any]:
        """Describe it for a program."""
        steps = [
            {"id": step["id"], "effects": self._effects(step), "depends_on": step["depends_on"]}
            for step in self.plan["steps"]
        ]
        described = {"plan": self.plan, "steps": steps, "writes": self.writes(), "asks": self.asks()}
        return {**described, "needs_model": self.needs_model(), "estimate": self.estimate}


def what_it_does(step: Mapping[str, Any]) -> str:
    """Say in a few words what carries a step out."""
    kind = step_kind(step)
    if kind == "call":
        args = json.dumps(step["call"]["args"], ensure_ascii=False, default=str)
        return f"{step['call']['tool']}({preview(args, 60) if args != '{}' else ''})"
    task = preview(str(step.get("task") or ""), 60)
    if kind == "ask":
        return "asks you"
    if kind == "agent":
        return f"agent {step['agent']}: {task}"
    if kind == "plan":
        return f"plans: {preview(step['plan']['goal'], 60)}"
    tools = ", ".join(step.get("tools") or ()) or "no tools"
    return f"a model with {tools}: {task}"


def _circumstances(step: Mapping[str, Any]) -> Iterator[str]:
    if "for_each" in step:
        yield "once per item"
    if "when" in step:
        yield f"only when {preview(step['when'], 40)}"
    if step.get("else_of"):
        yield f"only if {step['else_of']} was skipped"
    if step.get("if_failed"):
        yield f"only if {', '.join(step['if_failed'])} failed"


def samples_of_earlier_runs(sources: Sources) -> dict[str, list[Sample]]:
    """Read what earlier runs took, if there is a database."""
    if sources.database.missing():
        return {}
    from ..storage.history import History
    from ..tools.threads import run_to_end
    from .sources import open_store

    with open_store(sources) as store:
        return run_to_end(History(store).samples())
