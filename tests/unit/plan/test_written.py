"""Plans as their planner reads them again: in the notation that it writes, with nothing left out."""

from __future__ import annotations

import json
from typing import Literal

import pytest

from plan_execute.plan.notations.draft import PlanDraft, steps_from_draft
from plan_execute.plan.notations.lines import Vocabulary, read_lines
from plan_execute.plan.notations.written import written_step
from plan_execute.state import Step

WORDS = Vocabulary({"find": ["text", "limit"], "send": ["to", "body"]}, ["coder"])
PLAN = """
who = ask("Which client?", choices=["Acme", "Brill"])
found = find("overdue", limit=3) check="names orders"
told = send(to=$who, body="You owe ${found.sum}") if="found.sum > `0`" confirm=true
thanks = send(to=$who, body="Thank you") else_of=told
each = "Write about ${item.id}" tools=[find] after=[who] each=$found.orders output={"type": "object"}
coded = coder "Write a script" after=[found]
big = goal "Reach out to all"
deep = "Think hard" after=[found] model=strong
sorry = "Say what went wrong" if_failed=[found, told]
"""


def steps_of_lines(text: str) -> list[Step]:
    return steps_from_draft(PlanDraft.model_validate(read_lines(text, WORDS)))


@pytest.mark.parametrize("form", ["lines", "fields"])
def test_a_planner_that_copies_a_plan_which_it_is_shown_writes_the_same_plan(
    form: Literal["lines", "fields"],
) -> None:
    steps = steps_of_lines(PLAN)
    shown = [written_step(step, form) for step in steps]
    if form == "lines":
        assert steps_of_lines("\n".join(shown)) == steps
    else:
        draft = {"outcome": "plan", "steps": [json.loads(one) for one in shown]}
        assert steps_from_draft(PlanDraft.model_validate(draft)) == steps
