"""Model calls of one job: planned by a model with bound steps, and given as a plan with no model.

Run ``python benchmarks/model_calls.py [--steps 9]``. The scripted model stands in for the mind and counts.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from langchain_core.tools import tool

from plan_execute import Context, ScriptedModel, create_plan_execute_agent


@tool
def look_up(name: str) -> str:
    """Look something up."""
    return f"{name} found"


look_up.metadata = {"effect": "read"}


def draft(size: int) -> dict[str, Any]:
    """Write the planner's answer: ``size`` bound steps."""
    steps = [
        {
            "id": f"s{n}",
            "task": f"look up {n}",
            "depends_on": [],
            "call": "look_up",
            "arguments": json.dumps({"name": f"thing {n}"}),
            "tools": [],
            "success_criterion": None,
        }
        for n in range(size)
    ]
    return {"outcome": "plan", "rationale": "independent lookups", "steps": steps}


def main() -> None:
    """Print the calls of both ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=9)
    size = parser.parse_args().steps
    model = ScriptedModel({"planner": [draft(size)], "synthesizer": ["All found."]})
    planned = create_plan_execute_agent(model, [look_up]).invoke(
        {"goal": "Look everything up"}, context=Context(approval="never")
    )
    given = create_plan_execute_agent(None, [look_up]).invoke(
        {"plan": planned["plan"]}, context=Context(approval="never")
    )
    for name, result in (("planned by a model", planned), ("given, no model", given)):
        assert result["status"] == "done", result["final_answer"]
        print(f"{name:>20}: {result['usage'].get('model_calls', 0)} model calls for {size} bound steps")


if __name__ == "__main__":
    main()
