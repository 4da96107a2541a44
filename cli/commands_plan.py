"""The commands about plans as files: plan, validate, schema, promote."""

from __future__ import annotations

import json as json_format
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .exits import DONE, FAILED, USAGE
from .options import (
    Force,
    Inputs,
    InputsFile,
    JsonOutput,
    PlanningOptions,
    PlanOutput,
    PromotionOptions,
    Thread,
    ToolOptions,
)
from .terminal import Screen

if TYPE_CHECKING:
    from langgraph.types import StateSnapshot

    from ..context import Context
    from ..plan.promotion import Promotion
    from ..plan.tools import Tools
    from .plan_files import GivenInputs
    from .preview import Preview
    from .sources import Sources

__all__ = ["plan", "preview_run", "promote", "schema", "validate", "write_plan"]


def plan(
    goal: Annotated[str, typer.Argument(metavar="GOAL", help="What to achieve, in your words.")],
    *,
    output: PlanOutput = None,
    force: Force = False,
    source_options: PlanningOptions,
    inputs: Inputs = None,
    inputs_file: InputsFile = None,
    json: JsonOutput = False,
) -> int:
    """Write a plan for a goal; nothing is run, and no thread is kept.

    The file can be edited and run later, with `run --plan`.
    """
    from ..plan.files.plan_files import STDIN, check_writable
    from ..plan.literals import declared_inputs
    from .plan_files import GivenInputs
    from .sources import Sources

    if output not in (None, STDIN):
        check_writable(output, overwrite=force)  # checked before a model call is paid for
    screen, sources = Screen(json=json), Sources.read(source_options)
    sources.require_model()
    values = GivenInputs.read(inputs, inputs_file).values()
    state = _planned(screen, sources, goal, values)
    if not state.interrupts:
        return _no_plan(screen, state)
    # Without its id it is a plan for any thread, and running it twice is two runs.
    written = {key: value for key, value in state.values["plan"].items() if key not in ("id", "revision")}
    written["inputs"] = declared_inputs(written["inputs"], values)
    header = [f"A plan for: {goal}", f"Written by {sources.model}; nothing of it has run."]
    write_plan(screen, written, output, header, force=force)
    if not screen.json:
        _show(screen.note, _preview(sources, state.values["plan"], values))
    return DONE


def preview_run(
    screen: Screen,
    sources: Sources,
    goal: str | None,
    file: Path | None,
    given: GivenInputs,
    settings: Context | None,
) -> int:
    """Show what a run would do; nothing is run, and nothing is kept.

    Raises:
        InvalidPlanError: If the plan file cannot run.
    """
    from .plan_files import read_plan

    if file is not None:
        checked = read_plan(file, sources.toolbox(), given, has_model=sources.model is not None)
        plan: Any = checked.understood
        inputs = checked.inputs
    else:
        sources.require_model()
        inputs = given.values()
        state = _planned(screen, sources, str(goal), inputs)
        if not state.interrupts:
            return _no_plan(screen, state)
        plan = state.values["plan"]
    previewed = _preview(sources, plan, inputs, settings)
    if screen.json:
        screen.document(previewed.as_json())
    else:
        _show(screen.prose, previewed)
        screen.note("Nothing was run.")
    return DONE


def _preview(
    sources: Sources, plan: Any, inputs: Mapping[str, Any], settings: Context | None = None
) -> Preview:
    from ..context import Context
    from .preview import Preview, samples_of_earlier_runs

    samples = samples_of_earlier_runs(sources)
    given = settings or Context()
    return Preview(plan, sources.toolbox(), given, inputs, samples, model=sources.model or "")


def _show(write: Callable[[str], None], previewed: Preview) -> None:
    from .overview import window_width

    for line in previewed.lines(window_width() or 100):
        write(line)


def write_plan(
    screen: Screen, plan: dict[str, Any], output: Path | None, header: Sequence[str], *, force: bool
) -> None:
    """Write a plan to a file, or to stdout where none is named; with ``--json`` to both.

    Raises:
        ConfigurationError: If the file may not be written.
    """
    from ..plan.files.plan_files import STDIN, dump_plan, save_plan_file

    if output is not None and output != STDIN:
        save_plan_file(plan, output, header=[*header, *_ways_to_run(plan, output)], overwrite=force)
        screen.note(f"Written to {output}. Run it with: plan-execute run --plan {shlex.quote(str(output))}")
    elif not screen.json:
        screen.data(dump_plan(plan, format="yaml", header=header).rstrip())
    if screen.json:
        screen.document(plan)


def _ways_to_run(plan: Mapping[str, Any], output: Path) -> list[str]:
    command = f"plan-execute run --plan {shlex.quote(output.name)}"
    lines = [f"Run it: {command}"]
    for name, spec in (plan.get("inputs") or {}).items():
        if "default" in spec:
            value = spec["default"]
            value = value if isinstance(value, str) else json_format.dumps(value)
            lines.append(f"With another {name}: {command} --input {shlex.quote(f'{name}={value}')}")
            break
    return lines


def _planned(screen: Screen, sources: Sources, goal: str, inputs: Mapping[str, Any]) -> StateSnapshot:
    """Let the graph plan, in memory, up to the point where somebody would have to approve."""
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.memory import InMemorySaver

    from ..context import Context, Environment
    from ..graph import create_plan_execute_agent
    from ..graph.server import watched_by
    from .following import show_progress

    agent = create_plan_execute_agent(
        sources.model,
        sources.toolbox().tools,
        base_url=sources.base_url,
        rate_limit=sources.rate_limit,
        checkpointer=InMemorySaver(),
    )
    agent = watched_by(agent, Environment.read())
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
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A plan, YAML or JSON; - for the standard input.")
    ],
    *,
    source_options: ToolOptions,
    inputs: Inputs = None,
    inputs_file: InputsFile = None,
    json: JsonOutput = False,
) -> int:
    """Check a plan file; needs neither a model nor a database.

    Every issue is printed with its line and column. Inputs without a default are not an issue: a run has to
    give them.
    """
    from ..errors import InvalidPlanError
    from .plan_files import GivenInputs, UncheckedToolbox, check_plan_file
    from .preview import Preview
    from .sources import Sources

    screen, sources = Screen(json=json), Sources.read(source_options)
    toolbox: Tools = sources.toolbox() if sources.has_tools else UncheckedToolbox()
    if not sources.has_tools:
        screen.note("Tools were not checked: give them with --tools, --toolset or --mcp.")
    given = GivenInputs.read(inputs, inputs_file)
    try:
        checked = check_plan_file(file, toolbox, given, has_model=True)
        found, plan, values = checked.issues, checked.understood, checked.inputs
    except InvalidPlanError as error:
        found, plan, values = [dict(issue) for issue in error.issues], None, {}
    needed = [str(issue["field"][1]) for issue in found if issue["code"] == "missing_input"]
    issues = [issue for issue in found if issue["code"] != "missing_input"]
    previewed = None
    if plan is not None and not issues:
        previewed = Preview(plan, toolbox, inputs=values, tools_known=sources.has_tools)
    _show_findings(screen, file, issues, needed, previewed, tools_checked=sources.has_tools)
    return USAGE if issues else DONE


def _show_findings(
    screen: Screen,
    file: Path,
    issues: list[Any],
    needed: list[str],
    previewed: Preview | None,
    *,
    tools_checked: bool,
) -> None:
    from .plan_files import issue_text

    if screen.json:
        found = {"file": str(file), "valid": not issues, "issues": issues, "inputs_needed": needed}
        screen.document(
            {**found, "tools_checked": tools_checked, "preview": previewed and previewed.as_json()}
        )
        return
    for issue in issues:
        screen.data(issue_text(str(file), issue))
    if not issues:
        screen.data(f"{file}: valid")
    if previewed is not None:
        # Without the tools it lacks the effects, and is no result.
        _show(screen.prose if tools_checked else screen.note, previewed)
    if needed:
        screen.note(f"A run has to give: {' '.join(f'--input {name}=…' for name in needed)}")


def schema(
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where to write it (default: stdout)."),
    ] = None,
) -> int:
    """Print the JSON Schema of plan files, for editors."""
    from ..plan.files.schema import schema_text

    text = schema_text()
    if output is None:
        Screen(json=False).data(text.rstrip())
    else:
        output.write_text(text, encoding="utf-8")
    return DONE


# --- promote --------------------------------------------------------------------------


def promote(
    thread: Thread = None,
    *,
    output: PlanOutput = None,
    lift: Annotated[
        list[str] | None,
        typer.Option(
            "--lift",
            metavar="PATH=NAME",
            help="Make a literal an input, such as weather.city=city. A second literal that has the same "
            "value, or a text that holds it, may get the same name. May be repeated.",
        ),
    ] = None,
    everywhere: Annotated[
        bool,
        typer.Option(
            "--everywhere", help="Also lift a literal in every other place where it is the whole value."
        ),
    ] = False,
    force: Force = False,
    source_options: PromotionOptions,
    json: JsonOutput = False,
) -> int:
    """Make a reusable plan of a run that succeeded.

    Its final revision, as it was repaired, becomes a plan file that runs without a
    planner. With --tools it is checked against them too.
    """
    from ..plan.files.plan_files import STDIN, check_writable
    from ..plan.literals import NewInput, left_literals
    from ..plan.promotion import promote as promote_plan
    from .overview import the_thread
    from .plan_files import UncheckedToolbox
    from .sources import Sources, open_agent
    from .views import look_up, results_of, status_of

    if output not in (None, STDIN):
        check_writable(output, overwrite=force)
    new_inputs = [NewInput.read(text) for text in lift or ()]
    screen, sources = Screen(json=json), Sources.read(source_options)
    thread = the_thread(screen, sources, thread, "promote", lambda entry: entry.status == "done")
    toolbox: Tools = sources.toolbox() if sources.has_tools else UncheckedToolbox()
    with open_agent(sources, existing=True) as agent:
        snapshot = look_up(agent, thread)
        status = status_of(agent, snapshot)
    _require_done(thread, status)
    values = snapshot.values
    promotion = promote_plan(
        values["plan"],
        results_of(snapshot),
        inputs=values.get("inputs"),
        audit=values.get("audit") or (),
        new_inputs=new_inputs,
        everywhere=everywhere,
        argument_schema=toolbox.arguments_schema if sources.has_tools else None,
    )
    _require_valid(promotion.plan, toolbox)
    left = left_literals(promotion.plan, [wanted.name for wanted in new_inputs])
    for place, name, value in left:
        screen.note(
            f"{place} still holds {value!r}, which is only the default of the input {name!r} now: "
            f"lift it too (--lift {place}={name}), or change it"
        )
    write_plan(screen, promotion.plan, output, _header(thread, snapshot, promotion), force=force)
    return DONE


def _require_done(thread: str, status: str) -> None:
    from ..errors import NotPromotableError

    if status != "done":
        ways = {
            **dict.fromkeys(("planning", "running", "stopped"), "let it end first"),
            "waiting": "answer its question first (`plan-execute resume`)",
            "partial": "retry or edit what failed, until everything is done",
            "failed": "retry or edit what failed, until everything is done",
        }
        way = ways.get(status, "only what worked is worth keeping")
        raise NotPromotableError(
            f"thread {thread!r} is {status}, and only a run that ended as done can be promoted; {way}"
        )


def _require_valid(plan: dict[str, Any], toolbox: Tools) -> None:
    from ..context import Context
    from ..errors import InvalidPlanError
    from ..plan.rules import PlanFacts, validate_plan

    issues = validate_plan(plan, PlanFacts(toolbox, Context().step_limit(by_model=False)))[1]
    if issues:
        listed = "".join(f"\n  {issue['code']}: {issue['message']}" for issue in issues)
        raise InvalidPlanError(f"the promoted plan could not run, so it was not written:{listed}", issues)


def _header(thread: str, snapshot: StateSnapshot, promotion: Promotion) -> list[str]:
    """Say where the plan is from, and what will be different in a new run."""
    from datetime import UTC, datetime
    from importlib.metadata import version

    from ..plan.promotion import needs_model

    values = snapshot.values
    ended = max((result["finished_at"] or "" for result in values["results"].values()), default="")
    lines = [
        f"Goal: {values.get('goal') or values['plan'].get('goal') or ''}"[:500],
        f"Promoted from thread {thread}, revision {values['plan'].get('revision', 1)} "
        f"({values.get('replans', 0)} replans), which ended done on {ended[:10]}.",
        f"Written by plan-execute {version('plan-execute')} on {datetime.now(UTC):%Y-%m-%d}.",
    ]
    renamed = [f"{new} (was {old})" for old, new in promotion.renamed.items()]
    lines += _line("Ids cleaned", renamed) + _line("Dropped", promotion.dropped)
    lines += _line("By hand in that run", promotion.by_hand)
    return lines + _line("Steps that need a model", needs_model(promotion.plan))


def _line(title: str, items: Sequence[str]) -> list[str]:
    return [f"{title}: {'; '.join(items)}."] if items else []
