"""Plans to be scheduled: random and layered DAGs whose steps take heavy-tailed times."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from langchain_core.tools import StructuredTool

LONGEST_S = 600.0
"""No step takes longer."""


def seconds_of_a_step(dice: random.Random) -> float:
    """Draw a heavy-tailed time: half the steps take less than 2 s, one in a hundred more than a minute."""
    return min(LONGEST_S, 1.0 * dice.paretovariate(1.1))


def make_plan(needs: Mapping[int, list[int]], dice: random.Random) -> dict[str, Any]:
    """Write a plan of bound steps of the tool ``work``, from what each needs."""
    steps = [
        {
            "id": f"s{n}",
            "task": f"work {n}",
            "depends_on": [f"s{d}" for d in wanted],
            "call": {"tool": "work", "args": {"seconds": seconds_of_a_step(dice)}},
        }
        for n, wanted in needs.items()
    ]
    return {"goal": "benchmark", "steps": steps}


def random_dag(size: int, dice: random.Random) -> dict[str, Any]:
    """Draw a DAG: each step needs up to three of the twelve before it."""
    needs = {}
    for n in range(size):
        earlier = range(max(0, n - 12), n)
        wanted = dice.choice([0, 1, 1, 2, 2, 3])
        needs[n] = dice.sample(earlier, min(wanted, len(earlier)))
    return make_plan(needs, dice)


def layered_dag(size: int, dice: random.Random) -> dict[str, Any]:
    """Draw a square of layers; each step needs one to three of the layer before."""
    width = max(1, round(size**0.5))
    needs: dict[int, list[int]] = {}
    for n in range(size):
        layer = n // width
        before = range((layer - 1) * width, layer * width) if layer else range(0)
        needs[n] = dice.sample(before, min(dice.choice([1, 1, 2, 3]), len(before)))
    return make_plan(needs, dice)


FAMILIES: dict[str, Callable[[int, random.Random], dict[str, Any]]] = {
    "random": random_dag,
    "layered": layered_dag,
}


def times(plan: Mapping[str, Any]) -> dict[str, float]:
    """Return the seconds of each step."""
    return {step["id"]: step["call"]["args"]["seconds"] for step in plan["steps"]}


def critical_path(plan: Mapping[str, Any]) -> float:
    """Sum the times along the longest path."""
    ends: dict[str, float] = {}
    for step in plan["steps"]:
        start = max((ends[dep] for dep in step["depends_on"]), default=0.0)
        ends[step["id"]] = start + step["call"]["args"]["seconds"]
    return max(ends.values())


def work_tool(sleep: Callable[[float], Any]) -> StructuredTool:
    """Make the tool ``work``, which sleeps."""

    async def work(seconds: float) -> float:
        """Take some time."""
        await sleep(seconds)
        return seconds

    return StructuredTool.from_function(coroutine=work, metadata={"effect": "read"})
