"""Ask the person: a step of kind ``ask``, or a question that an agent has about its step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import UnansweredError
from ...people.asking import ask_person
from ...people.forms import choices_of, fields_in_words, typed
from ...run import StepScope
from ...safety.markdown import plain_line
from ...storage.ids import path_as_json

__all__ = ["ask_for_agent", "run_ask_step"]

Json = Any


async def run_ask_step(ask: Mapping[str, Json], scope: StepScope) -> Json:
    """Ask the plan's question, with references filled in, and return the answer.

    Text is converted to the type of the step's ``output_schema``. Without choices, an answer that does not
    fit it is refused at once.

    Raises:
        UnansweredError: If there is no answer.
        langgraph.errors.GraphInterrupt: While a person is being asked.
    """
    schema = scope.output_schema or {}
    choices = [str(choice) for choice in ask.get("choices") or ()]
    form, is_wrapped = (None, False) if choices else _form(schema)
    said = await _answer(scope, str(ask["question"]), choices, 0, form)
    if choices:
        return typed(schema, said)
    return said[_ONLY] if is_wrapped else said


_ONLY = "answer"


def _form(schema: dict[str, Any]) -> tuple[dict[str, Any] | None, bool]:
    """Make a form of the schema of an answer: its own fields if it is an object, else one field around it.

    Returns:
        The form, if there can be one, and whether it is one around the schema.
    """
    if schema.get("type") == "object" and schema.get("properties"):
        return schema, False
    # A reference would lead elsewhere from within another schema.
    if not schema or _refers(schema):
        return None, False
    return {"type": "object", "properties": {_ONLY: schema}, "required": [_ONLY]}, True


def _refers(part: Json) -> bool:
    if isinstance(part, Mapping):
        return isinstance(part.get("$ref"), str) or any(map(_refers, part.values()))
    return isinstance(part, list) and any(map(_refers, part))


async def ask_for_agent(scope: StepScope, question: str, *, occasion: int) -> str:
    """Ask an agent's question, and return the answer as text.

    Args:
        occasion: Distinguishes this question from earlier ones of the same conversation.

    Raises:
        UnansweredError: If there is no answer.
        langgraph.errors.GraphInterrupt: While a person is being asked.
    """
    return f"The person answers: {await _answer(scope, question, [], occasion)}"


async def _answer(
    scope: StepScope,
    question: str,
    choices: Sequence[str],
    occasion: int,
    form: Mapping[str, Any] | None = None,
) -> Json:
    if not scope.run.can_ask:
        raise UnansweredError(f"nobody can be asked, because there is no checkpointer: {question}")
    args: dict[str, Json] = {"question": question, "choices": list(choices), "answer": ""}
    fields: list[str] = []
    if form is not None:
        args |= {"choices": choices_of(form), "form": dict(form)}
        fields = fields_in_words(form)
    offered = "".join(f"\n- {plain_line(line)}" for line in (*choices, *fields))
    description = f"Step **{scope.step_id}** asks: {plain_line(question)}" + (offered and f"\n{offered}")
    key = [path_as_json(scope.work.path), scope.work.plan_id, question, occasion]
    answer = await ask_person(scope.run, key, "ask_person", args, description, step_id=scope.step_id)
    if answer["type"] == "reject":
        why = answer["message"] or "the person did not answer"
        raise UnansweredError(f"no answer to the question {question!r}: {why}")
    return answer["args"]["answer"]
