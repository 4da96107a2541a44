"""``response_format``: the final output in a form that the embedder declares, validated, as plain JSON."""

from __future__ import annotations

import itertools
import sys
import typing
from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest
from langchain.agents.structured_output import ToolStrategy
from openai_stub import OpenAIStub, Reply
from plans import FREE, Thread, agent_with, bound, think
from pydantic import BaseModel, Field
from toolset import Toolset
from typing_extensions import TypedDict

from plan_execute import ScriptedModel
from plan_execute.errors import ConfigurationError

_names = itertools.count()


class Trip(BaseModel):
    city: str
    day: date
    hours: int = Field(ge=1)


@dataclass
class Spot:
    city: str


class Place(TypedDict):
    city: str


GOOD = {"city": "Rome", "day": "2026-11-21", "hours": 3}
STEPS = [bound("a", "look", {"q": "x"}), bound("b", "look", {"q": "${a}"})]


async def _run(form: Any, *answers: Any, steps: Any = STEPS) -> tuple[dict[str, Any], ScriptedModel]:
    model = ScriptedModel({"synthesizer": list(answers)})
    agent = agent_with(Toolset().tools, model, response_format=form)
    return await Thread(agent, FREE).run(*steps), model


@pytest.mark.parametrize(
    ("form", "answer"),
    [
        (Trip, GOOD),
        (ToolStrategy(Trip), GOOD),
        (Spot, {"city": "Rome"}),
        (Place, {"city": "Rome"}),
        (
            {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
            {"city": "Rome"},
        ),
    ],
)
async def test_the_output_is_plain_json_in_the_form_asked_for(form: Any, answer: Any) -> None:
    result, _ = await _run(form, answer)
    assert (result["status"], result["output"]) == ("done", answer)
    assert '"city": "Rome"' in result["final_answer"]


async def test_what_does_not_fit_is_repaired_with_its_problem() -> None:
    result, model = await _run(Trip, {**GOOD, "hours": 0}, GOOD)
    assert result["output"] == GOOD
    assert "hours" in str(model.calls[1].messages[-1].text)


async def test_a_run_whose_output_never_fits_is_partial_and_says_so() -> None:
    result, _ = await _run(Trip, *[{"city": "Rome"}] * 3)
    assert (result["status"], result["output"]) == ("partial", None)
    assert "structured output is missing" in result["final_answer"]


async def test_a_run_that_is_not_done_has_no_output_but_a_report() -> None:
    steps = [
        bound("a", "look", {"q": "x"}),
        bound("b", "broken", {"q": "x"}, on_failure="abort", max_attempts=1),
    ]
    result, _ = await _run(Trip, "it broke", steps=steps)
    assert (result["status"], result["output"]) == ("partial", None)


async def test_the_only_step_gives_the_output_without_another_call_if_it_fits() -> None:
    model = ScriptedModel({"executor": ['{"city": "Oslo"}']})
    agent = agent_with((), model, response_format=Place)
    result = await Thread(agent, FREE).run(think("a", output_schema={"type": "object"}))
    assert (result["output"], result["usage"]["model_calls"]) == ({"city": "Oslo"}, 1)


async def test_it_is_asked_for_on_the_wire() -> None:
    with OpenAIStub([Reply.json(GOOD)]) as stub:
        name = f"stub-output-{next(_names)}"
        agent = agent_with(Toolset().tools, name, base_url=stub.base_url, response_format=Trip)
        result = await Thread(agent, FREE).run(*STEPS)
    schema = stub.requests[0].body["response_format"]["json_schema"]["schema"]
    assert (set(schema["properties"]), result["output"]) == (set(GOOD), GOOD)


@pytest.mark.parametrize("form", [3, "city", int, list[str], {"type": "array"}, {"type": "thing"}])
def test_a_form_that_is_none_is_refused_at_once(form: Any) -> None:
    with pytest.raises(ConfigurationError, match="response_format"):
        agent_with((), ScriptedModel({}), response_format=form)


def test_a_form_with_no_model_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="response_format= needs a model"):
        agent_with((), response_format=Trip)


class Nested(TypedDict):
    inside: typing.TypedDict("Plain", {"city": str})  # type: ignore[valid-type]


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="pydantic reads typing.TypedDict from Python 3.12 on")
@pytest.mark.parametrize("form", [typing.TypedDict("Plain", {"city": str}), Nested])
def test_a_typeddict_that_pydantic_cannot_read_is_refused_with_the_one_to_use(form: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"use typing_extensions\.TypedDict"):
        agent_with(Toolset().tools, ScriptedModel({}), response_format=form)
