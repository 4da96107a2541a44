"""What is said to the planner stays as it is: a change shows in the golden file."""

import re

import pytest
from golden.compare import assert_golden
from plans import FREE, agent_with, draft, draft_step
from toolset import make_tool

from plan_execute import ScriptedModel


def look(q: str) -> str:
    """Look something up."""
    return f"found {q}"


@pytest.mark.parametrize(("name", "number"), [("planner", 0), ("planner_next_steps", 1)])
def test_the_prompt_of_the_planner(name, number):
    first = draft(draft_step("search", "look", {"q": "kettles"}), complete=False)
    model = ScriptedModel({"planner": [first, draft(outcome="finished")], "synthesizer": ["ok"]})
    agent = agent_with([make_tool(look)], model, checkpointer=None)
    agent.invoke({"goal": "Find the best kettle"}, context=FREE)
    system, human = model.calls[number].messages
    said = re.sub(r"\b[0-9a-f]{8}\b", "MARK", f"{system.text}\n---\n{human.text}\n")
    assert_golden(f"prompts/{name}.txt", said)
