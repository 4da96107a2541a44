"""Have a model write a plan: first in lines, then in JSON if that fails."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig

from ..context import Context
from ..plan.notations.draft import Occasion, PlanDraft, draft_problems, draft_schema, steps_from_draft
from ..plan.notations.grammar import line_grammar
from ..plan.notations.lines import Vocabulary, complete_lines, read_lines
from ..plan.notations.questions import marked_question, question_in
from ..state import Step
from .grammars import AnswerGrammar
from .metered import ModelMeter
from .reading import TextForm
from .structured import call_structured

__all__ = [
    "DraftForm",
    "Listener",
    "write_draft",
]


DraftForm = Literal["lines", "fields"]
"""The form of a plan: lines, or the fields of a JSON object."""


Listener = Callable[[list[Step]], None]
"""Called with the complete steps of a plan that is still being written."""


async def write_draft(
    model: BaseChatModel,
    prompt: Callable[[DraftForm], Sequence[BaseMessage]],
    *,
    role: str,
    tools: Mapping[str, Mapping[str, Any]],
    agents: Sequence[str] = (),
    model_classes: Sequence[str] = (),
    sub_plans: bool = False,
    inputs: Collection[str] = (),
    settings: Context,
    meter: ModelMeter,
    config: RunnableConfig,
    occasion: Occasion,
    kept: Sequence[Step] = (),
    taken: Collection[str] = (),
    listen: Listener | None = None,
) -> PlanDraft:
    """Have a model write a plan, or more steps of one: with tools, named agents, and sub-plans if allowed.

    Args:
        prompt: Returns the prompt for a form.
        tools: The JSON Schema of the arguments of each tool.
        model_classes: Model classes that a step may name.
        inputs: Names of the inputs.
        settings: The settings of the number of steps and of the grammar.
        occasion: What the plan is written for.
        kept: Steps that stay, whatever the model writes.
        taken: Ids that new steps must not use.
        listen: Called with the steps while the model writes.

    Raises:
        ModelCallError: If it cannot be used, or writes nothing readable after bounded repair.
        BudgetExceededError: If there is no room for the call.
    """
    words = Vocabulary({name: list(_properties(schema)) for name, schema in tools.items()}, agents, taken)
    write = partial(
        line_grammar,
        tools,
        agents=agents,
        model_classes=model_classes,
        sub_plans=sub_plans,
        earlier=[step["id"] for step in kept],
        inputs=inputs,
        occasion=occasion,
    )
    return await call_structured(
        model,
        PlanDraft,
        prompt("fields"),
        role=role,
        meter=meter,
        json_schema=draft_schema(
            list(tools), agents, model_classes=model_classes, sub_plans=sub_plans, occasion=occasion
        ),
        check=partial(draft_problems, occasion=occasion, kept=kept),
        form=TextForm(
            prompt("lines"),
            read=partial(_draft_in_lines, words=words, may_ask=occasion != "revision"),
            reminder=_REMINDER,
            listen=None if listen is None else _line_by_line(listen, words),
            grammar=AnswerGrammar(write, settings.max_steps, settings.plan_grammar),
        ),
        config=config,
    )


def _properties(schema: Mapping[str, Any]) -> Collection[str]:
    named: Mapping[str, Any] = schema.get("properties") or {}
    return named


_REMINDER = 'Write one step a line, as `1. tool(value, name=value)` or `2. "what to do" tools=[a] after=[1]`.'


def _draft_in_lines(text: str, words: Vocabulary, *, may_ask: bool) -> PlanDraft | None:
    question = marked_question(text) if may_ask else None
    written = None if question else read_lines(text, words)
    if written is not None:
        return PlanDraft.model_validate(written)
    question = question or (question_in(text) if may_ask else None)
    return None if question is None else PlanDraft(outcome="question", rationale=question, steps=[])


def _line_by_line(listen: Listener, words: Vocabulary) -> Callable[[str], None]:
    """Turn a listener to steps into a listener to the growing text."""
    seen = 0

    def hear(text: str) -> None:
        nonlocal seen
        lines = text.count("\n")
        if lines != seen:
            seen = lines
            written = complete_lines(text, words)
            listen(steps_from_draft(PlanDraft(outcome="plan", steps=written)))  # type: ignore[arg-type]

    return hear
