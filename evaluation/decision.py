"""Decide what happens after a step has failed all its attempts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableConfig
from pydantic import BaseModel, ConfigDict, model_validator

from ..errors import BudgetExceededError, ModelCallError
from ..models.metered import ModelMeter
from ..models.prompts import quote, render_prompt
from ..models.prompts.calls import describe_calls
from ..models.structured import call_structured
from ..models.wire_schema import wire_schema
from ..state import Evaluation, Evidence, OnFailure, Step, kind_of, new_evaluation
from ..tools.texts import preview, shortened
from .reasons import short

__all__ = ["BY_A_PERSON", "advice", "decide_with_model", "effective_policy"]

BY_A_PERSON = "A person says: "
"""The beginning of what a person said about another attempt."""

Choice = Literal["retry", "skip", "patch", "replan", "ask", "abort"]


_CHOICES: dict[Choice, str] = {
    "retry": "the cause is probably temporary, or the hint can change the outcome",
    "skip": "the goal can be reached without this step",
    "patch": "this step and what depends on it must be done another way",
    "replan": "what was learnt makes the rest of the plan wrong",
    "ask": "only a person can decide",
    "abort": "continuing would be harmful or pointless",
}


class FailureDecision(BaseModel):
    """Everything that the evaluator can answer."""

    model_config = ConfigDict(extra="forbid")

    decision: Choice
    reason: str
    hint: str

    @model_validator(mode="before")
    @classmethod
    def _without_a_hint(cls, value: Any) -> Any:
        """Accept an answer that leaves the hint out, although the schema asks for it."""
        if isinstance(value, dict) and value.get("hint") is None:
            return {**value, "hint": ""}
        return value


def effective_policy(step: Step, run_policy: OnFailure, *, attempts_left: bool) -> OnFailure:
    """Return the policy that applies: the step's, else the run's.

    When ``retry`` is used up, the run's policy applies, or ``auto`` if that is also ``retry``.
    """
    policy = step.get("on_failure") or run_policy
    if policy == "retry" and not attempts_left:
        return "auto" if run_policy == "retry" else run_policy
    return policy


async def decide_with_model(
    model: BaseChatModel,
    step: Step,
    failure: str,
    allowed: Sequence[Choice],
    *,
    goal: str,
    evidence: Sequence[Evidence],
    output: str,
    words: Sequence[str],
    dependents: Sequence[str],
    meter: ModelMeter,
    mark: str,
    config: RunnableConfig,
) -> Evaluation:
    """Ask the evaluator model for a decision: a value of an enum, a reason and a hint.

    If the model fails, the safe default is to abort.

    Args:
        failure: How the last attempt ended.
        allowed: The decisions that are possible here.
        evidence: The calls of all attempts.
        output: The step's output; "" if there is none.
        words: What people have said about the plan and the step.
    """
    failed = shortened(failure, 4000)
    messages = render_prompt(
        "evaluator",
        choices="\n".join(f"- {choice}: {_CHOICES[choice]}" for choice in allowed),
        goal=quote("goal", goal, mark),
        step=quote("step", preview(dict(step), 4000), mark),
        failure=quote("failure", failed, mark),
        calls=quote("calls", describe_calls(evidence, 8000, already=failed), mark),
        output=f"\nIts output:\n{quote('output', output, mark)}" if output else "",
        said="\nPeople have said:\n" + "\n".join(f"- {one}" for one in words) if words else "",
        dependents=", ".join(dependents) or "(none)",
    )
    try:
        said = await call_structured(
            model,
            FailureDecision,
            messages,
            role="evaluator",
            meter=meter,
            json_schema=_schema(allowed),
            check=lambda answer: _not_allowed(answer, allowed),
            config=config,
        )
    except (ModelCallError, BudgetExceededError) as error:
        reason = f"the evaluator could not decide: {error}"
        return new_evaluation("abort", reason, step_ids=[step["id"]])
    return new_evaluation(
        said.decision,
        short(said.reason),
        by="model",
        step_ids=[step["id"]],
        hint=short(said.hint),
        evidence=[failure],
    )


def advice(decision: Evaluation, mark: str) -> str:
    """Word a hint for another attempt: a person's hint is an instruction, a model's is data.

    The evaluator may repeat what a tool's output told it to say.
    """
    hint = decision.get("hint", "")
    if not hint or kind_of(decision.get("by")) == "person":
        return f"{BY_A_PERSON}{hint}" if hint else ""
    return "What may help:\n" + quote("advice", hint, mark)


def _schema(allowed: Sequence[Choice]) -> dict[str, Any]:
    schema = wire_schema(FailureDecision)
    schema["properties"]["decision"] = {"type": "string", "enum": list(allowed)}
    return schema


def _not_allowed(answer: FailureDecision, allowed: Sequence[Choice]) -> list[str]:
    if answer.decision in allowed:
        return []
    return [f"decision {answer.decision!r} is not possible here; choose one of: {', '.join(allowed)}"]
