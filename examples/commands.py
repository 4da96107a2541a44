"""Run programs from blocking code with the product's own command runner, and a git that asks nobody."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..tools.command import Commands
from ..tools.threads import run_to_end

__all__ = ["CommandRunner"]

_IDENTITY = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "plan_execute example"), ("EMAIL", "example@localhost"))
}
# No personal git settings, such as signing.
_GIT = {**_IDENTITY, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


@dataclass(frozen=True)
class CommandRunner:
    """Runs ``python`` and ``git`` in one folder."""

    root: Path

    def run(self, command: Sequence[str]) -> str:
        """Run a command and return what it printed, errors included.

        Raises:
            ToolFailedError: If it is not allowed, ends with another code than 0, or takes too long.
        """
        return run_to_end(Commands(self.root, ("python", "git"), environment=_GIT).run(command))

    def inside(self, path: str) -> Path:
        """Return the real path of something below the root.

        Raises:
            ValueError: If it is outside, also by ``..`` or a link.
        """
        root = self.root.resolve()
        target = (root / path).resolve()
        if not target.is_relative_to(root):
            raise ValueError(f"{path!r} is outside the folder of this run")
        return target
