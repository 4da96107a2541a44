"""How far a run is, as people who watch it are told."""

from __future__ import annotations

from typing import Any

import pytest

from plan_execute.events import Progress

PLAN = {"steps": [{"id": "a"}, {"id": "b"}]}


def _event(kind: str, step_id: str | None = None, **details: Any) -> dict[str, Any]:
    return {"type": kind, "step_id": step_id, "within": [], **details}


STORY = [
    (_event("plan_validated", plan=PLAN), "Planning … 0 of 2 steps have ended."),
    (_event("step_started", "a"), "Working … 0 of 2 steps have ended. Now: a."),
    (_event("step_finished", "a", status="done"), "Working … 1 of 2 steps have ended."),
    (_event("evaluated", decision="replan"), "Revising the plan … 1 of 2 steps have ended."),
    (_event("step_started", "b"), "Working … 1 of 2 steps have ended. Now: b."),
    (_event("step_finished", "b", status="failed"), "Working … 2 of 2 steps have ended."),
    (_event("evaluated", decision="abort"), "Answering … 2 of 2 steps have ended."),
    (_event("synthesized"), "Done … 2 of 2 steps have ended."),
]


def test_progress_is_one_message_that_changes_with_the_events() -> None:
    progress = Progress("one")
    assert progress.text == "Planning …"
    for event, text in STORY:
        assert progress.hear(event)
        message = progress.as_message()
        assert (message["id"], message["metadata"]["message_id"]) == ("progress-one", "progress-one")
        assert message["props"]["text"] == text
    assert message["props"]["steps"] == {"a": "done", "b": "failed"}


@pytest.mark.parametrize(
    "event", [_event("tool_call", "a"), {**_event("step_started", "inner"), "within": ["a"]}]
)
def test_what_changes_nothing_that_is_shown_is_not_told(event: dict[str, Any]) -> None:
    progress = Progress("one")
    progress.hear(STORY[0][0])
    assert not progress.hear(event)
