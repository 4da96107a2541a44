"""Plans as models spell them: each is read as it is meant, or the planner is told which line is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from plan_execute.plan.notations.lines import TextFormError, Vocabulary, read_lines

WORDS = Vocabulary({"get_weather": ["city"], "list_cities": [], "stock_of": ["item"]})
FILE = Path(__file__).with_name("spellings.txt")


class Spelling(NamedTuple):
    name: str
    text: str
    outcome: str
    meant: str


def spellings() -> Iterator[Spelling]:
    with FILE.open(encoding="utf-8", newline="") as file:
        _, *groups = re.split(r"^#### (?=read|told)", file.read(), flags=re.M)
    for group in groups:
        outcome, rest = group.split("\n", 1)
        meant, *written = re.split(r"^-- ", rest, flags=re.M)
        for one in written:
            name, text = one.split("\n", 1)
            yield Spelling(name, text.rstrip("\n"), outcome, meant.rstrip("\n"))


ALL = list(spellings())


def essence(text: str) -> Any:
    """What a plan says, without its ids' names and its reason."""
    plan = read_lines(text, WORDS)
    assert plan is not None
    steps = [
        {key: value for key, value in step.items() if key != "id" and value not in (None, [], "")}
        for step in plan["steps"]
    ]
    return plan["outcome"], plan["complete"], plan["answer"], steps


def test_there_are_at_least_as_many_spellings_as_were_tried() -> None:
    assert len(ALL) >= 142


@pytest.mark.parametrize("spelling", [s for s in ALL if s.outcome == "read"], ids=lambda s: s.name)
def test_a_spelling_is_read_without_a_repair(spelling: Spelling) -> None:
    assert essence(spelling.text) == essence(spelling.meant)


@pytest.mark.parametrize("spelling", [s for s in ALL if s.outcome == "told"], ids=lambda s: s.name)
def test_a_line_that_cannot_be_read_is_named_and_quoted(spelling: Spelling) -> None:
    with pytest.raises(TextFormError) as caught:
        read_lines(spelling.text, WORDS)
    problem = caught.value.problems[0]
    assert problem.startswith(spelling.meant)
    assert problem.partition("you wrote: ")[2] in " ".join(spelling.text.split())
