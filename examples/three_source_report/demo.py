"""The report as a demo: three bound lookups, a step that thinks without tools, a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ... import Context, ScriptedModel
from ..scripts import MET, agent_step, call_step, plan_reply
from .tools import report_tools

__all__ = ["ENDINGS", "prepare"]

ENDINGS = ("good",)

_REPORT = """\
# Kettles

- Sold in the last three weeks: 31, 38, 45; the demand grows.
- Free on the shelf: 45, which lasts about one week.
- A delivery takes 2 weeks and comes in boxes of 24.

Order 4 boxes (96 pieces) now: the shelf will be empty before they arrive.
"""


def prepare(workspace: Path, ending: str) -> dict[str, Any]:  # noqa: ARG001 - every demo takes an ending
    """Return what a ``Demo`` is made of."""
    return {
        # Local files answer at once; real sources do not, and then it shows that they are asked together.
        "agent_args": {"model": ScriptedModel(_script()), "tools": report_tools(workspace, latency_s=0.3)},
        "goal": "Should we order kettles? Look at sales, stock and supplier, and write kettles.md.",
        # Nobody is asked, because the report goes into a temporary folder.
        "context": Context(approval="never"),
    }


def _script() -> dict[str, list[Any]]:
    return {
        "planner": [plan_reply("The three sources do not need each other.", *_steps())],
        "executor:merge": [_REPORT],
        "evaluator": [MET],
        "synthesizer": ["Yes: order 4 boxes of kettles now. The reasons are in kettles.md."],
    }


def _steps() -> list[dict[str, Any]]:
    kettle = {"product": "kettle"}
    return [
        call_step("sales", "Look up the sales", "look_up_sales", kettle),
        call_step("stock", "Look up the stock", "look_up_stock", kettle),
        call_step("supplier", "Look up the supplier", "look_up_supplier", kettle),
        agent_step(
            "merge",
            "Say in a few lines of Markdown what the three sources mean together",
            [],
            criterion="Every number is from one of the sources",
            after=["sales", "stock", "supplier"],
        ),
        call_step("write", "Write the report", "write_report", {"name": "kettles.md", "text": "${merge}"}),
    ]
