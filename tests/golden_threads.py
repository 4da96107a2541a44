"""The threads that the golden databases hold, and the tools that a later version needs to go on with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool

from plan_execute import ScriptedModel, create_plan_execute_agent

FOLDER = Path(__file__).parent / "persistence" / "golden"

FINISHED = {
    "goal": "look and tell",
    "steps": [
        {"id": "look", "call": {"tool": "look", "args": {"name": "weather"}}},
        {"id": "think", "task": "think about ${look}", "tools": ["look"]},
        {"id": "send", "call": {"tool": "send", "args": {"name": "mail", "text": "${think}"}}},
    ],
}
FAILING = {
    "goal": "get it through",
    "steps": [
        {"id": "look", "call": {"tool": "look", "args": {"name": "weather"}}},
        {"id": "broken", "call": {"tool": "unsteady", "args": {"name": "parcel", "text": "${look}"}}},
        {"id": "send", "call": {"tool": "send", "args": {"name": "mail", "text": "${broken}"}}},
    ],
}
PLANNED = {
    "outcome": "plan",
    "rationale": "one message is enough",
    "steps": [
        {
            "id": "greet",
            "task": "greet",
            "depends_on": [],
            "call": "send",
            "arguments": '{"name": "mail", "text": "hello"}',
            "tools": [],
            "success_criterion": None,
        }
    ],
}


def make_agent(storage: Any, calls: list[tuple[str, str]], *, broken: bool) -> Any:
    """Make the agent of all golden threads; its tools put their calls on the list."""
    model = ScriptedModel(
        {
            "planner": [PLANNED],
            "executor": [ScriptedModel.tool_calls(("look", {"name": "clouds"})), "it will rain"],
            "synthesizer": ["The end."],
        },
        strict=False,
    )
    return create_plan_execute_agent(
        model, tools=_tools(calls, broken), checkpointer=storage.checkpointer, store=storage.store
    )


def _tools(calls: list[tuple[str, str]], broken: bool) -> list[BaseTool]:
    def look(name: str) -> str:
        """Look something up."""
        calls.append(("look", name))
        return f"seen {name}"

    def send(name: str, text: str) -> str:
        """Send a message."""
        calls.append(("send", name))
        return f"sent {name}: {text}"

    def unsteady(name: str, text: str) -> str:
        """Send something, or fail."""
        if broken:
            raise OSError("out of order")
        calls.append(("unsteady", name))
        return f"got {name} through: {text}"

    effects = {look: "read", send: "write", unsteady: "write"}
    return [
        StructuredTool.from_function(tool, metadata={"effect": effect}) for tool, effect in effects.items()
    ]
