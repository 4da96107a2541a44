"""Run an example in a temporary folder and database."""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path
from uuid import uuid4

from ..context import Environment
from ..examples import DEMOS, build_demo
from ..graph import create_plan_execute_agent
from ..graph.server import watched_by
from .driving import Session, drive
from .place import Place
from .terminal import Screen

__all__ = ["show_demo"]


def show_demo(screen: Screen, name: str, ending: str | None, database: str | None, *, yes: bool) -> int:
    """Describe an example, run it, and return the exit code of its run.

    Raises:
        ConfigurationError: If there is no such example or ending.
    """
    demo = build_demo(name, ending=ending) if ending is not None else build_demo(name)
    screen.note(f"{name}: {DEMOS[name]}")
    thread = uuid4().hex[:12]
    with closing(demo), tempfile.TemporaryDirectory(prefix="plan-execute-demo-") as folder:
        place = Place(database or str(Path(folder) / "threads.db"))
        with place.open() as (checkpointer, store):
            agent = create_plan_execute_agent(**demo.agent_args, checkpointer=checkpointer, store=store)
            agent = watched_by(agent, Environment.read())
            settings = demo.context.model_copy(update={"approval": "never"}) if yes else demo.context
            return drive(Session(agent, thread, screen), {"goal": demo.goal}, settings)
