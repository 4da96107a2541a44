"""A plan in words: the Markdown that a person decides from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .estimates import Estimate, describe_estimate
from .safe_markdown import code_span, plain_line
from .state import (
    Plan,
    PlanIssue,
    State,
    Step,
    granted_tools,
    input_values,
    is_rolling,
    step_fingerprints,
    topological_order,
)
from .tools.calls import preview
from .tools.toolbox import Toolbox

__all__ = ["describe_plan"]


def describe_plan(
    state: State,
    shown: Mapping[str, Any],
    toolbox: Toolbox,
    earlier: Sequence[Mapping[str, Any]] = (),
    *,
    origin: str = "",
    estimate: Estimate | None = None,
) -> str:
    """Describe a plan that waits for approval: writes first, then the DAG in order, changes and estimate.

    Args:
        state: The graph's state; its plan is the valid one.
        shown: What the question proposes: that plan, or a person's edit that has issues.
        toolbox: For the tools' effects.
        earlier: The approvals on record for this plan, oldest first.
        origin: Where the plan is from, if it is not the planner's answer to this goal.
        estimate: What it will take.
    """
    plan = state.get("plan")
    parts = [f"**Goal:** {_said(shown.get('goal') or state.get('goal') or '', 500)}"]
    if origin:
        parts.append(f"**This plan is {origin}.** The planner was not asked.")
    if issues := state.get("plan_issues"):
        parts.append("**Your edit cannot run yet:**\n" + "\n".join(map(_issue_line, issues)))
        parts.append(
            "Mend it and send the whole plan again, approve the plan before your edit, or reject it."
        )
    if shown.get("rationale"):
        parts.append(f"**Why this plan:** {_said(shown['rationale'], 1000)}")
    if plan is not None and shown is plan:
        parts += [
            _inputs(plan, state),
            _writes(plan, toolbox),
            _changes(plan, earlier),
            _steps(plan, toolbox),
            _rolling(plan),
            _goal(plan),
            _answer(plan),
            describe_estimate(estimate) if estimate is not None else "",
        ]
    return "\n\n".join(part for part in parts if part)


def _said(text: Any, limit: int) -> str:
    """Quote what a model wrote: it must not look like what we say about the plan, nor hide it."""
    return plain_line(preview(str(text), limit))


def _issue_line(issue: PlanIssue) -> str:
    return f"- `{issue['code']}` {plain_line(issue['message'])}"


def _inputs(plan: Plan, state: State) -> str:
    values = input_values(plan, state.get("inputs"))
    listed = ", ".join(f"{name} = {_said(preview(value), 100)}" for name, value in values.items())
    return f"**Inputs:** {listed}" if listed else ""


def _writes(plan: Plan, toolbox: Toolbox) -> str:
    """Name what may change the world before anything else."""
    lines = []
    for step in topological_order(plan["steps"]):
        tools = [name for name in granted_tools(step) if toolbox.effect(name) == "write"]
        if tools:
            lines.append(f"- **{step['id']}** may call {', '.join(f'`{name}`' for name in tools)}")
    return "**May change the world:**\n" + "\n".join(lines) if lines else "**Reads only.**"


def _steps(plan: Plan, toolbox: Toolbox) -> str:
    lines = [
        f"{number}. **{step['id']}**: {_said(step['task'], 1000) or 'call'} — {_details(step, toolbox)}"
        for number, step in enumerate(topological_order(plan["steps"]), start=1)
    ]
    return f"**Steps:** {len(lines)}\n" + "\n".join(lines)


def _rolling(plan: Plan) -> str:
    return (
        "**Not all of it:** when these steps are done, the next ones are planned." if is_rolling(plan) else ""
    )


def _goal(plan: Plan) -> str:
    """Say what ends the run before all its steps have run."""
    criteria = [
        _said(" ".join(map(str, criterion.values())), 300) for criterion in plan.get("goal_criteria", ())
    ]
    return "**Done as soon as:** " + "; ".join(criteria) if criteria else ""


def _answer(plan: Plan) -> str:
    """Say what will be answered, where no model writes it from the results."""
    return f"**Answers:** {_said(plan['answer'], 1000)}" if plan.get("answer") else ""


def _details(step: Step, toolbox: Toolbox) -> str:
    parts = []
    if "call" in step:
        tool = step["call"]["tool"]
        call = code_span(f"{tool}({preview(step['call']['args'], 200)})")
        parts.append(f"{call} [{toolbox.effect(tool)}]")
    elif "plan" in step:
        parts.append(
            f"a plan of its own for: {_said(step['plan']['goal'], 300)} — you are asked about it then"
        )
    elif "agent" in step:
        (name,) = granted_tools(step)
        parts.append(f"the agent `{step['agent']}` [{toolbox.effect(name)}]")
    elif tools := granted_tools(step):
        parts.append("an agent with " + ", ".join(f"`{name}` [{toolbox.effect(name)}]" for name in tools))
    else:
        parts.append("an agent without tools")
    if "for_each" in step:
        parts.append(f"once for each of `{step['for_each']}`")
    if "when" in step:
        parts.append(f"only when `{step['when']}`")
    if step["depends_on"]:
        parts.append("after " + ", ".join(step["depends_on"]))
    if step.get("approve"):
        parts.append("asks before it runs")
    return "; ".join(parts)


def _changes(plan: Plan, earlier: Sequence[Mapping[str, Any]]) -> str:
    """Say what is new since the revision that was approved last."""
    approved = [record for record in earlier if record.get("steps") is not None]
    if not approved:
        return ""
    before: Mapping[str, str] = approved[-1]["steps"]
    now = step_fingerprints(plan)
    changes = {
        "new": [step_id for step_id in now if step_id not in before],
        "changed": [step_id for step_id in now if before.get(step_id, now[step_id]) != now[step_id]],
        "gone": [step_id for step_id in before if step_id not in now],
    }
    lines = [f"- {what}: {', '.join(ids)}" for what, ids in changes.items() if ids]
    return "**Since the plan you approved:**\n" + "\n".join(lines) if lines else ""
