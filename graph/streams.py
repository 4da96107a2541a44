"""Let clients follow a run by LangGraph's v3 protocol: ``run.plan``, ``run.steps``, ``run.questions``.

``stream_events(version="v3")`` gives them in this process. A LangGraph server sends them on the channels
``custom:plan``, ``custom:steps`` and ``custom:questions``, which its clients read as ``thread.extensions``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from langgraph.stream import (
    AsyncGraphRunStream,
    GraphRunStream,
    ProtocolEvent,
    StreamChannel,
    StreamTransformer,
)

from ..events import OpenQuestion, StepUpdate
from ..people.questions import OpenQuestion as Asked
from ..state import FINAL_STATUSES, Plan, is_taken_in

__all__ = ["AsyncPlanRun", "PlanRun", "PlanTransformer"]

Item = TypeVar("Item")


class _OnTheWire(StreamChannel[Item], Generic[Item]):
    """A channel that servers can send: of extra channels they send only ``custom:…``."""

    def __init__(self, name: str) -> None:
        super().__init__(f"custom:{name}")


class PlanTransformer(StreamTransformer):
    """Makes the plan, steps and questions of a run from its events and interrupts."""

    _native = True  # LangGraph's flag for run.plan in addition to run.extensions["plan"].
    required_stream_modes = ("custom", "values")

    def __init__(self, scope: tuple[str, ...] = ()) -> None:
        super().__init__(scope)
        self._plan: StreamChannel[Plan] = _OnTheWire("plan")
        self._steps: StreamChannel[StepUpdate] = _OnTheWire("steps")
        self._questions: StreamChannel[OpenQuestion] = _OnTheWire("questions")
        self._known: dict[tuple[str, ...], StepUpdate] = {}
        self._asked: set[str] = set()
        self._shown: tuple[str, int] | None = None

    def init(self) -> dict[str, Any]:
        """Name the channels."""
        return {"plan": self._plan, "steps": self._steps, "questions": self._questions}

    def process(self, event: ProtocolEvent) -> bool:
        """Read one event; all events stay in the stream."""
        params, method = event["params"], event["method"]
        if method == "values" and params["namespace"] == list(self.scope):
            self._look(params["data"])
            self._ask(params.get("interrupts") or ())
        elif method == "custom" and params["namespace"][: len(self.scope)] == list(self.scope):
            self._hear(params["data"])
        return True

    def _look(self, state: Any) -> None:
        """Find the plan of a continued run, for which no event is sent again."""
        if isinstance(state, Mapping) and state.get("status") not in FINAL_STATUSES and is_taken_in(state):
            self._show(state.get("plan"))

    def _show(self, plan: Plan | None) -> None:
        if plan is not None and (plan["id"], plan["revision"]) != self._shown:
            self._shown = (plan["id"], plan["revision"])
            self._plan.push(plan)

    def _ask(self, interrupts: Sequence[Any]) -> None:
        for interrupt in interrupts:
            if interrupt.id not in self._asked:
                self._asked.add(interrupt.id)
                asked = Asked.of(interrupt)
                self._questions.push({**asked.as_json(), "value": asked.value})  # type: ignore[typeddict-item]

    def _hear(self, told: Any) -> None:
        if not isinstance(told, Mapping) or "type" not in told or "within" not in told:
            return  # A tool wrote it.
        if told["type"] == "plan_validated" and "plan" in told and not told["within"]:
            self._show(told["plan"])
        if (change := _change(told)) is not None:
            key = (*told["within"], told["step_id"])
            before = self._known.get(key) or _new(told)
            self._known[key] = {**before, "at": told["at"], **change}  # type: ignore[typeddict-item]
            self._steps.push(self._known[key])


def _new(told: Mapping[str, Any]) -> StepUpdate:
    return {
        "step_id": told["step_id"],
        "within": list(told["within"]),
        "at": told["at"],
        "status": "running",
        "attempt": 0,
        "items": None,
        "verdict": None,
        "error": None,
        "usage": {},
    }


def _change(told: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the update of an event's step; None if it changes nothing."""
    match told["type"]:
        case "step_started":
            return {}
        case "step_attempt":
            return {"status": "running", "attempt": told["attempt"]}
        case "step_progress":
            return {"items": {"done": told["done"], "total": told["total"]}}
        case "step_finished":
            return {key: told[key] for key in ("status", "verdict", "error", "usage")}
    return None


# --- for type checkers -------------------------------------------------------------------


class PlanRun(GraphRunStream):
    """What ``stream_events(version="v3")`` gives."""

    plan: StreamChannel[Plan]
    """Each valid plan: first the existing one, then every revision after it has passed the validator."""
    steps: StreamChannel[StepUpdate]
    """Each step in its current state, whenever that changes."""
    questions: StreamChannel[OpenQuestion]
    """A question to a person; ``Command(resume={id: answer})`` continues the run."""


class AsyncPlanRun(AsyncGraphRunStream):
    """What ``await astream_events(version="v3")`` gives."""

    plan: StreamChannel[Plan]
    steps: StreamChannel[StepUpdate]
    questions: StreamChannel[OpenQuestion]
