"""Tools by name: effects, resources, argument schemas, grants."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from langchain_core.tools import tool
from langgraph.prebuilt import ToolRuntime
from toolset import make_tool

from plan_execute.errors import ConfigurationError
from plan_execute.tools.toolbox import Toolbox, as_tool


def look(q: str, limit: int = 3) -> str:
    """Look something up."""
    return q * limit


def save(path: str, text: str) -> str:
    """Save."""
    return path


def test_a_function_keeps_what_is_declared_at_it() -> None:
    def mail(to: str) -> str:
        """Send a mail."""
        return to

    mail.metadata = {"effect": "read", "resource": "mail:{to}"}  # type: ignore[attr-defined]
    toolbox = Toolbox([mail])
    assert toolbox.effect("mail") == "read"
    assert toolbox.known_resource("mail", {"to": "ada"}) == "mail:ada"


def test_a_function_becomes_a_tool_that_writes_unless_it_says_otherwise() -> None:
    toolbox = Toolbox([look])
    assert toolbox.names == ["look"]
    assert toolbox.effect("look") == "write"
    assert toolbox.get("look").description.startswith("Look something up")


@pytest.mark.parametrize(
    ("metadata", "effect"),
    [
        ({"effect": "read"}, "read"),
        ({"effect": "idempotent"}, "idempotent"),
        ({"readOnlyHint": True}, "read"),
        ({"idempotentHint": True}, "idempotent"),
        ({"destructiveHint": True}, "write"),
        ({}, "write"),
        (None, "write"),
        ({"effect": "write", "readOnlyHint": True}, "write"),
        ({"readOnlyHint": False}, "write"),
        ({"mcp": {"tool": {"annotations": {"read_only_hint": True}}}}, "read"),
        ({"mcp": {"tool": {"annotations": {"idempotent_hint": True}}}}, "idempotent"),
        ({"mcp": {"server": {"name": "shop"}}}, "write"),
        ({"mcp": "mine"}, "write"),
    ],
)
def test_an_effect_comes_from_metadata_then_from_mcp_annotations_else_it_is_write(
    metadata: Any, effect: str
) -> None:
    made = as_tool(look).model_copy(update={"metadata": metadata})
    assert Toolbox([made]).effect("look") == effect


def test_an_unknown_tool_counts_as_writing_and_cannot_be_got() -> None:
    toolbox = Toolbox([look])
    assert toolbox.effect("fly") == "write"
    with pytest.raises(ConfigurationError, match="unknown tool 'fly'; known tools: look"):
        toolbox.get("fly")


@pytest.mark.parametrize(
    ("args", "resource"),
    [({"path": "f", "text": "x"}, "file:f"), ({"path": "${a}"}, "file:${a}"), ({}, None), (None, None)],
)
def test_a_resource_is_filled_from_the_final_arguments(args: Any, resource: str | None) -> None:
    toolbox = Toolbox([make_tool(save, effect="write", resource="file:{path}")])
    assert toolbox.known_resource("save", args) == resource


def test_a_resource_without_a_template_is_a_name() -> None:
    toolbox = Toolbox([make_tool(save, effect="write", resource="the disk")])
    assert toolbox.known_resource("save", None) == "the disk"
    assert toolbox.known_resource("fly", None) is None


def test_a_tool_is_another_one_when_its_effect_resource_or_arguments_are() -> None:
    def save_all(path: str, text: str, force: bool) -> str:
        """Save."""
        return path

    tools = [
        make_tool(save, effect="write"),
        make_tool(save, effect="read"),
        make_tool(save, effect="write", resource="file:{path}"),
        make_tool(save_all, effect="write").model_copy(update={"name": "save"}),
    ]
    assert len({Toolbox([made]).fingerprints(["save"])["save"] for made in tools}) == 4
    again = make_tool(save, effect="write")
    assert Toolbox([again]).fingerprints(["save"]) == Toolbox([tools[0]]).fingerprints(["save"])


def test_the_inventory_holds_what_a_planner_needs_and_nothing_that_the_runtime_injects() -> None:
    @tool
    def ask(question: str, runtime: ToolRuntime[Any, Any]) -> str:
        """Ask."""
        return question

    (entry,) = Toolbox([ask]).inventory()
    assert (entry["name"], entry["effect"]) == ("ask", "write")
    assert list(entry["arguments"]["properties"]) == ["question"]


async def test_blocking_tools_run_outside_the_event_loops_thread() -> None:
    def where() -> int:
        """Tell the thread."""
        return threading.get_ident()

    made = Toolbox([where]).get("where")
    assert await made.ainvoke({}) != threading.get_ident()


async def test_async_tools_stay_in_the_event_loop() -> None:
    async def where() -> bool:
        """Tell the loop."""
        return asyncio.get_running_loop() is loop

    loop = asyncio.get_running_loop()
    assert await Toolbox([where]).get("where").ainvoke({})


@pytest.mark.parametrize("bad", [3, "x", None, [], lambda: 1])
def test_what_is_no_tool_is_refused(bad: Any) -> None:
    with pytest.raises(ConfigurationError):
        Toolbox([bad])
