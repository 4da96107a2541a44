"""The key of a call goes to the tool that asks for it, and to nobody else."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from langchain_core.tools import BaseTool, StructuredTool
from plans import bound, plan, think
from pydantic import BaseModel

from plan_execute import Context, InjectedIdempotencyKey, ScriptedModel, create_plan_execute_agent
from plan_execute.models.prompts import unquote
from plan_execute.plan.rules import PlanFacts, validate_plan
from plan_execute.tools.idempotency import key_parameters
from plan_execute.tools.toolbox import Toolbox

FREE = Context(approval="never", on_failure="abort")


class PayArgs(BaseModel):
    amount: int
    key: Annotated[str, InjectedIdempotencyKey()]


class PayTool(BaseTool):
    name: str = "pay"
    description: str = "Pay."

    def _run(self, amount: int, key: Annotated[str, InjectedIdempotencyKey]) -> str:
        return f"{amount} {key}"


def pay(amount: int, key: Annotated[str, InjectedIdempotencyKey()]) -> str:
    """Pay."""
    return f"{amount} {key}"


async def pay_async(amount: int, key: Annotated[str, InjectedIdempotencyKey] = "") -> str:
    """Pay."""
    return f"{amount} {key}"


def pay_bare(amount: int, key: str) -> str:
    """Pay."""
    return f"{amount} {key}"


def made(effect: str = "idempotent", **ways: Any) -> BaseTool:
    return StructuredTool.from_function(**ways, name="pay", metadata={"effect": effect})


FORMS = {
    "function": lambda: made(func=pay),
    "coroutine": lambda: made(coroutine=pay_async),
    "schema": lambda: made(func=pay_bare, args_schema=PayArgs),
    "class": lambda: PayTool(metadata={"effect": "idempotent"}),
}


@pytest.fixture(params=FORMS)
def tool(request: pytest.FixtureRequest) -> BaseTool:
    return FORMS[request.param]()


def outputs(tool: BaseTool, *steps: dict[str, Any], model: Any = None) -> dict[str, Any]:
    agent = create_plan_execute_agent(model, tools=[tool])
    found = agent.invoke({"plan": plan(*steps)}, context=FREE)
    assert found["status"] == "done", found["final_answer"]
    return {step_id: result["output"] for step_id, result in found["results"].items()}


def is_key(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def test_bound_steps_get_keys_of_their_own(tool: BaseTool) -> None:
    found = outputs(tool, bound("a", "pay", {"amount": 1}), bound("b", "pay", {"amount": 1}))
    amount, key = found["a"].split()
    assert amount == "1"
    assert is_key(key)
    assert found["b"] != found["a"]


@pytest.mark.parametrize("effect", ["read", "idempotent", "write"])
def test_a_tool_of_any_effect_gets_one(effect: str) -> None:
    found = outputs(made(effect, func=pay), bound("a", "pay", {"amount": 1}))
    assert is_key(found["a"].split()[1])


def test_calls_in_agent_steps_get_keys_whatever_the_model_says(tool: BaseTool) -> None:
    calls = ScriptedModel.tool_calls(("pay", {"amount": 1}), ("pay", {"amount": 1, "key": "forged"}))
    spoken: list[str] = []

    def answer(messages: list[Any]) -> str:
        spoken.extend(unquote(message.text) for message in messages if message.type == "tool")
        return "done"

    model = ScriptedModel({"executor": [calls, answer], "synthesizer": ["The end."]})
    outputs(tool, think("a", tools=["pay"]), model=model)
    keys = [text.split()[1] for text in spoken]
    assert len(set(keys)) == 2
    assert all(map(is_key, keys))


def test_another_attempt_gets_another_key() -> None:
    seen: list[str] = []

    def flaky(key: Annotated[str, InjectedIdempotencyKey()]) -> str:
        """Fail once."""
        seen.append(key)
        if len(seen) == 1:
            raise ValueError("no")
        return key

    tool = StructuredTool.from_function(flaky, name="pay", metadata={"effect": "idempotent"})
    outputs(tool, bound("a", "pay", {}, max_attempts=2))
    assert len(set(seen)) == 2


def test_tries_after_a_passing_failure_share_the_key() -> None:
    seen: list[str] = []

    def flaky(key: Annotated[str, InjectedIdempotencyKey()]) -> str:
        """Fail once in a way that passes."""
        seen.append(key)
        if len(seen) == 1:
            raise ConnectionError("reset")
        return key

    tool = StructuredTool.from_function(flaky, name="pay", metadata={"effect": "idempotent"})
    outputs(tool, bound("a", "pay", {}))
    assert len(seen) == 2
    assert len(set(seen)) == 1


def test_neither_models_nor_plans_see_the_parameter(tool: BaseTool) -> None:
    assert list(Toolbox([tool]).arguments_schema("pay")["properties"]) == ["amount"]


def test_a_plan_needs_no_key_and_may_not_set_one(tool: BaseTool) -> None:
    facts = PlanFacts(toolbox=Toolbox([tool]), step_limit=5)
    assert validate_plan(plan(bound("a", "pay", {"amount": 1})), facts)[1] == []
    [issue] = validate_plan(plan(bound("a", "pay", {"amount": 1, "key": "mine"})), facts)[1]
    assert issue["code"] == "bad_arguments"
    assert "'key'" in issue["message"]


def test_a_tool_that_asks_for_no_key_gets_none() -> None:
    assert key_parameters(made(func=pay_bare)) == []
