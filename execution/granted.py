"""Show a person a bound call with its final values, if a person must see it before it is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import RejectedError
from ..people.asking import ask_person
from ..people.deciders import Use, use_of_call
from ..people.plan_text import call_in_words, calls_in_a_table
from ..people.questions import Answer
from ..plan.grants import asks_for_values, open_resources
from ..run import Run, StepScope
from ..safety.markdown import code_span
from ..state import Effect, Step
from ..storage.ids import WorkId, path_as_json
from ..tools.toolbox import Toolbox

__all__ = ["asks_for_a_call", "confirmed_arguments", "confirmed_call", "confirmed_items"]

Json = Any


async def confirmed_arguments(
    step: Step,
    args: dict[str, Json],
    scope: StepScope,
    toolbox: Toolbox,
    approval: Mapping[str, Any] | None,
) -> dict[str, Json]:
    """Return the arguments of a bound step's call, after a person has seen them if that is needed.

    Raises:
        RejectedError: If a person rejects the call, or nobody can be asked.
        langgraph.errors.GraphInterrupt: While a person is being asked.
    """
    tool, why = step["call"]["tool"], ""
    resource = toolbox.known_resource(tool, args)
    if asks_for_values(step, scope.run.settings.confirm, toolbox):
        why = "asks before it makes this call"
    if resource is not None and not (step.get("approve") or _is_granted(step, resource, toolbox, approval)):
        why = (
            f"would touch {code_span(resource)}, which is not among the resources "
            "that were approved with the plan"
        )
    if not why:
        return args
    preview = f"It touches {resource}." if resource is not None else "It has these arguments."
    asked = {"step_id": scope.step_id, "tool": tool, "tool_args": args, "preview": preview}
    words = call_in_words(tool, args, toolbox.effect(tool))
    uses = [use_of_call(tool, args, toolbox)]
    answer = await _ask(scope.run, scope.work, scope.step_id, asked, f"{why}:\n\n{words}", uses)
    return dict(answer["args"]["tool_args"]) if answer["type"] == "edit" else args


async def confirmed_items(
    step: Step, calls: Mapping[int, dict[str, Json]], run: Run, work: WorkId, toolbox: Toolbox
) -> dict[int, dict[str, Json]]:
    """Return the arguments of a loop's calls, by item, after a person has seen all of them at once.

    Raises:
        RejectedError: If a person rejects the calls, or nobody can be asked.
        langgraph.errors.GraphInterrupt: While a person is being asked.
    """
    tool, made = step["call"]["tool"], list(calls.values())
    preview = f"{len(made)} calls, one for each item."
    asked = {"step_id": step["id"], "tool": tool, "tool_args": made, "preview": preview}
    why = f"asks before it makes these {len(made)} calls of {code_span(tool)} [{toolbox.effect(tool)}]"
    uses = [use_of_call(tool, args, toolbox) for args in made]
    answer = await _ask(run, work, step["id"], asked, f"{why}:\n\n{calls_in_a_table(calls)}", uses)
    final: Sequence[dict[str, Json]] = answer["args"]["tool_args"] if answer["type"] == "edit" else made
    return dict(zip(calls, final, strict=True))


def asks_for_a_call(scope: StepScope, effect: Effect, *, has_read: bool) -> bool:
    """Tell whether a person must see the arguments of an agent's call: a write made from outputs.

    Args:
        scope: The agent's step.
        effect: The call's effect.
        has_read: Whether the agent has the outputs of earlier calls.
    """
    return scope.run.settings.confirm == "computed" and effect == "write" and (has_read or scope.is_given())


async def confirmed_call(
    scope: StepScope, tool: str, args: dict[str, Json], toolbox: Toolbox, occasion: Sequence[Json]
) -> dict[str, Json]:
    """Return the arguments of an agent's call, after a person has seen them.

    Args:
        scope: The agent's step.
        tool: The tool.
        args: What the agent calls it with.
        toolbox: The tools, with their effects.
        occasion: Distinguishes the call from others with the same arguments.

    Raises:
        RejectedError: If a person rejects the call, or nobody can be asked.
        langgraph.errors.GraphInterrupt: While a person is being asked.
    """
    asked = {"step_id": scope.step_id, "tool": tool, "tool_args": args, "preview": "An agent calls it."}
    why = f"asks before its agent makes this call:\n\n{call_in_words(tool, args, toolbox.effect(tool))}"
    uses = [use_of_call(tool, args, toolbox)]
    answer = await _ask(scope.run, scope.work, scope.step_id, asked, why, uses, *occasion)
    return dict(answer["args"]["tool_args"]) if answer["type"] == "edit" else args


async def _ask(
    run: Run,
    work: WorkId,
    step_id: str,
    asked: dict[str, Json],
    why: str,
    uses: Sequence[Use],
    *occasion: Json,
) -> Answer:
    if not run.can_ask:
        raise RejectedError(
            f"{asked['tool']}: {asked['preview']} Nobody approved that, and nobody can be asked"
        )
    key = [path_as_json(work.path), work.plan_id, asked, *occasion]
    answer = await ask_person(
        run, key, "confirm_call", asked, f"Step **{step_id}** {why}", step_id=step_id, uses=uses
    )
    if answer["type"] == "reject":
        raise RejectedError(
            "a person rejected this call" + (f": {answer['message']}" if answer["message"] else "")
        )
    return answer


def _is_granted(step: Step, resource: str, toolbox: Toolbox, approval: Mapping[str, Any] | None) -> bool:
    """Tell whether a resource was approved by its name, or by the reference that now gives it."""
    given = approval or {}
    grants = given.get("grants") or {}
    if given.get("decision") not in ("approved", "edited") or "at_run_time" not in grants:
        return True  # Nobody had to approve it, or an older version asked and kept no names.
    return resource in grants["resources"] or open_resources(step, toolbox, {}) <= set(grants["at_run_time"])
