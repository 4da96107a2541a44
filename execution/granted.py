"""Hold a call to the resources that the plan's approval names, with the values that it has now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import RejectedError
from ..people.asking import ask_person
from ..people.plan_text import call_in_words
from ..plan.grants import open_resources
from ..run import StepScope
from ..safety.markdown import code_span
from ..state import Step
from ..storage.work_id import path_as_json
from ..tools.toolbox import Toolbox

__all__ = ["confirmed_arguments"]

Json = Any


async def confirmed_arguments(
    step: Step,
    args: dict[str, Json],
    scope: StepScope,
    toolbox: Toolbox,
    approval: Mapping[str, Any] | None,
) -> dict[str, Json]:
    """Return the arguments of a bound step's call, after a person has seen those that were not granted.

    Raises:
        RejectedError: If a person rejects the call, or nobody can be asked.
        langgraph.errors.GraphInterrupt: While a person is being asked.
    """
    tool = step["call"]["tool"]
    resource = toolbox.known_resource(tool, args)
    # A person who approved the step itself saw its final values.
    if step.get("approve") or resource is None or _is_granted(step, resource, toolbox, approval or {}):
        return args
    if not scope.run.can_ask:
        raise RejectedError(f"{tool} would touch {resource}, which was not approved, and nobody can be asked")
    asked = {"step_id": scope.step_id, "tool": tool, "tool_args": args, "preview": f"It touches {resource}."}
    description = (
        f"Step **{scope.step_id}** would touch {code_span(resource)}, which is not among the resources "
        f"that were approved with the plan:\n\n{call_in_words(tool, args, toolbox.effect(tool))}"
    )
    key = [path_as_json(scope.work.path), scope.work.plan_id, asked]
    answer = await ask_person(scope.run, key, "confirm_call", asked, description, step_id=scope.step_id)
    if answer["type"] == "reject":
        raise RejectedError(
            "a person rejected this call" + (f": {answer['message']}" if answer["message"] else "")
        )
    return dict(answer["args"]["tool_args"]) if answer["type"] == "edit" else args


def _is_granted(step: Step, resource: str, toolbox: Toolbox, approval: Mapping[str, Any]) -> bool:
    """Tell whether a resource was approved by its name, or as the reference that gives it now."""
    grants = approval.get("grants") or {}
    if approval.get("decision") not in ("approved", "edited") or "at_run_time" not in grants:
        return True  # nobody had to approve it, or an older version asked and kept no names
    return resource in grants["resources"] or open_resources(step, toolbox, {}) <= set(grants["at_run_time"])
