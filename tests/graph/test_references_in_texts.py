"""References inside longer texts and expressions: what they mean survives revisions and checks."""

from __future__ import annotations

from typing import Any

import pytest
from bounded import BoundedThread
from langchain_core.tools import StructuredTool
from plans import FREE, agent_with, bound, draft, draft_step
from pydantic import BaseModel, Field
from toolset import Toolset, make_tool

from plan_execute import Context, ScriptedModel
from plan_execute.plan.notations.draft import rename_uses


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("${shop.items[?price > `5`].name}", "${shop.items[?price > `5`].name}"),
        ("${shop.{price: cost}}", "${shop.{price: cost}}"),
        ("${price}", "${price_r2}"),
        ("${price.price}", "${price_r2.price}"),
    ],
)
def test_renaming_a_step_renames_its_uses_and_leaves_fields_of_the_same_name(before: str, after: str) -> None:
    step = {"id": "x", "call": {"tool": "t", "args": {"a": before}}}
    assert rename_uses(step, {"price": "price_r2"})["call"]["args"] == {"a": after}


async def test_a_field_with_the_name_of_a_replaced_step_is_still_found_after_a_revision() -> None:
    async def shop(q: str) -> dict[str, Any]:
        """List what there is."""
        return {"items": [{"name": "hat", "price": 9}, {"name": "pin", "price": 1}]}

    tools = Toolset()
    pick = draft_step("pick", "echo", {"value": "${shop.items[?price > `5`].name}"}, "price")
    model = ScriptedModel(
        {"replanner": [draft(draft_step("price", "look", {"q": "p"}), pick)], "synthesizer": ["ok"]}
    )
    settings = Context(approval="never", max_attempts=1)
    result = await BoundedThread(agent_with([*tools.tools, make_tool(shop)], model), settings).run(
        bound("shop", "shop", {"q": "1"}), bound("price", "broken", {"q": "1"}, "shop", on_failure="replan")
    )
    assert result["results"]["pick"]["output"] == ["hat"]


class _Address(BaseModel):
    url: str = Field(pattern=r"^https?://", max_length=12)


@pytest.mark.parametrize("url", ["${base}/a", "${base}"])
async def test_a_text_with_a_reference_is_held_to_the_rules_of_its_argument_only_once_it_has_its_value(
    url: str,
) -> None:
    def get(url: str) -> str:
        """Get a page."""
        return url

    tools = Toolset()
    getting = StructuredTool.from_function(get, args_schema=_Address, metadata={"effect": "read"})
    result = await BoundedThread(agent_with([*tools.tools, getting]), FREE).run(
        bound("base", "echo", {"value": "http://x"}), bound("g", "get", {"url": url})
    )
    assert result["plan_issues"] == []
    assert result["results"]["g"]["output"] == url.replace("${base}", "http://x")


async def test_a_text_without_a_reference_is_held_to_the_rules_of_its_argument_before_anything_runs() -> None:
    def get(url: str) -> str:
        """Get a page."""
        return url

    getting = StructuredTool.from_function(get, args_schema=_Address, metadata={"effect": "read"})
    result = await BoundedThread(agent_with([getting]), FREE).run(bound("g", "get", {"url": "ftp://x"}))
    assert [issue["code"] for issue in result["plan_issues"]] == ["bad_arguments"]
