"""Questions that nobody answered in time: which they are, and what their careful end needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..context import Context, to_context
from ..errors import MissingModelError, PlanExecuteError
from ..people.answers import overdue_answers
from ..plan.dag import descendants
from ..state import steps_of
from ..threads.requirements import require_means
from .driving import Session, follow
from .snapshots import OpenQuestion, look_up, open_questions
from .sources import Sources, open_agent

if TYPE_CHECKING:
    from langgraph.types import StateSnapshot

    from ..graph.agent import PlanExecuteAgent
    from ..tools.toolbox import Toolbox
    from .terminal import Screen

__all__ = ["apply_careful_ends", "note_overdue", "overdue_questions", "require_means_to_end"]

_ENDS_ITS_STEP = {"approve_step", "confirm_call", "handle_step_failure", "extend_budget"}
"""Questions whose careful end neither calls a tool of their step nor asks a model."""


def overdue_questions(snapshot: StateSnapshot) -> list[OpenQuestion]:
    """List the open questions that have waited longer than the thread's ``decision_timeout_s``."""
    late = overdue_answers(snapshot, _patience(snapshot))
    return [question for question in open_questions(snapshot) if question.id in late]


def _patience(snapshot: StateSnapshot) -> float | None:
    return (to_context(snapshot.values.get("settings")) or Context()).decision_timeout_s


def note_overdue(screen: Screen, snapshot: StateSnapshot, overdue: Sequence[OpenQuestion]) -> None:
    """Say which questions get their careful end, and why."""
    named = ", ".join(question.label for question in overdue)
    screen.note(f"Nobody answered within {_patience(snapshot):g} s, so the careful end applies to: {named}.")


def require_means_to_end(
    agent: PlanExecuteAgent, toolbox: Toolbox, snapshot: StateSnapshot, overdue: Sequence[OpenQuestion]
) -> None:
    """Refuse to end overdue questions where that would run steps whose tools or model were not given.

    Raises:
        ConfigurationError: If a tool of a step that could run is missing.
        MissingModelError: If such a step, or the decision about it, needs a model and none is configured.
    """
    if any(question.name == "approve_plan" for question in overdue):
        return  # the run ends rejected
    ended = {step for question in overdue if question.name in _ENDS_ITS_STEP and (step := _step_of(question))}
    ended |= descendants(steps_of(snapshot.values.get("plan")), ended)
    require_means(agent, toolbox, snapshot, not_to_run=ended)
    models = Context(**(snapshot.values.get("settings") or {})).models
    decides = any(question.name not in _ENDS_ITS_STEP for question in overdue)
    used_model = (snapshot.values.get("usage") or {}).get("model_calls", 0) > 0
    if decides and used_model and not agent.models.has("evaluator", models):
        raise MissingModelError(
            "what follows a failed step is decided by the run's model, and none is given."
        )


def _step_of(question: OpenQuestion) -> Any:
    return question.value.get("step_id") or question.args.get("step_id")


def apply_careful_ends(sources: Sources, screen: Screen, thread: str) -> StateSnapshot | None:
    """Give overdue questions their careful end, and return the state after it.

    None: it cannot be done now, which is said; the thread is as it was.
    """
    try:
        toolbox = sources.toolbox(thread)
        with open_agent(sources, toolbox, existing=True) as agent:
            snapshot = look_up(agent, thread)
            if overdue := overdue_questions(snapshot):
                require_means_to_end(agent, toolbox, snapshot, overdue)
                note_overdue(screen, snapshot, overdue)
                follow(Session(agent, thread, screen), None)
            return look_up(agent, thread)
    except PlanExecuteError as error:
        screen.note(f"Overdue, but its careful end cannot be applied now: {error}")
        return None
