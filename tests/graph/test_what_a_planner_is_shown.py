"""The planner knows the date, and the form of what tools give where it is known."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from langgraph.store.memory import InMemoryStore
from plans import Thread, agent_with, bound, draft, draft_step
from prompts_sent import shown_to
from toolset import make_tool
from typing_extensions import TypedDict

from plan_execute import Context, ScriptedModel
from plan_execute.tools.output_forms import seen_form

FREE = Context(approval="never", time_zone="Asia/Tokyo")


class Product(TypedDict):
    id: str
    price: float


def product(of: str) -> Product:
    """Look a product up."""
    return {"id": of, "price": 1.5}


def found(q: str) -> Any:
    """Find things."""
    return [{"name": q, "in_stock": 3}]


def shop(q: str) -> Any:
    """Ask the shop."""
    return {"a b": 1}


def asked(times: int) -> ScriptedModel:
    plans = [draft(draft_step("a", "found", {"q": "dune"}), draft_step("b", "shop", {"q": "x"}))] * times
    return ScriptedModel({"planner": plans, "synthesizer": ["ok"] * times})


async def test_a_planner_is_told_the_date_and_what_tools_declare() -> None:
    given = make_tool(shop, output_schema={"type": "array", "items": {"type": "integer"}})
    model = asked(1)
    await Thread(agent_with([make_tool(product), make_tool(found), given], model), FREE).send({"goal": "g"})
    (shown,) = shown_to(model, "planner")
    assert "time zone Asia/Tokyo (UTC+09:00)." in shown
    assert "product(of: string) -> {id: string, price: number}: Look a product up." in shown
    assert "shop(q: string) -> integer[]: Ask the shop." in shown
    assert "found(q: string): Find things." in shown


async def test_a_planner_is_told_the_form_that_an_earlier_run_saw() -> None:
    store, model = InMemoryStore(), asked(2)
    tools = [make_tool(found), make_tool(shop)]
    for _ in range(2):
        await Thread(agent_with(tools, model, store=store), FREE).send({"goal": "g"})
    first, second = shown_to(model, "planner")
    assert "found(q: string): Find things." in first
    assert "found(q: string) -> {name: string, in_stock: integer}[]: Find things." in second
    assert "shop(q: string): Ask the shop." in second, "a table's names are data"


async def test_a_planner_is_told_no_form_that_another_user_saw() -> None:
    store, model = InMemoryStore(), asked(3)
    for user in ("ann", "bob", "ann"):
        thread = Thread(agent_with([make_tool(found), make_tool(shop)], model, store=store), FREE)
        thread.config["configurable"]["langgraph_auth_user_id"] = user
        await thread.send({"goal": "g"})
    assert ["in_stock" in shown for shown in shown_to(model, "planner")] == [False, False, True]


async def test_a_replanner_is_told_the_date_too() -> None:
    def fail(q: str) -> str:
        """Fail."""
        raise ValueError("odd")

    model = ScriptedModel(
        {
            "evaluator": [{"decision": "replan", "reason": "odd", "hint": ""}],
            "replanner": [draft(draft_step("p", "product", {"of": "abc"}))],
            "synthesizer": ["ok"],
        }
    )
    context = FREE.model_copy(update={"max_attempts": 1})
    await Thread(agent_with([make_tool(fail), make_tool(product)], model), context).run(
        bound("a", "fail", {"q": "x"})
    )
    assert "time zone Asia/Tokyo (UTC+09:00)." in shown_to(model, "replanner")[0]


@pytest.mark.parametrize(("text", "asked_again"), [("the 2026 list", 2), ("the list", 1)])
async def test_a_plan_that_names_a_year_of_its_own_is_not_used_another_day(
    text: str, asked_again: int
) -> None:
    model = ScriptedModel(
        {"planner": [draft(draft_step("a", "found", {"q": text}))] * 2, "synthesizer": ["ok"] * 2}
    )
    agent = agent_with([make_tool(found)], model, plan_cache=timedelta(days=9))
    for _ in range(2):
        await Thread(agent, FREE).send({"goal": "what is left tomorrow"})
    assert len(shown_to(model, "planner")) == asked_again


@pytest.mark.parametrize(
    ("output", "form"),
    [
        ([], {"type": "array", "items": {}}),
        ([True], {"type": "array", "items": {"type": "boolean"}}),
        ({"not a name": 1}, {"type": "object"}),
        ({f"k{n}": n for n in range(31)}, {"type": "object"}),
    ],
)
def test_the_form_of_an_output_has_names_and_types_and_no_values(output: object, form: object) -> None:
    assert seen_form(output) == form
