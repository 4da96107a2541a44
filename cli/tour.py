"""The demo that shows everything: a run is approved, killed, continued, fails and is repaired.

Each part is a process of its own, as with any run: the first one is killed in the middle of a step, and
another one goes on with the thread. The thread stays in the database; only the project is thrown away.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from .exits import DONE, INTERRUPTED
from .terminal import Screen

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

    from .driving import Session
    from .places import Place

__all__ = ["tour"]

_STEP_THAT_IS_CUT_OFF = "build_wheel"
_GIVE_BACK = "\x1b[?2026l\x1b[?25h"
"""What a live view that was killed has switched: frames shown at once, and the cursor."""


def tour(screen: Screen, place: Place, where: str, *, plain: bool) -> int:
    """Tell the story and return the exit code of its last part.

    Args:
        screen: Where the person is.
        place: Where the thread is kept.
        where: The option that says so, for the commands that are named at the end.
        plain: Whether there is no live view.
    """
    from ..examples.release_checklist.project import make_project

    thread = f"demo-{uuid4().hex[:6]}"
    folder = Path(tempfile.mkdtemp(prefix="plan-execute-demo-")).resolve()
    try:
        make_project(folder / "wordcount", "smoke")
        parts = _Parts(screen, place, thread, folder, plain=plain)
        code = parts.run()
    finally:
        shutil.rmtree(folder)
    if code == DONE:
        _show_what_next(screen, thread, where)
    return code


class _Parts:
    """The processes of the story, one after the other."""

    def __init__(self, screen: Screen, place: Place, thread: str, folder: Path, *, plain: bool) -> None:
        self._screen, self._folder = screen, folder
        options = ["--plain"] if plain else []
        self._arguments = [place.name, thread, str(folder), *options]

    def run(self) -> int:
        """Let the first process be killed, and another one go on."""
        self._title("1. A model plans a release. The plan writes, so a person is asked before it runs.")
        first = self._start("begin")
        try:
            if not self._kill(first):
                return first.returncode
            self._title(
                "2. The process was killed (kill -9) while it built the wheel. Another process goes on:"
            )
            self._screen.note(
                "   finished steps are not repeated; then a test fails, and the plan is repaired."
            )
            return self._start("go-on").wait()
        except KeyboardInterrupt:  # the part got the same one, and says so
            first.wait()
            return INTERRUPTED

    def _start(self, part: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "plan_execute.cli.tour", part, *self._arguments]
        return subprocess.Popen(command)  # noqa: S603 - this program

    def _kill(self, process: subprocess.Popen[bytes]) -> bool:
        """Kill the process amid its step; False: it ended before, because the person wanted so."""
        while not (self._folder / _STEP_THAT_IS_CUT_OFF).exists():
            if process.poll() is not None:
                return False
            time.sleep(0.05)
        time.sleep(1)  # for the person to see what runs
        process.kill()
        process.wait()
        if self._screen.interactive:
            sys.stderr.write(_GIVE_BACK)
        self._screen.note("")
        return True

    def _title(self, text: str) -> None:
        self._screen.progress("●", "bold cyan", text)


def _program() -> str:
    """Name the program as the person can call it."""
    called = Path(sys.argv[0])
    found = shutil.which(called.name)
    if found is None or Path(found).resolve() != called.resolve():
        return os.path.relpath(called)
    return called.name


def _show_what_next(screen: Screen, thread: str, where: str) -> None:
    program = _program()
    screen.progress("●", "bold cyan", "3. The thread is kept. Look at what happened:")
    for command, what in (
        (f"show {thread}", "the plan, each step and the answer"),
        (f"history {thread}", "every decision, and who made it"),
        (f"report {thread} -o report.html", "all of it as a page for your browser"),
        (f"graph {thread}", "its plan, drawn in the terminal"),
        ("list", "all threads"),
        ("", "what waits, and what to do next"),
    ):
        screen.note(f"   {what}:\n      {program}{command and f' {command}'}{where if command else ''}")


# --- one part, in a process of its own --------------------------------------------------


def _play(part: str, database: str, thread: str, folder: Path, *, plain: bool) -> int:
    """Begin the run, or go on with it."""
    from ..context import Context
    from ..examples.release_checklist.demo import GOAL, release_script
    from ..examples.release_checklist.tools import release_tools
    from ..examples.scripts import endless
    from ..graph import create_plan_execute_agent
    from ..models.scripted import ScriptedModel
    from .driving import Session
    from .places import Place

    screen = Screen(json=False, plain=plain)
    tools = release_tools(folder / "wordcount")
    if part == "begin":
        tools = [_slow(one, folder) if one.name == _STEP_THAT_IS_CUT_OFF else one for one in tools]
    script = endless(release_script("smoke")) | {"evaluator": [_judge_or_decide]}
    with Place(database).open() as (checkpointer, store):
        model = ScriptedModel(script, strict=False)
        agent = create_plan_execute_agent(model, tools, checkpointer=checkpointer, store=store)
        session = Session(agent, thread, screen)
        given = {"goal": GOAL} if part == "begin" else None
        return _drive(session, given, Context(max_attempts=1) if part == "begin" else None)


def _judge_or_decide(messages: Sequence[Any]) -> Any:
    """Answer as the evaluator, by what it is asked: whether a criterion holds, or what follows a failure."""
    from ..examples.release_checklist.demo import PATCH
    from ..examples.scripts import MET

    return PATCH if "A step of a plan has failed" in messages[0].text else MET(messages)


def _slow(tool: BaseTool, folder: Path) -> BaseTool:
    """Make a tool that is not done before the process is killed."""
    from langchain_core.tools import StructuredTool

    def run() -> dict[str, Any]:
        (folder / tool.name).touch()
        time.sleep(600)
        raise AssertionError("nobody killed this process")

    return StructuredTool.from_function(
        run,
        name=tool.name,
        description=tool.description,
        metadata=tool.metadata,
        args_schema=tool.args_schema,
    )


def _drive(session: Session, given: Mapping[str, Any] | None, context: Any) -> int:
    """Run the part; where nobody can be asked, approve what is asked, and say so."""
    from langgraph.types import Command

    from .driving import conclude, drive, follow
    from .views import open_questions

    if session.screen.interactive:
        return drive(session, given, context)
    follow(session, given, context)
    while questions := open_questions(session.snapshot()):
        for question in questions:
            session.screen.note(f"\n{question.description}\n\nApproved, as there is no terminal to ask at.\n")
        follow(session, Command(resume={question.id: "approve" for question in questions}))
    return conclude(session)


def _main(arguments: Sequence[str]) -> int:
    part, database, thread, folder, *options = arguments
    try:
        return _play(part, database, thread, Path(folder), plain="--plain" in options)
    except Exception as error:
        from .exits import report_failure

        return report_failure(error, Screen(json=False), debug=False)
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    raise SystemExit(_main(sys.argv[1:]) or DONE)
