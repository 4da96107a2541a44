"""Hypothesis strategies: JSON values, acyclic plans, results, whole states."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from plans import bound, plan

__all__ = ["dags", "json_values", "results", "states", "usages"]

_text = st.text(st.characters(codec="utf-8"), max_size=12)
_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _text
)

json_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=6,
)
"""Any JSON value."""

_roles = st.dictionaries(
    st.sampled_from(["planner", "executor"]), st.fixed_dictionaries({"model_calls": st.integers(0, 9)})
)
usages = st.fixed_dictionaries(
    {}, optional={"model_calls": st.integers(0, 99), "tool_calls": st.integers(0, 99), "by_role": _roles}
)
"""What was spent; integers, so that sums are exact."""


@st.composite
def dags(draw: st.DrawFn, max_size: int = 8) -> list[dict[str, Any]]:
    """Steps without a cycle, in any order."""
    size = draw(st.integers(0, max_size))
    steps = [
        bound(
            f"s{n}",
            "look",
            {"q": "x"},
            *sorted(draw(st.sets(st.sampled_from([f"s{m}" for m in range(n)]))) if n else []),
        )
        for n in range(size)
    ]
    return draw(st.permutations(steps))


_statuses = st.sampled_from(["done", "failed", "skipped", "blocked"])


@st.composite
def results(draw: st.DrawFn, steps: list[dict[str, Any]]) -> dict[str, Any]:
    """Results of some of the steps."""
    chosen = draw(st.sets(st.sampled_from([step["id"] for step in steps]))) if steps else set()
    return {
        i: {"step_id": i, "status": draw(_statuses), "error": None, "output": None} for i in sorted(chosen)
    }


def _maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


@st.composite
def states(draw: st.DrawFn) -> dict[str, Any]:
    """A state as a node, a client or an older run may have left it: any key may be absent or None."""
    steps = draw(dags(5))
    issue = {"code": "cycle", "step_id": None, "message": ""}
    decisions = ["continue", "retry", "skip", "patch", "replan", "ask", "abort", "supply"]
    sources = ["planner", "replanner", "person", "given", "cache"]
    everything = {
        "plan": _maybe(st.sampled_from([plan(*steps), plan(*steps, complete=False)])),
        "results": _maybe(results(steps)),
        "draft": _maybe(st.sampled_from([{"plan": plan(*steps), "source": source} for source in sources])),
        "plan_issues": _maybe(st.sampled_from([[], [issue]])),
        "approval": _maybe(
            st.sampled_from(
                [{"decision": d} for d in ("needed", "not_required", "approved", "edited", "rejected")]
            )
        ),
        "evaluation": _maybe(st.sampled_from([{"decision": decision} for decision in decisions])),
        "status": _maybe(st.sampled_from(["planning", "running", "done", "partial", "failed", "rejected"])),
        "replans": st.integers(0, 3),
        "rounds": st.integers(0, 3),
    }
    return draw(st.fixed_dictionaries({}, optional=everything))
