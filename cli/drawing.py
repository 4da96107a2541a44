"""Pictures of plans: as Mermaid, as SVG, and as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .exits import BadUsageError
from .options import Picture, SourceOptions
from .plan_tree import branches

if TYPE_CHECKING:
    from ..report.steps import StepRecord

__all__ = ["picture_format", "plan_picture", "program_picture"]

_FORMS = {
    ".mmd": Picture.mermaid,
    ".mermaid": Picture.mermaid,
    ".svg": Picture.svg,
    ".txt": Picture.text,
}


def picture_format(output: Path | None, chosen: Picture | None, *, in_a_window: bool) -> Picture:
    """Tell how a plan is drawn: as it was chosen, as the file's name ends, or as fits where it goes.

    Raises:
        BadUsageError: If the file's name says something else, or nothing.
    """
    if output is None or str(output) == "-":
        return chosen or (Picture.text if in_a_window else Picture.mermaid)
    named = _FORMS.get(output.suffix.lower())
    if chosen is not None and named is not None and named != chosen:
        raise BadUsageError(f"--format {chosen.value} and a file called {output.name} contradict each other")
    if (found := chosen or named) is None:
        raise BadUsageError(f"{output} has an unknown ending; a picture can be {', '.join(_FORMS)}")
    return found


def program_picture() -> str:
    """Draw the graph that every run goes through, as Mermaid."""
    from ..graph import create_plan_execute_agent

    return create_plan_execute_agent().get_graph().draw_mermaid()


def plan_picture(what: str, form: Picture, db: str | None) -> str:
    """Draw the plan of a file, or of a thread as far as it has come.

    Raises:
        InvalidPlanError: If the file is no plan.
        ThreadNotFoundError: If there is neither such a file nor such a thread.
    """
    steps = _steps_of_file(Path(what)) if _is_file(what) else _steps_of_thread(what, db)
    if form == Picture.text:
        return "\n".join(_text(steps))
    if form == Picture.mermaid:
        from ..report.markdown import mermaid_of

        return mermaid_of(steps)
    return _svg(steps)


def _is_file(what: str) -> bool:
    return what == "-" or Path(what).is_file() or what.endswith((".yaml", ".yml", ".json"))


def _steps_of_file(path: Path) -> list[StepRecord]:
    from ..errors import InvalidPlanError
    from ..report.steps import step_records
    from .plan_files import GivenInputs, UncheckedToolbox, check_plan_file

    checked = check_plan_file(path, UncheckedToolbox(), GivenInputs({}, {}), has_model=True)
    if checked.understood is None:
        from .plan_files import refusal

        raise refusal(checked.plan_file.name, checked.issues, "; it cannot be drawn")
    if not checked.understood["steps"]:
        raise InvalidPlanError(f"{checked.plan_file.name} has no steps to draw", checked.issues)
    return step_records(checked.understood, {}, {}, {}, set(), {})


def _steps_of_thread(thread: str, db: str | None) -> list[StepRecord]:
    from ..errors import ThreadNotFoundError
    from ..report import read_run
    from .sources import Sources, open_agent
    from .views import look_up

    sources = Sources.read(SourceOptions(db=db))
    with open_agent(sources, existing=True) as agent:
        look_up(agent, thread)
        record = read_run(agent, {"configurable": {"thread_id": thread}})
    steps = [step for step in record["steps"] if step["in_plan"]]
    if not steps:
        raise ThreadNotFoundError(f"thread {thread!r} has no plan to draw")
    return steps


def _text(steps: list[StepRecord]) -> Iterator[str]:
    from ..report.words import OUTCOMES

    by_id: Mapping[str, Any] = {step["id"]: step for step in steps}
    for branch in branches(steps):
        step = by_id[branch.step["id"]]
        also = f" (also after {', '.join(branch.also)})" if branch.also else ""
        task = f"  {' '.join(step['task'].split())}" if step["task"] else ""
        yield f"{branch.lines}{OUTCOMES[step['outcome']].mark} {step['id']}{task}{also}"


def _svg(steps: list[StepRecord]) -> str:
    """Draw as the report does, with the report's style inside, so that the file needs nothing else."""
    from ..report.drawings import MOST_DRAWN, draw_plan
    from ..report.markup import element

    if len(steps) > MOST_DRAWN:
        raise BadUsageError(f"a plan of {len(steps)} steps is too large to be drawn as SVG")
    svg, _ = draw_plan(steps, {step["id"]: step["id"] for step in steps}, [])
    style = element("style", files("plan_execute.report").joinpath("page.css").read_text("utf-8"))
    opening, rest = str(svg).split(">", 1)
    return f'{opening} xmlns="http://www.w3.org/2000/svg">{style}{rest}'
