"""Real runs to make reports of, and what a report must stand: texts that would be markup, or hide."""

from __future__ import annotations

import asyncio
import random
from html.parser import HTMLParser
from typing import Any

from plans import FREE, Thread, agent_with, bound, draft, draft_step
from toolset import Toolset, make_tool

from plan_execute import Context, ScriptedModel
from plan_execute.report import RunRecord, aread_run

__all__ = ["HOSTILE", "Page", "hostile_run", "many_steps", "revised_run", "small_run", "waiting_run"]

HOSTILE = (
    "<script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\">"
    "</pre></details></style>\"'&amp; \x00\x07\x1b[31mred\x9b \u202eevil\u202c \u2067x\u2069 \u200b\ufeff "
    "[go](javascript:alert(1)) ![p](https://evil.example/p.png) <https://evil.example> "
    "https://evil.example/bare `code` ``` ~~~ | pipe | # heading\n# heading\n\u2028- item\n<!-- open "
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627"
)
"""Everything that has ever become markup, a link, or invisible, and scripts that must stay readable."""


async def small_run() -> RunRecord:
    """Three lookups beside each other, then two texts by a model; one of them is judged."""
    tools, fast = Toolset(), make_tool(_look_up)
    asked = [("weather", "Look up the weather in Oslo"), ("prices", "Look up what a tent costs")]
    steps = [draft_step(name, "look_up", {"name": name}, task=task) for name, task in asked]
    steps += [draft_step("pack", None, None, "weather", "prices", task="Pack", criterion="names a tent")]
    steps += [draft_step("letter", None, None, "pack", task="Write the letter")]
    model = ScriptedModel(
        {
            "planner": [draft(*steps, rationale="Lookups first.")],
            "executor": ["- tent\n- boots", "Dear all"],
            "evaluator": [ScriptedModel.verdict(met=True)],
            "synthesizer": ["## Packing\n\n**Take** a [tent](https://shop.example) <b>now</b>"],
        }
    )
    thread = Thread(agent_with([*tools.tools, fast], model), FREE)
    await thread.send({"goal": "Plan a weekend in Oslo"})
    return await aread_run(thread.agent, thread.config)


async def _look_up(name: str) -> dict[str, Any]:
    """Look something up, and take a moment for it."""
    await asyncio.sleep(0.02)
    return {"name": name, "found": [name, 2, None]}


_look_up.__name__ = "look_up"


def _broken_plan() -> list[dict[str, Any]]:
    return [
        bound("list", "look", {"q": "files"}, task="List the files"),
        bound("fetch", "broken", {"q": "${list}"}, "list", task="Fetch them"),
        bound("merge", "echo", {"value": "${fetch}"}, task="Merge them"),
        bound("maybe", "look", {"q": "n"}, "list", task="Only for many", when="length(list) > `100`"),
    ]


async def revised_run() -> RunRecord:
    """A step fails twice, and the replanner goes around it."""
    mended = draft(draft_step("fetch", "look", {"q": "mirror"}, "list", task="Fetch from the mirror"))
    model = ScriptedModel({"replanner": [mended], "synthesizer": ["Done by the mirror."]})
    settings = Context(approval="never", max_attempts=2, on_failure="replan")
    thread = Thread(agent_with(Toolset().tools, model), settings)
    await thread.run(*_broken_plan())
    return await aread_run(thread.agent, thread.config)


async def waiting_run() -> RunRecord:
    """A step has failed, and a person is asked what to do about it."""
    thread = Thread(agent_with(Toolset().tools), Context(approval="never", max_attempts=1, on_failure="ask"))
    await thread.run(*_broken_plan())
    return await aread_run(thread.agent, thread.config)


async def hostile_run() -> RunRecord:
    """Goal, tasks, arguments, outputs, errors, evidence and criteria all hold hostile text."""

    def look(q: str) -> Any:
        """Look."""
        if q == "fail":
            raise ValueError(HOSTILE)
        return {HOSTILE: [HOSTILE, "x" * 3000]}

    thread = Thread(
        agent_with([make_tool(look)]), Context(approval="never", max_attempts=1, on_failure="skip")
    )
    criteria = [{"type": "matches", "pattern": "<b>nothing</b>"}]
    await thread.run(
        bound("shown", "look", {"q": HOSTILE}, task=HOSTILE + "longword" * 60),
        bound("checked", "look", {"q": HOSTILE}, success_criteria=criteria),
        bound("raised", "look", {"q": "fail"}, task=HOSTILE),
        goal=HOSTILE,
        rationale=HOSTILE,
    )
    return await aread_run(thread.agent, thread.config)


async def many_steps(count: int) -> RunRecord:
    """A run of so many steps in a random DAG, always the same one; one of them fails."""
    draws = random.Random(count)

    def work(name: str) -> dict[str, Any]:
        """Work."""
        if name == "s7":
            raise OSError("no route to host")
        return {"name": name, "text": "lorem ipsum " * 20}

    steps = []
    for n in range(count):
        near = range(max(0, n - 25), n)
        after = draws.sample(near, min(n, draws.choice([0, 1, 1, 2, 2, 3])))
        named = {"task": f"Do the thing number {n}", "max_attempts": 1, "on_failure": "skip"}
        steps.append(bound(f"s{n}", "work", {"name": f"s{n}"}, *(f"s{dep}" for dep in after), **named))
    thread = Thread(agent_with([make_tool(work)]), FREE)
    await thread.run(*steps)
    return await aread_run(thread.agent, thread.config)


class Page(HTMLParser):
    """Reads a report strictly: what is opened is closed, in order.

    Attributes:
        tags: Every element as (name, attributes).
        ids: Every id, in order.
        text: All that is shown.
    """

    VOID = frozenset({"meta", "link", "br", "hr"})

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == [], f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"an attribute twice in <{tag}>: {names}"
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self.text += data

    @property
    def ids(self) -> list[str]:
        return [str(attributes["id"]) for _, attributes in self.tags if "id" in attributes]

    def named(self, tag: str, kind: str = "") -> list[dict[str, str | None]]:
        """The attributes of the elements of a name, and of a class if one is given."""
        wanted = set(kind.split())
        return [a for name, a in self.tags if name == tag and wanted <= set((a.get("class") or "").split())]
