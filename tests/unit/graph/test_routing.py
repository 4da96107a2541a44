"""Where the graph goes next."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.types import Send
from plans import bound

from plan_execute.graph.routing import (
    route_after_approval,
    route_after_dispatcher,
    route_after_evaluator,
    route_after_planner,
    route_after_validator,
)

HANDED_IN: Any = {"steps": [bound("b", "t", {}, "a"), bound("a", "t")]}
PLAN: Any = {**HANDED_IN, "id": "p", "revision": 1}
ISSUES: Any = [{"code": "cycle", "step_id": None, "message": ""}]
DONE: Any = {"status": "done", "error": None}


def _draft(source: str) -> Any:
    return {"plan": PLAN, "source": source}


@pytest.mark.parametrize(
    ("state", "target"),
    [({"draft": _draft("planner")}, "validator"), ({}, "synthesizer"), ({"draft": None}, "synthesizer")],
)
def test_after_the_planner(state: Any, target: str) -> None:
    assert route_after_planner(state) == target


@pytest.mark.parametrize(
    ("state", "target"),
    [
        ({"plan_issues": ISSUES, "draft": _draft("planner")}, "planner"),
        ({"plan_issues": ISSUES, "draft": _draft("replanner")}, "replanner"),
        ({"plan_issues": ISSUES, "draft": _draft("person")}, "approval"),
        ({"plan_issues": ISSUES, "draft": _draft("given")}, "synthesizer"),
        ({"plan_issues": ISSUES}, "synthesizer"),
        (
            {"plan_issues": ISSUES, "draft": _draft("planner"), "evaluation": {"decision": "abort"}},
            "synthesizer",
        ),
        ({"plan_issues": [], "approval": {"decision": "needed"}}, "approval"),
        ({"plan_issues": []}, "approval"),
        ({"plan_issues": [], "approval": {"decision": "approved"}}, "dispatcher"),
        ({"plan_issues": [], "approval": {"decision": "not_required"}}, "dispatcher"),
    ],
)
def test_after_the_validator(state: Any, target: str) -> None:
    assert route_after_validator(state) == target


@pytest.mark.parametrize(
    ("state", "target"),
    [
        ({"approval": {"decision": "approved"}}, "dispatcher"),
        ({"approval": {"decision": "edited"}}, "validator"),
        ({"approval": {"decision": "rejected"}}, "planner"),
        ({"approval": {"decision": "rejected"}, "status": "rejected"}, "synthesizer"),
    ],
)
def test_after_the_approval(state: Any, target: str) -> None:
    assert route_after_approval(state) == target


def test_after_the_dispatcher_every_pending_step_is_sent_at_once_in_topological_order() -> None:
    sends = route_after_dispatcher({"plan": PLAN, "approval": {"decision": "approved"}})
    assert sends == [Send("executor", {"step_id": "a"}), Send("executor", {"step_id": "b"})]
    sends = route_after_dispatcher(
        {"plan": PLAN, "approval": {"decision": "approved"}, "results": {"a": DONE}}
    )
    assert sends == [Send("executor", {"step_id": "b"})]


@pytest.mark.parametrize(
    ("state", "target"),
    [
        ({}, "approval"),
        ({"plan": PLAN}, "approval"),
        ({"plan": PLAN, "approval": {"decision": "needed"}}, "approval"),
        ({"plan": HANDED_IN, "approval": {"decision": "approved"}}, "approval"),
        (
            {"plan": PLAN, "approval": {"decision": "approved"}, "results": {"a": DONE, "b": DONE}},
            "evaluator",
        ),
    ],
)
def test_after_the_dispatcher_without_anything_to_send(state: Any, target: str) -> None:
    assert route_after_dispatcher(state) == target


@pytest.mark.parametrize(
    ("state", "target"),
    [
        ({}, "synthesizer"),
        ({"evaluation": {"decision": "patch"}}, "replanner"),
        ({"evaluation": {"decision": "replan"}}, "replanner"),
        ({"evaluation": {"decision": "abort"}}, "synthesizer"),
        ({"evaluation": {"decision": "continue"}, "plan": PLAN}, "dispatcher"),
        (
            {"evaluation": {"decision": "continue"}, "plan": PLAN, "results": {"a": DONE, "b": DONE}},
            "synthesizer",
        ),
        ({"evaluation": {"decision": "continue"}}, "synthesizer"),
    ],
)
def test_after_the_evaluator(state: Any, target: str) -> None:
    assert route_after_evaluator(state) == target
