"""Draw a run as the README's picture.

    python docs/recording/picture.py docs/run.svg      (or: make recording)

The run is a real one. Three suppliers are asked for a price, one does not answer, the plan is repaired, and
the order waits for a person. A test makes the run again and compares the picture.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from langchain_core.tools import StructuredTool
from langgraph.checkpoint.memory import InMemorySaver

from plan_execute import Context, ScriptedModel, create_plan_execute_agent
from plan_execute.errors import ToolFailedError
from plan_execute.report import read_run

__all__ = ["picture"]

GOAL = "Order 200 chairs from the cheapest of three suppliers"
PLAN = """
north: ask_price("north")
east: ask_price("east")
west: ask_price("west")
best: cheapest({"north": $north, "east": $east, "west": $west})
order: place_order($best, 200)
"""
REPAIR = """
list_west: list_price("west")
best: cheapest({"north": $north, "east": $east, "west": $list_west})
order: place_order($best, 200)
"""
PRICES = {"north": 62, "east": 58, "west": 71}


# --- the run -----------------------------------------------------------------------------


def ask_price(supplier: str) -> int:
    """Ask a supplier for the price of a chair."""
    if supplier == "west":
        raise ToolFailedError("no answer")
    return PRICES[supplier]


def list_price(supplier: str) -> int:
    """Look up what a chair costs in a supplier's price list."""
    return PRICES[supplier]


def cheapest(prices: dict[str, int]) -> str:
    """Name the cheapest supplier."""
    return min(prices, key=lambda supplier: prices[supplier])


def place_order(supplier: str, chairs: int) -> str:
    """Order chairs."""
    raise AssertionError(f"nobody has approved {chairs} chairs from {supplier}")


def run() -> tuple[dict[str, Any], dict[str, Any]]:
    """Run until a person is asked; give the record of each step, and the question."""
    patch = {"decision": "patch", "reason": "West does not answer.", "hint": "Use its price list."}
    model = ScriptedModel({"planner": [PLAN], "evaluator": [patch], "replanner": [REPAIR]})
    reads = [
        StructuredTool.from_function(tool, metadata={"effect": "read"})
        for tool in (ask_price, list_price, cheapest)
    ]
    write = StructuredTool.from_function(place_order, metadata={"effect": "write"})
    agent = create_plan_execute_agent(model, tools=[*reads, write], checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "chairs"}}
    settings = Context(max_attempts=1, approval="never", confirm="computed")
    stopped: Any = agent.invoke({"goal": GOAL}, thread, context=settings)
    return {step["id"]: step for step in read_run(agent, thread)["steps"]}, stopped["__interrupt__"][0].value


# --- the picture -------------------------------------------------------------------------

STYLE = """
text { font: 14px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: #1c2128; }
.call { font: 13px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.page { fill: #ffffff; stroke: #d5dae1; } .line { fill: none; stroke: #57606a; stroke-width: 1.5; }
.box { stroke-width: 1.5; } .repair { stroke-dasharray: 5 4; } .head { fill: #57606a; }
.done { fill: #e3f5e8; stroke: #176b30; } .failed { fill: #fde7e8; stroke: #c01c28; }
.waiting { fill: #fdeadb; stroke: #a3460a; } .words { fill: #57606a; }
@media (prefers-color-scheme: dark) {
  text { fill: #e4e9ef; } .page { fill: #0f1318; stroke: #333c47; } .words { fill: #9aa5b1; }
  .line { stroke: #9aa5b1; } .head { fill: #9aa5b1; } .done { fill: #12301b; stroke: #4cc866; }
  .failed { fill: #3a1518; stroke: #ff7b78; } .waiting { fill: #3b2310; stroke: #ffa365; }
}
"""
WIDTH, HEIGHT, BOX = 880, 262, 54
PLACES = {
    "north": (20, 48, 168),
    "east": (20, 118, 168),
    "west": (20, 188, 168),
    "list_west": (232, 188, 200),
    "best_r2": (492, 118, 120),
    "order_r2": (642, 118, 218),
}
"""Where the box of each step stands, and how wide it is."""


def picture() -> str:
    """Make the run, and draw its steps as their records say they are."""
    steps, question = run()
    asked = question["action_requests"][0]["args"]["tool_args"]
    calls = {
        name: f"{step['call']['tool']}({_written(step['call']['args'])})" for name, step in steps.items()
    }
    calls |= {"best_r2": "cheapest(…)", "order_r2": f"place_order({_written(asked)})"}
    words = {name: _words(step) for name, step in steps.items()}
    words["list_west"] = f"{words['list_west']} · added as a repair"
    answers = " · ".join(question["review_configs"][0]["allowed_decisions"])
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'width="{WIDTH}" height="{HEIGHT}"><title>A run of six steps</title><style>{STYLE}</style>',
            f'<rect class="page" x=".5" y=".5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="8"/>',
            f'<text x="20" y="29">Goal: {GOAL}</text>',
            *(_line(before, name) for name in PLACES for before in steps[name]["depends_on"]),
            _line("west", "list_west", "line repair"),
            *(_box(name, steps[name]["outcome"], calls[name], words[name]) for name in PLACES),
            f'<text class="words" x="751" y="194" text-anchor="middle">{answers}</text>',
            "</svg>\n",
        ]
    )


def _written(args: dict[str, Any]) -> str:
    return ", ".join(f'"{value}"' if isinstance(value, str) else str(value) for value in args.values())


def _words(step: dict[str, Any]) -> str:
    if step["outcome"] == "failed":
        return f"✗ {step['error']['message']}"
    return "‖ waits for a person" if step["outcome"] == "waiting" else f"✓ {step['output']}"


def _box(name: str, outcome: str, call: str, words: str) -> str:
    x, y, width = PLACES[name]
    return (
        f'<rect class="box {outcome}" x="{x}" y="{y}" width="{width}" height="{BOX}" rx="6"/>'
        f'<text class="call" x="{x + 10}" y="{y + 22}">{escape(call)}</text>'
        f'<text x="{x + 10}" y="{y + 43}">{escape(words)}</text>'
    )


def _line(before: str, after: str, kind: str = "line") -> str:
    (left, above, width), (right, below, _) = PLACES[before], PLACES[after]
    x1, y1, x2, y2 = left + width, above + BOX / 2, right - 7, below + BOX / 2
    turn = x2 - 22
    return (
        f'<path class="{kind}" d="M{x1} {y1:g}H{turn - 20}L{turn} {y2:g}H{x2}"/>'
        f'<path class="head" d="M{x2} {y2 - 5:g}l7 5l-7 5z"/>'
    )


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(picture(), encoding="utf-8")
