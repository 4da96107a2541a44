"""Describe a plan in Markdown, so that a person can decide."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ..plan.dag import is_rolling, topological_order
from ..plan.grants import changed_tools, filled, open_resources, resources_of
from ..plan.identity import input_values, step_fingerprints
from ..plan.trust import unverified_sources
from ..safety.markdown import code_span, plain_line
from ..spending.estimates import Estimate, describe_estimate
from ..state import Plan, PlanIssue, State, Step, granted_tools, is_satisfied
from ..storage.effect_log import EffectRecord
from ..tools.texts import shortened
from ..tools.toolbox import Toolbox

__all__ = ["call_in_words", "describe_plan", "step_in_words"]


def describe_plan(
    state: State,
    shown: Mapping[str, Any],
    toolbox: Toolbox,
    earlier: Sequence[Mapping[str, Any]] = (),
    *,
    origin: str = "",
    estimate: Estimate | None = None,
    values: Mapping[str, Any] | None = None,
    done: Sequence[EffectRecord] = (),
) -> str:
    """Describe a plan that waits for approval: writes first, then the steps in order, changes and estimate.

    Args:
        state: The graph's state; its plan is the valid one.
        shown: The proposed plan: the valid one, or a person's edit that has issues.
        toolbox: Knows the tools' effects.
        earlier: The approvals on record for this plan, oldest first.
        origin: Where the plan comes from, if the planner did not write it for this goal.
        estimate: An estimate of what it will take.
        values: The known values of references.
        done: The calls of plans that a fork abandoned.
    """
    plan = state.get("plan")
    parts = [f"**Goal:** {_said(shown.get('goal') or state.get('goal') or '')}"]
    if origin:
        parts.append(f"**This plan is {origin}.** The planner was not asked.")
    if issues := state.get("plan_issues"):
        parts.append("**Your edit cannot run yet:**\n" + "\n".join(map(_issue_line, issues)))
        parts.append(
            "Correct it and send the whole plan again, approve the plan as it was before your "
            "edit, or reject it."
        )
    parts.append(_what_broke(state))
    if shown.get("rationale"):
        parts.append(f"**Why this plan:** {_said(shown['rationale'])}")
    if plan is not None and shown is plan:
        parts += [
            _inputs(plan, state),
            _writes(plan, toolbox, _finished(state)),
            _done_before([record for record in done if record.effect == "write"]),
            _changes(plan, earlier, toolbox),
            _steps(plan, toolbox, values or {}, _finished(state)),
            _rolling(plan),
            _answer(plan, toolbox),
            describe_estimate(estimate) if estimate is not None else "",
        ]
    return "\n\n".join(part for part in parts if part)


def call_in_words(tool: str, args: Mapping[str, Any], effect: str = "") -> str:
    """Write a call with all its arguments: in one line, or one line per argument if that is long."""
    kind = f" [{effect}]" if effect else ""
    whole = json.dumps(args, ensure_ascii=False, default=str)
    if len(whole) <= _ONE_LINE:
        return code_span(f"{tool}({whole})") + kind
    lines = [f"\n    - {code_span(name)} = {code_span(_json(value))}" for name, value in args.items()]
    return f"{code_span(tool)}{kind} with:{''.join(lines)}\n"


_ONE_LINE = 200


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def calls_in_a_table(calls: Mapping[int, Mapping[str, Any]]) -> str:
    """Write a loop's calls with all their arguments: one row per item."""
    names = list(dict.fromkeys(name for args in calls.values() for name in args))
    rows = [
        [str(index), *(code_span(_json(args[name])) if name in args else "" for name in names)]
        for index, args in calls.items()
    ]
    table = [["item", *map(plain_line, names)], ["---"] * (len(names) + 1), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table)


def step_in_words(step: Step, toolbox: Toolbox, values: Mapping[str, Any]) -> str:
    """Say what a step does, as plain text that the plan cannot format."""
    task = filled(step.get("task") or "", values)
    title = f": {_said(task)}" if task else ""
    return f"**{plain_line(step['id'])}**{title} — {_details(step, toolbox, values)}"


def _said(text: Any) -> str:
    """Quote a model's text: it must not look like our own text, nor hide it."""
    return plain_line(str(text))


def _issue_line(issue: PlanIssue) -> str:
    return f"- `{issue['code']}` {plain_line(issue['message'])}"


def _inputs(plan: Plan, state: State) -> str:
    values = input_values(plan, state.get("inputs"))
    listed = ", ".join(f"{plain_line(name)} = {code_span(_json(value))}" for name, value in values.items())
    return f"**Inputs:** {listed}" if listed else ""


def _what_broke(state: State) -> str:
    """Name the failures that a revision is the answer to."""
    evaluation, results = state.get("evaluation"), state.get("results") or {}
    if evaluation is None or evaluation["decision"] not in ("patch", "replan"):
        return ""
    failed = [results[step] for step in evaluation.get("step_ids", ()) if step in results]
    lines = [
        f"- **{plain_line(one['step_id'])}**: {code_span(shortened(one['error']['message'], 600))}"
        for one in failed
        if one["error"] is not None
    ]
    return "**What failed:**\n" + "\n".join(lines) if lines else ""


def _finished(state: State) -> frozenset[str]:
    """Name the steps that do not run again."""
    return frozenset(step for step, result in (state.get("results") or {}).items() if is_satisfied(result))


def _writes(plan: Plan, toolbox: Toolbox, finished: Collection[str]) -> str:
    """Name what may change the world before anything else."""
    lines, unverified = [], unverified_sources(plan)
    for step in topological_order(plan["steps"]):
        tools = [name for name in granted_tools(step) if toolbox.effect(name) == "write"]
        if tools and step["id"] not in finished:
            named = ", ".join(map(code_span, tools))
            uses = ", ".join(map(plain_line, unverified[step["id"]]))
            lines.append(
                f"- **{plain_line(step['id'])}** may call {named}"
                + (f", **with output that nothing checks:** {uses}" if uses else "")
            )
    return "**May change the world:**\n" + "\n".join(lines) if lines else "**Reads only.**"


def _done_before(done: Sequence[EffectRecord]) -> str:
    """Name what an approval does not undo: the work of plans that a fork abandoned."""
    lines = [
        f"- {call_in_words(record.tool, record.args).rstrip()} in step {plain_line(record.step_id)}: "
        + ("happened" if record.succeeded else "may have happened")
        for record in done[:_MOST_DONE]
    ]
    lines += [f"- and {len(done) - _MOST_DONE} more"] if len(done) > _MOST_DONE else []
    title = "**Done on this thread before, by a plan that a fork left behind:**"
    end = "Before the same call is made again, you are asked."
    return "\n".join([title, *lines, "", end]) if lines else ""


_MOST_DONE = 20


def _steps(plan: Plan, toolbox: Toolbox, values: Mapping[str, Any], finished: Collection[str]) -> str:
    lines = [
        f"{number}. {step_in_words(step, toolbox, values)}"
        + (" — finished, does not run again" if step["id"] in finished else "")
        for number, step in enumerate(topological_order(plan["steps"]), start=1)
    ]
    to_run = sum(step["id"] not in finished for step in plan["steps"])
    count = f"{len(lines)}" if to_run == len(lines) else f"{len(lines)}, {to_run} of them still to run"
    return f"**Steps:** {count}\n" + "\n".join(lines)


def _rolling(plan: Plan) -> str:
    return (
        "**Not all of it:** when these steps are done, the next ones are planned." if is_rolling(plan) else ""
    )


def _answer(plan: Plan, toolbox: Toolbox) -> str:
    """Show the planned answer, and what keeps it from being used."""
    if not plan.get("answer"):
        return ""
    said = f"**Answers:** {_said(plan['answer'])}"
    unchecked = [step for step in plan["steps"] if "call" in step and not step.get("success_criteria")]
    blind = [step["id"] for step in unchecked if toolbox.effect(step["call"]["tool"]) != "read"]
    if not blind:
        return said
    named = ", ".join(map(plain_line, blind))
    return f"{said}\n\n**Not used as it is:** no success criterion checks what is changed by {named}."


_LONGEST_LIST = 500
"""The longest list, in characters, that is shown instead of a shorter reference to it."""


def _details(step: Step, toolbox: Toolbox, values: Mapping[str, Any]) -> str:
    parts, call = [], ""
    if "call" in step:
        tool = step["call"]["tool"]
        call = call_in_words(tool, filled(step["call"]["args"], values), toolbox.effect(tool))
    elif "plan" in step:
        goal = _said(filled(step["plan"]["goal"], values))
        parts.append(f"a plan of its own for: {goal} — you will be asked about it")
    elif "ask" in step:
        parts.append(f"asks you: {_said(filled(step['ask']['question'], values))}")
        choices = [_said(filled(choice, values)) for choice in step["ask"].get("choices") or ()]
        parts += [f"one of: {', '.join(choices)}"] if choices else []
    elif "agent" in step:
        (name,) = granted_tools(step)
        parts.append(f"the agent {code_span(step['agent'])} [{toolbox.effect(name)}]")
    elif tools := granted_tools(step):
        named = (f"{code_span(name)} [{toolbox.effect(name)}]" for name in tools)
        parts.append("an agent with " + ", ".join(named))
    else:
        parts.append("an agent without tools")
    parts += _circumstances(step, values)
    parts += [f"touches {code_span(known)}" for known in sorted(resources_of(step, toolbox, values))]
    later = sorted(open_resources(step, toolbox, values))
    parts += [f"**known only at run time:** {code_span(resource)}" for resource in later]
    is_long = call.endswith("\n")  # Arguments have lines of their own, which come last.
    return "; ".join([*parts, call.rstrip()] if is_long else [*([call] if call else []), *parts])


def _circumstances(step: Step, values: Mapping[str, Any]) -> Iterator[str]:
    if "for_each" in step:
        written = step["for_each"]
        items = filled(written, values)
        told = items if isinstance(items, str) else _json(items)
        is_short = len(told) <= max(_LONGEST_LIST, len(written))
        yield f"once for each of {code_span(told if is_short else written)}"
    if "when" in step:
        yield f"only when {code_span(step['when'])}"
    if step.get("else_of"):
        yield f"only if the condition of {plain_line(step['else_of'])} does not hold"
    if step.get("if_failed"):
        yield f"only if one of these fails: {', '.join(map(plain_line, step['if_failed']))}"
    if step.get("model"):
        yield f"by the model {code_span(step['model'])}"
    if step.get("escalate"):
        yield f"by {code_span(step['escalate'])} if a result is not good enough"
    if step.get("max_attempts"):
        yield f"attempts: at most {step['max_attempts']}"
    if step.get("timeout_s"):
        yield f"seconds for an attempt: at most {step['timeout_s']:g}"
    if step.get("on_failure", "auto") != "auto":
        yield f"`{step['on_failure']}` if it fails"
    if step["depends_on"]:
        yield "after " + ", ".join(map(plain_line, step["depends_on"]))
    if step.get("approve"):
        yield "asks before it runs"
    if step.get("confirm"):
        yield "asks you once its arguments are known"


def _changes(plan: Plan, earlier: Sequence[Mapping[str, Any]], toolbox: Toolbox) -> str:
    """Say what is new since the last approved revision."""
    approved = [record for record in earlier if record.get("steps") is not None]
    if not approved:
        return ""
    before: Mapping[str, str] = approved[-1]["steps"]
    now = step_fingerprints(plan)
    changes = {
        "new": [step_id for step_id in now if step_id not in before],
        "changed": [step_id for step_id in now if before.get(step_id, now[step_id]) != now[step_id]],
        "gone": [step_id for step_id in before if step_id not in now],
        "tools that have changed": _other_tools(plan, approved[-1], toolbox),
    }
    lines = [f"- {what}: {', '.join(map(plain_line, ids))}" for what, ids in changes.items() if ids]
    return "**Since the plan you approved:**\n" + "\n".join(lines) if lines else ""


def _other_tools(plan: Plan, approved: Mapping[str, Any], toolbox: Toolbox) -> list[str]:
    tools = {name for step in plan["steps"] for name in granted_tools(step)}
    return changed_tools(toolbox.fingerprints(tools), approved.get("grants", {}))
