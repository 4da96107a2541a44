"""Ask a model to check what no rule can; it may only say whether a criterion is met, and what is missing.

The output may come from somebody who wants the judge to say "met". So the judge sees it only as quoted data,
and is not asked at all if it contains delimiters of prompts. The judge must also tell the criterion from a
control statement that is known to be false. If it cannot, the verdict is ``unverified``, never success.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from pydantic import BaseModel, ConfigDict

from ..errors import BudgetExceededError, ModelCallError
from ..models.metered import ModelMeter
from ..models.prompts import find_delimiter, quote, render_prompt
from ..models.prompts.calls import describe_calls
from ..models.prompts.statements import Statements, state_criterion
from ..models.structured import call_structured
from ..state import CriterionResult, Evidence, Step
from ..tools.texts import as_text, shortened
from .criteria import Json, Judge
from .reasons import short

__all__ = ["make_judge"]


class Finding(BaseModel):
    """The judge's answer on one statement."""

    model_config = ConfigDict(extra="forbid")

    met: bool
    gap: str


class Judgement(BaseModel):
    """Everything that a judge can answer: a finding on each of the two statements."""

    model_config = ConfigDict(extra="forbid")

    a: Finding
    b: Finding


def make_judge(
    model: BaseChatModel | None,
    step: Step,
    output: Json,
    evidence: Sequence[Evidence],
    *,
    given: Mapping[str, Json] | None = None,
    meter: ModelMeter,
    mark: str,
    config: RunnableConfig,
    limit_s: float | None = None,
    draw: Callable[[], str] = secrets.token_hex,
) -> Judge:
    """Build the judge of one output; a judge that fails or cannot be reached decides nothing.

    Args:
        given: What the step worked with, by name: outputs of other steps, inputs, what a person said.
        draw: Returns random hex digits; called once for each criterion.
    """

    async def judge(criterion: str) -> CriterionResult:
        if model is None:
            return _undecided("there is no model to judge this criterion")
        # The search covers all of it, also the parts that are not shown.
        if found := _delimiter_in([output, *(given or {}).values()], evidence, mark):
            return _undecided(
                f"no model is asked, because the output contains delimiters of prompts ({found})"
            )
        statements = state_criterion(criterion, draw())
        messages = _messages(step, statements, output, evidence, given or {}, mark)
        try:
            async with asyncio.timeout(limit_s):
                said = await call_structured(
                    model,
                    Judgement,
                    messages,
                    role="evaluator",
                    meter=meter,
                    check=_needs_gaps,
                    config=config,
                )
        except TimeoutError:
            return _undecided(f"the judge took longer than {limit_s} seconds")
        except (ModelCallError, BudgetExceededError) as error:
            return _undecided(f"the judge gave no verdict: {error}")
        return _verdict(said, statements)

    return judge


_ROOM = 20_000
"""The most characters of the output, of all calls, and of all inputs that a judge is shown."""


def _delimiter_in(values: Sequence[Json], evidence: Sequence[Evidence], mark: str) -> str | None:
    calls = [value for call in evidence for value in (call["tool"], call["args"], call["output_preview"])]
    whole = [value for call in evidence for value in call.get("whole", {}).values()]
    return find_delimiter("\n".join(map(as_text, [*values, *calls, *whole])), mark)


def _messages(
    step: Step,
    statements: Statements,
    output: Json,
    evidence: Sequence[Evidence],
    given: Mapping[str, Json],
    mark: str,
) -> list[BaseMessage]:
    share = _ROOM // max(1, len(given))
    return render_prompt(
        "judge",
        task=quote("task", step.get("task") or f"a call of {step.get('call', {}).get('tool')}", mark),
        statement_a=statements.a,
        statement_b=statements.b,
        given="\n".join(quote(name, shortened(value, share), mark) for name, value in given.items())
        or "(nothing)",
        # A bound step's output is the result of its call.
        calls=quote("calls", describe_calls(evidence, _ROOM, outputs="call" not in step), mark),
        output=quote("output", shortened(output, _ROOM), mark),
    )


def _verdict(said: Judgement, statements: Statements) -> CriterionResult:
    real, control = (said.a, said.b) if statements.criterion == "a" else (said.b, said.a)
    if control.met:
        return _undecided(
            "the judge also accepted a statement that is known to be false, so its verdict does not count"
        )
    return {"type": "judge", "passed": real.met, "gap": "" if real.met else short(real.gap)}


def _undecided(why: str) -> CriterionResult:
    return {"type": "judge", "passed": None, "gap": why}


def _needs_gaps(said: Judgement) -> list[str]:
    return [
        f"{letter}.met is false, so {letter}.gap must say what is missing"
        for letter, finding in (("a", said.a), ("b", said.b))
        if not finding.met and not finding.gap.strip()
    ]
