"""The commands about plans that run again and again: schedule add, list, pause, run-now, remove."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from .exits import DONE, BadUsageError
from .options import (
    Database,
    Inputs,
    InputsFile,
    JsonOutput,
    Priority,
    SettingOptions,
    SourceOptions,
    with_single_options,
)
from .terminal import Screen

if TYPE_CHECKING:
    from ..threads.schedules import Schedule, Schedules

__all__ = ["schedule"]

T = TypeVar("T")
Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.")]

schedule = typer.Typer(help="Run a plan again and again, at set times (needs PostgreSQL and a worker).")


def add(
    name: Name,
    *,
    cron: Annotated[
        str,
        typer.Option(
            "--cron",
            metavar="FIELDS",
            help="Minute, hour, day of the month, month, day of the week: '0 7 * * 1' is Mondays at seven.",
        ),
    ],
    plan: Annotated[Path, typer.Option("--plan", metavar="FILE", help="The plan to run.")],
    source_options: SourceOptions,
    inputs: Inputs = None,
    inputs_file: InputsFile = None,
    timezone: Annotated[
        str,
        typer.Option(
            "--timezone",
            metavar="ZONE",
            help="The time zone of the fields, such as Europe/Berlin (default: UTC).",
        ),
    ] = "UTC",
    overlap: Annotated[
        str,
        typer.Option(
            "--overlap",
            metavar="HOW",
            help="If the last run has not ended: skip the new run, queue it, "
            "or cancel the last run (default: skip).",
        ),
    ] = "skip",
    missed: Annotated[
        str,
        typer.Option(
            "--missed",
            metavar="HOW",
            help="Which missed runs to start: skip (none), once (the last), or all (default: once).",
        ),
    ] = "once",
    grant: Annotated[
        list[str] | None,
        typer.Option(
            "--grant",
            metavar="PART=…",
            help="What the runs may do without asking: tools=send,look effects=read,write "
            "resources='mail:*' until=2027-01-31. May be repeated; tools and until are needed.",
        ),
    ] = None,
    priority: Priority = 0,
    setting_options: SettingOptions,
    json: JsonOutput = False,
) -> int:
    """Run a plan at set times from now on."""
    from ..threads.schedules import new_schedule
    from .plan_files import GivenInputs, read_plan
    from .sources import Sources, read_settings

    screen, sources = Screen(json=json), Sources.read(source_options)
    checked = read_plan(
        plan, sources.toolbox(), GivenInputs.read(inputs, inputs_file), has_model=True, elsewhere=True
    )
    settings = read_settings(**vars(setting_options))
    made = new_schedule(
        time.time(),
        name=name,
        cron=cron,
        timezone=timezone,
        plan=checked.plan_file.plan,
        inputs=checked.inputs,
        context=settings.model_dump(mode="json", exclude_defaults=True) if settings else None,
        grant=_grant(grant),
        overlap=overlap,
        missed=missed,
        priority=priority,
    )
    _with_schedules(source_options, lambda schedules: schedules.add(made))
    _tell(screen, made)
    return DONE


def list_(db: Database = None, json: JsonOutput = False) -> int:
    """List the schedules."""
    screen = Screen(json=json)
    found = _with_schedules(SourceOptions(db=db), lambda schedules: schedules.all())
    if json:
        screen.document({"schedules": [_as_json(one) for one in found]})
        return DONE
    for one in found:
        screen.data(_line(one))
    if not found:
        screen.note("There are no schedules yet.")
    return DONE


def pause(
    name: Name,
    db: Database = None,
    go_on: Annotated[bool, typer.Option("--off", help="End the pause.")] = False,
    json: JsonOutput = False,
) -> int:
    """Start no runs until the pause ends; runs that are due meanwhile are skipped."""
    found = _with_schedules(
        SourceOptions(db=db), lambda schedules: schedules.pause(name, time.time(), paused=not go_on)
    )
    _tell(Screen(json=json), found)
    return DONE


def run_now(name: Name, db: Database = None, json: JsonOutput = False) -> int:
    """Queue a run at once, in addition to those at the set times."""
    screen = Screen(json=json)
    thread = _with_schedules(SourceOptions(db=db), lambda schedules: schedules.run_now(name, time.time()))
    if json:
        screen.document({"schedule": name, "thread": thread})
    else:
        screen.note(f"Thread {thread} is in the queue; `plan-execute worker` runs it.")
    return DONE


def remove(name: Name, db: Database = None, json: JsonOutput = False) -> int:
    """Remove a schedule; its threads stay."""
    screen = Screen(json=json)
    _with_schedules(SourceOptions(db=db), lambda schedules: schedules.remove(name))
    if json:
        screen.document({"removed": name})
    else:
        screen.note(f"Removed {name}.")
    return DONE


for _command in (add, list_, pause, run_now, remove):
    schedule.command(_command.__name__.rstrip("_").replace("_", "-"))(with_single_options(_command))


def _with_schedules(options: SourceOptions, act: Callable[[Schedules], Awaitable[T]]) -> T:
    from ..graph.loop import run
    from ..threads.schedules import Schedules
    from .sources import Sources, open_agent

    with open_agent(Sources.read(options)) as agent:

        async def acted() -> T:
            return await act(await Schedules.of(agent))

        return run(acted())


def _grant(given: list[str] | None) -> dict[str, Any] | None:
    from datetime import UTC, datetime

    from ..threads.schedules import read_grant
    from .sources import who_is_there

    if not given:
        return None
    parts = [text.partition("=") for text in given]
    if wrong := [part for part, equals, _ in parts if not equals]:
        raise BadUsageError(
            f"--grant {wrong[0]} is not PART=…; the parts are tools, effects, resources, until"
        )
    name = who_is_there(None)
    by = {"kind": "person", "id": name} if name else {"kind": "person"}
    return read_grant({part: value for part, _, value in parts}, by, datetime.now(UTC))


def _tell(screen: Screen, one: Schedule) -> None:
    if screen.json:
        screen.document(_as_json(one))
    else:
        screen.note(_line(one))


def _line(one: Schedule) -> str:
    state = "paused" if one.paused else f"next {_time(one.due)}"
    note = f" – {one.note}" if one.note else ""
    return f"{one.name}  {one.cron} {one.timezone}  {state}  last: {one.thread or 'none'}{note}"


def _as_json(one: Schedule) -> dict[str, Any]:
    from dataclasses import asdict

    due = None if one.paused else _time(one.due)
    return {**asdict(one), "due": due, "waiting": [_time(each) for each in one.waiting]}


def _time(seconds: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="minutes")
