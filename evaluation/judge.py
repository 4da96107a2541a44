"""Let a model check what no rule can; it may say only whether a criterion is met, and the gap."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableConfig
from pydantic import BaseModel, ConfigDict

from ..errors import BudgetExceededError, ModelCallError
from ..models.structured import ModelMeter, call_structured
from ..prompts import quote, render_prompt
from ..state import CriterionResult, Evidence, Step
from ..tools.calls import preview
from .criteria import Json, Judge

__all__ = ["make_judge"]


class Judgement(BaseModel):
    """A judge's whole vocabulary."""

    model_config = ConfigDict(extra="forbid")

    met: bool
    gap: str


def make_judge(
    model: BaseChatModel | None,
    step: Step,
    output: Json,
    evidence: Sequence[Evidence],
    *,
    meter: ModelMeter,
    mark: str,
    config: RunnableConfig,
    limit_s: float | None = None,
) -> Judge:
    """Build the judge of one output. A judge that fails or cannot be reached tells nothing: never success."""

    async def judge(criterion: str) -> CriterionResult:
        if model is None:
            return {"type": "judge", "passed": None, "gap": "there is no model to judge this criterion"}
        messages = render_prompt(
            "judge",
            task=step.get("task", ""),
            criterion=criterion,
            evidence=quote("evidence", _evidence(evidence), mark),
            output=quote("output", preview(output, 20_000), mark),
        )
        try:
            async with asyncio.timeout(limit_s):
                said = await call_structured(
                    model, Judgement, messages, role="evaluator", meter=meter, check=_needs_gap, config=config
                )
        except TimeoutError:
            return {"type": "judge", "passed": None, "gap": f"the judge took longer than {limit_s} seconds"}
        except (ModelCallError, BudgetExceededError) as error:
            return {"type": "judge", "passed": None, "gap": f"the judge could not tell: {error}"}
        return {"type": "judge", "passed": said.met, "gap": "" if said.met else said.gap}

    return judge


def _needs_gap(said: Judgement) -> list[str]:
    return [] if said.met or said.gap.strip() else ["met is false, so gap must say what is missing"]


def _evidence(evidence: Sequence[Evidence]) -> str:
    return "\n".join(map(_evidence_line, evidence)) or "(no tool was called)"


def _evidence_line(call: Evidence) -> str:
    outcome = "ok" if call["ok"] else "FAILED"
    return f"{call['tool']}({preview(call['args'], 200)}) -> {outcome}: {call['output_preview']}"
