"""Routers are total: every state has somewhere to go, and nothing runs that was not approved."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

from generated import states
from hypothesis import given, settings
from langgraph.types import Send

from plan_execute.graph import routing
from plan_execute.graph.routing import route_after_dispatcher

few = settings(max_examples=150, deadline=None)


def _targets(router: Any) -> set[str]:
    return {name for name in get_args(get_type_hints(router)["return"]) if isinstance(name, str)}


@few
@given(states())
def test_every_router_sends_every_state_to_one_of_its_own_targets(state: Any) -> None:
    for name in ("planner", "validator", "approval", "evaluator"):
        router = getattr(routing, f"route_after_{name}")
        assert router(state) in _targets(router)


@few
@given(states())
def test_the_dispatcher_sends_each_pending_step_once_or_goes_on(state: Any) -> None:
    target = route_after_dispatcher(state)
    if isinstance(target, str):
        assert target in ("approval", "evaluator")
        return
    sent = [send.arg["step_id"] for send in target]
    assert target
    assert all(isinstance(send, Send) and send.node == "executor" for send in target)
    assert len(sent) == len(set(sent))
    assert set(sent) <= {step["id"] for step in state["plan"]["steps"]}


@few
@given(states())
def test_nothing_is_dispatched_while_an_approval_is_needed_or_absent(state: Any) -> None:
    decision = (state.get("approval") or {"decision": "needed"})["decision"]
    if decision == "needed" or state.get("plan") is None:
        assert route_after_dispatcher(state) == "approval"
        assert routing.route_after_validator(state) != "dispatcher" or decision != "needed"


@few
@given(states())
def test_a_state_is_never_changed_by_routing(state: Any) -> None:
    before = repr(state)
    for name in ("planner", "validator", "approval", "dispatcher", "evaluator"):
        getattr(routing, f"route_after_{name}")(state)
    assert repr(state) == before
