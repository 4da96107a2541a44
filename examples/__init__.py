"""Demos that run without a key: scripted models, real tools, real effects in a temporary folder.

They ship with the package, because ``plan-execute demo`` runs them, and they are meant to be copied.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tempfile import TemporaryDirectory

    from ..context import Context

__all__ = ["DEMOS", "Demo", "build_demo"]

DEMOS: dict[str, str] = {
    "release": "Release a small Python project: check, build, smoke-test, tag, verify, publish.",
    "scaffold": "Start a Python package: an agent writes a module until its tests pass.",
    "report": "Look three sources up at the same time, merge what they say, write a report.",
}
"""What each demo shows, by name."""

_HOMES = {
    "release": ".release_checklist.demo",
    "scaffold": ".scaffold_project.demo",
    "report": ".three_source_report.demo",
}


@dataclass
class Demo:
    """A demo that is ready to run; use it as a context manager, or call ``close()``.

    Attributes:
        agent_args: Arguments of ``create_plan_execute_agent``: the scripted model and the real tools.
        goal: What to ask for.
        context: The settings of the run.
        workspace: The temporary folder that all effects are in.
    """

    agent_args: dict[str, Any]
    goal: str
    context: Context
    workspace: Path
    _folder: TemporaryDirectory[str] = field(repr=False)

    def __enter__(self) -> Demo:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the workspace."""
        self._folder.cleanup()


def build_demo(name: str = "release", *, ending: str = "good") -> Demo:
    """Prepare a demo in a new temporary folder.

    Args:
        name: One of ``DEMOS``.
        ending: For the release: ``good``, ``smoke`` (the smoke test fails and a patch mends it) or
            ``verify`` (the tag turns out wrong and the run is aborted). The others end well only.

    Raises:
        ConfigurationError: If the demo or the ending is unknown, or a program it needs is missing.
    """
    from ..errors import ConfigurationError, known

    if name not in _HOMES:
        raise ConfigurationError(f"there is no demo {name!r}; demos: {known(DEMOS, given=name)}")
    home = import_module(_HOMES[name], __name__)
    if ending not in home.ENDINGS:
        msg = f"the demo {name!r} has no ending {ending!r}; endings: {known(home.ENDINGS, given=ending)}"
        raise ConfigurationError(msg)
    return _in_new_folder(home.prepare, ending)


def _in_new_folder(prepare: Callable[[Path, str], dict[str, Any]], ending: str) -> Demo:
    from tempfile import TemporaryDirectory

    folder = TemporaryDirectory(prefix="plan-execute-demo-")
    # Resolved: on some systems the temporary folder is a link, and tools compare real paths.
    workspace = Path(folder.name).resolve()
    try:
        return Demo(workspace=workspace, _folder=folder, **prepare(workspace, ending))
    except BaseException:
        folder.cleanup()
        raise
