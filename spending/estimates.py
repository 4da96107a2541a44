"""What a plan will take, from what the same tools and models took before; it says what it does not know."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from typing_extensions import TypedDict

from ..errors import UnresolvedReferenceError
from ..plan.criteria import is_judged
from ..plan.dag import pending_steps, remaining_path
from ..plan.identity import input_values
from ..plan.references import resolve
from ..safety.work import Work, within
from ..state import Plan, Step, StepResult, Usage

if TYPE_CHECKING:
    from ..models.chat import ModelOf
    from ..storage.history import Sample

__all__ = [
    "Amount",
    "Estimate",
    "Samples",
    "describe_estimate",
    "estimate_plan",
    "expected_seconds",
    "samples_of",
]

Samples = Mapping[str, "Sequence[Sample]"]
"""Samples by kind of work: ``tool:NAME``, ``agent:NAME``, ``plan``, ``role:NAME MODEL``."""


class Amount(TypedDict):
    """An expected amount: in half the cases at most ``median``, and, if all is slow, about ``p90``.

    What the steps in ``unknown`` add to it, nothing tells.
    """

    median: float
    p90: float
    unknown: list[str]


class Estimate(TypedDict):
    """What the rest of a plan will take; ``seconds`` is the longest way through it, with its slots."""

    tool_calls: Amount
    model_calls: Amount
    tokens: Amount
    cost: Amount
    seconds: Amount
    samples: int
    """How many earlier steps and calls it is made of; 0: nothing like it has run."""


# --- from results to samples -------------------------------------------------------------


def samples_of(plan: Plan, results: Mapping[str, StepResult], model_of: ModelOf) -> dict[str, list[Sample]]:
    """Take samples of steps that were done at the first attempt; loops, whose items overlap, give none."""
    taken: dict[str, list[Sample]] = {}
    for step in plan["steps"]:
        result = results.get(step["id"])
        if result is None or result["status"] != "done" or result["attempts"] != 1 or "for_each" in step:
            continue
        started, finished = result["started_at"], result["finished_at"]
        if started and finished:
            seconds = (datetime.fromisoformat(finished) - datetime.fromisoformat(started)).total_seconds()
            taken.setdefault(_kind(step, model_of), []).append(sample_of(result["usage"], seconds))
    return taken


def sample_of(usage: Usage, seconds: float) -> Sample:
    """Make a sample of what was used; its cost counts only if every role of it had a price."""
    sample: Sample = {
        "seconds": round(seconds, 3),
        "model_calls": usage.get("model_calls", 0),
        "tokens": usage.get("total_tokens", 0),
    }
    roles = usage.get("by_role", {}).values()
    if all("cost" in role for role in roles):
        sample["cost"] = usage.get("cost", 0.0)
    return sample


def _kind(step: Step, model_of: ModelOf) -> str:
    if "call" in step:
        return f"tool:{step['call']['tool']}"
    if "agent" in step:
        return f"agent:{step['agent']}"
    if "ask" in step:
        return "ask"
    if "plan" in step:
        return "plan"
    named = step.get("model")
    return f"role:executor {model_of('executor', named) if named else model_of('executor')}"


# --- from samples to an estimate ---------------------------------------------------------


def expected_seconds(plan: Plan, samples: Samples, model_of: ModelOf) -> dict[str, float]:
    """Return how long each step takes in half the cases, for those that something is known of."""
    known = {step["id"]: samples.get(_kind(step, model_of)) for step in plan["steps"]}
    return {i: statistics.median(one["seconds"] for one in taken) for i, taken in known.items() if taken}


def estimate_plan(
    plan: Plan,
    results: Mapping[str, StepResult],
    samples: Samples,
    *,
    inputs: Mapping[str, Any] | None,
    slots: int,
    model_of: ModelOf,
) -> Estimate:
    """Estimate what the steps without a result, and the answer after them, will take.

    Args:
        plan: The plan.
        results: What has ended.
        samples: What earlier runs took.
        inputs: The input values, which may hold the list that a step loops over.
        slots: How many steps may run at the same time.
        model_of: Names the model of a role.
    """
    pending = pending_steps(plan, results)
    values = input_values(plan, inputs)
    parts = [_Part(step, _kind(step, model_of), samples, _times(step, values), slots) for step in pending]
    if model_of("synthesizer") and len(pending) > 1 and not plan.get("answer"):
        parts.append(_Part(None, f"role:synthesizer {model_of('synthesizer')}", samples, 1, slots))
    return {
        "tool_calls": _sum(parts, lambda part: part.tool_calls),
        "model_calls": _sum(parts, lambda part: part.amount("model_calls")),
        "tokens": _sum(parts, lambda part: part.amount("tokens")),
        "cost": _sum(parts, lambda part: part.amount("cost")),
        "seconds": _longest(pending, parts, slots),
        "samples": sum(len(samples.get(kind, ())) for kind in {part.kind for part in parts}),
    }


_Range = tuple[float, float] | None
"""Median and 90th percentile; None: not known."""


class _Part:
    """One step, or (without one) the final answer: what it is expected to take."""

    def __init__(self, step: Step | None, kind: str, samples: Samples, times: int | None, slots: int) -> None:
        self.name = step["id"] if step is not None else "final answer"
        self.kind, self.samples = kind, samples.get(kind, ())
        self._step, self._times, self._slots = step, times, slots

    @property
    def is_direct(self) -> bool:
        return self._step is not None and "call" in self._step

    @property
    def tool_calls(self) -> _Range:
        if self._step is None or self.kind == "ask":
            return 0, 0
        return (self._times, self._times) if self.is_direct and self._times is not None else None

    def amount(self, what: str) -> _Range:
        """Return how much of ``model_calls``, ``tokens`` or ``cost`` it takes, all its items together."""
        if (self.is_direct or self.kind == "ask") and not self._is_judged:
            return 0, 0
        values = [one[what] for one in self.samples if what in one]  # type: ignore[literal-required]
        if what == "model_calls" and not values and self._step is None:
            return 1, 1
        return _scaled(_range(values), self._times)

    @property
    def seconds(self) -> _Range:
        """Return how long it takes, with items beside each other as far as there are slots."""
        rounds = None if self._times is None else math.ceil(self._times / self._slots)
        return _scaled(_range([one["seconds"] for one in self.samples]), rounds)

    @property
    def work_seconds(self) -> _Range:
        """Return how long it occupies slots."""
        return _scaled(_range([one["seconds"] for one in self.samples]), self._times)

    @property
    def _is_judged(self) -> bool:
        criteria = self._step.get("success_criteria", ()) if self._step is not None else ()
        return is_judged(criteria)


def _times(step: Step, inputs: Mapping[str, Any]) -> int | None:
    """Tell how often a step runs; None: the list that it loops over is known only at run time."""
    if "for_each" not in step:
        return 1
    try:
        items = within(Work.at_once(), resolve, step["for_each"], {"inputs": inputs})
    except UnresolvedReferenceError:
        return None
    return len(items) if isinstance(items, list) else None


def _range(values: Sequence[float]) -> _Range:
    if not values:
        return None
    ordered = sorted(values)
    return statistics.median(ordered), ordered[math.ceil(0.9 * len(ordered)) - 1]


def _scaled(found: _Range, times: int | None) -> _Range:
    return None if found is None or times is None else (found[0] * times, found[1] * times)


def _sum(parts: Sequence[_Part], of: Callable[[_Part], _Range]) -> Amount:
    found = {part.name: of(part) for part in parts}
    known = [amount for amount in found.values() if amount is not None]
    return {
        "median": round(math.fsum(median for median, _ in known), 6),
        "p90": round(math.fsum(p90 for _, p90 in known), 6),
        "unknown": [name for name, amount in found.items() if amount is None],
    }


def _longest(pending: Sequence[Step], parts: Sequence[_Part], slots: int) -> Amount:
    """Return the longest path, or all the work over the slots if that takes longer, and then the answer."""
    took = _sum(parts, lambda part: part.seconds)
    work = _sum(parts, lambda part: part.work_seconds)
    by_name = {part.name: part.seconds or (0.0, 0.0) for part in parts}
    last = by_name.get("final answer", (0.0, 0.0))
    longest: list[float] = []
    for place, quantile in enumerate(("median", "p90")):
        ways = remaining_path(pending, {step["id"]: by_name[step["id"]][place] for step in pending})
        spread = (work[quantile] - last[place]) / slots  # type: ignore[literal-required]
        longest.append(max(spread, max(ways.values(), default=0.0)) + last[place])
    return {"median": round(longest[0], 3), "p90": round(longest[1], 3), "unknown": took["unknown"]}


# --- in words ----------------------------------------------------------------------------

_NAMED = 5
"""Steps of unknown size that a description names."""


def describe_estimate(estimate: Estimate) -> str:
    """Describe an estimate in a line of Markdown, for people who decide whether a plan may run."""
    said = [_said(estimate["tool_calls"], "tool call", "{:,.0f}")]
    said.append(_said(estimate["model_calls"], "model call", "{:,.0f}"))
    if estimate["model_calls"]["p90"] or estimate["model_calls"]["unknown"]:
        said.append(_said(estimate["tokens"], "token", "{:,.0f}"))
        said.append(_said(estimate["cost"], "cost", "{:.4f}"))
    said.append(_said(estimate["seconds"], "second", "{:,.1f}") + " on the critical path")
    if not estimate["samples"]:
        return f"**Estimate:** {'; '.join(said)}. Nothing like it has run before."
    samples = estimate["samples"]
    basis = f"from {samples} earlier steps and calls" if samples > 1 else "from one earlier step or call"
    figures = "; ".join(said)
    if re.search(r"\([\d,.]+\)", figures):
        basis += "; in brackets: if all of it is slow"
    return f"**Estimate** ({basis}): {figures}."


def _said(amount: Amount, what: str, form: str) -> str:
    unknown = amount["unknown"]
    median, p90 = form.format(amount["median"]), form.format(amount["p90"])
    unit = what if median == "1" or what == "cost" else f"{what}s"
    if unknown and not amount["p90"]:
        return f"{unit} unknown"
    text = f"{median} {unit}" + (f" ({p90})" if p90 != median else "")
    named = ", ".join(unknown[:_NAMED]) + (", …" if len(unknown) > _NAMED else "")
    return f"at least {text} (unknown: {named})" if unknown else text
