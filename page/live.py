"""Sends each browser what has changed in a run since it was told last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessageChunk

from ..models.json_text import without_thinking
from ..people.questions import OpenQuestion
from ..report.steps import outcome_of

__all__ = ["Live", "Watch"]

Json = Any
_AT_MOST_EVERY_S = 0.1
"""How often a browser is told; what happens in between is told together."""

_OF_THE_PLAN = ("plan_created", "plan_continued", "plan_validated", "plan_edited", "replanned")
_OF_THE_REST = (
    "plan_approved",
    "plan_rejected",
    "evaluated",
    "budget_warning",
    "question_open",
    "synthesized",
)
_DOING = {
    "step_started": "",
    "step_attempt": "attempt {attempt}",
    "tool_call": "calls {tool}",
    "tool_progress": "{tool}: {message}",
    "tool_finished": "",
    "step_progress": "{done} of {total}",
}
"""What a step does while it runs, by the type of the last event that told of it."""


class Watch:
    """One browser that follows something: it is woken, and takes all that is new at once."""

    def __init__(self) -> None:
        self._new: dict[str, Json] = {}
        self._woken = asyncio.Event()

    def put(self, key: str, value: Json) -> None:
        """Note what is new; for each step only the newest counts."""
        old = self._new.get(key)
        self._new[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
        self._woken.set()

    async def news(self) -> AsyncIterator[dict[str, Json]]:
        """Give what is new, as long as somebody asks."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            new, self._new = self._new, {}
            yield new
            await asyncio.sleep(_AT_MOST_EVERY_S)


class Live:
    """What is known of one run beyond its stored state: which steps run now, and what they do."""

    def __init__(self) -> None:
        self.running: dict[str, str] = {}
        """What each step that runs is doing."""
        self.outcomes: dict[str, str] = {}
        self.words = ""
        """The answer as far as a model has written it; "" while none does."""
        self._message: str | None = None
        self._written = ""
        self.watches: set[Watch] = set()
        self.version = 0
        """Grows with each change for which a page must be loaded again."""
        self._seen: tuple[Json, ...] = ()

    def tell(self, key: str, value: Json) -> None:
        """Tell every browser."""
        self.version += key == "stale"
        for watch in self.watches:
            watch.put(key, value)

    # --- a run of this process ------------------------------------------------------------

    def begin(self) -> None:
        """Forget how steps ended: some of them may run again."""
        self.outcomes.clear()
        self.words, self._message, self._written = "", None, ""
        self.tell("begun", True)
        self.tell("stale", {"plan": True, "rest": True})

    def hear(self, event: Mapping[str, Json]) -> None:
        """Take in an event of the run; those of sub-plans belong to their step."""
        kind = event.get("type")
        if "spent" not in event or not isinstance(kind, str):
            return  # a tool's own
        step_id = next(iter(event["within"]), event["step_id"])
        if kind in _OF_THE_PLAN and not event["within"]:
            self.tell("stale", {"plan": True, "rest": True})
        elif kind in _OF_THE_REST and not event["within"]:
            if kind == "question_open" and step_id is not None:
                self._end(step_id, "waiting")
            self.tell("stale", {"rest": True})
        elif step_id is not None:
            self._hear_of_step(step_id, kind, event)
        self.tell("spent", dict(event["spent"]))

    def _hear_of_step(self, step_id: str, kind: str, event: Mapping[str, Json]) -> None:
        if kind == "step_finished" and not event["within"]:
            self._end(step_id, outcome_of(event))
        elif kind in _DOING:
            if step_id not in self.running:
                self._put(step_id, "running")
            self.running[step_id] = _DOING[kind].format(**event)
        self._tell_doing()

    def _end(self, step_id: str, outcome: str) -> None:
        self.running.pop(step_id, None)
        self._put(step_id, outcome)
        self._tell_doing()

    def _tell_doing(self) -> None:
        self.tell("now", [f"{step}{doing and f' ({doing})'}" for step, doing in self.running.items()])

    def _put(self, step_id: str, outcome: str) -> None:
        self.outcomes[step_id] = outcome
        self.tell("steps", {step_id: outcome})

    def hear_words(self, piece: Any, about: Mapping[str, Json]) -> None:
        """Take in a piece of the answer, which a failed call makes start anew; other messages are skipped."""
        if about.get("langgraph_node") != "synthesizer" or not isinstance(piece, AIMessageChunk):
            return
        begun = self._written if piece.id == self._message else ""
        self._message, self._written = piece.id, begun + str(piece.text)
        if words := without_thinking(self._written).strip():
            self.words = words
            self.tell("words", words)

    def stopped(self) -> None:
        """Forget what ran, because nothing runs any more."""
        self.running.clear()
        self.words, self._message, self._written = "", None, ""
        self.tell("now", [])
        self.tell("stale", {"plan": True, "rest": True})

    # --- a run of anybody -----------------------------------------------------------------

    def see(self, values: Mapping[str, Json], questions: Sequence[OpenQuestion]) -> None:
        """Take in the stored state, and tell how it differs from what was seen before."""
        plan, results = values.get("plan") or {}, values.get("results") or {}
        known = {step_id: outcome_of(result) for step_id, result in results.items()}
        asked_about = [one.args.get("step_id") for one in questions]
        asking = {step_id for step_id in asked_about if isinstance(step_id, str)}
        known |= dict.fromkeys(asking - known.keys(), "waiting")
        new = {step: how for step, how in known.items() if self.outcomes.get(step) != how}
        for step_id in [*self.outcomes.keys() - known.keys() - self.running.keys()]:
            del self.outcomes[step_id]
            new[step_id] = "open"
        self.outcomes |= known
        if new:
            self.tell("steps", new)
        of_plan = (plan.get("id"), plan.get("revision"))
        seen = (
            of_plan,
            values.get("status"),
            tuple(one.id for one in questions),
            len(values.get("audit") or ()),
        )
        if self._seen and seen != self._seen:
            self.tell("stale", {"rest": True} | ({"plan": True} if self._seen[0] != of_plan else {}))
        self._seen = seen
