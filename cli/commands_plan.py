"""The commands about plans that run nothing: plan, validate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .exits import DONE, FAILED, USAGE, BadUsageError
from .options import BaseUrl, Inputs, JsonOutput, Model, Tools, Toolsets
from .terminal import Screen

if TYPE_CHECKING:
    from langgraph.types import StateSnapshot

__all__ = ["plan", "validate"]

_SUFFIXES = (".yaml", ".yml", ".json")


def plan(
    goal: Annotated[str, typer.Argument(metavar="GOAL", help="What to achieve, in your words.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="A .yaml, .yml or .json file to write (default: YAML on stdout).",
        ),
    ] = None,
    tools: Tools = None,
    toolsets: Toolsets = None,
    model: Model = None,
    base_url: BaseUrl = None,
    inputs: Inputs = None,
    json: JsonOutput = False,
) -> int:
    """Write a plan for a goal; nothing is run.

    The file can be edited and run later, with `run --plan`.
    """
    _check_writable(output)
    from ..storage.plan_files import dump_plan, save_plan_file
    from .sources import Sources, read_inputs

    screen, sources = Screen(json=json), Sources.read(tools, model, base_url, toolsets=toolsets)
    sources.require_model()
    state = _planned(screen, sources, goal, read_inputs(inputs))
    if not state.interrupts:
        return _no_plan(screen, state)
    # Without its id it is a plan for any thread, and running it twice is two runs.
    written = {key: value for key, value in state.values["plan"].items() if key not in ("id", "revision")}
    if output is not None:
        save_plan_file(written, output)
        screen.note(f"Written to {output}. Run it with: plan-execute run --plan {output}")
    if json:
        screen.document(written)
    elif output is None:
        screen.data(dump_plan(written, format="yaml").rstrip())
    return DONE


def _check_writable(output: Path | None) -> None:
    """Refuse a bad file name before a model is paid for."""
    if output is None:
        return
    if output.suffix.lower() not in _SUFFIXES:
        raise BadUsageError(f"a plan file ends in {', '.join(_SUFFIXES)}: {output}")
    if output.is_dir() or not output.parent.is_dir():
        raise BadUsageError(f"{output} cannot be written: no such folder, or it is one")


def _planned(screen: Screen, sources: Any, goal: str, inputs: Mapping[str, Any]) -> StateSnapshot:
    """Let the graph plan, in memory, up to the point where somebody would have to approve."""
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.memory import InMemorySaver

    from ..context import Context
    from ..graph import create_plan_execute_agent
    from .progress import show_progress

    agent = create_plan_execute_agent(
        sources.model, sources.toolbox().tools, base_url=sources.base_url, checkpointer=InMemorySaver()
    )
    config: RunnableConfig = {"configurable": {"thread_id": "plan"}}
    given = {"goal": goal, "inputs": inputs}
    for event in agent.stream(given, config, context=Context(approval="always"), stream_mode="custom"):
        show_progress(screen, event)
    return agent.get_state(config)


def _no_plan(screen: Screen, state: StateSnapshot) -> int:
    answer = state.values.get("final_answer") or "No plan was made."
    if screen.json:
        issues = state.values.get("plan_issues") or []
        screen.document({"error": {"code": "no_plan", "message": answer, "issues": issues}})
    else:
        screen.note(answer)
    return FAILED


def validate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A plan, YAML or JSON.")],
    tools: Tools = None,
    toolsets: Toolsets = None,
    inputs: Inputs = None,
    json: JsonOutput = False,
) -> int:
    """Check a plan file; needs neither a model nor a database."""
    from ..errors import InvalidPlanError
    from .sources import Sources, check_plan_file, read_inputs
    from .unchecked import UncheckedToolbox

    screen, sources = Screen(json=json), Sources.read(tools, toolsets=toolsets)
    toolbox = sources.toolbox() if sources.has_tools else UncheckedToolbox()
    if not sources.has_tools:
        screen.note("Tools were not checked: give them with --tools MODULE:ATTRIBUTE.")
    try:
        issues = check_plan_file(file, toolbox, read_inputs(inputs), has_model=True)[1]
    except InvalidPlanError as error:
        issues = [{**issue, "line": None} for issue in error.issues]
    if json:
        screen.document({"valid": not issues, "issues": issues, "tools_checked": sources.has_tools})
    elif issues:
        for issue in issues:
            screen.data(_issue_line(file, issue))
    else:
        screen.data(f"{file}: valid")
    return USAGE if issues else DONE


def _issue_line(file: Path, issue: Mapping[str, Any]) -> str:
    if issue["line"] is None and str(issue["message"]).startswith(str(file)):
        # what cannot be read as a file at all says its place itself
        return f"{issue['message']} [{issue['code']}]"
    place = f"{file}:{issue['line']}" if issue["line"] else str(file)
    return f"{place}: {issue['code']}: {issue['message']}"
